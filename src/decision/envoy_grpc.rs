//! Questions of Envoy over gRPC: `envoy.service.auth.v3.Authorization/Check`.
//!
//! The numbers are those of the fields in `envoy/service/auth/v3/attribute_context.proto` and `external_auth.proto`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Version};
use percent_encoding::percent_decode;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{
    answer::{Admitted, Answer, Refused, Told, denial},
    changes::{Changes, Untellable, is_of_the_connection, is_text},
    grpc,
    protobuf::{Malformed, Reader, Value},
    question::{Question, QuestionFault, host, method, scheme, target_in},
};
use crate::{
    base::{
        buffers,
        fields::{Fields, Known, Name},
    },
    certificate::ClientCertificate,
    request::GrpcStatus,
    telemetry::Message,
};

/// The path of questions.
pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// `OVERWRITE_IF_EXISTS_OR_ADD`.
const OVERWRITE: u64 = 2;

/// A part of a message that is read at most once: of two the last would count, and the first be what somebody else reads.
#[derive(Debug)]
struct Once<T>(&'static str, Option<T>);

impl<T> Once<T> {
    const fn new(what: &'static str) -> Self {
        Self(what, None)
    }

    fn put(&mut self, value: T) -> Result<(), QuestionFault> {
        if self.1.replace(value).is_some() { Err(QuestionFault::Repeated(self.0)) } else { Ok(()) }
    }

    fn given(self) -> Result<T, QuestionFault> {
        self.1.ok_or(QuestionFault::Missing(self.0))
    }
}

/// Reads a question: a `CheckRequest`.
pub(super) fn question(message: &Bytes) -> Result<Question, QuestionFault> {
    let mut attributes = Once::new("attributes");
    Reader::new(message).each(|field, value| if field == 1 { attributes.put(value.message()?) } else { Ok(()) })?;
    let (mut source, mut request, mut session) = (Once::new("source"), Once::new("head"), Once::new("TLS session"));
    attributes.given()?.each(|field, value| match field {
        1 => source.put(value.message()?),
        4 => request.put(value.message()?),
        12 => session.put(value.message()?),
        _ => Ok::<_, QuestionFault>(()),
    })?;
    let mut http = Once::new("head");
    request.given()?.each(|field, value| if field == 2 { http.put(value.message()?) } else { Ok::<_, QuestionFault>(()) })?;
    let peer = Peer::read(source.given()?)?;
    let mut server_name = None;
    if let Some(session) = session.1 {
        session.each(|field, value| {
            if field == 1 {
                server_name = Some(value.text()?.to_ascii_lowercase().into());
            }
            Ok::<_, QuestionFault>(())
        })?;
    }
    Head::read(http.given()?)?.question(peer, server_name, message)
}

/// The peer that connected to Envoy.
struct Peer {
    address: SocketAddr,
    certificate: Option<Arc<ClientCertificate>>,
}

impl Peer {
    fn read(peer: Reader<'_>) -> Result<Self, QuestionFault> {
        let (mut address, mut certificate) = (Once::new("source"), Once::new("certificate"));
        peer.each(|field, value| match field {
            1 => address.put(value.message()?),
            5 => certificate.put(value.bytes()?),
            _ => Ok::<_, QuestionFault>(()),
        })?;
        let mut socket = Once::new("source");
        // A pipe has no address, and who is behind it nobody knows.
        address
            .given()?
            .each(|field, value| if field == 1 { socket.put(value.message()?) } else { Ok::<_, QuestionFault>(()) })?;
        let (mut ip, mut port) = (Once::new("source"), 0);
        socket.1.ok_or(QuestionFault::Source)?.each(|field, value| match field {
            2 => ip.put(value.text()?),
            3 => {
                port = u16::try_from(value.number()?).map_err(|_| QuestionFault::Source)?;
                Ok(())
            }
            _ => Ok::<_, QuestionFault>(()),
        })?;
        let ip: IpAddr = ip.1.and_then(|ip| ip.parse().ok()).ok_or(QuestionFault::Source)?;
        let certificate = certificate.1.filter(|pem| !pem.is_empty()).map(read_certificate).transpose()?;
        Ok(Self { address: SocketAddr::new(ip.to_canonical(), port), certificate })
    }
}

/// Reads a certificate: PEM, percent-encoded.
fn read_certificate(written: &[u8]) -> Result<Arc<ClientCertificate>, QuestionFault> {
    let unreadable = || QuestionFault::Unreadable("client certificate");
    let pem: Vec<u8> = percent_decode(written).collect();
    let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_| unreadable())?;
    ClientCertificate::read(&[certificate]).map(Arc::new).map_err(|_| unreadable())
}

/// The head of the request: `AttributeContext.HttpRequest`.
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    host: &'a str,
    scheme: &'a str,
    protocol: &'a str,
    headers: Fields,
    /// The pseudo-headers among the fields.
    pseudo: PseudoFields<'a>,
}

/// Names and values of pseudo-headers.
type PseudoFields<'a> = Vec<(&'a [u8], &'a [u8])>;

impl<'a> Head<'a> {
    /// Reads the head from its part of the message.
    fn read(http: Reader<'a>) -> Result<Self, QuestionFault> {
        let [mut method, mut path, mut host, mut scheme, mut protocol] =
            ["method", "target", "host", "scheme", "protocol"].map(Once::<&'a str>::new);
        let mut raw = Once::new("header");
        let (mut headers, mut pseudo, mut merged) = (buffers::fields(), Vec::new(), false);
        http.each(|field, value| match field {
            2 => method.put(value.text()?),
            3 => {
                merged = true;
                let (name, value) = entry(value.message()?)?;
                if name.first() != Some(&b':') && headers.contains_key(std::str::from_utf8(name).unwrap_or_default()) {
                    return Err(QuestionFault::Repeated("header field"));
                }
                add(name, value, (&mut headers, &mut pseudo))
            }
            4 => path.put(value.text()?),
            5 => host.put(value.text()?),
            6 => scheme.put(value.text()?),
            // Both are empty in what Envoy sends: a target that is told in parts is none.
            7 | 8 if !value.bytes()?.is_empty() => Err(QuestionFault::Contradicting("target")),
            10 => protocol.put(value.text()?),
            13 => raw.put(value.message()?),
            _ => Ok::<_, QuestionFault>(()),
        })?;
        match (merged, raw.1) {
            (true, Some(_)) => return Err(QuestionFault::Contradicting("header")),
            (false, None) => return Err(QuestionFault::Missing("header")),
            (true, None) => {}
            (false, Some(raw)) => raw.each(|field, value| {
                if field != 1 {
                    return Ok(());
                }
                let (name, value) = entry(value.message()?)?;
                add(name, value, (&mut headers, &mut pseudo))
            })?,
        }
        Ok(Self {
            method: method.given()?,
            path: path.given()?,
            host: host.given()?,
            scheme: scheme.given()?,
            protocol: protocol.1.unwrap_or_default(),
            headers,
            pseudo,
        })
    }

    fn question(mut self, peer: Peer, server_name: Option<Box<str>>, message: &Bytes) -> Result<Question, QuestionFault> {
        let said = [
            (&b":method"[..], self.method, "method"),
            (b":path", self.path, "target"),
            (b":authority", self.host, "host"),
            (b":scheme", self.scheme, "scheme"),
        ];
        for (name, value) in &self.pseudo {
            if let Some((_, own, what)) = said.iter().find(|(own, ..)| own == name)
                && own.as_bytes() != *value
            {
                return Err(QuestionFault::Contradicting(what));
            }
        }
        // Behind an absolute target the field is another one than the host that counts.
        self.headers.remove(Known::Host);
        let host = host(value(self.host.as_bytes(), message).ok_or(QuestionFault::Unreadable("host"))?)?;
        let upgrades = self.headers.contains_key(Known::Upgrade);
        let version = match self.protocol {
            "HTTP/1.0" => Version::HTTP_10,
            // An extended CONNECT is told as the upgrade of HTTP/1.1 that it stands for.
            "HTTP/2" if !upgrades => Version::HTTP_2,
            "HTTP/3" if !upgrades => Version::HTTP_3,
            "HTTP/1.1" | "HTTP/2" | "HTTP/3" | "" => Version::HTTP_11,
            _ => return Err(QuestionFault::Unreadable("protocol")),
        };
        Ok(Question {
            method: method(self.method.as_bytes())?,
            target: target_in(message, self.path)?,
            host,
            scheme: scheme(self.scheme.as_bytes())?,
            version,
            headers: self.headers,
            source: peer.address,
            certificate: peer.certificate,
            server_name,
        })
    }
}

/// Returns a part of the message as the value of a field, which shares its memory.
fn value(part: &[u8], message: &Bytes) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(message.slice_ref(part)).ok()
}

/// Reads a field: an entry of the map, or a `HeaderValue` with its bytes.
fn entry<'a>(entry: Reader<'a>) -> Result<(&'a [u8], &'a [u8]), QuestionFault> {
    let (mut name, mut value) = (Once::new("header field"), Once::new("header field"));
    entry.each(|field, part| match (field, part) {
        (1, part) => name.put(part.bytes()?),
        // An empty one beside the bytes is none.
        (2 | 3, Value::Bytes([])) => Ok(()),
        (2 | 3, part) => value.put(part.bytes()?),
        _ => Ok::<_, QuestionFault>(()),
    })?;
    Ok((name.given()?, value.1.unwrap_or_default()))
}

fn add<'a>(
    name: &'a [u8],
    written: &'a [u8],
    (headers, pseudo): (&mut Fields, &mut PseudoFields<'a>),
) -> Result<(), QuestionFault> {
    if name.first() == Some(&b':') {
        pseudo.push((name, written));
        return Ok(());
    }
    headers.try_append(name, written).map_err(|_| QuestionFault::Unreadable("header"))
}

/// Makes the answer to a question about an admitted request; `informs` are fields for the response to the caller.
pub(super) fn admit(admitted: &Admitted<'_>, told: &Told, informs: &Fields) -> Result<Answer, Untellable> {
    let changes = Changes::between(admitted.received, admitted.header)?;
    Ok(grpc::answer(|message| {
        message.message(1, |status| {
            // Said although it is the default: an empty message would be an admission, too, and nobody could tell it from a mistake.
            status.text(2, "admitted");
        });
        message.message(3, |ok| {
            for (name, value) in &changes.set {
                field(ok, 2, *name, value, Some(OVERWRITE));
            }
            for name in &changes.remove {
                ok.text(5, name.as_str());
            }
            for (_, encoded) in told.absent(admitted, &changes) {
                ok.fields(encoded);
            }
            for (name, value) in informs.iter().filter(|(_, value)| is_text(value.as_bytes())) {
                field(ok, 6, name, value.as_bytes(), Some(OVERWRITE));
            }
        });
    }))
}

/// Writes a `HeaderValueOption`. Without an action several challenges stay several lines.
fn field(message: &mut Message, number: u32, name: Name<'_>, value: &[u8], action: Option<u64>) {
    message.message(number, |option| {
        option.message(1, |header| {
            header.text(1, name.as_str()).bytes(2, value);
        });
        if let Some(action) = action {
            option.number(3, action);
        }
    });
}

/// Makes the answer to a question about a request that is refused.
pub(super) fn refuse(refused: &Refused<'_>) -> Answer {
    let status = denial(refused.status);
    grpc::answer(|message| {
        message.message(1, |rpc| {
            rpc.number(1, GrpcStatus::of(status).number().into()).text(2, refused.code);
        });
        message.message(2, |denied| {
            denied.message(1, |http| {
                http.number(1, status.as_u16().into());
            });
            // For a caller of gRPC Envoy makes the body the message of the status.
            let to_grpc = refused.to_grpc;
            for (name, value) in refused.headers.iter() {
                let passes = !(is_of_the_connection(name) || to_grpc && name == Known::ContentType);
                if passes && is_text(value.as_bytes()) {
                    field(denied, 2, name, value.as_bytes(), None);
                }
            }
            match (to_grpc, std::str::from_utf8(&refused.body)) {
                (true, _) | (false, Err(_)) => denied.text(3, refused.code),
                (false, Ok(body)) => denied.text(3, body),
            };
        });
    })
}

/// Makes the refusal of a message that is none.
pub(super) const fn broken() -> QuestionFault {
    QuestionFault::Message(Malformed)
}

//! A client's certificate in a header field, as a proxy that ended TLS hands it on.
//!
//! Proxies write it in several ways, which differ in how they begin:
//!
//! | form | who writes it |
//! | --- | --- |
//! | `-----BEGIN%20CERTIFICATE-----%0A…`, percent-encoded PEM | nginx (`$ssl_client_escaped_cert`), Application Gateway, load balancers of AWS |
//! | `-----BEGIN CERTIFICATE----- …`, PEM with blanks for line ends | Apache, older nginx |
//! | `MIIC…`, base64 of the DER form, several joined by commas | App Service (`X-ARR-ClientCert`), HAProxy, Traefik |
//! | `:MIIC…:`, RFC 9440 (`Client-Cert`) | whoever follows it |
//! | `By=…;Hash=…;Cert="…"` (`X-Forwarded-Client-Cert`) | Envoy, Istio |
//!
//! The policy decides whether to trust the field: anyone who can write it can claim any certificate.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use percent_encoding::percent_decode;
use rustls_pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

use super::LONGEST_CHAIN;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
/// The value that Apache writes where there is no certificate.
const NONE: &[u8] = b"(null)";

/// RFC 8941, section 4.2.7: missing padding is no reason to refuse.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The reason why a field holds no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The field is there more than once.
    #[error("it is present more than once")]
    Repeated,
    /// Text between or around certificates, or a block without end.
    #[error("it is not PEM")]
    Pem,
    /// Not base64.
    #[error("it is not base64")]
    Base64,
    /// A malformed element of `X-Forwarded-Client-Cert`, or one that repeats a key.
    #[error("it is malformed")]
    Malformed,
    /// `X-Forwarded-Client-Cert` with only a hash or a name.
    #[error("it names a certificate but does not contain it; configure the proxy to add `Cert`")]
    WithoutCertificate,
    /// `Cert` and `Chain` contain different certificates.
    #[error("it holds two different certificates")]
    Contradicting,
    /// More certificates than a chain may have.
    #[error("it holds more than {LONGEST_CHAIN} certificates")]
    TooMany,
    /// Certificates that did not issue each other: the first may be a client's, sent to a proxy that adds its own.
    #[error("its certificates are not a chain")]
    NoChain,
    /// An unreadable certificate.
    #[error("it holds no certificate that can be read")]
    Certificate,
}

/// Returns the certificates in a field's value, the client's own first; empty where the proxy states that there was none.
///
/// # Errors
/// Returns the fault of the value.
pub fn read(value: &[u8]) -> Result<Vec<CertificateDer<'static>>, HeaderFault> {
    let value = value.trim_ascii();
    if value.is_empty() || value == NONE {
        return Ok(Vec::new());
    }
    let chain = if let Some(inner) = value.strip_prefix(b":") {
        vec![decode(inner.strip_suffix(b":").ok_or(HeaderFault::Base64)?)?]
    } else if is_elements(value) {
        of_elements(value)?
    } else {
        let decoded: Vec<u8> = percent_decode(value).collect();
        if decoded.starts_with(b"-----") {
            of_pem(&decoded)?
        } else {
            decoded.split(|byte| *byte == b',').map(decode).collect::<Result<_, _>>()?
        }
    };
    if chain.len() > LONGEST_CHAIN { Err(HeaderFault::TooMany) } else { Ok(chain) }
}

/// Checks that several certificates form a chain: each was issued by the next one.
///
/// # Errors
/// Returns [`HeaderFault::NoChain`], or a certificate that cannot be read.
pub fn check_chain(chain: &[CertificateDer<'_>]) -> Result<(), HeaderFault> {
    for pair in chain.windows(2) {
        let parsed = |der: &CertificateDer<'_>, name: fn(&X509Certificate<'_>) -> Vec<u8>| {
            X509Certificate::from_der(der).map(|(_, certificate)| name(&certificate)).map_err(|_| HeaderFault::Certificate)
        };
        let issuer = parsed(&pair[0], |certificate| certificate.issuer().as_raw().to_vec())?;
        if issuer != parsed(&pair[1], |certificate| certificate.subject().as_raw().to_vec())? {
            return Err(HeaderFault::NoChain);
        }
    }
    Ok(())
}

fn decode(text: &[u8]) -> Result<CertificateDer<'static>, HeaderFault> {
    let der = BASE64.decode(text.trim_ascii()).map_err(|_| HeaderFault::Base64)?;
    if der.is_empty() { Err(HeaderFault::Base64) } else { Ok(der.into()) }
}

/// Reads PEM blocks with only whitespace between them. Line ends may have become spaces on the way.
fn of_pem(mut text: &[u8]) -> Result<Vec<CertificateDer<'static>>, HeaderFault> {
    let mut found = Vec::new();
    loop {
        text = text.trim_ascii_start();
        if text.is_empty() {
            return Ok(found);
        }
        let inner = text.strip_prefix(BEGIN).ok_or(HeaderFault::Pem)?;
        let end = memchr::memmem::find(inner, END).ok_or(HeaderFault::Pem)?;
        let base64: Vec<u8> = inner[..end].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        found.push(decode(&base64)?);
        text = &inner[end + END.len()..];
        if found.len() > LONGEST_CHAIN {
            return Err(HeaderFault::TooMany);
        }
    }
}

/// Returns whether the value begins as `X-Forwarded-Client-Cert` does. Base64 has `=` only at its end.
fn is_elements(value: &[u8]) -> bool {
    const KEYS: [&[u8]; 7] = [b"By", b"Hash", b"Cert", b"Chain", b"Subject", b"URI", b"DNS"];
    let key = value.iter().position(|byte| *byte == b'=').map(|end| value[..end].trim_ascii());
    key.is_some_and(|key| KEYS.iter().any(|known| known.eq_ignore_ascii_case(key)))
}

/// Returns the certificate of the last element, which the nearest proxy wrote. Earlier elements came from further out.
fn of_elements(value: &[u8]) -> Result<Vec<CertificateDer<'static>>, HeaderFault> {
    let mut last = Vec::new();
    let mut rest = value;
    loop {
        let (key, after) = split_key(rest)?;
        let (said, end, after) = quoted_or_not(after)?;
        last.push((key.to_ascii_lowercase(), said));
        rest = after;
        match end {
            None => break,
            Some(b',') => last.clear(),
            Some(_) => {
                // Envoy ends no element with `;`, but nothing else can be meant by it.
                if rest.trim_ascii().is_empty() {
                    break;
                }
            }
        }
    }
    let one = |wanted: &[u8]| {
        let mut found = last.iter().filter(|(key, _)| key == wanted).map(|(_, said)| said);
        match (found.next(), found.next()) {
            (said, None) => Ok(said),
            (_, Some(_)) => Err(HeaderFault::Malformed),
        }
    };
    let pem = |said: &Vec<u8>| of_pem(&percent_decode(said).collect::<Vec<u8>>());
    let certificate = one(b"cert")?.map(pem).transpose()?;
    let chain = one(b"chain")?.map(pem).transpose()?;
    match (certificate, chain) {
        (Some(certificate), Some(chain)) if certificate.first() != chain.first() => Err(HeaderFault::Contradicting),
        (_, Some(chain)) => Ok(chain),
        (Some(certificate), None) => Ok(certificate),
        (None, None) => Err(HeaderFault::WithoutCertificate),
    }
}

fn split_key(text: &[u8]) -> Result<(&[u8], &[u8]), HeaderFault> {
    let end = text.iter().position(|byte| matches!(byte, b'=' | b',' | b';' | b'"')).ok_or(HeaderFault::Malformed)?;
    if text[end] != b'=' {
        return Err(HeaderFault::Malformed);
    }
    Ok((text[..end].trim_ascii(), &text[end + 1..]))
}

/// A value, its terminator (`;` or `,`), and the remaining text.
type Said<'a> = (Vec<u8>, Option<u8>, &'a [u8]);

fn quoted_or_not(text: &[u8]) -> Result<Said<'_>, HeaderFault> {
    let text = text.trim_ascii_start();
    let (value, rest) = match text.strip_prefix(b"\"") {
        None => {
            let end = text.iter().position(|byte| matches!(byte, b';' | b',')).unwrap_or(text.len());
            if text[..end].contains(&b'"') {
                return Err(HeaderFault::Malformed);
            }
            (text[..end].trim_ascii().to_vec(), &text[end..])
        }
        Some(inner) => {
            let mut value = Vec::new();
            let mut bytes = inner.iter().enumerate();
            let end = loop {
                match bytes.next() {
                    Some((at, b'"')) => break at,
                    Some((_, b'\\')) => value.push(*bytes.next().ok_or(HeaderFault::Malformed)?.1),
                    Some((_, byte)) => value.push(*byte),
                    None => return Err(HeaderFault::Malformed),
                }
            };
            (value, inner[end + 1..].trim_ascii_start())
        }
    };
    match rest.split_first() {
        None => Ok((value, None, rest)),
        Some((end @ (b';' | b','), rest)) => Ok((value, Some(*end), rest)),
        Some(_) => Err(HeaderFault::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;

    /// Bytes that stand for a certificate; this test does not parse them.
    const DER: &[u8] = b"\x30\x03\x02\x01\xfb?>";
    const OTHER: &[u8] = b"\x30\x03\x02\x01\x02";

    fn pem(der: &[u8], line_end: &str) -> String {
        let text = BASE64.encode(der);
        let (one, two) = text.split_at(4);
        format!("-----BEGIN CERTIFICATE-----{line_end}{one}{line_end}{two}{line_end}-----END CERTIFICATE-----{line_end}")
    }

    fn escaped(text: &str) -> String {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    }

    #[test]
    fn reads_what_proxies_write() {
        let base64 = BASE64.encode(DER);
        let envoy = format!("By=spiffe://a;Hash=00;Cert=\"{}\";Subject=\"CN=a, O=\\\"b\\\"\"", escaped(&pem(DER, "\n")));
        let chain = format!("Hash=00;Chain=\"{}\"", escaped(&format!("{}{}", pem(DER, "\n"), pem(OTHER, "\n"))));
        for (row, value, expected) in [
            ("nothing", String::new(), vec![]),
            ("Apache, nothing", "(null)".to_owned(), vec![]),
            ("base64", base64.clone(), vec![DER]),
            ("base64 without padding", base64.trim_end_matches('=').to_owned(), vec![DER]),
            ("base64, a list", format!("{base64}, {}", BASE64.encode(OTHER)), vec![DER, OTHER]),
            ("base64, escaped", escaped(&base64), vec![DER]),
            ("RFC 9440", format!(":{base64}:"), vec![DER]),
            ("PEM, escaped", escaped(&pem(DER, "\n")), vec![DER]),
            ("PEM, a plus left as it is", pem(DER, "\n").replace('\n', "%0A").replace(' ', "%20"), vec![DER]),
            ("PEM with blanks", pem(DER, " "), vec![DER]),
            ("PEM with tabs, two", format!("{}{}", pem(DER, "\t"), pem(OTHER, "\t")), vec![DER, OTHER]),
            ("Envoy", envoy.clone(), vec![DER]),
            ("Envoy, the nearest proxy's", format!("Cert=\"{}\",{envoy}", escaped(&pem(OTHER, "\n"))), vec![DER]),
            ("Envoy, without quotes", format!("cert={}", escaped(&pem(DER, "\n"))), vec![DER]),
            ("Envoy, a chain", chain.clone(), vec![DER, OTHER]),
            ("Envoy, a certificate and its chain", format!("Cert=\"{}\";{chain}", escaped(&pem(DER, "\n"))), vec![DER, OTHER]),
            ("base64, the longest list", vec![base64; LONGEST_CHAIN].join(","), vec![DER; LONGEST_CHAIN]),
            ("PEM, the longest chain", pem(DER, " ").repeat(LONGEST_CHAIN), vec![DER; LONGEST_CHAIN]),
        ] {
            let read = read(value.as_bytes()).unwrap_or_else(|fault| panic!("{row}: {fault}"));
            assert_eq!(read.iter().map(|der| der.as_ref()).collect::<Vec<_>>(), expected, "{row}");
        }
    }

    #[test]
    fn certificates_of_a_chain_issued_each_other() {
        let root = Authority::new("Root");
        let sub = root.subordinate("Issuing", (2025, 2035));
        let (client, other) = (sub.issue("client").der, root.issue("client").der);
        for (row, chain, expected) in [
            ("none", vec![], Ok(())),
            ("one", vec![client.clone()], Ok(())),
            ("two", vec![client.clone(), sub.der()], Ok(())),
            ("with the root", vec![client.clone(), sub.der(), root.der()], Ok(())),
            ("another's before it", vec![other, client.clone(), sub.der()], Err(HeaderFault::NoChain)),
            ("a gap", vec![client.clone(), root.der()], Err(HeaderFault::NoChain)),
            ("the other way round", vec![sub.der(), client.clone()], Err(HeaderFault::NoChain)),
            ("no certificate", vec![client, DER.into()], Err(HeaderFault::Certificate)),
        ] {
            assert_eq!(check_chain(&chain), expected, "{row}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let (one, other) = (escaped(&pem(DER, "\n")), escaped(&pem(OTHER, "\n")));
        for (value, expected) in [
            ("MIIC*".to_owned(), HeaderFault::Base64),
            (",".to_owned(), HeaderFault::Base64),
            (":".to_owned(), HeaderFault::Base64),
            ("::".to_owned(), HeaderFault::Base64),
            (":TUlJ".to_owned(), HeaderFault::Base64),
            ("-----BEGIN CERTIFICATE-----".to_owned(), HeaderFault::Pem),
            ("-----BEGIN PRIVATE KEY----- TUlJ -----END PRIVATE KEY-----".to_owned(), HeaderFault::Pem),
            (format!("{} and more", pem(DER, " ")), HeaderFault::Pem),
            (vec![BASE64.encode(DER); LONGEST_CHAIN + 1].join(","), HeaderFault::TooMany),
            (pem(DER, " ").repeat(LONGEST_CHAIN + 1), HeaderFault::TooMany),
            ("Hash=00;Subject=\"CN=a\"".to_owned(), HeaderFault::WithoutCertificate),
            ("Cert=\"".to_owned(), HeaderFault::Malformed),
            ("Cert=\"\\".to_owned(), HeaderFault::Malformed),
            (format!("Cert=\"{one}\"x"), HeaderFault::Malformed),
            (format!("Cert=\"{one}\";Cert=\"{one}\""), HeaderFault::Malformed),
            (format!("Cert=\"{one}\";Chain=\"{other}\""), HeaderFault::Contradicting),
            // An attacker's element behind the proxy's would be one that the proxy let through: it is the last one that counts.
            (format!("Cert=\"{one}\",Hash=00"), HeaderFault::WithoutCertificate),
            (format!("Cert=\"{one}\","), HeaderFault::Malformed),
            ("Cert=a=b\"".to_owned(), HeaderFault::Malformed),
        ] {
            assert_eq!(read(value.as_bytes()), Err(expected), "{value}");
        }
    }
}

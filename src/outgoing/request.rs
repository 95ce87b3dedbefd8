//! The request to the upstream.

use std::{
    cell::RefCell,
    io::Write as _,
    net::{IpAddr, Ipv6Addr},
};

use http::{HeaderName, HeaderValue};

use crate::{
    base::{
        buffers,
        fields::{Fields, Known, Name, Sorted, Value},
        fmt_fast,
        memo::Memo,
    },
    caller::Caller,
    request::{IncomingRequest, RequestId, Reserved, TraceContext, binds_connection},
    upstream::UpstreamRequest,
};

/// Makes a request of what may pass of an incoming one: not what speaks of the caller's connection, not what is reserved, and not what the caller's
/// `Connection` names. The last cannot erase what the gateway sets, for that is added later.
///
/// Fields that say who calls are removed from the incoming request, except for those in `read`: policies are not to read them either.
pub(crate) fn from_incoming(incoming: &mut IncomingRequest, reserved: &Reserved, read: &[HeaderName]) -> UpstreamRequest {
    let mut headers = buffers::fields();
    let nominated = &incoming.connection.nominated;
    headers.sort_from(&mut incoming.headers, |name, value| {
        let sorted = reserved.sort(name, read);
        // RFC 9110, section 7.6.1: fields named by Connection go no further. And the connection that credentials may speak for ends here;
        // the upstream's is shared with other callers.
        let ends_here = sorted == Sorted::Passes
            && (nominated.iter().any(|nominated| name == *nominated) || name == Known::Authorization && binds_connection(value));
        if ends_here { Sorted::Stays } else { sorted }
    });
    // `TE` is of one hop, and this hop passes the answer's trailers on; gRPC servers insist on seeing it.
    if incoming.takes_trailers() {
        headers.insert(Known::Te, &HeaderValue::from_static("trailers"));
    }
    let target = &incoming.target;
    UpstreamRequest { method: incoming.method.clone(), path: target.path.clone(), query: target.query.clone(), headers }
}

/// Makes a request with the target of an incoming one, and none of its fields: where only the decision on it is wanted, nobody gets it.
pub(crate) fn without_fields(incoming: &IncomingRequest) -> UpstreamRequest {
    let target = &incoming.target;
    let (path, query) = (target.path.clone(), target.query.clone());
    UpstreamRequest { method: incoming.method.clone(), path, query, headers: buffers::fields() }
}

/// Sets the forwarding headers: `X-Forwarded-For`, `-Proto`, `-Host`, `X-Request-Id` and the trace context.
///
/// `X-Forwarded-For` is the caller's address alone. What earlier hops stated is either not trusted or of no use to a backend,
/// and a single value reads the same from the left and from the right.
pub(crate) fn set_forwarding_headers(
    headers: &mut Fields,
    incoming: &IncomingRequest,
    (caller, id, trace): (&Caller, &RequestId, &TraceContext),
) {
    // Nearly always nothing of the kind is there yet: the caller's own are not forwarded, and few policies set one.
    headers.remove_if(is_made_here);
    match caller.address {
        IpAddr::V4(_) => headers.append_written(Known::XForwardedFor, |out| fmt_fast::address(out, caller.address)),
        IpAddr::V6(address) => headers.append(Known::XForwardedFor, &written(address)),
    }
    headers.append(Known::XForwardedProto, Value::visible(caller.scheme.unwrap_or(incoming.scheme).as_str().as_bytes()));
    match &caller.host {
        Some(host) => headers.append(Known::XForwardedHost, host),
        None => append_host(headers, incoming),
    }
    headers.append(Known::XRequestId, id.value());
    headers.append(Known::Traceparent, Value::visible(&trace.forwarded()));
    if trace.keeps_state() {
        for state in incoming.headers.get_all(Known::Tracestate) {
            headers.append(Known::Tracestate, state);
        }
    }
}

/// Returns whether a field of this name is written by [`set_forwarding_headers`] alone.
const fn is_made_here(name: Name<'_>) -> bool {
    matches!(
        name.known(),
        Known::Tracestate
            | Known::Traceparent
            | Known::XRequestId
            | Known::XForwardedFor
            | Known::XForwardedHost
            | Known::XForwardedProto
    )
}

/// Adds the host that the caller asked for in its canonical form, if there was one.
fn append_host(headers: &mut Fields, incoming: &IncomingRequest) {
    let authority = &incoming.authority;
    if authority.is_absent() {
        return;
    }
    match incoming.headers.get(Known::Host) {
        Some(written) if authority.port.is_none() && written.as_bytes() == authority.host.as_bytes() => {
            headers.append(Known::XForwardedHost, written);
        }
        // Writing to a vector cannot fail.
        _ => headers.append(Known::XForwardedHost, &made(|out| drop(write!(out, "{authority}")))),
    }
}

/// Returns an address as a header value. Callers come back, and their addresses with them.
fn written(address: Ipv6Addr) -> HeaderValue {
    thread_local!(static ADDRESSES: RefCell<Memo<HeaderValue, 64>> = const { RefCell::new(Memo::new()) });
    let make = |_: &[u8]| HeaderValue::try_from(address.to_string());
    let made = ADDRESSES.with_borrow_mut(|addresses| addresses.get(&address.octets(), make));
    made.expect("digits, letters and colons are a header value")
}

/// Writes host and port as a header value.
fn made(make: impl FnOnce(&mut Vec<u8>)) -> HeaderValue {
    HeaderValue::from_maybe_shared(buffers::made(make)).expect("letters, digits and colons are a header value")
}

#[cfg(test)]
mod tests {
    use http::{Request, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        caller::AddressSource,
        connection::Scheme,
        request::{Claim, ReservedNames, remove_folded},
    };

    fn incoming(version: Version, fields: &[(&str, &str)]) -> IncomingRequest {
        let mut request = Request::builder().uri("/orders/1?expand=lines").version(version).header("host", "API.contoso.example");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        IncomingRequest::read(request.body(()).unwrap().into_parts().0, None).unwrap()
    }

    fn caller() -> Caller {
        Caller::peer("192.0.2.7".parse().unwrap())
    }

    fn reserved() -> Reserved {
        let mut names = ReservedNames::default();
        names.claim(&HeaderName::from_static("x-remote-user"), Claim::Identity);
        names.finish(None)
    }

    fn sent(request: &UpstreamRequest) -> Vec<String> {
        let mut sent = request.headers.lines();
        sent.sort();
        sent
    }

    #[test]
    fn copies_only_what_may_pass() {
        let mut request = incoming(
            Version::HTTP_11,
            &[
                ("accept", "text/html"),
                ("accept", "*/*"),
                ("authorization", "Bearer a.b.c"),
                ("cookie", "a=b"),
                ("connection", "close, X-Private, Authorization2"),
                ("x-private", "1"),
                ("authorization2", "1"),
                ("keep-alive", "timeout=5"),
                ("te", "gzip"),
                ("trailer", "x-remote-user"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABk"),
                ("expect", "100-continue"),
                ("content-length", "0"),
                ("content_length", "7"),
                ("proxy", "http://203.0.113.9"),
                ("proxy-authorization", "Basic eDp5"),
                ("proxy-connection", "close"),
                ("x_remote_user", "admin"),
                ("x-remote-user", "admin"),
                ("x.remote.user", "admin"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x_forwarded_host", "evil.example"),
                ("forwarded", "for=203.0.113.9"),
                ("x-ms-client-principal-name", "admin"),
                ("x-original-url", "/admin"),
            ],
        );

        let request = from_incoming(&mut request, &reserved(), &[]);

        assert_eq!(sent(&request), ["accept: */*", "accept: text/html", "authorization: Bearer a.b.c", "cookie: a=b"]);
        assert_eq!((&*request.path, request.query.as_deref()), ("/orders/1", Some("expand=lines")));
    }

    #[test]
    fn the_callers_connection_cannot_erase_what_the_gateway_says() {
        let nominated =
            "x-forwarded-for, x-forwarded-proto, x-forwarded-host, x-request-id, traceparent, tracestate, x-remote-user";
        let mut incoming =
            incoming(Version::HTTP_11, &[("connection", nominated), ("x-request-id", "forged"), ("tracestate", "a=b")]);
        let mut request = from_incoming(&mut incoming, &reserved(), &[]);
        let (id, trace) = (RequestId::generate(std::time::Duration::ZERO), TraceContext::of(&incoming.headers));

        set_forwarding_headers(&mut request.headers, &incoming, (&caller(), &id, &trace));

        let traceparent = trace.forwarded();
        assert_eq!(
            sent(&request),
            [
                format!("traceparent: {}", std::str::from_utf8(&traceparent).unwrap()),
                "x-forwarded-for: 192.0.2.7".into(),
                "x-forwarded-host: api.contoso.example".into(),
                "x-forwarded-proto: http".into(),
                format!("x-request-id: {}", id.as_str()),
            ]
        );
    }

    #[test]
    fn hands_on_what_a_trusted_proxy_said() {
        let mut incoming = incoming(
            Version::HTTP_11,
            &[
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("tracestate", "a=b"),
                ("tracestate", "c=d"),
            ],
        );
        let mut request = from_incoming(&mut incoming, &reserved(), &[]);
        let caller = Caller {
            source: AddressSource::XForwardedFor,
            scheme: Some(Scheme::Https),
            host: Some(HeaderValue::from_static("public.contoso.example")),
            ..caller()
        };

        let (id, trace) = (RequestId::generate(std::time::Duration::ZERO), TraceContext::of(&incoming.headers));
        set_forwarding_headers(&mut request.headers, &incoming, (&caller, &id, &trace));

        assert_eq!(request.headers.get(Known::XForwardedProto).unwrap(), "https");
        assert_eq!(request.headers.get(Known::XForwardedHost).unwrap(), "public.contoso.example");
        assert_eq!(request.headers.get_all(Known::Tracestate).collect::<Vec<_>>(), ["a=b", "c=d"]);
    }

    #[test]
    fn credentials_of_a_connection_do_not_cross_the_pool() {
        let mut incoming = incoming(Version::HTTP_11, &[("authorization", "Negotiate YII"), ("authorization", "Bearer a")]);

        let request = from_incoming(&mut incoming, &reserved(), &[]);

        assert_eq!(sent(&request), ["authorization: Bearer a"]);
    }

    #[test]
    fn who_takes_trailers_says_so_upstream() {
        for (version, fields, expected) in [
            (Version::HTTP_2, &[("te", "trailers")][..], true),
            (Version::HTTP_2, &[], false),
            (Version::HTTP_11, &[("te", "gzip, Trailers"), ("connection", "te")], true),
            (Version::HTTP_11, &[("te", "trailers;q=0")], false),
            (Version::HTTP_11, &[("te", "gzip")], false),
            (Version::HTTP_10, &[("te", "trailers")], false),
        ] {
            let request = from_incoming(&mut incoming(version, fields), &reserved(), &[]);
            let said: Vec<_> = request.headers.get_all(Known::Te).collect();
            assert_eq!(said, if expected { &["trailers"][..] } else { &[] }, "{version:?} {fields:?}");
        }
    }

    #[test]
    fn removes_a_field_in_every_spelling() {
        let mut request = from_incoming(
            &mut incoming(Version::HTTP_11, &[("x-debug", "1"), ("x_debug", "2"), ("x-debugger", "3")]),
            &reserved(),
            &[],
        );

        remove_folded(&mut request.headers, &HeaderName::from_static("x-debug"));

        assert_eq!(sent(&request), ["x-debugger: 3"]);
    }

    /// Returns the fields as a CGI program would see them.
    fn cgi(headers: &Fields) -> Vec<(String, String)> {
        let variable = |name: &str| {
            name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' }).collect()
        };
        headers.iter().map(|(name, value)| (variable(name.as_str()), value.to_str().unwrap().to_owned())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn nothing_reserved_comes_from_the_caller_however_it_is_spelled(
            fields in prop::collection::vec((
                prop::sample::select(vec![
                    "x-remote-user", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-prefix", "forwarded", "x-ms-client-principal",
                    "x-ms-token-aad-id-token", "x-arr-clientcert", "x-entrada-assertion", "x-real-ip", "proxy", "x-original-url",
                    "content-length", "transfer-encoding", "x-request-id", "traceparent", "accept",
                ]),
                prop::collection::vec(prop::sample::select(b"-_.!~*'|^`#$%&+".to_vec()), 4),
                any::<bool>(),
            ), 0..8),
        ) {
            let mut request = Request::builder().uri("/").header("host", "a.example");
            let mut nominated = Vec::new();
            for (name, odd, nominate) in &fields {
                let mut odd = odd.iter().cycle();
                let spelled: String = name.chars().map(|letter| if letter == '-' { char::from(*odd.next().unwrap()) } else { letter }).collect();
                if nominate & !matches!(spelled.as_str(), "content-length" | "transfer-encoding") {
                    nominated.push(spelled.clone());
                }
                if !matches!(spelled.as_str(), "content-length" | "transfer-encoding") {
                    request = request.header(spelled, "forged");
                }
            }
            let request = request.header("connection", nominated.join(", ")).body(()).unwrap();
            let mut incoming = IncomingRequest::read(request.into_parts().0, None).unwrap();

            let mut outgoing = from_incoming(&mut incoming, &reserved(), &[]);
            set_forwarding_headers(&mut outgoing.headers, &incoming, (&caller(), &RequestId::generate(std::time::Duration::ZERO), &TraceContext::of(&incoming.headers)));

            for (name, value) in cgi(&outgoing.headers) {
                prop_assert!(value != "forged" || name == "ACCEPT", "{} {}", name, value);
            }
            for ours in [Known::XForwardedFor, Known::XForwardedProto, Known::XForwardedHost, Known::XRequestId, Known::Traceparent] {
                prop_assert_eq!(outgoing.headers.get_all(ours).count(), 1, "{:?}", ours);
            }
        }
    }
}

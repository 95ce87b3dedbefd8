use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

fn parse_all(bytes: &[u8]) -> Result<Option<Head<()>>, Broken> {
    parse::<()>(&mut BytesMut::from(bytes), &mut Scan::default(), 1 << 16)
}

#[test]
fn reads_a_plain_request_as_it_came() {
    let head = parse_all(b"GET /a%2fb?c=d HTTP/1.1\r\nHost: example.com\r\nX-Two:  b \r\nx-two: a\r\n\r\n").unwrap().unwrap();

    assert_eq!(head.request.method, Method::GET);
    assert_eq!(head.request.uri, "/a%2fb?c=d");
    assert_eq!(head.request.headers.get_all("x-two").collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(head.framing, Framing::None);
    assert!(head.persists());
}

#[test]
fn refuses_what_can_be_read_in_two_ways() {
    use Reason::{
        ExpectationFailed, HeadersTooLarge, HttpVersionNotSupported as Version, RequestFramingInvalid as Framing,
        RequestHeaderInvalid as Header, RequestTargetInvalid as Target,
    };
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
    for (name, bytes, reason) in [
        ("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", Framing),
        ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", Framing),
        ("bare LF as the empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n", Framing),
        ("bare CR in a value", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Framing),
        ("bare CR in the target", "GET /\ra HTTP/1.1\r\nHost: a\r\n\r\n", Framing),
        ("CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Framing),
        ("obs-fold", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Framing),
        ("obs-fold with a tab", "GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", Framing),
        ("fold before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", Framing),
        ("fold that is white space alone", "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", Framing),
        ("three empty lines first", "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing),
        ("empty line of LF first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Framing),
        ("space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", Header),
        ("tab before the colon", "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", Header),
        ("field without a colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", Header),
        ("field without a name", "GET / HTTP/1.1\r\n: a\r\n\r\n", Header),
        ("NUL in a value", "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", Header),
        ("DEL in a value", "GET / HTTP/1.1\r\nHost: a\x7f\r\n\r\n", Header),
        ("control byte in a name", "GET / HTTP/1.1\r\nHo\x01st: a\r\n\r\n", Header),
        ("no method", " / HTTP/1.1\r\n\r\n", Framing),
        ("method that is no token", "GE(T / HTTP/1.1\r\n\r\n", Framing),
        ("long method", "GETGETGETGETGETGETGETGETGETGETGETGET / HTTP/1.1\r\n\r\n", Framing),
        ("HTTP/0.9", "GET /\r\n\r\n", Framing),
        ("HTTP/0.9 that says so", "GET / HTTP/0.9\r\n\r\n", Version),
        ("HTTP/2.0", "GET / HTTP/2.0\r\n\r\n", Version),
        ("HTTP/9.9", "GET / HTTP/9.9\r\n\r\n", Version),
        ("two digits", "GET / HTTP/1.10\r\n\r\n", Framing),
        ("no minor version", "GET / HTTP/2\r\n\r\n", Framing),
        ("no digit", "GET / HTTP/1.x\r\n\r\n", Framing),
        ("lower-case version", "GET / http/1.1\r\n\r\n", Framing),
        ("two spaces", "GET  / HTTP/1.1\r\n\r\n", Target),
        ("two spaces before the version", "GET /  HTTP/1.1\r\n\r\n", Target),
        ("tab in the request line", "GET\t/\tHTTP/1.1\r\n\r\n", Framing),
        ("space in the target", "GET /a b HTTP/1.1\r\n\r\n", Target),
        ("fragment", "GET /a#b HTTP/1.1\r\n\r\n", Target),
        ("control byte in the target", "GET /\x01 HTTP/1.1\r\n\r\n", Target),
        ("raw UTF-8 in the target", "GET /é HTTP/1.1\r\n\r\n", Target),
        ("relative target", "GET a HTTP/1.1\r\n\r\n", Target),
        ("authority form without CONNECT", "GET a:80 HTTP/1.1\r\n\r\n", Target),
        ("asterisk without OPTIONS", "GET * HTTP/1.1\r\n\r\n", Target),
        ("101 fields", &many, HeadersTooLarge),
        ("both framings", "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", Framing),
        ("both framings, length 0", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", Framing),
        ("chunked in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Framing),
        ("chunked twice", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Framing),
        ("chunked twice in a list", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", Framing),
        ("gzip, chunked", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Framing),
        ("identity", "POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", Framing),
        ("chunked with a parameter", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", Framing),
        ("chunked after a vertical tab", "POST / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Header),
        ("empty transfer encoding", "POST / HTTP/1.1\r\nTransfer-Encoding:\r\n\r\n", Framing),
        ("two lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", Framing),
        ("two spellings of a length", "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 03\r\n\r\n", Framing),
        ("list of two lengths", "POST / HTTP/1.1\r\nContent-Length: 3, 4\r\n\r\n", Framing),
        ("list and another length", "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\nContent-Length: 4\r\n\r\n", Framing),
        ("list with an empty entry", "POST / HTTP/1.1\r\nContent-Length: 3,\r\n\r\n", Framing),
        ("list that begins empty", "POST / HTTP/1.1\r\nContent-Length: ,3\r\n\r\n", Framing),
        ("lengths apart by a semicolon", "POST / HTTP/1.1\r\nContent-Length: 3; 3\r\n\r\n", Framing),
        ("signed length", "POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", Framing),
        ("negative length", "POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n", Framing),
        ("empty length", "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n", Framing),
        ("hexadecimal length", "POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n", Framing),
        ("length with a unit", "POST / HTTP/1.1\r\nContent-Length: 3 \t4\r\n\r\n", Framing),
        ("length beyond 64 bits", "POST / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", Framing),
        ("obs-text in Connection", "GET / HTTP/1.1\r\nConnection: é, close\r\n\r\n", Header),
        ("other expectation", "POST / HTTP/1.1\r\nExpect: 200-ok\r\nContent-Length: 3\r\n\r\n", ExpectationFailed),
        ("two expectations", "POST / HTTP/1.1\r\nExpect: 100-continue, x\r\nContent-Length: 3\r\n\r\n", ExpectationFailed),
        ("empty expectation", "POST / HTTP/1.1\r\nExpect:\r\nContent-Length: 3\r\n\r\n", ExpectationFailed),
    ] {
        let broken = parse_all(bytes.as_bytes()).map(|head| head.is_some()).expect_err(name);

        assert_eq!(broken.reason, reason, "{name}: {}", broken.detail);
    }
}

#[test]
fn takes_what_nobody_can_read_in_two_ways_and_hands_it_on_in_one_form() {
    for (name, bytes, length) in [
        ("two equal lengths", "POST / HTTP/1.1\r\nContent-Length: 3\r\nA: b\r\ncontent-length: 3\r\n\r\n", 3),
        ("list of equal lengths", "POST / HTTP/1.1\r\nContent-Length: 3,3 ,\t3\r\n\r\n", 3),
        ("list and field", "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\n", 3),
        ("two empty lines first", "\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n", 3),
        ("later minor version", "POST / HTTP/1.2\r\nContent-Length: 3\r\n\r\n", 3),
        ("last minor version", "POST / HTTP/1.9\r\nContent-Length: 3\r\n\r\n", 3),
    ] {
        let head = parse_all(bytes.as_bytes()).unwrap_or_else(|broken| panic!("{name}: {broken:?}")).unwrap();

        assert_eq!(head.framing, Framing::Length(length), "{name}");
        assert_eq!(head.request.headers.get_all("content-length").collect::<Vec<_>>(), ["3"], "{name}");
        assert_eq!((head.request.version, head.request.uri.path()), (http::Version::HTTP_11, "/"), "{name}");
    }
}

#[test]
fn trailers_are_for_clients_that_say_so() {
    for (head, expected) in [
        ("GET / HTTP/1.1\r\nTE: trailers\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nTE: gzip;q=0.5, Trailers\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nTE: gzip\r\nTE: trailers\r\nConnection: te\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nTE: gzip\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nTE: trailers2\r\n\r\n", false),
        ("GET / HTTP/1.1\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n", false),
    ] {
        assert_eq!(parse_all(head.as_bytes()).unwrap().unwrap().takes_trailers, expected, "{head}");
    }
}

#[test]
fn refuses_garbage_before_its_head_is_complete() {
    for bytes in [b"\x16\x03\x01\x02".as_slice(), b"GET / HTTP/1.1\nHost", b"GET / HTTP/1.1\r\nA: b\r\n c", b"\0"] {
        let more = [bytes, b"\r\nx"].concat();

        assert!(parse_all(bytes).is_err() || parse_all(&more).is_err(), "{bytes:?}");
    }
}

#[test]
fn reads_a_head_that_comes_byte_by_byte() {
    let bytes = b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let (mut buffer, mut scan) = (BytesMut::new(), Scan::default());
    let mut heads = Vec::new();

    for byte in bytes {
        buffer.extend_from_slice(&[*byte]);
        if heads.is_empty() {
            heads.extend(parse::<()>(&mut buffer, &mut scan, 1 << 16).unwrap());
        }
    }

    assert_eq!(heads[0].request.uri, "/x");
    assert_eq!(heads[0].framing, Framing::Length(5));
    assert_eq!(&buffer[..], b"hello");
}

#[test]
fn lengths_have_their_own_reasons() {
    let target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(2_000));
    let unfinished = format!("GET /{}", "a".repeat(2_000));
    let fields = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(2_000));
    for (bytes, reason) in [
        (target.as_str(), Reason::TargetTooLong),
        (&unfinished, Reason::TargetTooLong),
        (&fields, Reason::HeadersTooLarge),
        (&fields[..1_900], Reason::HeadersTooLarge),
    ] {
        let broken = parse::<()>(&mut BytesMut::from(bytes), &mut Scan::default(), 1_024).unwrap_err();

        assert_eq!(broken.reason, reason);
    }
}

#[test]
fn persistence_follows_version_and_options() {
    for (head, persists) in [
        ("GET / HTTP/1.1\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: a, CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        assert_eq!(parse_all(head.as_bytes()).unwrap().unwrap().persists(), persists, "{head}");
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        lines in vec(select(&["GET / HTTP/1.1", "GET /\r HTTP/1.0", "", " a", "a: b", "a:\0", "Content-Length: 3", "\t"][..]), 0..6),
        ends in vec(select(&["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n\r\n"][..]), 6),
        cuts in vec(1..9_usize, 1..40),
    ) {
        let text: String = lines.iter().zip(&ends).flat_map(|(line, end)| [*line, *end]).collect();
        let whole = parse_all(text.as_bytes()).map(|head| head.map(|head| head.request.uri.clone()));

        let (mut buffer, mut scan, mut rest) = (BytesMut::new(), Scan::default(), text.as_bytes());
        let mut in_pieces = Ok(None);
        for cut in cuts.iter().cycle() {
            if rest.is_empty() || !matches!(in_pieces, Ok(None)) {
                break;
            }
            let (piece, more) = rest.split_at((*cut).min(rest.len()));
            buffer.extend_from_slice(piece);
            rest = more;
            in_pieces = parse::<()>(&mut buffer, &mut scan, 1 << 16).map(|head| head.map(|head| head.request.uri.clone()));
        }

        prop_assert_eq!(whole.is_err(), in_pieces.is_err(), "{:?}", text);
        prop_assert_eq!(whole.ok(), in_pieces.ok(), "{:?}", text);
    }
}

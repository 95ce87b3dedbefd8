//! Comparison of our codec with hyper's, on mutated requests.

use proptest::{collection::vec, prelude::*, sample::select};

use super::oracle::agrees_with_hyper;

const REQUESTS: [&str; 12] = [
    "GET /a/b?c=d HTTP/1.1\r\nHost: api.contoso.example\r\nAccept: */*\r\n\r\n",
    "GET http://api.contoso.example/a HTTP/1.1\r\nHost: api.contoso.example\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\nhello world",
    "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "PUT /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n5\r\nhello\r\n0\r\nx-a: b\r\nx-c: d\r\n\r\n",
    "PATCH /%2e%2e/a;b=c?d=%00 HTTP/1.1\r\nHost: a:80\r\nX-Empty:\r\nX-Tab:\ta\tb\t\r\nConnection: close, x-empty\r\n\r\n",
    "\r\n\r\nPOST /a HTTP/1.4\r\nHost: a:\r\nTE: trailers\r\nContent-Length: 5, 5\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello",
    "PUT /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\nA;;\r\n0123456789\r\n0;c\r\n\r\n",
    "DELETE /a HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer aaa.bbb.ccc\r\nCookie: a=b\r\nCookie: c=d\r\nContent-Length: 0\r\n\r\n",
];

const PIECES: [&str; 52] = [
    "\r",
    "\n",
    "\r\n",
    "\n\n",
    "\r\n\r\n",
    "\r\r\n",
    " ",
    "\t",
    "\0",
    "\x0b",
    "\x0c",
    "\x7f",
    "\u{80}",
    "\u{a0}",
    "é",
    ":",
    ",",
    ";",
    "#",
    "?",
    "/",
    "//",
    "\\",
    "%",
    "+",
    "-",
    "0",
    "1",
    "5",
    "00",
    "a",
    "A",
    "0x",
    "\"",
    "(",
    "*",
    "http://",
    "HTTP/1.0",
    "HTTP/1.1",
    "chunked",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    " folded\r\n",
    "0\r\n\r\n",
    ";ext=1",
    "HTTP/1.2",
    "HTTP/2.0",
    ", 5",
    "Expect: x\r\n",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(prop::sample::Index, &'static str),
    Replace(prop::sample::Index, &'static str),
    Remove(prop::sample::Index, usize),
    /// Repeats a line somewhere.
    Repeat(prop::sample::Index, prop::sample::Index),
    /// Changes the case of a letter.
    Turn(prop::sample::Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len() + 1;
        match self {
            Self::Insert(at, piece) => {
                let at = at.index(len);
                bytes.splice(at..at, piece.bytes());
            }
            Self::Replace(at, piece) => {
                let at = at.index(len);
                let end = (at + piece.len()).min(bytes.len());
                bytes.splice(at..end, piece.bytes());
            }
            Self::Remove(at, count) => {
                let at = at.index(len);
                let end = (at + count).min(bytes.len());
                bytes.drain(at..end);
            }
            Self::Repeat(line, at) => {
                let lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if !lines.is_empty() {
                    let (line, at) = (line.index(lines.len()), at.index(lines.len()));
                    let start: usize = lines[..at].iter().map(Vec::len).sum();
                    bytes.splice(start..start, lines[line].iter().copied());
                }
            }
            Self::Turn(at) => {
                if let Some(byte) = bytes.get_mut(at.index(len))
                    && byte.is_ascii_alphabetic()
                {
                    *byte ^= 0x20;
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        4 => (at(), select(&PIECES[..])).prop_map(|(at, piece)| Change::Insert(at, piece)),
        3 => (at(), select(&PIECES[..])).prop_map(|(at, piece)| Change::Replace(at, piece)),
        1 => (at(), 1..4_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        2 => (at(), at()).prop_map(|(line, at)| Change::Repeat(line, at)),
        2 => at().prop_map(Change::Turn),
    ]
}

/// Returns the value of `PROPTEST_CASES`, for longer runs.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3_000)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn what_we_take_hyper_takes_alike(request in select(&REQUESTS[..]), changes in vec(change(), 0..4)) {
        let mut bytes = request.as_bytes().to_vec();
        for change in &changes {
            change.apply(&mut bytes);
        }

        let taken = agrees_with_hyper(&bytes);

        prop_assert!(taken || !changes.is_empty(), "a sound request was refused: {request:?}");
    }
}

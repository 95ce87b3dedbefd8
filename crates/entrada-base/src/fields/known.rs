//! Names of header fields that some rule of HTTP or of the gateway speaks of, as numbers.

use http::HeaderName;

macro_rules! known {
    ($($variant:ident $text:literal)*) => {
        /// The name of a header field that some rule speaks of. To compare two of them is to compare two numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Known {
            /// A name that no rule speaks of.
            Other,
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        /// The names in the order of their numbers, each with the colon and the blank after it.
        const LINES: &[&str] = &[": ", $(concat!($text, ": "),)*];
        /// The names as `http` has them, in the order of their numbers, without [`Known::Other`].
        static NAMES: [HeaderName; ALL.len() - 1] = [$(HeaderName::from_static($text),)*];
        /// The names in the order of their numbers.
        const TEXTS: &[&str] = &["", $($text,)*];
        const ALL: &[Known] = &[Known::Other, $(Known::$variant,)*];
    };
}

known! {
    Accept "accept"
    AcceptEncoding "accept-encoding"
    AcceptLanguage "accept-language"
    AccessControlRequestHeaders "access-control-request-headers"
    AccessControlRequestMethod "access-control-request-method"
    Authorization "authorization"
    CacheControl "cache-control"
    Connection "connection"
    ContentEncoding "content-encoding"
    ContentLength "content-length"
    ContentLocation "content-location"
    ContentType "content-type"
    Cookie "cookie"
    Date "date"
    Etag "etag"
    Expect "expect"
    Forwarded "forwarded"
    GrpcTimeout "grpc-timeout"
    Host "host"
    Http2Settings "http2-settings"
    KeepAlive "keep-alive"
    LastModified "last-modified"
    Location "location"
    Origin "origin"
    ProxyAuthenticate "proxy-authenticate"
    ProxyAuthenticationInfo "proxy-authentication-info"
    ProxyAuthorization "proxy-authorization"
    ProxyConnection "proxy-connection"
    Referer "referer"
    Server "server"
    SetCookie "set-cookie"
    Te "te"
    Traceparent "traceparent"
    Tracestate "tracestate"
    Trailer "trailer"
    TransferEncoding "transfer-encoding"
    Upgrade "upgrade"
    UserAgent "user-agent"
    Vary "vary"
    Via "via"
    WwwAuthenticate "www-authenticate"
    XForwardedFor "x-forwarded-for"
    XForwardedHost "x-forwarded-host"
    XForwardedPort "x-forwarded-port"
    XForwardedProto "x-forwarded-proto"
    XRequestId "x-request-id"
}

/// The number of places in the table of names.
const PLACES: usize = 128;

/// Returns the place of a name of two letters or more in the table: no two of the names have the same.
const fn place(name: &[u8]) -> usize {
    let (first, last) = (name[0] as usize, name[name.len() - 1] as usize + 4 * name[name.len() - 2] as usize);
    (name.len().wrapping_mul(MULTIPLIERS[0]) ^ first.wrapping_mul(MULTIPLIERS[1]) ^ last.wrapping_mul(MULTIPLIERS[2])) % PLACES
}

/// Found by trial; that they keep all names apart is checked when the table is made.
const MULTIPLIERS: [usize; 3] = [28, 243, 1];

/// The names by their [place]; the rest is [`Known::Other`].
const BY_PLACE: [Known; PLACES] = {
    let mut table = [Known::Other; PLACES];
    let mut index = 1;
    while index < ALL.len() {
        let at = place(TEXTS[index].as_bytes());
        assert!(table[at] as u8 == Known::Other as u8, "two names have one place");
        table[at] = ALL[index];
        index += 1;
    }
    table
};

// Each name has a bit of its own in a set of them.
const _: () = assert!(ALL.len() <= u64::BITS as usize);

impl Known {
    /// All names in the order of their numbers, [`Other`](Self::Other) first.
    pub const ALL: &[Self] = ALL;

    /// Returns the name's number; [`Other`](Self::Other) for a name that is not among them. It must be lower-case.
    #[inline]
    pub fn of(name: &[u8]) -> Self {
        if name.len() < 2 {
            return Self::Other;
        }
        let known = BY_PLACE[place(name)];
        if known.text().as_bytes() == name { known } else { Self::Other }
    }

    /// Returns the name; empty for [`Other`](Self::Other).
    #[inline]
    pub const fn text(self) -> &'static str {
        TEXTS[self as usize]
    }

    /// Returns the name as a field line begins with it: with the colon, and a blank.
    #[inline]
    pub(super) const fn line(self) -> &'static str {
        LINES[self as usize]
    }

    /// Returns the name as `http` has it; `None` for [`Other`](Self::Other).
    #[inline]
    pub(super) fn header_name(self) -> Option<&'static HeaderName> {
        NAMES.get((self as usize).wrapping_sub(1))
    }

    /// Returns the bit of the name in a set; none for [`Other`](Self::Other).
    #[inline]
    pub(super) const fn bit(self) -> u64 {
        (1 << self as u8) & !1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_by_its_text_and_no_other() {
        for known in &ALL[1..] {
            assert_eq!(Known::of(known.text().as_bytes()), *known);
            assert_eq!(known.header_name().unwrap(), known.text());
            assert_eq!(known.text(), known.text().to_ascii_lowercase());
            assert_eq!(known.bit().count_ones(), 1);
            let mut near = known.text().as_bytes().to_vec();
            near[0] ^= 1;
            assert_eq!(Known::of(&near), Known::Other, "{known:?}");
            near[0] ^= 1;
            near.push(b'x');
            assert_eq!(Known::of(&near), Known::Other, "{known:?}");
        }
        for other in ["", "x", "x-user", "authorizatiom", &"a".repeat(64)] {
            assert_eq!(Known::of(other.as_bytes()), Known::Other);
        }
        assert_eq!((Known::Other.bit(), Known::Other.header_name()), (0, None));
    }
}

//! Names of header fields that some rule of HTTP or of the gateway speaks of, as numbers.

macro_rules! known {
    ($($variant:ident $text:literal)*) => {
        /// The name of a header field that some rule speaks of. To compare two of them is to compare two numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Known {
            /// A name that no rule speaks of.
            Other,
            $(#[doc = concat!("`", stringify!($text), "`")] $variant,)*
        }

        /// The names in the order of their numbers.
        const TEXTS: &[&str] = &["", $(match std::str::from_utf8($text) { Ok(text) => text, Err(_) => panic!("a name is ASCII") },)*];
        const ALL: &[Known] = &[Known::Other, $(Known::$variant,)*];
    };
}

known! {
    Accept b"accept"
    AcceptEncoding b"accept-encoding"
    AcceptLanguage b"accept-language"
    AccessControlRequestHeaders b"access-control-request-headers"
    AccessControlRequestMethod b"access-control-request-method"
    Authorization b"authorization"
    CacheControl b"cache-control"
    Connection b"connection"
    ContentEncoding b"content-encoding"
    ContentLength b"content-length"
    ContentLocation b"content-location"
    ContentType b"content-type"
    Cookie b"cookie"
    Date b"date"
    Etag b"etag"
    Expect b"expect"
    Forwarded b"forwarded"
    GrpcTimeout b"grpc-timeout"
    Host b"host"
    Http2Settings b"http2-settings"
    KeepAlive b"keep-alive"
    LastModified b"last-modified"
    Location b"location"
    Origin b"origin"
    ProxyAuthenticate b"proxy-authenticate"
    ProxyAuthenticationInfo b"proxy-authentication-info"
    ProxyAuthorization b"proxy-authorization"
    ProxyConnection b"proxy-connection"
    Referer b"referer"
    Server b"server"
    SetCookie b"set-cookie"
    Te b"te"
    Traceparent b"traceparent"
    Tracestate b"tracestate"
    Trailer b"trailer"
    TransferEncoding b"transfer-encoding"
    Upgrade b"upgrade"
    UserAgent b"user-agent"
    Vary b"vary"
    Via b"via"
    WwwAuthenticate b"www-authenticate"
    XForwardedFor b"x-forwarded-for"
    XForwardedHost b"x-forwarded-host"
    XForwardedPort b"x-forwarded-port"
    XForwardedProto b"x-forwarded-proto"
    XRequestId b"x-request-id"
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
        assert_eq!(Known::Other.bit(), 0);
    }
}

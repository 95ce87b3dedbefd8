//! Header names that never come from the caller.
//!
//! A backend behind CGI, WSGI or FastCGI sees `X-Remote-User`, `X_Remote_User` and `X.Remote.User` as one variable. So names are
//! compared as such a backend would: without case, and with everything but letters and digits as `_`. A name is reserved as soon
//! as any policy makes its value from what the gateway knows of the caller, and it is reserved on every route.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, LazyLock},
};

use http::{HeaderMap, HeaderName};

use crate::config::{Faults, Place};

/// Names that are reserved whatever the config says: what gateways and platforms use to say who called, from where, or for what.
///
/// `X-Request-Id` and the trace context are here because the gateway writes its own, which a second spelling would contradict.
const ALWAYS: &[&str] = &[
    "forwarded",
    "x-forwarded",
    "x-original-url",
    "x-original-host",
    "x-original-forwarded-for",
    "x-rewrite-url",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-azure-clientip",
    "x-azure-socketip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-request-id",
    "traceparent",
    "tracestate",
];

/// Reserved with whatever follows.
const ALWAYS_PREFIXES: &[&str] = &["x_forwarded_", "x_ms_client_principal", "x_ms_token_", "x_entrada_"];

/// Reserved with whatever follows: where front ends that end TLS hand on the caller's certificate, and what they found of it.
const CERTIFICATE_PREFIXES: &[&str] = &[
    // RFC 9440: `Client-Cert`, `Client-Cert-Chain`.
    "client_cert",
    "x_client_cert",
    "x_arr_clientcert",
    // Controllers of nginx (`ssl-client-cert`, `ssl-client-verify`, `ssl-client-subject-dn`); Apache's variables as fields.
    "ssl_client_",
    "x_ssl_client_",
    "x_ssl_cert",
    // Load balancers of AWS.
    "x_amzn_mtls_",
    // Cloudflare.
    "cf_client_cert_",
];

/// Of those, what platforms write to say who calls, with whatever follows: a config may believe it of some peers, as it may the
/// certificates above.
const PLATFORM_PREFIXES: &[&str] =
    &["x_ms_client_principal", "x_ms_token_", "x_forwarded_client_cert", "x_forwarded_tls_client_cert"];

/// Fields that speak of one connection or one message and never go further (RFC 9110, section 7.6.1), or that the gateway
/// makes anew. A backend that folds names reads `Content_Length` as the length, so the folded spellings stop here, too.
const CONNECTION: &[&str] = &[
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "expect",
    "http2-settings",
    // What a CGI program would see as `HTTP_PROXY` and use as its own proxy.
    "proxy",
];

const CONNECTION_PREFIXES: &[&str] = &["proxy_"];

/// Header names that are spoken for, gathered while the config is built.
#[derive(Debug, Default)]
pub struct ReservedNames {
    /// Names that hold what the gateway knows of a caller, folded: reserved on every route.
    identity: BTreeSet<Box<str>>,
    /// Names that some route overrides, folded, by the route's upstream: reserved on every route of that upstream.
    overrides: BTreeMap<Option<Box<str>>, BTreeSet<Box<str>>>,
    /// Uses that a reserved name forbids; judged when every name is known.
    additions: Vec<Addition>,
    /// The upstream of the route that is being built.
    upstream: Option<Box<str>>,
    /// The fields that policies of that route read from callers, though their names are reserved: they judge who wrote them.
    read: Vec<HeaderName>,
}

#[derive(Debug)]
struct Addition {
    name: HeaderName,
    action: &'static str,
    upstream: Option<Box<str>>,
    place: Place,
}

/// Why a header name is spoken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its value says who calls: made from token, partner, caller, certificate or credential.
    Identity,
    /// A route overrides it with something else.
    Override,
}

impl ReservedNames {
    /// Says whose policies are built next: overrides count for the routes of one upstream. `None`: for all of them.
    pub fn enter(&mut self, upstream: Option<&str>) {
        self.upstream = upstream.map(Into::into);
    }

    /// Reserves a name.
    pub fn claim(&mut self, name: &HeaderName, claim: Claim) {
        let folded = fold(name.as_str());
        match claim {
            Claim::Identity => self.identity.insert(folded),
            Claim::Override => self.overrides.entry(self.upstream.clone()).or_default().insert(folded),
        };
    }

    /// Notes that a policy of the route that is being built reads such a field from callers, and judges itself who wrote it.
    pub(crate) fn reads(&mut self, name: &HeaderName) {
        self.read.push(name.clone());
    }

    /// The fields that policies read since this was asked last.
    pub(crate) fn take_read(&mut self) -> Vec<HeaderName> {
        std::mem::take(&mut self.read)
    }

    /// Notes that a policy adds to a field or leaves what is there (`append`, `skip`), which cannot be where the name is reserved.
    pub fn adds_to(&mut self, name: &HeaderName, action: &'static str, place: &Place) {
        self.additions.push(Addition { name: name.clone(), action, upstream: self.upstream.clone(), place: place.clone() });
    }

    /// Repeats for the route that is being built what others noted for policies that it has, too.
    pub(crate) fn take_over(&mut self, others: &Self) {
        self.identity.extend(others.identity.iter().cloned());
        if let Some(overrides) = others.overrides.get(&others.upstream) {
            self.overrides.entry(self.upstream.clone()).or_default().extend(overrides.iter().cloned());
        }
        let additions = others.additions.iter().map(|addition| Addition {
            name: addition.name.clone(),
            action: addition.action,
            upstream: self.upstream.clone(),
            place: addition.place.clone(),
        });
        self.additions.extend(additions);
        self.read.extend(others.read.iter().cloned());
    }

    /// Judges the uses that a reserved name forbids. To be called when all policies are built.
    pub fn check(&self, faults: &mut Faults) {
        let mut reserved = BTreeMap::new();
        for addition in &self.additions {
            let upstream = addition.upstream.as_deref();
            if reserved.entry(upstream).or_insert_with(|| self.finish(upstream)).contains(&addition.name) {
                faults.error(
                    &addition.place,
                    format!(
                        "`{}` with `{}`: the name is reserved, so nothing of the caller's is there to keep",
                        addition.action, addition.name
                    ),
                    "use `override`, or another header name",
                );
            }
        }
    }

    /// The names that are reserved on the routes of an upstream; `None`: on routes that answer themselves.
    pub fn finish(&self, upstream: Option<&str>) -> Reserved {
        let everywhere = self.overrides.get(&None);
        let here = upstream.and_then(|upstream| self.overrides.get(&Some(upstream.into())));
        let overrides = everywhere.into_iter().flatten().chain(here.into_iter().flatten()).cloned();
        Reserved::of(self.identity.iter().cloned(), overrides)
    }
}

/// The header names that do not come from the caller on a route: immutable, and looked up without allocating.
#[derive(Debug)]
pub struct Reserved {
    /// Open addressing, a power of two, at most half full.
    slots: Box<[Option<Slot>]>,
}

#[derive(Clone, Debug)]
struct Slot {
    folded: Box<str>,
    stops: Stops,
}

/// Why a field goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stops {
    /// It speaks of the connection or the message's framing.
    Connection,
    /// The name is spoken for.
    Reserved,
    /// The name is spoken for, and says who calls.
    Identity,
}

impl Reserved {
    fn of(identity: impl Iterator<Item = Box<str>>, overrides: impl Iterator<Item = Box<str>>) -> Self {
        let connection = CONNECTION.iter().map(|name| Slot { folded: fold(name), stops: Stops::Connection });
        let always = ALWAYS.iter().map(|name| Slot { folded: fold(name), stops: Stops::Reserved });
        let identity = identity.map(|folded| Slot { folded, stops: Stops::Identity });
        let overrides = overrides.map(|folded| Slot { folded, stops: Stops::Reserved });
        let names: Vec<Slot> = connection.chain(identity).chain(always).chain(overrides).collect();
        let mut slots = vec![None; (names.len() * 2).next_power_of_two()];
        for name in names {
            let mut at = hash(&name.folded) & (slots.len() - 1);
            while slots[at].as_ref().is_some_and(|taken: &Slot| taken.folded != name.folded) {
                at = (at + 1) & (slots.len() - 1);
            }
            slots[at].get_or_insert(name);
        }
        Self { slots: slots.into() }
    }

    /// Whether the name is spoken for.
    pub fn contains(&self, name: &HeaderName) -> bool {
        matches!(self.find(name.as_str()), Some(Stops::Reserved | Stops::Identity))
    }

    /// Removes what callers wrote under names that say who calls, so that no policy takes it for what the gateway or a platform
    /// would have written; but for the fields in `read`, whose readers judge who wrote them.
    pub(crate) fn remove_claimed(&self, headers: &mut HeaderMap, read: &[HeaderName]) {
        let claimed = |name: &HeaderName| self.says_who_calls(name.as_str()) && !read.contains(name);
        if headers.keys().any(claimed) {
            let names: Vec<_> = headers.keys().filter(|name| claimed(name)).cloned().collect();
            names.into_iter().for_each(|name| drop(headers.remove(name)));
        }
    }

    fn says_who_calls(&self, name: &str) -> bool {
        match self.find(name) {
            Some(Stops::Identity) => true,
            Some(Stops::Reserved) => is_a_platforms(name),
            Some(Stops::Connection) | None => false,
        }
    }

    /// Whether a caller's field of this name goes no further: it is spoken for, or it speaks of the connection.
    pub fn stops(&self, name: &HeaderName) -> bool {
        self.find(name.as_str()).is_some()
    }

    /// The names that are reserved whatever the config says.
    pub(crate) fn always() -> Arc<Self> {
        static ALWAYS_RESERVED: LazyLock<Arc<Reserved>> = LazyLock::new(Arc::default);
        ALWAYS_RESERVED.clone()
    }

    /// Whether the name is the gateway's own to write, or says where a request goes or comes from, whatever the config says.
    pub(crate) fn is_the_gateways(name: &HeaderName) -> bool {
        Self::always().stops(name) && !is_a_platforms(name.as_str())
    }

    fn find(&self, name: &str) -> Option<Stops> {
        let mut at = hash(name) & (self.slots.len() - 1);
        while let Some(slot) = &self.slots[at] {
            if same_folded(&slot.folded, name) {
                return Some(slot.stops);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
        if ALWAYS_PREFIXES.iter().chain(CERTIFICATE_PREFIXES).any(|prefix| starts_folded(name, prefix)) {
            return Some(Stops::Reserved);
        }
        CONNECTION_PREFIXES.iter().any(|prefix| starts_folded(name, prefix)).then_some(Stops::Connection)
    }
}

impl Default for Reserved {
    fn default() -> Self {
        Self::of(std::iter::empty(), std::iter::empty())
    }
}

/// One letter of a name as a CGI program sees it, but for case, which does not matter.
const fn fold_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'_' }
}

/// A name as a CGI program sees it, but for case, which does not matter.
fn fold(name: &str) -> Box<str> {
    name.bytes().map(|byte| char::from(fold_byte(byte))).collect::<String>().into()
}

/// Whether a CGI program sees both names as one.
pub(crate) fn same_folded(one: &str, other: &str) -> bool {
    one.len() == other.len() && one.bytes().zip(other.bytes()).all(|(one, other)| fold_byte(one) == fold_byte(other))
}

/// Removes a field in every spelling that a CGI program takes for it.
pub(crate) fn remove_folded(headers: &mut HeaderMap, name: &HeaderName) {
    while let Some(spelling) = headers.keys().find(|other| same_folded(other.as_str(), name.as_str())).cloned() {
        headers.remove(spelling);
    }
}

/// Whether platforms write it to say who calls.
fn is_a_platforms(name: &str) -> bool {
    PLATFORM_PREFIXES.iter().chain(CERTIFICATE_PREFIXES).any(|prefix| starts_folded(name, prefix))
}

fn starts_folded(name: &str, prefix: &str) -> bool {
    name.as_bytes().get(..prefix.len()).is_some_and(|start| start.iter().map(|byte| fold_byte(*byte)).eq(prefix.bytes()))
}

/// FNV-1a over the folded name. The table holds names of the config alone, so nobody outside can crowd it.
fn hash(name: &str) -> usize {
    let hash = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(fold_byte(byte))).wrapping_mul(0x0000_0100_0000_01B3));
    // The high bits are the well mixed ones.
    (hash >> 32) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::from_bytes(text.as_bytes()).unwrap()
    }

    #[test]
    fn names_of_gateways_and_platforms_are_always_reserved() {
        let reserved = Reserved::default();

        for text in [
            "X-Forwarded-For",
            "x_forwarded_for",
            "X.Forwarded.Host",
            "X-Forwarded-Anything",
            "X-Forwarded_Proto",
            "Forwarded",
            "X-MS-CLIENT-PRINCIPAL",
            "X-MS-CLIENT-PRINCIPAL-NAME",
            "x-ms_client-principal-id",
            "X-MS-TOKEN-AAD-ACCESS-TOKEN",
            "X-ARR-ClientCert",
            "x_arr_clientcert",
            "X-Forwarded-Client-Cert",
            "X-Client-Cert",
            "X-Client-Cert-Chain",
            "Client-Cert",
            "Client-Cert-Chain",
            "client_cert",
            "Client.Cert-Chain",
            "X-SSL-Cert",
            "X-SSL-Client-Verify",
            "SSL_CLIENT_CERT",
            "ssl-client-subject-dn",
            "X-Forwarded-Tls-Client-Cert",
            "X-Amzn-Mtls-Clientcert-Leaf",
            "Cf-Client-Cert-Der-Base64",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-HTTP-Method-Override",
            "x-http_method-override",
            "X-Real-IP",
            "True-Client-IP",
            "X-Entrada-Assertion",
            "X_Entrada_X",
            "x-request-id",
            "x~request!id",
            "Traceparent",
        ] {
            assert!(reserved.contains(&name(text)), "{text}");
            assert!(reserved.stops(&name(text)), "{text}");
        }
    }

    #[test]
    fn fields_of_the_connection_stop_but_are_not_reserved() {
        let reserved = Reserved::default();

        for text in [
            "Connection",
            "Keep-Alive",
            "Keep_Alive",
            "TE",
            "Trailer",
            "Transfer-Encoding",
            "transfer_encoding",
            "Upgrade",
            "Host",
            "Content-Length",
            "Content_Length",
            "Expect",
            "HTTP2-Settings",
            "Proxy",
            "Proxy-Authorization",
            "Proxy-Connection",
            "proxy_anything",
        ] {
            assert!(reserved.stops(&name(text)), "{text}");
            assert!(!reserved.contains(&name(text)), "{text}");
        }
    }

    #[test]
    fn what_nobody_claimed_passes() {
        let reserved = Reserved::default();

        for text in [
            "Accept",
            "Authorization",
            "Cookie",
            "Content-Type",
            "User-Agent",
            "X-Forward",
            "X-Forwardedfor",
            "X-Ms-Version",
            "X-Ms-Client-Request-Id",
            "X-Entrada",
            "Client-Id",
            "X-Client-Version",
            "X-SSL",
            "SSL-Clients",
            "X-Amzn-Trace-Id",
            "CF-Ray",
            "Host-Name",
            "Proximity",
            "X-Remote-User",
            "a",
        ] {
            assert!(!reserved.stops(&name(text)), "{text}");
        }
    }

    #[test]
    fn identity_is_reserved_everywhere_and_an_override_on_its_upstream() {
        let mut names = ReservedNames::default();
        names.enter(Some("orders"));
        names.claim(&name("X-Remote-User"), Claim::Identity);
        names.claim(&name("X-Tier"), Claim::Override);
        names.enter(None);
        names.claim(&name("X-Global"), Claim::Override);

        for (upstream, text, expected) in [
            (Some("orders"), "x_remote_user", true),
            (Some("graph"), "X.Remote-User", true),
            (None, "X-Remote-User", true),
            (Some("orders"), "X_Tier", true),
            (Some("graph"), "X-Tier", false),
            (None, "X-Tier", false),
            (Some("orders"), "X-Global", true),
            (Some("graph"), "X-Global", true),
            (Some("graph"), "X-Remote-Users", false),
        ] {
            assert_eq!(names.finish(upstream).contains(&name(text)), expected, "{upstream:?} {text}");
        }
    }

    #[test]
    fn adding_to_a_reserved_name_is_an_error_wherever_it_is_claimed() {
        let mut names = ReservedNames::default();
        let place = |index| Place::root().key("inbound").index(index);
        names.enter(Some("orders"));
        names.adds_to(&name("X-Remote_User"), "append", &place(0));
        names.adds_to(&name("X-Forwarded-For"), "append", &place(1));
        names.adds_to(&name("X-Trail"), "skip", &place(2));
        names.enter(Some("graph"));
        names.claim(&name("X-Remote-User"), Claim::Identity);
        names.claim(&name("X-Trail"), Claim::Override);
        let mut faults = Faults::default();

        names.check(&mut faults);

        let places: Vec<_> = faults.iter().map(|fault| fault.place.clone()).collect();
        assert_eq!(places, [place(0), place(1)]);
    }

    proptest! {
        #[test]
        fn every_spelling_of_a_claimed_name_is_found(
            claimed in prop::collection::vec("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,24}", 1..40),
            odd in prop::collection::vec(prop::sample::select(b"!#$%&'*+.^_`|~-".to_vec()), 24),
        ) {
            let mut names = ReservedNames::default();
            for text in &claimed {
                names.claim(&name(text), Claim::Identity);
            }
            let reserved = names.finish(None);
            for text in &claimed {
                let other: String = text.bytes().zip(&odd)
                    .map(|(byte, odd)| char::from(if byte.is_ascii_alphanumeric() { byte } else { *odd })).collect();
                prop_assert!(reserved.stops(&name(&other)), "{} as {}", text, other);
            }
        }
    }
}

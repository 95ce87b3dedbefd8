//! Words and forms of other gateways, and what is written for them here: a cure that says so is worth more than a list of keys.

use crate::settings::{ConfigDuration, Size};

/// The cure for a key that another product has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// The same thing under another name.
    Name(&'static str),
    /// Something that is written otherwise.
    Otherwise(&'static str),
}

use Habit::{Name, Otherwise};

const NO_SIGN_IN: &str = "remove it: there is no browser sign-in here, and there are no sessions; callers bring tokens, which routes \
                          validate with `validate-azure-ad-token`";
const OWN_CREDENTIAL: &str = "write a `credentials` entry for the gateway's own identity (`name: { tenant: …, client-id: …, certificate: … }`), \
                              or list callers as `client-application-ids` of `validate-azure-ad-token`";
const NOT_HERE: &str = "remove it: there is nothing like it here";
const ROUTES: &str = "write `routes` (a list of `- { name: …, match: { path: … }, upstream: … }`) and `upstreams` (`name: { servers: [\"http://…\"] }`)";

/// Keys by the type of the config that they were written in.
const KEYS: &[(&str, &[(&str, Habit)])] = &[
    (
        "Config",
        &[
            ("entryPoints", Otherwise("write `listeners`: a list of `- { name: …, address: \"0.0.0.0:8443\" }`")),
            ("entrypoints", Otherwise("write `listeners`: a list of `- { name: …, address: \"0.0.0.0:8443\" }`")),
            ("http", Otherwise(ROUTES)),
            ("server", Otherwise("write `listeners` for where it listens, and `routes` for what it serves")),
            ("servers", Otherwise("write `listeners` for where it listens, `upstreams` for the backends")),
            ("static_resources", Otherwise("write `listeners`, `routes` and `upstreams`")),
            ("ReverseProxy", Otherwise(ROUTES)),
            ("policies", Name("inbound")),
            ("clusters", Name("upstreams")),
            ("backends", Name("upstreams")),
            ("services", Name("upstreams")),
            ("provider", Otherwise(NO_SIGN_IN)),
            ("cookie_secret", Otherwise(NO_SIGN_IN)),
            ("cookie_secure", Otherwise(NO_SIGN_IN)),
            ("redirect_url", Otherwise(NO_SIGN_IN)),
            ("email_domains", Otherwise(NO_SIGN_IN)),
            ("oidc_issuer_url", Otherwise("write `tenants: { name: { id: … } }` for Entra, or `issuers` for another one")),
            ("client_id", Otherwise(OWN_CREDENTIAL)),
            ("client_secret", Otherwise(OWN_CREDENTIAL)),
        ],
    ),
    (
        "RouteConfig",
        &[
            ("backend", Name("upstream")),
            ("service", Name("upstream")),
            ("cluster", Name("upstream")),
            ("ClusterId", Name("upstream")),
            ("policies", Name("inbound")),
            (
                "proxy_pass",
                Otherwise("write `upstream: name` here, and the URL as `upstreams: { name: { servers: [\"http://…\"] } }`"),
            ),
            ("url", Otherwise("write `upstream: name` here, and the URL as `upstreams: { name: { servers: [\"http://…\"] } }`")),
            ("location", Otherwise("write `match: { path: … }`")),
            ("rule", Otherwise("write `match: { hosts: [ … ], path: … }`")),
            ("middlewares", Name("inbound")),
            ("return", Otherwise("write `respond: { status: …, headers: { … } }`")),
            ("redirect", Otherwise("write `respond: { status: 308, headers: { Location: \"https://…\" } }`")),
        ],
    ),
    (
        "MatchConfig",
        &[
            ("location", Name("path")),
            ("prefix", Name("path")),
            ("path-prefix", Name("path")),
            ("pathPrefix", Name("path")),
            ("url", Name("path")),
            ("exact", Name("exact-path")),
            ("host", Otherwise("write `hosts`, a list: `hosts: [api.contoso.example]`")),
            ("server_name", Otherwise("write `hosts`, a list: `hosts: [api.contoso.example]`")),
            ("method", Otherwise("write `methods`, a list: `methods: [GET, POST]`")),
            ("headers", Otherwise("write a `check-header` policy in the route's `inbound` list")),
        ],
    ),
    (
        "PolicyConfig",
        &[
            ("base", Otherwise("remove it: the global `inbound` list runs before every route's")),
            ("forward-request", Otherwise("remove it: what passes the list goes to the route's `upstream`")),
            (
                "rate-limit",
                Otherwise("write `rate-limit-by-key`, with a `counter-key` that says whose calls are counted together"),
            ),
            ("quota", Otherwise("write `quota-by-key`, with a `counter-key` that says whose calls are counted together")),
            ("rewrite-url", Name("rewrite-uri")),
            ("set-query-string", Name("set-query-parameter")),
            ("authentication-managed-identity", Otherwise("write the route's `authorization: { credential: …, scope: … }`")),
            ("authentication-certificate", Otherwise("write the upstream's `tls: { client-certificate: … }`")),
            ("authentication-basic", Otherwise("write the route's `authorization: { basic: { username: …, password: … } }`")),
            ("get-authorization-context", Otherwise("write the route's `authorization: { credential: …, scope: … }`")),
            ("jwt", Name("validate-jwt")),
            ("cache-lookup", Otherwise(NOT_HERE)),
            ("cache-store", Otherwise(NOT_HERE)),
            ("send-request", Otherwise(NOT_HERE)),
        ],
    ),
    (
        "SetBackendServiceConfig",
        &[
            ("backend-id", Name("upstream")),
            ("base-url", Otherwise("define it in `upstreams`, and write its name as `upstream`")),
        ],
    ),
    (
        "ValidateAzureAdTokenConfig",
        &[
            ("tenant-id", Name("tenant")),
            ("audience", Name("audiences")),
            ("backend-application-ids", Name("audiences")),
            (
                "output-token-variable-name",
                Otherwise("remove it: expressions read `token.claims`; a second token is named with `as`"),
            ),
            ("authentication-endpoint", Otherwise("write it at the tenant: `tenants: { name: { authority: … } }`")),
            ("decryption-keys", Otherwise(NOT_HERE)),
        ],
    ),
    (
        "ValidateJwtConfig",
        &[
            (
                "openid-config",
                Otherwise("write `issuer: name` here, and the URL as `issuers: { name: { metadata: \"https://…\" } }`"),
            ),
            ("issuers", Otherwise("write `issuer: name` here, and define the issuer in `issuers` at the top of the config")),
            ("issuer-signing-keys", Otherwise("write `issuer: name` here, and the keys at that entry of `issuers`")),
            (
                "output-token-variable-name",
                Otherwise("remove it: expressions read `token.claims`; a second token is named with `as`"),
            ),
            ("require-expiration-time", Otherwise("remove it: a token without an end is always refused")),
            ("require-signed-tokens", Otherwise("remove it: a token without a signature is always refused")),
            ("require-scheme", Otherwise("remove it: the scheme is `Bearer`")),
        ],
    ),
    (
        "ListenerConfig",
        &[
            ("port", Otherwise("write it in `address`: `address: \"0.0.0.0:8443\"`")),
            ("listen", Name("address")),
            ("bind", Name("address")),
            ("certificate", Otherwise("write `tls: { certificate: …, private-key: … }`")),
        ],
    ),
    (
        "UpstreamConfig",
        &[
            ("url", Otherwise("write `servers`, a list: `servers: [\"http://10.0.0.5:8080\"]`")),
            ("base-url", Otherwise("write `servers`, a list: `servers: [\"http://10.0.0.5:8080\"]`")),
            ("address", Otherwise("write `servers`, a list: `servers: [\"http://10.0.0.5:8080\"]`")),
            ("Destinations", Otherwise("write `servers`, a list: `servers: [\"http://10.0.0.5:8080\"]`")),
            ("loadBalancer", Otherwise("write `servers`, a list: `servers: [\"http://10.0.0.5:8080\"]`")),
            ("lb_policy", Name("balance")),
            ("timeout", Name("timeouts")),
        ],
    ),
];

/// Words that others use, by the one that is meant.
const WORDS: &[(&str, &str)] = &[
    ("least_conn", "least-requests"),
    ("leastconn", "least-requests"),
    ("least-connections", "least-requests"),
    ("leastrequests", "least-requests"),
    ("roundrobin", "round-robin"),
    ("rr", "round-robin"),
    ("h2", "http2"),
    ("h2c", "http2"),
    ("grpc", "http2"),
    ("http/2", "http2"),
    ("http/1.1", "http1"),
    ("warning", "warn"),
    ("verbose", "debug"),
];

/// Returns the cure for `key` in one of these types.
pub(crate) fn key(owners: &[&str], key: &str) -> Option<Habit> {
    // Types that share a name are numbered in the schema.
    let named = |owner: &str| owners.iter().any(|own| own.trim_end_matches(|letter: char| letter.is_ascii_digit()) == owner);
    let of_owner = KEYS.iter().filter(|(owner, _)| named(owner)).flat_map(|(_, keys)| *keys);
    of_owner.into_iter().find(|(word, _)| *word == key).map(|(_, habit)| *habit)
}

/// The word that is meant by this one, if it is one of those that can stand there.
pub(crate) fn word<'w>(written: &str, words: &[&'w str]) -> Option<&'w str> {
    let folded = written.to_ascii_lowercase();
    let meant = WORDS.iter().find(|(theirs, _)| *theirs == folded)?.1;
    words.iter().copied().find(|word| *word == meant)
}

/// Returns the likely meaning of a whole document that is no map.
pub(crate) fn document(text: &str) -> &'static str {
    const HERE: &str = "write YAML with `listeners`, `upstreams` and `routes`";
    let text = text.trim_start();
    if text.starts_with('<') {
        return "this is XML, as API Management has it: write YAML with `listeners`, `upstreams` and `routes`; its policies are entries \
                of a route's `inbound` list, as `- validate-azure-ad-token: { tenant: …, audiences: [ … ], scopes: [ … ] }`";
    }
    if text.contains('{') {
        return "this reads like nginx or Caddy: write YAML with `listeners` (where it listens), `upstreams` (`name: { servers: [\"http://…\"] }`) \
                and `routes` (`- { name: …, match: { path: … }, upstream: … }`)";
    }
    HERE
}

/// Returns the form that a duration of another notation has here.
pub(crate) fn duration(text: &str) -> Option<String> {
    let parts = quantities(text)?;
    if let [(number, unit)] = parts.as_slice()
        && unit.is_empty()
    {
        return Some(format!("write `{number}s` if seconds are meant"));
    }
    let mut milliseconds = 0_u64;
    for (number, unit) in parts {
        let unit = match unit.to_ascii_lowercase().as_str() {
            "ms" | "msec" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" | "hr" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return None,
        };
        milliseconds = milliseconds.checked_add(number.checked_mul(unit)?)?;
    }
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let (size, unit) = units.into_iter().find(|(size, _)| milliseconds.is_multiple_of(*size))?;
    let written = format!("{}{unit}", milliseconds / size);
    ConfigDuration::parse(&written).map(|_| format!("write `{written}`"))
}

/// Returns the form that a size of another notation has here.
pub(crate) fn size(text: &str) -> Option<String> {
    let parts = quantities(text)?;
    let [(number, unit)] = parts.as_slice() else { return None };
    let unit = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => "B",
        "k" | "kb" | "ki" | "kib" => "KiB",
        "m" | "mb" | "mi" | "mib" => "MiB",
        "g" | "gb" | "gi" | "gib" => "GiB",
        _ => return None,
    };
    let written = format!("{number}{unit}");
    Size::parse(&written).map(|_| format!("write `{written}`"))
}

/// Numbers and their units, as in `1m30s` and `2 sec`.
fn quantities(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse().ok()?;
        let behind = rest[digits..].trim_start();
        let end = behind.find(|letter: char| letter.is_ascii_digit() || letter == ' ').unwrap_or(behind.len());
        parts.push((number, &behind[..end]));
        rest = behind[end..].trim_start();
    }
    (!parts.is_empty()).then_some(parts)
}

/// The variable of the environment that a text would name in a shell: `$NAME` or `${NAME}`.
pub(crate) fn shell_variable(text: &str) -> Option<&str> {
    let name = text.strip_prefix('$')?;
    let name = name.strip_prefix('{').map_or(Some(name), |name| name.strip_suffix('}'))?;
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            && name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
    };
    is_name(name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_of_others_are_written_anew() {
        for (written, expected) in [
            ("30", Some("write `30s` if seconds are meant")),
            ("1m30s", Some("write `90s`")),
            ("2 sec", Some("write `2s`")),
            ("2 minutes", Some("write `2m`")),
            ("1h 30m", Some("write `90m`")),
            ("soon", None),
            ("5 fortnights", None),
            ("", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(written).as_deref(), expected, "{written}");
        }
        for (written, expected) in
            [("100MB", Some("write `100MiB`")), ("64k", Some("write `64KiB`")), ("512", Some("write `512B`")), ("1 TB", None)]
        {
            assert_eq!(size(written).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn shells_variables_are_known() {
        for (text, expected) in [
            ("${ADDR}", Some("ADDR")),
            ("$TENANT", Some("TENANT")),
            ("$tenant", None),
            ("$5", None),
            ("${ADDR", None),
            ("a$ADDR", None),
            ("$", None),
        ] {
            assert_eq!(shell_variable(text), expected, "{text}");
        }
    }
}

//! For each lint a config with its finding, and one without.

/// A lint by its code, with a config that has a finding of it and one that has none.
pub(super) struct Pair {
    pub(super) code: &'static str,
    pub(super) with: String,
    pub(super) without: String,
}

const LISTENER: &str = "{ name: public, address: \"127.0.0.1:0\" }";
const TOKEN: &str = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [r], roles: [R] }";
const APP: &str = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }";
const CLIENT: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// The certificates of each config that names a listener with a certificate: `server` is for gateway.contoso.example, `old` has expired.
const TLS: &str = "tls: { certificate: server.pem, private-key: server.key }";
const SETS: &str = "address-sets: { front-doors: { service-tags: tags.json, tags: [AzureFrontDoor.Backend] } }";

/// A config with this listener and these routes, and more sections. `tenants` and `upstreams` are there unless `more` has them.
fn config(listener: &str, routes: &str, more: &str) -> String {
    let section =
        |name: &str, default: &str| if more.contains(&format!("{name}:")) { String::new() } else { format!("{default}\n") };
    format!(
        "listeners: [ {listener} ]\n{}{}routes: [ {routes} ]\n{more}\n",
        section("tenants", "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }"),
        section("upstreams", "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"] } }"),
    )
}

/// A route with these settings, besides name and path.
fn route(settings: &str) -> String {
    format!("{{ name: a, match: {{ path: /a }}, {settings} }}")
}

/// A config with a route of these settings.
fn of_route(settings: &str, more: &str) -> String {
    config(LISTENER, &route(settings), more)
}

/// A config with a route of these policies to the backend.
fn of_policies(policies: &str) -> String {
    of_route(&format!("inbound: [ {policies} ], upstream: backend"), "")
}

/// A config with a listener of these settings, and a route that answers by itself.
fn of_listener(settings: &str, more: &str) -> String {
    config(&format!("{{ name: public, {settings} }}"), &route("anonymous: true, respond: { status: 204 }"), more)
}

/// A config with a filter of the set `s` with these entries.
fn of_set(entries: &str) -> String {
    of_route(
        "anonymous: true, upstream: backend, inbound: [ ip-filter: { action: forbid, addresses: [s] } ]",
        &format!("address-sets: {{ s: {entries} }}"),
    )
}

/// A config with a partner of these settings, whom the route checks.
fn of_partner(settings: &str) -> String {
    of_route(
        &format!("inbound: [ {APP}, check-partner: {{}} ], upstream: backend"),
        &format!("partners: {{ fabrikam: {{ client-application-ids: [{CLIENT}]{settings} }} }}"),
    )
}

/// A config with a credential of this proof.
fn of_credential(proof: &str) -> String {
    of_route(
        "anonymous: true, respond: { status: 204 }",
        &format!(
            "named-values: {{ key: {{ value: abc, secret: true }} }}\n\
             credentials: {{ pod: {{ managed-identity: {{}} }}, gateway: {{ tenant: contoso, client-id: {GATEWAY}, {proof} }} }}"
        ),
    )
}

/// A config with an upstream of these settings.
fn of_upstream(settings: &str, route: &str) -> String {
    of_route(route, &format!("upstreams: {{ backend: {{ {settings} }} }}"))
}

fn pair(code: &'static str, with: impl Into<String>, without: impl Into<String>) -> Pair {
    Pair { code, with: with.into(), without: without.into() }
}

/// Returns the day this many days from now.
fn in_days(days: i64) -> String {
    let today = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date();
    today.checked_add(jiff::Span::new().days(days)).unwrap().to_string()
}

/// Returns all pairs; the files that they name are in the folder where they are read.
pub(super) fn pairs() -> Vec<Pair> {
    [access(), exposure(), credentials(), without_effect(), addresses(), meaning(), operations(), decisions(), silences()]
        .concat_all()
}

trait Concat {
    fn concat_all(self) -> Vec<Pair>;
}

impl<const N: usize> Concat for [Vec<Pair>; N] {
    fn concat_all(self) -> Vec<Pair> {
        self.into_iter().flatten().collect()
    }
}

fn access() -> Vec<Pair> {
    let many = |allowed: &str| {
        of_route(
            &format!(
                "inbound: [ validate-azure-ad-token: {{ tenant: many, allowed-tenants: {allowed}, audiences: [api://orders], scopes: [r], roles: [R] }} ], upstream: backend"
            ),
            "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee }, many: { id: organizations } }",
        )
    };
    let filters = |one: &str, other: &str| {
        of_policies(&format!(
            "{TOKEN}, ip-filter: {{ action: allow, addresses: [{one}] }}, ip-filter: {{ action: allow, addresses: [{other}] }}"
        ))
    };
    let partners = |routes: &str| {
        let checked = format!("inbound: [ {APP}, check-partner: {{}} ], upstream: backend");
        config(
            LISTENER,
            &format!("{}, {{ name: b, match: {{ path: /b }}, {checked} }}", route(&checked)),
            &format!(
                "partners: {{ fabrikam: {{ client-application-ids: [{CLIENT}], addresses: [203.0.113.9], routes: [{routes}] }} }}"
            ),
        )
    };
    let unchecked = |check: &str| {
        of_route(
            &format!("inbound: [ {APP}{check} ], upstream: backend"),
            &format!("partners: {{ fabrikam: {{ client-application-ids: [{CLIENT}], addresses: [203.0.113.9] }} }}"),
        )
    };
    let pinned = |listener: &str| {
        config(
            &format!("{{ name: public, address: \"127.0.0.1:0\"{listener} }}"),
            &route(&format!("inbound: [ {APP}, check-partner: {{}} ], upstream: backend")),
            &format!(
                "partners: {{ fabrikam: {{ client-application-ids: [{CLIENT}], addresses: [203.0.113.9], client-certificate: {{ thumbprints: [A0A1A2A3A4A5A6A7A8A9AAABACADAEAFB0B1B2B3] }} }} }}"
            ),
        )
    };
    let cors = |origin: &str| of_policies(&format!("cors: {{ allowed-origins: [\"{origin}\"] }}, {TOKEN}"));
    vec![
        pair(
            "token-unrestricted",
            of_policies("validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }"),
            of_policies(TOKEN),
        ),
        pair(
            "applications-unrestricted",
            of_policies("validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [r] }"),
            of_policies(TOKEN),
        ),
        pair("any-tenant", many("any"), many("[contoso]")),
        pair(
            "report-only-authentication",
            of_policies(&TOKEN.replace("roles: [R]", "roles: [R], mode: report-only")),
            of_policies(TOKEN),
        ),
        pair(
            "filter-admits-everyone",
            of_policies(&format!("{TOKEN}, ip-filter: {{ action: allow, addresses: [\"0.0.0.0/0\"] }}")),
            of_policies(&format!("{TOKEN}, ip-filter: {{ action: allow, addresses: [203.0.113.0/24] }}")),
        ),
        pair(
            "filter-refuses-everyone",
            filters("203.0.113.0/24", "198.51.100.0/24"),
            filters("203.0.113.0/24", "203.0.113.128-203.0.114.7"),
        ),
        pair(
            "front-door-without-id",
            of_listener("address: \"127.0.0.1:0\", trusted-proxies: [ { addresses: [front-doors] } ]", SETS),
            of_listener(
                "address: \"127.0.0.1:0\", trusted-proxies: [ { addresses: [front-doors], require-header: { X-Azure-FDID: [5f5f0000-1111-4222-8333-abcdefabcdef] } } ]",
                SETS,
            ),
        ),
        pair("partner-any-address", of_partner(""), of_partner(", addresses: [203.0.113.9]")),
        pair("partner-unchecked", unchecked(""), unchecked(", check-partner: {}")),
        pair("partners-none", partners("b"), partners("a, b")),
        pair(
            "partner-certificate-never-shown",
            pinned(""),
            pinned(&format!(", {TLS}, client-certificates: {{ mode: optional, ca: ca.pem }}")),
        ),
        pair("cors-any-origin", cors("*"), cors("https://app.contoso.example")),
        pair(
            "admin-exposed",
            of_listener("address: \"127.0.0.1:0\"", "admin: { address: \"0.0.0.0:9901\", anonymous: true }"),
            of_listener("address: \"127.0.0.1:0\"", "admin: { address: \"127.0.0.1:9901\" }"),
        ),
    ]
}

fn exposure() -> Vec<Pair> {
    let forwarded = |server: &str, more: &str| {
        of_route(
            &format!("inbound: [ {TOKEN}{more} ], authorization: keep, upstream: backend"),
            &format!(
                "upstreams: {{ backend: {{ servers: [\"{server}\"] }} }}\nnamed-values: {{ key: {{ value: abc, secret: true }} }}"
            ),
        )
    };
    let secret = ", set-header: { name: X-Key, value: \"{{key}}\" }";
    let answered =
        |header: &str| of_route(&format!("inbound: [ {TOKEN} ], upstream: backend, outbound: [ set-header: {header} ]"), "");
    let graph = |server: &str| {
        of_route(
            &format!(
                "inbound: [ {TOKEN} ], authorization: {{ credential: gateway, scope: https://graph.microsoft.com/.default }}, upstream: backend"
            ),
            &format!(
                "upstreams: {{ backend: {{ servers: [\"{server}\"] }} }}\ncredentials: {{ gateway: {{ managed-identity: {{}} }} }}"
            ),
        )
    };
    let redirect =
        |to: &str| of_route(&format!("anonymous: true, respond: {{ status: 302, headers: {{ Location: \"{to}\" }} }}"), "");
    vec![
        pair(
            "listener-without-tls",
            of_listener("address: \"0.0.0.0:8443\"", ""),
            of_listener("address: \"0.0.0.0:8443\", trusted-proxies: [192.0.2.1]", ""),
        ),
        pair(
            "token-in-query",
            of_policies(&TOKEN.replace("roles: [R]", "roles: [R], query-parameter-name: access_token")),
            of_policies(TOKEN),
        ),
        pair("token-sent-in-clear", forwarded("http://192.0.2.1", ""), forwarded("https://192.0.2.1", "")),
        pair("secret-sent-in-clear", forwarded("http://192.0.2.1", secret), forwarded("https://192.0.2.1", secret)),
        pair(
            "secret-shown-to-caller",
            answered("{ name: X-Api-Key, value: abc }"),
            answered("{ name: X-Served-By, value: gateway }"),
        ),
        pair("credential-leaves-origin", graph("https://api.contoso.example"), graph("https://graph.microsoft.com")),
        pair(
            "redirect-to-internal-host",
            redirect("https://orders.contoso.internal:8443/"),
            redirect("https://orders.contoso.example/"),
        ),
        pair(
            "anonymous-authorization-kept",
            of_route("anonymous: true, authorization: keep, upstream: backend", ""),
            of_route("anonymous: true, upstream: backend", ""),
        ),
    ]
}

fn credentials() -> Vec<Pair> {
    let vault = |how: &str| {
        of_credential(&format!(
            "certificate: {{ key-vault: {{ vault: \"https://contoso.vault.azure.net\", certificate: gateway, identity: pod, use: {how} }} }}"
        ))
    };
    let read = |file: &str| {
        of_route(
            "anonymous: true, upstream: backend, inbound: [ check-header: { name: X-Key, values: [\"{{key}}\"] } ]",
            &format!("named-values: {{ key: {{ file: {file} }} }}"),
        )
    };
    vec![
        pair("client-secret", of_credential("client-secret: \"{{key}}\""), vault("sign")),
        pair("client-secret-in-config", of_credential("client-secret: abc"), of_credential("client-secret: \"{{key}}\"")),
        pair("key-exportable", vault("download"), vault("sign")),
        pair("secret-file-permissions", read("open.txt"), read("own.txt")),
    ]
}

fn without_effect() -> Vec<Pair> {
    let check = "check-header: { name: X-A }";
    let other = "check-header: { name: X-B }";
    let ending = |policies: &str| of_route(&format!("anonymous: true, upstream: backend, inbound: [ {policies} ]"), "");
    let chosen = |condition: &str| {
        ending(&format!(
            "choose: [ {{ when: \"@({condition})\", do: [ {{ {check} }} ] }}, {{ when: \"@(request.method == 'GET')\", do: [ {{ {other} }} ] }} ]"
        ))
    };
    let alternatives = |second: &str| of_policies(&format!("any-of: [ [ {{ {TOKEN} }} ], [ {second} ] ]"));
    let jwt = "validate-jwt: { issuer: idp, audiences: [orders] }";
    let routes = |path: &str| {
        let own = |name: &str, path: &str| format!("{{ name: {name}, match: {{ {path} }}, anonymous: true, upstream: backend }}");
        let all = [own("all", "path: /orders"), own("own", "exact-path: /orders"), own("below", path)];
        config(LISTENER, &all.join(", "), "")
    };
    let affinity = |authorization: &str| {
        of_upstream(
            "servers: [\"http://127.0.0.1:1\"], connection-affinity: per-caller",
            &format!("anonymous: true, authorization: {authorization}, upstream: backend"),
        )
    };
    vec![
        pair(
            "policy-unreachable",
            ending(&format!("return-response: {{ status: 403 }}, {check}")),
            ending(&format!("{check}, return-response: {{ status: 403 }}")),
        ),
        pair("policy-shadowed", ending(&format!("{check}, {check}")), ending(&format!("{check}, {other}"))),
        pair("branch-unreachable", chosen("true"), chosen("request.method == 'POST'")),
        pair(
            "any-of-never-wins",
            alternatives(&format!("{{ {TOKEN} }}, {{ {check} }}")),
            of_route(
                &format!("inbound: [ any-of: [ [ {{ {TOKEN} }} ], [ {{ {jwt} }}, {{ {check} }} ] ] ], upstream: backend"),
                "issuers: { idp: { issuer: https://build.example, keys: { jwks: keys.json } } }",
            ),
        ),
        pair("route-shadowed", routes("path: \"/orders/{order}\""), routes("path: /orders/new")),
        pair(
            "unused",
            of_route("anonymous: true, upstream: backend", "address-sets: { offices: [203.0.113.0/24] }"),
            of_policies(&format!("{TOKEN}, ip-filter: {{ action: allow, addresses: [203.0.113.0/24] }}")),
        ),
        pair(
            "include-matches-nothing",
            of_listener("address: \"127.0.0.1:0\"", "include: [\"absent-*.yaml\"]"),
            of_listener("address: \"127.0.0.1:0\"", "include: [\"empty-*.yaml\"]"),
        ),
        pair(
            "listed-twice",
            config(LISTENER, "{ name: a, match: { path: /a, methods: [GET, GET] }, anonymous: true, upstream: backend }", ""),
            config(LISTENER, "{ name: a, match: { path: /a, methods: [GET, POST] }, anonymous: true, upstream: backend }", ""),
        ),
        pair(
            "upstream-tls-unused",
            of_upstream(
                "servers: [\"http://127.0.0.1:1\"], tls: { server-name: a.example }",
                "anonymous: true, upstream: backend",
            ),
            of_upstream(
                "servers: [\"https://127.0.0.1:1\"], tls: { server-name: a.example }",
                "anonymous: true, upstream: backend",
            ),
        ),
        pair("affinity-unused", affinity("remove"), affinity("keep")),
    ]
}

fn addresses() -> Vec<Pair> {
    vec![
        pair("address-listed-twice", of_set("[192.0.2.1, 192.0.2.1]"), of_set("[192.0.2.1, 192.0.2.2]")),
        pair(
            "addresses-overlap",
            of_set("[192.0.2.0-192.0.2.9, 192.0.2.5-192.0.2.20]"),
            of_set("[192.0.2.0-192.0.2.9, 192.0.2.11-192.0.2.20]"),
        ),
        pair("address-set-empty", of_set("[]"), of_set("[192.0.2.1]")),
        pair("address-set-everything", of_set("[\"::/0\"]"), of_set("[\"2001:db8::/32\"]")),
        pair("address-range-vast", of_set("[10.0.0.0/7]"), of_set("[10.0.0.0/8]")),
        pair(
            "address-expired",
            of_set("[ { address: 192.0.2.1, expires: 2020-01-31 } ]"),
            of_set("[ { address: 192.0.2.1, expires: 2120-01-31 } ]"),
        ),
    ]
}

fn meaning() -> Vec<Pair> {
    let token = |from: &str, to: &str| of_policies(&TOKEN.replace(from, to));
    let claim = |separator: &str| {
        token(
            "roles: [R]",
            &format!(
                "roles: [R], required-claims: [ {{ name: wids, match: any, separator: \"{separator}\", values: [\"a b\"] }} ]"
            ),
        )
    };
    let message =
        |text: &str| of_policies(&format!("{TOKEN}, check-header: {{ name: X-A, failed-check-error-message: \"{text}\" }}"));
    let condition = |text: &str| of_policies(&format!("{TOKEN}, authorize: {{ condition: \"@({text})\" }}"));
    let header = |value: &str| of_policies(&format!("{TOKEN}, set-header: {{ name: X-A, value: \"{value}\" }}"));
    let path = |path: &str| {
        config(LISTENER, &format!("{{ name: a, match: {{ path: {path} }}, anonymous: true, upstream: backend }}"), "")
    };
    let hosts = |hosts: &str| {
        let one = |name: &str, hosts: &str| {
            format!("{{ name: {name}, match: {{ path: /{name}{hosts} }}, anonymous: true, upstream: backend }}")
        };
        config(LISTENER, &format!("{}, {}", one("a", ", hosts: [api.contoso.example]"), one("b", hosts)), "")
    };
    let host = |host: &str| {
        of_upstream(&format!("servers: [\"http://127.0.0.1:1\"], host: {host}"), "anonymous: true, upstream: backend")
    };
    let secured = |listener: &str| {
        config(
            &format!("{{ name: public, address: \"127.0.0.1:0\"{listener} }}"),
            &route("anonymous: true, require-tls: true, upstream: backend"),
            "",
        )
    };
    let windows = |listener: &str| {
        config(
            &format!("{{ name: public, address: \"127.0.0.1:0\", {TLS}{listener} }}"),
            &route("anonymous: true, authorization: keep, upstream: backend"),
            "upstreams: { backend: { servers: [\"http://127.0.0.1:1\"], connection-affinity: per-caller } }",
        )
    };
    let described = |scope: &str| {
        of_route(
            &format!(
                "inbound: [ {TOKEN} ], upstream: backend, protected-resource-metadata: {{ resource: https://api.contoso.example/a, scopes-supported: [{scope}] }}"
            ),
            "",
        )
    };
    let back = |port: u16| {
        config(
            "{ name: public, address: \"127.0.0.1:8443\" }",
            &route("anonymous: true, upstream: backend"),
            &format!("upstreams: {{ backend: {{ servers: [\"http://127.0.0.1:{port}\"] }} }}"),
        )
    };
    vec![
        pair("audience-never-issued", token("api://orders", "\"*\""), token("api://orders", "api://orders")),
        pair("scope-never-issued", token("scopes: [r]", "scopes: [api://orders/r]"), token("scopes: [r]", "scopes: [orders.r]")),
        pair("separator-in-value", claim(" "), claim(",")),
        pair("expression-not-evaluated", message("@(request.path)"), message("Not here.")),
        pair("expression-unmarked", header("token.claims.oid"), header("@(token.claims.oid)")),
        pair("bare-claim", condition("token.claims.admin"), condition("token.claims.admin == true")),
        pair("path-star", path("/a/*"), path("/a")),
        pair("host-named-elsewhere", hosts(""), hosts(", hosts: [api.contoso.example]")),
        pair("host-mistyped", host("preserv"), host("preserve")),
        pair("tls-required-nowhere", secured(""), secured(&format!(", {TLS}"))),
        pair("affinity-over-http2", windows(""), windows(", http2: false")),
        pair("metadata-resource-mismatch", described("api://orders/r"), described("https://api.contoso.example/a/r")),
        pair("upstream-is-gateway", back(8443), back(3000)),
    ]
}

fn operations() -> Vec<Pair> {
    let host = |host: &str| {
        config(
            &format!("{{ name: public, address: \"127.0.0.1:0\", {TLS} }}"),
            &format!("{{ name: a, match: {{ path: /a, hosts: [{host}] }}, anonymous: true, upstream: backend }}"),
            "",
        )
    };
    let partner = |day: &str| of_partner(&format!(", addresses: [203.0.113.9], expires: {day}"));
    let local = "address: \"127.0.0.1:0\"";
    vec![
        pair("host-without-certificate", host("other.contoso.example"), host("gateway.contoso.example")),
        pair(
            "certificate-expiry",
            of_listener(&format!("{local}, tls: {{ certificate: old.pem, private-key: old.key }}"), ""),
            of_listener(&format!("{local}, {TLS}"), ""),
        ),
        pair("partner-expired", partner("2020-01-31"), partner("2120-01-31")),
        pair("partner-expires-soon", partner(&in_days(3)), partner(&in_days(300))),
        pair(
            "quota-local",
            of_policies(&format!("{TOKEN}, quota-by-key: {{ calls: 10, renewal-period: 1h, counter-key: \"@(token.client)\" }}")),
            of_policies(&format!(
                "{TOKEN}, rate-limit-by-key: {{ calls: 10, renewal-period: 1m, counter-key: \"@(token.client)\" }}"
            )),
        ),
        pair(
            "audit-keep-short",
            of_listener(local, "audit: { sinks: [ file: { path: records.jsonl, rotate: { every: 24h }, keep: 30d } ] }"),
            of_listener(local, "audit: { sinks: [ file: { path: records.jsonl, rotate: { every: 24h }, keep: 365d } ] }"),
        ),
        pair(
            "audit-sink-retired",
            of_listener(
                local,
                "audit:\n  sinks: [ log-analytics: { workspace: aaaabbbb-0000-cccc-1111-dddd2222eeee, shared-key: \"{{word}}\", log-type: Entrada } ]\n  \
                 spool: { directory: spool }\nnamed-values: { word: { value: AAAA, secret: true } }",
            ),
            of_listener(
                local,
                "audit: { sinks: [ otlp: { endpoint: \"http://127.0.0.1:4318\" } ], spool: { directory: spool } }",
            ),
        ),
        pair("audit-off", of_listener(local, "audit: { sinks: [] }"), of_listener(local, "audit: { sinks: [ stdout: {} ] }")),
        pair(
            "otlp-exports-nothing",
            of_listener(local, "telemetry: { otlp: { endpoint: \"http://127.0.0.1:4318\" } }"),
            of_listener(local, "telemetry: { otlp: { endpoint: \"http://127.0.0.1:4318\", traces: {} } }"),
        ),
        pair(
            "open-files",
            of_listener(&format!("{local}, limits: {{ connections: 4000000000 }}"), ""),
            of_listener(&format!("{local}, limits: {{ connections: 10 }}"), ""),
        ),
        pair(
            "connections-per-peer",
            of_listener(&format!("{local}, limits: {{ connections: 10, connections-per-peer: 20 }}"), ""),
            of_listener(&format!("{local}, limits: {{ connections: 20, connections-per-peer: 10 }}"), ""),
        ),
        pair(
            "verified-tokens-memory",
            of_listener(local, "verified-tokens: { memory: 1KiB, largest: 1KiB }"),
            of_listener(local, "verified-tokens: { memory: 64MiB, largest: 1KiB }"),
        ),
    ]
}

fn decisions() -> Vec<Pair> {
    let decided = |listener: &str, route: &str, more: &str| {
        let listener = format!("{LISTENER}, {{ name: mesh, {listener} }}");
        config(&listener, &format!("{{ name: a, match: {{ path: /a }}, anonymous: true, decide-only: true{route} }}"), more)
    };
    let near = "address: \"127.0.0.1:0\", decides: { dialect: caddy, peers: [10.0.0.0/24] }";
    let carried = |address: &str| {
        format!("address: \"{address}:0\", decides: {{ dialect: caddy, peers: [10.0.0.0/24], carry-tokens: true }}")
    };
    let outbound = "outbound: [ set-header: { name: X-Content-Type-Options, value: nosniff } ]";
    vec![
        pair("decision-tunnel", decided(near, ", upgrades: [websocket]", ""), decided(near, "", "")),
        pair("decision-outbound", decided(near, "", outbound), decided(near, "", "")),
        pair("decision-tokens-plain", decided(&carried("0.0.0.0"), "", ""), decided(&carried("127.0.0.1"), "", "")),
    ]
}

fn silences() -> Vec<Pair> {
    let unused = "address-sets: { offices: [203.0.113.0/24] }";
    let silenced = |more: &str| of_route("anonymous: true, upstream: backend", &format!("{unused}{more}"));
    let because = |until: &str| silenced(&format!("   # entrada: allow unused {until}because it is used next week"));
    vec![
        pair("silence-unused", silenced("   # entrada: allow path-star because of it"), because("")),
        pair("silence-expired", because("until 2020-01-31 "), because("until 2120-01-31 ")),
        pair("silence-invalid", silenced("   # entrada: allow unused"), because("")),
    ]
}

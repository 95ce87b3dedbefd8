//! Random configs, changes of them, and requests at and beside the values that they compare with; all from one seed, which failures print.

use std::net::IpAddr;

use entrada::unstable::offline::{TokenSpec, TokenSpecCredential, TokenSpecKind};

/// The hosts, paths and methods of configs and requests.
const HOSTS: [&str; 4] = ["api.contoso.example", "any.contoso.example", "partners.fabrikam.example", "another.example"];
const PATTERNS: [&str; 7] = ["/", "/a", "/a/b", "/a/{id}", "/b", "/a/{id}/c", "/b/admin"];
const PATHS: [&str; 11] = ["/", "/a", "/a/", "/a/b", "/a/x1", "/a/b/c", "/a/x1/c", "/b", "/b/admin", "/b/admin/x", "/zzz"];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"];
const AUDIENCES: [&str; 2] = ["api://orders", "api://reports"];
const SCOPES: [&str; 3] = ["Orders.Read", "Orders.Write", "Reports.Read"];
const ROLES: [&str; 3] = ["Orders.Read.All", "Orders.Write.All", "Admin"];
const CLIENTS: [&str; 3] =
    ["11112222-bbbb-3333-cccc-4444dddd5555", "22223333-cccc-4444-dddd-5555eeee6666", "33334444-dddd-4555-8666-7777ffff8888"];
const DEPARTMENTS: [&str; 2] = ["sales", "support"];
const RANGES: [&str; 6] =
    ["203.0.113.0/24", "203.0.113.64/26", "198.51.100.10-198.51.100.40", "192.0.2.7", "2001:db8::/32", "198.51.100.0/24"];
/// The ends of the ranges, and what lies beside them.
const ADDRESSES: [&str; 16] = [
    "203.0.113.0",
    "203.0.112.255",
    "203.0.113.63",
    "203.0.113.64",
    "203.0.113.127",
    "203.0.113.128",
    "203.0.113.255",
    "203.0.114.0",
    "198.51.100.9",
    "198.51.100.10",
    "198.51.100.40",
    "198.51.100.41",
    "192.0.2.7",
    "192.0.2.8",
    "2001:db8::1",
    "2001:db9::1",
];

/// A sequence of numbers that is the same for the same seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    pub(crate) fn one<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }

    /// Returns some of these, at least one.
    fn some(&mut self, all: &[&str]) -> String {
        let first = self.below(all.len());
        let mut list: Vec<&str> =
            (0..all.len()).filter(|index| *index == first || self.chance(3)).map(|index| all[index]).collect();
        list.dedup();
        list.join(", ")
    }
}

/// A config, in parts that can be changed.
#[derive(Clone, Debug)]
pub(crate) struct RandomConfig {
    sets: Vec<String>,
    fragment: String,
    partner: String,
    routes: Vec<RandomRoute>,
    global: Vec<String>,
}

#[derive(Clone, Debug)]
struct RandomRoute {
    matches: String,
    anonymous: bool,
    inbound: Vec<String>,
    upstream: usize,
}

impl RandomConfig {
    /// Makes a config. Not every one can be used: two of its routes may match alike.
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            sets: (0..2).map(|_| random.some(&RANGES)).collect(),
            fragment: gate(random),
            partner: partner(random),
            global: if random.chance(4) { vec![gate(random)] } else { Vec::new() },
            routes: (0..1 + random.below(4)).map(|_| RandomRoute::new(random)).collect(),
        }
    }

    /// Returns the config with one rule changed.
    pub(crate) fn changed(&self, random: &mut Random) -> Self {
        let mut other = self.clone();
        let at = random.below(other.routes.len());
        match random.below(10) {
            0 => other.sets[0] = random.some(&RANGES),
            1 => other.partner = partner(random),
            2 => other.fragment = gate(random),
            3 => other.global = if other.global.is_empty() { vec![gate(random)] } else { Vec::new() },
            4 if other.routes.len() > 1 => drop(other.routes.remove(at)),
            5 => other.routes.push(RandomRoute::new(random)),
            6 => other.routes[at].matches = matches(random),
            7 => other.routes[at].inbound = RandomRoute::new(random).inbound,
            _ => other.routes[at].change(random),
        }
        other
    }

    /// Writes the config. `tenant` is the settings of the tenant, `servers` those of two upstreams, `listener` further ones of the listener.
    pub(crate) fn to_text(&self, tenant: &str, servers: [&str; 2], listener: &str) -> String {
        let mut text = format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\"{listener} }} ]
tenants: {{ contoso: {{ {tenant} }} }}
address-sets: {{ offices: [{}], sites: [{}] }}
fragments: {{ gate: [ {} ] }}
partners: {{ fabrikam: {{ {} }} }}
upstreams: {{ one: {{ servers: [\"{}\"] }}, two: {{ servers: [\"{}\"] }} }}
inbound: [ {} ]
routes:
",
            self.sets[0],
            self.sets[1],
            self.fragment,
            self.partner,
            servers[0],
            servers[1],
            self.global.join(", ")
        );
        for (index, route) in self.routes.iter().enumerate() {
            let anonymous = if route.anonymous { ", anonymous: true" } else { "" };
            text += &format!(
                "  - {{ name: r{index}, match: {{ {} }}{anonymous}, upstream: {}, inbound: [ {} ] }}\n",
                route.matches,
                ["one", "two"][route.upstream],
                route.inbound.join(", ")
            );
        }
        text
    }
}

impl RandomRoute {
    fn new(random: &mut Random) -> Self {
        let anonymous = random.chance(6);
        let mut inbound = Vec::new();
        if random.chance(3) {
            inbound.push(gate(random));
        }
        if !anonymous {
            inbound.push(if random.chance(4) { alternatives(random) } else { token(random) });
            for _ in 0..random.below(3) {
                inbound.push(later(random));
            }
        }
        Self { matches: matches(random), anonymous, inbound, upstream: random.below(2) }
    }

    fn change(&mut self, random: &mut Random) {
        if self.inbound.is_empty() {
            self.inbound.push(gate(random));
            return;
        }
        let at = random.below(self.inbound.len());
        let is_token = self.inbound[at].contains("validate-azure-ad-token");
        match random.below(4) {
            0 if !is_token => drop(self.inbound.remove(at)),
            1 => self.inbound.insert(0, gate(random)),
            2 => self.upstream = 1 - self.upstream,
            _ if is_token => self.inbound[at] = if random.chance(4) { alternatives(random) } else { token(random) },
            _ => self.inbound[at] = gate(random),
        }
    }
}

fn matches(random: &mut Random) -> String {
    let mut text = format!("path: \"{}\"", random.one(&PATTERNS));
    if random.chance(3) {
        text +=
            &format!(", hosts: [{}]", random.one(&["api.contoso.example", "\"*.contoso.example\"", "partners.fabrikam.example"]));
    }
    if random.chance(2) {
        text += &format!(", methods: [{}]", random.some(&METHODS));
    }
    text
}

/// Makes a policy that needs no token.
fn gate(random: &mut Random) -> String {
    let mode = if random.chance(8) { ", mode: report-only" } else { "" };
    match random.below(5) {
        0 | 1 => {
            let action = random.one(&["allow", "allow", "forbid"]);
            let list = if random.chance(2) { random.one(&["offices", "sites"]).to_owned() } else { random.some(&RANGES) };
            format!("{{ ip-filter: {{ action: {action}, addresses: [{list}]{mode} }} }}")
        }
        2 => {
            let values = random.one(&["", ", values: [open]", ", values: [open, ajar], ignore-case: true"]);
            format!("{{ check-header: {{ name: x-gate{values}{mode} }} }}")
        }
        3 => {
            let condition = random.one(&[
                "request.method == \"GET\" || request.method == \"HEAD\"",
                "!request.path.startsWith(\"/b/admin\")",
                "cidr([\"203.0.113.0/24\", \"2001:db8::/32\"], caller.address)",
                "has(request.headers[\"x-gate\"]) && request.headers[\"x-gate\"].startsWith(\"op\")",
                "request.host.endsWith(\"contoso.example\")",
                "!(\"debug\" in request.query) && request.path != \"/a/b\"",
            ]);
            format!("{{ authorize: {{ condition: '@({condition})'{mode} }} }}")
        }
        _ => format!(
            "{{ choose: [ {{ when: '@(request.path.startsWith(\"{}\"))', do: [ {{ check-header: {{ name: x-gate }} }} ] }}, {{ when: '@(request.method == \"{}\")', do: [ {{ ip-filter: {{ action: allow, addresses: [sites] }} }} ] }} ] }}",
            random.one(&["/a", "/a/b", "/b"]),
            random.one(&METHODS)
        ),
    }
}

fn token(random: &mut Random) -> String {
    let mut text = format!("tenant: contoso, audiences: [{}]", random.some(&AUDIENCES));
    match random.below(4) {
        0 => text += &format!(", scopes: [{}]", random.some(&SCOPES)),
        1 => text += &format!(", roles: [{}]", random.some(&ROLES)),
        2 => text += &format!(", scopes: [{}], roles: [{}]", random.some(&SCOPES), random.some(&ROLES)),
        _ => {}
    }
    if random.chance(4) {
        text += &format!(", client-application-ids: [{}]", random.some(&CLIENTS));
    }
    if random.chance(6) {
        text += &format!(", token-kind: {}", random.one(&["app", "user"]));
    }
    if random.chance(6) {
        text += ", client-credential: certificate";
    }
    if random.chance(6) {
        text += &format!(", required-claims: [ {{ name: dept, match: any, values: [{}] }} ]", random.some(&DEPARTMENTS));
    }
    if random.chance(8) {
        text += ", clock-skew: 10m";
    }
    format!("{{ validate-azure-ad-token: {{ {text} }} }}")
}

fn alternatives(random: &mut Random) -> String {
    let (one, other) = (token(random), token(random));
    let gate = if random.chance(2) { format!("{}, ", gate(random)) } else { String::new() };
    format!("{{ any-of: [ [ {one} ], [ {gate}{other} ] ] }}")
}

/// Makes a policy that follows one for tokens.
fn later(random: &mut Random) -> String {
    match random.below(5) {
        0 => {
            let condition = random.one(&[
                "\"Admin\" in token.roles || token.kind == \"user\"",
                "has(token.claims.dept) && token.claims.dept == \"sales\"",
                "token.client == \"22223333-cccc-4444-dddd-5555eeee6666\" ? request.method != \"DELETE\" : true",
                "token.roles.exists(r, r in [\"Orders.Write.All\", \"Admin\"]) || \"Orders.Write\" in token.scopes",
            ]);
            format!("{{ authorize: {{ condition: '@({condition})' }} }}")
        }
        1 => "{ check-partner: {} }".to_owned(),
        2 => "{ set-header: { name: x-department, value: \"@(token.claims.dept)\", when-absent: skip } }".to_owned(),
        3 => "{ include-fragment: gate }".to_owned(),
        _ => gate(random),
    }
}

fn partner(random: &mut Random) -> String {
    let mut text = format!("client-application-ids: [{}], addresses: [{}]", random.some(&CLIENTS), random.some(&RANGES));
    if random.chance(6) {
        text += ", enabled: false";
    }
    if random.chance(4) {
        text += ", client-credential: certificate";
    }
    if random.chance(4) {
        text += ", token-kind: any";
    }
    text
}

/// A request at or beside the values that configs compare with.
#[derive(Clone, Debug)]
pub(crate) struct RandomRequest {
    pub(crate) method: &'static str,
    pub(crate) host: &'static str,
    pub(crate) target: String,
    pub(crate) caller: IpAddr,
    pub(crate) gate: Option<&'static str>,
    pub(crate) token: Option<TokenSpec>,
}

impl RandomRequest {
    pub(crate) fn new(random: &mut Random) -> Self {
        let query = random.one(&["", "", "", "?debug=1"]);
        Self {
            method: random.one(&METHODS),
            host: random.one(&HOSTS),
            target: format!("{}{query}", random.one(&PATHS)),
            caller: random.one(&ADDRESSES).parse().unwrap(),
            gate: [None, Some("open"), Some("OPEN"), Some("shut")][random.below(4)],
            token: (!random.chance(5)).then(|| spec(random)),
        }
    }
}

fn spec(random: &mut Random) -> TokenSpec {
    let app = random.chance(2);
    let list = |random: &mut Random, all: &[&str]| -> Vec<String> {
        if random.chance(4) { Vec::new() } else { random.some(all).split(", ").map(str::to_owned).collect() }
    };
    let scopes = list(random, &SCOPES);
    let mut claims = std::collections::BTreeMap::new();
    if random.chance(2) {
        claims.insert("dept".to_owned(), random.one(&["sales", "support", "legal"]).into());
    }
    TokenSpec {
        kind: Some(if app { TokenSpecKind::App } else { TokenSpecKind::User }),
        client: Some(
            random
                .one(&[
                    "11112222-bbbb-3333-cccc-4444dddd5555",
                    "22223333-cccc-4444-dddd-5555eeee6666",
                    "99990000-9999-4999-8999-000000009999",
                ])
                .to_owned(),
        ),
        audience: Some(random.one(&["api://orders", "api://orders", "api://reports", "api://other"]).to_owned()),
        scopes: (!app && !scopes.is_empty()).then_some(scopes),
        roles: if app || random.chance(4) { list(random, &ROLES) } else { Vec::new() },
        client_credential: app.then(|| [TokenSpecCredential::Certificate, TokenSpecCredential::Secret][random.below(2)]),
        expires: [None, None, None, None, Some("-200s"), Some("-400s"), Some("-700s")][random.below(7)].map(str::to_owned),
        claims,
        wrong_key: random.chance(12),
        ..TokenSpec::default()
    }
}

//! Groups of differences: callers that gain or lose for one cause.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    cell::{Arrival, Cell, Target},
    changes,
    describe::Words,
    region::Spot,
    report::{Callers, Change, ChangedPlace, Condition, Group, Verdict, Witness as Shown},
    side::Side,
    space::AddressSpace,
    walk::{Cube, End, name_of},
    witness::{Mint, Witness, serves},
};
use crate::{
    explain::{in_utc, is_credential, position},
    offline::{Outcome, TokenSpec, TokenSpecCredential, TokenSpecKind},
    settings::Place,
};

/// The most ranges of addresses, paths and the like that a group names.
const MOST: usize = 12;
/// The most kinds of tokens that a group names.
const MOST_TOKENS: usize = 8;

/// The properties that the members of a group share.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    change: Change,
    codes: [String; 2],
    causes: Vec<(String, String)>,
    from: Option<u64>,
}

/// A group that is being collected.
#[derive(Clone, Debug)]
struct Pending {
    routes: BTreeSet<String>,
    methods: BTreeSet<String>,
    hosts: BTreeSet<String>,
    paths: BTreeSet<String>,
    callers: AddressSpace,
    tokens: BTreeSet<String>,
    /// The facts that all members have.
    conditions: BTreeSet<Condition>,
    places: Vec<ChangedPlace>,
    witness: Witness,
    /// How many facts the witness was told by: the fewest are easiest to read.
    facts: usize,
    all_methods: bool,
}

/// The groups that were found.
#[derive(Clone, Debug, Default)]
pub(super) struct Groups(BTreeMap<Key, Pending>);

impl Groups {
    /// Adds a cube that both engines have judged.
    pub(super) fn add(
        &mut self,
        cube: &Cube,
        (cell, arrival): (&Cell, &Arrival),
        (witness, served): (Witness, [bool; 2]),
        words: Words<'_>,
        from: Option<u64>,
    ) {
        let change = if served[1] { Change::Gain } else { Change::Loss };
        let places = causes(cube, cell, arrival, words.sides);
        let key = Key {
            change,
            codes: [0, 1].map(|index| code(&cube.ends[index])),
            causes: places.iter().map(|place| (place.pointer.clone(), place.what.clone())).collect(),
            from,
        };
        // What expires later is the same difference until then.
        if from.is_some()
            && self
                .0
                .keys()
                .any(|known| known.from != from && Key { from: None, ..key.clone() } == Key { from: None, ..known.clone() })
        {
            return;
        }
        let route = name_of(words.sides[usize::from(served[1])], &cell.targets[usize::from(served[1])]);
        let tokens = words.tokens(&cube.region);
        let conditions: BTreeSet<Condition> = words.conditions(&cube.region).into_iter().collect();
        let facts = cube.region.decided.len();
        let pending = self.0.entry(key).or_insert_with(|| Pending {
            routes: BTreeSet::new(),
            methods: BTreeSet::new(),
            hosts: BTreeSet::new(),
            paths: BTreeSet::new(),
            callers: AddressSpace::default(),
            tokens: BTreeSet::new(),
            conditions: conditions.clone(),
            places,
            witness: witness.clone(),
            facts,
            all_methods: false,
        });
        pending.routes.extend(route);
        if cell.preflight {
            pending.methods.insert(format!("OPTIONS before {}", cell.methods.join(", ")));
        } else {
            pending.methods.extend(cell.methods.iter().cloned());
        }
        pending.hosts.extend(cell.hosts.iter().cloned());
        pending.paths.extend(cell.paths.iter().take(MOST).cloned());
        pending.callers = pending.callers.or(&cube.region.callers);
        pending.tokens.extend(tokens);
        pending.conditions = pending.conditions.intersection(&conditions).cloned().collect();
        pending.all_methods |= serves_all(cell, words.sides[usize::from(served[1])], usize::from(served[1]));
        if facts < pending.facts {
            (pending.facts, pending.witness) = (facts, witness);
        }
    }

    /// Makes the groups, each with the steps of both engines.
    pub(super) async fn finish(self, words: Words<'_>, mint: &Mint) -> Vec<Group> {
        let now = words.sides[0].gateway.now();
        let mut groups = Vec::with_capacity(self.0.len());
        for (key, pending) in self.0 {
            let time = key.from.unwrap_or(now);
            if words.sides[0].gateway.now() != time {
                words.sides.iter().for_each(|side| side.set_time(time));
            }
            let Some(judged) = pending.witness.judge(words.sides, mint, true).await else { continue };
            let [before, after] = [0, 1].map(|index| verdict(&judged.outcomes[index], words.sides[index]));
            let count = pending.callers.count();
            let mut tokens: Vec<String> = pending.tokens.iter().take(MOST_TOKENS).cloned().collect();
            if pending.tokens.len() > MOST_TOKENS {
                tokens.push(format!("and {} more kinds", pending.tokens.len() - MOST_TOKENS));
            }
            groups.push(Group {
                change: key.change,
                routes: pending.routes.into_iter().collect(),
                methods: if pending.all_methods { Vec::new() } else { pending.methods.into_iter().collect() },
                hosts: pending.hosts.into_iter().take(MOST).collect(),
                paths: pending.paths.into_iter().take(MOST).collect(),
                callers: Callers { addresses: pending.callers.in_words(MOST), count: u64::try_from(count).unwrap_or(u64::MAX) },
                tokens,
                condition: pending.conditions.into_iter().collect(),
                from: key.from.map(in_utc),
                before,
                after,
                places: pending.places,
                witness: shown(&pending.witness, words),
                space: pending.callers,
            });
        }
        words.sides.iter().for_each(|side| side.set_time(now));
        groups
    }
}

/// Returns whether the cell has all methods that its route serves.
fn serves_all(cell: &Cell, side: &Side, index: usize) -> bool {
    let Target::Route(route) = cell.targets[index] else { return false };
    let Some(config) = side.document.config.routes.get(route) else { return false };
    // Those that a route names are told one by one.
    let served = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    config.matches.methods.is_empty()
        && !cell.preflight
        && served.iter().all(|method| cell.methods.iter().any(|other| other == method))
}

fn code(end: &End) -> String {
    match end {
        End::Refused(refused) => refused.code.clone(),
        End::Answered { status, .. } => status.to_string(),
        End::Sent { .. } => String::new(),
    }
}

/// Returns the settings by which the configs differ here: those at the entry that refuses, if they are among them.
fn causes(cube: &Cube, cell: &Cell, arrival: &Arrival, sides: [&Side; 2]) -> Vec<ChangedPlace> {
    let refusing = cube.ends.iter().enumerate().find_map(|(index, end)| match end {
        End::Refused(refused) => Some((index, &refused.place)),
        _ => None,
    });
    if let ([Target::Route(old), Target::Route(new)], Some(refusing)) = (&cell.targets, refusing) {
        let at_entry = changes::of_entry(sides, [*old, *new], refusing);
        if !at_entry.is_empty() {
            return at_entry;
        }
    }
    let all = changes::between(sides, &cell.targets);
    if all.is_empty() && arrival.callers[0] != arrival.callers[1] {
        return vec![trust(sides, arrival)];
    }
    all
}

/// Tells that a listener trusts other proxies than before.
fn trust(sides: [&Side; 2], arrival: &Arrival) -> ChangedPlace {
    let listeners = &sides[1].document.config.listeners;
    let index = listeners.iter().position(|listener| listener.name == arrival.listeners[1]).unwrap_or(0);
    let place = Place::root().key("listeners").index(index).key("name");
    let proxy = arrival.proxy.map(|proxy| proxy.to_string()).unwrap_or_default();
    let what = format!("the listener {} sees another caller behind {proxy}", arrival.listeners[1]);
    ChangedPlace { config: "new", place: position(&sides[1].document, &place), pointer: place.pointer().to_owned(), what }
}

fn verdict(outcome: &Outcome, side: &Side) -> Verdict {
    let served = serves(outcome);
    let place = outcome.place.as_ref().or_else(|| {
        let decided = outcome.policy.as_deref()?;
        outcome.steps.iter().find(|step| &*step.at == decided)?.place.as_ref()
    });
    let sent = outcome.upstream.as_ref().map(|sent| sent.upstream.to_string());
    Verdict {
        verdict: outcome.verdict.as_str(),
        code: outcome.code.clone(),
        at: outcome.policy.as_deref().map(|at| {
            match outcome.place.as_ref().and_then(|place| changes::policy_name(side, place)) {
                Some(name) if !at.ends_with(name) => format!("{at} {name}"),
                _ => at.to_owned(),
            }
        }),
        place: place.and_then(|place| position(&side.document, place)),
        to: served.then(|| sent.unwrap_or_else(|| format!("an answer with {}", outcome.status.as_u16()))),
    }
}

/// Writes a witness so that it can be sent again, without secrets.
fn shown(witness: &Witness, words: Words<'_>) -> Shown {
    let value = |name: &str, value: &str| {
        if words.hides(value) || is_credential(name) { "***".to_owned() } else { value.to_owned() }
    };
    let mut headers: Vec<(String, String)> =
        witness.headers.iter().map(|(name, text)| (name.clone(), value(name, text))).collect();
    headers.extend(witness.arrival.fields.iter().map(|(name, text)| (name.clone(), value(name, text))));
    let mut url = witness.url.clone();
    for hidden in url::form_urlencoded::parse(witness.url.split_once('?').map_or("", |(_, query)| query).as_bytes()) {
        if words.hides(&hidden.1) {
            url = url.replace(&*hidden.1, "***");
        }
    }
    let mut command = format!("curl -X {} '{url}'", witness.method);
    for (name, value) in &headers {
        command.push_str(&format!(" -H '{name}: {}'", value.replace('\'', "'\\''")));
    }
    let mut specs = Vec::new();
    for (spot, spec, _) in &witness.tokens {
        specs.push(json!({ "in": spot.to_string(), "token": spec_value(spec) }));
        match spot {
            Spot::Header(name) if name == "authorization" => command.push_str(" -H \"Authorization: Bearer $TOKEN\""),
            Spot::Header(name) => command.push_str(&format!(" -H \"{name}: $TOKEN\"")),
            Spot::Query(_) => {}
        }
    }
    let request = json!({
        "method": witness.method,
        "url": url,
        "from": witness.arrival.proxy.unwrap_or(witness.caller).to_string(),
        "caller": witness.caller.to_string(),
        "listener": witness.arrival.listeners[1],
        "headers": headers.iter().map(|(name, value)| json!([name, value])).collect::<Vec<_>>(),
    });
    Shown { request, token_spec: specs, curl: command }
}

/// Writes the description of a token as it is read.
pub(super) fn spec_value(spec: &TokenSpec) -> Value {
    let mut value = serde_json::Map::new();
    let mut put = |key: &str, text: Option<Value>| {
        if let Some(text) = text {
            value.insert(key.to_owned(), text);
        }
    };
    put("kind", spec.kind.map(|kind| json!(if kind == TokenSpecKind::App { "app" } else { "user" })));
    put("tenant", spec.tenant.as_ref().map(|text| json!(text)));
    put("issuer", spec.issuer.as_ref().map(|text| json!(text)));
    put("client", spec.client.as_ref().map(|text| json!(text)));
    put("audience", spec.audience.as_ref().map(|text| json!(text)));
    put("scopes", spec.scopes.as_ref().map(|list| json!(list)));
    put("roles", (!spec.roles.is_empty()).then(|| json!(spec.roles)));
    put(
        "client-credential",
        spec.client_credential.map(|credential| {
            json!(match credential {
                TokenSpecCredential::None => "none",
                TokenSpecCredential::Secret => "secret",
                TokenSpecCredential::Certificate => "certificate",
            })
        }),
    );
    put("expires", spec.expires.as_ref().map(|text| json!(text)));
    put("claims", (!spec.claims.is_empty()).then(|| json!(spec.claims)));
    put("wrong-key", spec.wrong_key.then_some(Value::Bool(true)));
    Value::Object(value)
}

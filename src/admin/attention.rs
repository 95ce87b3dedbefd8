//! Notices that need an operator's attention, gathered from everything that the console shows.

use serde::Serialize;

use super::{Admin, shown::ShownConfig};
use crate::{
    credentials::CredentialStatus,
    entra::KeySetStatus,
    gateway::{
        candidate::{CandidateStatus, DifferenceKind},
        runtime::Runtime,
    },
    partner::PartnerState,
    telemetry::Counters,
    upstream::Upstream,
};

/// The days before the end of a certificate from which on it is told.
const WARNED_AHEAD: i64 = 30;

/// The weight of a matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Requests suffer, or will within the hour.
    Bad,
    /// Somebody should look at it in time.
    Warn,
    /// It is worth knowing.
    Note,
}

/// A matter.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Matter {
    state: State,
    /// One sentence without a full stop.
    what: String,
    /// The view that has more: `decisions`, `routes`, `identity`, `partners`, `upstreams` or `config`.
    view: &'static str,
}

impl Matter {
    fn new(state: State, view: &'static str, what: impl Into<String>) -> Self {
        Self { state, what: what.into(), view }
    }

    fn bad(view: &'static str, what: impl Into<String>) -> Self {
        Self::new(State::Bad, view, what)
    }

    fn warn(view: &'static str, what: impl Into<String>) -> Self {
        Self::new(State::Warn, view, what)
    }
}

impl Admin {
    /// Returns what needs attention, the worst first.
    pub(super) fn attention(&self, runtime: &Runtime, shown: &ShownConfig) -> Vec<Matter> {
        let now = runtime.clock.unix_seconds();
        let mut matters: Vec<_> =
            self.waiting_for().into_iter().map(|what| Matter::bad("identity", format!("not ready: waits for {what}"))).collect();
        if let Some(error) = self.lifecycle.last_reload_error() {
            matters.push(Matter::bad("config", format!("the last config was not taken: {error}")));
        }
        let lost = self.audit.lost();
        if lost > 0 {
            matters.push(Matter::bad("config", format!("{lost} audit records were lost, since a sink did not take them")));
        }
        matters.extend(self.lifecycle.connections().warning().map(|warning| Matter::warn("config", warning)));
        matters.extend(runtime.tenants.status(&runtime.clock).iter().filter_map(keys));
        for credential in runtime.credentials.status() {
            of_credential(&credential, now, &mut matters);
        }
        for secret in runtime.credentials.secrets(now) {
            if let Some(error) = &secret.last_error {
                let state = if secret.ready { State::Warn } else { State::Bad };
                let what = format!("the named value {} cannot be read from its vault: {error}", secret.name);
                matters.push(Matter::new(state, "identity", what));
            }
        }
        for (certificate, complaint) in runtime.listener_certificates(now) {
            if let Some(complaint) = complaint {
                let state = if certificate.days_left < 0 { State::Bad } else { State::Warn };
                matters.push(Matter::new(state, "identity", format!("listener {}: {complaint}", certificate.listener)));
            }
        }
        runtime.upstreams.iter().for_each(|upstream| of_upstream(upstream, now, &mut matters));
        of_partners(runtime, now, &mut matters);
        of_config(runtime, shown, &mut matters);
        if let Some(candidates) = &self.candidates {
            of_candidate(&candidates.status(), &mut matters);
        }
        matters.sort_by_key(|matter| matter.state);
        matters
    }
}

fn keys(keys: &KeySetStatus) -> Option<Matter> {
    // Before the first fetch has ended nothing is wrong yet; readiness waits for it.
    if !keys.tried || keys.error.is_none() && keys.serves {
        return None;
    }
    let error = keys.error.as_deref().unwrap_or("they are too old");
    let state = if keys.serves { State::Warn } else { State::Bad };
    Some(Matter::new(state, "identity", format!("signing keys of {}: {error}", keys.url)))
}

fn of_credential(credential: &CredentialStatus, now: u64, matters: &mut Vec<Matter>) {
    let name = &credential.name;
    for token in &credential.tokens {
        // A failure before the token that is there now is over.
        let Some(error) = &token.last_error else { continue };
        let valid = token.expires_at.is_some_and(|end| end > now);
        if !valid || token.retry_in.is_some() {
            let state = if valid { State::Warn } else { State::Bad };
            let code = error.code.as_deref().map(|code| format!("{code}: ")).unwrap_or_default();
            let what = error.cure.as_deref().or(error.meaning).unwrap_or(&error.message);
            matters.push(Matter::new(
                state,
                "identity",
                format!("credential {name} gets no token for {}: {code}{what}", token.scope),
            ));
        }
    }
    for days in credential.certificates.iter().filter_map(|certificate| certificate.days_left) {
        matters.extend(expiry(days, &format!("the certificate of credential {name}")));
    }
    for note in credential.vault_certificates.iter().filter_map(|certificate| certificate.note.as_deref()) {
        matters.push(Matter::warn("identity", format!("credential {name}: {note}")));
    }
}

fn expiry(days: i64, what: &str) -> Option<Matter> {
    match days {
        ..0 => Some(Matter::bad("identity", format!("{what} has expired"))),
        days @ 0..WARNED_AHEAD => Some(Matter::warn("identity", format!("{what} expires in {days} days"))),
        _ => None,
    }
}

fn of_upstream(upstream: &Upstream, now: u64, matters: &mut Vec<Matter>) {
    let (name, states): (_, Vec<_>) = (upstream.name(), upstream.states().collect());
    let out: Vec<_> = states.iter().filter(|server| !server.healthy || server.ejected).collect();
    if let Some(first) = out.first() {
        let cause = first.cause.as_deref().map(|cause| format!(": {cause}")).unwrap_or_default();
        let what = match (out.len(), states.len()) {
            (1, 1) => format!("upstream {name}: its only server {} is out of service{cause}", first.name),
            (out, all) if out == all => format!("upstream {name}: all {all} servers are out of service{cause}"),
            (1, all) => format!("upstream {name}: {}, one of {all} servers, is out of service{cause}", first.name),
            (out, all) => format!("upstream {name}: {out} of {all} servers are out of service{cause}"),
        };
        let state = if out.len() == states.len() { State::Bad } else { State::Warn };
        matters.push(Matter::new(state, "upstreams", what));
    }
    if let Some(certificate) = upstream.own_certificate_status(now) {
        matters.extend(expiry(certificate.days_left, &format!("the certificate towards the upstream {name}")));
    }
}

fn of_partners(runtime: &Runtime, now: u64, matters: &mut Vec<Matter>) {
    for partner in runtime.partners.iter() {
        let (name, day) = (&partner.name, partner.expires.map(|day| day.to_string()).unwrap_or_default());
        match partner.state(now) {
            PartnerState::Expiring => {
                matters.push(Matter::warn("partners", format!("the access of partner {name} ends on {day}")))
            }
            PartnerState::Expired => {
                matters.push(Matter::warn("partners", format!("the access of partner {name} has ended on {day}")))
            }
            PartnerState::Active | PartnerState::Disabled => {}
        }
    }
}

/// A faulty candidate judges nothing, so that nobody would learn by it. Callers whom it would newly admit concern everybody.
fn of_candidate(status: &CandidateStatus, matters: &mut Vec<Matter>) {
    if let Some(fault) = &status.fault {
        matters.push(Matter::warn("config", format!("the candidate config cannot be used, and judges nothing: {fault}")));
    }
    let Some(candidate) = &status.current else { return };
    let total = |kind| candidate.differences(kind).iter().map(|difference| difference.count).sum::<u64>();
    let requests = |count: u64| if count == 1 { "1 request".to_owned() } else { format!("{count} requests") };
    let were = |count: u64| if count == 1 { "was" } else { "were" };
    let (gains, losses) = (total(DifferenceKind::Gain), total(DifferenceKind::Loss));
    if gains > 0 {
        let what = format!("the candidate config would have admitted {} that {} refused", requests(gains), were(gains));
        matters.push(Matter::warn("config", what));
    }
    if losses > 0 {
        let what = format!("the candidate config would have refused {} that {} admitted", requests(losses), were(losses));
        matters.push(Matter::new(State::Note, "config", what));
    }
}

fn of_config(runtime: &Runtime, shown: &ShownConfig, matters: &mut Vec<Matter>) {
    match shown.warnings.len() {
        0 => {}
        1 => matters.push(Matter::warn("config", "the config has a warning")),
        several => matters.push(Matter::warn("config", format!("the config has {several} warnings"))),
    }
    let (mut refusals, mut routes) = (0, 0);
    for route in &runtime.routes {
        let count: u64 = Counters::would_deny(&route.counters).iter().map(|counted| counted.count).sum();
        refusals += count;
        routes += u64::from(count > 0);
    }
    if refusals > 0 {
        let plural = if routes == 1 { "" } else { "s" };
        let what = format!("report-only policies of {routes} route{plural} would have refused {refusals} times");
        matters.push(Matter::new(State::Note, "routes", what));
    }
}

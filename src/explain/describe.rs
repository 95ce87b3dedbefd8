//! The steps of a decision in words: what an entry looked at, wanted and found, from its own settings.

use super::{
    Explained, StepFacts,
    addresses::AddressList,
    entry::{policy_at, policy_name},
    operands::operands,
    position, token_facts,
};
use crate::{
    address::AddressEntryConfig,
    caller::TrustedProxyConfig,
    inbound::{
        PolicyConfig,
        check_header::CheckHeaderConfig,
        ip_filter::{Action, IpFilterConfig, Of},
        settings::Subject,
    },
    offline::CallerFacts,
    refusal::{
        Reason,
        trace::{Step, Verdict},
    },
    settings::HeaderText,
};

/// The number of ranges or values that are listed.
const MOST: usize = 8;

/// Describes one step.
pub(super) fn step(explained: Explained<'_>, step: &Step) -> StepFacts {
    let refused = match step.verdict {
        Verdict::Refused(reason) | Verdict::WouldRefuse(reason) => Some(reason),
        Verdict::Passed | Verdict::Answered => None,
    };
    let mut facts = StepFacts {
        at: step.at.to_string(),
        policy: policy_name(&step.at).to_owned(),
        place: step.place.as_ref().and_then(|place| position(explained.document, place)),
        outcome: match step.verdict {
            Verdict::Passed => "passed",
            Verdict::Refused(_) => "refused",
            Verdict::WouldRefuse(_) => "would-refuse",
            Verdict::Answered => "answered",
        },
        reason: step.detail.to_string(),
        code: refused.map(Reason::code),
        would_deny: matches!(step.verdict, Verdict::WouldRefuse(_)),
        duration_us: super::microseconds(step.duration),
        ..StepFacts::default()
    };
    let policy = step.place.as_ref().and_then(|place| policy_at(&explained.document.config, place));
    match policy.filter(|policy| policy.name() == facts.policy) {
        Some(policy) => entry(explained, policy, refused, &mut facts),
        None if facts.policy.starts_with("any-of[") => "one of several lists".clone_into(&mut facts.looked_at),
        None if step.at.starts_with("outbound[") || step.at.starts_with("on-error[") => {
            on_answer(&facts.policy).clone_into(&mut facts.looked_at);
        }
        None if step.at.contains("identity-headers.") => "the validated token".clone_into(&mut facts.looked_at),
        None => {}
    }
    facts
}

/// Returns the part of the answer that a policy on it is about.
fn on_answer(policy: &str) -> &'static str {
    match policy {
        "set-header" => "the header fields of the answer",
        "set-status" => "the status of the answer",
        "set-body" => "the body of the answer",
        "return-response" => "the answer as a whole",
        "choose" => "the conditions of its branches",
        "set-variable" => "the variables",
        _ => "",
    }
}

fn entry(explained: Explained<'_>, policy: &PolicyConfig, refused: Option<Reason>, facts: &mut StepFacts) {
    match policy {
        PolicyConfig::IpFilter(filter) => addresses(explained, filter, facts),
        PolicyConfig::ValidateAzureAdToken(_) | PolicyConfig::ValidateJwt(_) => {
            token_facts::describe(explained, policy, refused, facts);
        }
        PolicyConfig::CheckHeader(check) => header(explained, check, facts),
        PolicyConfig::Authorize(config) => condition(explained, &config.condition, facts),
        PolicyConfig::Choose(branches) => {
            "the conditions of its branches".clone_into(&mut facts.looked_at);
            if refused.is_some() {
                branches.iter().filter_map(|branch| branch.when.as_deref()).for_each(|when| condition(explained, when, facts));
            }
        }
        PolicyConfig::AnyOf(lists) => {
            facts.looked_at = format!("{} lists, of which one has to pass", lists.len());
        }
        PolicyConfig::CheckPartner(check) => partner(explained, check.partners.as_deref(), refused, facts),
        PolicyConfig::SetHeader(config) => {
            facts.looked_at = format!("the header {}", config.name);
            let values = config.value.iter().chain(&config.values);
            let plain = |value: &HeaderText| value.plain().filter(|_| !is_credential(&config.name)).map(str::to_owned);
            facts.wanted = values.map(|value| plain(value).unwrap_or_else(|| "***".to_owned())).collect();
            facts.found = match refused {
                None => sent_values(explained, &config.name),
                Some(_) => facts.wanted.iter().flat_map(|value| absent_operands(explained, value)).collect(),
            };
        }
        PolicyConfig::SetBackendService(config) => {
            "the upstream".clone_into(&mut facts.looked_at);
            facts.wanted = config.upstreams().map(str::to_owned).collect();
            facts.found = match refused {
                None => explained.outcome.upstream.iter().map(|sent| sent.upstream.to_string()).collect(),
                Some(_) => absent_operands(explained, &config.upstream),
            };
        }
        PolicyConfig::ValidateApiKey(check) => {
            partner(explained, check.partners.as_deref(), refused, facts);
            if refused == Some(Reason::ApiKeyMissing) || refused == Some(Reason::ApiKeyInvalid) {
                "the API key".clone_into(&mut facts.looked_at);
                facts.found = Vec::new();
            }
        }
        PolicyConfig::RateLimitByKey(config) => {
            facts.looked_at = format!("the calls of {}", config.counter_key);
            facts.wanted = vec![format!("at most {} in {}", config.calls, span(config.renewal_period.0.as_secs()))];
            facts.found = vec!["none counted before this one".to_owned()];
        }
        PolicyConfig::QuotaByKey(config) => {
            facts.looked_at = format!("the quota of {}", config.counter_key);
            facts.wanted = config
                .calls
                .iter()
                .map(|calls| format!("at most {calls} in {}", span(config.renewal_period.0.as_secs())))
                .collect();
            facts.found = vec!["none counted before this one".to_owned()];
        }
        PolicyConfig::LimitConcurrency(config) => {
            facts.looked_at = format!("the calls under way of {}", config.key);
            facts.wanted = vec![format!("at most {}", config.max_count)];
        }
        PolicyConfig::ValidateClientCertificate(_) => {
            "the client's certificate".clone_into(&mut facts.looked_at);
            facts.found = match &explained.outcome.certificate {
                Some(thumbprint) => vec![format!("SHA-256 {thumbprint}")],
                None if explained.request.certificates.is_empty() => vec!["none shown".to_owned()],
                None => vec!["one that is not accepted".to_owned()],
            };
        }
        PolicyConfig::Cors(_) => {
            "the page's origin".clone_into(&mut facts.looked_at);
            facts.found = header_values(explained, "origin");
        }
        other => {
            let Subject { looked_at, wanted } = other.settings().map(|settings| settings.subject()).unwrap_or_default();
            if refused.is_some() {
                facts.found = wanted.iter().flat_map(|value| absent_operands(explained, value)).collect();
            }
            (facts.looked_at, facts.wanted) = (looked_at, wanted);
        }
    }
}

fn addresses(explained: Explained<'_>, filter: &IpFilterConfig, facts: &mut StepFacts) {
    let (entries, action) = (filter.addresses.as_slice(), filter.action);
    let list = AddressList::of(entries, explained.gateway.runtime());
    let judged = |caller: &CallerFacts| if filter.of == Of::Peer { caller.peer } else { caller.address };
    let caller = explained.outcome.caller.as_ref().map_or(explained.request.peer, judged);
    let word = if action == Action::Allow { "allow" } else { "forbid" };
    let names: Vec<_> = entries.iter().take(MOST).map(AddressEntryConfig::text).collect();
    facts.looked_at = format!("{word} {}", names.join(", "));
    facts.wanted = match action {
        Action::Allow => list.in_words(MOST),
        Action::Forbid => vec![format!("none of {} ranges", list.len())],
    };
    facts.found = vec![caller.to_string()];
    facts.reason = match (list.holder(caller), list.nearest(caller)) {
        (Some(holder), _) => format!("in {holder}"),
        (None, Some((_, nearest))) if action == Action::Allow => format!("outside; {nearest}"),
        (None, _) => format!("not among its {} ranges", list.len()),
    };
}

fn header(explained: Explained<'_>, check: &CheckHeaderConfig, facts: &mut StepFacts) {
    let secret = check.values.iter().any(|value| value.names_secret());
    facts.looked_at = format!("the header {}", check.name);
    facts.wanted = match check.values.as_slice() {
        [] => vec!["one value".to_owned()],
        values => values.iter().take(MOST).map(|value| value.plain().unwrap_or("***").to_owned()).collect(),
    };
    facts.found = header_values(explained, &check.name);
    if secret {
        facts.found.iter_mut().filter(|value| *value != "absent").for_each(|value| "***".clone_into(value));
    }
}

/// Returns the values of a header field of the request; those that look like credentials are not shown.
fn header_values(explained: Explained<'_>, name: &str) -> Vec<String> {
    let hidden = is_credential(name);
    let text = |value: &[u8]| if hidden { "***".to_owned() } else { printable(&String::from_utf8_lossy(value)) };
    let values: Vec<_> = explained.request.values(name).map(text).collect();
    if values.is_empty() { vec!["absent".to_owned()] } else { values }
}

/// Returns the values of a header field that would go upstream.
fn sent_values(explained: Explained<'_>, name: &str) -> Vec<String> {
    let sent = explained.outcome.upstream.as_ref().map(|sent| &sent.headers);
    let values = sent.into_iter().flat_map(|headers| headers.get_all(name));
    values.map(super::upstream::shown).collect()
}

fn condition(explained: Explained<'_>, condition: &str, facts: &mut StepFacts) {
    if facts.looked_at.is_empty() {
        condition.clone_into(&mut facts.looked_at);
    }
    facts.wanted.push(condition.to_owned());
    for operand in operands(condition, explained.outcome) {
        facts.found.push(format!("{} is {}", operand.path, operand.value.as_deref().map_or("absent".to_owned(), printable)));
    }
}

fn absent_operands(explained: Explained<'_>, value: &str) -> Vec<String> {
    let operands = operands(value, explained.outcome).into_iter();
    operands.filter(|operand| operand.value.is_none()).map(|operand| format!("{} is absent", operand.path)).collect()
}

fn partner(explained: Explained<'_>, only: Option<&[String]>, refused: Option<Reason>, facts: &mut StepFacts) {
    let (outcome, config) = (explained.outcome, &explained.document.config);
    "the partner".clone_into(&mut facts.looked_at);
    let partner = outcome.partner.as_ref().and_then(|name| config.partners.get_key_value(name));
    let client = outcome.token.as_ref().and_then(|token| token.client.as_deref()).unwrap_or("absent");
    match (refused, partner) {
        (Some(Reason::PartnerAddressNotAllowed), Some((_, partner))) => {
            let list = AddressList::of(partner.addresses.as_deref().unwrap_or_default(), explained.gateway.runtime());
            let caller = outcome.caller.as_ref().map_or(explained.request.peer, |caller| caller.address);
            facts.wanted = list.in_words(MOST);
            facts.found = vec![caller.to_string()];
        }
        (Some(Reason::PartnerDisabled), Some((name, _))) => {
            facts.wanted = vec!["enabled: true".to_owned()];
            facts.found = vec![format!("partners.{name} is disabled")];
        }
        (Some(Reason::PartnerCredentialTooWeak), Some(_)) => {
            facts.wanted = vec!["a certificate".to_owned()];
            let kind = outcome.token.as_ref().and_then(|token| token.credential_kind);
            facts.found = vec![kind.map_or("unknown", |kind| kind.as_str()).to_owned()];
        }
        (Some(_), _) => {
            let names = only.map_or_else(|| config.partners.keys().cloned().collect(), <[String]>::to_vec);
            facts.wanted = vec![format!("one of the partners {}", names.join(", "))];
            facts.found = vec![format!("the application {client}")];
        }
        (None, Some((name, _))) => facts.found = vec![name.clone()],
        (None, None) => {}
    }
}

/// Returns an entry of `trusted-proxies` as written.
pub(super) fn trusted_proxy(entry: &TrustedProxyConfig) -> String {
    match entry {
        TrustedProxyConfig::Text(text) => text.clone(),
        TrustedProxyConfig::Noted(noted) => noted.address.clone(),
        TrustedProxyConfig::Group(group) => {
            let names: Vec<_> = group.addresses.iter().map(AddressEntryConfig::text).collect();
            let fields: Vec<_> = group.require_header.keys().map(String::as_str).collect();
            let with = if fields.is_empty() { String::new() } else { format!(" with {}", fields.join(", ")) };
            format!("{}{with}", names.join(", "))
        }
    }
}

/// Returns whether a header field usually holds a credential, which is not shown.
pub(crate) fn is_credential(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        &*name,
        "authorization" | "proxy-authorization" | "cookie" | "set-cookie" | "x-api-key" | "ocp-apim-subscription-key"
    ) || ["token", "secret", "password", "apikey", "api-key", "authorization", "assertion"].iter().any(|word| name.contains(word))
}

/// Makes a text of the request safe for a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

/// Writes a number of seconds with its unit.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

//! Candidates for the fact that turns a refusal: from the constants of the entry that refused.
//!
//! Only facts of the request are changed, never a rule: an explanation does not suggest to widen one.

use serde_json::Value;

use super::{
    addresses::AddressList,
    entry::policy_at,
    operands,
    token::FoundPlace,
    token_candidates::{self, Entry},
    variant::{Change, Variant},
};
use crate::{
    address::AddressEntryConfig,
    config::{Config, Document},
    inbound::{
        PolicyConfig,
        ip_filter::{Action, Of},
    },
    offline::{OfflineGateway, Outcome},
    partner::PartnerConfig,
    refusal::Reason,
};

/// The number of candidates of one kind.
pub(super) const MOST: usize = 12;

/// A changed fact that may turn the verdict.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The fact: `caller`, `roles`, `token`.
    pub(crate) name: String,
    /// Its value in the request.
    pub(crate) from: String,
    /// Its new value.
    pub(crate) to: String,
    /// The changes that make it so.
    pub(crate) change: Change,
    /// The one who can change it.
    pub(crate) who: String,
}

impl Candidate {
    pub(super) fn new(
        name: impl Into<String>,
        from: impl Into<String>,
        to: impl Into<String>,
        change: Change,
        who: impl Into<String>,
    ) -> Self {
        Self { name: name.into(), from: from.into(), to: to.into(), change, who: who.into() }
    }
}

/// The refusal for which candidates are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused<'a> {
    pub(crate) document: &'a Document,
    pub(crate) gateway: &'a OfflineGateway,
    pub(crate) variant: &'a Variant,
    pub(crate) outcome: &'a Outcome,
}

impl<'a> Refused<'a> {
    pub(super) fn config(&self) -> &'a Config {
        &self.document.config
    }

    /// Returns the settings of the entry that refused.
    pub(super) fn policy(&self) -> Option<&'a PolicyConfig> {
        policy_at(self.config(), self.outcome.place.as_ref()?)
    }

    /// Returns the caller's address.
    fn caller(&self) -> std::net::IpAddr {
        self.outcome.caller.as_ref().map_or(self.variant.request().peer, |caller| caller.address)
    }

    /// Returns the candidates, the most likely first.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        let Some(reason) = self.outcome.reason else { return Vec::new() };
        let mut found = match reason {
            Reason::CallerAddressNotAllowed => self.addresses(),
            Reason::NoRoute => self.routes(),
            Reason::MethodNotAllowed => self.methods(),
            Reason::RequestTargetInvalid => self.plain_paths(),
            Reason::TlsRequired => self.tls(),
            Reason::CallerAddressUnparsable => self.forwarding_fields(),
            Reason::HeaderCheckFailed => self.checked_header(),
            Reason::ApiKeyMissing | Reason::ApiKeyInvalid => self.api_keys(),
            Reason::PartnerAddressNotAllowed
            | Reason::PartnerDisabled
            | Reason::PartnerExpired
            | Reason::PartnerUnknown
            | Reason::PartnerCredentialTooWeak
            | Reason::GrantTypeNotAllowed
            | Reason::ScopeNotAllowed => self.partner(reason),
            _ => Vec::new(),
        };
        found.extend(token_candidates::of(self, reason));
        found.extend(operands::candidates(self, reason));
        found
    }

    /// Returns a policy for tokens that runs before or at the entry that refused: the last one that the trace names.
    pub(super) fn token_entry(&self) -> Option<Entry<'a>> {
        if let Some(entry) = self.policy().and_then(Entry::of) {
            return Some(entry);
        }
        let steps = self.outcome.steps.iter().rev().filter_map(|step| step.place.as_ref());
        steps.filter_map(|place| policy_at(self.config(), place)).find_map(Entry::of)
    }

    fn addresses(&self) -> Vec<Candidate> {
        let Some(PolicyConfig::IpFilter(filter)) = self.policy() else { return Vec::new() };
        // Who the last hop is, a caller does not choose.
        if filter.of == Of::Peer {
            return Vec::new();
        }
        let (caller, list) = (self.caller(), AddressList::of(&filter.addresses, self.gateway.runtime()));
        match filter.action {
            Action::Allow => self.listed_addresses(&filter.addresses, "the caller, from an address that is listed"),
            Action::Forbid => {
                let outside = list.nearest_outside(caller).into_iter();
                outside.map(|to| self.with_caller(to, "the caller, from an address that is not listed")).collect()
            }
        }
    }

    fn listed_addresses(&self, entries: &'a [AddressEntryConfig], who: &str) -> Vec<Candidate> {
        let list = AddressList::of(entries, self.gateway.runtime());
        let nearest = list.nearest(self.caller()).map(|(address, _)| address);
        // One from each entry besides, since other filters may refuse the nearest.
        let others = entries.iter().filter_map(|entry| {
            let one = AddressList::of(std::slice::from_ref(entry), self.gateway.runtime());
            one.nearest(self.caller()).map(|(address, _)| address)
        });
        let mut addresses: Vec<_> = nearest.into_iter().chain(others.take(MOST)).collect();
        addresses.dedup();
        let keepers = self.keepers(list.sets());
        let who = if keepers.is_empty() { who.to_owned() } else { format!("{who}; or whoever keeps {keepers}") };
        addresses.into_iter().map(|to| self.with_caller(to, &who)).collect()
    }

    fn with_caller(&self, to: std::net::IpAddr, who: &str) -> Candidate {
        Candidate::new("caller", self.caller().to_string(), to.to_string(), Change::Caller(to), who)
    }

    /// Names the address sets, with the owners of their entries.
    fn keepers(&self, sets: impl Iterator<Item = &'a str>) -> String {
        let owner = |name: &str| match self.config().address_sets.get(name) {
            Some(crate::address::AddressSetConfig::Entries(entries)) => entries.iter().find_map(|entry| match entry {
                AddressEntryConfig::Noted(noted) => noted.owner.clone(),
                AddressEntryConfig::Text(_) => None,
            }),
            _ => None,
        };
        let named = sets.take(3).map(|name| match owner(name) {
            Some(owner) => format!("address-sets.{name} (owner: {owner})"),
            None => format!("address-sets.{name}"),
        });
        named.collect::<Vec<_>>().join(", ")
    }

    fn routes(&self) -> Vec<Candidate> {
        let request = self.variant.request();
        let (host, path) = (request.host(), request.target.split('?').next().unwrap_or_default());
        let who = "the caller";
        let mut near: Vec<_> = self.config().routes.iter().collect();
        near.sort_by_key(|route| std::cmp::Reverse(super::routes::likeness(&route.matches, host, path)));
        let mut found = Vec::new();
        for route in near.into_iter().take(MOST) {
            if let Some(to) =
                route.matches.hosts.first().map(|host| host.strip_prefix("*.").map_or(host.clone(), |it| format!("a.{it}")))
            {
                found.push(Candidate::new("host", host, &to, Change::Host(to.clone()), who));
            }
            let written = route.matches.path.as_ref().or(route.matches.exact_path.as_ref());
            let to: String = written.map_or("/".to_owned(), |path| super::routes::filled(path));
            found.push(Candidate::new("path", path, &to, Change::Path(to.clone()), who));
            for host in route.matches.hosts.iter().take(1) {
                let host = host.strip_prefix("*.").map_or(host.clone(), |below| format!("a.{below}"));
                let url = format!("{host}{to}");
                found.push(Candidate::new("url", format!("{}{path}", request.host()), url, Change::Url(host, to.clone()), who));
            }
        }
        found
    }

    /// Returns paths that everybody reads alike: what stands before the part that is not plain, the longest first.
    fn plain_paths(&self) -> Vec<Candidate> {
        let path = self.variant.request().target.split('?').next().unwrap_or_default();
        let plain = |segment: &&str| {
            let letters = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
            letters && !segment.is_empty() && !segment.bytes().all(|byte| byte == b'.')
        };
        let segments: Vec<&str> = path.split('/').skip(1).take_while(plain).collect();
        let prefixes = (0..=segments.len()).rev().map(|count| format!("/{}", segments[..count].join("/")));
        prefixes.take(MOST).map(|to| Candidate::new("path", path, &to, Change::Path(to.clone()), "the caller")).collect()
    }

    fn methods(&self) -> Vec<Candidate> {
        let allow = self.outcome.response.headers().get(http::header::ALLOW).and_then(|allow| allow.to_str().ok());
        let methods = allow.unwrap_or_default().split(',').map(str::trim).filter(|method| !method.is_empty());
        let from = &self.variant.request().method;
        methods.map(|to| Candidate::new("method", from, to, Change::Method(to.to_owned()), "the caller")).collect()
    }

    fn tls(&self) -> Vec<Candidate> {
        let told = Change::Header("X-Forwarded-Proto".to_owned(), Some("https".to_owned()));
        vec![
            Candidate::new("tls", "no", "yes", Change::Tls(true), "the caller, with an https URL"),
            Candidate::new(
                "X-Forwarded-Proto",
                "another",
                "https",
                told,
                "the trusted proxy, where the caller came to it by TLS",
            ),
        ]
    }

    fn forwarding_fields(&self) -> Vec<Candidate> {
        let who = "the trusted proxy that wrote it";
        let without = |name: &str| Candidate::new(name, "unreadable", "absent", Change::Header(name.to_owned(), None), who);
        ["X-Forwarded-For", "Forwarded"].map(without).into()
    }

    fn checked_header(&self) -> Vec<Candidate> {
        let Some(PolicyConfig::CheckHeader(check)) = self.policy() else { return Vec::new() };
        let mut values = self.variant.request().values(&check.name);
        let secret = check.values.iter().any(|value| value.names_secret());
        let from = match (values.next(), values.next(), secret) {
            (None, ..) => "absent".to_owned(),
            (Some(_), Some(_), _) => "several".to_owned(),
            (Some(_), None, true) => "***".to_owned(),
            (Some(value), None, false) => String::from_utf8_lossy(value).into_owned(),
        };
        let who = if secret { "whoever gave the caller the value" } else { "the caller" };
        if check.values.is_empty() {
            let change = Change::Header(check.name.clone(), Some("1".to_owned()));
            return vec![Candidate::new(&check.name, from, "one value", change, who)];
        }
        let to = check.values.iter().take(MOST).filter_map(|value| {
            let text = super::secrets::revealed(value, &self.document.secrets)?;
            let shown = if value.names_secret() { "***".to_owned() } else { text.clone() };
            Some(Candidate::new(&check.name, &from, shown, Change::Header(check.name.clone(), Some(text)), who))
        });
        to.collect()
    }

    /// Returns keys of the partners that may pass, in the first place of the policy.
    fn api_keys(&self) -> Vec<Candidate> {
        let Some(PolicyConfig::ValidateApiKey(policy)) = self.policy() else { return Vec::new() };
        let place = match (policy.header_name.as_ref().and_then(|names| names.as_slice().first()), &policy.query_parameter_name) {
            (Some(name), _) => FoundPlace::Header(name.clone(), String::new()),
            (None, Some(name)) => FoundPlace::Query(name.clone()),
            (None, None) => FoundPlace::Header("Ocp-Apim-Subscription-Key".to_owned(), String::new()),
        };
        let from = if self.outcome.reason == Some(Reason::ApiKeyMissing) { "absent" } else { "another one" };
        let may = |name: &&String| policy.partners.as_ref().is_none_or(|only| only.contains(name));
        let partners = self.config().partners.iter().filter(|(_, partner)| !partner.api_keys.is_empty()).map(|(name, _)| name);
        let candidate = |name: &String| {
            let who = format!("whoever has given partners.{name} its API key");
            let change = Change::ApiKey(name.clone(), place.clone());
            Candidate::new("API key", from, format!("one of partners.{name}"), change, who)
        };
        partners.filter(may).take(MOST).map(candidate).collect()
    }

    /// Returns the partner that calls, with its name.
    fn partner_config(&self) -> Option<(&'a String, &'a PartnerConfig)> {
        self.config().partners.get_key_value(self.outcome.partner.as_deref()?)
    }

    fn partner(&self, reason: Reason) -> Vec<Candidate> {
        let relay = self.outcome.route_index.and_then(|index| self.config().routes.get(index)?.token_relay.as_ref());
        match (reason, self.partner_config(), relay) {
            (Reason::PartnerAddressNotAllowed, Some((name, partner)), _) => {
                let who = format!("the partner, from an address of partners.{name}");
                partner.addresses.as_ref().map(|entries| self.listed_addresses(entries, &who)).unwrap_or_default()
            }
            (Reason::PartnerDisabled, Some((name, _)), _) => {
                let who = format!("whoever keeps partners.{name}, whose access is switched off");
                let change = Change::PartnerEnabled(name.clone());
                vec![Candidate::new(format!("partners.{name}.enabled"), "false", "true", change, who)]
            }
            (Reason::PartnerExpired, Some((name, partner)), _) => {
                let last = partner.expires.map(|day| day.end().saturating_sub(1));
                let who = format!("whoever keeps partners.{name}, whose access has ended");
                let time = last.map(|to| Candidate::new("time", in_utc(self.variant.now()), in_utc(to), Change::Time(to), who));
                time.into_iter().collect()
            }
            (Reason::PartnerUnknown, _, Some(_)) => {
                let ids = self.config().partners.values().flat_map(|partner| &partner.client_application_ids);
                let field = |id: &String| self.form_field("client_id", id, "the caller, with its own application");
                ids.take(MOST).map(field).collect()
            }
            (Reason::GrantTypeNotAllowed, _, Some(relay)) => {
                let grants = relay.grant_types.iter().map(|grant| grant.as_str());
                grants.map(|grant| self.form_field("grant_type", grant, "the caller")).collect()
            }
            (Reason::ScopeNotAllowed, _, Some(relay)) => {
                relay.scopes.iter().take(MOST).map(|scope| self.form_field("scope", scope, "the caller")).collect()
            }
            _ => Vec::new(),
        }
    }

    fn form_field(&self, name: &str, to: &str, who: &str) -> Candidate {
        let body = &self.variant.request().body;
        let from = url::form_urlencoded::parse(body).find(|(other, _)| other == name);
        let from = from.map_or("absent".to_owned(), |(_, value)| value.into_owned());
        Candidate::new(name, from, to, Change::FormField(name.to_owned(), to.to_owned()), who)
    }
}

/// Writes a time as people read it.
pub(crate) fn in_utc(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}

/// Writes a claim as people read it.
pub(super) fn claim_in_words(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "absent".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(entries)) => entries
            .iter()
            .map(|entry| entry.as_str().map_or_else(|| entry.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => other.to_string(),
    }
}

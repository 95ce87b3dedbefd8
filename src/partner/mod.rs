//! Partners: callers of other organizations, with their addresses, routes and periods of access.
//!
//! A partner is identified by the application that its token was issued to *and* the tenant that issued it: an application id
//! alone proves nothing, since the same application may be installed in any tenant.

mod access;
mod api_keys;
mod config;
mod fault;
mod limits;
mod status;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, Mutex},
};

pub use access::Access;
use api_keys::ApiKeys;
pub(crate) use api_keys::PresentedKey;
pub use api_keys::{ApiKey, ApiKeyConfig, KeyMark};
pub use config::{PartnerConfig, PartnerCredential, PartnerLimitConfig, PartnerTokenKind, PinConfig};
pub use fault::PartnerFault;
use limits::PartnerLimits;
pub use limits::Used;
use serde::Serialize;
pub(crate) use status::PartnerStatus;

use crate::{
    address::{AddressSet, AddressSets},
    base::{clock::Clock, fields::Fields, lock::lock},
    certificate::{ClientCertificate, Thumbprint},
    entra::{
        TenantId, Tenants, is_guid,
        token::{CredentialKind, TokenKind},
    },
    limits::Limits,
    refusal::{Refusal, trace::Trace},
    settings::{Date, Faults, Lint, Place, Secrets},
    telemetry::{Decisions, Metrics},
};

/// The time before the end of a partner's access from which on a warning is given, in seconds.
const WARNED_AHEAD: u64 = 30 * 86_400;

/// A partner, built from its settings.
#[derive(Debug)]
pub struct Partner {
    /// The name, as in audit records and metrics.
    pub name: Arc<str>,
    /// True if the partner has access at all.
    pub enabled: bool,
    /// The person or team to contact.
    pub owner: Option<Box<str>>,
    /// The last day of the access.
    pub expires: Option<Date>,
    /// The end of the access, in seconds since 1970.
    pub until: Option<u64>,
    /// The access, as long as no reload takes it away.
    pub access: Access,
    /// The counters of the partner's calls, one for each worker.
    pub counters: Arc<[Decisions]>,
    /// `None`: the one tenant that the route's token policy allows.
    tenants: Option<Vec<Box<str>>>,
    token_kind: PartnerTokenKind,
    credential: PartnerCredential,
    /// `None`: no certificate is required.
    pins: Option<Box<[Thumbprint]>>,
    addresses: Option<Arc<AddressSet>>,
    /// `None`: every route that checks partners.
    routes: Option<Vec<Box<str>>>,
    limits: PartnerLimits,
    /// True if tokens may identify it: otherwise its API keys alone do.
    has_applications: bool,
}

/// The partners of a config.
#[derive(Debug, Default)]
pub struct Partners {
    by_name: BTreeMap<String, Arc<Partner>>,
    /// By application id, in lower case. Several partners may share one in different tenants.
    by_application: HashMap<Box<str>, Vec<Arc<Partner>>>,
    keys: ApiKeys,
    /// The names of partners whose settings cannot be used.
    faulty: Vec<String>,
    /// The lists of partners that policies name.
    selections: Mutex<HashSet<Arc<[Arc<str>]>>>,
}

/// The state of a partner's access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartnerState {
    /// It has access.
    Active,
    /// It has access, which ends soon.
    Expiring,
    /// Its access has ended.
    Expired,
    /// It is disabled.
    Disabled,
}

impl PartnerState {
    /// Returns the state of an access that ends at `until`, in seconds since 1970.
    const fn until(until: Option<u64>, now: u64) -> Self {
        match until {
            Some(until) if until <= now => Self::Expired,
            Some(until) if until - now <= WARNED_AHEAD => Self::Expiring,
            _ => Self::Active,
        }
    }
}

/// The context in which partners are built.
#[derive(Clone, Copy, Debug)]
pub struct PartnersContext<'a> {
    /// The named address sets.
    pub sets: &'a AddressSets,
    /// The tenants by name.
    pub tenants: &'a Tenants,
    /// The names of the routes.
    pub routes: &'a [&'a str],
    /// True if callers can show certificates at all.
    pub certificates: bool,
    /// The time, in seconds since 1970, for warnings about access that ends soon.
    pub now: u64,
    /// The values of secret named values.
    pub secrets: &'a Secrets,
    /// The counters for limits.
    pub limits: &'a Limits,
    /// The metrics, and the number of threads that count.
    pub metrics: (&'a Metrics, usize),
    /// The partners of the previous config.
    pub previous: Option<&'a Partners>,
}

/// The facts by which a partner is judged: the validated token, the caller's address and the route.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The application that the token was issued to.
    pub application: Option<&'a str>,
    /// The tenant that issued it.
    pub tenant: &'a str,
    /// The kind of token: a user's or an application's.
    pub kind: TokenKind,
    /// How the application authenticated to Entra.
    pub credential: Option<CredentialKind>,
    /// The certificate whose key the caller has proven to hold.
    pub certificate: Option<&'a ClientCertificate>,
    /// The caller's address.
    pub address: IpAddr,
    /// The route's name.
    pub route: &'a str,
}

impl Partners {
    /// Builds the partners of a config; `place` is that of the map. Faults go to `faults`.
    pub fn build(
        configs: &BTreeMap<String, PartnerConfig>,
        with: PartnersContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Self {
        let mut partners = Self::default();
        for (name, config) in configs {
            let place = place.key(name);
            let before = faults.errors();
            let partner = Partner::build(name, config, with, &place, faults).map(Arc::new);
            let applications = applications(config, &place, faults);
            if let Some(partner) = &partner {
                partners.keys.add(&config.api_keys, partner, (with.secrets, with.now), &place.key("api-keys"), faults);
            }
            let Some(partner) = partner.filter(|_| faults.errors() == before) else {
                partners.faulty.push(name.clone());
                continue;
            };
            for application in applications {
                let same = partners.by_application.entry(application.clone()).or_default();
                if let Some(other) = same.iter().find(|other| other.shares_a_tenant_with(&partner)) {
                    faults.error(
                        &place.key("client-application-ids"),
                        format!("`{application}` is an application of the partner `{}`, too", other.name),
                        "list it once, or give both partners `tenants` that differ",
                    );
                }
                same.push(partner.clone());
            }
            partners.by_name.insert(name.clone(), partner);
        }
        partners
    }

    /// Returns the partner of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Partner>> {
        self.by_name.get(name)
    }

    /// Returns all partners, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Partner>> {
        self.by_name.values()
    }

    /// Ends the access of partners that the next config does not have, or has disabled.
    pub(crate) fn give_way_to(&self, next: &Self) {
        for partner in self.iter().filter(|partner| next.get(&partner.name).is_none_or(|next| !next.enabled)) {
            partner.access.end();
        }
    }

    /// Returns the list of these partners, shared by all policies that name the same ones.
    pub(crate) fn selection(&self, names: &[String]) -> Arc<[Arc<str>]> {
        let name = |name: &String| self.get(name).map_or_else(|| name.as_str().into(), |partner| partner.name.clone());
        let names: Arc<[Arc<str>]> = names.iter().map(name).collect();
        let mut selections = lock(&self.selections);
        if let Some(known) = selections.get(&names) {
            return known.clone();
        }
        selections.insert(names.clone());
        names
    }

    /// Returns whether the config has a partner of this name, faulty or not.
    pub(crate) fn mentions(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.faulty.iter().any(|faulty| faulty == name)
    }

    /// Finds the partner that a call comes from, checked in this order: application and tenant, whether it is enabled, the route,
    /// the address, the credential, the certificate, the end of its access. `only` restricts the partners.
    ///
    /// # Errors
    /// Returns the first check that fails.
    pub fn judge(&self, call: Call<'_>, only: Option<&[Arc<str>]>, clock: &Clock) -> Result<&Arc<Partner>, PartnerFault> {
        let partner = self.of(call).ok_or(PartnerFault::Unknown)?;
        partner.admits(call, only, clock)?;
        Ok(partner)
    }

    fn of(&self, call: Call<'_>) -> Option<&Arc<Partner>> {
        // Entra writes its ids in lower case.
        let application = call.application?.to_ascii_lowercase();
        self.by_application.get(&*application)?.iter().find(|partner| partner.speaks_through(call))
    }
}

impl Partner {
    /// Judges a call of this partner, in the order of [`Partners::judge`].
    fn admits(&self, call: Call<'_>, only: Option<&[Arc<str>]>, clock: &Clock) -> Result<(), PartnerFault> {
        let name = || self.name.clone();
        // One that a reload has just revoked is revoked for requests that began before it, too.
        if !self.enabled || self.access.has_ended() {
            return Err(PartnerFault::Disabled(name()));
        }
        let narrowed_away = only.is_some_and(|only| !only.contains(&self.name));
        if narrowed_away || !self.may_use(call.route) {
            return Err(PartnerFault::Route(name()));
        }
        if self.addresses.as_ref().is_some_and(|addresses| !addresses.contains(call.address, clock)) {
            return Err(PartnerFault::Address(name(), call.address));
        }
        if self.credential == PartnerCredential::Certificate && call.credential != Some(CredentialKind::Certificate) {
            return Err(PartnerFault::Credential(name()));
        }
        if let Some(pins) = &self.pins {
            let now = clock.unix_seconds();
            let pinned = |certificate: &ClientCertificate| pins.iter().any(|pin| pin.is_of(certificate));
            if !call.certificate.is_some_and(|certificate| certificate.is_valid_at(now) && pinned(certificate)) {
                return Err(PartnerFault::Certificate(name()));
            }
        }
        if self.until.is_some_and(|until| clock.unix_seconds() >= until) {
            return Err(PartnerFault::Expired(name()));
        }
        Ok(())
    }

    fn build(name: &str, config: &PartnerConfig, with: PartnersContext<'_>, place: &Place, faults: &mut Faults) -> Option<Self> {
        let tenants = config.tenants.as_ref().map(|written| tenants(written, with.tenants, &place.key("tenants"), faults));
        let addresses = match &config.addresses {
            None => None,
            Some(written) if written.is_empty() => {
                faults.error(&place.key("addresses"), "the list is empty, so every call would be refused", "list an address");
                return None;
            }
            Some(written) => Some(AddressSet::build(written, &place.key("addresses"), with.sets, faults)?),
        };
        let pins = match &config.client_certificate {
            None => None,
            Some(pin) => Some(pins(pin, with, &place.key("client-certificate"), faults)?),
        };
        for (index, route) in config.routes.iter().flatten().enumerate() {
            if !with.routes.contains(&route.as_str()) {
                let near = with.routes.iter().find(|name| strsim::damerau_levenshtein(name, route) <= 2);
                let cure = near.map_or_else(|| "name a route of this config".into(), |name| format!("is `{name}` meant?"));
                faults.error(&place.key("routes").index(index), format!("there is no route `{route}`"), cure);
            }
        }
        if config.routes.as_ref().is_some_and(Vec::is_empty) {
            let cure = "name a route, or leave `routes` out for every route that checks partners";
            faults.error(&place.key("routes"), "the list is empty, so every call would be refused", cure);
        }
        let partner = Self {
            name: name.into(),
            enabled: config.enabled,
            owner: config.owner.as_deref().map(Into::into),
            expires: config.expires,
            until: config.expires.map(Date::end),
            access: Access::going_on(with.previous.and_then(|old| old.get(name)).map(|old| &old.access), config.enabled),
            counters: with.metrics.0.partner(name, with.metrics.1),
            tenants,
            token_kind: config.token_kind,
            credential: config.client_credential,
            pins,
            addresses,
            routes: config.routes.as_ref().map(|routes| routes.iter().map(|route| route.as_str().into()).collect()),
            limits: PartnerLimits::build(name, config, with.limits, place, faults),
            has_applications: !config.client_application_ids.is_empty(),
        };
        partner.lint(config, place, with.now, faults);
        Some(partner)
    }

    fn lint(&self, config: &PartnerConfig, place: &Place, now: u64, faults: &mut Faults) {
        if let (Some(until), Some(day)) = (self.until, config.expires)
            && self.enabled
        {
            let whom = self.owner.as_deref().map(|owner| format!("; {owner} knows")).unwrap_or_default();
            let place = place.key("expires");
            if until <= now {
                faults.warning(
                    Lint::PartnerExpired,
                    &place,
                    format!("the partner's access has ended on {day}"),
                    format!("remove the partner, or give it a later day{whom}"),
                );
            } else if until - now <= WARNED_AHEAD {
                let days = (until - now).div_ceil(86_400);
                faults.warning(
                    Lint::PartnerExpiresSoon,
                    &place,
                    format!("the partner's access ends in {days} days, on {day}"),
                    format!("give it a later day, or let it end{whom}"),
                );
            }
        }
        if self.enabled && self.addresses.as_ref().is_none_or(|addresses| addresses.holds_a_whole_family()) {
            faults.warning(Lint::PartnerAnyAddress, place, "the partner may call from any address", "list its `addresses`");
        }
    }

    /// Counts a call, and adds the remaining amount to the header fields. A `cost` of 0 only asks whether it would be admitted.
    ///
    /// # Errors
    /// Fails if the partner has called too often, or if the store of a limit fails.
    pub(crate) async fn count(&self, cost: u64, clock: &Clock, trace: &mut Trace, headers: &mut Fields) -> Result<(), Refusal> {
        if self.limits.are_shared(trace) {
            // Boxed, so that only these requests have the room for it.
            return Box::pin(self.limits.count_shared(&self.name, cost, clock, headers)).await;
        }
        self.limits.count(&self.name, cost, clock, headers)
    }

    /// Returns whether its calls are limited.
    pub(crate) const fn has_limits(&self) -> bool {
        self.limits.are_some()
    }

    /// Returns the state of the partner's access.
    pub fn state(&self, now: u64) -> PartnerState {
        if self.enabled { PartnerState::until(self.until, now) } else { PartnerState::Disabled }
    }

    /// Returns the usage of the partner's rate; `None` without one.
    pub fn rate(&self, clock: &Clock) -> Option<Used> {
        self.limits.rate(&self.name, clock)
    }

    /// Returns the usage of the partner's quota; `None` without one.
    pub fn quota(&self, clock: &Clock) -> Option<Used> {
        self.limits.quota(&self.name, clock)
    }

    /// Returns whether the partner may use a route that checks partners.
    pub(crate) fn may_use(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| routes.iter().any(|name| **name == *route))
    }

    /// Returns whether the partner's tenants are listed, or no token identifies it.
    pub(crate) const fn names_tenants(&self) -> bool {
        self.tenants.is_some() || !self.has_applications
    }

    /// Returns whether a token of the partner's application, of this tenant and kind, is the partner's.
    fn speaks_through(&self, call: Call<'_>) -> bool {
        // A token of no tenant is of an issuer other than Entra, where the same application id is somebody else's.
        let tenant = match &self.tenants {
            Some(tenants) => tenants.iter().any(|tenant| tenant.eq_ignore_ascii_case(call.tenant)),
            None => !call.tenant.is_empty(),
        };
        tenant && (call.kind == TokenKind::App || self.token_kind == PartnerTokenKind::Any)
    }

    fn shares_a_tenant_with(&self, other: &Self) -> bool {
        match (&self.tenants, &other.tenants) {
            (Some(own), Some(others)) => own.iter().any(|tenant| others.contains(tenant)),
            _ => true,
        }
    }
}

/// Returns the application ids of a partner, in lower case.
fn applications(config: &PartnerConfig, place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    let place = place.key("client-application-ids");
    if config.client_application_ids.is_empty() && config.api_keys.is_empty() {
        faults.error(
            &place,
            "the list is empty, so nobody would be this partner",
            "list the client ids of the partner's applications, or its `api-keys`",
        );
    }
    let mut applications: Vec<Box<str>> = Vec::new();
    for (index, text) in config.client_application_ids.iter().enumerate() {
        let id: Box<str> = text.to_ascii_lowercase().into();
        if !is_guid(&id) {
            let cure = "write the application (client) id, as in 22223333-cccc-4444-dddd-5555eeee6666";
            faults.error(&place.index(index), format!("`{text}` is not an application id"), cure);
        } else if applications.contains(&id) {
            faults.warning(Lint::ListedTwice, &place.index(index), format!("`{text}` is listed already"), "leave it out");
        } else {
            applications.push(id);
        }
    }
    applications
}

/// Returns the certificates of a partner.
fn pins(config: &PinConfig, with: PartnersContext<'_>, place: &Place, faults: &mut Faults) -> Option<Box<[Thumbprint]>> {
    if !with.certificates {
        let message = "no listener asks callers for certificates, so every call of the partner would be refused";
        let cure =
            "give the listener `client-certificates`, or take them from a proxy (`validate-client-certificate` with `from`)";
        faults.warning(Lint::PartnerCertificateNeverShown, place, message, cure);
    }
    let list = place.key("thumbprints");
    if config.thumbprints.is_empty() {
        let cure = "list the thumbprint of the partner's certificate, or leave `client-certificate` out";
        faults.error(&list, "the list is empty, so every call would be refused", cure);
    }
    let pins = config.thumbprints.iter().enumerate().map(|(index, text)| {
        let read = Thumbprint::parse(text);
        read.map_err(|fault| {
            let cure = "write the SHA-1 or SHA-256 of the certificate in hexadecimal, as `entrada certificate show` prints it";
            faults.error(&list.index(index), format!("`{text}` is not a thumbprint: {fault}"), cure);
        })
    });
    // All of them are read before any is missed, so that every fault is told.
    let pins: Vec<_> = pins.collect();
    pins.into_iter().collect::<Result<_, ()>>().ok()
}

/// Returns the GUIDs of a partner's tenants.
fn tenants(written: &[String], tenants: &Tenants, place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    if written.is_empty() {
        faults.error(place, "the list is empty, so nobody would be this partner", "list the partner's tenants");
    }
    let mut ids = Vec::new();
    for (index, word) in written.iter().enumerate() {
        let place = place.index(index);
        if is_guid(word) {
            ids.push(word.to_ascii_lowercase().into());
            continue;
        }
        match tenants.get(word).map(|tenant| tenant.id()) {
            Some(TenantId::Guid(guid)) => ids.push(guid.clone()),
            Some(_) => faults.error(&place, format!("`{word}` does not stand for one GUID"), "write the tenant's GUID here"),
            None if tenants.mentions(word) => {}
            None => faults.error(
                &place,
                format!("`{word}` is neither a tenant of this config nor a GUID"),
                "name one of `tenants`, or write its GUID",
            ),
        }
    }
    ids
}

#[cfg(test)]
mod tests;

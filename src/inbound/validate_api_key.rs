//! Admits the calls of partners that send an API key of theirs.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/validate-api-key.yaml")]
//! ```
//!
//! The key identifies the partner, which is then judged as `check-partner` does: whether it is enabled, the route, the address, a pinned
//! certificate, its expiry, its rate and quota. The key never goes upstream, and is compared in constant time.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue, header};
use schemars::JsonSchema;
use serde::Deserialize;

use super::settings::{DependsOn, PolicySettings};
use super::{
    build_context::{BuildContext, PartnerRoute},
    check_partner::{self, CheckPartner, CheckPartnerConfig},
    mode::ModeConfig,
};
use crate::{
    entra::token::TokenKind,
    exchange::{Exchange, KeyEvidence},
    outgoing::field,
    partner::{Call, KeyMark, PresentedKey},
    refusal::{Reason, Refusal, Stop},
    request::{IncomingRequest, Reserved, TokenPlace},
    settings::{Lint, OneOrMany, Place},
    upstream::UpstreamRequest,
};

/// API Management's name of the field.
const SUBSCRIPTION_KEY: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");
/// The longest key, in bytes.
const LONGEST: usize = 1_024;
/// There is no registered scheme for such keys; a 401 has to name one (RFC 9110, section 15.5.2).
const CHALLENGE: HeaderValue = HeaderValue::from_static("ApiKey");

/// Settings of `validate-api-key`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ValidateApiKeyConfig {
    /// The header field with the key, or several in order of preference. Default: Ocp-Apim-Subscription-Key.
    pub header_name: Option<OneOrMany<String>>,
    /// The query parameter with the key; tried last. Default: none, since URLs are logged by many.
    pub query_parameter_name: Option<String>,
    /// The partners that may pass. Default: all whose `routes` allow it.
    pub partners: Option<Vec<String>>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    pub mode: ModeConfig,
}

/// Admits the calls of partners that send an API key of theirs.
#[derive(Debug)]
pub struct ValidateApiKey {
    places: Box<[TokenPlace]>,
    partner: CheckPartner,
}

impl PolicySettings for ValidateApiKeyConfig {
    fn requires_token(&self) -> bool {
        true
    }

    fn authenticates(&self) -> bool {
        true
    }

    fn depends_on(&self) -> DependsOn {
        DependsOn::Route
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl ValidateApiKey {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange, incoming).await?)
    }

    pub(crate) fn build(config: &ValidateApiKeyConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let places = places(config, place, context);
        let (partners, route) = context.partners.as_mut()?;
        // Also where it cannot be built: that is a fault of its own, and not of those that follow.
        route.checked = true;
        let (partners, route) = (*partners, PartnerRoute { has_token: true, several_tenants: false, ..*route });
        let check = CheckPartnerConfig { partners: config.partners.clone(), ..CheckPartnerConfig::default() };
        let built = CheckPartner::for_route(&check, place, partners, route, context.faults);
        if let Some(check) = built.as_ref().filter(|_| context.faults.errors() == before) {
            let has_key = partners.iter().any(|partner| check.concerns(partner) && partners.has_key(partner));
            if !has_key && partners.iter().any(|partner| check.concerns(partner)) {
                let message = "no partner that may use this route has `api-keys`, so every call is refused";
                context.faults.warning(
                    Lint::PartnersNone,
                    place,
                    message,
                    "list the SHA-256 of their keys, or use `check-partner` behind a token policy",
                );
            }
        }
        context.key_places.extend(places.iter().cloned());
        (context.faults.errors() == before).then_some(())?;
        Some(Self { places: places.into(), partner: built? })
    }

    pub(crate) async fn check(&self, exchange: &mut Exchange, incoming: &IncomingRequest) -> Result<(), Refusal> {
        let (mut presented, mut at) = (None, None);
        for place in &self.places {
            presented = key_in(place, incoming).map_err(challenged)?;
            if presented.is_some() {
                at = Some(place);
                break;
            }
        }
        if let (None, Some(evidence)) = (&presented, exchange.evidence.as_deref())
            && let Some(known) = evidence.recorded.as_deref()
        {
            self.places.iter().for_each(|place| known.look_in(place));
        }
        let (presented, place) = presented.zip(at).ok_or(KeyUnreadable::Missing).map_err(challenged)?;
        let presented = self.recorded(exchange, place)?.map_or(PresentedKey::Text(&presented), PresentedKey::Marked);
        let certificate = exchange.proven_certificate().cloned();
        let call = Call {
            application: None,
            tenant: "",
            kind: TokenKind::App,
            credential: None,
            certificate: certificate.as_deref(),
            address: exchange.caller_address(),
            route: self.partner.route(),
        };
        let judged = self.partner.partners().judge_key(presented, call, self.partner.only(), &exchange.clock);
        if let Some(evidence) = &mut exchange.evidence
            && !evidence.is_recorded()
        {
            let key = judged.as_ref().map_or_else(|(_, key)| *key, |(_, key)| Some(*key));
            let (place, among) = (place.clone(), self.partner.partners().keys_mark());
            evidence.keys.push(KeyEvidence { place, among, mark: key.map(|key| key.mark()) });
        }
        match judged {
            Ok((partner, key)) => {
                let (partner, key) = (partner.clone(), key.clone());
                exchange.api_key = Some(key);
                check_partner::admit(&partner, exchange).await
            }
            Err((fault, key)) => {
                // For the record.
                let key = key.cloned();
                let hint = key.as_ref().map(|key| format!("see `partners.{}`", key.partner().name));
                exchange.partner = key.as_ref().map(|key| key.partner().clone());
                exchange.api_key = key;
                let refusal = challenged(fault);
                Err(if let Some(hint) = hint { refusal.with_hint(hint) } else { refusal })
            }
        }
    }
}

impl ValidateApiKey {
    /// Returns the key that a record names in this place, if the request is judged by its record.
    ///
    /// # Errors
    /// Fails if the record does not tell which of the config's keys it was.
    fn recorded(&self, exchange: &mut Exchange, place: &TokenPlace) -> Result<Option<Option<KeyMark>>, Refusal> {
        let Some(evidence) = exchange.evidence.as_deref().filter(|evidence| evidence.stands_for_tokens()) else {
            return Ok(None);
        };
        let known = evidence.keys.iter().find(|key| key.place == *place);
        let same_keys = || self.partner.partners().keys_mark();
        match known {
            // A key that was none of those then may be one of those now.
            Some(key) if key.mark.is_some() || key.among == same_keys() => Ok(Some(key.mark)),
            _ => {
                exchange.lacks("the API key");
                Err(Reason::ApiKeyInvalid.into())
            }
        }
    }
}

/// Returns the places of the key, or reports those that cannot be used.
fn places(config: &ValidateApiKeyConfig, place: &Place, context: &mut BuildContext<'_>) -> Vec<TokenPlace> {
    let mut places = Vec::new();
    match &config.header_name {
        None if config.query_parameter_name.is_none() => places.push(TokenPlace::Header(SUBSCRIPTION_KEY)),
        None => {}
        Some(names) => {
            let place = place.key("header-name");
            if names.as_slice().is_empty() {
                context.faults.error(
                    &place,
                    "the list is empty",
                    "write the name of a header field, as Ocp-Apim-Subscription-Key",
                );
            }
            for written in names.as_slice() {
                places.extend(header_name(written, &place, context).map(TokenPlace::Header));
            }
        }
    }
    if let Some(name) = &config.query_parameter_name {
        if name.is_empty() {
            context.faults.error(&place.key("query-parameter-name"), "the name is empty", "write the parameter's name");
        }
        places.push(TokenPlace::Query(name.as_str().into()));
    }
    places
}

fn header_name(written: &str, place: &Place, context: &mut BuildContext<'_>) -> Option<HeaderName> {
    if [header::AUTHORIZATION, header::COOKIE].iter().any(|name| name.as_str().eq_ignore_ascii_case(written)) {
        let message = format!("`{written}` holds other credentials, and an API key is no token");
        context.faults.error(place, message, "take a field of its own, as Ocp-Apim-Subscription-Key");
        return None;
    }
    let name = field::name(written, place, context.faults)?;
    if Reserved::is_the_gateways(&name) {
        let message = format!("`{written}` is a field that the gateway makes itself, and removes from callers' requests");
        context.faults.error(place, message, "take a field of its own, as Ocp-Apim-Subscription-Key");
        return None;
    }
    context.reserved.reads(&name);
    Some(name)
}

/// Reads the key in one place.
fn key_in<'a>(place: &TokenPlace, incoming: &'a IncomingRequest) -> Result<Option<Cow<'a, [u8]>>, KeyUnreadable> {
    let key = match place {
        TokenPlace::Header(name) => {
            let mut values = incoming.headers.get_all(name);
            match (values.next(), values.next()) {
                (Some(_), Some(_)) => return Err(KeyUnreadable::Repeated),
                (value, _) => value.map(|value| Cow::Borrowed(value.as_bytes())),
            }
        }
        TokenPlace::Query(_) => place.read(incoming).map_err(|_| KeyUnreadable::Repeated)?,
    };
    match key {
        Some(key) if key.is_empty() => Ok(None),
        Some(key) if key.len() > LONGEST => Err(KeyUnreadable::Long),
        key => Ok(key),
    }
}

/// The reason why there is no key to compare.
#[derive(Debug, thiserror::Error)]
enum KeyUnreadable {
    #[error("the request has no API key")]
    Missing,
    #[error("one place of the request holds two API keys, or none")]
    Repeated,
    #[error("the API key is longer than {LONGEST} bytes")]
    Long,
}

impl From<KeyUnreadable> for Refusal {
    fn from(error: KeyUnreadable) -> Self {
        match error {
            KeyUnreadable::Missing => Self::new(Reason::ApiKeyMissing, error),
            KeyUnreadable::Repeated | KeyUnreadable::Long => Self::new(Reason::ApiKeyInvalid, error),
        }
    }
}

fn challenged(error: impl Into<Refusal>) -> Refusal {
    let mut refusal = error.into();
    if matches!(refusal.reason, Reason::ApiKeyMissing | Reason::ApiKeyInvalid) {
        refusal.challenge = Some(CHALLENGE);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::testing::Building;

    #[test]
    fn a_place_that_holds_other_things_is_an_error() {
        for (yaml, expected) in [
            ("{ header-name: Authorization }", "holds other credentials"),
            ("{ header-name: cookie }", "holds other credentials"),
            ("{ header-name: Host }", "`Host` is not set as a header"),
            ("{ header-name: [] }", "the list is empty"),
            ("{ header-name: 'a b' }", "is not a header's name"),
            ("{ header-name: X-Forwarded-For }", "the gateway makes itself"),
            ("{ query-parameter-name: '' }", "the name is empty"),
        ] {
            let config: ValidateApiKeyConfig = crate::settings::testing::part(yaml);
            let built = Building::default().build(|place, context| {
                let found = places(&config, place, context);
                (!context.faults.any_error()).then_some(found)
            });
            let faults = built.expect_err(yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
    }

    #[test]
    fn without_settings_the_field_is_api_managements() {
        let built = Building::default().build(|place, context| Some(places(&ValidateApiKeyConfig::default(), place, context)));

        assert_eq!(built.expect("valid"), [TokenPlace::Header(SUBSCRIPTION_KEY)]);
    }
}

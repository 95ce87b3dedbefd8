//! Partners on a region: those that a policy would judge alike are judged together.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    region::{Atom, Flag, Spot, TextKey, TokenText},
    run::{Ended, Run, State, refuse},
    space::AddressSpace,
};
use crate::{
    expression::shape::Test,
    inbound::{check_partner::CheckPartnerConfig, validate_api_key::ValidateApiKeyConfig},
    partner::{PartnerConfig, PartnerCredential, PartnerTokenKind},
    refusal::Reason,
    settings::Place,
};

/// The field of API keys where a policy names none.
const KEY_FIELD: &str = "ocp-apim-subscription-key";

/// Partners that a policy judges alike, but for who they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// The refusal that comes first, if none of the partners may pass at all.
    never: Option<&'static str>,
    certificate: bool,
    pins: Option<String>,
    any_kind: bool,
    /// The issuers whose tokens are the partners'.
    issuers: Option<Vec<String>>,
    addresses: Option<Vec<String>>,
    expired: bool,
    /// The name, where expressions or limits of the route could tell one from another.
    name: String,
}

impl Run<'_> {
    pub(super) fn check_partner(&self, check: &CheckPartnerConfig, place: &Place, state: &mut State) -> Ended {
        let Some(spot) = state.token.clone() else { return Ok(Some(refuse(Reason::TokenMissing, place))) };
        let mut kinds: BTreeMap<Kind, (Vec<String>, Option<Rc<AddressSpace>>)> = BTreeMap::new();
        for (name, partner) in &self.side.document.config.partners {
            let (kind, addresses) = self.kind_of(name, partner, check.partners.as_deref());
            let clients = partner.client_application_ids.iter().map(|client| client.to_ascii_lowercase());
            kinds.entry(kind).or_insert_with(|| (Vec::new(), addresses)).0.extend(clients);
        }
        for (kind, (clients, addresses)) in kinds {
            if clients.is_empty() {
                continue;
            }
            let text =
                |field: TokenText, texts: Vec<String>| self.ask(Atom::Text(TextKey::Token(spot.clone(), field), Test::In(texts)));
            if !text(TokenText::Client, clients)? || !kind.any_kind && !self.ask(Atom::Flag(Flag::App(spot.clone())))? {
                continue;
            }
            let theirs = match &kind.issuers {
                Some(issuers) => text(TokenText::Issuer, issuers.clone())?,
                None => self.ask(Atom::Text(
                    TextKey::Token(spot.clone(), TokenText::Issuer),
                    Test::Starts(super::region::ENTRA_ISSUER.to_owned()),
                ))?,
            };
            if !theirs {
                continue;
            }
            let weak = kind.certificate && !text(TokenText::Credential, vec!["certificate".to_owned()])?;
            return self.admitted(&kind, addresses.as_ref(), weak, (place, state));
        }
        Ok(Some(refuse(Reason::PartnerUnknown, place)))
    }

    /// Judges a call of partners of this kind, in the gateway's order.
    fn admitted(
        &self,
        kind: &Kind,
        addresses: Option<&Rc<AddressSpace>>,
        weak: bool,
        (place, state): (&Place, &mut State),
    ) -> Ended {
        if let Some(reason) = kind.never.and_then(|code| Reason::ALL.iter().find(|reason| reason.code() == code)) {
            return Ok(Some(refuse(*reason, place)));
        }
        if let Some(space) = addresses
            && !self.caller_in(space)?
        {
            return Ok(Some(refuse(Reason::PartnerAddressNotAllowed, place)));
        }
        if weak {
            return Ok(Some(refuse(Reason::PartnerCredentialTooWeak, place)));
        }
        if let Some(pins) = &kind.pins
            && !self.ask(Atom::Flag(Flag::Certificate(pins.clone())))?
        {
            return Ok(Some(refuse(Reason::ClientCertificateNotAllowed, place)));
        }
        if kind.expired {
            return Ok(Some(refuse(Reason::PartnerExpired, place)));
        }
        state.partner = Some(kind.name.clone());
        Ok(None)
    }

    fn kind_of(&self, name: &str, partner: &PartnerConfig, only: Option<&[String]>) -> (Kind, Option<Rc<AddressSpace>>) {
        let may_use = partner.routes.as_ref().is_none_or(|routes| routes.contains(&self.route.name));
        let never = match () {
            () if !partner.enabled => Some(Reason::PartnerDisabled),
            () if !may_use || only.is_some_and(|only| !only.iter().any(|other| other == name)) => {
                Some(Reason::PartnerRouteNotAllowed)
            }
            () => None,
        };
        let place = Place::root().key("partners").key(name);
        let addresses = partner.addresses.as_ref().map(|entries| self.side.space(entries, &place));
        let kind = Kind {
            never: never.map(Reason::code),
            certificate: partner.client_credential == PartnerCredential::Certificate,
            pins: partner.client_certificate.as_ref().map(|pins| {
                let mut pins = pins.thumbprints.clone();
                pins.sort_unstable();
                pins.join(", ")
            }),
            any_kind: partner.token_kind == PartnerTokenKind::Any,
            issuers: partner.tenants.as_ref().map(|tenants| self.world.issuers_of_tenants(&self.side.guids(tenants))),
            addresses: addresses.as_ref().map(|space| space.in_words(usize::MAX)),
            expired: partner.expires.is_some_and(|day| day.end() <= self.side.gateway.now()),
            name: if self.world.names_partners { name.to_owned() } else { String::new() },
        };
        (kind, addresses)
    }

    pub(super) fn api_key(&self, check: &ValidateApiKeyConfig, place: &Place, state: &mut State) -> Ended {
        let names = check.header_name.as_ref().map_or_else(|| vec![KEY_FIELD.to_owned()], |names| names.as_slice().to_vec());
        let fields = names.iter().map(|name| Spot::Header(name.to_ascii_lowercase()));
        let mut found = None;
        for spot in fields.chain(check.query_parameter_name.clone().map(Spot::Query)) {
            let there = match &spot {
                Spot::Header(name) => self.header_exists(name)?,
                Spot::Query(name) => self.ask(Atom::Exists(TextKey::Parameter(name.clone())))?,
            };
            if there {
                found = Some(spot);
                break;
            }
        }
        let Some(spot) = found else { return Ok(Some(refuse(Reason::ApiKeyMissing, place))) };
        let now = self.side.gateway.now();
        for (name, partner) in &self.side.document.config.partners {
            let (kind, addresses) = self.kind_of(name, partner, check.partners.as_deref());
            let lasting = partner.api_keys.iter().filter(|key| key.expires.is_none_or(|day| day.end() > now));
            for key in lasting {
                let digest = self.side.revealed(&key.sha256).to_ascii_lowercase();
                if self.ask(Atom::Flag(Flag::Key(spot.clone(), digest)))? {
                    return self.admitted(&Kind { name: name.clone(), ..kind }, addresses.as_ref(), false, (place, state));
                }
            }
        }
        Ok(Some(refuse(Reason::ApiKeyInvalid, place)))
    }
}

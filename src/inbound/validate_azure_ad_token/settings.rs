//! The settings common to both token policies.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};

use super::{
    Answer, RequiredClaimConfig, TokenBindingConfig, TokenKindConfig, TokenTypeConfig, ValidateAzureAdTokenConfig,
    judge::{AllowedTenants, RequiredClaim, Rules},
    lookup::Lookups,
};
use crate::{
    entra::Profile,
    expression::is_free_name,
    inbound::{build_context::BuildContext, validate_jwt::ValidateJwtConfig},
    request::TokenPlace,
    settings::{ConfigDuration, Faults, Lint, OneOrMany, Place},
};

const DEFAULT_SKEW: Duration = Duration::from_secs(300);
const MAX_SKEW: Duration = Duration::from_secs(600);

/// Declares [`Settings`], and the borrowing of them from each policy's config: both have these keys, and each documents them in
/// its schema.
macro_rules! shared_settings {
    ($($name:ident: $type:ty,)*) => {
        /// The settings common to both token policies.
        #[derive(Clone, Copy, Debug)]
        pub(super) struct Settings<'a> {
            $($name: &'a $type,)*
        }

        impl<'a> From<&'a ValidateAzureAdTokenConfig> for Settings<'a> {
            fn from(config: &'a ValidateAzureAdTokenConfig) -> Self {
                Self { $($name: &config.$name,)* }
            }
        }

        impl<'a> From<&'a ValidateJwtConfig> for Settings<'a> {
            fn from(config: &'a ValidateJwtConfig) -> Self {
                Self { $($name: &config.$name,)* }
            }
        }
    };
}

shared_settings! {
    audiences: Vec<String>,
    required_claims: Vec<RequiredClaimConfig>,
    scopes: Vec<String>,
    roles: Vec<String>,
    token_kind: TokenKindConfig,
    token_binding: TokenBindingConfig,
    header_name: Option<OneOrMany<String>>,
    query_parameter_name: Option<String>,
    named: Option<String>,
    clock_skew: Option<ConfigDuration>,
    failed_validation_httpcode: Option<u16>,
    failed_validation_error_message: Option<String>,
}

impl Settings<'_> {
    /// Builds the common requirements for tokens.
    pub(super) fn rules(self, profile: Profile, place: &Place, faults: &mut Faults) -> Rules {
        if *self.token_kind == TokenKindConfig::App && !self.scopes.is_empty() {
            faults.error(&place.key("scopes"), "applications have no scopes", "name their roles in `roles`");
        }
        Rules {
            profile,
            tenants: AllowedTenants::NotAsked,
            audiences: self.audiences(place, faults),
            clock_skew: self.clock_skew(place, faults),
            token_type: TokenTypeConfig::Access,
            kind: *self.token_kind,
            clients: Vec::new(),
            certificate: false,
            bound: *self.token_binding == TokenBindingConfig::Certificate,
            claims: self.required_claims(place, faults),
            scopes: words(self.scopes, &place.key("scopes"), faults),
            roles: words(self.roles, &place.key("roles"), faults),
            contexts: Vec::new(),
            partner_check_follows: false,
            lookups: Lookups::default(),
        }
    }

    /// Returns the places of tokens, in order of preference.
    pub(super) fn places(self, place: &Place, context: &mut BuildContext<'_>) -> Vec<TokenPlace> {
        let faults = &mut *context.faults;
        let mut places = Vec::new();
        let names: &[String] = self.header_name.as_ref().map_or(&[], OneOrMany::as_slice);
        let at = place.key("header-name");
        if self.header_name.is_some() && names.is_empty() {
            faults.error(&at, "no header is named, so no token would ever be found", "name one, or leave the setting out");
        }
        for name in names {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) if places.contains(&TokenPlace::Header(name.clone())) => {
                    faults.error(&at, format!("`{name}` stands twice"), "name each header once");
                }
                Ok(name)
                    if [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION].contains(&name) =>
                {
                    faults.error(&at, format!("`{name}` cannot hold a token"), "name the header that does");
                }
                Ok(name) => places.push(TokenPlace::Header(name)),
                Err(_) => faults.error(&at, format!("`{name}` is not a header name"), "write it as Authorization"),
            }
        }
        if self.header_name.is_none() {
            places.push(TokenPlace::Header(header::AUTHORIZATION));
        }
        match self.query_parameter_name.as_deref() {
            None => {}
            Some("") => {
                faults.error(
                    &place.key("query-parameter-name"),
                    "the parameter has no name",
                    "name it, or leave the setting out",
                );
            }
            Some(name) => places.push(TokenPlace::Query(name.into())),
        }
        context.token_places.extend_from_slice(&places);
        places
    }

    /// Returns the name of the token besides `token`, if it has one. Must be called once: from here on there is a token.
    pub(super) fn name(self, place: &Place, context: &mut BuildContext<'_>) -> Option<Arc<str>> {
        let at = place.key("as");
        let name = self.named.as_deref();
        match name {
            None if context.tokens_before.has_token => context.faults.error(
                place,
                "a token policy stands before this one, so nothing could tell the two tokens apart",
                "name the token of this one, as `as: device`; expressions then read device.claims",
            ),
            Some(name) if !is_free_name(name) => {
                let cure = "write a word of small letters, digits and `_` that means nothing yet, as device";
                context.faults.error(&at, format!("`{name}` cannot be the name of a token"), cure);
            }
            Some(name) if context.tokens_before.names.iter().any(|other| **other == *name) => {
                context.faults.error(&at, format!("another token is called `{name}`"), "give each token a name of its own");
            }
            Some(name) => context.tokens_before.names.push(name.into()),
            None => {}
        }
        context.tokens_before.has_token = true;
        name.map(Into::into)
    }

    /// Builds the settings of refusals.
    pub(super) fn answer(self, place: &Place, faults: &mut Faults) -> Answer {
        Answer {
            status: self.status(place, faults),
            message: self.failed_validation_error_message.as_deref().map(Into::into),
            scope_challenge: scope_challenge(self.scopes),
            claims_challenge: None,
        }
    }

    fn audiences(self, place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
        let at = place.key("audiences");
        if self.audiences.is_empty() {
            let what = "no audience is accepted, so every caller would be refused";
            faults.error(&at, what, "list the API's client id, and its application ID URI where version 1 tokens are issued");
        }
        for (index, audience) in self.audiences.iter().enumerate() {
            if audience.trim() != audience || audience.is_empty() {
                let cure = "write the API's client id or its application ID URI";
                faults.error(&at.index(index), format!("`{audience}` can be no audience"), cure);
            } else if audience.contains('*') {
                let message = format!("`{audience}` is taken literally: no token is for an audience of that name");
                faults.warning(Lint::AudienceNeverIssued, &at.index(index), message, "list each audience as the token has it");
            }
        }
        self.audiences.iter().map(|audience| audience.as_str().into()).collect()
    }

    fn clock_skew(self, place: &Place, faults: &mut Faults) -> u64 {
        let skew = self.clock_skew.map_or(DEFAULT_SKEW, |span| span.0);
        if skew > MAX_SKEW {
            let what = "expired tokens would be good for longer than 10m";
            faults.error(&place.key("clock-skew"), what, "write 10m at most, and set the machines' clocks");
        }
        skew.as_secs()
    }

    fn required_claims(self, place: &Place, faults: &mut Faults) -> Vec<RequiredClaim> {
        let at = place.key("required-claims");
        for (index, claim) in self.required_claims.iter().enumerate() {
            let at = at.index(index);
            if claim.name.is_empty() {
                faults.error(&at.key("name"), "the claim has no name", "write the claim's name as in the token");
            }
            if claim.separator.as_deref() == Some("") {
                faults.error(&at.key("separator"), "an empty separator separates nothing", "write the separator, as \" \"");
            }
            lint_values(claim, &at.key("values"), faults);
        }
        let build = |claim: &RequiredClaimConfig| RequiredClaim {
            name: claim.name.as_str().into(),
            matching: claim.matching,
            values: claim.values.iter().map(|value| value.as_str().into()).collect(),
            separator: claim.separator.as_deref().map(Into::into),
        };
        self.required_claims.iter().map(build).collect()
    }

    fn status(self, place: &Place, faults: &mut Faults) -> Option<StatusCode> {
        let code = (*self.failed_validation_httpcode)?;
        let status = StatusCode::from_u16(code).ok().filter(StatusCode::is_client_error);
        if status.is_none() {
            let at = place.key("failed-validation-httpcode");
            faults.error(&at, format!("{code} does not tell a caller that it is refused"), "write a status from 400 to 499");
        }
        status
    }
}

/// Reports required values that nothing can equal.
fn lint_values(claim: &RequiredClaimConfig, place: &Place, faults: &mut Faults) {
    for (index, value) in claim.values.iter().enumerate() {
        let place = place.index(index);
        if value.is_empty() {
            let cure = "write the value; or leave `values` out, so that the claim only has to be there";
            faults.error(&place, "an empty text is not a value", cure);
        }
        if let Some(separator) = claim.separator.as_deref().filter(|separator| !separator.is_empty() && value.contains(separator))
        {
            let message = format!("`{value}` holds the separator `{separator}`, so no piece of a text is ever equal to it");
            faults.warning(
                Lint::SeparatorInValue,
                &place,
                message,
                "write each piece as a value of its own, or leave `separator` out",
            );
        }
    }
}

/// Reads scopes or roles: RFC 6749, section 3.3, defines their characters.
fn words(texts: &[String], place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    let letter = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    for (index, text) in texts.iter().enumerate() {
        if text.is_empty() || !text.bytes().all(letter) {
            let cure =
                "write one a list entry, without spaces, as tokens have them (`Orders.Read`, not `api://orders/Orders.Read`)";
            faults.error(&place.index(index), format!("`{text}` is not a scope or role"), cure);
        }
    }
    texts.iter().map(|text| text.as_str().into()).collect()
}

impl ValidateAzureAdTokenConfig {
    /// Returns the scopes as clients request them from Entra: prefixed with the API's URI if it has one, or with its client id.
    pub(crate) fn requested_scopes(&self) -> Vec<String> {
        let api = self.audiences.iter().find(|audience| audience.contains("://")).or(self.audiences.first());
        api.into_iter().flat_map(|api| self.scopes.iter().map(move |scope| format!("{api}/{scope}"))).collect()
    }
}

/// Returns the challenge with the sufficient scopes, as clients request them: RFC 6750, section 3.1.
pub(super) fn scope_challenge(scopes: &[String]) -> Option<HeaderValue> {
    let letter = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if scopes.is_empty() || !scopes.iter().all(|scope| scope.bytes().all(letter)) {
        return None;
    }
    HeaderValue::try_from(format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" "))).ok()
}

//! Builds a route's `authorization` from its settings.

use std::sync::Arc;

use http::HeaderName;

use super::{
    Authorization, AuthorizationConfig, AuthorizationWord, Basic, Form, FromHeaderConfig, OnBehalfOfConfig, UseCredentialConfig,
};
use crate::request::TokenPlace;
use crate::{
    credentials::{Credential, Credentials},
    entra::{TenantId, Tenants, is_guid},
    settings::{Faults, Place, Secrets},
};

/// The context in which a route's `authorization` is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AuthorizationContext<'a> {
    /// The gateway's credentials.
    pub(crate) credentials: &'a Credentials,
    /// The tenants of the config.
    pub(crate) tenants: &'a Tenants,
    /// The tenants that the route's token policies list; empty where one of them does not list its tenants.
    pub(crate) listed_tenants: &'a [Box<str>],
    /// The places in which the route's token policies look.
    pub(crate) token_places: &'a [TokenPlace],
    /// The names that the route's path captures.
    pub(crate) captures: &'a [String],
    /// The values of secret named values.
    pub(crate) secrets: &'a Secrets,
    /// True if the route is marked as anonymous.
    pub(crate) anonymous: bool,
}

impl Authorization {
    /// Builds the `authorization` of a route, or reports its faults.
    pub(crate) fn build(
        config: &AuthorizationConfig,
        context: AuthorizationContext<'_>,
        place: &Place,
        faults: &mut Faults,
    ) -> Option<Self> {
        let context = &context;
        let form = match config {
            AuthorizationConfig::Absent | AuthorizationConfig::Word(AuthorizationWord::Remove) => Form::Remove,
            AuthorizationConfig::Word(AuthorizationWord::Keep) => Form::Keep,
            AuthorizationConfig::FromHeader(config) => from_header(config, context, &place.key("from-header"), faults)?,
            AuthorizationConfig::Credential(config) => credential(config, context, place, faults)?,
            AuthorizationConfig::OnBehalfOf(config) => on_behalf_of(config, context, place, faults)?,
            AuthorizationConfig::Basic(config) => {
                let place = place.key("basic");
                let anonymous = refuses_anonymous(context, "basic", &place, faults);
                let basic = Basic::build(&config.basic, context.secrets, &place, faults)?;
                (!anonymous).then(|| Form::Basic(Box::new(basic)))?
            }
        };
        Some(Self { form, places: context.token_places.into() })
    }

    /// Reports token policies whose audience is not the application that exchanges their tokens: Entra would refuse each of them.
    pub(crate) fn check_audiences(&self, audiences: &[&str], place: &Place, faults: &mut Faults) {
        let Form::OnBehalfOf { credential, .. } = &self.form else { return };
        if !audiences.iter().any(|audience| audience.eq_ignore_ascii_case(credential.client_id())) {
            faults.missing(
                &place.key("on-behalf-of"),
                format!("no audience of this route is {}, which credential `{}` is", credential.client_id(), credential.name()),
                "Entra exchanges tokens for the application that asks alone: list its client id in `audiences`",
            );
        }
    }
}

fn from_header(
    config: &FromHeaderConfig,
    context: &AuthorizationContext<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Form> {
    if refuses_anonymous(context, "from-header", place, faults) {
        return None;
    }
    let Ok(name) = HeaderName::try_from(&*config.from_header) else {
        faults.error(
            place,
            format!("`{}` is not a header name", config.from_header),
            "write the name of a header, as Authorization2",
        );
        return None;
    };
    if !context.token_places.contains(&TokenPlace::Header(name.clone())) {
        faults.missing(
            place,
            format!("no token policy of this route looks at `{}`", config.from_header),
            "list it as `header-name` of the route's validate-azure-ad-token: only a validated token is moved",
        );
        return None;
    }
    Some(Form::FromHeader(name))
}

fn credential(
    config: &UseCredentialConfig,
    context: &AuthorizationContext<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Form> {
    let anonymous = refuses_anonymous(context, "credential", &place.key("credential"), faults);
    let scope = check_scope(&config.scope, &place.key("scope"), faults);
    let credential = find(&config.credential, context, &place.key("credential"), faults)?;
    let at = place.key("tenant");
    let form = match config.tenant.as_deref().map(str::trim) {
        Some("@(token.tenant)") => Form::InCallersTenant { credential: credential.clone(), scope: config.scope.as_str().into() },
        Some(expression) if expression.starts_with("@(") => {
            let capture = captured(expression, context, &at, faults);
            let allowed = allowed_tenants(config, context, place, faults);
            Form::InNamedTenant {
                credential: credential.clone(),
                scope: config.scope.as_str().into(),
                capture: capture?,
                allowed: allowed?,
            }
        }
        Some(name) => {
            let Some(id) = context.credentials.tenant_of(credential, name) else {
                let cure =
                    "name one of `tenants` that has an id of its own and the credential's authority, or \"@(token.tenant)\"";
                faults.error(&at, format!("credential `{}` cannot ask tenant `{name}`", config.credential), cure);
                return None;
            };
            Form::Credential { name: credential.name().clone(), slot: credential.slot_in(id, &config.scope)? }
        }
        None => {
            let Some(slot) = credential.slot(&config.scope) else {
                let message = format!("credential `{}` has no tenant of its own", config.credential);
                faults.error(place, message, "name the `tenant` here, as \"@(token.tenant)\", or at the credential");
                return None;
            };
            Form::Credential { name: credential.name().clone(), slot }
        }
    };
    (!anonymous && scope).then_some(form)
}

/// Returns the name of the capture in an expression for a tenant. No other part of a request may choose the tenant.
fn captured(expression: &str, context: &AuthorizationContext<'_>, place: &Place, faults: &mut Faults) -> Option<Box<str>> {
    let name = expression.strip_prefix("@(captures.").and_then(|rest| rest.strip_suffix(')'));
    let Some(name) = name.filter(|name| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
    else {
        let cure = "write \"@(token.tenant)\", the tenant that the token policy validated, or a capture of the path";
        faults.error(place, format!("`{expression}` names no tenant that could be checked"), cure);
        return None;
    };
    if !context.captures.iter().any(|capture| capture == name) {
        faults.error(place, format!("the route's path has no capture `{name}`"), format!("write it as {{{name}}} in the path"));
        return None;
    }
    Some(name.into())
}

/// Returns the ids of the tenants that a path may name.
fn allowed_tenants(
    config: &UseCredentialConfig,
    context: &AuthorizationContext<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Box<[Box<str>]>> {
    let mut ids = Vec::new();
    if config.allowed_tenants.is_empty() {
        ids.extend_from_slice(context.listed_tenants);
        if ids.is_empty() {
            let cure = "list them as `allowed-tenants` here, or at the route's token policy";
            faults.missing(&place.key("tenant"), "the path names the tenant, and it is not said which ones it may name", cure);
        }
    }
    let at = place.key("allowed-tenants");
    for (index, word) in config.allowed_tenants.iter().enumerate() {
        let id = match context.tenants.get(word).map(|tenant| tenant.id()) {
            Some(TenantId::Guid(id)) => Some(Box::<str>::from(&**id)),
            Some(_) => None,
            None => is_guid(word).then(|| word.to_ascii_lowercase().into()),
        };
        if id.is_none() {
            let cure = "write a tenant's id, or the name of one of `tenants` that has an id of its own";
            faults.error(&at.index(index), format!("`{word}` is no tenant that a path could name"), cure);
        }
        ids.extend(id);
    }
    (!ids.is_empty()).then(|| ids.into())
}

fn on_behalf_of(
    config: &OnBehalfOfConfig,
    context: &AuthorizationContext<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Form> {
    let anonymous = refuses_anonymous(context, "on-behalf-of", &place.key("on-behalf-of"), faults);
    let scopes: Vec<_> = config.scope.split_ascii_whitespace().collect();
    let usable =
        !scopes.is_empty() && config.scope.len() <= 1_024 && config.scope.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !usable {
        let message = format!("`{}` is not a scope", config.scope);
        faults.error(&place.key("scope"), message, "write a delegated permission, as https://graph.microsoft.com/User.Read");
    }
    let credential = find(&config.on_behalf_of, context, &place.key("on-behalf-of"), faults)?;
    if !credential.is_application() {
        let message = format!("credential `{}` is a managed identity, which cannot exchange tokens", config.on_behalf_of);
        faults.error(&place.key("on-behalf-of"), message, "name a credential with a `client-id`");
        return None;
    }
    (!anonymous && usable).then(|| Form::OnBehalfOf { credential: credential.clone(), scope: scopes.join(" ").into() })
}

fn find<'a>(name: &str, context: &AuthorizationContext<'a>, place: &Place, faults: &mut Faults) -> Option<&'a Arc<Credential>> {
    let found = context.credentials.find(name);
    if found.is_none() && !context.credentials.is_broken(name) {
        let known: Vec<_> = context.credentials.names().collect();
        let cure = if known.is_empty() {
            "define it under `credentials`".to_owned()
        } else {
            format!("name one of: {}", known.join(", "))
        };
        faults.error(place, format!("there is no credential `{name}`"), cure);
    }
    found
}

/// Reports a route that admits anyone, who would then act as the gateway; returns whether it did.
fn refuses_anonymous(context: &AuthorizationContext<'_>, key: &str, place: &Place, faults: &mut Faults) -> bool {
    if context.anonymous {
        faults.error(
            place,
            format!("`{key}` on a route with `anonymous: true`"),
            "authenticate the callers with a policy, or leave `authorization` out",
        );
    }
    context.anonymous
}

/// Returns whether `scope` names one resource, as the client credentials grant requires.
fn check_scope(scope: &str, place: &Place, faults: &mut Faults) -> bool {
    let cure = "write one resource and /.default, as https://graph.microsoft.com/.default or api://orders/.default";
    let resource = scope.strip_suffix("/.default").unwrap_or_default();
    if scope.contains(char::is_whitespace) {
        faults.error(place, format!("`{scope}` is more than one scope"), cure);
    } else if resource.is_empty() || scope.len() > 512 || !scope.bytes().all(|byte| byte.is_ascii_graphic()) {
        faults.error(place, format!("`{scope}` is not a scope that an application can ask for"), cure);
    } else {
        return true;
    }
    false
}

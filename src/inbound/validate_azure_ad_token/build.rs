//! Builds the policy from its settings; impossible settings are faults, with place and cure.

use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, OnceLock},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use serde_json::json;

use super::{
    AllowedTenantConfig, AllowedTenantsConfig, Answer, ClientCredentialConfig, SigningKeysConfig, TokenKindConfig,
    TokenTypeConfig, ValidateAzureAdToken, ValidateAzureAdTokenConfig,
    judge::{AllowedTenants, Rules},
    lookup::Lookups,
    place::Places,
    settings::{Settings, scope_challenge},
};
use crate::{
    entra::{Algorithm, KeySet, Profile, Tenant, TenantId, Tenants, Verifier, is_guid},
    inbound::{build_context::BuildContext, validate_jwt::ValidateJwtConfig},
    limits::Limits,
    request::ReservedNames,
    settings::{Faults, OneOrMany, Place, Secrets},
};

impl ValidateAzureAdToken {
    pub(crate) fn build(config: &ValidateAzureAdTokenConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let settings = Settings::from(config);
        let tenant = find_tenant(&config.tenant, place, context);
        let tenants = tenant.and_then(|tenant| allowed_tenants(config, tenant, context.tenants, place, context.faults));
        let mut rules = Rules {
            tenants: tenants.unwrap_or(AllowedTenants::Own),
            token_type: config.token_type,
            clients: guids(&config.client_application_ids, &place.key("client-application-ids"), context.faults),
            certificate: config.client_credential == ClientCredentialConfig::Certificate,
            contexts: contexts(config, place, context.faults),
            ..settings.rules(Profile::Entra, place, context.faults)
        };
        rules.lookups = Lookups::build(config, tenant, &rules.claims, place, context);
        judge_combination(config, place, context.faults);
        let applications = signing_keys(config, place, context.faults);
        let (places, answer) = (settings.places(place, context), settings.answer(place, context.faults));
        // The check decides about applications that were granted nothing, so the policy of the token that it looks at lets them
        // through. That is the first one, whichever way a request takes; of those that `as` names the check sees nothing.
        rules.partner_check_follows = context.tokens_before.partner_check_follows && !context.tokens_before.has_token;
        let name = settings.name(place, context);
        if context.faults.errors() > before {
            return None;
        }

        let tenant = tenant?;
        let sets = applications.iter().map(|application| context.tenants.key_set(tenant, application.as_deref())).collect();
        let suspects = if config.signing_keys_of.is_none() {
            suspects(&rules.audiences, tenant, context.tenants)
        } else if applications.contains(&None) {
            Vec::new()
        } else {
            vec![context.tenants.suspect(tenant, None)]
        };
        let claims_challenge = rules.contexts.first().and_then(|context| claims_challenge(context, tenant));
        Some(Self {
            places: Places::new(places),
            name,
            verifier: Verifier {
                sets,
                profile: Profile::Entra,
                algorithms: Algorithm::ENTRA.to_vec(),
                verified_token_cache: context.tenants.verified_token_cache().clone(),
            },
            rules,
            // Version 2 tokens name scopes bare; clients ask for them with the API before them.
            answer: Answer { claims_challenge, scope_challenge: scope_challenge(&config.requested_scopes()), ..answer },
            suspects,
            cloud: (!tenant.has_own_authority()).then(|| tenant.cloud()),
            verifier_name: OnceLock::new(),
        })
    }

    /// Does the same for another issuer's tokens.
    pub(crate) fn of_issuer(
        config: &ValidateJwtConfig,
        algorithms: Vec<Algorithm>,
        place: &Place,
        context: &mut BuildContext<'_>,
    ) -> Option<Self> {
        let before = context.faults.errors();
        let settings = Settings::from(config);
        let keys = context.tenants.issuer_keys(&config.issuer);
        if keys.is_err() {
            let cure = one_of(context.tenants.issuer_names(), "issuers");
            context.faults.error(&place.key("issuer"), format!("there is no issuer `{}`", config.issuer), cure);
        }
        let clients = config.client_application_ids.iter().map(|client| client.as_str().into()).collect();
        let rules = Rules { clients, ..settings.rules(Profile::Other, place, context.faults) };
        let (places, answer) = (settings.places(place, context), settings.answer(place, context.faults));
        let name = settings.name(place, context);
        if context.faults.errors() > before {
            return None;
        }
        Some(Self {
            places: Places::new(places),
            name,
            verifier: Verifier {
                sets: vec![keys.ok()??],
                profile: Profile::Other,
                algorithms,
                verified_token_cache: context.tenants.verified_token_cache().clone(),
            },
            rules,
            answer,
            suspects: Vec::new(),
            cloud: None,
            verifier_name: OnceLock::new(),
        })
    }

    /// Builds a policy outside of any route, for judging single tokens.
    pub fn alone(config: &ValidateAzureAdTokenConfig, tenants: &Tenants, faults: &mut Faults) -> Option<Self> {
        Self::before_partner_check(config, tenants, false, faults)
    }

    /// The same for a policy that `check-partner` follows, or does not.
    pub(crate) fn before_partner_check(
        config: &ValidateAzureAdTokenConfig,
        tenants: &Tenants,
        follows: bool,
        faults: &mut Faults,
    ) -> Option<Self> {
        outside_of_routes(tenants, faults, |context| {
            context.tokens_before.partner_check_follows = follows;
            Self::build(config, &Place::root(), context)
        })
    }
}

/// Builds something of a policy outside of any route.
pub(crate) fn outside_of_routes<T>(tenants: &Tenants, faults: &mut Faults, build: impl FnOnce(&mut BuildContext<'_>) -> T) -> T {
    let limits = Limits::default();
    build(&mut BuildContext {
        faults,
        sets: &Default::default(),
        tenants,
        captures: None,
        anonymous: false,
        reserved: &mut ReservedNames::default(),
        limits: (&limits).into(),
        secrets: &Secrets::default(),
        certificates: Default::default(),
        partners: None,
        token_places: &mut Vec::new(),
        graph: None,
        tokens_before: &mut Default::default(),
        on_error: Default::default(),
        credential_names: &Default::default(),
        upstreams: None,
        key_places: &mut Vec::new(),
    })
}

/// Returns the applications among the audiences, which might have keys of their own.
fn suspects(audiences: &[Box<str>], tenant: &Tenant, tenants: &Tenants) -> Vec<Arc<KeySet>> {
    let mut applications: Vec<_> = audiences
        .iter()
        .map(|audience| audience.strip_prefix("api://").unwrap_or(audience).to_ascii_lowercase())
        .filter(|audience| is_guid(audience))
        .collect();
    applications.sort_unstable();
    applications.dedup();
    applications.iter().map(|application| tenants.suspect(tenant, Some(application))).collect()
}

fn find_tenant<'a>(name: &str, place: &Place, context: &mut BuildContext<'a>) -> Option<&'a Tenant> {
    let found = context.tenants.get(name);
    // A tenant whose own settings are faulty is absent, and has been spoken of already.
    if found.is_none() && !context.tenants.mentions(name) {
        let is_same =
            |other: &&str| context.tenants.get(other).is_some_and(|tenant| tenant.id().as_str().eq_ignore_ascii_case(name));
        let same = context.tenants.names().find(is_same);
        let cure = match same {
            Some(other) => format!("write its name, `{other}`"),
            None if is_guid(name) => format!("define it as `tenants: {{ name: {{ id: {name} }} }}`, and write that name here"),
            None => one_of(context.tenants.names(), "tenants"),
        };
        context.faults.error(&place.key("tenant"), format!("there is no tenant `{name}`"), cure);
    }
    found.map(|tenant| &**tenant)
}

fn guids(texts: &[String], place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    for (index, text) in texts.iter().enumerate() {
        if !is_guid(text) {
            let cure = "write the application (client) id, as 11112222-bbbb-3333-cccc-4444dddd5555";
            faults.error(&place.index(index), format!("`{text}` is not a GUID"), cure);
        }
    }
    texts.iter().map(|text| text.to_ascii_lowercase().into()).collect()
}

/// Formats `write one of a, b`, or the section in which to define one.
fn one_of<'a>(names: impl Iterator<Item = &'a str>, section: &str) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { format!("define it in `{section}`") } else { format!("write one of {}", names.join(", ")) }
}

fn contexts(config: &ValidateAzureAdTokenConfig, place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    let names = config.authentication_context.as_ref().map_or(&[][..], OneOrMany::as_slice);
    let at = place.key("authentication-context");
    if config.authentication_context.is_some() && names.is_empty() {
        faults.error(&at, "no authentication context is named", "name one, as c1, or leave the setting out");
    }
    for name in names {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            faults.error(&at, format!("`{name}` is not an authentication context"), "write its id, as c1");
        }
    }
    names.iter().map(|name| name.as_str().into()).collect()
}

fn judge_combination(config: &ValidateAzureAdTokenConfig, place: &Place, faults: &mut Faults) {
    if config.token_type == TokenTypeConfig::Id {
        let mut contradiction = |key: &str, what: &str| {
            faults.error(&place.key(key), what, "leave it out, or ask for access tokens (`token-type: access`)");
        };
        if config.token_kind == TokenKindConfig::App {
            contradiction("token-kind", "applications have no ID tokens");
        }
        if !config.client_application_ids.is_empty() {
            contradiction("client-application-ids", "an ID token names no client");
        }
        if config.client_credential == ClientCredentialConfig::Certificate {
            contradiction("client-credential", "an ID token does not say how a client authenticated");
        }
        if !config.scopes.is_empty() {
            contradiction("scopes", "an ID token has no scopes");
        }
    }
    if config.token_kind == TokenKindConfig::App && config.authentication_context.is_some() {
        let cure = "leave it out, or accept users (`token-kind: user`)";
        faults.error(&place.key("authentication-context"), "applications satisfy no authentication context", cure);
    }
}

/// Returns the owners of the accepted keys: for each key set the application, or none for the tenant's own.
fn signing_keys(config: &ValidateAzureAdTokenConfig, place: &Place, faults: &mut Faults) -> Vec<Option<Box<str>>> {
    let application = config.signing_keys_of.as_deref();
    if let Some(text) = application.filter(|text| !is_guid(text)) {
        let cure = "write the API's application (client) id";
        faults.error(&place.key("signing-keys-of"), format!("`{text}` is not a GUID"), cure);
    }
    let application: Option<Box<str>> = application.map(|text| text.to_ascii_lowercase().into());
    if config.signing_keys.is_empty() {
        return vec![application];
    }
    let at = place.key("signing-keys");
    let mut sets = Vec::new();
    for which in &config.signing_keys {
        let set = match which {
            SigningKeysConfig::Tenant => None,
            SigningKeysConfig::App if application.is_none() => {
                faults.error(&at, "it is not said whose keys `app` means", "add `signing-keys-of` with the API's client id");
                continue;
            }
            SigningKeysConfig::App => application.clone(),
        };
        if sets.contains(&set) {
            faults.error(&at, "an entry stands twice", "write `tenant` and `app` once each");
        } else {
            sets.push(set);
        }
    }
    if application.is_some() && !sets.contains(&application) {
        faults.error(&at, "`signing-keys-of` names keys that do not count", "add `app` to the list, or drop `signing-keys-of`");
    }
    sets
}

fn allowed_tenants(
    config: &ValidateAzureAdTokenConfig,
    tenant: &Tenant,
    tenants: &Tenants,
    place: &Place,
    faults: &mut Faults,
) -> Option<AllowedTenants> {
    let at = place.key("allowed-tenants");
    let many = tenant.id().is_many();
    let Some(allowed) = &config.allowed_tenants else {
        if many {
            let what = format!("`{}` issues tokens for every tenant, and it is not said whose are accepted", tenant.name());
            faults.error(&at, what, "list the tenants, or write `any`");
        }
        return Some(AllowedTenants::Own);
    };

    let mut list = Vec::new();
    match allowed {
        AllowedTenantsConfig::Word(word) if word == "any" && many => return Some(AllowedTenants::Any),
        AllowedTenantsConfig::Word(word) if word == "any" => {
            let cure = "set the tenant's `id` to `organizations`, or leave `allowed-tenants` out";
            faults.error(&at, format!("`{}` issues tokens for its own tenant alone", tenant.name()), cure);
            return None;
        }
        AllowedTenantsConfig::Word(word) => list.extend(tenant_id(word, tenants, &at, faults)),
        AllowedTenantsConfig::File(file) => list.extend(read_file(&tenants.file(&file.file), &at, faults)),
        AllowedTenantsConfig::List(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                let at = at.index(index);
                match entry {
                    AllowedTenantConfig::Word(word) if word == "any" => {
                        faults.error(&at, "`any` allows all others too", "write `allowed-tenants: any`, or list tenants");
                    }
                    AllowedTenantConfig::Word(word) => list.extend(tenant_id(word, tenants, &at, faults)),
                    AllowedTenantConfig::File(file) => list.extend(read_file(&tenants.file(&file.file), &at, faults)),
                }
            }
            if entries.is_empty() {
                faults.error(&at, "no tenant is allowed, so every caller would be refused", "list the tenants");
            }
        }
    }
    if !many {
        let own = |id: &str| matches!(tenant.id(), TenantId::Guid(own) if **own == *id);
        if let Some(other) = list.iter().find(|id| !own(id)) {
            let what = format!("`{}` issues no tokens for the tenant {other}", tenant.name());
            faults.error(&at, what, "set the tenant's `id` to `organizations`, or leave `allowed-tenants` out");
        }
        return Some(AllowedTenants::Own);
    }
    list.sort_unstable();
    list.dedup();
    Some(AllowedTenants::Listed(list))
}

/// Returns the tenants whose tokens a policy accepts, if they are listed. Faults of the list are reported where it is built.
pub(crate) fn listed_tenants(config: &ValidateAzureAdTokenConfig, tenants: &Tenants) -> Option<Vec<Box<str>>> {
    let tenant = tenants.get(&config.tenant)?;
    match allowed_tenants(config, tenant, tenants, &Place::root(), &mut Faults::default())? {
        AllowedTenants::Listed(list) => Some(list),
        AllowedTenants::Own | AllowedTenants::Any | AllowedTenants::NotAsked => None,
    }
}

/// Returns the GUID for a word of `allowed-tenants`.
fn tenant_id(word: &str, tenants: &Tenants, place: &Place, faults: &mut Faults) -> Option<Box<str>> {
    if is_guid(word) {
        return Some(word.to_ascii_lowercase().into());
    }
    match tenants.get(word).map(|tenant| tenant.id()) {
        Some(TenantId::Guid(guid)) => return Some(guid.clone()),
        Some(_) => faults.error(place, format!("`{word}` does not stand for one GUID"), "write the tenant's GUID here"),
        None if tenants.mentions(word) => {}
        None => {
            faults.error(
                place,
                format!("`{word}` is neither a tenant of this config nor a GUID"),
                one_of(tenants.names(), "tenants"),
            );
        }
    }
    None
}

fn read_file(path: &Path, place: &Place, faults: &mut Faults) -> Vec<Box<str>> {
    let name = path.display();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            faults.error(place, format!("{name} cannot be read: {error}"), "name a file with a GUID a line");
            return Vec::new();
        }
    };
    let mut list = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let entry = line.split('#').next().unwrap_or_default().trim();
        if is_guid(entry) {
            list.push(entry.to_ascii_lowercase().into());
        } else if !entry.is_empty() {
            faults.error(
                place,
                format!("line {} of {name} is not a GUID: `{entry}`", number + 1),
                "write a GUID a line, comments after #",
            );
        }
    }
    list
}

/// Returns the claims that a client which supports challenges takes to Entra to step up.
fn claims_challenge(context: &str, tenant: &Tenant) -> Option<HeaderValue> {
    let claims = json!({ "access_token": { "acrs": { "essential": true, "value": context } } });
    let realm = if tenant.id().is_many() { "" } else { tenant.id().as_str() };
    let mut challenge = format!("Bearer realm=\"{realm}\", authorization_uri=\"{}\"", tenant.below("oauth2/authorize"));
    // Writing to a text cannot fail.
    let _ = write!(challenge, ", error=\"insufficient_claims\", claims=\"{}\"", STANDARD.encode(claims.to_string()));
    HeaderValue::try_from(challenge).ok()
}

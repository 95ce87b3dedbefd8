//! The token endpoints, versions 1 and 2: client credentials and on-behalf-of.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State as Extract},
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::mint::ClientAuthentication;
use super::{
    State,
    assertion::Assertion,
    directory::{App, Directory},
    metadata::tenant_not_found,
    mint::TokenBuilder,
    problem::{Aadsts, no_store},
};

const JWT_BEARER_CLIENT: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The lifetime of tokens, in seconds.
const LIFETIME: u64 = 3_599;
/// The lifetime of tokens for clients that support claims challenges: a day.
const LONG_LIFETIME: u64 = 86_399;

pub(crate) async fn v2(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(state, &tenant, &headers, &body, Version::Two)
}

pub(crate) async fn v1(
    Extract(state): Extract<Arc<State>>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(state, &tenant, &headers, &body, Version::One)
}

/// The version of the endpoint, which is not the version of the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

fn answer(state: Arc<State>, tenant: &str, headers: &HeaderMap, body: &[u8], version: Version) -> Response {
    let now = state.clock.unix_seconds();
    let result = Form::read(headers, body).and_then(|form| Call { state, tenant, form, version, now }.issue());
    match result {
        Ok(body) => {
            let mut response = Json(body).into_response();
            no_store(&mut response);
            response
        }
        Err(error) => error.response(now, headers),
    }
}

/// The fields of a request.
struct Form(BTreeMap<String, String>);

impl Form {
    fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, Aadsts> {
        let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded") {
            return Err(Aadsts::invalid_request(900_144, "The request body must be a form (application/x-www-form-urlencoded)."));
        }
        let mut fields = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            if fields.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Aadsts::invalid_request(
                    9_000_411,
                    format!("The request is not properly formatted. The parameter '{name}' is duplicated."),
                ));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, Aadsts> {
        self.get(name).ok_or_else(|| {
            Aadsts::invalid_request(900_144, format!("The request body must contain the following parameter: '{name}'."))
        })
    }
}

/// One token request.
struct Call<'a> {
    state: Arc<State>,
    tenant: &'a str,
    form: Form,
    version: Version,
    now: u64,
}

/// The target of a token.
struct Target {
    resource: App,
    /// The audience as the client wrote it, without `/.default` or a scope's name.
    audience: String,
    scopes: Vec<String>,
}

impl Call<'_> {
    fn issue(&self) -> Result<Value, Aadsts> {
        let directory = self.state.directory().clone();
        let grant = self.form.need("grant_type")?;
        let client_id = self.form.need("client_id")?;
        if matches!(self.tenant, "common" | "organizations" | "consumers") && grant == "client_credentials" {
            return Err(Aadsts::invalid_request(
                9_001_023,
                "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint.",
            ));
        }
        let tenant = directory.tenant(self.tenant).ok_or_else(|| tenant_not_found(self.tenant))?.id.clone();
        let app = find_app(&directory, client_id, &tenant)?;
        let credential = self.authenticate(app, &tenant)?;
        let builder = TokenBuilder::new(self.state.clone()).tenant(&tenant);
        match grant {
            "client_credentials" => self.client_credentials(&directory, &tenant, app, credential, builder),
            JWT_BEARER_GRANT if self.form.get("requested_token_use") == Some("on_behalf_of") => {
                self.on_behalf_of(&directory, &tenant, app, credential, builder)
            }
            other => Err(Aadsts::new(
                70003,
                "unsupported_grant_type",
                format!("The app requested an unsupported grant type '{other}'."),
            )),
        }
    }

    fn authenticate(&self, app: &App, tenant: &str) -> Result<ClientAuthentication, Aadsts> {
        match (self.form.get("client_assertion"), self.form.get("client_secret")) {
            (Some(assertion), _) => {
                if self.form.need("client_assertion_type")? != JWT_BEARER_CLIENT {
                    return Err(Aadsts::invalid_request(50027, "The client assertion type is not supported."));
                }
                let assertion = Assertion::read(assertion)?;
                // Without any trusted issuer an assertion can only be the app's own, and the error should speak of its certificate.
                if assertion.names_certificate() || app.federated.is_empty() {
                    assertion.check_certificate(app, &self.audiences(tenant), self.now)?;
                } else {
                    assertion.check_federated(app, &self.state, self.now)?;
                }
                Ok(ClientAuthentication::Certificate)
            }
            (None, Some(secret)) => {
                if app.secrets.iter().any(|known| known == secret) {
                    if app.secrets_end.is_some_and(|end| end <= self.now) {
                        return Err(Aadsts::invalid_client(
                            7_000_222,
                            format!("The provided client secret keys for app '{}' are expired.", app.client_id),
                        ));
                    }
                    return Ok(ClientAuthentication::Secret);
                }
                Err(Aadsts::invalid_client(
                    7_000_215,
                    format!(
                        "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, \
                         for a secret added to app '{}'.",
                        app.client_id
                    ),
                ))
            }
            (None, None) => Err(Aadsts::invalid_client(
                7_000_218,
                "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
            )),
        }
    }

    /// Returns the audiences that an assertion may have: the token endpoint of the tenant in the path, by its id or as written in
    /// the path.
    fn audiences(&self, tenant: &str) -> Vec<String> {
        let mut bases = vec![self.state.base.clone()];
        bases.extend(self.state.aliases.iter().cloned());
        bases
            .iter()
            .flat_map(|base| {
                [tenant, self.tenant].into_iter().flat_map(move |tenant| {
                    [format!("{base}/{tenant}/oauth2/v2.0/token"), format!("{base}/{tenant}/oauth2/token")]
                })
            })
            .collect()
    }

    /// Returns the requested target: `resource` at version 1, one `scope` or several of one resource at version 2.
    fn target(&self, directory: &Directory, delegated: bool) -> Result<Target, Aadsts> {
        let unknown = |resource: &str| {
            Aadsts::new(
                500_011,
                "invalid_resource",
                format!(
                    "The resource principal named {resource} was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant."
                ),
            )
        };
        if self.version == Version::One {
            let audience = self.form.need("resource")?.to_owned();
            let resource = directory.resource(&audience).ok_or_else(|| unknown(&audience))?.clone();
            return Ok(Target { resource, audience, scopes: Vec::new() });
        }
        let scope = self.form.need("scope")?;
        let invalid = |code: u32, text: String| Aadsts::new(code, "invalid_scope", text);
        let mut audience: Option<&str> = None;
        let mut scopes = Vec::new();
        for word in scope.split(' ').filter(|word| !matches!(*word, "" | "openid" | "profile" | "offline_access" | "email")) {
            // An identifier that itself ends with a slash needs it twice; a client id is a resource by itself.
            let Some((resource, name)) = word.rsplit_once('/') else {
                return Err(invalid(
                    70011,
                    format!("The provided value for the input parameter 'scope' is not valid. The scope {word} is not valid."),
                ));
            };
            if !delegated && name != ".default" {
                return Err(invalid(
                    1_002_012,
                    format!(
                        "The provided value for scope {word} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."
                    ),
                ));
            }
            if audience.is_some_and(|other| other != resource) {
                return Err(invalid(
                    if delegated { 28000 } else { 700_022 },
                    format!(
                        "The provided value for the input parameter scope is not valid because it contains more than one resource. Scope {scope} is not valid."
                    ),
                ));
            }
            audience = Some(resource);
            scopes.push(name.to_owned());
        }
        let audience = audience.ok_or_else(|| {
            invalid(
                70011,
                format!("The provided value for the input parameter 'scope' is not valid. The scope {scope} is not valid."),
            )
        })?;
        // RFC 8707's parameter passes where it says what the scope says already, and nothing else does.
        if self.form.get("resource").is_some_and(|resource| resource.trim_end_matches('/') != audience.trim_end_matches('/')) {
            return Err(Aadsts::new(
                9_010_010,
                "invalid_target",
                "The resource parameter provided in the request doesn't match with the requested scopes.",
            ));
        }
        let resource = directory.resource(audience).ok_or_else(|| unknown(audience))?.clone();
        Ok(Target { resource, audience: audience.to_owned(), scopes })
    }

    fn client_credentials(
        &self,
        directory: &Directory,
        tenant: &str,
        app: &App,
        credential: ClientAuthentication,
        builder: TokenBuilder,
    ) -> Result<Value, Aadsts> {
        let target = self.target(directory, false)?;
        check_resource(directory, &target, tenant)?;
        let roles = target.resource.of_resource(&app.roles).cloned().unwrap_or_default();
        if roles.is_empty() && target.resource.assignment_required {
            return Err(Aadsts::invalid_grant(
                501_051,
                format!(
                    "Application '{}'({}) is not assigned to a role for the application '{}'({}).",
                    app.client_id, app.name, target.audience, target.resource.name
                ),
            ));
        }
        let builder = builder.app(&app.client_id).client_credential(credential).roles(roles);
        self.finish(&target, builder, None)
    }

    fn on_behalf_of(
        &self,
        directory: &Directory,
        tenant: &str,
        app: &App,
        credential: ClientAuthentication,
        builder: TokenBuilder,
    ) -> Result<Value, Aadsts> {
        let user = self.user_assertion(directory, tenant, app)?;
        let target = self.target(directory, true)?;
        check_resource(directory, &target, tenant)?;
        let consented = target.resource.of_resource(&app.delegated).cloned().unwrap_or_default();
        let wanted: Vec<String> = match target.scopes.iter().all(|scope| scope == ".default") {
            true => consented.iter().cloned().collect(),
            false => target.scopes.clone(),
        };
        if wanted.is_empty() || wanted.iter().any(|scope| !consented.contains(scope)) {
            return Err(Aadsts::invalid_grant(
                65001,
                format!(
                    "The user or administrator has not consented to use the application with ID '{}' named '{}'. Send an interactive authorization request for this user and resource.",
                    app.client_id, app.name
                ),
            )
            .member("suberror", "consent_required"));
        }
        let builder = builder.user(&user).client(&app.client_id).client_credential(credential).scopes(wanted.iter().cloned());
        let scope: Vec<String> = wanted.iter().map(|scope| format!("{}/{scope}", target.audience)).collect();
        self.finish(&target, builder, Some(scope.join(" ")))
    }

    /// Returns the user of the inbound token, after its checks.
    fn user_assertion(&self, directory: &Directory, tenant: &str, app: &App) -> Result<String, Aadsts> {
        let assertion = Assertion::read(self.form.need("assertion")?)?;
        let invalid = |code: u32, text: &str| Err(Aadsts::invalid_grant(code, text));
        let claim = |name: &str| assertion.claims.get(name).and_then(Value::as_str).unwrap_or_default();
        let kid = assertion.header.get("kid").and_then(Value::as_str).unwrap_or_default();
        // A token signed by an app's own key cannot be exchanged.
        if !self.state.keys().published.iter().any(|key| key.kid() == kid && assertion.is_signed_by(key)) {
            return invalid(50013, "Assertion failed signature validation. [Reason - The key was not found.]");
        }
        if claim("iss") != self.state.issuer_v2(tenant) && claim("iss") != self.state.issuer_v1(tenant) {
            return invalid(50013, "Assertion failed issuer validation.");
        }
        if !app.is_resource(claim("aud")) {
            return invalid(500_131, "Assertion audience does not match the Client app presenting the assertion.");
        }
        if assertion.claims.get("exp").and_then(Value::as_u64).is_none_or(|exp| exp <= self.now) {
            return invalid(
                500_133,
                "Assertion is not within its valid time range. Ensure that the access token is not expired.",
            );
        }
        if claim("azp").is_empty() && claim("appid").is_empty() {
            return invalid(240_002, "Input id_token cannot be used as 'urn:ietf:params:oauth:grant-type:jwt-bearer' grant.");
        }
        if claim("scp").is_empty() {
            return invalid(7_000_114, "Application is not allowed to make application on-behalf-of calls.");
        }
        // The principal name leads back to the user; a token without one still names the object.
        let name =
            [claim("preferred_username"), claim("upn"), claim("oid")].into_iter().find(|name| !name.is_empty()).unwrap_or("nia");
        Ok(directory.user(name, tenant).name)
    }

    fn finish(&self, target: &Target, builder: TokenBuilder, scope: Option<String>) -> Result<Value, Aadsts> {
        // The resource's manifest decides about version and audience, not the endpoint.
        let (builder, audience) = if target.resource.token_version == 1 {
            let guid = target.resource.optional_claims.contains("use_guid");
            (builder.v1(), if guid { target.resource.client_id.clone() } else { target.audience.clone() })
        } else {
            (builder.v2(), target.resource.client_id.clone())
        };
        let capable = self.form.get("claims").is_some_and(|claims| claims.to_ascii_lowercase().contains("\"cp1\""));
        let lifetime = if capable && target.resource.client_id == super::defaults::GRAPH { LONG_LIFETIME } else { LIFETIME };
        let builder = builder.audience(&audience).expires_in(i64::try_from(lifetime).unwrap_or(i64::MAX));
        let builder = if capable { builder.claim("xms_cc", json!(["cp1"])) } else { builder };
        let token = builder.try_sign().map_err(|error| {
            Aadsts::new(90033, "temporarily_unavailable", format!("A transient error has occurred: {error}."))
        })?;

        Ok(match self.version {
            Version::Two => {
                let mut body = json!({
                    "token_type": "Bearer",
                    "expires_in": lifetime,
                    "ext_expires_in": lifetime,
                    "access_token": token,
                });
                if lifetime == LONG_LIFETIME {
                    body["refresh_in"] = (lifetime / 2).into();
                }
                if let Some(scope) = scope {
                    body["scope"] = scope.into();
                }
                body
            }
            // Version 1 writes its numbers as texts.
            Version::One => json!({
                "token_type": "Bearer",
                "expires_in": lifetime.to_string(),
                "ext_expires_in": lifetime.to_string(),
                "expires_on": (self.now + lifetime).to_string(),
                "not_before": self.now.to_string(),
                "resource": target.audience,
                "access_token": token,
            }),
        })
    }
}

fn find_app<'a>(directory: &'a Directory, client_id: &str, tenant: &str) -> Result<&'a App, Aadsts> {
    let not_found = || {
        Aadsts::new(
            700_016,
            "unauthorized_client",
            format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'. This can happen if the application has not been \
                 installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            ),
        )
    };
    let app = directory.app(client_id).ok_or_else(not_found)?;
    if !directory.is_in(app, tenant) {
        return Err(if app.multi_tenant {
            Aadsts::new(
                7_000_229,
                "unauthorized_client",
                format!("The client application {client_id} is missing service principal in the tenant {tenant}."),
            )
        } else {
            not_found()
        });
    }
    if app.disabled {
        return Err(Aadsts::new(
            7_000_112,
            "unauthorized_client",
            format!("Application '{client_id}'({}) is disabled.", app.name),
        ));
    }
    Ok(app)
}

/// Checks the resource itself, as Entra does.
fn check_resource(directory: &Directory, target: &Target, tenant: &str) -> Result<(), Aadsts> {
    let resource = &target.resource;
    if !directory.is_in(resource, tenant) {
        return Err(Aadsts::new(
            500_011,
            "invalid_resource",
            format!("The resource principal named {} was not found in the tenant {tenant}.", target.audience),
        ));
    }
    if resource.claims_mapping.is_empty() || resource.custom_signing_key {
        return Ok(());
    }
    if !resource.accept_mapped_claims {
        return Err(Aadsts::invalid_request(
            50146,
            format!(
                "This application is required to be configured with an application-specific signing key. It is either not configured with one, or the key has expired or is not yet valid. Application: '{}'.",
                resource.client_id
            ),
        ));
    }
    // The audience must be the bare client id, or lie in a verified domain.
    let verified = directory.tenant(tenant).is_some_and(|tenant| {
        url::Url::parse(&target.audience)
            .is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| tenant.domains.contains(host)))
    });
    if verified || target.audience.eq_ignore_ascii_case(&resource.client_id) {
        return Ok(());
    }
    Err(Aadsts::invalid_request(
        501_461,
        "AcceptMappedClaims is only supported for a token audience matching the application GUID or an audience within the tenant's verified domains. Either change the resource identifier, or use an application-specific signing key.",
    ))
}

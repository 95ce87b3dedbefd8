//! `token-relay`: partners' token requests, relayed to Entra's token endpoint.
//!
//! Such a route guards the use of third parties' client credentials. The decision on a request depends on the partner of its
//! `client_id` (address, kind of credential, routes, expiry, rate and quota, as for
//! [`check-partner`](crate::inbound::check_partner)) and by the route: grant types, scopes, kind of credential. The tenant is the
//! route's. The relayed request is built anew from the few parameters that were judged; Entra's response is returned without
//! Entra's header fields. Nothing is stored, and nothing of a secret or an assertion is logged.
//!
//! The decision covers everything that Entra reads: an assertion must be issued by the client itself, and a duplicate parameter,
//! in any letter case, refuses the request.
//!
//! # Its effect
//!
//! Anyone with the credentials can call Entra directly, from anywhere. The relay becomes mandatory through a Conditional Access
//! policy for workload identities that admits the partner's application only from the gateway's egress address. It is no
//! replacement for that policy, and that policy cannot tell one partner behind the relay from another: the relay does.
//!
//! # Assertions
//!
//! An assertion is made for one URL, its `aud`, and Entra accepts only those for its own token endpoint. A client library that is
//! configured with the relay makes them for the relay's URL. So clients with a secret only need another URL; clients with a
//! certificate have to make the assertion for `https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token` and send it here, as
//! Microsoft's libraries do where the application brings the assertion (`client_assertion`, `WithClientAssertion`).

mod form;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use tokio::runtime::Handle;
use url::Url;
use zeroize::Zeroizing;

use self::form::{ClientProof, FormFault, ON_BEHALF_OF, RelayRequest};
use crate::{
    base::fields::{Fields, Known},
    base::response::Response,
    credentials::{ANSWER_CAP, Grant, Proof, Refused, TokenRequest, aadsts::Asker, consent_uri, refused},
    entra::{TenantId, Tenants, token::TokenKind},
    exchange::Exchange,
    identity_http::{Answer, IdentityHttp, IdentityHttpError},
    inbound::{
        build_context::PartnerRoute,
        check_partner::{self, CheckPartner, CheckPartnerConfig},
    },
    listener::RequestBody,
    partner::{Call, PartnerCredential, Partners},
    refusal::{
        Reason, Refusal,
        trace::{SentRequest, StandIn},
    },
    request::{IncomingRequest, Relayed},
    settings::{Faults, Place},
};

/// The longest request that is read, in bytes.
const MOST_BYTES: u64 = 64 << 10;

/// A relay of token requests.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TokenRelayConfig {
    /// The tenant whose token endpoint is used: a name of `tenants`. Requests cannot choose another one.
    pub tenant: String,
    /// The allowed grant types. Default: client_credentials.
    #[serde(default = "client_credentials")]
    pub grant_types: Vec<GrantType>,
    /// The allowed scopes, exactly as written here; at least one. Applications ask for one, exchanges for one or more.
    pub scopes: Vec<String>,
    /// The required authentication of clients: any, or certificate, which accepts only assertions. Default: any.
    #[serde(default)]
    pub client_credential: PartnerCredential,
    /// The allowed partners. Default: all whose `routes` allow it.
    pub partners: Option<Vec<String>>,
}

/// A grant type that can be relayed.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
pub enum GrantType {
    /// RFC 6749, section 4.4.
    #[serde(rename = "client_credentials")]
    ClientCredentials,
    /// Entra's exchange of a user's token (on-behalf-of): RFC 7523, section 2.1. The partner needs `token-kind: any`.
    #[serde(rename = "urn:ietf:params:oauth:grant-type:jwt-bearer")]
    OnBehalfOf,
}

impl GrantType {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::OnBehalfOf => ON_BEHALF_OF,
        }
    }
}

fn client_credentials() -> Vec<GrantType> {
    vec![GrantType::ClientCredentials]
}

/// A relay of token requests, built.
#[derive(Debug)]
pub struct TokenRelay {
    /// The tenant, a GUID.
    tenant: Box<str>,
    endpoint: Arc<Url>,
    /// The audiences of assertions that Entra accepts there.
    audiences: [Box<str>; 2],
    grant_types: Vec<GrantType>,
    scopes: Box<[Box<str>]>,
    credential: PartnerCredential,
    partner: CheckPartner,
    http: Arc<IdentityHttp>,
    /// The runtime of the calls, whose connections outlive the requests.
    background: OnceLock<Handle>,
}

/// The context in which a relay is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RelayContext<'a> {
    pub(crate) tenants: &'a Tenants,
    pub(crate) partners: &'a Arc<Partners>,
    pub(crate) http: &'a Arc<IdentityHttp>,
    /// The route's name.
    pub(crate) route: &'a str,
    /// Whether the route matches one path, and only POST, with the place of its `match`.
    pub(crate) one_path: (bool, &'a Place),
}

/// The reason why a request is not relayed, or its response not returned. Holds nothing that the client sent.
#[derive(Debug, thiserror::Error)]
enum RelayFault {
    #[error("the body is not a form: {0}")]
    NotAForm(&'static str),
    #[error("the form cannot be used")]
    Form(#[from] FormFault),
    #[error("the grant type is not one of `grant-types`")]
    GrantType,
    #[error("the scope is not one of `scopes`")]
    Scope,
    #[error("`/.default` stands for every permission that was consented to, and `scopes` lists single ones of this API")]
    DefaultBesideOthers,
    #[error("the client sent a secret, but `client-credential` requires an assertion")]
    Credential,
    #[error("the token endpoint cannot be reached")]
    Unreachable(#[source] IdentityHttpError),
    #[error("the token endpoint answered {0} with something that is not a JSON object")]
    NoAnswer(StatusCode),
    #[error("the call of the token endpoint was aborted")]
    Interrupted,
}

impl From<RelayFault> for Refusal {
    fn from(fault: RelayFault) -> Self {
        let reason = match &fault {
            RelayFault::NotAForm(_) | RelayFault::Form(_) => Reason::TokenRequestInvalid,
            RelayFault::GrantType => Reason::GrantTypeNotAllowed,
            RelayFault::Scope | RelayFault::DefaultBesideOthers => Reason::ScopeNotAllowed,
            RelayFault::Credential => Reason::ClientCredentialTooWeak,
            RelayFault::Unreachable(IdentityHttpError::Timeout { .. }) => Reason::UpstreamTimeout,
            RelayFault::Unreachable(error) if error.never_sent() => Reason::UpstreamUnreachable,
            RelayFault::Unreachable(_) | RelayFault::NoAnswer(_) => Reason::UpstreamProtocolError,
            RelayFault::Interrupted => Reason::InternalError,
        };
        Self::new(reason, fault)
    }
}

impl TokenRelay {
    /// Builds the relay at this place, or reports its faults.
    pub(crate) fn build(config: &TokenRelayConfig, with: RelayContext<'_>, place: &Place, faults: &mut Faults) -> Option<Self> {
        let before = faults.errors();
        let (one_path, at) = with.one_path;
        if !one_path {
            let cure = "write { exact-path: /token, methods: [POST] }";
            faults.error(at, "a relay of token requests is one path that takes POST alone", cure);
        }
        let tenant = with.tenants.get(&config.tenant);
        let id = match tenant.map(|tenant| tenant.id()) {
            Some(TenantId::Guid(guid)) => Some(guid.clone()),
            Some(_) => {
                let message = format!("`{}` does not stand for one tenant by its GUID", config.tenant);
                faults.error(&place.key("tenant"), message, "name a tenant whose `id` is a GUID");
                None
            }
            None if with.tenants.mentions(&config.tenant) => None,
            None => {
                faults.error(&place.key("tenant"), format!("there is no tenant `{}`", config.tenant), "name one of `tenants`");
                None
            }
        };
        if config.grant_types.is_empty() {
            faults.error(
                &place.key("grant-types"),
                "the list is empty, so every request would be refused",
                "list client_credentials",
            );
        }
        if config.scopes.is_empty() {
            faults.error(&place.key("scopes"), "the list is empty, so every request would be refused", "list the scopes");
        }
        for (index, scope) in config.scopes.iter().enumerate() {
            let of_user = config.grant_types.contains(&GrantType::OnBehalfOf);
            let resource = match scope.strip_suffix("/.default") {
                None if of_user => scope.rsplit_once('/').map(|(resource, _)| resource).unwrap_or_default(),
                resource => resource.unwrap_or_default(),
            };
            if resource.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_graphic()) {
                let message = format!("`{scope}` is not a scope of this grant: applications ask for all that they were given");
                faults.error(&place.key("scopes").index(index), message, "write it as api://orders/.default");
            }
        }
        let check = CheckPartnerConfig { partners: config.partners.clone(), ..Default::default() };
        let route = PartnerRoute { has_token: true, ..PartnerRoute::of(with.route) };
        let partner = CheckPartner::for_route(&check, place, with.partners, route, faults);
        if faults.errors() > before {
            return None;
        }
        let tenant = tenant?;
        let endpoint = tenant.below("oauth2/v2.0/token");
        Some(Self {
            tenant: id?,
            audiences: [endpoint.as_str().into(), tenant.below("oauth2/token").as_str().into()],
            endpoint: Arc::new(endpoint),
            grant_types: config.grant_types.clone(),
            scopes: config.scopes.iter().map(|scope| scope.as_str().into()).collect(),
            credential: config.client_credential,
            partner: partner?,
            http: with.http.clone(),
            background: OnceLock::new(),
        })
    }

    /// Sets the runtime of the calls.
    pub(crate) fn start(&self, background: &Handle) {
        self.background.get_or_init(|| background.clone());
    }

    /// Judges a request, calls Entra, and returns its response.
    ///
    /// # Errors
    /// Returns the refusal of a request that is not allowed, or the failure of the call.
    pub(crate) async fn answer(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        body: RequestBody,
    ) -> Result<Response<Bytes>, Refusal> {
        judge_head(incoming)?;
        if exchange.trace.decides_only() {
            // Its body was not kept: it holds the client's credential.
            exchange.lacks("the body of the token request");
            return Err(Reason::TokenRequestInvalid.into());
        }
        let mut asked = form::read(&read(body).await?).map_err(RelayFault::from)?;
        let credential = asked.shown.kind();
        exchange.relayed =
            Some(Relayed { tenant: self.tenant.clone(), client: asked.client_id.as_str().into(), credential, proven: false });
        let certificate = exchange.proven_certificate().cloned();
        let call = Call {
            application: Some(&asked.client_id),
            tenant: &self.tenant,
            // A grant that the route does not allow is refused as such, whoever asks.
            kind: if asked.user.is_some() && self.grant_types.contains(&GrantType::OnBehalfOf) {
                TokenKind::User
            } else {
                TokenKind::App
            },
            credential: Some(credential),
            certificate: certificate.as_deref(),
            address: exchange.caller_address(),
            route: self.partner.route(),
        };
        let partner = self.partner.judge(call, exchange)?;
        // Anybody can write the partner's id: what is counted against the partner is what Entra has taken for its own.
        check_partner::admit_unproven(&partner, exchange).await?;
        let (scope, user) = self.judge(&mut asked)?;
        let asker = if user.is_some() { Asker::PartnerUser } else { Asker::Partner };
        exchange.outcome.allow();
        exchange.timings.policies = exchange.elapsed();

        // Entra calls it a correlation id: it names the request in both logs.
        let correlation_id = uuid::Uuid::parse_str(exchange.id.as_str()).unwrap_or_else(|_| uuid::Uuid::new_v4()).to_string();
        let for_entra = asked.shown.is_for(&self.audiences);
        let client_id = asked.client_id.clone();
        exchange.outcome.server = self.endpoint.host_str().map(Into::into);
        let began = exchange.elapsed();
        let answer = match exchange.trace.stand_in() {
            None => self.ask(asked, scope, user, correlation_id.clone()).await,
            Some(stand_in) => Ok(self.placeholder(stand_in)),
        };
        exchange.timings.upstream = exchange.elapsed().saturating_sub(began);
        let answer = answer?;
        if answer.status.is_success() {
            exchange.relayed.iter_mut().for_each(|relayed| relayed.proven = true);
            check_partner::admit(&partner, exchange).await?;
        }
        if answer.status.is_client_error() || answer.status.is_server_error() {
            let refused = Refused {
                consent_uri: consent_uri(&self.endpoint, &client_id),
                ..refused(&answer, &exchange.clock, correlation_id.into(), asker)
            };
            exchange.outcome.cause = Some(refused.to_string().into());
            exchange.outcome.hint = if for_entra {
                refused.cure().map(|cure| cure.into_owned().into())
            } else {
                Some(format!("the client made its assertion for another URL; Entra takes those for {}", self.endpoint).into())
            };
        }
        Ok(passed_on(answer)?)
    }

    /// Returns what stands for Entra's response in a trial. Nothing of the form is noted, which holds the client's secret.
    fn placeholder(&self, stand_in: &mut StandIn) -> Answer {
        stand_in.not_asked("the response of the token endpoint");
        stand_in.sent = Some(SentRequest {
            upstream: "token-endpoint".into(),
            server: self.endpoint.host_str().unwrap_or_default().into(),
            method: Method::POST,
            url: self.endpoint.to_string(),
            headers: HeaderMap::new(),
        });
        Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: Bytes::from_static(b"{\"token_type\":\"Bearer\"}") }
    }

    /// Judges grant, scope and credential; returns the scope to request, and the user's token.
    fn judge(&self, asked: &mut RelayRequest) -> Result<(String, Option<SecretString>), RelayFault> {
        if !self.grant_types.iter().any(|grant| grant.as_str() == asked.grant_type) {
            return Err(RelayFault::GrantType);
        }
        let user = asked.user.take().transpose()?;
        let listed = |scope: &str| self.scopes.iter().any(|own| **own == *scope);
        let scope = match user {
            // Applications ask for all that they were given, of one resource.
            None => Some(asked.scope.clone()).filter(|scope| scope.ends_with("/.default") && listed(scope)),
            Some(_) if asked.scope.split(' ').any(|scope| is_default_beside_others(scope, &self.scopes)) => {
                return Err(RelayFault::DefaultBesideOthers);
            }
            Some(_) => scope_for_user(&asked.scope, listed),
        };
        match (self.credential, &asked.shown, scope) {
            (_, _, None) => Err(RelayFault::Scope),
            (PartnerCredential::Certificate, ClientProof::Secret(_), _) => Err(RelayFault::Credential),
            (_, _, Some(scope)) => Ok((scope, user)),
        }
    }

    /// Calls Entra with a request of our own.
    async fn ask(
        &self,
        asked: RelayRequest,
        scope: String,
        user: Option<SecretString>,
        correlation_id: String,
    ) -> Result<Answer, RelayFault> {
        let (http, endpoint) = (self.http.clone(), self.endpoint.clone());
        let call = async move {
            let request = TokenRequest {
                endpoint: &endpoint,
                client_id: &asked.client_id,
                scope: &scope,
                grant: user.as_ref().map_or(Grant::ClientCredentials, Grant::OnBehalfOf),
                proof: match &asked.shown {
                    ClientProof::Secret(secret) => Proof::Secret(secret),
                    ClientProof::Assertion { assertion, .. } => Proof::Assertion(assertion),
                },
                claims: None,
            };
            http.post_form(&endpoint, &request.form(), TokenRequest::headers(&correlation_id), ANSWER_CAP).await
        };
        let answer = match self.background.get() {
            Some(background) => background.spawn(call).await.map_err(|_| RelayFault::Interrupted)?,
            None => call.await,
        };
        answer.map_err(RelayFault::Unreachable)
    }
}

/// Judges the head alone. A query, another type of body and other credentials are refused: only one of the two sides would read
/// them.
fn judge_head(incoming: &IncomingRequest) -> Result<(), RelayFault> {
    if incoming.target.query.is_some() {
        return Err(RelayFault::NotAForm("the request has a query"));
    }
    if incoming.headers.contains_key(Known::Authorization) {
        return Err(RelayFault::NotAForm("the client's credential is in a header; it belongs in the form"));
    }
    if incoming.headers.contains_key(Known::ContentEncoding) {
        return Err(RelayFault::NotAForm("the content is encoded"));
    }
    let mut types = incoming.headers.get_all(Known::ContentType);
    let content_type = types.next().filter(|_| types.next().is_none()).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, parameter) = content_type.split_once(';').unwrap_or((content_type, "charset=utf-8"));
    let charset = parameter.trim().to_ascii_lowercase();
    if !kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        || !matches!(&*charset, "charset=utf-8" | "charset=\"utf-8\"")
    {
        return Err(RelayFault::NotAForm("the content type is not `application/x-www-form-urlencoded`"));
    }
    Ok(())
}

/// Returns the scope of an exchange, if each word is listed. Microsoft's libraries ask for OpenID Connect's words besides; of these
/// `offline_access` is left out, since a refresh token would outlive what the gateway decides about the partner.
fn scope_for_user(scope: &str, listed: impl Fn(&str) -> bool) -> Option<String> {
    let words = || scope.split(' ').filter(|word| !word.is_empty());
    let of_identity = |word: &str| matches!(word, "openid" | "profile" | "email");
    let asks_for_api = words().any(&listed);
    let allowed = words().all(|word| listed(word) || of_identity(word) || word == "offline_access");
    (asks_for_api && allowed).then(|| words().filter(|word| *word != "offline_access").collect::<Vec<_>>().join(" "))
}

/// Returns whether a scope stands for all permissions of an API of which single ones are listed: in an exchange it would give
/// more than these. The letter case and a final slash of the API's name make no other API of it.
fn is_default_beside_others(scope: &str, listed: &[Box<str>]) -> bool {
    let resource =
        |scope: &str| scope.strip_suffix("/.default").map(|resource| resource.trim_end_matches('/').to_ascii_lowercase());
    let Some(asked) = resource(scope) else { return false };
    let of_same =
        |other: &str| other.to_ascii_lowercase().strip_prefix(&*asked).is_some_and(|permission| permission.starts_with('/'));
    listed.iter().any(|other| resource(other).is_none() && of_same(other))
}

/// Reads the whole body. It holds a secret, so the copy is wiped.
async fn read(mut body: RequestBody) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    body.limit(MOST_BYTES)?;
    // Never grown, which would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize));
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// Converts Entra's response for the client: status and body, the time to retry, and the prohibition to store it. RFC 6749,
/// section 5.1.
fn passed_on(answer: Answer) -> Result<Response<Bytes>, RelayFault> {
    let object = serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(&answer.body).is_ok();
    let answers = answer.status == StatusCode::OK || answer.status.is_client_error() || answer.status.is_server_error();
    if !object || !answers {
        return Err(RelayFault::NoAnswer(answer.status));
    }
    let mut headers = Fields::default();
    headers.insert(Known::ContentType, &HeaderValue::from_static("application/json"));
    headers.insert(Known::CacheControl, &HeaderValue::from_static("no-store"));
    headers.insert(&header::PRAGMA, &HeaderValue::from_static("no-cache"));
    if let Some(retry_after) = answer.headers.get(header::RETRY_AFTER) {
        headers.insert(&header::RETRY_AFTER, retry_after);
    }
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Returns the `error` that OAuth clients expect in a refusal. RFC 6749, section 5.2.
pub(crate) fn oauth_error(reason: Reason) -> &'static str {
    match reason {
        Reason::GrantTypeNotAllowed => "unsupported_grant_type",
        Reason::ScopeNotAllowed => "invalid_scope",
        reason if reason.status().is_server_error() || reason.status() == StatusCode::TOO_MANY_REQUESTS => {
            "temporarily_unavailable"
        }
        reason if reason.status() == StatusCode::FORBIDDEN => "unauthorized_client",
        _ => "invalid_request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_gets_no_more_than_the_single_permissions_that_are_listed() {
        let both: &[Box<str>] =
            &["api://orders/.default".into(), "api://orders/Orders.Read".into(), "https://a.example/.default".into()];
        for (scope, expected) in [
            ("api://orders/.default", true),
            ("api://ORDERS/.default", true),
            ("api://orders//.default", true),
            ("api://orders/Orders.Read", false),
            ("https://a.example/.default", false),
            ("api://order/.default", false),
            ("openid", false),
        ] {
            assert_eq!(is_default_beside_others(scope, both), expected, "{scope}");
        }
        assert!(!is_default_beside_others("api://orders/.default", &both[..1]));
    }
}

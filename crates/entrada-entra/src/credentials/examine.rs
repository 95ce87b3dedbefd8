//! Diagnosis of a credential: the chain from its proof of identity to the token, link by link, each with its remedy.
//!
//! Each link is tried with the code of real token requests. The first broken one ends the chain: checks that depend on it are
//! skipped, so that one cause is reported once.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::{
    AssertionAlgorithm, Credential, CredentialConfig, CredentialError, ErrorStatus, TokenSlot, VaultAction,
    VaultCertificateStatus, VaultError,
    aadsts::Asker,
    access_token::AccessToken,
    application::{Application, Endpoint, Identity},
    assertion::Subject,
    certificates::{CertificateSource, Certificates, VaultSource},
    credential::Source,
    error::Failure,
    excess,
    key_vault::{scope_of, vault_url},
    signing_certificate::SigningCertificate,
    token_request::{http_date, refused},
};
use crate::certificate::keys::{self, Certificate, ValidityState, days_in_words};

use crate::base::error_chain::chain;

/// The accepted difference of this machine's clock, in seconds. Entra tolerates five minutes.
const CLOCK_TOLERANCE: u64 = 60;
/// The size limit: more than any discovery document.
const CAP: usize = 256 << 10;
/// The role that may read certificates in a vault.
const READER: &str = "Key Vault Reader (21090545-7ca7-4776-b22c-e363652d74d2)";
/// The role that may sign with keys in a vault.
const CRYPTO_USER: &str = "Key Vault Crypto User (12338af0-0e69-4776-bea7-57ae8d297424)";
/// The role that may read secrets in a vault, and so certificates with their keys.
const SECRETS_USER: &str = "Key Vault Secrets User (4633458b-17de-408a-b874-0445c86b69e6)";

/// One link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The name of the link: `config`, `platform`, `identity`, `vault`, `certificate`, `secret`, `federated-token`, `assertion`,
    /// `authority`, `token` or `registration`.
    pub step: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// The finding.
    pub found: String,
    /// Entra's own code, if Entra answered with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The remedy, or an improvement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// The outcome of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was not tried.
    Skipped,
    /// It holds.
    Ok,
    /// It holds, but something about it is probably a mistake.
    Warning,
    /// It is broken.
    Failed,
}

/// The links so far.
#[derive(Debug, Default)]
pub(super) struct Links(Vec<Step>);

impl Step {
    /// Makes a link with its finding.
    pub fn new(step: &'static str, outcome: Outcome, found: impl Into<String>) -> Self {
        Self { step, outcome, found: found.into(), code: None, cure: None }
    }

    /// Adds the remedy.
    #[must_use]
    pub fn cure(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }
}

impl Links {
    fn ok(&mut self, step: &'static str, found: impl Into<String>) {
        self.0.push(Step::new(step, Outcome::Ok, found));
    }

    fn warning(&mut self, step: &'static str, found: impl Into<String>, cure: impl Into<String>) {
        self.0.push(Step::new(step, Outcome::Warning, found).cure(cure));
    }

    fn failed(&mut self, step: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Broken {
        self.0.push(Step::new(step, Outcome::Failed, found).cure(cure));
        Broken
    }

    /// Returns the last link.
    pub(super) fn last(mut self) -> Option<Step> {
        self.0.pop()
    }

    pub(super) fn failure(&mut self, step: &'static str, what: &str, failure: &Failure) -> Broken {
        let ErrorStatus { message, code, meaning, cure, .. } = ErrorStatus::of(failure, 0);
        let meaning = meaning.map(|meaning| format!(" ({meaning})")).unwrap_or_default();
        self.0.push(Step { code, cure, ..Step::new(step, Outcome::Failed, format!("{what}{message}{meaning}")) });
        Broken
    }

    fn error(&mut self, step: &'static str, what: &str, error: &CredentialError) -> Broken {
        self.failure(step, what, &error.failure)
    }
}

/// An error: the chain broke; its last link has the reason.
pub(super) struct Broken;

impl Credential {
    /// Examines the chain up to a token for each of `scopes`, in the credential's own tenant or in another one.
    pub async fn examine(&self, tenant: Option<&str>, scopes: &[String]) -> Vec<Step> {
        let mut links = Links::default();
        let held = match &self.source {
            Source::Platform(identity, _) => {
                links.ok("platform", identity.platform.to_string());
                Ok(())
            }
            Source::Application(application) => match self.endpoint_for(tenant) {
                Some(endpoint) => application.examine(&endpoint, &mut links).await,
                None => {
                    let found = "it has no tenant of its own: each route names one";
                    Err(links.failed("authority", found, "say which one to try, as --tenant"))
                }
            },
        };
        for scope in scopes {
            match held {
                Ok(()) => self.examine_token(tenant, scope, &mut links).await,
                Err(Broken) => links.0.push(Step::new("token", Outcome::Skipped, format!("for {scope}"))),
            }
        }
        // Which version is accepted shows with the tokens.
        for kept in self.identity().map(Identity::vault_certificates).unwrap_or_default() {
            if let Some(note) = kept.note {
                links.warning("vault", note, VaultCertificateStatus::CURE);
            }
        }
        links.0
    }

    /// Returns the slot of this credential's token for `scope`: in its own tenant, or in another one.
    pub fn slot_for(&self, tenant: Option<&str>, scope: &str) -> Option<Arc<TokenSlot>> {
        match tenant {
            Some(tenant) if self.is_application() => self.slot_in(tenant, scope),
            _ => self.slot(scope),
        }
    }

    async fn examine_token(&self, tenant: Option<&str>, scope: &str, links: &mut Links) {
        let what = format!("for {scope}: ");
        let Some(slot) = self.slot_for(tenant, scope) else { return };
        let token = match slot.token().await {
            Ok(token) => token,
            Err(error) => {
                links.error("token", &what, &error);
                return;
            }
        };
        let minutes = token.expires_at().saturating_sub(self.background.clock.unix_seconds()) / 60;
        let lives = format!("{what}it lives for {minutes} min");
        match claims_of(token.expose()) {
            // Only its API can read it.
            None => links.ok("token", lives),
            Some(claims) => {
                links.0.extend(excess::of_token(&claims));
                Self::tell_roles(&claims, &lives, links);
            }
        }
    }

    fn tell_roles(claims: &Map<String, Value>, lives: &str, links: &mut Links) {
        match claims.get("roles").and_then(Value::as_array).filter(|roles| !roles.is_empty()) {
            Some(roles) => {
                let roles: Vec<_> = roles.iter().filter_map(Value::as_str).collect();
                links.ok("token", format!("{lives}, with the roles {}", roles.join(", ")));
            }
            // Azure's own services hold role assignments of their own against an identity, and put none into tokens.
            None => links.ok("token", format!("{lives}, without any app role")),
        }
    }
}

impl CredentialConfig {
    /// Returns the scopes of the vaults that credential `name` opens for this one.
    pub fn vaults_opened_by(&self, name: &str) -> impl Iterator<Item = String> {
        let certificates = self.certificate.iter().chain(&self.certificates);
        let vaults = certificates.filter_map(|certificate| certificate.key_vault.as_ref());
        vaults
            .filter(move |vault| vault.identity == name)
            .filter_map(|vault| Some(scope_of(&vault_url(&vault.vault)?).to_owned()))
    }
}

impl Application {
    async fn examine(&self, endpoint: &Endpoint, links: &mut Links) -> Result<(), Broken> {
        let now = self.clock.unix_seconds();
        match &self.identity {
            Identity::Certificates(certificates) => self.examine_certificates(certificates, endpoint, links).await?,
            Identity::Secret(secret) => match secret.value(&self.clock).await {
                Ok(_) => links.ok("secret", "there is a client secret; whether it is the right one shows with the token"),
                Err(failure) => return Err(links.failure("secret", "", &failure)),
            },
            Identity::File(file) => {
                let path = file.display();
                let read = keys::read_file(file);
                let token = match read.as_ref().map(|bytes| str::from_utf8(bytes)) {
                    Ok(Ok(text)) => text.trim(),
                    Ok(Err(_)) => {
                        return Err(links.failed("federated-token", format!("{path} holds no text"), "name the token's file"));
                    }
                    Err(error) => {
                        let cure = "see that the platform puts the token there, and that this user may read it";
                        return Err(links.failed("federated-token", chain(error), cure));
                    }
                };
                examine_federated(&path.to_string(), token, now, links)?;
            }
            Identity::Managed(slot) => {
                let name = slot.credential().clone();
                let token =
                    slot.token().await.map_err(|error| links.error("identity", &format!("credential {name}: "), &error))?;
                links.ok("identity", format!("credential {name} has a token"));
                examine_federated(&format!("the token of {name}"), token.expose(), now, links)?;
            }
        }
        self.examine_authority(endpoint, links).await
    }

    /// Examines the certificates from all sources, up to a signature by the first good one.
    async fn examine_certificates(
        &self,
        certificates: &Certificates,
        endpoint: &Endpoint,
        links: &mut Links,
    ) -> Result<(), Broken> {
        let mut good = None;
        for (source, newest) in certificates.sources() {
            let (signer, whom) = match source {
                CertificateSource::File(_) => (newest, None),
                CertificateSource::Vault(source) => match examine_vault(source, links).await {
                    Ok((signer, whom)) => (Some(signer), Some(whom)),
                    Err(Broken) => continue,
                },
            };
            let Some(signer) = signer else { continue };
            if examine_holder(&signer, self.clock.unix_seconds(), links).is_ok() {
                good.get_or_insert((signer, whom));
            }
        }
        let (signer, whom) = good.ok_or(Broken)?;
        let settings = certificates.settings;
        let subject = Subject { settings, client_id: &self.client_id, audience: endpoint.url.as_str() };
        match (endpoint.assertions.of(&signer, subject, &self.clock).await, whom) {
            (Ok(_), _) => {
                let by = if signer.is_far() { "by the vault" } else { "here" };
                links.ok("assertion", assertion_in_words(signer.algorithm(settings), by));
                Ok(())
            }
            (Err(failure), Some(whom)) => Err(vault_failure("assertion", &whom, &failure, links)),
            (Err(failure), None) => Err(links.failure("assertion", "", &failure)),
        }
    }

    /// Examines the authority: its answer for the tenant, and its clock.
    async fn examine_authority(&self, endpoint: &Endpoint, links: &mut Links) -> Result<(), Broken> {
        let Some(url) = metadata_url(&endpoint.url) else { return Ok(()) };
        let host = url.host_str().unwrap_or_default().to_owned();
        let answer = match self.http.get(&url, CAP).await {
            Ok(answer) => answer,
            Err(error) => return Err(links.failure("authority", "", &Failure::Unreachable(error))),
        };
        let time = answer.headers.get(header::DATE).and_then(|date| date.to_str().ok()).and_then(http_date);
        let ahead = time.map(|time| self.clock.unix_seconds().cast_signed() - time);
        match answer.status {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => {
                let refused = refused(&answer, &self.clock, "".into(), Asker::Gateway);
                return Err(links.failure("authority", "", &Failure::Refused(Box::new(refused))));
            }
            status => {
                let found = format!("{host} has no metadata of this tenant ({})", status.as_u16());
                links.warning("authority", found, "see that `authority` is one of Entra's");
                return Ok(());
            }
        }
        match ahead.filter(|ahead| ahead.unsigned_abs() > CLOCK_TOLERANCE) {
            None => links.ok("authority", format!("{host} knows the tenant, and this machine's clock agrees with its")),
            Some(ahead) => {
                let found = format!(
                    "this machine's clock is {} s {} that of {host}",
                    ahead.abs(),
                    if ahead > 0 { "ahead of" } else { "behind" }
                );
                links.warning("authority", found, "let NTP set the clock: assertions and tokens are judged by their times");
            }
        }
        Ok(())
    }
}

/// Examines a vault with a certificate: its answer, and the identity that opens it.
async fn examine_vault(source: &VaultSource, links: &mut Links) -> Result<(Arc<SigningCertificate>, String), Broken> {
    let slot = &source.vault.slot;
    let name = slot.credential().clone();
    let token = slot.token().await.map_err(|error| links.error("identity", &format!("credential {name}: "), &error))?;
    let whom = whom(&name, &token);
    links.ok("identity", format!("{whom} has a token for the vault"));
    let signer = source.read().await.map_err(|error| vault_failure("vault", &whom, &Failure::Vault(error), links))?;
    links.ok("vault", format!("{} gives the certificate {}", source.vault.url.host_str().unwrap_or_default(), source.name));
    links.0.extend(excess::of_vault(source, &signer, &whom).await);
    Ok((Arc::new(signer), whom))
}

/// Returns the metadata URL of the tenant with this token endpoint.
fn metadata_url(token_endpoint: &Url) -> Option<Url> {
    let tenant = token_endpoint.path().strip_suffix("/oauth2/v2.0/token")?;
    let mut url = token_endpoint.clone();
    url.set_path(&format!("{tenant}/v2.0/.well-known/openid-configuration"));
    Some(url)
}

fn examine_holder(signer: &SigningCertificate, now: u64, links: &mut Links) -> Result<(), Broken> {
    match (signer, signer.certificate()) {
        (SigningCertificate::KeyOnly(key), _) => {
            let end = "its end is known to the app registration alone";
            links.ok("certificate", format!("{}, {} bits; {end}", signer.describe(), key.bits()));
            Ok(())
        }
        (_, Some(certificate)) => examine_certificate(certificate, now, links),
        (_, None) => Ok(()),
    }
}

fn examine_certificate(certificate: &Certificate, now: u64, links: &mut Links) -> Result<(), Broken> {
    let words = format!(
        "{}, {} bits, thumbprint {}, {}",
        certificate.subject(),
        certificate.bits(),
        certificate.thumbprint(),
        days_in_words(certificate.days_left(now))
    );
    match (certificate.validity_state(now), certificate.concern(now)) {
        (ValidityState::Good, _) | (_, None) => links.ok("certificate", words),
        (ValidityState::EndsSoon, Some(concern)) => {
            links.warning("certificate", format!("{concern}: {words}"), ValidityState::EndsSoon.cure())
        }
        (state @ (ValidityState::Ended | ValidityState::NotYet), Some(concern)) => {
            return Err(links.failed("certificate", format!("{concern}: {words}"), state.cure()));
        }
    }
    Ok(())
}

/// Examines a token of another issuer, which must match the app registration.
fn examine_federated(whose: &str, token: &str, now: u64, links: &mut Links) -> Result<(), Broken> {
    let Some(claims) = claims_of(token) else {
        let cure = "see what writes it: a signed token of three parts is wanted";
        return Err(links.failed("federated-token", format!("{whose} holds no token that can be read"), cure));
    };
    let text = |name: &str| match claims.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "none".to_owned(),
    };
    let words = format!("issuer {}, subject {}, audience {}", text("iss"), text("sub"), text("aud"));
    match claims.get("exp").and_then(Value::as_u64) {
        Some(end) if end <= now => {
            let found = format!("{whose} ended {} s ago: {words}", now - end);
            Err(links.failed("federated-token", found, "see that the platform renews it"))
        }
        _ => {
            links.ok("federated-token", format!("{words}; a federated credential of the app registration must say just that"));
            Ok(())
        }
    }
}

/// Returns the identity that opens a vault, as role assignments name it.
fn whom(credential: &str, token: &AccessToken) -> String {
    let claims = claims_of(token.expose());
    let object = claims.as_ref().and_then(|claims| claims.get("oid")).and_then(Value::as_str);
    object.map_or_else(|| format!("credential {credential}"), |object| format!("credential {credential} (object id {object})"))
}

/// Reports a vault's refusal, with the role that this link needs.
fn vault_failure(step: &'static str, whom: &str, failure: &Failure, links: &mut Links) -> Broken {
    let broken = links.failure(step, "", failure);
    let Failure::Vault(error) = failure else { return broken };
    let VaultError::Refused { action, status: StatusCode::FORBIDDEN, code, .. } = &**error else { return broken };
    if error.is_about_access_policies() {
        if let Some(link) = links.0.last_mut() {
            link.cure = Some(format!("{}; the identity is {whom}", action.access_policy()));
        }
        return broken;
    }
    let role = match action {
        VaultAction::ReadCertificate | VaultAction::ListVersions => READER,
        VaultAction::Sign => CRYPTO_USER,
        VaultAction::DownloadCertificate | VaultAction::ReadSecret => SECRETS_USER,
    };
    // Firewalls and disabled keys are no matter of roles.
    let of_roles = !matches!(&**code, "ForbiddenByFirewall" | "ForbiddenByConnection" | "KeyDisabled" | "SecretDisabled");
    if let (true, Some(link)) = (of_roles, links.0.last_mut()) {
        link.cure = Some(format!("assign {whom} the role {role} on this vault; it takes minutes to take effect"));
    }
    broken
}

fn assertion_in_words(algorithm: AssertionAlgorithm, by: &str) -> String {
    let (algorithm, name) = match algorithm {
        AssertionAlgorithm::PS256 => ("PS256", "x5t#S256"),
        AssertionAlgorithm::RS256 => ("RS256", "x5t"),
    };
    format!("signed {by} with {algorithm}; it names the certificate by {name}")
}

/// Returns the claims of a token for another reader. `None` for an opaque token.
fn claims_of(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

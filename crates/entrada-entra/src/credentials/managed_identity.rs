//! Managed identities: tokens from the platform that the gateway runs on, without a credential of its own.

use std::{io::Read as _, path::Path, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use url::Url;
use zeroize::Zeroizing;

use super::{
    ManagedIdentityConfig,
    aadsts::Asker,
    access_token::Issued,
    error::Failure,
    platform::Platform,
    token_cache::Fetched,
    token_request::{Seconds, refused},
};
use crate::{
    base::clock::Clock,
    identity_http::{Answer, Call, IdentityHttp},
};

/// The size limit: far more than any token response.
const CAP: usize = 64 << 10;
/// The timeout of one call. The endpoint is on this machine or next to it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The size limit: more than any of these challenges.
const ARC_CHALLENGE: u64 = 4_096;

/// An identity that the platform vouches for.
#[derive(Debug)]
pub(crate) struct ManagedIdentity {
    pub(crate) platform: Platform,
    pub(crate) which: ManagedIdentityConfig,
    pub(crate) http: IdentityHttp,
    pub clock: Clock,
}

impl ManagedIdentity {
    /// Requests a token for the resource of `scope` from the platform.
    pub(crate) async fn ask(&self, scope: &str) -> Fetched {
        // The platform knows resources and no scopes; the token's audience is the text as it is sent.
        let resource = scope.strip_suffix("/.default").unwrap_or(scope);
        let url = self.url(resource);
        let correlation_id = uuid::Uuid::new_v4().to_string();
        let sent_at = self.clock.monotonic();
        let mut answer = self.call(&url, &correlation_id, None).await?;
        if let (Platform::Arc(_, folder), StatusCode::UNAUTHORIZED) = (&self.platform, answer.status) {
            let proof = arc_proof(&answer, folder)?;
            answer = self.call(&url, &correlation_id, Some(proof)).await?;
        }
        if answer.status == StatusCode::OK {
            self.issued(&answer, sent_at)
        } else {
            Err(Failure::Refused(Box::new(refused(&answer, &self.clock, correlation_id.into(), Asker::Platform))))
        }
    }

    fn url(&self, resource: &str) -> Url {
        let mut url = self.platform.endpoint().clone();
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", self.platform.api_version()).append_pair("resource", resource);
        let ManagedIdentityConfig { client_id, object_id, resource_id, .. } = &self.which;
        // Each service has its own names for the same thing.
        let names = match &self.platform {
            Platform::Imds(_) | Platform::Arc(..) => ("client_id", "object_id", "msi_res_id"),
            Platform::AppService(..) => ("client_id", "object_id", "mi_res_id"),
            Platform::AppService2017(..) => ("clientid", "objectid", "mi_res_id"),
            // The cluster decides which identity it is; `detect` lets none be named.
            Platform::ServiceFabric { .. } => ("client_id", "object_id", "mi_res_id"),
        };
        for (name, value) in [(names.0, client_id), (names.1, object_id), (names.2, resource_id)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        drop(query);
        url
    }

    async fn call(&self, url: &Url, correlation_id: &str, proof: Option<HeaderValue>) -> Result<Answer, Failure> {
        let mut headers = HeaderMap::new();
        // Keeps web pages and careless proxies out; some of the other endpoints ask for it too.
        headers.insert(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        if let Ok(id) = HeaderValue::from_str(correlation_id) {
            headers.insert(HeaderName::from_static("x-ms-client-request-id"), id);
        }
        let secret = match &self.platform {
            Platform::AppService(_, secret) => Some(("x-identity-header", secret)),
            Platform::AppService2017(_, secret) | Platform::ServiceFabric { secret, .. } => Some(("secret", secret)),
            Platform::Imds(_) | Platform::Arc(..) => None,
        };
        if let Some((name, secret)) = secret {
            let mut value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| Failure::Signing)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        if let Some(proof) = proof {
            headers.insert(header::AUTHORIZATION, proof);
        }
        let call = Call { headers, ..Call::get(url, CAP) };
        self.http.send(call.to_platform().within(TIMEOUT)).await.map_err(Failure::Unreachable)
    }

    fn issued(&self, answer: &Answer, sent_at: Duration) -> Fetched {
        #[derive(Deserialize)]
        struct Success {
            access_token: Zeroizing<String>,
            expires_in: Option<Seconds>,
            expires_on: Option<Seconds>,
            client_id: Option<String>,
            object_id: Option<String>,
            msi_res_id: Option<String>,
        }

        let success: Success =
            serde_json::from_slice(&answer.body).map_err(|_| Failure::Nonsense("is not JSON with a token in it"))?;
        if success.access_token.is_empty() {
            return Err(Failure::Nonsense("holds no token"));
        }
        // An old agent of Azure Arc passes over the identity that was asked for, and answers with the machine's own.
        let ManagedIdentityConfig { client_id, object_id, resource_id, .. } = &self.which;
        let given = [(client_id, success.client_id), (object_id, success.object_id), (resource_id, success.msi_res_id)];
        let another = |(asked, given): &(&Option<String>, Option<String>)| {
            asked.as_ref().is_some_and(|asked| given.as_ref().is_none_or(|given| !given.eq_ignore_ascii_case(asked)))
        };
        if matches!(self.platform, Platform::Arc(..)) && given.iter().any(another) {
            return Err(Failure::Nonsense("holds the token of another identity than was asked for"));
        }
        let now = self.clock.unix_seconds();
        let lifetime = match (&success.expires_in, &success.expires_on) {
            (Some(expires_in), _) => expires_in.duration(),
            (None, Some(expires_on)) => {
                expires_on.instant().map(|end| Duration::from_secs(end.saturating_sub(now).min(30 * 86_400)))
            }
            (None, None) => None,
        };
        let lifetime = lifetime.ok_or(Failure::Nonsense("does not say how long the token lives"))?;
        // These tokens live for a day, and the platform hands out the same one for hours: half its life is time enough.
        let renew_in = (lifetime >= Duration::from_secs(7_200)).then_some(lifetime / 2);
        Ok(Issued { token: success.access_token, lifetime, renew_in, sent_at })
    }
}

/// Reads the file that Arc's challenge names: permission to read it is the proof.
fn arc_proof(answer: &Answer, folder: &Path) -> Result<HeaderValue, Failure> {
    let nonsense = || Failure::Nonsense("holds no challenge of Azure Arc");
    let challenge = answer.headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).ok_or_else(nonsense)?;
    let named = Path::new(challenge.strip_prefix("Basic realm=").ok_or_else(nonsense)?.trim_matches('"'));
    // Whoever answers must not choose which file of this machine is read to them.
    if named.parent() != Some(folder) || named.extension().is_none_or(|extension| extension != "key") {
        return Err(Failure::Nonsense("names a file that is not a challenge of Azure Arc"));
    }
    let unreadable =
        |_| Failure::Nonsense("names a challenge of Azure Arc that cannot be read: add this user to the group himds");
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(named).map_err(unreadable)?;
    file.take(ARC_CHALLENGE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > ARC_CHALLENGE {
        return Err(nonsense());
    }
    let mut value = HeaderValue::try_from(format!("Basic {}", text.trim())).map_err(|_| nonsense())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::credentials::{
        ManagedIdentitySource,
        platform::{ARC_ENDPOINT, ARC_FOLDER, NoPlatform},
    };
    use crate::{
        dev_tenant::{DevTenant, Options},
        identity_http::IdentityHttpConfig,
    };

    const VAULT: &str = "https://vault.azure.net/.default";

    async fn entra() -> (DevTenant, Clock) {
        let clock = Clock::manual(1_800_000_000);
        (DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap(), clock)
    }

    fn identity(platform: Platform, which: ManagedIdentityConfig, clock: &Clock) -> ManagedIdentity {
        let http = IdentityHttp::new(&IdentityHttpConfig::default()).unwrap();
        ManagedIdentity { platform, which, http, clock: clock.clone() }
    }

    fn environment(pairs: &[(&str, String)]) -> impl Fn(&str) -> Option<String> {
        let map: BTreeMap<String, String> = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        move |name| map.get(name).cloned()
    }

    fn detect(pairs: &[(&str, String)]) -> Platform {
        Platform::detect(ManagedIdentitySource::Auto, environment(pairs)).unwrap()
    }

    #[tokio::test]
    async fn gets_tokens_from_each_platform() {
        let (entra, clock) = entra().await;
        let base = entra.base_url();
        let folder = tempfile::tempdir().unwrap();
        entra.play_arc(folder.path());
        let endpoint = format!("{base}/msi/token");
        let mut platforms = vec![
            detect(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned())]),
            detect(&[("IDENTITY_ENDPOINT", endpoint.clone()), ("IDENTITY_HEADER", entra.identity_header())]),
            detect(&[("MSI_ENDPOINT", endpoint), ("MSI_SECRET", entra.identity_header())]),
        ];
        platforms.push(Platform::Arc(Url::parse(&format!("{base}/arc/token")).unwrap(), folder.path().to_owned()));

        for platform in platforms {
            let name = format!("{platform:?}");
            let client_id = entra.identities()[0].client_id.clone();
            let which = ManagedIdentityConfig { client_id: Some(client_id), ..Default::default() };

            let issued = identity(platform, which, &clock).ask(VAULT).await;

            let issued = issued.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(issued.lifetime.as_secs(), 86_399, "{name}");
            assert_eq!(issued.renew_in, Some(issued.lifetime / 2), "{name}");
            assert!(!name.contains(&entra.identity_header()), "{name}");
        }
    }

    #[test]
    fn finds_the_agent_of_a_managed_machine_where_nothing_names_it() {
        let nothing = environment(&[]);
        let Ok(Platform::Arc(url, folder)) = Platform::detect(ManagedIdentitySource::Arc, nothing) else { panic!("arc") };

        assert_eq!((url.as_str(), folder.as_path()), (ARC_ENDPOINT, Path::new(ARC_FOLDER)));
    }

    /// Tests that agents echo the requested identity; old ones answer with the machine's own.
    #[tokio::test]
    async fn a_managed_machine_has_to_answer_for_the_identity_that_was_asked_for() {
        let (entra, clock) = entra().await;
        let folder = tempfile::tempdir().unwrap();
        entra.play_arc(folder.path());
        let object_id = entra.identities()[0].object_id();
        let arc = || Platform::Arc(Url::parse(&format!("{}/arc/token", entra.base_url())).unwrap(), folder.path().to_owned());
        let which = ManagedIdentityConfig { object_id: Some(object_id), ..Default::default() };

        assert!(identity(arc(), which.clone(), &clock).ask(VAULT).await.is_ok());
        let old = "{\"access_token\":\"eyJ\",\"client_id\":\"machine\",\"expires_in\":\"86399\"}";
        entra.fail(crate::dev_tenant::Fault::on("/arc/token").body(old));
        let failure = identity(arc(), which, &clock).ask(VAULT).await.err().unwrap();

        assert!(failure.to_string().contains("another identity"), "{failure}");
    }

    #[tokio::test]
    async fn an_identity_that_is_not_there_is_refused_with_its_text() {
        let (entra, clock) = entra().await;
        let platform = detect(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", entra.base_url().to_owned())]);
        let which =
            ManagedIdentityConfig { client_id: Some("00001111-2222-3333-4444-555566667777".into()), ..Default::default() };

        let failure = identity(platform, which, &clock).ask(VAULT).await.err().unwrap();

        assert!(failure.to_string().contains("Identity not found"), "{failure}");
    }

    #[tokio::test]
    async fn reads_no_file_that_is_no_challenge() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("good.key");
        std::fs::write(&inside, "proof").unwrap();
        let other = tempfile::NamedTempFile::with_suffix(".key").unwrap();
        std::fs::write(folder.path().join("long.key"), "x".repeat(5_000)).unwrap();
        let at = |path: &str| folder.path().join(path).display().to_string();

        for (realm, fine) in [
            (at("good.key"), true),
            (at("long.key"), false),
            (at("../good.key"), false),
            (at("absent.key"), false),
            (at("good.txt"), false),
            (other.path().display().to_string(), false),
            ("/etc/passwd".to_owned(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::try_from(format!("Basic realm={realm}")).unwrap());
            let answer = Answer { status: StatusCode::UNAUTHORIZED, headers, body: bytes::Bytes::new() };

            assert_eq!(arc_proof(&answer, folder.path()).is_ok(), fine, "{realm}");
        }
    }

    #[test]
    fn finds_the_platform_in_the_order_that_microsofts_clients_look_in() {
        let url = || "http://127.0.0.1:1/x".to_owned();
        let fabric = |url: &str, thumbprint: &str| {
            let pairs = [("IDENTITY_ENDPOINT", url), ("IDENTITY_HEADER", "h"), ("IDENTITY_SERVER_THUMBPRINT", thumbprint)];
            pairs.map(|(name, value)| (name, value.to_owned())).to_vec()
        };
        for (pairs, expected) in [
            (vec![], Ok("imds")),
            (vec![("IDENTITY_ENDPOINT", url()), ("IDENTITY_HEADER", "h".into())], Ok("app-service")),
            (vec![("IDENTITY_ENDPOINT", url()), ("IMDS_ENDPOINT", url())], Ok("arc")),
            (vec![("MSI_ENDPOINT", url()), ("MSI_SECRET", "s".into())], Ok("app-service")),
            (vec![("IDENTITY_ENDPOINT", String::new()), ("IDENTITY_HEADER", "h".into())], Ok("imds")),
            (
                vec![("IDENTITY_ENDPOINT", "x".into()), ("IDENTITY_HEADER", "h".into())],
                Err(NoPlatform::NoUrl("IDENTITY_ENDPOINT")),
            ),
            (fabric("https://127.0.0.1:1/x", &"AB ".repeat(20)), Ok("service-fabric")),
            (fabric("https://127.0.0.1:1/x", &["ab"; 20].join(":")), Ok("service-fabric")),
            (fabric("http://127.0.0.1:1/x", &"ab".repeat(20)), Err(NoPlatform::NotHttps("IDENTITY_ENDPOINT"))),
            (fabric("https://127.0.0.1:1/x", "t"), Err(NoPlatform::NoThumbprint)),
            // Cloud Shell's form, whose tokens are a person's.
            (vec![("MSI_ENDPOINT", url())], Err(NoPlatform::Lacks("MSI_SECRET beside its MSI_ENDPOINT"))),
            (
                vec![("IDENTITY_ENDPOINT", url())],
                Err(NoPlatform::Lacks("IDENTITY_HEADER or IMDS_ENDPOINT beside its IDENTITY_ENDPOINT")),
            ),
        ] {
            let found = Platform::detect(ManagedIdentitySource::Auto, environment(&pairs));

            assert_eq!(
                found.as_ref().map(Platform::name).map_err(|error| error.to_string()),
                expected.map_err(|error| error.to_string())
            );
        }
        let lacks = Platform::detect(ManagedIdentitySource::AppService, environment(&[]));
        assert_eq!(lacks.unwrap_err(), NoPlatform::Lacks("IDENTITY_ENDPOINT"));
    }

    #[tokio::test]
    async fn service_fabric_is_trusted_by_the_thumbprint_of_its_certificate_alone() {
        let clock = Clock::manual(1_800_000_000);
        let entra = DevTenant::start(Options { tls: true, clock: clock.clone(), ..Options::default() }).await.unwrap();
        let variables = |thumbprint: String| {
            detect(&[
                ("IDENTITY_ENDPOINT", format!("{}/sf/token", entra.base_url())),
                ("IDENTITY_HEADER", entra.identity_header()),
                ("IDENTITY_SERVER_THUMBPRINT", thumbprint),
            ])
        };
        let pinned = |platform: Platform| {
            let Platform::ServiceFabric { thumbprint, .. } = &platform else { panic!("{platform:?}") };
            let http = IdentityHttp::new(&IdentityHttpConfig::default()).unwrap().pinned(*thumbprint).unwrap();
            ManagedIdentity { platform, which: ManagedIdentityConfig::default(), http, clock: clock.clone() }
        };

        let issued = pinned(variables(entra.server_thumbprint().unwrap())).ask(VAULT).await.unwrap();
        assert_eq!(issued.lifetime.as_secs(), 86_399);

        // No secret reaches a server with another certificate.
        let before = entra.calls("/sf/token");
        let failure = pinned(variables("ab".repeat(20))).ask(VAULT).await.err().unwrap();
        assert!(matches!(failure, Failure::Unreachable(_)), "{failure}");
        assert_eq!(entra.calls("/sf/token"), before);
    }
}

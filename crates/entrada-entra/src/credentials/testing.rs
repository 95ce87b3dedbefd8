//! A development tenant and credentials that ask it, for tests.

#![allow(missing_docs, missing_debug_implementations, clippy::unwrap_used, reason = "helpers of tests alone")]

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use super::{
    access_token::Issued,
    error::{Failure, ForWhom},
    token_cache::{Background, TokenSlot},
};
use crate::{
    base::clock::Clock,
    certificate::keys::testing::{Made, certificate},
    credentials::{CertificateConfig, CredentialConfig, Credentials, CredentialsContext},
    dev_tenant::{DevTenant, Options},
    entra::TenantConfig,
    identity_http::{IdentityHttp, IdentityHttpConfig},
    settings::{Faults, Place, Secrets},
};

/// Makes a slot that gets these tokens, one after the other, and then none.
pub fn slot_of<const N: usize>(tokens: [&'static str; N]) -> Arc<TokenSlot> {
    let clock = Clock::manual(1_000_000);
    let tokens = Mutex::new(tokens.into_iter());
    let sent_at = clock.monotonic();
    TokenSlot::new(
        "gateway".into(),
        ForWhom::Gateway,
        Box::new(move |_| {
            let token = tokens.lock().unwrap().next();
            Box::pin(async move {
                let token = token.ok_or(Failure::Nonsense("holds no token"))?;
                Ok(Issued { token: token.to_owned().into(), lifetime: Duration::from_secs(3_600), renew_in: None, sent_at })
            })
        }),
        Arc::default(),
        Background { clock, handle: Arc::default(), second_attempt_after: Duration::ZERO },
        None,
    )
}

pub static GATEWAY: LazyLock<Made> = LazyLock::new(|| certificate("gateway"));
pub static OTHER: LazyLock<Made> = LazyLock::new(|| certificate("other"));

pub const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
pub const SCOPE: &str = "api://orders-internal/.default";

/// A development tenant, a folder with the gateway's certificate, and the context of credentials.
pub struct TestBed {
    pub entra: DevTenant,
    pub folder: tempfile::TempDir,
    pub tenants: BTreeMap<String, TenantConfig>,
    pub http: Arc<IdentityHttp>,
    pub clock: Clock,
    pub secrets: Secrets,
}

impl TestBed {
    pub async fn open() -> Self {
        let clock = Clock::manual(1_800_000_000);
        let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        entra.update_app(CLIENT, |app| app.certificate_pem(&GATEWAY.certificate_pem));
        let folder = tempfile::tempdir().unwrap();
        let bed = Self {
            tenants: [("contoso".to_owned(), tenant(&entra.tenant_id(), Some(entra.base_url())))].into(),
            http: Arc::new(IdentityHttp::new(&IdentityHttpConfig::default()).unwrap()),
            entra,
            folder,
            clock,
            secrets: Secrets::default(),
        };
        bed.write("gateway.pem", &GATEWAY.pem());
        bed
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    pub fn build(&self, config: CredentialConfig, previous: Option<&Credentials>) -> (Credentials, Faults) {
        self.build_all(&BTreeMap::from([("gateway".to_owned(), config)]), previous)
    }

    pub fn build_all(
        &self,
        configs: &BTreeMap<String, CredentialConfig>,
        previous: Option<&Credentials>,
    ) -> (Credentials, Faults) {
        let context = CredentialsContext {
            tenants: &self.tenants,
            base: self.folder.path(),
            secrets: &self.secrets,
            http: &self.http,
            clock: &self.clock,
            previous,
        };
        let mut faults = Faults::default();
        let credentials = Credentials::build(configs, &context, &Place::root().key("credentials"), &mut faults);
        (credentials, faults)
    }

    pub fn gateway(&self) -> Credentials {
        let (credentials, faults) = self.build(config(), None);
        assert!(faults.is_empty(), "{faults:?}");
        credentials
    }
}

pub fn tenant(id: &str, authority: Option<&str>) -> TenantConfig {
    TenantConfig {
        id: id.to_owned(),
        cloud: Default::default(),
        authority: authority.map(str::to_owned),
        stale: None,
        graph: None,
        required: None,
    }
}

pub fn config() -> CredentialConfig {
    CredentialConfig {
        tenant: Some("contoso".to_owned()),
        client_id: Some(CLIENT.to_owned()),
        certificate: Some(pem("gateway.pem")),
        ..CredentialConfig::default()
    }
}

pub fn pem(name: &str) -> CertificateConfig {
    CertificateConfig { pem: Some(name.to_owned()), ..CertificateConfig::default() }
}

//! The parts of the demo: tenant, backends, and a gateway with a config as a user would write it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use reqwest::Client;
use tokio::runtime::Runtime;

use super::backend::Backend;
use crate::{
    base::clock::Clock,
    cli::certificate::NewCertificate,
    config::Document,
    dev_tenant::{DEFAULT_AUDIENCE, DevTenant, Options},
    server::{Server, ServerOptions},
};

/// The gateway's own app registration.
pub(super) const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// The API that only the gateway may call.
pub(super) const INTERNAL: &str = "44445555-eeee-6666-ffff-777788889999";
/// A partner's daemon.
pub(super) const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";
/// The API behind application proxy.
const LEGACY: &str = "55556666-ffff-7777-aaaa-88889999aaaa";

/// Test cases of the demo's config.
const TESTS: &str = include_str!("entrada.test.yaml");

/// Everything that runs.
pub(super) struct Environment {
    pub(super) tenant: Arc<DevTenant>,
    pub(super) orders: Backend,
    pub(super) internal: Backend,
    pub(super) gateway: SocketAddr,
    pub(super) http: Client,
    admin: Option<SocketAddr>,
    server: Server,
    folder: Folder,
}

/// A folder that is deleted at the end of the demo.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's temporary folder is cleared by the system.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("entrada-demo-{}", uuid::Uuid::new_v4()));
        make_private(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Self(path))
    }
}

/// Makes a folder for the owner alone.
#[cfg(unix)]
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes a folder: the temporary one around it is the user's own.
#[cfg(not(unix))]
fn make_private(path: &Path) -> std::io::Result<()> {
    fs::create_dir(path)
}

impl Environment {
    /// Starts all parts. The gateway has its own threads; the others run on `runtime`.
    pub(super) fn set(runtime: &Runtime) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let certificate = NewCertificate { subject: "CN=entrada demo".to_owned(), days: 90, bits: 2048 }.make(&Clock::system())?;
        // Made readable for the owner alone, as `certificate new` does; the folder is closed to others anyway.
        fs::write(folder.0.join("gateway.pem"), certificate.pem().as_bytes())
            .context("cannot write the gateway's certificate")?;
        #[cfg(unix)]
        fs::set_permissions(folder.0.join("gateway.pem"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .context("cannot close the gateway's certificate to others")?;

        let (tenant, orders, internal) = runtime.block_on(async {
            let tenant = Arc::new(DevTenant::start(Options::default()).await?);
            tenant.update_app(GATEWAY, |app| app.certificate_der(certificate.der()));
            tenant.update_app(LEGACY, |app| {
                app.mapped_claim("onpremisessamaccountname", "onpremisessamaccountname").accepts_mapped_claims()
            });
            let (orders, internal) = (Backend::echo().await?, Backend::demanding(tenant.clone()).await?);
            anyhow::Ok((tenant, orders, internal))
        })?;
        let file = folder.0.join("entrada.yaml");
        fs::write(&file, config(&tenant, &orders, &internal)).context("cannot write the demo's config")?;
        fs::write(folder.0.join("entrada.test.yaml"), TESTS).context("cannot write the cases of the demo's config")?;
        let document = Document::load(&file).map_err(|report| anyhow::anyhow!("{report}"))?;
        let server = Server::start(&document, ServerOptions::default())?;
        let gateway = server.address("demo").context("the gateway does not listen")?;
        // The demo speaks to this machine alone; a proxy that the environment names has no part in it.
        let http =
            Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(Duration::from_secs(20)).build()?;
        Ok(Self { tenant, orders, internal, gateway, http, admin: server.admin_address(), server, folder })
    }

    /// Waits until the gateway has the tenant's keys and its own token.
    pub(super) async fn ready(&self) -> anyhow::Result<()> {
        let Some(admin) = self.admin else { return Ok(()) };
        let started = std::time::Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            let answer = self.http.get(format!("http://{admin}/readyz")).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the gateway did not get ready within 20 seconds");
    }

    /// Returns the file of the demo's config.
    #[cfg(test)]
    pub(super) fn config_file(&self) -> PathBuf {
        self.folder.0.join("entrada.yaml")
    }

    /// Stops everything.
    pub(super) fn strike(self) {
        self.tenant.stop();
        self.server.drain();
        drop(self.folder);
    }

    /// Describes what a person can try while it runs.
    pub(super) fn farewell(&self) -> String {
        let (gateway, tenant) = (self.gateway, self.tenant.base_url());
        let token = |wanted: &str| format!("$(curl -s '{tenant}/dev/token?format=text' -d '{wanted}')");
        let user = token(r#"{"user":"nia","audience":"api://orders","scopes":["Orders.Read"]}"#);
        let legacy = token(r#"{"user":"nia","audience":"api://legacy"}"#);
        let expired = token(r#"{"user":"nia","audience":"api://orders","scopes":["Orders.Read"],"expired":true}"#);
        let status = self.admin.map(|admin| format!("  console             http://{admin}/\n")).unwrap_or_default();
        format!(
            "\nIt stays up. Each line is ready to paste, and makes its own token:\n\n\
             \x20 # Nia reads an order\n\
             \x20 curl -i http://{gateway}/orders/17 -H \"Authorization: Bearer {user}\"\n\
             \x20 # her token sits in another header, and she claims to be somebody else\n\
             \x20 curl -i http://{gateway}/legacy/home -H \"Authorization2: Bearer {legacy}\" -H 'X-Remote-User: admin'\n\
             \x20 # the backend is shown the gateway's own token\n\
             \x20 curl -i http://{gateway}/internal/stock -H \"Authorization: Bearer {user}\"\n\
             \x20 # an expired token\n\
             \x20 curl -i http://{gateway}/orders/17 -H \"Authorization: Bearer {expired}\"\n\
             \x20 # from an address outside the list\n\
             \x20 curl -i http://{gateway}/orders/17 -H \"Authorization: Bearer {user}\" -H 'X-Forwarded-For: 198.51.100.77'\n\n\
             {status}\
             \x20 config              {config}\n\
             \x20 its test cases      entrada test {config}\n\
             \x20 decisions, as JSON  {audit}\n\
             \x20 development tenant  {tenant}/\n\n\
             Ctrl-C ends it.\n",
            config = self.folder.0.join("entrada.yaml").display(),
            audit = self.folder.0.join("audit.jsonl").display(),
        )
    }
}

fn config(tenant: &DevTenant, orders: &Backend, internal: &Backend) -> String {
    format!(
        r#"# The demo's config. Everything it names runs in the same process, on this machine.
listeners:
  - name: demo
    address: 127.0.0.1:0
    trusted-proxies: [127.0.0.1]           # the demo plays the load balancer, which says where callers are

admin: {{ address: 127.0.0.1:0 }}

tenants:
  contoso: {{ id: {tenant_id}, authority: "{authority}" }}

address-sets:
  offices: [203.0.113.0/24, 127.0.0.1]

credentials:
  gateway:
    tenant: contoso
    client-id: {GATEWAY}
    certificate: {{ pem: gateway.pem }}
    required: true

upstreams:
  orders: {{ servers: ["http://{orders}"] }}
  internal: {{ servers: ["http://{internal}"] }}

routes:
  - name: orders
    match: {{ path: /orders, methods: [GET] }}
    inbound:
      - ip-filter: {{ action: allow, addresses: [offices] }}
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, {DEFAULT_AUDIENCE}], scopes: [Orders.Read], roles: [Orders.Read] }}
    authorization: keep
    upstream: orders

  - name: bulk-import
    match: {{ path: /orders/import, methods: [POST] }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, {DEFAULT_AUDIENCE}], token-kind: app, roles: [Orders.ReadWrite] }}
    upstream: orders

  - name: legacy                           # behind application proxy: the token sits elsewhere, the backend wants an account name
    match: {{ path: /legacy }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://legacy], header-name: [Authorization2, Authorization], scopes: [user_impersonation] }}
      - set-header: {{ name: X-Remote-User, value: "@(token.claims.onpremisessamaccountname)" }}
    authorization: {{ from-header: Authorization2 }}
    upstream: orders

  - name: internal                         # the backend knows nobody but the gateway
    match: {{ path: /internal, methods: [GET] }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, {DEFAULT_AUDIENCE}], scopes: [Orders.Read] }}
    authorization: {{ credential: gateway, scope: api://orders-internal/.default }}
    upstream: internal

audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"#,
        tenant_id = tenant.tenant_id(),
        authority = tenant.base_url(),
        orders = orders.address,
        internal = internal.address,
    )
}

//! Tests that secrets show nowhere: a gateway runs as a separate process at the most verbose level, meets everything that handles
//! a secret, failures included, and all of its output, responses and requests are searched.

use std::{
    io::{BufRead as _, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Instant,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use entrada::{
    Clock,
    cli::certificate::NewCertificate,
    dev_tenant::{DevTenant, Fault, Options},
};
use http::StatusCode;
use serde_json::Value;

use crate::support::{LONGEST_WAIT, ORDERS_TOKEN, Upstream, config, eventually};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const VAULTED: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const BY_SECRET: &str = "77778888-bbbb-9999-cccc-0000dddd1111";

/// A gateway in a separate process, and its output so far.
struct Process {
    child: Child,
    written: Arc<Mutex<String>>,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    fn start(config: &Path, environment: &[(&str, String)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_entrada"))
            .args(["run", "--workers", "1", "--config"])
            .arg(config)
            .env("ENTRADA_LOG", "trace")
            .env("RUST_BACKTRACE", "1")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let written = Arc::new(Mutex::new(String::new()));
        gather(child.stdout.take().unwrap(), written.clone());
        gather(child.stderr.take().unwrap(), written.clone());
        let address =
            |line: &str| -> Option<SocketAddr> { serde_json::from_str::<Value>(line).ok()?["address"].as_str()?.parse().ok() };
        let begun = Instant::now();
        let mut find = |message: &str| loop {
            let text = written.lock().unwrap().clone();
            if let Some(found) = text.lines().filter(|line| line.contains(message)).find_map(address) {
                return found;
            }
            assert!(child_runs(&mut child) && begun.elapsed() < LONGEST_WAIT, "{text}");
            std::thread::yield_now();
        };
        let (public, admin) = (find("\"listening\""), find("the console is here"));
        Self { child, written, public, admin }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }

    /// Returns all output, once the process has ended by itself.
    fn end(mut self) -> String {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
        self.written.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn child_runs(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

fn gather(from: impl Read + Send + 'static, into: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut into = into.lock().unwrap();
            into.push_str(&line);
            into.push('\n');
        }
    });
}

/// The texts that must show nowhere: the secret, and each non-trivial part of a token.
#[derive(Default)]
struct Secrets(Vec<String>);

impl Secrets {
    fn add(&mut self, text: &str) {
        // The header of a token is public: it says which key signed.
        self.0
            .extend(text.split('.').skip(usize::from(text.starts_with("eyJ"))).filter(|part| part.len() > 7).map(str::to_owned));
    }

    #[track_caller]
    fn show_nowhere_in(&self, what: &str, text: &str) {
        for secret in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
                panic!("{what} shows a secret: {}…", &text[start..at]);
            }
        }
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// Returns the DER of the private key in a PEM text.
fn key_der(pem: &str) -> Vec<u8> {
    let start = pem.find("-----BEGIN PRIVATE KEY-----").unwrap();
    let body = pem[start..].lines().skip(1).take_while(|line| !line.starts_with("-----")).collect::<String>();
    STANDARD.decode(body).unwrap()
}

const ROUTES: &str = r#"
- { name: by-file, match: { path: /by-file }, inbound: [ORDERS], authorization: { credential: by-file, scope: "api://orders-internal/.default" }, upstream: backend }
- { name: vaulted, match: { path: /vaulted }, inbound: [ORDERS], authorization: { credential: vaulted, scope: "api://orders/.default" }, upstream: backend }
- { name: by-secret, match: { path: /by-secret }, inbound: [ORDERS], authorization: { credential: by-secret, scope: "api://orders/.default" }, upstream: backend }
- { name: machine, match: { path: /machine }, inbound: [ORDERS], authorization: { credential: machine, scope: "api://orders/.default" }, upstream: backend }
- { name: customer, match: { path: /customer }, inbound: [ORDERS], authorization: { credential: by-file, tenant: "@(token.tenant)", scope: "api://orders/.default" }, upstream: backend }
- name: user
  match: { path: /user }
  inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [CLIENT], scopes: [access_as_user] } ]
  authorization: { on-behalf-of: by-file, scope: "https://graph.microsoft.com/User.Read" }
  upstream: backend
- name: keyed
  match: { path: /keyed }
  anonymous: true
  inbound: [ set-header: { name: X-Key, value: "Key {{partner-key}}" }, set-header: { name: X-Word, value: "{{word}}" } ]
  upstream: backend
- { name: challenged, match: { path: /challenged }, inbound: [ORDERS], authorization: { credential: by-file, scope: "https://graph.microsoft.com/.default" }, upstream: backend }
- { name: kept, match: { path: /kept }, inbound: [ORDERS], authorization: keep, upstream: backend }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_secret_shows_in_logs_answers_or_memory() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let upstream = Upstream::answering(|received| {
        let challenge = "Bearer error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7fX19\"";
        let refused = received.uri.path().starts_with("/challenged");
        let builder = http::Response::builder().status(if refused { 401 } else { 200 });
        builder.header("www-authenticate", challenge).body("from the backend".into()).unwrap()
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let made = NewCertificate { subject: "CN=gateway".to_owned(), days: 90, bits: 2048 }.make(&Clock::system()).unwrap();
    write(&folder.path().join("gateway.pem"), made.pem().as_bytes());
    write(&folder.path().join("word"), b"a-word-from-a-file\n");
    let (version, der) = tenant.vault_certificate("vaulted-key", false, 365);
    tenant.vault_secret("partner-key", "the-secret-of-the-vault", None);
    tenant.vault_restrict(GATEWAY, &["certificates/get", "keys/sign", "secrets/get"]);
    tenant.update_app(GATEWAY, |app| app.certificate_pem(made.certificate_pem()));
    tenant.update_app(VAULTED, |app| app.certificate_der(&der));
    tenant.update_app(BY_SECRET, |app| app.secret("the-secret-of-the-vault"));
    let base = tenant.base_url();
    let more = format!(
        r#"named-values:
  word: {{ file: word }}
  partner-key: {{ key-vault: {{ vault: "{base}", secret: partner-key, identity: by-file, required: true }} }}
credentials:
  by-file: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }}, required: true }}
  vaulted: {{ tenant: contoso, client-id: {VAULTED}, certificate: {{ key-vault: {{ vault: "{base}", certificate: vaulted-key, identity: by-file }} }} }}
  by-secret: {{ tenant: contoso, client-id: {BY_SECRET}, client-secret: "{{{{partner-key}}}}" }}
  machine: {{ managed-identity: {{ source: app-service }} }}
listeners: [ {{ name: public, address: "127.0.0.1:0" }} ]
admin: {{ address: "127.0.0.1:0" }}
telemetry: {{ log: trace }}
audit: {{ sinks: [ {{ stdout: {{ format: json }} }} ] }}"#
    );
    let text = config(&tenant, &upstream, &ROUTES.replace("ORDERS", ORDERS_TOKEN).replace("CLIENT", GATEWAY), &more);
    let file = folder.path().join("entrada.yaml");
    write(&file, text.as_bytes());
    let environment = [("IDENTITY_ENDPOINT", format!("{base}/msi/token")), ("IDENTITY_HEADER", tenant.identity_header())];

    let process = Process::start(&file, &environment);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let admin = async |path: &str| {
        let answer = client.get(format!("http://{}{path}", process.admin)).send().await.unwrap();
        answer.text().await.unwrap()
    };
    eventually("ready", async || admin("/readyz").await.starts_with("ready")).await;

    let orders = tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).sign();
    let own = tenant.token().user("nia").audience(GATEWAY).scopes(["access_as_user"]).sign();
    let call = async |path: &str, token: &str| {
        let answer = client.get(format!("http://{}{path}", process.public)).bearer_auth(token).send().await.unwrap();
        (answer.status(), format!("{:?}", answer.headers()) + &answer.text().await.unwrap())
    };
    let mut answers = String::new();
    for (path, token, status) in [
        ("/by-file", &orders, StatusCode::OK),
        ("/vaulted", &orders, StatusCode::OK),
        ("/by-secret", &orders, StatusCode::OK),
        ("/machine", &orders, StatusCode::OK),
        ("/customer", &orders, StatusCode::OK),
        ("/user", &own, StatusCode::OK),
        ("/keyed", &orders, StatusCode::OK),
        ("/kept", &orders, StatusCode::OK),
        ("/challenged", &orders, StatusCode::BAD_GATEWAY),
        ("/user", &orders, StatusCode::UNAUTHORIZED),
    ] {
        let (answered, text) = call(path, token).await;
        assert_eq!(answered, status, "{path}: {text}\n{}", process.written.lock().unwrap());
        answers += &text;
    }

    // What fails says more than what works: refusals of every kind, with all that was sent quoted back.
    let mut secrets = Secrets::default();
    let nia = tenant.token().user("otto").audience(GATEWAY).scopes(["access_as_user"]).sign();
    let quoted = tenant.requests("/token").last().unwrap().field("client_assertion").unwrap();
    for fault in [
        Fault::on("/token").aadsts(50_013).member("error_description", format!("AADSTS50013: {nia} and {quoted}")),
        Fault::on("/token").status(500).body(format!("{nia} {quoted}")),
        Fault::on("/token").aadsts(50_079).member("claims", "{\"access_token\":{}}"),
    ] {
        tenant.fail(fault.times(1));
        let token = tenant.token().user("otto").audience(GATEWAY).scopes(["access_as_user"]).claim("n", answers.len()).sign();
        answers += &call("/user", &token).await.1;
        secrets.add(&token);
        tenant.recover();
    }
    write(&file, text.replace("CN=", "").replace("telemetry", "telemetri").as_bytes());
    process.signal("HUP");
    let told = || process.written.lock().unwrap().contains("the old one stays in force");
    eventually("that the reload failed", async || told()).await;
    let mut shown = String::new();
    for path in ["/api/status", "/api/overview", "/api/routes", "/api/config", "/api/decisions", "/metrics", "/"] {
        shown += &admin(path).await;
    }

    // Where the keys are: one in the process, the other one nowhere but in its vault.
    #[cfg(target_os = "linux")]
    {
        let memory = memory_of(process.child.id());
        assert!(holds_key(&memory, &key_der(&made.pem())), "the search finds a key that is here");
        let vaulted = tenant.vault_key("vaulted-key", &version).unwrap();
        assert!(!holds_key(&memory, vaulted.pkcs8()), "the vault's key is in the process");
    }
    assert_eq!(tenant.calls("/secrets/vaulted-key"), 0);

    secrets.add(&orders);
    secrets.add(&own);
    secrets.add(&nia);
    secrets.add("a-word-from-a-file");
    secrets.add("the-secret-of-the-vault");
    secrets.add(&tenant.identity_header());
    made.pem().lines().filter(|line| !line.starts_with("-----")).for_each(|line| secrets.add(line));
    made.certificate_pem().lines().for_each(|line| secrets.0.retain(|secret| secret != line));
    for request in tenant.requests("/token") {
        for field in ["client_assertion", "assertion", "client_secret"] {
            request.field(field).iter().for_each(|value| secrets.add(value));
        }
    }
    for path in ["/vaulted-key", "/sign", "/partner-key"] {
        for request in tenant.requests(path) {
            secrets.add(request.headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap());
        }
    }
    for received in upstream.all() {
        received.value("authorization").iter().for_each(|value| secrets.add(value.strip_prefix("Bearer ").unwrap()));
    }
    assert!(secrets.0.len() > 40, "{}", secrets.0.len());
    let written = process.end();
    assert!(written.contains("token acquired") && written.contains("\"TRACE\""), "it was talkative");
    assert!(written.contains("AADSTS50013"), "and told of what failed");

    secrets.show_nowhere_in("the log or the audit record", &written);
    secrets.show_nowhere_in("the admin listener", &shown);
    secrets.show_nowhere_in("an answer", &answers);
}

/// Returns the writable memory of a process.
#[cfg(target_os = "linux")]
fn memory_of(process: u32) -> Vec<Vec<u8>> {
    use std::io::{Seek as _, SeekFrom};

    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut regions = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        let mut bytes = Vec::new();
        memory.seek(SeekFrom::Start(start)).unwrap();
        // A page that went away meanwhile ends the region.
        let _ = (&memory).take(end - start).read_to_end(&mut bytes);
        regions.push(bytes);
    }
    regions
}

/// Returns whether the private exponent or the first prime of an RSA key is in memory, in either byte order.
#[cfg(target_os = "linux")]
fn holds_key(memory: &[Vec<u8>], pkcs8: &[u8]) -> bool {
    // RFC 8017, appendix A.1.2: the modulus comes first; 257 bytes, since its highest bit is set.
    let modulus = pkcs8.windows(5).position(|window| window == [0x02, 0x82, 0x01, 0x01, 0x00]).unwrap();
    let end = modulus + 5 + 256;
    [end + 64..end + 128, end + 300..end + 364].into_iter().any(|part| {
        let forwards = &pkcs8[part];
        let backwards: Vec<u8> = forwards.iter().rev().copied().collect();
        memory
            .iter()
            .any(|region| memchr::memmem::find(region, forwards).is_some() || memchr::memmem::find(region, &backwards).is_some())
    })
}

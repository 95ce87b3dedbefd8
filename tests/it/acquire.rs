//! Tests of `entrada token acquire`: its output for a token, and for a refusal, against a development tenant.

use std::{path::Path, process::Command};

use entrada::{
    Clock,
    cli::certificate::NewCertificate,
    dev_tenant::{DevTenant, Fault, Options},
};
use serde_json::{Value, json};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

/// A development tenant, and a folder with a config whose credentials it knows.
struct TestBed {
    entra: DevTenant,
    folder: tempfile::TempDir,
}

/// The output of a run, and its exit code.
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

impl TestBed {
    async fn open() -> Self {
        let entra = DevTenant::start(Options::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["gateway", "stranger"] {
            let request = NewCertificate { subject: format!("CN={name}"), days: 90, bits: 2048 };
            let made = request.make(&Clock::system()).unwrap();
            write(&folder.path().join(format!("{name}.pem")), &made.pem());
            if name == "gateway" {
                entra.update_app(GATEWAY, |app| app.certificate_pem(made.certificate_pem()).secret("a secret of the tests"));
            }
        }
        write(&folder.path().join("secret"), "a secret of the tests\n");
        let config = format!(
            r#"
named-values:
  word: {{ file: secret }}
tenants:
  contoso:  {{ id: {tenant}, authority: "{base}" }}
  many:     {{ id: organizations, authority: "{base}" }}
  fabrikam: {{ id: bbbbcccc-1111-dddd-2222-eeee3333ffff, authority: "{base}" }}
credentials:
  gateway:  {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }} }}
  stranger: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: stranger.pem }} }}
  anywhere: {{ tenant: many, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }} }}
  secret:   {{ tenant: contoso, client-id: {GATEWAY}, client-secret: "{{{{word}}}}" }}
  broken:   {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: absent.pem }} }}
  machine:  {{ managed-identity: {{ source: imds }} }}
"#,
            tenant = entra.tenant_id(),
            base = entra.base_url(),
        );
        write(&folder.path().join("entrada.yaml"), &config);
        Self { entra, folder }
    }

    async fn acquire(&self, more: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
        command.args(["token", "acquire", "--config"]).arg(self.folder.path().join("entrada.yaml")).args(more);
        command.env_remove("ENTRADA_CONFIG").env("AZURE_POD_IDENTITY_AUTHORITY_HOST", self.entra.base_url());
        // Off the test's thread, which carries the tenant.
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

const INTERNAL: [&str; 2] = ["--scope", "api://orders-internal/.default"];

#[tokio::test]
async fn says_what_is_in_a_token_and_shows_the_token_only_when_told_to() {
    let bed = TestBed::open().await;

    let run = bed.acquire(&[&["--credential", "gateway"][..], &INTERNAL].concat()).await;

    assert_eq!(run.code, Some(0), "{}{}", run.out, run.err);
    for part in
        ["Orders.Forward", "an application's own", "Lifetime     59 min", "renewed after 4", "CN=gateway, thumbprint", GATEWAY]
    {
        assert!(run.out.contains(part), "{part}: {}", run.out);
    }
    assert!(!run.out.contains("eyJ"), "{}", run.out);

    let shown = bed.acquire(&[&["--credential", "gateway", "--show-token"][..], &INTERNAL].concat()).await;

    let token = shown.out.lines().find(|line| line.starts_with("eyJ")).expect("the token stands on a line of its own");
    assert_eq!(bed.entra.verify(token).unwrap()["roles"], json!(["Orders.Forward"]));
}

#[tokio::test]
async fn prints_json_for_machines() {
    let bed = TestBed::open().await;
    let json = |name| [&["--format", "json", "--credential", name][..], &INTERNAL].concat();

    let run = bed.acquire(&json("gateway")).await;
    let document = run.json();

    assert_eq!(run.code, Some(0));
    assert_eq!((&document["credential"], &document["client_id"]), (&json!("gateway"), &json!(GATEWAY)));
    assert_eq!(document["token_endpoint"], bed.entra.token_endpoint(&bed.entra.tenant_id()));
    assert_eq!(document["token"]["claims"]["roles"], json!(["Orders.Forward"]));
    assert!(document["token"]["expires_in"].as_u64().unwrap() > 3_500);
    assert_eq!(document["certificates"][0]["subject"], "CN=gateway");
    assert!(document["token"].get("access_token").is_none() && !run.out.contains("eyJ"));
    let shown = bed.acquire(&[&json("gateway")[..], &["--show-token"]].concat()).await.json();
    assert!(bed.entra.verify(shown["token"]["access_token"].as_str().unwrap()).is_some());
}

#[tokio::test]
async fn a_refusal_of_entra_comes_with_code_meaning_and_cure() {
    let bed = TestBed::open().await;
    for (credential, scope, code, cure) in [
        ("stranger", "api://orders-internal/.default", "AADSTS700027", "upload this certificate to the app registration"),
        ("gateway", "api://nothing/.default", "AADSTS500011", "check the spelling of `scope`"),
        ("gateway", "api://orders-internal/Orders.Read", "AADSTS1002012", "followed by `/.default`"),
    ] {
        let arguments = ["--credential", credential, "--scope", scope];

        let run = bed.acquire(&arguments).await;
        let document = bed.acquire(&[&arguments[..], &["--format", "json"]].concat()).await;

        assert_eq!(run.code, Some(1), "{}{}", run.out, run.err);
        assert!(run.out.contains(&format!("Code         {code}\n")), "{}", run.out);
        assert!(run.out.contains(cure) && run.out.contains("Meaning") && run.out.contains("Trace id"), "{}", run.out);
        let error = &document.json()["error"];
        assert_eq!((document.code, &error["code"]), (Some(1), &json!(code)), "{error}");
        assert!(error["cure"].as_str().unwrap().contains(cure), "{error}");
        assert!(error["correlation_id"].is_string() && error["trace_id"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn an_authority_that_does_not_answer_is_no_token_either() {
    let bed = TestBed::open().await;
    bed.entra.fail(Fault::on("/token").status(503).body("<html>"));

    let run = bed.acquire(&[&["--credential", "gateway"][..], &INTERNAL].concat()).await;

    assert_eq!(run.code, Some(1));
    assert!(run.out.contains("the token endpoint answered 503"), "{}", run.out);
}

#[tokio::test]
async fn each_kind_of_credential_gets_its_token() {
    let bed = TestBed::open().await;
    bed.entra.update_app(GATEWAY, |app| app.consented_by("fabrikam"));
    let user = bed.entra.token().user("nia").audience(GATEWAY).scopes(["access_as_user"]).sign();
    let file = bed.folder.path().join("user.jwt");
    write(&file, &format!("Bearer {user}\n"));
    let graph = "https://graph.microsoft.com/.default";
    for (arguments, audience, tenant) in [
        (vec!["--credential", "secret", "--scope", graph], "https://graph.microsoft.com", "aaaabbbb-0000-cccc-1111-dddd2222eeee"),
        (
            vec!["--credential", "machine", "--scope", "https://vault.azure.net/.default"],
            "https://vault.azure.net",
            "aaaabbbb-0000-cccc-1111-dddd2222eeee",
        ),
        (
            vec!["--credential", "anywhere", "--tenant", "fabrikam", "--scope", graph],
            "https://graph.microsoft.com",
            "bbbbcccc-1111-dddd-2222-eeee3333ffff",
        ),
        (
            vec!["--credential", "gateway", "--tenant", "bbbbcccc-1111-dddd-2222-eeee3333ffff", "--scope", graph],
            "https://graph.microsoft.com",
            "bbbbcccc-1111-dddd-2222-eeee3333ffff",
        ),
        (
            vec![
                "--credential",
                "gateway",
                "--on-behalf-of",
                file.to_str().unwrap(),
                "--scope",
                "https://graph.microsoft.com/User.Read",
            ],
            "https://graph.microsoft.com",
            "aaaabbbb-0000-cccc-1111-dddd2222eeee",
        ),
    ] {
        let run = bed.acquire(&[&arguments[..], &["--format", "json"]].concat()).await;

        let claims = &run.json()["token"]["claims"];
        assert_eq!((&claims["aud"], &claims["tid"]), (&json!(audience), &json!(tenant)), "{arguments:?}: {}", run.out);
    }
}

#[tokio::test]
async fn used_wrongly_it_says_how_it_is_meant() {
    let bed = TestBed::open().await;
    let graph = "https://graph.microsoft.com/.default";
    for (arguments, told) in [
        (vec!["--credential", "absent", "--scope", graph], "no credential `absent`; it has: anywhere, broken, gateway"),
        (vec!["--credential", "broken", "--scope", graph], "absent.pem cannot be read"),
        (vec!["--credential", "anywhere", "--scope", graph], "no tenant of its own: say which one, as --tenant"),
        (vec!["--credential", "anywhere", "--scope", graph, "--tenant", "many"], "or stands for many"),
        (vec!["--credential", "machine", "--scope", graph, "--tenant", "contoso"], "is a managed identity"),
        (vec!["--credential", "gateway", "--scope", graph, "--tenant", "nowhere"], "neither a tenant of the config"),
        (vec!["--credential", "gateway", "--scope", graph, "--on-behalf-of", "/dev/null"], "a user's token is needed"),
        (vec!["--credential", "gateway"], "--scope"),
    ] {
        let run = bed.acquire(&arguments).await;

        assert_eq!(run.code, Some(2), "{arguments:?}: {}{}", run.out, run.err);
        assert!(run.err.contains(told), "{arguments:?}: {}", run.err);
        assert_eq!(run.out, "");
    }
}

//! Tests of managed identities from the command line, in the environment of each platform that the development tenant simulates.

use std::process::Command;

use entrada::dev_tenant::{DevTenant, Options};
use serde_json::Value;

/// Every variable by which a platform is known: none of the machine's own may count.
const VARIABLES: [&str; 7] = [
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
];

/// A run of a command: its exit code, and all that it printed.
struct Run(Option<i32>, String);

/// Runs a command on a config with one managed identity, in the environment of a platform.
async fn run(line: &[&str], identity: &str, environment: &[(&str, String)]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    let text = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]
credentials: {{ machine: {{ managed-identity: {{ {identity} }} }} }}
upstreams: {{ vault: {{ servers: [\"https://127.0.0.1:1\"] }} }}
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }} }}
routes: [ {{ name: a, match: {{ path: /a }}, inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], roles: [r] }} ], authorization: {{ credential: machine, scope: https://vault.azure.net/.default }}, upstream: vault }} ]
"
    );
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_entrada"));
    command.args(line).arg("--config").arg(file).env_remove("ENTRADA_CONFIG");
    VARIABLES.iter().for_each(|name| _ = command.env_remove(name));
    command.envs(environment.iter().map(|(name, value)| (*name, value)));
    // Off the test's thread, which carries the tenant.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Run(output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

const ACQUIRE: [&str; 6] = ["token", "acquire", "--credential", "machine", "--scope", "https://vault.azure.net/.default"];

fn service_fabric(tenant: &DevTenant, thumbprint: &str) -> [(&'static str, String); 3] {
    [
        ("IDENTITY_ENDPOINT", format!("{}/sf/token", tenant.base_url())),
        ("IDENTITY_HEADER", tenant.identity_header()),
        ("IDENTITY_SERVER_THUMBPRINT", thumbprint.to_owned()),
    ]
}

#[tokio::test]
async fn on_service_fabric_doctor_and_acquire_trust_the_pinned_certificate_alone() {
    let tenant = DevTenant::start(Options { tls: true, ..Options::default() }).await.unwrap();
    let own = service_fabric(&tenant, &tenant.server_thumbprint().unwrap());

    let Run(code, told) = run(&ACQUIRE, "", &own).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("https://vault.azure.net"), "{told}");
    let Run(code, told) = run(&["doctor"], "source: service-fabric", &own).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("service-fabric at ") && told.contains("Every credential gets its tokens."), "{told}");

    // The secret goes to no server with another certificate.
    let before = tenant.calls("/sf/token");
    let Run(code, told) = run(&ACQUIRE, "", &service_fabric(&tenant, &"AB".repeat(20))).await;
    assert_eq!(code, Some(1), "{told}");
    assert_eq!(tenant.calls("/sf/token"), before);
    assert!(told.contains("IDENTITY_SERVER_THUMBPRINT"), "{told}");
    assert!(!told.contains(&tenant.identity_header()), "{told}");

    let Run(code, told) = run(&ACQUIRE, "client-id: 77778888-bbbb-9999-cccc-0000dddd1111", &own).await;
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("which no id names"), "{told}");
}

/// Tests that of Azure Arc no file is read but the agent's own: the simulated agent names one in another folder.
#[tokio::test]
async fn on_arc_a_challenge_outside_of_the_agents_folder_is_refused() {
    let (tenant, folder) = (DevTenant::start(Options::default()).await.unwrap(), tempfile::tempdir().unwrap());
    tenant.play_arc(folder.path());
    let own =
        [("IDENTITY_ENDPOINT", format!("{}/arc/token", tenant.base_url())), ("IMDS_ENDPOINT", tenant.base_url().to_owned())];

    let Run(code, told) = run(&ACQUIRE, "", &own).await;

    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("names a file that is not a challenge of Azure Arc"), "{told}");
    assert_eq!(tenant.requests("/arc/token").len(), 1, "nothing is sent for the challenge");
    assert!(folder.path().join("entrada-development-tenant.key").exists());
}

#[tokio::test]
async fn half_of_a_platforms_variables_is_told_and_leads_to_no_other_platform() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let base = tenant.base_url();
    for (environment, told) in [
        (vec![("MSI_ENDPOINT", format!("{base}/msi/token"))], "MSI_SECRET beside its MSI_ENDPOINT"),
        (vec![("IDENTITY_ENDPOINT", format!("{base}/msi/token"))], "IDENTITY_HEADER or IMDS_ENDPOINT"),
        (
            vec![("IDENTITY_SERVER_THUMBPRINT", "AB".repeat(20)), ("IDENTITY_HEADER", "x".into())],
            "the environment has no IDENTITY_ENDPOINT",
        ),
    ] {
        // A machine's own endpoint is there as well, and must not be asked instead.
        let environment = [environment, vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned())]].concat();
        for line in [&ACQUIRE[..], &["check"], &["doctor"]] {
            let Run(code, found) = run(line, "", &environment).await;
            assert_ne!(code, Some(0), "{line:?}: {found}");
            assert!(found.contains(told), "{line:?}: {found}");
        }
    }
    assert_eq!(tenant.calls("/token"), 0);
}

#[tokio::test]
async fn app_service_and_virtual_machines_hand_out_tokens_in_their_own_forms() {
    let tenant = DevTenant::start(Options::default()).await.unwrap();
    let (base, header) = (tenant.base_url(), tenant.identity_header());
    for (environment, source) in [
        (vec![("IDENTITY_ENDPOINT", format!("{base}/msi/token")), ("IDENTITY_HEADER", header.clone())], "app-service"),
        (vec![("MSI_ENDPOINT", format!("{base}/msi/token")), ("MSI_SECRET", header.clone())], "app-service"),
        (vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", base.to_owned())], "imds"),
    ] {
        let Run(code, told) = run(&[&ACQUIRE[..], &["--format", "json"]].concat(), "", &environment).await;

        assert_eq!(code, Some(0), "{source}: {told}");
        let acquired: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(acquired["token"]["claims"]["aud"], "https://vault.azure.net", "{source}");
        let Run(_, told) = run(&["doctor"], "", &environment).await;
        assert!(told.contains(&format!("{source} at ")), "{told}");
    }
}

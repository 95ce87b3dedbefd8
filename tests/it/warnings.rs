//! Tests of the warnings of `check` for configs that do not do what they seem to, and of the log about counters in a flood.

use std::{
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::RawConnection;

/// Far longer than anything here takes.
const LONGEST: Duration = Duration::from_secs(120);

/// Returns the output of `entrada check`, and whether it found errors.
fn check(config: &str) -> (String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("entrada.yaml");
    std::fs::write(&file, config).unwrap();
    let tags = r#"{ "changeNumber": 331, "cloud": "Public", "values": [ { "name": "AzureFrontDoor.Backend", "id": "AzureFrontDoor.Backend", "properties": { "addressPrefixes": ["198.51.100.0/24"] } } ] }"#;
    std::fs::write(folder.path().join("tags.json"), tags).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_entrada")).args(["check".into(), file]).env_remove("ENTRADA_CONFIG").output().unwrap();
    (String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr), !output.status.success())
}

const TENANT: &str = "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }";

fn route(policy: &str) -> String {
    format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n{TENANT}\nupstreams: {{ backend: {{ servers: [\"http://127.0.0.1:1\"] }} }}\n\
         routes: [ {{ name: a, match: {{ path: /a }}, upstream: backend, inbound: [ validate-azure-ad-token: {{ tenant: contoso, {policy} }} ] }} ]"
    )
}

#[test]
fn an_audience_is_no_pattern() {
    let (told, failed) = check(&route("audiences: [\"*\"], scopes: [Orders.Read]"));

    assert!(!failed && told.contains("warning: ") && told.contains("`*`") && told.contains("audiences"), "{told}");
    let (told, _) = check(&route("audiences: [api://orders], scopes: [Orders.Read]"));
    assert!(!told.contains('*'), "{told}");
}

#[test]
fn a_wanted_value_that_holds_the_separator_can_never_be_met() {
    let claim = |separator: &str| {
        format!(
            "audiences: [api://orders], scopes: [Orders.Read], required-claims: [ {{ name: roles, match: any, separator: \"{separator}\", values: [\"a b\"] }} ]"
        )
    };

    let (told, failed) = check(&route(&claim(" ")));

    assert!(!failed && told.contains("warning: `a b` holds the separator ` `"), "{told}");
    assert!(!check(&route(&claim(","))).0.contains("separator"));
}

#[test]
fn front_door_without_the_profiles_id_is_everybodys() {
    let listener = |more: &str| {
        format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\", trusted-proxies: [ {{ addresses: [front-doors]{more} }} ] }} ]\n\
             address-sets: {{ front-doors: {{ service-tags: tags.json, tags: [AzureFrontDoor.Backend] }} }}\n\
             routes: [ {{ name: ping, match: {{ exact-path: /ping }}, anonymous: true, respond: {{ status: 204 }} }} ]"
        )
    };

    let (told, failed) = check(&listener(""));

    assert!(
        !failed && told.contains("warning: ") && told.contains("all customers of Front Door") && told.contains("X-Azure-FDID"),
        "{told}"
    );
    let (told, _) = check(&listener(", require-header: { X-Azure-FDID: [5f5f0000-1111-4222-8333-abcdefabcdef] }"));
    assert!(!told.contains("Front Door"), "{told}");
}

#[test]
fn secrets_of_urls_are_in_no_error_however_they_are_written() {
    let word = "Pa55w0rd-of-nia";
    for url in [
        format!("//nia:{word}@proxy.contoso.example"),
        format!("http:\\\\nia:{word}@proxy.contoso.example"),
        format!("http:/nia:{word}@proxy.contoso.example"),
        format!("nia:{word}@proxy.contoso.example:3128"),
        format!("ftp://nia:{word}@proxy.contoso.example"),
        format!("http://proxy.contoso.example/a?sv=2024&sig={word}"),
        format!("ftp://proxy.contoso.example/a?SIG={word}%3D&se=1"),
        format!("http://proxy.contoso.example/a?code={word}"),
    ] {
        let base = "listeners: [ { name: public, address: \"127.0.0.1:0\" } ]\nroutes: [ { name: a, match: { path: /a }, anonymous: true, upstream: backend } ]";
        for config in [
            format!("{base}\nupstreams:\n  backend:\n    servers:\n      - '{url}'\n"),
            format!(
                "{base}\nupstreams: {{ backend: {{ servers: [ \"http://127.0.0.1:1\" ] }} }}\nidentity-http:\n  proxy: '{url}'\n  oops: 1\n"
            ),
            format!(
                "{base}\nupstreams: {{ backend: {{ servers: [ \"http://127.0.0.1:1\" ] }} }}\nissuers: {{ idp: {{ openid-config: '{url}' }} }}\n"
            ),
            format!("{base}\nupstreams: {{ backend: {{ servers: [ \"http://127.0.0.1:1\" ], host: '{url}' }} }}\n"),
        ] {
            let (told, failed) = check(&config);
            assert!(failed, "{url}: {told}");
            assert!(!told.contains(word), "{url}: {told}");
        }
    }
}

/// A gateway in a process of its own, ended with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn counts_that_a_flood_of_keys_has_to_share_are_logged_and_counted() {
    let (port, admin) = (free_port(), free_port());
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("entrada.yaml"), folder.path().join("log"));
    let config = format!(
        "listeners: [ {{ name: public, address: \"127.0.0.1:{port}\" }} ]\nadmin: {{ address: \"127.0.0.1:{admin}\" }}\n\
         audit: {{ sinks: [] }}\n\
         routes:\n  - name: a\n    match: {{ path: /a }}\n    anonymous: true\n    respond: {{ status: 204 }}\n    \
         inbound: [ rate-limit-by-key: {{ calls: 1000, renewal-period: 1h, counter-key: \"@(request.headers['x-key'])\" }} ]\n"
    );
    std::fs::write(&file, config).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_entrada"))
        .args(["run", "--config", &file.display().to_string()])
        .env_remove("ENTRADA_CONFIG")
        .stderr(std::fs::File::create(&log).unwrap())
        .stdout(Stdio::null())
        .spawn();
    let _process = Process(process.unwrap());
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let begun = Instant::now();
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(begun.elapsed() < LONGEST, "it never listens: {}", std::fs::read_to_string(&log).unwrap());
        tokio::task::yield_now().await;
    }
    let metrics = async || reqwest::get(format!("http://127.0.0.1:{admin}/metrics")).await.unwrap().text().await.unwrap();
    let sample = "entrada_limit_counts_shared_total{limit=\"rate\",counted=\"calls\",period=\"3600s\"} ";
    let shared = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)).unwrap_or("0");
        line.parse::<u64>().unwrap()
    };

    // One caller after the other; places are spread by chance, so that the first ones are shared long before all are taken.
    let mut caller = RawConnection::open(address).await;
    let mut key = 0;
    while shared(&metrics().await) == 0 {
        assert!(key < 300_000, "there are more keys than places");
        for _ in 0..50 {
            let calls: String =
                (key..key + 100).map(|key| format!("GET /a HTTP/1.1\r\nhost: a\r\nx-key: {key}\r\n\r\n")).collect();
            caller.send(calls.as_bytes()).await;
            let mut answered = 0;
            while answered < 100 {
                answered += caller.read_until("\r\n\r\n").await.matches("HTTP/1.1 204 ").count();
            }
            key += 100;
        }
    }

    let told = "more keys are counted than there are places";
    while !std::fs::read_to_string(&log).unwrap().contains(told) {
        assert!(begun.elapsed() < LONGEST, "{}", std::fs::read_to_string(&log).unwrap());
        tokio::task::yield_now().await;
    }
}

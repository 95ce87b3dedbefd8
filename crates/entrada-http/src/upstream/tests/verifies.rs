//! Tests of TLS, and of upstreams built from settings.

use super::{
    super::{RetriesConfig, config::ProtocolConfig},
    servers::{Good, Scripted, Step, TestAuthority},
    *,
};

struct Folder {
    authority: TestAuthority,
    folder: tempfile::TempDir,
}

impl Folder {
    fn new() -> Self {
        let (authority, folder) = (TestAuthority::new(), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        Self { authority, folder }
    }

    fn upstream(&self, server: &str, change: impl FnOnce(&mut UpstreamConfig)) -> Arc<Upstream> {
        let mut config = config(&[server.to_owned()]);
        config.tls.ca = Some("ca.pem".to_owned());
        change(&mut config);
        upstream_beside(config, self.folder.path())
    }
}

#[tokio::test]
async fn the_protocol_is_settled_by_alpn() {
    let folder = Folder::new();
    for (offers, protocol, expected) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], ProtocolConfig::Auto, Some("HTTP/2.0")),
        (&[b"http/1.1"], ProtocolConfig::Auto, Some("HTTP/1.1")),
        (&[], ProtocolConfig::Auto, Some("HTTP/1.1")),
        (&[b"h2", b"http/1.1"], ProtocolConfig::Http1, Some("HTTP/1.1")),
        (&[b"h2", b"http/1.1"], ProtocolConfig::Http2, Some("HTTP/2.0")),
        (&[], ProtocolConfig::Http2, None),
    ] {
        let server = Good::tls(&folder.authority, "127.0.0.1", offers).await;
        let upstream = folder.upstream(&server.url(), |config| config.protocol = protocol);

        let answers = [get(&upstream, "/").await, get(&upstream, "/").await];

        for answer in answers {
            match expected {
                Some(version) => assert!(answer.unwrap().1.ends_with(version), "{offers:?} {protocol:?}"),
                None => assert_eq!(reason(answer), Reason::UpstreamUnreachable),
            }
        }
        assert!(expected.is_none() || server.connections() == 1);
    }
}

#[tokio::test]
async fn an_upgrade_over_tls_is_http1() {
    let folder = Folder::new();
    let server = Good::tls(&folder.authority, "127.0.0.1", &[b"h2", b"http/1.1"]).await;
    let upstream = folder.upstream(&server.url(), |_| ());

    assert!(get(&upstream, "/").await.unwrap().1.ends_with("HTTP/2.0"));
    assert_eq!(send_upgrade(&upstream, "/switch").await.unwrap().status(), 101);
    assert!(get(&upstream, "/").await.unwrap().1.ends_with("HTTP/2.0"));
}

#[tokio::test]
async fn a_server_must_show_the_right_name() {
    let folder = Folder::new();
    for (bears, expects, fine) in [
        ("127.0.0.1", None, true),
        ("orders.internal", Some("orders.internal"), true),
        ("orders.internal", None, false),
        ("127.0.0.1", Some("orders.internal"), false),
    ] {
        let server = Good::tls(&folder.authority, bears, &[]).await;
        let upstream = folder.upstream(&server.url(), |config| config.tls.server_name = expects.map(str::to_owned));

        let answer = get(&upstream, "/").await;

        if fine {
            assert_eq!(answer.unwrap().0, 200);
        } else {
            assert_eq!(reason(answer), Reason::UpstreamUnreachable, "{bears} {expects:?}");
        }
    }
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let folder = Folder::new();
    let server = Good::tls(&TestAuthority::new(), "127.0.0.1", &[]).await;
    let upstream = folder.upstream(&server.url(), |_| ());

    assert_eq!(reason(get(&upstream, "/").await), Reason::UpstreamUnreachable);
}

#[tokio::test]
async fn an_unchanged_upstream_keeps_its_connections_across_builds() {
    let answer = Step::Write("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine");
    let server = Scripted::start(&[&[Step::Head, answer, Step::Head, answer], &[Step::Head, answer]]).await;
    let build = |config: UpstreamConfig, previous: Option<&Upstreams>| {
        let configs = BTreeMap::from([("orders".to_owned(), config)]);
        Upstreams::build(&configs, Path::new("/"), 1, previous, &Place::root(), &mut Faults::default())
    };

    let first = build(config(&[server.url()]), None);
    get(first.find("orders").unwrap(), "/").await.unwrap();
    let second = build(config(&[server.url()]), Some(&first));
    get(second.find("orders").unwrap(), "/").await.unwrap();
    assert_eq!(server.connections(), 1);

    let third = build(UpstreamConfig { host: Some("other".into()), ..config(&[server.url()]) }, Some(&second));
    get(third.find("orders").unwrap(), "/").await.unwrap();
    assert_eq!(server.connections(), 2);
}

#[test]
fn faults_come_all_at_once_with_their_places() {
    let mut faults = Faults::default();
    let configs = [
        serde_json::json!({ "servers": [] }),
        serde_json::json!({ "servers": ["orders:8080", "http://127.0.0.1:1", "http://127.0.0.1:1/"] }),
        serde_json::json!({ "servers": ["https://127.0.0.1:1"], "tls": { "ca": "none.pem", "server-name": "not a name" } }),
        serde_json::json!({ "servers": ["http://127.0.0.1:1"], "host": "not a host" }),
        serde_json::json!({ "servers": ["http://127.0.0.1:1"], "tls": { "ca": "none.pem" } }),
        serde_json::json!({
            "servers": ["http://127.0.0.1:1"],
            "retries": { "attempts": 9, "when": [] },
            "health": { "path": "healthz", "interval": "1ms", "healthy": 0 },
            "ejection": { "consecutive-failures": 0 }
        }),
    ];
    let configs = (0..).map(|n| format!("u{n}")).zip(configs.map(|config| serde_json::from_value(config).unwrap())).collect();

    let built = Upstreams::build(&configs, Path::new("/nowhere"), 2, None, &Place::root().key("upstreams"), &mut faults);

    let places: Vec<_> =
        faults.iter().map(|fault| (fault.place.to_string(), fault.severity == crate::settings::Severity::Error)).collect();
    let expected = [
        ("upstreams.u0.servers", true),
        ("upstreams.u1.servers[0]", true),
        ("upstreams.u1.servers[2]", true),
        ("upstreams.u2.tls.server-name", true),
        ("upstreams.u2.tls.ca", true),
        ("upstreams.u3.host", true),
        ("upstreams.u4.tls", false),
        ("upstreams.u5.retries.attempts", true),
        ("upstreams.u5.retries.when", true),
        ("upstreams.u5.health.path", true),
        ("upstreams.u5.health.interval", true),
        ("upstreams.u5.health.healthy", true),
        ("upstreams.u5.ejection.consecutive-failures", true),
    ];
    assert_eq!(places, expected.map(|(place, error)| (place.to_owned(), error)));
    assert_eq!(built.iter().map(|upstream| &**upstream.name()).collect::<Vec<_>>(), ["u4"]);
}

#[test]
fn conditions_and_shares_are_read_strictly() {
    for (when, budget, fine) in [
        ("503", "20%", true),
        ("connect-failure", "0%", true),
        ("timeout", "100%", true),
        ("200", "20%", false),
        ("+503", "20%", false),
        ("reset", "20%", false),
        ("503", "20", false),
        ("503", "101%", false),
        ("503", "-1%", false),
    ] {
        let retries: Result<RetriesConfig, _> = serde_json::from_value(serde_json::json!({ "when": [when], "budget": budget }));
        assert_eq!(retries.is_ok(), fine, "{when} {budget}");
    }
}

use super::{testing::*, *};

fn client() -> IdentityHttp {
    IdentityHttp::with_environment(&IdentityHttpConfig::default(), |_| None).unwrap()
}

#[tokio::test]
async fn posts_a_form_and_reads_the_answer() {
    let origin = Origin::start(|_| Reply::json(r#"{"ok":true}"#)).await;
    let mut headers = HeaderMap::new();
    headers.insert("x-client-sku", HeaderValue::from_static("entrada"));

    let answer = client().post_form(&origin.url("/token"), &[("scope", "a b&c"), ("empty", "")], headers, 1024).await.unwrap();

    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, r#"{"ok":true}"#);
    let asked = origin.asked().remove(0);
    assert!(asked.starts_with("POST /token HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("content-type: application/x-www-form-urlencoded\r\n"), "{asked}");
    assert!(asked.contains("x-client-sku: entrada\r\n"), "{asked}");
    assert!(asked.ends_with("\r\n\r\nscope=a+b%26c&empty="), "{asked}");
}

#[tokio::test]
async fn follows_no_redirect() {
    let elsewhere = Origin::start(|_| Reply::json("{}")).await;
    let location = elsewhere.url("/stolen");
    let origin = Origin::start(move |_| Reply { head: format!("location: {location}\r\n"), ..Reply::status(307) }).await;

    let answer = client().get(&origin.url("/keys"), 1024).await.unwrap();

    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(elsewhere.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn refuses_a_body_beyond_the_cap() {
    let origin = Origin::start(|_| Reply::json("x".repeat(101))).await;

    let error = client().get(&origin.url("/"), 100).await.unwrap_err();
    let fits = client().get(&origin.url("/"), 101).await.unwrap();

    assert!(matches!(error, IdentityHttpError::TooLarge { cap: 100, .. }), "{error}");
    assert_eq!(fits.body.len(), 101);
}

#[tokio::test]
async fn gives_up_on_a_slow_answer() {
    let never = Arc::new(tokio::sync::Notify::new());
    let origin = Origin::start(move |_| Reply { after: Some(never.clone()), ..Reply::status(200) }).await;
    let url = origin.url("/slow");

    let error = client().send(Call::get(&url, 10).within(Duration::from_millis(50))).await.unwrap_err();

    assert!(matches!(error, IdentityHttpError::Timeout { .. }), "{error}");
    assert!(!error.never_sent());
}

#[tokio::test]
async fn says_when_no_connection_was_made() {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = Url::parse(&format!("http://{unused}/secret-path")).unwrap();

    let error = client().get(&url, 10).await.unwrap_err();

    assert!(error.never_sent());
    assert!(!format!("{error:?}").contains("secret-path"), "{error:?}");
}

#[tokio::test]
async fn refuses_addresses_that_leave_the_machine_in_the_clear() {
    for (text, platform, usable) in [
        ("https://login.contoso.example/", false, true),
        ("http://login.contoso.example/", false, false),
        ("http://localhost:7070/", false, true),
        ("http://127.0.0.1:7070/", false, true),
        ("http://[::1]:7070/", false, true),
        ("http://localhost.contoso.example/", false, false),
        ("http://192.0.2.1/", false, false),
        ("http://169.254.169.254/metadata", false, false),
        ("http://169.254.169.254/metadata", true, true),
        ("ftp://localhost/", false, false),
        ("https://user:word@login.contoso.example/", false, false),
    ] {
        assert_eq!(check_address(&Url::parse(text).unwrap(), platform).is_ok(), usable, "{text}");
    }
}

#[tokio::test]
async fn goes_through_the_proxy_but_not_for_this_machine() {
    let proxy = Origin::start(|_| Reply::status(502)).await;
    let origin = Origin::start(|_| Reply::json("{}")).await;
    let config = IdentityHttpConfig { proxy: Some(format!("http://{}", proxy.address)), ca: None };
    let client = IdentityHttp::with_environment(&config, |_| None).unwrap();

    let outside = client.get(&Url::parse("https://login.contoso.example/").unwrap(), 10).await;
    let here = client.get(&origin.url("/"), 10).await;

    assert!(outside.is_err());
    assert!(proxy.asked()[0].starts_with("CONNECT login.contoso.example:443 "), "{:?}", proxy.asked());
    assert_eq!(here.unwrap().status, StatusCode::OK);
}

#[test]
fn takes_the_proxy_of_the_environment_unless_one_is_configured() {
    let environment = |name: &str| match name {
        "HTTPS_PROXY" => Some("proxy.contoso.example:3128".to_owned()),
        "NO_PROXY" => Some("internal.example".to_owned()),
        _ => None,
    };
    let broken = |name: &str| (name == "https_proxy").then(|| "http://user:hunter2@[broken".to_owned());

    assert!(proxy(&IdentityHttpConfig::default(), environment).unwrap().is_some());
    assert!(proxy(&IdentityHttpConfig::default(), |_| None).unwrap().is_none());
    let error = proxy(&IdentityHttpConfig::default(), broken).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn exceptions_of_the_environment_do_not_go_through_its_proxy() {
    for (row, names) in [("upper case", ["HTTPS_PROXY", "NO_PROXY"]), ("lower case", ["https_proxy", "no_proxy"])] {
        let proxy = Origin::start(|_| Reply::status(502)).await;
        let environment = |name: &str| match name {
            name if name == names[0] => Some(proxy.address.to_string()),
            name if name == names[1] => Some("vault.example.invalid, .internal.invalid,192.0.2.0/24".to_owned()),
            _ => None,
        };
        let client = IdentityHttp::with_environment(&IdentityHttpConfig::default(), environment).unwrap();
        for (host, through) in [
            ("login.example.invalid", true),
            ("vault.example.invalid", false),
            ("vault.example.invalid.example.org", true),
            ("login.internal.invalid", false),
            ("192.0.2.7", false),
            ("198.51.100.7", true),
        ] {
            let before = proxy.asked().len();
            let url = Url::parse(&format!("https://{host}/")).unwrap();

            // No such host is there; what counts is who is asked for it.
            let _ = client.send(Call::get(&url, 10).within(Duration::from_millis(300))).await;

            assert_eq!(proxy.asked().len() > before, through, "{row}: {host}");
        }
    }
}

#[test]
fn says_which_file_of_authorities_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let config = |path: &std::path::Path| IdentityHttpConfig { proxy: None, ca: Some(path.display().to_string()) };

    let absent = IdentityHttp::new(&config(&path)).unwrap_err();
    std::fs::write(&path, "no certificate here").unwrap();
    let empty = IdentityHttp::new(&config(&path)).unwrap_err();

    assert!(matches!(absent, IdentityHttpFault::CaFile { .. }), "{absent}");
    assert!(matches!(empty, IdentityHttpFault::CaEmpty { .. }), "{empty}");
}

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::entra::testing::{API, Mint, NOW};

#[test]
fn says_what_kind_of_token_it_is() {
    for (token, expected) in [
        (Mint::user(), "an access token (version 2, Entra's, a user's)"),
        (Mint::app(), "an access token (version 2, Entra's, an application's own)"),
        (Mint::app().version_1().without("idtyp"), "an access token (version 1, Entra's, an application's own)"),
        (Mint::user().without("azp").without("scp").with("nonce", "n"), "an ID token (version 2, Entra's)"),
        (Mint::user().header("nonce", "n"), "an access token for Microsoft Graph (version 2, only Graph can verify it)"),
        (
            Mint::user().version_1().with("aud", "https://graph.microsoft.com"),
            "an access token for Microsoft Graph (version 1, only Graph can verify it)",
        ),
    ] {
        let decoded = decode(&format!(" Bearer {}\n", token.sign()), NOW);

        assert_eq!(decoded.kind, expected);
        assert_eq!(decoded.problems, Vec::<String>::new());
        assert!(decoded.header.is_some() && decoded.claims.is_some());
    }
}

#[test]
fn says_times_in_words() {
    let decoded = decode(&Mint::user().sign(), NOW + 61);

    assert_eq!(decoded.times["exp"], "2026-09-21 15:13:20 UTC, in 58 min 59 s");
    assert_eq!(decoded.times["nbf"], "2026-09-21 14:13:20 UTC, 1 min 1 s ago");
}

#[test]
fn shows_what_can_be_read_of_a_malformed_token_and_says_what_is_wrong() {
    let good = Mint::user();
    for (row, token, problem) in [
        ("critical", good.clone().header("crit", json!(["x"])).sign(), "crit"),
        ("claim twice", good.sign_text(r#"{"aud":1,"aud":2}"#), "a member stands twice"),
        ("two parts", "e30.e30".to_owned(), "is 2 and not 3"),
        ("a word", "hello".to_owned(), "is 1 and not 3"),
        ("nothing", String::new(), "is 1 and not 3"),
        ("signature", format!("{}=", good.sign()), "signature"),
        ("no algorithm", good.clone().header("alg", "none").sign(), "algorithm"),
        ("encrypted", "e30.a.b.c.d".to_owned(), "is 5 and not 3"),
    ] {
        let decoded = decode(&token, NOW);

        assert!(decoded.problems.iter().any(|found| found.contains(problem)), "{row}: {:?}", decoded.problems);
    }
    assert!(decode(&good.header("crit", json!(["x"])).sign(), NOW).claims.unwrap().contains_key("aud"));
}

/// Returns the result of `--verify` against a development tenant.
async fn verified(entra: &crate::dev_tenant::DevTenant, token: &str, more: &[&str]) -> serde_json::Value {
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: DecodeArguments,
    }
    let (tenant, authority) = (entra.tenant_id(), entra.base_url().to_owned());
    let line = ["decode", "--verify", "--tenant", &tenant, "--authority", &authority];
    let arguments = Line::parse_from(line.iter().chain(more)).arguments;
    let token = token.to_owned();
    let check = tokio::task::spawn_blocking(move || {
        let decoded = decode(&token, crate::base::clock::Clock::system().unix_seconds());
        decode::verify(&arguments, &token, &decoded, &crate::base::clock::Clock::system())
    });
    let check = check.await.unwrap().unwrap();
    serde_json::to_value(check).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_which_check_fails() {
    let entra = crate::dev_tenant::DevTenant::start(crate::dev_tenant::Options::default()).await.unwrap();
    for (row, token, more, failed, hint) in [
        ("good", entra.token().sign(), &[][..], json!(null), ""),
        ("good, for another", entra.token().sign(), &["--audience", "api://other"], json!("audience"), "client id"),
        ("expired", entra.token().expired().sign(), &[], json!("times"), "ask for a new one"),
        ("forged", entra.token().wrong_key().sign(), &[], json!("signature"), ""),
        (
            "Graph's",
            entra.token().audience("https://graph.microsoft.com").unknown_key().sign(),
            &[],
            json!("key"),
            "Microsoft Graph",
        ),
        (
            "an application's own key",
            entra.token().audience(API).app_key(API).sign(),
            &[],
            json!("key"),
            "set signing-keys-of to",
        ),
        ("no token", "hello".to_owned(), &[], json!("form"), ""),
    ] {
        if row == "an application's own key" {
            entra.update_app(API, |app| crate::dev_tenant::App { custom_signing_key: true, ..app });
        }

        let check = verified(&entra, &token, more).await;

        assert_eq!(check["failed"], failed, "{row}: {check}");
        assert!(check["hint"].as_str().unwrap_or_default().contains(hint), "{row}: {check}");
        assert_eq!(check["accepted"], failed.is_null(), "{row}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,200}") {
        let _ = decode(&text, NOW);
    }

    #[test]
    fn calls_no_text_a_token_that_the_gateway_cannot_read(text in "[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,30}\\.[A-Za-z0-9_-]{0,30}") {
        prop_assert!(!decode(&text, NOW).problems.is_empty());
    }
}

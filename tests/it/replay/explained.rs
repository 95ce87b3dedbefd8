//! Tests of `entrada explain --record`: by the facts of a record as a replay judges it, with the reasons.

use entrada::{
    Document,
    unstable::{
        config::FactMarks,
        explain::{Explanation, recorded, to_text},
        offline::{OfflineGateway, OfflineKeys},
        replay::{RecordedRequest, Told},
    },
};
use http::Method;
use serde_json::Value;

use super::{BATCH, Random, Scene, offline, served};
use crate::support::Gateway;

async fn explained(line: &str, document: &Document, engine: &OfflineGateway) -> Explanation {
    let record: Value = serde_json::from_str(line).unwrap();
    let mut found = recorded(document, line, record["request_id"].as_str().unwrap()).unwrap();
    let trial = OfflineGateway::build(document, found.time, OfflineKeys::Development).unwrap();
    let (request, time) = (found.request.clone(), found.time);
    Box::pin(Explanation::of_recorded(document, engine, Some(&trial), (&mut found, &request), time)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_its_facts_is_explained_as_it_was_decided() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config).await;
    let (document, engine) = offline(&scene.config);
    let mut random = Random(5);
    let requests: Vec<_> = (0..BATCH).map(|_| scene.request(&mut random)).collect();

    let (mut judged, mut unknown) = (0, 0);
    for line in served(&gateway, &requests, 0).await {
        let told = RecordedRequest::read(&line, &FactMarks::of(&document)).unwrap().told;
        let explanation = explained(&line, &document, &engine).await;
        let text = to_text(&explanation, true);
        let record: Value = serde_json::from_str(&line).unwrap();
        match (explanation.verdict, told) {
            (_, Told::Apart(_)) => continue,
            ("unknown", _) => {
                unknown += 1;
                assert!(explanation.unknown.iter().all(|fact| fact.starts_with("the claim ")), "{text}\n{line}");
                assert!(text.starts_with("UNKNOWN") && explanation.code.is_none() && explanation.turning.is_none(), "{text}");
            }
            (verdict, Told::Allowed) => assert!(matches!(verdict, "allow" | "answer"), "{text}\n{line}"),
            (verdict, Told::Refused(code)) => {
                assert_eq!((verdict, explanation.code.as_ref()), ("refuse", Some(&code)), "{text}\n{line}");
                if let Some(policy) = record["policy"].as_str() {
                    assert!(
                        explanation.steps.iter().any(|step| step.at == policy && step.outcome == "refused"),
                        "{text}\n{line}"
                    );
                }
            }
        }
        judged += 1;
        assert!(!text.contains("not-in-the-record"), "{text}");
    }
    assert!(judged > BATCH / 2 && unknown < judged / 4, "{judged} judged, {unknown} unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorded_claims_are_told_and_can_be_turned() {
    let scene = Scene::set().await;
    let gateway = Gateway::start(&scene.config).await;
    let token = scene.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Write"]).sign();
    let requests = [(Method::GET, "/orders/1".to_owned(), vec![("Authorization", format!("Bearer {token}"))])];
    let line = served(&gateway, &requests, 0).await.remove(0);
    let (document, engine) = offline(&scene.config);

    let refused = explained(&line, &document, &engine).await;

    let step = refused.steps.last().unwrap();
    assert_eq!((refused.code.as_deref(), step.outcome), (Some("scope-missing"), "refused"));
    assert_eq!((&*step.wanted, &*step.found), (&["Orders.Read".to_owned()][..], &["Orders.Write".to_owned()][..]));
    assert_eq!(refused.token.as_ref().unwrap().audience.as_deref(), Some("api://orders"));
    let turning = refused.turning.unwrap();
    assert_eq!((&*turning.facts[0].name, &*turning.leads_to), ("scopes", "ALLOWED"), "{turning:?}");

    // A config that reads what nobody had recorded: what it would decide is not known, and not guessed.
    let more = scene.config.replacen("authorization: keep", "authorization: keep\n    outbound: []", 1);
    let unread = more.replacen("include-fragment: staff ]", "include-fragment: staff, check-header: { name: X-Unread } ]", 1);
    let (document, engine) = offline(&unread);
    let after = explained(&line, &document, &engine).await;
    let turning = after.turning.as_ref().unwrap();
    assert_eq!((after.code.as_deref(), turning.facts.len()), (Some("scope-missing"), 1), "{turning:?}");
    assert!(turning.leads_to.contains("does not have x-unread"), "{turning:?}");
    let before =
        unread.replacen("[ ip-filter: { action: forbid", "[ check-header: { name: X-First }, ip-filter: { action: forbid", 1);
    let (document, engine) = offline(&before);
    let open = explained(&line, &document, &engine).await;
    assert_eq!(
        (open.verdict, open.code.as_deref(), &*open.unknown),
        ("unknown", None, &["the header field x-first".to_owned()][..])
    );
    let text = to_text(&open, false);
    assert!(text.starts_with("UNKNOWN") && text.contains("? inbound[0].check-header") && !text.contains("REFUSED"), "{text}");

    // The place of the token is another one: whether one was there, the record does not tell.
    let elsewhere = scene.config.replacen(
        "scopes: [Orders.Read], roles: [Orders.Read.All]",
        "scopes: [Orders.Read], header-name: X-Token",
        1,
    );
    let (document, engine) = offline(&elsewhere);
    let open = explained(&line, &document, &engine).await;
    assert_eq!((open.verdict, &*open.unknown), ("unknown", &["the token or key in the header field x-token".to_owned()][..]));
}

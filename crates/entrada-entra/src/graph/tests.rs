use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::runtime::Handle;
use url::Url;

use super::*;
use crate::{
    credentials::testing::{self, CLIENT},
    dev_tenant::{Fault, User},
    entra::token::{Claims, Token, TokenKind},
};

const STAFF: &str = "aaaa0000-1111-2222-3333-bbbb4444cccc";
const ADMINS: &str = "bbbb0000-1111-2222-3333-cccc4444dddd";
const NIA: &str = "0b1d0000-0000-4000-8000-00000000000a";
const MINUTES: Duration = Duration::from_secs(300);

/// A development tenant with a user in a group, and Graph as the gateway's credential sees it.
struct TestBed {
    of: testing::TestBed,
    graphs: Graphs,
    graph: Arc<Graph>,
    tenant: String,
}

impl TestBed {
    async fn open() -> Self {
        let of = testing::TestBed::open().await;
        let tenant = of.entra.tenant_id();
        let user = User { object_id: Some(NIA.to_owned()), ..User::new("nia").group(STAFF) };
        of.entra.add_user(user.attribute("onpremisessamaccountname", "nokafor").attribute("department", ""));
        let credentials = of.gateway();
        credentials.start(&Handle::current());
        let address =
            GraphAddress { base: Url::parse(of.entra.base_url()).unwrap(), scope: "https://graph.microsoft.com/.default".into() };
        let graphs = Graphs::after(None);
        let graph = graphs.of(&address, credentials.find("gateway").unwrap());
        graphs.start(&of.http, &of.clock, &Handle::current());
        Self { of, graphs, graph, tenant }
    }

    fn nia(&self) -> Person<'_> {
        Person { tenant: &self.tenant, object_id: NIA }
    }

    async fn groups(&self, person: Person<'_>, groups: &[&str]) -> Result<Value, String> {
        self.groups_within(person, groups, MINUTES).await
    }

    async fn groups_within(&self, person: Person<'_>, groups: &[&str], lasts: Duration) -> Result<Value, String> {
        let groups: Arc<[Box<str>]> = groups.iter().map(|group| (*group).into()).collect();
        let found = self.graph.groups(person, &groups, lasts).await;
        found.map(|found| found.claim().clone()).map_err(|fault| fault.to_string())
    }

    fn calls(&self) -> usize {
        self.of.entra.calls("/checkMemberGroups")
    }
}

#[tokio::test]
async fn asks_about_the_named_groups_of_the_validated_user_and_keeps_the_answer() {
    let bed = TestBed::open().await;

    let first = bed.groups(bed.nia(), &[&STAFF.to_uppercase(), ADMINS]).await;
    let again = bed.groups(bed.nia(), &[&STAFF.to_uppercase(), ADMINS]).await;

    assert_eq!(first, Ok(json!([STAFF.to_uppercase()])), "in the policy's own spelling");
    assert_eq!(again, first);
    let asked = bed.of.entra.requests("/checkMemberGroups");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target.path(), format!("/v1.0/users/{NIA}/checkMemberGroups"));
    assert_eq!(serde_json::from_slice::<Value>(&asked[0].body).unwrap(), json!({ "groupIds": [STAFF.to_uppercase(), ADMINS] }));
    // Another question is another answer, and so is another user.
    assert_eq!(bed.groups(bed.nia(), &[ADMINS]).await, Ok(json!([])));
    let stranger = Person { object_id: "0b1d0000-0000-4000-8000-00000000000b", ..bed.nia() };
    assert_eq!(bed.groups(stranger, &[STAFF]).await, Ok(json!([])), "whom the directory does not have is in no group");
    assert_eq!(bed.calls(), 3);
}

#[tokio::test]
async fn more_groups_than_a_call_takes_are_asked_in_several() {
    let bed = TestBed::open().await;
    let many: Vec<String> =
        (0..45).map(|index| format!("{index:08}-1111-2222-3333-bbbb4444cccc")).chain([STAFF.to_owned()]).collect();

    let found = bed.groups(bed.nia(), &many.iter().map(String::as_str).collect::<Vec<_>>()).await;

    assert_eq!(found, Ok(json!([STAFF])));
    assert_eq!(bed.calls(), 3);
}

#[tokio::test]
async fn an_answer_serves_for_its_time_and_no_longer() {
    let bed = TestBed::open().await;
    assert_eq!(bed.groups(bed.nia(), &[STAFF]).await, Ok(json!([STAFF])));
    bed.of.entra.add_user(User { object_id: Some(NIA.to_owned()), ..User::new("nia") });

    bed.of.clock.advance(MINUTES - Duration::from_secs(1));
    let before = bed.groups(bed.nia(), &[STAFF]).await;
    bed.of.clock.advance(Duration::from_secs(1));
    let after = bed.groups(bed.nia(), &[STAFF]).await;

    assert_eq!((before, after), (Ok(json!([STAFF])), Ok(json!([]))));
    // Graph being away makes nobody a member of yesterday.
    bed.of.entra.fail(Fault::on("/checkMemberGroups").status(503));
    bed.of.clock.advance(MINUTES);
    assert!(bed.groups(bed.nia(), &[STAFF]).await.is_err());
}

#[tokio::test]
async fn an_answer_that_another_policy_keeps_for_longer_serves_no_longer_here() {
    let bed = TestBed::open().await;
    assert_eq!(bed.groups(bed.nia(), &[STAFF]).await, Ok(json!([STAFF])));
    bed.of.entra.add_user(User { object_id: Some(NIA.to_owned()), ..User::new("nia") });

    bed.of.clock.advance(Duration::from_secs(2));
    let patient = bed.groups(bed.nia(), &[STAFF]).await;
    let hasty = bed.groups_within(bed.nia(), &[STAFF], Duration::from_secs(1)).await;

    assert_eq!((patient, hasty), (Ok(json!([STAFF])), Ok(json!([]))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_serves_all_who_wait() {
    let bed = Arc::new(TestBed::open().await);
    let held = bed.of.entra.hold("/checkMemberGroups");
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let bed = bed.clone();
            tokio::spawn(async move { bed.groups(bed.nia(), &[STAFF]).await })
        })
        .collect();
    // One who gives up takes nobody's answer away.
    bed.of.entra.arrived("/checkMemberGroups", 1).await;
    waiting[0].abort();

    drop(held);

    for one in waiting.into_iter().skip(1) {
        assert_eq!(one.await.unwrap(), Ok(json!([STAFF])));
    }
    assert_eq!(bed.calls(), 1);
}

#[tokio::test]
async fn what_cannot_be_answered_is_an_error_and_never_no() {
    let bed = TestBed::open().await;
    let ask = async || bed.groups(bed.nia(), &[STAFF]).await;
    for (row, fault, expected, pauses) in [
        ("throttled", Fault::on("/check").status(429).header("retry-after", "30"), "busy (status 429)", 30),
        ("stumbles", Fault::on("/check").status(500), "busy (status 500)", 2),
        ("breaks off", Fault::on("/check").body("{").cut(), "cannot be reached", 2),
        (
            "denies",
            Fault::on("/check").status(403).body(r#"{"error":{"code":"Authorization_RequestDenied"}}"#),
            "(status 403, Authorization_RequestDenied)",
            0,
        ),
        ("bad request", Fault::on("/check").status(400).body("<html>"), "status 400", 0),
        ("no such address", Fault::on("/check").status(404).body(r#"{"error":{"code":"ResourceNotFound"}}"#), "status 404", 0),
        ("not found, no JSON", Fault::on("/check").status(404).body("gone"), "cannot be read", 0),
        ("moved", Fault::on("/check").status(302).header("location", "http://127.0.0.1:1/"), "status 302", 0),
        ("no list", Fault::on("/check").body("{}"), "cannot be read", 0),
        ("no texts", Fault::on("/check").body(r#"{"value":[1]}"#), "cannot be read", 0),
        ("no JSON", Fault::on("/check").body("yes"), "cannot be read", 0),
    ] {
        bed.of.entra.fail(fault);

        let error = ask().await.unwrap_err();

        assert!(error.contains(expected), "{row}: {error}");
        bed.of.entra.recover();
        let calls = bed.calls();
        if pauses > 0 {
            assert!(ask().await.unwrap_err().contains("is not called"), "{row}");
            assert_eq!(bed.calls(), calls, "{row}: it is left alone");
            bed.of.clock.advance(Duration::from_secs(pauses));
        }
        assert_eq!(ask().await, Ok(json!([STAFF])), "{row}: a failure is kept for nobody");
        bed.of.clock.advance(MINUTES);
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let bed = TestBed::open().await;
    bed.of.entra.fail(Fault::on("/checkMemberGroups").status(401).times(1));

    assert_eq!(bed.groups(bed.nia(), &[STAFF]).await, Ok(json!([STAFF])));

    assert_eq!((bed.calls(), bed.of.entra.calls("/token")), (2, 2));
}

#[tokio::test]
async fn without_a_token_nothing_is_asked() {
    let bed = TestBed::open().await;
    bed.of.entra.update_app(CLIENT, |app| crate::dev_tenant::App { disabled: true, ..app });

    let fault = bed.graph.groups(bed.nia(), &[STAFF.into()].into(), MINUTES).await.unwrap_err();

    assert!(matches!(*fault, GraphFault::Credential(_)), "{fault}");
    assert_eq!(fault.reason(), crate::refusal::Reason::CredentialUnavailable);
    assert_eq!(bed.calls(), 0);
}

#[tokio::test]
async fn attributes_become_claims_that_the_token_lacks() {
    let bed = TestBed::open().await;
    let claims: Arc<[(Box<str>, Box<str>)]> = Arc::new([
        ("account".into(), "onPremisesSamAccountName".into()),
        ("department".into(), "department".into()),
        ("city".into(), "city".into()),
    ]);
    let token = |claims: Value| {
        Arc::new(Token {
            claims: Claims(claims.into()),
            kind: TokenKind::User,
            tenant: bed.tenant.as_str().into(),
            client: None,
            subject: None,
            object_id: Some(NIA.into()),
            scopes: Vec::new(),
            roles: Vec::new(),
            credential_kind: None,
            id: None,
            expires_at: 0,
            recorded: Box::default(),
        })
    };
    let (bare, own) = (token(json!({ "account": null })), token(json!({ "account": "own", "x": 1 })));

    let found = bed.graph.attributes(Person::of(&bare).unwrap(), &claims, MINUTES).await.unwrap();

    let completed = found.added_to(&bare);
    // What the user lacks, or has as the empty text, stays absent.
    assert_eq!(completed.claims.get("account"), Some(&"nokafor".into()));
    assert_eq!((completed.claims.get("department"), completed.claims.get("city")), (None, None));
    assert!(Arc::ptr_eq(&completed, &found.added_to(&bare)), "calls of one token share it");
    assert_eq!(found.added_to(&own).claims.get("account"), Some(&"own".into()), "the token's own claim wins");
    let asked = bed.of.entra.requests(&format!("/users/{NIA}"));
    let query: BTreeMap<_, _> = url::form_urlencoded::parse(asked[0].target.query().unwrap().as_bytes()).into_owned().collect();
    assert_eq!(query, BTreeMap::from([("$select".to_owned(), "onPremisesSamAccountName,department,city".to_owned())]));
}

#[tokio::test]
async fn answers_outlive_a_reload_that_changes_nothing_of_theirs() {
    let bed = TestBed::open().await;
    assert_eq!(bed.groups(bed.nia(), &[STAFF]).await, Ok(json!([STAFF])));

    let after = Graphs::after(Some(&bed.graphs));
    let same = after.of(&bed.graph.address, &bed.graph.credential);
    let elsewhere = GraphAddress { scope: "https://graph.microsoft.us/.default".into(), ..bed.graph.address.clone() };

    assert!(Arc::ptr_eq(&same, &bed.graph));
    assert!(!Arc::ptr_eq(&after.of(&elsewhere, &bed.graph.credential), &bed.graph));
}

//! Tests of users whose tokens lack facts: the questions to Microsoft Graph, and their consequences.

use entrada::{
    Reason,
    dev_tenant::{App, Fault, TokenBuilder, User},
};
use serde_json::{Value, json};

use crate::support::{Gateway, TestBed};

const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const STAFF: &str = "aaaa0000-1111-2222-3333-bbbb4444cccc";
const ADMINS: &str = "bbbb0000-1111-2222-3333-cccc4444dddd";

/// Starts a gateway with a credential, whose route requires staff or administrators.
async fn bed(more: &str) -> TestBed {
    let route = format!(
        "- name: orders
  match: {{ path: /orders }}
  inbound:
    - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], {more} }}
    - set-header: {{ name: X-Account, value: \"@(token.claims.samaccount)\", when-absent: skip }}
  upstream: backend"
    );
    let bed = TestBed::with(&route, &credentials()).await;
    bed.tenant.update_app(GATEWAY, |app| app.secret("a secret of the tests"));
    bed.tenant.add_user(User::new("nia").group(STAFF).attribute("onpremisessamaccountname", "nokafor"));
    bed.tenant.add_user(User::new("otto"));
    bed
}

fn credentials() -> String {
    format!("credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, client-secret: a secret of the tests }} }}")
}

fn groups(lookup: &str) -> String {
    format!("required-claims: [ {{ name: groups, match: any, values: [{STAFF}, {ADMINS}] }} ], {lookup}")
}

fn token(bed: &TestBed, user: &str) -> TokenBuilder {
    bed.tenant.token().user(user).audience("api://orders").scopes(["Orders.Read"])
}

/// Makes a token with more groups than it lists, which names an address for them.
fn overage(bed: &TestBed, user: &str) -> TokenBuilder {
    let endpoint = format!("{}/elsewhere/getMemberObjects", bed.tenant.base_url());
    token(bed, user)
        .claim("_claim_names", json!({ "groups": "src1" }))
        .claim("_claim_sources", json!({ "src1": { "endpoint": endpoint } }))
}

#[tokio::test]
async fn graph_is_asked_about_the_groups_that_the_policy_names() {
    let bed = bed(&groups("group-lookup: { graph: gateway }")).await;

    let member = overage(&bed, "nia").sign();
    bed.gateway.get("/orders").bearer(&member).send().await.assert_allowed();
    bed.gateway.get("/orders").bearer(&member).send().await.assert_allowed();
    let implicit = token(&bed, "nia").claim("hasgroups", true).sign();
    bed.gateway.get("/orders").bearer(&implicit).send().await.assert_allowed();
    let stranger = overage(&bed, "otto").sign();
    bed.gateway.get("/orders").bearer(&stranger).send().await.assert_refused(Reason::RequiredClaimMissing);

    let asked = bed.tenant.requests("/checkMemberGroups");
    assert_eq!(asked.len(), 2, "once about each user");
    let body: Value = serde_json::from_slice(&asked[0].body).unwrap();
    assert_eq!(body, json!({ "groupIds": [STAFF, ADMINS] }));
    assert_eq!(bed.tenant.calls("/getMemberObjects"), 0, "a token chooses no address");
    assert_eq!(bed.upstream.last().value("authorization"), None);
}

#[tokio::test]
async fn a_user_of_many_groups_gets_in_by_one_of_them() {
    let bed = bed(&groups("group-lookup: { graph: gateway }")).await;
    bed.tenant.update_app("33334444-dddd-5555-eeee-6666ffff7777", App::lists_groups);
    let user = |name: &str, count: usize| {
        let others = (1..count).map(|index| format!("{index:08}-1111-2222-3333-bbbb4444cccc"));
        others.fold(User::new(name).group(STAFF), |user, group| user.group(&group))
    };
    bed.tenant.add_user(user("few", 200));
    bed.tenant.add_user(user("many", 201));

    for (name, lists, asked) in [("few", true, 0), ("many", false, 1)] {
        let token = token(&bed, name).sign();
        let claims = bed.tenant.verify(&token).unwrap();
        assert_eq!((claims.contains_key("groups"), claims.contains_key("_claim_names")), (lists, !lists), "{name}");

        bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();

        assert_eq!(bed.tenant.calls("/checkMemberGroups"), asked, "{name}");
    }
}

#[tokio::test]
async fn only_what_a_good_token_leaves_open_is_asked() {
    let bed = bed(&groups("group-lookup: graph")).await;
    let refused = async |token: String, reason| bed.gateway.get("/orders").bearer(token).send().await.assert_refused(reason);

    bed.gateway.get("/orders").bearer(token(&bed, "nia").claim("groups", json!([ADMINS])).sign()).send().await.assert_allowed();
    refused(token(&bed, "nia").claim("groups", json!(["other"])).sign(), Reason::RequiredClaimMissing).await;
    refused(token(&bed, "nia").sign(), Reason::RequiredClaimMissing).await;
    refused(overage(&bed, "nia").scopes(["Other"]).sign(), Reason::ScopeMissing).await;
    refused(overage(&bed, "nia").expired().sign(), Reason::TokenExpired).await;
    refused(overage(&bed, "nia").wrong_key().sign(), Reason::TokenSignatureInvalid).await;
    refused(overage(&bed, "nia").claim("oid", "../../me").sign(), Reason::GroupOverage).await;
    // An application is in no group of this kind.
    let app = bed.tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://orders").roles(["Any"]);
    refused(app.claim("hasgroups", true).sign(), Reason::GroupOverage).await;

    assert_eq!(bed.tenant.calls("/checkMemberGroups"), 0);
    assert_eq!(bed.tenant.calls("/oauth2/v2.0/token"), 0);
}

#[tokio::test]
async fn without_a_lookup_such_a_token_is_refused_and_the_record_says_why() {
    let bed = bed(&groups("token-kind: user")).await;

    bed.gateway.get("/orders").bearer(overage(&bed, "nia").sign()).send().await.assert_refused(Reason::GroupOverage);

    let record = bed.gateway.record(|record| record["code"] == "group-overage").await;
    let hint = record["hint"].as_str().unwrap();
    assert!(hint.contains("groupMembershipClaims") && hint.contains("group-lookup"), "{hint}");
}

#[tokio::test]
async fn nobody_is_let_in_while_graph_cannot_answer() {
    let bed = bed(&groups("group-lookup: { graph: gateway }")).await;
    bed.tenant.fail(Fault::on("/checkMemberGroups").status(503).header("retry-after", "7"));

    let down = bed.gateway.get("/orders").bearer(overage(&bed, "nia").sign()).send().await;
    let still = bed.gateway.get("/orders").bearer(overage(&bed, "otto").sign()).send().await;

    down.assert_refused(Reason::CredentialUnavailable);
    still.assert_refused(Reason::CredentialUnavailable);
    assert_eq!(down.header("retry-after"), Some("7"));
    assert!(still.header("retry-after").is_some());
    assert_eq!(bed.tenant.calls("/checkMemberGroups"), 1, "it is left alone for as long as it asked for");
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_missing_permission_is_told_to_the_operator_alone() {
    let bed = bed(&groups("group-lookup: { graph: gateway }")).await;
    bed.tenant.update_app(GATEWAY, |app| App { roles: Default::default(), ..app });

    let answer = bed.gateway.get("/orders").bearer(overage(&bed, "nia").sign()).send().await;

    answer.assert_refused(Reason::CredentialUnavailable);
    let record = bed.gateway.record(|record| record["code"] == "credential-unavailable").await;
    assert!(record["hint"].as_str().unwrap().contains("GroupMember.Read.All"), "{record}");
    assert!(!answer.json().to_string().contains("Graph"), "{:?}", answer.body);
}

#[tokio::test]
async fn an_account_name_that_the_token_lacks_comes_from_graph() {
    let lookup = "claim-lookup: { graph: gateway, claims: { samaccount: onPremisesSamAccountName } }, roles: [Any]";
    let bed = bed(lookup).await;
    let account = async |token: String| {
        let call = bed.gateway.get("/orders").bearer(token).header("X-Account", "admin").header("x_account", "admin");
        call.send().await.assert_allowed();
        let received = bed.upstream.last();
        assert_eq!(received.values("x_account"), [""; 0]);
        received.value("x-account").map(str::to_owned)
    };

    assert_eq!(account(token(&bed, "nia").sign()).await.as_deref(), Some("nokafor"));
    assert_eq!(account(token(&bed, "nia").sign()).await.as_deref(), Some("nokafor"), "another token of the same user");
    assert_eq!(account(token(&bed, "otto").sign()).await, None, "a user of the cloud alone has none");
    assert_eq!(bed.tenant.requests("").iter().filter(|call| call.target.path().contains("/users/")).count(), 2);
    // The token's own claim wins, and applications have no account.
    assert_eq!(account(token(&bed, "nia").claim("samaccount", "mapped").sign()).await.as_deref(), Some("mapped"));
    let app = bed.tenant.token().app("22223333-cccc-4444-dddd-5555eeee6666").audience("api://orders").roles(["Any"]);
    assert_eq!(account(app.sign()).await, None);
    assert_eq!(bed.tenant.requests("").iter().filter(|call| call.target.path().contains("/users/")).count(), 2);
}

#[tokio::test]
async fn a_claim_that_is_required_may_come_from_graph() {
    let lookup = "claim-lookup: graph, required-claims: [ { name: onpremisessamaccountname, values: [nokafor] } ]";
    let bed = bed(lookup).await;

    bed.gateway.get("/orders").bearer(token(&bed, "nia").sign()).send().await.assert_allowed();
    bed.gateway.get("/orders").bearer(token(&bed, "otto").sign()).send().await.assert_refused(Reason::RequiredClaimMissing);
    bed.tenant.fail(Fault::on("/v1.0/users/").status(500));
    bed.tenant.add_user(User::new("ada"));

    bed.gateway.get("/orders").bearer(token(&bed, "ada").sign()).send().await.assert_refused(Reason::CredentialUnavailable);
}

#[test]
fn a_lookup_that_cannot_be_meant_is_a_config_error() {
    let named = format!("required-claims: [ {{ name: groups, values: [{STAFF}] }} ]");
    let config = |policy: &str, more: &str| {
        format!(
            "tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }}, all: {{ id: organizations }}, china: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee, cloud: china }} }}
routes: [ {{ name: orders, match: {{ path: / }}, inbound: [ validate-azure-ad-token: {{ audiences: [api://orders], {policy} }} ], respond: {{ status: 200 }} }} ]
{more}"
        )
    };
    let one = credentials();
    let two = "credentials: { one: { managed-identity: {} }, other: { managed-identity: {} } }";
    for (policy, more, expected) in [
        ("tenant: contoso, group-lookup: graph".to_owned(), &*one, "names no group"),
        (
            "tenant: contoso, group-lookup: graph, required-claims: [ { name: groups, values: [staff] } ]".to_owned(),
            &one,
            "is not a group's object id",
        ),
        (format!("tenant: contoso, group-lookup: graph, {named}"), "", "which credential asks Graph"),
        (format!("tenant: contoso, group-lookup: graph, {named}"), two, "name it: { graph: one } or { graph: other }"),
        (format!("tenant: contoso, group-lookup: {{ graph: nobody }}, {named}"), &one, "no credential `nobody`"),
        (format!("tenant: china, group-lookup: {{ graph: gateway }}, {named}"), &one, "cannot ask about users of tenant `china`"),
        (format!("tenant: all, allowed-tenants: any, group-lookup: {{ graph: one }}, {named}"), two, "one tenant alone"),
        (format!("tenant: contoso, group-lookup: {{ graph: gateway, cache: 2h }}, {named}"), &one, "longer than 1h"),
        ("tenant: contoso, claim-lookup: { graph: gateway, claims: {} }".to_owned(), &one, "no claim is named"),
        (
            "tenant: contoso, claim-lookup: { graph: gateway, claims: { roles: jobTitle } }".to_owned(),
            &one,
            "a claim of Entra's own",
        ),
        (
            "tenant: contoso, claim-lookup: { graph: gateway, claims: { mail: 'mail,manager' } }".to_owned(),
            &one,
            "is not an attribute of a user",
        ),
    ] {
        let told = Gateway::refusal(&config(&policy, more));

        assert!(told.contains(expected), "{policy}: {told}");
    }
}

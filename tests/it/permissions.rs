//! Tests that a token policy's requirements apply to everybody whom they concern, and that no others are lifted.

use entrada::Reason;
use serde_json::json;

use crate::support::{Gateway, TestBed};

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const STRANGER: &str = "99993333-cccc-4444-dddd-5555eeee6666";

/// Starts a gateway whose route `/orders` has these policies, with a partner.
async fn bed(inbound: &str) -> TestBed {
    let route = format!("- name: orders\n  match: {{ path: /orders }}\n  inbound:\n{inbound}\n  upstream: backend");
    let partners = format!(
        "partners: {{ fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1] }} }}"
    );
    TestBed::with(&route, &partners).await
}

const DEVICE: &str =
    "validate-azure-ad-token: { tenant: contoso, audiences: [api://devices], header-name: X-Device, as: device }";

#[tokio::test]
async fn a_check_of_partners_excuses_the_token_that_it_looks_at_and_no_other() {
    let token = "validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }";
    let alternatives = format!(
        "    - any-of:\n        - - {token}\n        - - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://legacy] }}\n    - {DEVICE}\n    - check-partner: {{}}"
    );
    let branches = format!(
        "    - choose:\n        - when: \"@(request.method == 'GET')\"\n          do:\n            - {token}\n        - otherwise:\n            - {token}\n    - {DEVICE}\n    - check-partner: {{}}"
    );
    let within = format!(
        "    - {token}\n    - any-of:\n        - - {DEVICE}\n          - check-partner: {{}}\n        - - check-header: {{ name: X-Door }}"
    );
    for policies in [alternatives, branches, within] {
        let bed = bed(&policies).await;
        let app = |client: &str, audience: &str| bed.tenant.token().app(client).audience(audience);
        let get = |partner: &str, device: &str| bed.gateway.get("/orders").bearer(partner).header("X-Device", device);
        // The partner's token needs no role in front of the check; within a branch that may not be taken it does.
        let partner = app(FABRIKAM, "api://orders").roles(["Orders.Send"]).sign();
        let (ungranted, granted) =
            (app(STRANGER, "api://devices").sign(), app(STRANGER, "api://devices").roles(["Devices.Send"]).sign());

        get(&partner, &ungranted).send().await.assert_refused(Reason::PermissionMissing);
        get(&partner, &granted).send().await.assert_allowed();
        assert_eq!(bed.upstream.requests(), 1, "{policies}");
    }
}

#[tokio::test]
async fn a_partner_needs_no_role_whichever_alternative_its_token_took() {
    let policies = "    - any-of:\n        - - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }\n        - - validate-azure-ad-token: { tenant: contoso, audiences: [api://legacy] }\n    - check-partner: {}";
    let bed = bed(policies).await;

    for audience in ["api://orders", "api://legacy"] {
        let partner = bed.tenant.token().app(FABRIKAM).audience(audience).sign();
        let stranger = bed.tenant.token().app(STRANGER).audience(audience).sign();
        bed.gateway.get("/orders").bearer(&partner).send().await.assert_allowed();
        bed.gateway.get("/orders").bearer(&stranger).send().await.assert_refused(Reason::PartnerUnknown);
    }
}

#[tokio::test]
async fn scopes_alone_let_no_application_in() {
    let bed = bed("    - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read] }").await;
    let app = bed.tenant.token().app(STRANGER).audience("api://orders").roles(["Some.Other.Role"]).sign();

    bed.gateway.get("/orders").bearer(&app).send().await.assert_refused(Reason::RoleMissing);
    bed.gateway.get("/orders").bearer(bed.user_token()).send().await.assert_allowed();

    let record = bed.gateway.record(|record| record["code"] == "role-missing").await;
    let hint = record["hint"].as_str().unwrap();
    assert!(hint.contains("`roles`") && hint.contains("token-kind: user"), "{hint}");
    assert_eq!(bed.upstream.requests(), 1);
}

#[tokio::test]
async fn a_separator_cuts_a_text_and_no_element_of_a_list() {
    let claim = "required-claims: [ { name: groups, match: any, separator: \",\", values: [Admins] } ]";
    let bed = bed(&format!(
        "    - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], {claim} }}"
    ))
    .await;

    for (groups, expected) in [
        (json!(["Users", "Admins"]), None),
        (json!("Users,Admins"), None),
        (json!(["Users,Admins"]), Some(Reason::RequiredClaimMissing)),
        (json!(["Admins,"]), Some(Reason::RequiredClaimMissing)),
        (json!([["Admins"]]), Some(Reason::RequiredClaimMissing)),
        (json!("Users, Admins"), Some(Reason::RequiredClaimMissing)),
    ] {
        let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
        let answer = bed.gateway.get("/orders").bearer(token.claim("groups", groups.clone()).sign()).send().await;
        match expected {
            None => answer.assert_allowed(),
            Some(reason) => answer.assert_refused(reason),
        }
    }
    assert_eq!(bed.upstream.requests(), 2);
}

#[test]
fn an_empty_value_is_a_fault_of_the_config() {
    let config = "tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }\nroutes:\n  - name: a\n    match: { path: / }\n    respond: { status: 204 }\n    inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [a], required-claims: [ { name: b, separator: \" \", values: [\"\"] } ] } ]\n";

    let refusal = Gateway::refusal(config);

    assert!(refusal.contains("an empty text is not a value") && refusal.contains("leave `values` out"), "{refusal}");
}

//! Partners: who calls, from where, until when, and what the record says of it.

use entrada::refusal::Reason;

use crate::support::House;

const FABRIKAM: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const TAILSPIN: &str = "44443333-cccc-4444-dddd-5555eeee6666";
const REVOKED: &str = "55553333-cccc-4444-dddd-5555eeee6666";

async fn house() -> House {
    let route = "- name: partners\n  match: { path: /orders }\n  inbound:\n    - validate-azure-ad-token: { tenant: contoso, audiences: [api://orders] }\n    - check-partner: {}\n  upstream: backend";
    let partners = format!(
        "partners:\n  \
         fabrikam: {{ client-application-ids: [{FABRIKAM}], tenants: [contoso], addresses: [127.0.0.1], owner: integration@contoso.example, expires: 2099-12-31 }}\n  \
         tailspin: {{ client-application-ids: [{TAILSPIN}], tenants: [contoso], addresses: [203.0.113.7] }}\n  \
         revoked: {{ enabled: false, client-application-ids: [{REVOKED}], tenants: [contoso], addresses: [127.0.0.1] }}"
    );
    House::with(route, &partners).await
}

#[tokio::test]
async fn a_partners_daemon_is_let_through_without_any_role() {
    let house = house().await;
    let token = house.tenant.token().app(FABRIKAM).audience("api://orders").sign();

    house.gateway.get("/orders/1").bearer(&token).send().await.assert_allowed();

    let record = house.gateway.record(|record| record["partner"] == "fabrikam").await;
    assert_eq!(record["decision"], "allow");
    assert_eq!(record["client_application"], FABRIKAM);
    assert_eq!(house.upstream.last().value("authorization"), None);
}

#[tokio::test]
async fn who_is_no_partner_or_calls_from_elsewhere_is_refused() {
    let house = house().await;
    let token = || house.tenant.token().audience("api://orders");
    let cases = [
        (Reason::PartnerUnknown, token().app("99993333-cccc-4444-dddd-5555eeee6666").sign()),
        (Reason::PartnerAddressNotAllowed, token().app(TAILSPIN).sign()),
        (Reason::PartnerDisabled, token().app(REVOKED).sign()),
    ];

    for (reason, token) in cases {
        let answer = house.gateway.get("/orders").bearer(&token).header("X-Forwarded-For", "203.0.113.7").send().await;
        answer.assert_refused(reason);
        house.gateway.record(|record| record["code"] == reason.code()).await;
    }

    assert_eq!(house.upstream.requests(), 0);
}

//! Questions about tokens.

use entrada::dev_tenant::{DevTenant, Options, TokenBuilder};
use serde_json::json;

use super::ask;
use crate::support::{Answer, Gateway, Upstream};

const CLIENT: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const OTHER_CLIENT: &str = "99998888-bbbb-3333-cccc-4444dddd5555";

/// A gateway whose routes check tokens, and their issuer.
struct House {
    tenant: DevTenant,
    gateway: Gateway,
}

impl House {
    async fn open() -> Self {
        let (tenant, dead) =
            (DevTenant::start(Options::default()).await.unwrap(), DevTenant::start(Options::default()).await.unwrap());
        dead.stop();
        let upstream = Upstream::start().await;
        let (id, base) = (tenant.tenant_id(), tenant.base_url());
        let route = |name: &str, more: &str| {
            format!(
                "  - name: {name}\n    match: {{ path: /{name} }}\n    upstream: backend\n    inbound:\n      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders], {more} }}\n"
            )
        };
        let config = [
            format!(
                "tenants:\n  contoso: {{ id: {id}, authority: \"{base}\" }}\n  everybody: {{ id: organizations, authority: \"{base}\" }}\n  \
                 unreachable: {{ id: {id}, authority: \"{}\", required: false }}\n\
                 upstreams: {{ backend: {{ servers: [\"{}\"] }} }}\naudit: {{ sinks: [], claims: [level] }}\nroutes:\n",
                dead.base_url(),
                upstream.url()
            ),
            route("scope", "scopes: [Orders.Read]"),
            route("role", "roles: [Orders.Read.All]"),
            route("client", &format!("client-application-ids: [{CLIENT}]")),
            route("user", "token-kind: user"),
            route("group", "required-claims: [ { name: groups, values: [staff] } ]"),
            route("claim", "required-claims: [ { name: department, values: [sales] } ]"),
            route("authorize", "scopes: [Orders.Read]"),
            "      - authorize: { condition: \"@(token.kind == 'user' && token.claims.level >= 5)\" }\n".to_owned(),
            route("several", "scopes: [Orders.Read]")
                .replace("tenant: contoso,", &format!("tenant: everybody, allowed-tenants: [{id}],")),
            route("unreachable", "scopes: [Orders.Read]").replace("tenant: contoso,", "tenant: unreachable,"),
        ];
        Self { gateway: Gateway::start(&config.concat()).await, tenant }
    }

    fn user(&self) -> TokenBuilder {
        self.tenant.token().user("nia").client(CLIENT).audience("api://orders").scopes(["Orders.Read"])
    }

    async fn send(&self, path: &str, token: TokenBuilder) -> Answer {
        self.gateway.get(path).bearer(token.sign()).send().await
    }

    /// Sends the token, and asks the question about the answer.
    async fn ask(&self, question: &str, path: &str, token: TokenBuilder, expected: &[&str]) {
        let answer = self.send(path, token).await;
        ask(&self.gateway, question, &answer, expected).await;
    }
}

#[tokio::test]
async fn forms_times_and_keys() {
    let bed = House::open().await;
    let user = || bed.user();

    bed.ask(
        "What is wrong with the form of the token?",
        "/scope",
        user().header("crit", json!(["exp"])),
        &["token-malformed", "crit"],
    )
    .await;
    bed.ask(
        "For how long has the token been expired?",
        "/scope",
        user().issued_in(-9_000).expires_in(-5_000),
        &["token-expired", "expired 50", " s ago", CLIENT],
    )
    .await;
    bed.ask("Does the clock of this machine go wrong?", "/scope", user().issued_in(900), &["token-not-yet-valid", "clock"]).await;
    let forged = user().wrong_key();
    bed.ask(
        "Whose key has signed the token?",
        "/scope",
        forged,
        &["token-signature-invalid", "\"verified\":false", "key_id", "\"issuer\""],
    )
    .await;
    bed.ask("Are the signing keys out of reach?", "/unreachable", user(), &["signing-keys-unavailable", "console"]).await;
}

#[tokio::test]
async fn who_is_refused_and_what_is_missing() {
    let bed = House::open().await;
    let user = || bed.user();

    bed.ask(
        "For which audience is the token, and which one is wanted?",
        "/scope",
        user().audience("api://orders/"),
        &["token-audience-not-allowed", "\"audience\":\"api://orders/\"", "slash"],
    )
    .await;
    let foreign = user().tenant("fabrikam");
    bed.ask("From which tenant does the caller come?", "/several", foreign, &["token-tenant-not-allowed", "\"tenant_id\":\""])
        .await;
    bed.ask(
        "Which client application was refused?",
        "/client",
        user().client(OTHER_CLIENT),
        &["client-application-not-allowed", OTHER_CLIENT, "client-application-ids"],
    )
    .await;
    bed.ask(
        "Which scopes does the token have, and which one is missing?",
        "/scope",
        user().scopes(["Orders.Write"]),
        &["scope-missing", "[\"Orders.Write\"]", "Orders.Read"],
    )
    .await;
    let app = bed.tenant.token().app(CLIENT).audience("api://orders").roles(["Orders.List"]);
    bed.ask(
        "Which roles does the token have, and which one is missing?",
        "/role",
        app,
        &["role-missing", "[\"Orders.List\"]", "Orders.Read.All"],
    )
    .await;
    let app = bed.tenant.token().app(CLIENT).audience("api://orders").roles(["Orders.List"]);
    bed.ask(
        "Is it a user's token or an application's?",
        "/user",
        app,
        &["token-kind-not-allowed", "\"token_kind\":\"app\"", "token-kind"],
    )
    .await;
}

#[tokio::test]
async fn claims_groups_and_conditions() {
    let bed = House::open().await;
    let user = || bed.user();

    bed.ask(
        "Is the caller in the required group?",
        "/group",
        user().claim("groups", json!(["others"])),
        &["required-claim-missing", "groups", "\"object_id\":\""],
    )
    .await;
    let overage = user().without("groups").claim("_claim_names", json!({ "groups": "src1" }));
    bed.ask("Is the user in too many groups for a token?", "/group", overage, &["group-overage", "groupMembershipClaims"]).await;
    bed.ask("Did the client send an ID token?", "/scope", user().id_token(), &["token-not-access-token", "ID token"]).await;
    bed.ask("Which claim is missing?", "/claim", user(), &["required-claim-missing", "department"]).await;
    bed.ask(
        "Which value failed `authorize`?",
        "/authorize",
        user().claim("level", 3),
        &["not-authorized", "inbound[1].authorize", "token.claims.level", "\"claims\":{\"level\":3}"],
    )
    .await;
}

#[tokio::test]
async fn places() {
    let bed = House::open().await;
    let token = bed.user().sign();

    let bare = bed.gateway.get("/scope").header("authorization", &token).send().await;
    ask(
        &bed.gateway,
        "Why is the token not seen, although `Authorization` is there?",
        &bare,
        &["token-missing", "without a scheme"],
    )
    .await;
    let bearer = format!("Bearer {token}");
    let twice = bed.gateway.get("/scope").header("authorization", &bearer).header("authorization", &bearer).send().await;
    ask(&bed.gateway, "Were two tokens sent?", &twice, &["token-ambiguous", "two tokens"]).await;
}

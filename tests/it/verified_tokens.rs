//! Tests of the verified-token cache: its content, and its memory.

use entrada::Reason;

use crate::support::{Gateway, RawConnection, TestBed, config, eventually};

const FOREIGN_TENANT: &str = "99990000-eeee-4444-bbbb-777788889999";
const ROUTES: &str = "\
- { name: orders, match: { path: /orders }, inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Orders.Read], roles: [Orders.Read.All] } ], upstream: backend }
- { name: invoices, match: { path: /invoices }, inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], scopes: [Invoices.Read] } ], upstream: backend }";

/// Returns a sample of the gateway's metrics.
async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = reqwest::get(format!("http://{}/metrics", gateway.admin_address())).await.unwrap().text().await.unwrap();
    let line =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| panic!("{name}: {text}"));
    line.parse().unwrap()
}

/// Returns the status of a request with this token, on a persistent connection.
async fn status(caller: &mut RawConnection, path: &str, token: &str) -> String {
    caller.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n").as_bytes()).await;
    caller.read_answer().await[9..12].to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_no_policy_accepts_are_not_kept_however_many_come() {
    let bed = TestBed::with(ROUTES, "").await;
    let mut caller = RawConnection::open(bed.gateway.address()).await;

    // All are well signed: by the keys that Entra has for every tenant, and by those of the own one.
    let padding = "x".repeat(4_000);
    for number in 0..2_000 {
        let token =
            bed.tenant.token().user("nia").audience("api://orders").claim("uti", number.to_string()).claim("x", padding.as_str());
        let token = match number % 4 {
            0 => token.tenant(FOREIGN_TENANT).scopes(["Orders.Read"]),
            1 => token.scopes(["Orders.Read"]).audience("api://other"),
            2 => token.scopes(["Other.Read"]),
            _ => token.scopes(["Orders.Read"]).claim("nbf", 10).claim("exp", 20),
        };
        let status = status(&mut caller, "/orders", &token.sign()).await;
        assert!(status == "401" || status == "403", "{number}: {status}");
    }

    assert_eq!(metric(&bed.gateway, "entrada_verified_tokens").await, 0);
    assert_eq!(metric(&bed.gateway, "entrada_verified_tokens_bytes").await, 0);
    assert_eq!(metric(&bed.gateway, "entrada_token_verifications_total").await, 2_000);
    assert_eq!(bed.upstream.requests(), 0);
}

#[tokio::test]
async fn a_token_that_one_policy_accepts_and_another_refuses_is_right_for_both() {
    let bed = TestBed::with(ROUTES, "").await;
    let token = bed.user_token();

    for _ in 0..3 {
        bed.gateway.get("/invoices").bearer(&token).send().await.assert_refused(Reason::ScopeMissing);
        bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    }

    // Refused at first it was not kept; accepted once it was, and then every policy judged it for itself.
    assert_eq!(metric(&bed.gateway, "entrada_token_verifications_total").await, 2);
    assert_eq!(metric(&bed.gateway, "entrada_verified_token_hits_total").await, 4);
    assert_eq!(metric(&bed.gateway, "entrada_verified_tokens").await, 1);
}

#[tokio::test]
async fn the_memory_of_kept_tokens_is_bounded_over_tenants_issuers_and_reloads() {
    const MEMORY: u64 = 256 << 10;
    let mut bed = TestBed::with(ROUTES, "verified-tokens: { memory: 256KiB, largest: 6KiB }").await;
    let padding = "x".repeat(2_000);
    for round in 0..4 {
        let mut caller = RawConnection::open(bed.gateway.address()).await;
        // The keys come anew after a reload.
        eventually("the keys", async || status(&mut caller, "/orders", &bed.user_token()).await != "503").await;
        for number in 0..150 {
            let uti = format!("{round}-{number}");
            let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]).claim("uti", uti);
            let token = token.claim("x", padding.as_str()).sign();
            // A token that finds no room has to come again to push out another.
            for _ in 0..2 {
                assert_eq!(status(&mut caller, "/orders", &token).await, "200");
            }
        }
        let bytes = metric(&bed.gateway, "entrada_verified_tokens_bytes").await;
        assert!(bytes <= MEMORY && bytes > MEMORY / 4, "{bytes}");

        // Another authority each time, as far as anybody can tell: the keys are other ones, and the old ones' tokens go.
        let authority = bed.tenant.base_url().replace("127.0.0.1", "localhost");
        let next = config(&bed.tenant, &bed.upstream, ROUTES, "verified-tokens: { memory: 256KiB, largest: 6KiB }");
        bed.gateway.reload(&next.replace(bed.tenant.base_url(), &authority)).await;
        // The worker lets go of them when it hears of the reload.
        eventually("without the tokens of the old config", async || metric(&bed.gateway, "entrada_verified_tokens").await == 0)
            .await;
        bed.gateway.reload(&next).await;
    }
}

#[tokio::test]
async fn tokens_longer_than_told_are_verified_each_time() {
    let bed = TestBed::with(ROUTES, "verified-tokens: { largest: 4KiB }").await;
    let token = |length: usize| {
        let token = bed.tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
        token.claim("x", "x".repeat(length)).sign()
    };
    let (short, long) = (token(100), token(4_000));

    for _ in 0..3 {
        bed.gateway.get("/orders").bearer(&short).send().await.assert_allowed();
        bed.gateway.get("/orders").bearer(&long).send().await.assert_allowed();
    }

    assert_eq!(metric(&bed.gateway, "entrada_verified_tokens").await, 1);
    assert_eq!(metric(&bed.gateway, "entrada_token_verifications_total").await, 4);
}

#[tokio::test]
async fn the_older_form_is_read_and_none_are_kept_where_it_says_so() {
    let bed = TestBed::with(ROUTES, "verified-tokens: 0").await;
    let token = bed.user_token();
    for _ in 0..3 {
        bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    }
    assert_eq!(metric(&bed.gateway, "entrada_token_verifications_total").await, 3);
    assert_eq!(metric(&bed.gateway, "entrada_verified_tokens_bytes").await, 0);

    let bed = TestBed::with(ROUTES, "verified-tokens: 1000").await;
    let token = bed.user_token();
    for _ in 0..3 {
        bed.gateway.get("/orders").bearer(&token).send().await.assert_allowed();
    }
    assert_eq!(metric(&bed.gateway, "entrada_token_verifications_total").await, 1);
}

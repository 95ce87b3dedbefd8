//! Tests of attacks with the place of a token: the judged token is the one that is forwarded, and no other passes.

use bytes::Bytes;
use entrada::Reason;

use crate::support::{RawConnection, TestBed};

/// The usual places, in order of preference, and a route that forwards the judged token.
const ROUTE: &str = "- name: orders
  match: { path: /orders }
  inbound:
    - validate-azure-ad-token:
        tenant: contoso
        audiences: [api://orders]
        scopes: [Orders.Read]
        header-name: [X-User-Token, Authorization]
        query-parameter-name: access_token
  upstream: backend";

/// Returns the gateway's response to these lines after the request line, and whether the backend was called.
async fn answer(bed: &TestBed, target: &str, lines: &[String]) -> (String, bool) {
    let before = bed.upstream.requests();
    let mut caller = RawConnection::open(bed.gateway.address()).await;
    let head = format!("GET {target} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{}\r\n\r\n", lines.join("\r\n"));
    caller.send(head.as_bytes()).await;
    (caller.read_to_end().await, bed.upstream.requests() > before)
}

#[tokio::test]
async fn no_trick_with_the_place_of_a_token_gets_a_request_through() {
    let bed = TestBed::with(ROUTE, "").await;
    let good = bed.user_token();
    let bad = bed.tenant.token().user("eve").audience("api://orders").scopes(["Orders.Read"]).wrong_key().sign();
    let line = |name: &str, value: &str| format!("{name}: {value}");
    let bearer = |token: &str| format!("Bearer {token}");
    for (row, target, lines) in [
        ("nothing", "/orders", vec![]),
        ("two lines, good first", "/orders", vec![line("Authorization", &bearer(&good)), line("Authorization", &bearer(&bad))]),
        ("two lines, bad first", "/orders", vec![line("Authorization", &bearer(&bad)), line("Authorization", &bearer(&good))]),
        ("two lines, alike", "/orders", vec![line("Authorization", &bearer(&good)), line("authorization", &bearer(&good))]),
        ("joined", "/orders", vec![line("Authorization", &format!("{}, {}", bearer(&good), bearer(&bad)))]),
        ("a parameter more", "/orders", vec![line("Authorization", &format!("{}; charset=x", bearer(&good)))]),
        ("a second word", "/orders", vec![line("Authorization", &format!("{} x", bearer(&good)))]),
        ("two schemes", "/orders", vec![line("Authorization", &format!("Bearer {}", bearer(&good)))]),
        ("quoted", "/orders", vec![line("Authorization", &format!("Bearer \"{good}\""))]),
        ("another scheme", "/orders", vec![line("Authorization", &format!("Token {good}"))]),
        ("a longer scheme", "/orders", vec![line("Authorization", &format!("Bearer2 {good}"))]),
        ("a tab for a space", "/orders", vec![line("Authorization", &format!("Bearer\t{good}"))]),
        ("folded", "/orders", vec!["Authorization: Bearer".to_owned(), format!(" {good}")]),
        ("a space before the colon", "/orders", vec![format!("Authorization : Bearer {good}")]),
        ("an underscore", "/orders", vec![line("X_User_Token", &good)]),
        ("a lookalike", "/orders", vec![line("X-User-Token2", &good)]),
        ("preferred and bad, the other good", "/orders", vec![line("X-User-Token", &bad), line("Authorization", &bearer(&good))]),
        ("two preferred", "/orders", vec![line("X-User-Token", &good), line("x-user-token", &good)]),
        ("in a cookie", "/orders", vec![line("Cookie", &format!("access_token={good}"))]),
        ("in Proxy-Authorization", "/orders", vec![line("Proxy-Authorization", &bearer(&good))]),
        ("a NUL inside", "/orders", vec![line("Authorization", &format!("Bearer {}\0{}", &good[..9], &good[9..]))]),
        ("a bare CR inside", "/orders", vec![line("Authorization", &format!("Bearer {}\r{}", &good[..9], &good[9..]))]),
        ("query, another name", &*format!("/orders?Access_Token={good}"), vec![]),
        ("query, twice", &*format!("/orders?access_token={good}&access_token={bad}"), vec![]),
        ("query, twice, one escaped", &*format!("/orders?access_token={good}&acces%73_token={good}"), vec![]),
        ("query, behind a semicolon", &*format!("/orders?x=1;access_token={good}"), vec![]),
        (
            "query, bad, header good in the wrong scheme",
            &*format!("/orders?access_token={bad}"),
            vec![line("Authorization", &format!("Basic {good}"))],
        ),
        ("in the fragment", &*format!("/orders#access_token={good}"), vec![]),
    ] {
        let (text, asked) = answer(&bed, target, &lines).await;

        assert!(text.starts_with("HTTP/1.1 4"), "{row}: {text}");
        assert!(!asked, "{row}");
        assert!(!text.contains(&good[..40]), "{row}: {text}");
    }
}

#[tokio::test]
async fn whatever_way_a_token_came_no_place_of_a_token_reaches_the_backend() {
    let bed = TestBed::with(ROUTE, "").await;
    let good = bed.user_token();
    for (row, target, lines) in [
        ("Authorization", "/orders?x=1", vec![format!("Authorization: Bearer {good}")]),
        ("another case", "/orders?x=1", vec![format!("AUTHORIZATION: bEaReR    {good}  ")]),
        ("bare in its own header", "/orders?x=1", vec![format!("X-User-Token: {good}")]),
        ("both", "/orders?x=1", vec![format!("X-User-Token: bearer {good}"), "Authorization: Bearer of.another.kind".to_owned()]),
        ("query", &*format!("/orders?access_token={good}&x=1"), vec![]),
        ("query, escaped", &*format!("/orders?x=1&%61ccess%5Ftoken={}", good.replace('.', "%2E")), vec![]),
        (
            "header, and a query that does not count",
            "/orders?access_token=bad&x=1&acces%73_token=worse",
            vec![format!("X-User-Token: {good}")],
        ),
        (
            "nominated as hop-by-hop",
            "/orders?x=1",
            vec![format!("X-User-Token: {good}"), "Connection: x-user-token, authorization".to_owned()],
        ),
        (
            "spelled as a backend would fold it",
            "/orders?x=1",
            vec![format!("X-User-Token: {good}"), "X_User_Token: admin".to_owned(), "x.user.token: admin".to_owned()],
        ),
    ] {
        let (text, asked) = answer(&bed, target, &lines).await;

        assert!(text.starts_with("HTTP/1.1 200 ") && asked, "{row}: {text}");
        let received = bed.upstream.last();
        assert_eq!(received.uri, "/orders?x=1", "{row}");
        for (name, value) in &received.headers {
            let folded: String =
                name.as_str().chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
            assert!(folded != "authorization" && folded != "x-user-token", "{row}: {name}");
            assert!(!value.as_bytes().windows(20).any(|part| part == &good.as_bytes()[..20]), "{row}: {name}");
        }
    }
}

#[tokio::test]
async fn a_token_in_a_trailer_or_a_body_is_no_token() {
    let bed = TestBed::with(&ROUTE.replace("path: /orders }", "path: /orders, methods: [GET, POST] }"), "").await;
    let good = bed.user_token();
    let mut caller = RawConnection::open(bed.gateway.address()).await;
    let request = format!(
        "POST /orders HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n\
         1\r\nx\r\n0\r\nAuthorization: Bearer {good}\r\n\r\n"
    );
    caller.send(request.as_bytes()).await;
    let trailer = caller.read_to_end().await;
    let form = bed.gateway.request(http::Method::POST, "/orders").header("content-type", "application/x-www-form-urlencoded");
    let form = form.body(Bytes::from(format!("access_token={good}"))).send().await;

    assert!(trailer.starts_with("HTTP/1.1 401 ") && trailer.contains(Reason::TokenMissing.code()), "{trailer}");
    form.assert_refused(Reason::TokenMissing);
    assert_eq!(bed.upstream.requests(), 0);
}

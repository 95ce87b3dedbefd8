//! A host that a route names is served by the routes that name it, and the record of a 404 says which those are.

use crate::support::Gateway;

#[tokio::test]
async fn the_record_of_a_404_names_the_host_its_routes_and_the_route_elsewhere() {
    let routes: String = (0..7)
        .map(|index| {
            format!("  - {{ name: own-{index}, match: {{ hosts: [a.example], path: /own/{index} }}, anonymous: true, respond: {{ status: 200 }} }}\n")
        })
        .collect();
    let gateway = Gateway::start(&format!(
        "routes:\n{routes}  - {{ name: any, match: {{ path: /any }}, anonymous: true, respond: {{ status: 200 }} }}\n"
    ))
    .await;

    for (host, path, status, cause, hint) in [
        ("a.example", "/own/1", 200, None, None),
        ("b.example", "/any", 200, None, None),
        (
            "a.example",
            "/any",
            404,
            Some("the host `a.example` is served by `own-0`, `own-1`, `own-2`, `own-3`, `own-4` and 2 more alone"),
            Some("`any` would take it under another host"),
        ),
        ("a.example", "/none", 404, Some("none of them has this path"), None),
        ("b.example", "/none", 404, Some("no route has this path"), None),
    ] {
        let answer = gateway.get(path).header("host", host).send().await;
        assert_eq!(answer.status.as_u16(), status, "{host}{path}");
        let record = gateway.record(|record| record["path"] == path && record["host"] == host).await;
        for (field, expected) in [("cause", cause), ("hint", hint)] {
            let found = record[field].as_str();
            assert_eq!(found.is_some(), expected.is_some(), "{record}");
            assert!(expected.is_none_or(|expected| found.unwrap_or_default().contains(expected)), "{record}");
        }
    }
}

#[tokio::test]
async fn where_every_route_names_hosts_the_record_says_so() {
    let gateway = Gateway::start(
        "routes: [ { name: own, match: { hosts: [a.example], path: / }, anonymous: true, respond: { status: 200 } } ]\n",
    )
    .await;

    assert_eq!(gateway.get("/x").header("host", "b.example").send().await.status.as_u16(), 404);

    let record = gateway.record(|record| record["path"] == "/x").await;
    assert_eq!(record["cause"], "no route serves the host `b.example`: the only one names another host", "{record}");
}

#[tokio::test]
async fn the_gateways_own_answers_are_made_by_expressions() {
    let gateway = Gateway::start(
        "routes:\n  - { name: moved, match: { path: /old }, anonymous: true, respond: { status: 308, headers: { Location: \"@('https://' + request.host + request.path)\" }, body: \"@('gone to ' + request.path)\" } }\n",
    )
    .await;

    let answer = gateway.get("/old/7").header("host", "a.example").send().await;

    assert_eq!(answer.status.as_u16(), 308);
    assert_eq!(answer.headers["location"], "https://a.example/old/7");
    assert_eq!(answer.body, "gone to /old/7");
    let refused = Gateway::refusal(
        "routes:\n  - { name: moved, match: { path: /old }, anonymous: true, respond: { status: 308, headers: { Location: \"@('https://' + request.hos)\" } } }\n",
    );
    assert!(refused.contains("did you mean `host`?"), "{refused}");
    let early = Gateway::refusal(
        "routes:\n  - { name: moved, match: { path: /old }, anonymous: true, respond: { status: 200, body: \"@(string(response.status))\" } }\n",
    );
    assert!(early.contains("there is no answer yet"), "{early}");
}

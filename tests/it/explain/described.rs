//! Tests of the forms that describe a request: curl commands, archives and records, with what these do not have.

use serde_json::{Value, json};

use super::{AT, DAEMON, Folder, NIA, path};

#[test]
fn a_request_is_taken_from_curl_from_an_archive_and_from_a_record() {
    let folder = Folder::new();
    let curl = "curl 'https://api.contoso.example/orders' -H 'X-Remote-User: admin' --data-raw '{}'";
    let (status, told) = folder.json(&["--curl", curl, "--from", "203.0.113.9", "--mint", NIA, "--at", AT]);
    assert_eq!((status, &told["request"]["method"]), (0, &json!("POST")), "{told:#}");
    let (status, text) = folder.told(&["--curl", "curl \"https://a.example/$(id)\"", "--from", "203.0.113.9"]);
    assert_eq!(status, 2, "{text}");
    assert!(text.contains("for the shell"), "{text}");

    let archive = folder.file(
        "browser.har",
        r#"{"log":{"entries":[{"startedDateTime":"2027-03-01T09:00:00Z","request":{"method":"GET","url":"https://api.contoso.example/orders/17","httpVersion":"h2","headers":[{"name":":path","value":"/orders/17"}]}}]}}"#,
    );
    let (status, told) = folder.json(&["--har", path(&archive), "--from", "203.0.113.9"]);
    // Whether there was a token, the archive does not say: that is no answer.
    assert_eq!((status, &told["verdict"], &told["code"], &told["status"]), (2, &json!("unknown"), &Value::Null, &Value::Null));
    assert!(told["unknown"][0].as_str().unwrap().contains("browsers leave it out") && told["at"] == "2027-03-01 09:00:00Z");
    assert_eq!(told["turning"], Value::Null);
    assert!(told["notes"][0].as_str().unwrap().contains("--token"), "{told:#}");
    assert_eq!(folder.explain(&["--har", path(&archive), "--from", "203.0.113.9", "--mint", NIA]).status.code(), Some(0));

    let record = json!({
        "time": "2027-02-27T17:31:04.000Z", "request_id": "019aa8c2-6f1e-7c3a-9b52-0d3c5b7e1f42", "listener": "public", "peer": "10.1.0.7:50312",
        "caller": "198.51.100.200", "address_source": "x-forwarded-for", "method": "GET", "host": "partners.contoso.example", "path": "/orders/1",
        "decision": "deny", "code": "caller-address-not-allowed", "policy": "inbound[0].ip-filter",
    });
    let records = folder.file("audit.jsonl", &format!("{{\"request_id\":\"another\"}}\n{record}\n"));
    let arguments = ["--record", path(&records), "--request-id", "019aa8c2-6f1e-7c3a-9b52-0d3c5b7e1f42"];
    let (status, text) = folder.told(&arguments);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("2027-02-27 17:31:04Z") && text.contains("caller-address-not-allowed; now the same"), "{text}");
    assert_eq!(folder.told(&["--record", path(&records), "--request-id", "019aa8c2"]).0, 2);
}

#[test]
fn what_a_record_does_not_have_decides_nothing() {
    let folder = Folder::new();
    let record = json!({
        "time": "2027-02-27T17:31:04.000Z", "request_id": "019aa8c2", "listener": "public", "peer": "203.0.113.9:50312",
        "caller": "203.0.113.9", "address_source": "peer", "method": "GET", "host": "api.contoso.example", "path": "/orders/1",
        "decision": "allow",
    });
    let records = folder.file("audit.jsonl", &format!("{record}\n"));

    let (status, text) = folder.told(&["--record", path(&records), "--request-id", "019aa8c2"]);

    assert_eq!(status, 2, "{text}");
    assert!(
        text.starts_with("  recorded   allowed; what is decided now depends on what the record does not have: with `audit: {"),
        "{text}"
    );
    assert!(text.contains("UNKNOWN    GET https://api.contoso.example/orders/1"), "{text}");
    assert!(text.contains("unknown    it depends on the token or key in the header field authorization"), "{text}");
    assert!(text.contains("? inbound[1].validate-azure-ad-token"), "{text}");
    for guess in ["turns it", "REFUSED", "token-missing", "caller saw"] {
        assert!(!text.contains(guess), "{guess}: {text}");
    }
    // Beside the record the token can be given, and then it is judged.
    let (status, told) = folder.json(&["--record", path(&records), "--request-id", "019aa8c2", "--mint", DAEMON]);
    assert_eq!((status, &told["code"], &told["recorded"]["same"]), (1, &json!("role-missing"), &json!(false)), "{told:#}");
    let (status, told) = folder.json(&["--record", path(&records), "--request-id", "019aa8c2", "--mint", NIA]);
    assert_eq!((status, &told["verdict"]), (0, &json!("allow")), "{told:#}");

    // Whether there was a token is not known either where something before it has refused.
    let far = json!({ "peer": "198.51.100.200:50312", "caller": "198.51.100.200", "decision": "deny", "code": "caller-address-not-allowed" });
    let mut refused = record;
    refused.as_object_mut().unwrap().extend(far.as_object().unwrap().clone());
    let records = folder.file("audit.jsonl", &format!("{refused}\n"));
    let (status, text) = folder.told(&["--record", path(&records), "--request-id", "019aa8c2"]);
    assert_eq!(status, 1, "{text}");
    assert!(text.contains("turns it   caller: 198.51.100.40") && !text.contains("and        token"), "{text}");
    assert!(text.contains("→ what the record does not tell: it does not have authorization"), "{text}");
}

/// The answer tells what its policies did.
#[test]
fn the_policies_on_the_answer_are_told_with_the_answer() {
    let folder = Folder::new();
    let config = "
listeners: [ { name: public, address: \"127.0.0.1:0\" } ]
named-values: { k: { value: hunter2hunter2, secret: true } }
upstreams: { backend: { servers: [\"https://10.0.0.5\"] } }
routes:
  - name: a
    match: { path: /a }
    anonymous: true
    inbound: [ set-header: { name: X-Key, value: \"{{k}}\" } ]
    upstream: backend
    outbound:
      - choose: [ { when: \"@(response.status == 404)\", do: [ set-status: { code: 410 }, set-header: { name: X-Why, value: gone } ] } ]
";
    folder.file("entrada.yaml", config);
    let arguments = ["--url", "http://api.contoso.example/a", "--from", "203.0.113.9", "--answer", "404"];

    let ((status, text), (_, told)) = (folder.told(&arguments), folder.json(&arguments));

    assert_eq!((status, &told["verdict"], &told["response"]["status"]), (0, &json!("allow"), &json!(410)), "{told:#}");
    let upstream = text.find("  upstream   backend").unwrap();
    let choose = text.find("✓ outbound[0].choose ").unwrap();
    let answer = text.find("answer     410").unwrap();
    assert!(upstream < choose && choose < answer, "{text}");
    assert!(text.contains("the status of the answer") && text.contains("header    X-Why: gone"), "{text}");
    assert!(!text.contains("hunter2") && !told.to_string().contains("hunter2"), "{text}");
}

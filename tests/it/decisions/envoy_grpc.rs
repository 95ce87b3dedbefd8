//! Envoy over gRPC: the protocol, and what only it can say.

use super::{
    Asks, Bed,
    asks::{CHECK, call, decided_by_grpc, framed},
    orders,
};
use crate::support::{Authority, Gateway, Written};

fn address(bed: &Bed) -> std::net::SocketAddr {
    bed.gateway.server().address("envoy-grpc").unwrap()
}

#[tokio::test]
async fn a_call_that_is_no_question_ends_with_the_status_that_says_why() {
    let bed = Bed::usual().await;
    let whole = framed(&Asks::get("/orders/1").check_request().0);
    let mut compressed = whole.clone();
    compressed[0] = 1;
    let mut cut = whole.clone();
    cut.pop();
    let long = framed(&vec![0; (256 << 10) + 1]);
    for (path, body, status) in [
        (CHECK, compressed, 12),
        (CHECK, cut, 3),
        (CHECK, Vec::new(), 3),
        (CHECK, long, 8),
        ("/envoy.service.auth.v2.Authorization/Check", whole.clone(), 12),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", whole, 12),
    ] {
        let called = call(address(&bed), path, &body, &[]).await;
        assert_eq!(called.status, status, "{path}: {called:?}");
        assert!(called.message.is_empty(), "{called:?}");
    }
}

/// Refuses every message that cannot be read, with a response: an empty one would admit.
#[tokio::test]
async fn what_cannot_be_read_is_refused_in_a_message() {
    let bed = Bed::usual().await;
    let head = || Written::default().bytes(2, "GET").bytes(4, "/orders/1").bytes(5, "api.contoso.example").bytes(6, "https");
    let field = |name: &str, value: &str| Written::default().bytes(1, name).bytes(2, value);
    let source = || Written::default().message(1, Written::default().message(1, Written::default().bytes(2, "203.0.113.7")));
    let whole = |source: Written, http: Written| {
        let attributes = Written::default().message(1, source).message(4, Written::default().message(2, http));
        Written::default().message(1, attributes)
    };
    let raw = Written::default().message(1, field("accept", "*/*"));
    let pipe = Written::default().message(1, Written::default().message(2, Written::default().bytes(1, "/run/envoy.sock")));
    for (name, message) in [
        ("nothing", Written::default()),
        ("no head", Written::default().message(1, Written::default().message(1, source()))),
        ("neither map", whole(source(), head())),
        ("both maps", whole(source(), head().message(3, field("accept", "*/*")).message(13, raw.clone()))),
        ("two methods", whole(source(), head().bytes(2, "POST").message(13, raw.clone()))),
        ("two targets", whole(source(), head().bytes(4, "/other").message(13, raw.clone()))),
        ("a query apart", whole(source(), head().bytes(7, "a=b").message(13, raw.clone()))),
        ("another path", whole(source(), head().message(13, Written::default().message(1, field(":path", "/other"))))),
        ("a name twice", whole(source(), head().message(3, field("a", "1")).message(3, field("a", "2")))),
        ("a line break", whole(source(), head().message(13, Written::default().message(1, field("a", "1\r\nb: 2"))))),
        ("a pipe", whole(pipe, head().message(13, raw.clone()))),
        ("no source", whole(Written::default(), head().message(13, raw.clone()))),
        ("a certificate that is none", whole(source().bytes(5, "%zz"), head().message(13, raw.clone()))),
        ("garbage", Written(vec![0xff; 64])),
    ] {
        let called = call(address(&bed), CHECK, &framed(&message.0), &[]).await;
        assert_eq!(called.status, 0, "{name}: {called:?}");
        let decided = decided_by_grpc(&called.message);
        assert!(!decided.admitted && decided.status == 400 && decided.rpc == 3, "{name}: {decided:?}");
    }
    // The same, made right.
    let right = whole(source(), head().message(13, raw));
    let decided = decided_by_grpc(&call(address(&bed), CHECK, &framed(&right.0), &[]).await.message);
    decided.assert_refused(401, "token-missing");
}

#[tokio::test]
async fn fields_that_were_merged_are_taken_where_that_is_the_same() {
    let bed = Bed::usual().await;
    let asks = Asks { merged: true, ..Asks::get("/orders/1").bearer(&bed.token()).field("accept", "text/html") };
    bed.ask("envoy-grpc", &asks).await.assert_admitted();
    let asks = Asks { merged: true, host: "api.contoso.example,other.example".to_owned(), ..asks };
    bed.ask("envoy-grpc", &asks).await.assert_refused(400, "request-header-invalid");
}

#[tokio::test]
async fn a_caller_of_grpc_is_told_in_a_word() {
    let bed = Bed::usual().await;
    let asks = Asks::get("/orders/1").field("content-type", "application/grpc");
    let decided = bed.ask("envoy-grpc", &asks).await;
    assert_eq!((decided.status, &*decided.body, decided.rpc), (401, "token-missing", 16), "{decided:?}");
    assert!(decided.header("content-type").is_none(), "{decided:?}");

    // Envoy makes the same of a body that comes over HTTP.
    let decided = bed.ask("envoy-http", &asks).await;
    assert_eq!((decided.status, &*decided.body), (401, "token-missing"), "{decided:?}");
    assert!(decided.header("content-type").is_none(), "{decided:?}");
}

#[tokio::test]
async fn health_is_told_to_whoever_probes() {
    let bed = Bed::usual().await;
    let before = bed.gateway.records().len();
    let called = call(address(&bed), "/grpc.health.v1.Health/Check", &framed(&[]), &[]).await;
    assert_eq!((called.status, &*called.message), (0, &[0x08, 1][..]));
    assert_eq!(bed.gateway.records().len(), before, "a probe leaves no record");

    // The end is near: balancers are to turn elsewhere, and what they still send is decided.
    bed.gateway.server().announce_drain();
    let called = call(address(&bed), "/grpc.health.v1.Health/Check", &framed(&[]), &[]).await;
    assert_eq!((called.status, &*called.message), (0, &[0x08, 2][..]));
    bed.ask("envoy-grpc", &Asks::get("/orders/1").bearer(&bed.token())).await.assert_admitted();
}

/// Where the proxy waits shorter than a decision takes, it hears a refusal and no late admission.
#[tokio::test]
async fn no_decision_comes_after_the_deadline() {
    let bed = Bed::usual().await;
    let stream = tokio::net::TcpStream::connect(address(&bed)).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = http::Request::post(format!("http://{}{CHECK}", address(&bed)))
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "100m");
    // The message never comes.
    let (response, _sending) = client.send_request(request.body(()).unwrap(), false).unwrap();

    let headers = response.await.unwrap().headers().clone();

    assert_eq!(headers["grpc-status"], "14");
    assert_eq!(headers["grpc-message"], "decision-timeout");
    let record = bed.gateway.record(|record| record["listener"] == "envoy-grpc").await;
    assert_eq!(record["code"], "decision-timeout", "{record}");
    driver.abort();
}

#[tokio::test]
async fn the_certificate_is_the_callers_and_not_the_proxys() {
    let authority = Authority::new("Fabrikam Root");
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let routes = format!(
        "routes:\n  - {{ name: mtls, match: {{ path: /mtls }}, inbound: [ validate-client-certificate: {{ ca: {} }} ], decide-only: true }}\n",
        folder.path().join("ca.pem").display()
    );
    let listeners = super::listeners("carry-tokens: false", "");
    let gateway = Gateway::start(&format!("{routes}{listeners}")).await;
    let address = gateway.server().address("envoy-grpc").unwrap();

    Asks::get("/mtls").ask(address, "envoy-grpc").await.assert_refused(403, "client-certificate-missing");
    let pem = |authority: &Authority| {
        authority.client("orders-client").write(folder.path(), "client");
        std::fs::read_to_string(folder.path().join("client.pem")).unwrap()
    };
    let encoded: String = pem(&authority)
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let asks = Asks { certificate: Some(encoded), ..Asks::get("/mtls") };
    asks.ask(address, "envoy-grpc").await.assert_admitted();
    let stranger = pem(&Authority::new("Somebody Else")).replace('\n', "%0A").replace('+', "%2B");
    let asks = Asks { certificate: Some(stranger), ..Asks::get("/mtls") };
    asks.ask(address, "envoy-grpc").await.assert_refused(403, "client-certificate-untrusted");
}

/// One connection of a proxy carries all of its questions.
#[tokio::test]
async fn many_questions_stand_on_one_connection() {
    let bed = Bed::with(&orders("decide-only: true"), "carry-tokens: false", "").await;
    let stream = tokio::net::TcpStream::connect(address(&bed)).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let question = framed(&Asks::get("/orders/1").bearer(&bed.token()).check_request().0);
    let mut answers = Vec::new();
    for _ in 0..300 {
        let request = http::Request::post(format!("http://{}{CHECK}", address(&bed))).header("content-type", "application/grpc");
        let (response, mut sending) = client.send_request(request.body(()).unwrap(), false).unwrap();
        sending.send_data(question.clone().into(), true).unwrap();
        answers.push(response);
        client = client.ready().await.unwrap();
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().status(), 200);
    }
    driver.abort();
}

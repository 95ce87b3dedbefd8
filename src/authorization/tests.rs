use http::Request;
use serde_json::{Value, json};

use super::*;
use crate::{
    base::clock::Clock,
    credentials::{
        Credentials,
        testing::{CLIENT, TestBed, slot_of},
    },
    entra::Tenants,
    request::{IncomingRequest, ReservedNames},
    settings::{Faults, Place},
};

const AUTHORIZATION2: HeaderName = HeaderName::from_static("authorization2");

fn places() -> Vec<TokenPlace> {
    vec![TokenPlace::Header(AUTHORIZATION2), TokenPlace::Header(header::AUTHORIZATION), TokenPlace::Query("token".into())]
}

fn authorization(form: Form) -> Authorization {
    Authorization { form, places: places().into() }
}

fn incoming(target: &str, fields: &[(&str, &str)]) -> IncomingRequest {
    let mut request = Request::builder().uri(target).header("host", "api.contoso.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    IncomingRequest::read(request.body(()).unwrap().into_parts().0, None).unwrap()
}

/// The tokens and the query that the upstream receives.
struct Sent {
    fields: Vec<String>,
    query: Option<Box<str>>,
    own: Option<OwnToken>,
    credential: Option<Arc<str>>,
}

async fn send(authorization: &Authorization, place: Option<&TokenPlace>, incoming: &IncomingRequest) -> Result<Sent, Refusal> {
    send_again(authorization, place, incoming, None).await
}

/// Does the same as [`send`], with a validated token.
async fn send_as(authorization: &Authorization, token: &Token, presented: &str) -> Result<Sent, Refusal> {
    let incoming = incoming("/", &[("authorization", &format!("Bearer {presented}"))]);
    let place = TokenPlace::Header(header::AUTHORIZATION);
    send_all(authorization, Some(token), Some(&place), &incoming, &Captures::default(), None).await
}

async fn send_again(
    authorization: &Authorization,
    place: Option<&TokenPlace>,
    incoming: &IncomingRequest,
    own: Option<OwnToken>,
) -> Result<Sent, Refusal> {
    send_all(authorization, None, place, incoming, &Captures::default(), own).await
}

async fn send_all(
    authorization: &Authorization,
    token: Option<&Token>,
    place: Option<&TokenPlace>,
    incoming: &IncomingRequest,
    captures: &Captures,
    own: Option<OwnToken>,
) -> Result<Sent, Refusal> {
    let mut outgoing = crate::outgoing::from_incoming(&mut incoming.clone(), &ReservedNames::default().finish(None), &[]);
    let (mut own_token, mut credential, mut waited) = (own, None, Duration::ZERO);
    let mut trace = crate::refusal::trace::Trace::default();
    let facts = Facts {
        trace: &mut trace,
        clock: &Clock::manual(0),
        captures,
        token,
        token_place: place,
        named_tokens: &[],
        own_token: &mut own_token,
        own_connection: false,
        credential: &mut credential,
        waited: &mut waited,
    };
    authorization.write(facts, incoming, &mut outgoing).await?;
    let mut fields = outgoing.headers.lines();
    fields.sort();
    for (name, value) in outgoing.headers.iter() {
        assert!(name != Known::Authorization || value.is_sensitive());
    }
    Ok(Sent { fields, query: outgoing.query.as_deref().map(Into::into), own: own_token, credential })
}

const EVERYWHERE: &[(&str, &str)] = &[("authorization", "Bearer one"), ("authorization2", "two"), ("x-other", "3")];

#[tokio::test]
async fn remove_clears_every_place_of_a_token() {
    let incoming = incoming("/a?x=1&token=three&TOKEN=four&y=2&%74oken=five", EVERYWHERE);

    let sent = send(&authorization(Form::Remove), Some(&places()[0]), &incoming).await.unwrap();

    assert_eq!(sent.fields, ["x-other: 3"]);
    assert_eq!(sent.query.as_deref(), Some("x=1&y=2"));
}

#[tokio::test]
async fn a_query_without_the_parameter_stays_as_it_is_and_an_empty_one_goes() {
    let remove = authorization(Form::Remove);
    for (target, expected) in [("/a", None), ("/a?tokens=1&x", Some("tokens=1&x")), ("/a?token=1", None), ("/a?token", None)] {
        let sent = send(&remove, None, &incoming(target, &[])).await.unwrap();

        assert_eq!(sent.query.as_deref(), expected, "{target}");
    }
}

#[tokio::test]
async fn removes_other_spellings_that_a_backend_would_take_for_the_place() {
    let authorization =
        Authorization { form: Form::Remove, places: [TokenPlace::Header(HeaderName::from_static("x-token"))].into() };

    let sent = send(&authorization, None, &incoming("/", &[("x_token", "1"), ("x.token", "2"), ("x-token", "3")])).await.unwrap();

    assert_eq!(sent.fields, [] as [&str; 0]);
}

#[tokio::test]
async fn keep_forwards_the_token_that_was_validated_and_no_other() {
    let keep = authorization(Form::Keep);
    let places = places();
    let target = "/a?token=three";

    for (name, place, expected, query) in [
        ("in Authorization", Some(&places[1]), &["authorization: Bearer one", "x-other: 3"][..], None),
        ("elsewhere", Some(&places[0]), &["authorization2: two", "x-other: 3"], None),
        ("in the query", Some(&places[2]), &["x-other: 3"], Some("token=three")),
        ("nowhere", None, &["x-other: 3"], None),
    ] {
        let sent = send(&keep, place, &incoming(target, EVERYWHERE)).await.unwrap();

        assert_eq!(sent.fields, expected, "{name}");
        assert_eq!(sent.query.as_deref(), query, "{name}");
    }
}

#[tokio::test]
async fn the_callers_connection_cannot_make_keep_lose_the_token() {
    let keep = authorization(Form::Keep);
    let nominated = ("connection", "authorization, authorization2");

    for (place, expected) in [(&places()[1], "authorization: Bearer one"), (&places()[0], "authorization2: two")] {
        let fields: Vec<_> = EVERYWHERE.iter().copied().chain([nominated]).collect();

        let sent = send(&keep, Some(place), &incoming("/", &fields)).await.unwrap();

        assert!(sent.fields.contains(&expected.to_owned()), "{:?}", sent.fields);
    }
}

#[tokio::test]
async fn keep_forwards_nothing_that_can_be_read_in_two_ways_or_speaks_for_a_connection() {
    let keep = Authorization { form: Form::Keep, places: [].into() };

    let twice = incoming("/", &[("authorization", "Basic eDp5"), ("authorization", "Bearer one")]);
    let refusal = send(&keep, None, &twice).await.err().unwrap();
    assert_eq!(refusal.reason, Reason::TokenAmbiguous);

    // Whichever of the two comes first.
    for fields in [["Negotiate YII", "Bearer one"], ["Bearer one", "Negotiate YII"]] {
        let both = incoming("/", &fields.map(|value| ("authorization", value)));
        assert_eq!(send(&keep, None, &both).await.unwrap().fields, ["authorization: Bearer one"]);
    }

    let negotiate = incoming("/", &[("authorization", "Negotiate YII")]);
    assert_eq!(send(&keep, None, &negotiate).await.unwrap().fields, [] as [&str; 0]);
}

#[tokio::test]
async fn from_header_moves_the_validated_token_wherever_it_came_from() {
    let moves = authorization(Form::FromHeader(AUTHORIZATION2));
    let places = places();

    for (place, fields, target, expected) in [
        (&places[0], EVERYWHERE, "/", Ok("authorization: Bearer two")),
        (&places[0], &[("authorization2", "bearer  two")], "/", Ok("authorization: Bearer two")),
        (&places[1], EVERYWHERE, "/", Ok("authorization: Bearer one")),
        (&places[2], &[], "/?token=three", Ok("authorization: Bearer three")),
        (&places[0], &[("authorization2", "Basic eDp5")], "/", Err(Reason::TokenMissing)),
        (&places[1], &[("authorization", "one")], "/", Err(Reason::TokenMissing)),
    ] {
        let sent = send(&moves, Some(place), &incoming(target, fields)).await;

        match (sent, expected) {
            (Ok(sent), Ok(expected)) => {
                assert_eq!(sent.fields.iter().filter(|field| field.starts_with("auth")).collect::<Vec<_>>(), [expected]);
                assert_eq!(sent.query, None);
            }
            (Err(refusal), Err(expected)) => assert_eq!(refusal.reason, expected),
            (sent, _) => panic!("{:?} {fields:?}", sent.map(|sent| sent.fields)),
        }
    }
    assert_eq!(send(&moves, None, &incoming("/", EVERYWHERE)).await.err().unwrap().reason, Reason::TokenMissing);
}

#[tokio::test]
async fn credential_replaces_whatever_the_caller_sent() {
    let own = authorization(Form::Credential { name: "gateway".into(), slot: slot_of(["ours"]) });

    let sent = send(&own, Some(&places()[1]), &incoming("/?token=three", EVERYWHERE)).await.unwrap();

    assert_eq!(sent.fields, ["authorization: Bearer ours", "x-other: 3"]);
    assert_eq!(sent.query, None);
    assert_eq!(sent.credential.as_deref(), Some("gateway"));
    assert!(own.is_own());
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let own = authorization(Form::Credential { name: "gateway".into(), slot: slot_of(["first", "second", "third"]) });
    let incoming = incoming("/", &[]);

    let first = send(&own, None, &incoming).await.unwrap().own.unwrap();
    assert_eq!(after_refusal(&first, &Fields::default(), true).unwrap(), AfterRefusal::ApplyAgain);
    let sent = send_again(&own, None, &incoming, Some(first)).await.unwrap();
    assert_eq!(sent.fields, ["authorization: Bearer second"]);
    let refusal: Refusal = after_refusal(&sent.own.unwrap(), &Fields::default(), true).unwrap_err().into();

    assert_eq!(refusal.reason, Reason::UpstreamRefusedCredential);
    assert_eq!(
        refusal.into_parts().cause.unwrap().to_string(),
        "the upstream refused the token of credential gateway, and a fresh one too"
    );
}

#[tokio::test]
async fn a_request_that_cannot_be_sent_again_still_drops_the_token() {
    let own = authorization(Form::Credential { name: "gateway".into(), slot: slot_of(["first", "second"]) });
    let incoming = incoming("/", &[]);

    let first = send(&own, None, &incoming).await.unwrap().own.unwrap();
    assert!(after_refusal(&first, &Fields::default(), false).is_err());

    assert_eq!(send(&own, None, &incoming).await.unwrap().fields, ["authorization: Bearer second"]);
}

#[tokio::test]
async fn without_a_token_of_our_own_nothing_goes_out_and_the_log_learns_why() {
    let own = authorization(Form::Credential { name: "gateway".into(), slot: slot_of([]) });

    let refusal = send(&own, None, &incoming("/", EVERYWHERE)).await.err().unwrap();

    assert_eq!(refusal.reason, Reason::CredentialUnavailable);
    assert!(refusal.retry_after.is_some());
    let cause = refusal.cause.as_ref().unwrap();
    assert_eq!(cause.to_string(), "credential gateway has no token");
    assert_eq!(cause.source().unwrap().to_string(), "the answer to the token request holds no token");
    assert!(refusal.hint.is_some());
}

fn build_with(
    config: &AuthorizationConfig,
    credentials: &Credentials,
    anonymous: bool,
    place: &Place,
    faults: &mut Faults,
) -> Option<Authorization> {
    let context = AuthorizationContext {
        credentials,
        tenants: &Tenants::default(),
        listed_tenants: &[],
        token_places: &places(),
        captures: &["customer".to_owned()],
        secrets: &Default::default(),
        anonymous,
    };
    Authorization::build(config, context, place, faults)
}

fn build(written: &Value, anonymous: bool) -> (Option<Authorization>, Vec<String>) {
    let config: AuthorizationConfig = serde_json::from_value(written.clone()).unwrap();
    let mut faults = Faults::default();
    let place = Place::root().key("authorization");
    let built = build_with(&config, &Credentials::default(), anonymous, &place, &mut faults);
    let told = faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
    (built, told)
}

#[test]
fn builds_what_is_written() {
    for (written, expected) in [
        (json!("keep"), "Keep"),
        (json!("remove"), "Remove"),
        (json!({"from-header": "Authorization2"}), "FromHeader(\"authorization2\")"),
    ] {
        let (built, told) = build(&written, false);

        assert_eq!(format!("{:?}", built.unwrap().form), expected, "{told:?}");
        assert_eq!(told, [] as [&str; 0]);
    }
}

#[test]
fn says_what_is_wrong() {
    let credential = "authorization.credential";
    for (written, anonymous, expected) in [
        (
            json!({"from-header": "X-Else"}),
            false,
            &["authorization.from-header: no token policy of this route looks at `X-Else`".to_owned()][..],
        ),
        (json!({"from-header": "a b"}), false, &["authorization.from-header: `a b` is not a header name".to_owned()]),
        (
            json!({"from-header": "Authorization2"}),
            true,
            &["authorization.from-header: `from-header` on a route with `anonymous: true`".to_owned()],
        ),
        (
            json!({"credential": "nobody", "scope": "https://graph.microsoft.com/.default"}),
            true,
            &[
                format!("{credential}: `credential` on a route with `anonymous: true`"),
                format!("{credential}: there is no credential `nobody`"),
            ],
        ),
        (
            json!({"credential": "nobody", "scope": "https://graph.microsoft.com/User.Read"}),
            false,
            &[
                "authorization.scope: `https://graph.microsoft.com/User.Read` is not a scope that an application can ask for"
                    .to_owned(),
                format!("{credential}: there is no credential `nobody`"),
            ],
        ),
        (
            json!({"credential": "nobody", "scope": "a/.default b/.default"}),
            false,
            &[
                "authorization.scope: `a/.default b/.default` is more than one scope".to_owned(),
                format!("{credential}: there is no credential `nobody`"),
            ],
        ),
    ] {
        let (built, told) = build(&written, anonymous);

        assert!(built.is_none(), "{written}");
        assert_eq!(told, expected, "{written}");
    }
}

/// Makes a token as validation would.
fn validated(kind: TokenKind, tenant: &str, expires_at: u64) -> Token {
    Token {
        claims: Default::default(),
        kind,
        tenant: tenant.into(),
        client: None,
        subject: None,
        object_id: None,
        scopes: Vec::new(),
        roles: Vec::new(),
        credential_kind: None,
        id: None,
        expires_at,
        recorded: Box::default(),
    }
}

fn built(bed: &TestBed, credentials: &Credentials, written: Value) -> Authorization {
    let config: AuthorizationConfig = serde_json::from_value(written).unwrap();
    let mut faults = Faults::default();
    let built = build_with(&config, credentials, false, &Place::root(), &mut faults);
    assert!(faults.is_empty(), "{faults:?} {}", bed.entra.base_url());
    built.unwrap()
}

#[tokio::test]
async fn on_behalf_of_exchanges_a_users_token_and_refuses_an_applications() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let exchange =
        built(&bed, &credentials, json!({"on-behalf-of": "gateway", "scope": "https://graph.microsoft.com/User.Read"}));
    let presented = bed.entra.token().user("nia").audience(CLIENT).scopes(["access_as_user"]).sign();
    let expires_at = bed.clock.unix_seconds() + 1_000;

    let sent = send_as(&exchange, &validated(TokenKind::User, &bed.entra.tenant_id(), expires_at), &presented).await.unwrap();
    let refused = send_as(&exchange, &validated(TokenKind::App, &bed.entra.tenant_id(), expires_at), &presented).await;

    assert_eq!(sent.fields.len(), 1);
    assert!(!sent.fields[0].contains(&presented), "the user's own token stays here");
    assert_eq!(sent.credential.as_deref(), Some("gateway"));
    assert_eq!(refused.err().unwrap().reason, Reason::OnBehalfOfNeedsUser);
}

#[tokio::test]
async fn a_caller_of_another_tenant_gets_that_tenants_token() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let written = json!({"credential": "gateway", "scope": "https://graph.microsoft.com/.default", "tenant": "@(token.tenant)"});
    let own = built(&bed, &credentials, written);
    let fabrikam = validated(TokenKind::App, "bbbbcccc-1111-dddd-2222-eeee3333ffff", 2_000_000_000);

    let refused = send_as(&own, &fabrikam, "a.b.c").await.err().unwrap();
    assert_eq!(refused.reason, Reason::TenantNotConsented);
    let sent = send_as(&own, &validated(TokenKind::App, &bed.entra.tenant_id(), 2_000_000_000), "a.b.c").await;

    assert!(sent.is_ok());
}

#[tokio::test]
async fn a_path_names_the_tenant_among_those_that_are_allowed() {
    const FABRIKAM: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let own = bed.entra.tenant_id();
    let authorization = built(
        &bed,
        &credentials,
        json!({"credential": "gateway", "scope": "https://graph.microsoft.com/.default", "tenant": "@(captures.customer)", "allowed-tenants": [own, FABRIKAM]}),
    );
    let named = async |segment: &str| {
        let captures = Captures { segments: [("customer".into(), segment.into())].into(), ..Captures::default() };
        send_all(&authorization, None, None, &incoming("/", &[]), &captures, None).await
    };

    assert_eq!(named(&own.to_uppercase()).await.unwrap().fields.len(), 1);
    assert_eq!(named(FABRIKAM).await.err().unwrap().reason, Reason::TenantNotConsented);
    for other in ["ccccdddd-2222-eeee-3333-ffff4444aaaa", "..", "common", ""] {
        let refusal = named(other).await.err().unwrap();
        assert_eq!(refusal.reason, Reason::TokenTenantNotAllowed, "{other}");
        assert_eq!(refusal.message.as_deref(), Some("The tenant that the path names is not allowed."), "{other}");
        assert!(refusal.hint.as_ref().is_some_and(|hint| hint.contains("`allowed-tenants`")), "{other}");
    }
    bed.entra.update_app(CLIENT, |app| app.consented_by("fabrikam"));
    bed.clock.advance(Duration::from_secs(10));
    assert!(named(FABRIKAM).await.is_ok());
    assert!(bed.entra.requests("/token").last().unwrap().target.path().starts_with(&format!("/{FABRIKAM}/")));
}

#[tokio::test]
async fn says_what_is_wrong_with_an_exchange() {
    let bed = TestBed::open().await;
    let credentials = bed.gateway();
    let told = |written: Value| {
        let config: AuthorizationConfig = serde_json::from_value(written).unwrap();
        let mut faults = Faults::default();
        if let Some(built) = build_with(&config, &credentials, false, &Place::root(), &mut faults) {
            built.check_audiences(&[], &Place::root(), &mut faults);
        }
        faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect::<Vec<_>>()
    };

    assert_eq!(
        told(json!({"on-behalf-of": "gateway", "scope": "https://graph.microsoft.com/User.Read"})),
        [format!("on-behalf-of: no audience of this route is {CLIENT}, which credential `gateway` is")]
    );
    assert_eq!(told(json!({"on-behalf-of": "gateway", "scope": " "})), ["scope: ` ` is not a scope"]);
    assert_eq!(
        told(json!({"credential": "gateway", "scope": "api://a/.default", "tenant": "@(request.headers['x-tenant'])"})),
        [
            "tenant: `@(request.headers['x-tenant'])` names no tenant that could be checked",
            "tenant: the path names the tenant, and it is not said which ones it may name"
        ]
    );
    assert_eq!(
        told(
            json!({"credential": "gateway", "scope": "api://a/.default", "tenant": "@(captures.other)", "allowed-tenants": ["x"]})
        ),
        ["tenant: the route's path has no capture `other`", "allowed-tenants[0]: `x` is no tenant that a path could name"]
    );
    assert_eq!(
        told(json!({"credential": "gateway", "scope": "api://a/.default", "tenant": "nowhere"})),
        ["tenant: credential `gateway` cannot ask tenant `nowhere`"]
    );
}

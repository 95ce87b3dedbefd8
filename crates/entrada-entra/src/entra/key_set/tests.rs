//! The life of a key set against a development tenant: rollover, floods, outages, false documents.

mod background;
mod documents;

use serde_json::json;

use super::*;
use crate::{
    dev_tenant::{DEFAULT_AUDIENCE, DevTenant, Fault, Options},
    entra::{
        CloudConfig, Moment, Profile, TenantConfig, Tenants, Verified, Verifier, VerifyError,
        testing::{NOW, tenant_config},
    },
    identity_http::IdentityHttpConfig,
    settings::{ConfigDuration, Faults, Place},
};

/// A key set that is fetched from a development tenant.
struct Scene {
    entra: DevTenant,
    clock: Clock,
    tenants: Tenants,
    set: Arc<KeySet>,
    verifier: Verifier,
}

impl Scene {
    async fn start() -> Self {
        Self::with(None, None).await
    }

    async fn with(application: Option<&str>, stale: Option<ConfigDuration>) -> Self {
        let clock = Clock::manual(NOW);
        let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
        Self::at(entra, clock, application, stale).await
    }

    async fn at(entra: DevTenant, clock: Clock, application: Option<&str>, stale: Option<ConfigDuration>) -> Self {
        let config = TenantConfig {
            id: entra.tenant_id(),
            cloud: CloudConfig::Public,
            authority: Some(entra.base_url().to_owned()),
            stale,
            graph: None,
            required: None,
        };
        let configs = [("dev".to_owned(), config)].into();
        let tenants = Tenants::build(&configs, None, &Place::root(), &mut Faults::default());
        let set = tenants.key_set(tenants.get("dev").unwrap(), application);
        tenants.start(&IdentityHttp::new(&IdentityHttpConfig::default()).unwrap(), &clock, &Handle::current());
        tenants.tried().await;
        let verifier = Verifier {
            sets: vec![set.clone()],
            profile: Profile::Entra,
            algorithms: Algorithm::ENTRA.to_vec(),
            verified_token_cache: Arc::default(),
        };
        Self { entra, clock, tenants, set, verifier }
    }

    async fn judge(&self, token: &str) -> Result<(), VerifyError> {
        self.kept(token, self.verifier.verify_anew(token.as_bytes(), 0, &self.clock).await)
    }

    /// Verifies the token with the keys at hand.
    fn judge_now(&self, token: &str) -> Result<(), VerifyError> {
        self.kept(token, self.verifier.verify(token.as_bytes(), 0, Moment::of(&self.clock)))
    }

    /// Keeps a verified token, as a policy that accepts it does.
    fn kept(&self, token: &str, verified: Result<Arc<Verified>, VerifyError>) -> Result<(), VerifyError> {
        self.verifier.keep(token.as_bytes(), 0, self.clock.unix_seconds(), &verified?);
        Ok(())
    }

    async fn refresh(&self) {
        self.set.refresh().unwrap().over().await;
    }
}

#[tokio::test]
async fn keys_are_there_before_anybody_asks() {
    let scene = Scene::start().await;

    assert!(scene.judge_now(&scene.entra.token().sign()).is_ok());
    assert!(scene.judge_now(&scene.entra.token().v1().sign()).is_ok());
    assert!(scene.tenants.were_tried());
    assert_eq!((scene.entra.calls("/openid-configuration"), scene.entra.calls("/keys")), (2, 2));
    let status = scene.tenants.status(&scene.clock);
    assert!(status.iter().all(|document| document.serves && document.keys > 0 && document.error.is_none()), "{status:?}");
}

#[tokio::test]
async fn a_new_key_is_taken_up_when_a_token_names_it() {
    let scene = Scene::start().await;
    let old = scene.entra.token().sign();
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    scene.entra.forget_calls();

    let verdicts = (scene.judge(&new).await.is_ok(), scene.judge(&old).await.is_ok());

    assert_eq!(verdicts, (true, true));
    assert_eq!((scene.entra.calls("/openid-configuration"), scene.entra.calls("/keys")), (0, 2));
}

#[tokio::test]
async fn a_key_that_is_gone_vouches_for_nothing() {
    let scene = Scene::start().await;
    let token = scene.entra.token().sign();
    let kept = scene.judge_now(&token).is_ok() && scene.verifier.cached(token.as_bytes(), 0, Moment::of(&scene.clock)).is_some();
    scene.entra.roll_keys();
    scene.entra.retire_keys();

    scene.refresh().await;

    assert!(kept);
    assert!(scene.verifier.cached(token.as_bytes(), 0, Moment::of(&scene.clock)).is_none());
    assert!(matches!(scene.judge(&token).await, Err(VerifyError::UnknownKey)));
}

#[tokio::test]
async fn unknown_keys_cause_one_fetch_in_half_a_minute() {
    let scene = Scene::start().await;
    scene.entra.forget_calls();

    for flood in 0..3 {
        for index in 0..20 {
            let token = scene.entra.token().unknown_key().header("kid", format!("{flood}-{index}")).sign();
            assert!(matches!(scene.judge(&token).await, Err(VerifyError::UnknownKey)));
        }
        scene.clock.advance(COOL_DOWN / 2);
    }

    // At 0 s and at 30 s; each asks for the keys of both versions.
    assert_eq!(scene.entra.calls("/keys"), 4);
    assert_eq!(scene.entra.calls("/openid-configuration"), 0);
}

#[tokio::test]
async fn no_answer_lifts_the_limit() {
    let bodies = [
        ("fault", Fault::on("/keys").status(500)),
        ("empty", Fault::on("/keys").status(200).body(r#"{"keys":[]}"#)),
        ("page", Fault::on("/keys").status(200).body("<html>")),
        ("cut", Fault::on("/keys").cut()),
    ];
    for (row, fault) in bodies {
        let scene = Scene::start().await;
        let good = scene.entra.token().sign();
        scene.entra.forget_calls();
        scene.entra.fail(fault);

        for index in 0..10 {
            let token = scene.entra.token().unknown_key().header("kid", format!("x{index}")).sign();
            assert!(matches!(scene.judge(&token).await, Err(VerifyError::UnknownKey)), "{row}");
        }

        assert_eq!(scene.entra.calls("/keys"), 2, "{row}");
        assert!(scene.judge(&good).await.is_ok(), "{row}: the last good keys serve");
    }
}

#[tokio::test]
async fn a_rotation_is_seen_within_half_a_minute_of_a_flood() {
    let scene = Scene::start().await;
    let noise = |index: usize| scene.entra.token().unknown_key().header("kid", format!("n{index}")).sign();
    assert!(scene.judge(&noise(0)).await.is_err());
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();

    let during = scene.judge(&new).await.is_ok();
    for index in 1..30 {
        scene.clock.advance(Duration::from_secs(1));
        assert!(scene.judge(&noise(index)).await.is_err());
    }
    scene.clock.advance(Duration::from_secs(1));
    let after = scene.judge(&new).await.is_ok();

    assert_eq!((during, after), (false, true));
}

#[tokio::test]
async fn all_who_wait_share_one_fetch() {
    let scene = Scene::start().await;
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    scene.entra.forget_calls();
    let hold = scene.entra.hold("/keys");

    let waiting: Vec<_> = (0..20)
        .map(|worker| {
            let (verifier, token, clock) = (scene.verifier.clone(), new.clone(), scene.clock.clone());
            tokio::spawn(async move { verifier.verify_anew(token.as_bytes(), worker, &clock).await.is_ok() })
        })
        .collect();
    scene.entra.arrived("/keys", 2).await;
    // Whoever began the fetch may leave; the others still get it.
    waiting[0].abort();
    drop(hold);

    for (index, waiting) in waiting.into_iter().enumerate().skip(1) {
        assert!(waiting.await.unwrap(), "{index}");
    }
    assert_eq!(scene.entra.calls("/keys"), 2);
}

#[tokio::test]
async fn the_last_good_keys_serve_through_an_outage_but_not_for_ever() {
    let scene = Scene::with(None, Some(ConfigDuration::seconds(7_200))).await;
    let token = |scene: &Scene| scene.entra.token().expires_in(100_000).sign();
    let early = token(&scene);
    scene.entra.fail(Fault::on("").status(503));

    scene.clock.advance(Duration::from_secs(7_199));
    scene.refresh().await;
    let during = scene.judge(&early).await.is_ok();
    let status = scene.tenants.status(&scene.clock).remove(0);
    scene.clock.advance(Duration::from_secs(1));
    let seen = scene.verifier.cached(early.as_bytes(), 0, Moment::of(&scene.clock)).is_some();
    let after = scene.judge(&early).await;
    scene.entra.recover();
    scene.refresh().await;
    let recovered = scene.judge(&early).await.is_ok();

    assert!(during && recovered && !seen);
    assert!(matches!(after, Err(VerifyError::NoKeys)));
    assert_eq!(status.age, Some(Duration::from_secs(7_199)));
    assert!(status.error.unwrap().contains("503"));
}

#[tokio::test]
async fn documents_that_lie_are_not_believed() {
    let elsewhere = DevTenant::start(Options { own_keys: true, ..Options::default() }).await.unwrap();
    let tenant = elsewhere.tenant_id();
    let stolen = format!("{}/{tenant}/discovery/v2.0/keys", elsewhere.base_url());
    for (row, issuer, jwks_uri) in [
        ("keys elsewhere", format!("BASE/{tenant}/v2.0"), stolen.as_str()),
        ("another issuer", "https://evil.example/v2.0".to_owned(), "BASE/keys"),
        ("another tenant", "BASE/00000000-1111-4222-8333-444444444444/v2.0".to_owned(), "BASE/keys"),
    ] {
        let scene = Scene::start().await;
        let good = scene.entra.token().sign();
        let body = json!({ "issuer": issuer, "jwks_uri": jwks_uri }).to_string().replace("BASE", scene.entra.base_url());
        scene.entra.fail(Fault::on("/.well-known/openid-configuration").status(200).body(body));
        elsewhere.forget_calls();

        scene.refresh().await;

        assert!(scene.tenants.status(&scene.clock)[0].error.is_some(), "{row}");
        assert!(scene.judge(&good).await.is_ok(), "{row}: the last good keys serve");
        assert!(scene.judge(&elsewhere.token().sign()).await.is_err(), "{row}");
        assert_eq!(elsewhere.calls("/keys"), 0, "{row}");
    }
}

#[tokio::test]
async fn redirects_and_huge_documents_are_not_followed() {
    let elsewhere = DevTenant::start(Options { own_keys: true, ..Options::default() }).await.unwrap();
    let location = format!("{}/{}/discovery/v2.0/keys", elsewhere.base_url(), elsewhere.tenant_id());
    for fault in [
        Fault::on("/keys").status(302).header("location", &location),
        Fault::on("/keys").status(200).body(format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(3 << 20))),
        Fault::on("/keys").status(200).body(format!(r#"{{"keys":[{}{{}}]}}"#, "{},".repeat(1_000))),
    ] {
        let scene = Scene::start().await;
        let good = scene.entra.token().sign();
        scene.entra.fail(fault);

        scene.refresh().await;

        assert!(scene.judge(&good).await.is_ok());
        assert!(scene.tenants.status(&scene.clock)[0].error.is_some());
    }
    assert_eq!(elsewhere.calls("/keys"), 0);
}

#[tokio::test]
async fn an_application_with_its_own_key_is_judged_by_that_key_alone() {
    let scene = Scene::with(Some(DEFAULT_AUDIENCE), None).await;
    scene.entra.update_app(DEFAULT_AUDIENCE, |app| crate::dev_tenant::App { custom_signing_key: true, ..app });
    scene.refresh().await;
    let own = scene.entra.token().app_key(DEFAULT_AUDIENCE).sign();
    let tenants = scene.entra.token().key(scene.entra.signing_key()).sign();
    let others = scene.entra.token().app_key("aaaaaaaa-1111-4222-8333-444444444444").sign();

    assert!(scene.judge(&own).await.is_ok());
    assert!(matches!(scene.judge(&tenants).await, Err(VerifyError::UnknownKey)));
    assert!(matches!(scene.judge(&others).await, Err(VerifyError::UnknownKey)));
    let asked = scene.entra.requests("/openid-configuration");
    assert!(asked.iter().all(|request| request.target.query() == Some(&format!("appid={DEFAULT_AUDIENCE}"))), "{asked:?}");
}

#[tokio::test]
async fn a_key_set_lives_on_across_reloads_that_do_not_change_it() {
    let config = |id: &str| [("dev".to_owned(), tenant_config(&json!({ "id": id })))].into();
    let (one, two) = ("0f0f0f0f-1111-4222-8333-444455556666", "1a1a1a1a-2222-4333-8444-555566667777");
    let mut faults = Faults::default();
    let first = Tenants::build(&config(one), None, &Place::root(), &mut faults);
    let set = first.key_set(first.get("dev").unwrap(), None);

    let same = Tenants::build(&config(one), Some(&first), &Place::root(), &mut faults);
    let other = Tenants::build(&config(two), Some(&first), &Place::root(), &mut faults);

    assert!(Arc::ptr_eq(&set, &same.key_set(same.get("dev").unwrap(), None)));
    assert!(!Arc::ptr_eq(&set, &same.key_set(same.get("dev").unwrap(), Some(one))));
    assert!(!Arc::ptr_eq(&set, &other.key_set(other.get("dev").unwrap(), None)));
    assert!(faults.is_empty());
}

#[test]
fn pauses_are_spread() {
    for _ in 0..100 {
        let pause = jittered(REFRESH, 10);

        assert!(pause >= REFRESH * 9 / 10 && pause <= REFRESH * 11 / 10, "{pause:?}");
    }
    assert!((0..100).map(|_| jittered(REFRESH, 10)).any(|pause| pause != REFRESH));
}

/// Checks that keys which only serve for hints do not delay readiness.
#[tokio::test]
async fn readiness_waits_for_the_keys_that_policies_go_by() {
    let entra = DevTenant::start(Options::default()).await.unwrap();
    let fixture = Scene::at(entra, Clock::manual(NOW), None, None).await;
    let one = "33334444-dddd-5555-eeee-6666ffff7777";
    let tenant = fixture.tenants.get("dev").unwrap();
    let waiting = || fixture.tenants.without_keys(&fixture.clock);

    fixture.tenants.suspect(tenant, Some(one));
    assert_eq!(waiting(), Vec::<String>::new());

    fixture.tenants.key_set(tenant, Some(one));
    assert_eq!(waiting(), ["the signing keys of the tenant dev"]);
}

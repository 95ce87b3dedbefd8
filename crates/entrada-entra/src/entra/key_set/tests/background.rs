//! Background work: refreshes, repairs, and requests that wait for a slow authority.

use super::*;

/// Advances the timers' clock at once. Otherwise it runs normally, since a clock that jumps whenever all tasks wait would also
/// jump over answers in transit.
async fn leap(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// Waits until a condition holds; fails after ten seconds.
async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waited).await.is_ok(), "{what}");
}

#[tokio::test]
async fn keys_are_fetched_anew_every_hour_though_nobody_asks() {
    let scene = Scene::start().await;
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    scene.entra.forget_calls();

    leap(REFRESH * 8 / 10).await;
    let early = scene.entra.calls("/openid-configuration");
    assert!(matches!(scene.judge_now(&new), Err(VerifyError::UnknownKey)));
    leap(REFRESH * 3 / 10 + Duration::from_secs(1)).await;
    soon("the new key is there", || scene.judge_now(&new).is_ok()).await;

    assert_eq!(early, 0);
    assert_eq!((scene.entra.calls("/openid-configuration"), scene.entra.calls("/keys")), (2, 2));
}

#[tokio::test]
async fn a_key_that_left_the_set_stops_counting_within_the_hour() {
    let scene = Scene::start().await;
    let old = scene.entra.token().expires_in(100_000).sign();
    assert!(scene.judge(&old).await.is_ok());
    scene.entra.roll_keys();
    scene.entra.retire_keys();

    leap(REFRESH * 11 / 10 + Duration::from_secs(1)).await;

    soon("the old key is gone", || matches!(scene.judge_now(&old), Err(VerifyError::UnknownKey))).await;
    assert!(scene.verifier.cached(old.as_bytes(), 0, Moment::of(&scene.clock)).is_none());
}

#[tokio::test]
async fn a_failed_refresh_is_repeated_after_a_minute_until_it_succeeds() {
    let scene = Scene::start().await;
    assert!(scene.set.pause() >= REFRESH * 9 / 10);
    scene.entra.fail(Fault::on("").status(503));

    for _ in 0..5 {
        scene.refresh().await;
        let pause = scene.set.pause();
        assert!(pause >= REPAIR * 3 / 4 && pause <= REPAIR * 5 / 4, "{pause:?}");
    }
    scene.entra.recover();
    scene.refresh().await;

    assert!(scene.set.pause() >= REFRESH * 9 / 10);
}

#[tokio::test]
async fn without_any_keys_they_are_asked_for_every_few_seconds() {
    let clock = Clock::manual(NOW);
    let entra = DevTenant::start(Options { clock: clock.clone(), ..Options::default() }).await.unwrap();
    entra.fail(Fault::on("").status(503));
    let scene = Scene::at(entra, clock, None, None).await;
    let token = scene.entra.token().sign();
    assert!(matches!(scene.judge(&token).await, Err(VerifyError::NoKeys)));

    for _ in 0..8 {
        scene.refresh().await;
        let pause = scene.set.pause();
        assert!(pause <= FIRST_KEYS * 5 / 4, "{pause:?}");
    }
    assert!(scene.set.pause() >= FIRST_KEYS * 3 / 4);
    let asked = scene.entra.calls("/openid-configuration");
    // Tokens that come meanwhile are no reason to ask more often.
    for index in 0..50 {
        let token = scene.entra.token().unknown_key().header("kid", format!("x{index}")).sign();
        assert!(matches!(scene.judge(&token).await, Err(VerifyError::NoKeys)));
    }
    assert_eq!(scene.entra.calls("/openid-configuration"), asked);
    scene.entra.recover();

    leap(FIRST_KEYS * 5 / 4 + Duration::from_secs(1)).await;

    soon("the keys are there", || scene.judge_now(&token).is_ok()).await;
}

#[tokio::test]
async fn a_slow_authority_holds_up_only_who_needs_it_and_not_for_long() {
    let scene = Scene::start().await;
    let known = scene.entra.token().sign();
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    scene.entra.forget_calls();
    let hold = scene.entra.hold("/keys");
    let waiting = |token: &str| {
        let (verifier, token, clock) = (scene.verifier.clone(), token.to_owned(), scene.clock.clone());
        tokio::spawn(async move { verifier.verify_anew(token.as_bytes(), 0, &clock).await.map(drop) })
    };

    let waits = waiting(&new);
    scene.entra.arrived("/keys", 2).await;
    assert!(scene.judge_now(&known).is_ok());
    assert!(!waits.is_finished());
    leap(Duration::from_secs(6)).await;
    let verdict = waits.await.unwrap();

    assert!(matches!(verdict, Err(VerifyError::UnknownKey)), "{verdict:?}");
    assert!(scene.judge_now(&known).is_ok());
    // Nothing more was asked for, and nobody asks again within half a minute.
    assert!(matches!(scene.judge(&new).await, Err(VerifyError::UnknownKey)));
    assert_eq!((scene.entra.calls("/keys"), scene.entra.calls("/openid-configuration")), (2, 0));
    drop(hold);
    scene.clock.advance(COOL_DOWN);
    assert!(scene.judge(&new).await.is_ok());
    assert_eq!(scene.entra.calls("/keys"), 4);
}

#[tokio::test]
async fn a_flood_from_all_sides_is_one_fetch_and_the_rotation_within_it_is_seen() {
    let scene = Scene::start().await;
    scene.entra.forget_calls();
    let hold = scene.entra.hold("/keys");
    scene.entra.roll_keys();
    let new = scene.entra.token().sign();
    let mut flood = Vec::new();
    for index in 0..300 {
        let token = match index % 3 {
            0 => new.clone(),
            _ => scene.entra.token().unknown_key().header("kid", format!("f{index}")).sign(),
        };
        let (verifier, clock) = (scene.verifier.clone(), scene.clock.clone());
        flood.push(tokio::spawn(async move { (index % 3 == 0, verifier.verify_anew(token.as_bytes(), index, &clock).await) }));
    }
    scene.entra.arrived("/keys", 2).await;
    drop(hold);

    for judged in flood {
        let (real, verdict) = judged.await.unwrap();
        assert_eq!(verdict.is_ok(), real);
    }
    assert_eq!((scene.entra.calls("/keys"), scene.entra.calls("/openid-configuration")), (2, 0));
}

#[tokio::test]
async fn a_set_that_nobody_holds_is_asked_for_no_more() {
    let scene = Scene::start().await;
    let Scene { entra, tenants, set, verifier, .. } = scene;
    let held = Arc::downgrade(&set);

    drop((tenants, set, verifier));
    entra.forget_calls();
    leap(REFRESH * 2).await;
    soon("the set is gone", || held.strong_count() == 0).await;

    assert_eq!(entra.calls(""), 0);
}

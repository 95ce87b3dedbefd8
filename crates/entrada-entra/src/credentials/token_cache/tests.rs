use std::{collections::VecDeque, sync::atomic::AtomicUsize};

use http::StatusCode;
use tokio::sync::Notify;

use super::*;
use crate::credentials::{access_token::Issued, error::Refused};

/// An issuer that follows a script, and pauses where the script says so.
struct Issuer {
    clock: Clock,
    asked: AtomicUsize,
    claims: Mutex<Vec<Option<Arc<str>>>>,
    script: Mutex<VecDeque<Answer>>,
    gate: Option<Arc<Notify>>,
}

#[derive(Clone, Copy)]
enum Answer {
    Token(u64),
    TokenToRenewIn(u64, u64),
    Status(u16, Option<u64>),
    InvalidScope,
    Never,
}

impl Issuer {
    fn new(script: &[Answer]) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::manual(1_000_000),
            asked: AtomicUsize::new(0),
            claims: Mutex::default(),
            script: Mutex::new(script.iter().copied().collect()),
            gate: None,
        })
    }

    fn gated(script: &[Answer]) -> (Arc<Self>, Arc<Notify>) {
        let gate = Arc::new(Notify::new());
        let mut issuer = Arc::into_inner(Self::new(script)).unwrap();
        issuer.gate = Some(gate.clone());
        (Arc::new(issuer), gate)
    }

    fn slot(self: &Arc<Self>) -> Arc<TokenSlot> {
        self.slot_at(&Arc::default())
    }

    fn slot_at(self: &Arc<Self>, pace: &Arc<Pace>) -> Arc<TokenSlot> {
        let issuer = self.clone();
        TokenSlot::new(
            "gateway".into(),
            ForWhom::Gateway,
            Box::new(move |claims| {
                let issuer = issuer.clone();
                Box::pin(async move { issuer.answer(claims).await })
            }),
            pace.clone(),
            Background { clock: self.clock.clone(), handle: Arc::default(), second_attempt_after: Duration::ZERO },
            None,
        )
    }

    async fn answer(&self, claims: Option<Arc<str>>) -> Fetched {
        let sent_at = self.clock.monotonic();
        let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        lock(&self.claims).push(claims);
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        let issued = |lifetime, renew_in: Option<u64>| Issued {
            token: format!("token-{count}").into(),
            lifetime: Duration::from_secs(lifetime),
            renew_in: renew_in.map(Duration::from_secs),
            sent_at,
        };
        let answer = lock(&self.script).pop_front().expect("asked more often than the test expects");
        match answer {
            Answer::Token(lifetime) => Ok(issued(lifetime, None)),
            Answer::TokenToRenewIn(lifetime, renew_in) => Ok(issued(lifetime, Some(renew_in))),
            Answer::Status(status, retry_after) => Err(refused(status, "server_error", retry_after)),
            Answer::InvalidScope => Err(refused(400, "invalid_scope", None)),
            Answer::Never => std::future::pending().await,
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn refused(status: u16, error: &str, retry_after: Option<u64>) -> Failure {
    Failure::Refused(Box::new(Refused {
        status: StatusCode::from_u16(status).unwrap(),
        error: error.into(),
        code: None,
        message: "no".into(),
        suberror: None,
        claims: None,
        trace_id: None,
        correlation_id: "id".into(),
        retry_after,
        clock_ahead: None,
        asker: crate::credentials::aadsts::Asker::Gateway,
        authorization_uri: None,
        consent_uri: None,
        certificate: None,
        certificate_expired: false,
    }))
}

/// Lets spawned tasks run until they wait.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn five_hundred_cold_requests_ask_once() {
    let (issuer, gate) = Issuer::gated(&[Answer::Token(3_600)]);
    let slot = issuer.slot();
    let waiting: Vec<_> = (0..500)
        .map(|_| {
            let slot = slot.clone();
            tokio::spawn(async move { slot.token().await })
        })
        .collect();
    settle().await;

    gate.notify_one();

    for waiter in waiting {
        assert_eq!(waiter.await.unwrap().unwrap().expose(), "token-1");
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn who_leaves_takes_nobody_along() {
    let (issuer, gate) = Issuer::gated(&[Answer::Token(3_600)]);
    let slot = issuer.slot();
    let first = tokio::spawn({
        let slot = slot.clone();
        async move { slot.token().await }
    });
    settle().await;
    let second = tokio::spawn({
        let slot = slot.clone();
        async move { slot.token().await }
    });
    settle().await;

    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.notify_one();

    assert_eq!(second.await.unwrap().unwrap().expose(), "token-1");
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn renews_in_the_background_before_the_end() {
    let issuer = Issuer::new(&[Answer::Token(3_600), Answer::Token(3_600)]);
    let slot = issuer.slot();
    slot.token().await.unwrap();

    issuer.pass(2_939);
    assert_eq!(slot.cached().unwrap().expose(), "token-1");
    settle().await;
    assert_eq!(issuer.asked(), 1, "ten minutes before the end and a tenth of that for chance: not yet");

    issuer.pass(62);
    assert_eq!(slot.cached().unwrap().expose(), "token-1", "the old one serves meanwhile");
    settle().await;

    assert_eq!(slot.cached().unwrap().expose(), "token-2");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn renews_when_the_issuer_says_but_at_half_time_at_the_latest() {
    for (renew_in, at) in [(1_000, 1_000), (50_000, 43_200)] {
        let issuer = Issuer::new(&[Answer::TokenToRenewIn(86_400, renew_in), Answer::Token(3_600)]);
        let slot = issuer.slot();
        slot.token().await.unwrap();

        issuer.pass(at);
        assert_eq!(slot.cached().unwrap().expose(), "token-1");
        settle().await;

        assert_eq!(slot.cached().unwrap().expose(), "token-2", "{renew_in}");
    }
}

#[tokio::test]
async fn a_failed_renewal_spoils_no_living_token() {
    let failure = Answer::Status(503, None);
    let issuer = Issuer::new(&[Answer::Token(3_600), failure, failure, failure, failure, failure, failure, Answer::Token(3_600)]);
    let slot = issuer.slot();
    slot.token().await.unwrap();

    issuer.pass(3_001);
    for _ in 0..9 {
        assert_eq!(slot.cached().unwrap().expose(), "token-1");
        settle().await;
    }
    assert_eq!(issuer.asked(), 2, "attempts pause after a failure");

    for _ in 0..4 {
        issuer.pass(40);
        assert_eq!(slot.cached().unwrap().expose(), "token-1");
        settle().await;
    }
    assert_eq!(issuer.asked(), 6);

    issuer.pass(390);
    assert!(slot.cached().is_none(), "in its last minute a new one is worth waiting for");
    assert_eq!(slot.token().await.unwrap().expose(), "token-1", "and the old one serves if there is none");
    issuer.pass(40);
    assert_eq!(slot.token().await.unwrap().expose(), "token-8");
}

#[tokio::test]
async fn never_hands_out_a_token_that_has_ended() {
    let failure = Answer::Status(503, None);
    let issuer = Issuer::new(&[Answer::Token(3_600), failure, failure]);
    let slot = issuer.slot();
    let token = slot.token().await.unwrap();

    issuer.pass(3_595);

    assert!(slot.cached().is_none());
    let error = slot.token().await.unwrap_err();
    assert!(error.retry_in.is_some());
    assert_eq!(token.expires_at(), 1_003_600);
    assert_eq!(issuer.asked(), 3, "while somebody waits, a stumble is met with a second attempt");
}

#[tokio::test]
async fn a_token_that_has_ended_on_the_way_is_none() {
    let (issuer, gate) = Issuer::gated(&[Answer::Token(60)]);
    let slot = issuer.slot();
    let waiter = tokio::spawn({
        let slot = slot.clone();
        async move { slot.token().await }
    });
    settle().await;

    issuer.pass(58);
    gate.notify_one();

    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(*error.failure, Failure::Nonsense(_)), "{error:?}");
    assert!(!slot.is_ready());
}

#[tokio::test]
async fn remembers_a_final_answer_for_a_while() {
    let issuer = Issuer::new(&[Answer::InvalidScope, Answer::Token(3_600)]);
    let slot = issuer.slot();

    for _ in 0..5 {
        assert!(slot.token().await.is_err());
    }
    assert_eq!(issuer.asked(), 1);
    issuer.pass(10);

    assert_eq!(slot.token().await.unwrap().expose(), "token-2");
}

#[tokio::test]
async fn throttling_holds_the_client_and_a_wrong_scope_only_itself() {
    let pace = Arc::default();
    let issuer = Issuer::new(&[Answer::InvalidScope, Answer::Status(429, Some(30)), Answer::Token(3_600), Answer::Token(3_600)]);
    let (wrong, one, other) = (issuer.slot_at(&pace), issuer.slot_at(&pace), issuer.slot_at(&pace));

    assert!(wrong.token().await.is_err());
    assert!(one.token().await.is_err(), "a wrong scope holds nobody else, so this one asks");
    let held = other.token().await.unwrap_err();

    assert_eq!(held.retry_in, Some(Duration::from_secs(30)));
    assert_eq!(issuer.asked(), 2);
    issuer.pass(30);
    assert!(other.token().await.is_ok());
    assert!(one.token().await.is_ok());
}

#[tokio::test]
async fn a_refused_token_is_dropped_once_a_minute() {
    let issuer = Issuer::new(&[Answer::Token(3_600), Answer::Token(3_600), Answer::Token(3_600)]);
    let slot = issuer.slot();
    let first = slot.token().await.unwrap();

    assert!(slot.refused(&first));
    assert!(slot.refused(&first), "another caller with the same token: a new one is coming");
    let second = slot.token().await.unwrap();
    assert!(slot.refused(&first), "the newer one is worth an attempt");
    assert_eq!(slot.cached().unwrap().expose(), "token-2", "and it is not dropped for the older one's sake");
    assert!(!slot.refused(&second), "an upstream that always refuses causes no storm");
    assert_eq!(slot.cached().unwrap().expose(), "token-2");
    issuer.pass(60);
    assert!(slot.refused(&second));

    assert_eq!(slot.token().await.unwrap().expose(), "token-3");
}

#[tokio::test]
async fn a_challenge_is_answered_with_its_claims_and_the_answer_takes_the_place_of_the_plain_token() {
    let issuer = Issuer::new(&[Answer::Token(3_600), Answer::Token(3_600), Answer::Token(3_600)]);
    let slot = issuer.slot();
    let plain = slot.token().await.unwrap();

    assert!(slot.challenged(&plain, "{}".into()));
    assert!(slot.challenged(&plain, "{}".into()), "another caller with the same token waits for the same answer");
    assert_eq!(slot.token().await.unwrap().expose(), "token-2");

    assert!(!slot.challenged(&slot.cached().unwrap(), "{}".into()), "an upstream that always refuses causes no storm");
    assert_eq!(slot.cached().unwrap().expose(), "token-2");
    issuer.pass(3_600);
    slot.token().await.unwrap();
    assert_eq!(*lock(&issuer.claims), [None, Some("{}".into()), None], "what was asked for once is not asked for for ever");
}

#[tokio::test]
async fn a_challenge_does_not_settle_for_the_plain_token_under_way() {
    let (issuer, gate) = Issuer::gated(&[Answer::Token(3_600), Answer::Token(3_600), Answer::Token(3_600)]);
    let slot = issuer.slot();
    gate.notify_one();
    let first = slot.token().await.unwrap();
    issuer.pass(3_001);
    slot.cached().unwrap();
    settle().await;

    assert!(slot.challenged(&first, "{}".into()));
    let waiter = tokio::spawn({
        let slot = slot.clone();
        async move { slot.token().await }
    });
    settle().await;
    gate.notify_one();
    settle().await;
    gate.notify_one();

    assert_eq!(waiter.await.unwrap().unwrap().expose(), "token-3");
    assert_eq!(*lock(&issuer.claims), [None, None, Some("{}".into())]);
}

#[tokio::test]
async fn claims_that_the_issuer_refuses_leave_the_plain_token_to_others() {
    let issuer = Issuer::new(&[Answer::Token(3_600), Answer::InvalidScope, Answer::Token(3_600)]);
    let slot = issuer.slot();
    let plain = slot.token().await.unwrap();

    slot.challenged(&plain, "{}".into());
    assert!(slot.token().await.is_err());
    issuer.pass(10);
    slot.token().await.unwrap();

    assert_eq!(*lock(&issuer.claims), [None, Some("{}".into()), None]);
}

#[tokio::test]
async fn tending_renews_what_is_used_and_drops_what_has_ended() {
    let issuer = Issuer::new(&[Answer::Token(3_600), Answer::Token(3_600), Answer::Token(3_600)]);
    let slot = issuer.slot();
    slot.token().await.unwrap();
    slot.cached().unwrap();

    issuer.pass(3_001);
    slot.tend(false);
    settle().await;
    assert_eq!(issuer.asked(), 2);

    issuer.pass(3_001);
    slot.tend(false);
    settle().await;
    assert_eq!(issuer.asked(), 2, "nobody used the second one");
    assert!(slot.is_ready());

    issuer.pass(600);
    slot.tend(false);
    assert!(slot.handover().is_none());
    slot.warm();
    settle().await;
    issuer.pass(3_001);
    assert!(slot.is_ready());
    assert_eq!(issuer.asked(), 3);
}

#[tokio::test]
async fn a_runtime_that_ends_leaves_no_fetch_behind() {
    let issuer = Issuer::new(&[Answer::Never, Answer::Token(3_600)]);
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let slot = issuer.slot();
    slot.background.handle.set(elsewhere.handle().clone()).unwrap();
    let waiter = tokio::spawn({
        let slot = slot.clone();
        async move { slot.token().await }
    });
    settle().await;

    elsewhere.shutdown_background();

    let error = waiter.await.unwrap().unwrap_err();
    assert!(matches!(*error.failure, Failure::Interrupted), "{error:?}");
    assert!(lock(&slot.state).in_flight.is_none());
}

#[tokio::test]
async fn no_debug_text_shows_a_token() {
    let issuer = Issuer::new(&[Answer::Token(3_600)]);
    let slot = issuer.slot();
    let token = slot.token().await.unwrap();

    let text = format!("{token:?} {slot:?} {:?} {:?}", token.header(), slot.status());

    assert!(!text.contains("token-1"), "{text}");
    assert!(token.header().is_sensitive());
}

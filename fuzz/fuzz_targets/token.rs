//! A token of any bytes is read or refused without a panic, and only the signer makes one that is admitted.

#![no_main]

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use entrada::{
    Clock,
    cli::token::decode,
    dev_tenant::SigningKey,
    unstable::{
        entra::Tenants,
        inbound::validate_azure_ad_token::ValidateAzureAdToken,
        settings::{Faults, Place},
    },
};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

const NOW: u64 = 1_790_000_000;

static POLICY: LazyLock<ValidateAzureAdToken> = LazyLock::new(|| {
    let mut faults = Faults::default();
    let config = serde_json::from_value(json!({ "id": "0f0f0f0f-1111-4222-8333-444455556666" })).expect("a tenant");
    let tenants = Tenants::build(&BTreeMap::from([("contoso".to_owned(), config)]), None, &Place::root(), &mut faults);
    let settings = serde_json::from_value(json!({ "tenant": "contoso", "audiences": ["api://orders"] })).expect("a policy");
    let policy = ValidateAzureAdToken::alone(&settings, &tenants, &mut faults).expect("it has no faults");
    let mut key = SigningKey::generate().expect("a key").jwk(None);
    // An id that is found by trying.
    key["kid"] = "k".into();
    tenants.assume_keys(json!({ "keys": [key] }).to_string().as_bytes(), &Clock::manual(NOW)).expect("a key set");
    policy
});

fuzz_target!(|text: &str| {
    let decoded = decode(text, NOW);
    assert!(!decoded.problems.is_empty() || decoded.header.is_some() && decoded.claims.is_some());
    let clock = Clock::manual(NOW);
    let judged = pin!(POLICY.judge_text(text.as_bytes(), &clock));
    match judged.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(verdict) => assert!(verdict.is_err()),
        Poll::Pending => unreachable!("nothing is fetched here"),
    }
});

//! Benchmarks of tokens: seen for the first time, cached, refused, and with an unknown key; and beside the first, what the crate
//! `jsonwebtoken` takes for signature, issuer, audience and times alone.
//!
//! `cargo bench --bench token`

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use divan::{Bencher, black_box};
use entrada::{
    Clock,
    dev_tenant::SigningKey,
    unstable::{
        entra::Tenants,
        inbound::validate_azure_ad_token::ValidateAzureAdToken,
        refusal::Refusal,
        settings::{Faults, Place},
    },
};
use serde_json::json;

const NOW: u64 = 1_790_000_000;
const TENANT: &str = "0f0f0f0f-1111-4222-8333-444455556666";
const API: &str = "33334444-dddd-5555-eeee-6666ffff7777";

fn main() {
    divan::main();
}

/// A policy with its keys, and a signer for them.
struct Scene {
    policy: ValidateAzureAdToken,
    key: SigningKey,
    clock: Clock,
}

impl Scene {
    fn new() -> Self {
        let clock = Clock::manual(NOW);
        let key = SigningKey::generate().expect("the library makes keys");
        let mut faults = Faults::default();
        let config = serde_json::from_value(json!({ "id": TENANT })).expect("a tenant's settings");
        let tenants = Tenants::build(&BTreeMap::from([("contoso".to_owned(), config)]), None, &Place::root(), &mut faults);
        let settings = json!({
            "tenant": "contoso", "audiences": [API], "scopes": ["orders.read"],
            "required-claims": [{ "name": "groups", "match": "any", "values": ["staff"] }],
        });
        let settings = serde_json::from_value(settings).expect("a policy's settings");
        let policy = ValidateAzureAdToken::alone(&settings, &tenants, &mut faults).expect("the settings have no faults");
        let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
        tenants.assume_keys(json!({ "keys": [key.jwk(Some(template))] }).to_string().as_bytes(), &clock).expect("a key set");
        Self { policy, key, clock }
    }

    /// Makes a user's token of about a kibibyte and a half; each number makes another one.
    fn token(&self, number: u64, key_id: &str) -> String {
        let header = json!({ "typ": "JWT", "alg": "RS256", "kid": key_id });
        let claims = json!({
            "aud": API, "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "tid": TENANT, "ver": "2.0",
            "iat": NOW, "nbf": NOW, "exp": NOW + 3_600, "azp": "11112222-bbbb-3333-cccc-4444dddd5555", "azpacr": "0",
            "name": "Nia Okafor", "preferred_username": "nia@contoso.example", "oid": "0b1d0000-0000-4000-8000-00000000000a",
            "sub": "pairwiseValueForThisApi", "scp": "orders.read orders.write", "uti": format!("q1W2e3R4t5Y6u7I8o9P0aA{number}"),
            "groups": ["staff", "aaaa0000-1111-2222-3333-bbbb4444cccc", "bbbb0000-1111-2222-3333-cccc4444dddd"],
            "rh": "0.AAAA".repeat(10), "aio": "A".repeat(120),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign("RS256", input.as_bytes()).expect("the library signs");
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn judge(&self, token: &str) -> Result<(), Refusal> {
        let future = pin!(self.policy.judge_text(token.as_bytes(), &self.clock));
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(verdict) => verdict,
            Poll::Pending => unreachable!("nothing is fetched here"),
        }
    }
}

#[divan::bench]
fn first_sight(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            scene.token(number, scene.key.kid())
        })
        .bench_local_values(|token| scene.judge(black_box(&token)).expect("a good token"));
}

#[divan::bench]
fn first_sight_by_jsonwebtoken(bencher: Bencher<'_, '_>) {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};

    let scene = Scene::new();
    let jwk = serde_json::from_value(scene.key.jwk(None)).expect("a key of a key set");
    let key = DecodingKey::from_jwk(&jwk).expect("an RSA key");
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[API]);
    validation.set_issuer(&[format!("https://login.microsoftonline.com/{TENANT}/v2.0")]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud"]);
    validation.validate_nbf = true;
    // These tokens have a clock of their own, which is not the machine's.
    validation.leeway = 1_000_000_000;
    let mut number = 0;
    bencher
        .with_inputs(|| {
            number += 1;
            scene.token(number, scene.key.kid())
        })
        .bench_local_values(|token| decode::<serde_json::Value>(black_box(&token), &key, &validation).expect("a good token"));
}

#[divan::bench]
fn seen_before(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let token = scene.token(0, scene.key.kid());
    scene.judge(&token).expect("a good token");
    bencher.bench_local(|| scene.judge(black_box(&token)).expect("a good token"));
}

#[divan::bench]
fn refused_for_its_signature(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let token = scene.token(0, scene.key.kid()).replacen('.', ".e", 1);
    bencher.bench_local(|| scene.judge(black_box(&token)).is_err());
}

#[divan::bench]
fn unknown_key(bencher: Bencher<'_, '_>) {
    let scene = Scene::new();
    let token = scene.token(0, "nobody's");
    bencher.bench_local(|| scene.judge(black_box(&token)).is_err());
}

//! Decisions for other proxies: their questions, and the answers in their own terms.
//!
//! A proxy in front asks whether it may forward a request. The question becomes the request that the proxy has received, which is judged
//! as one that arrived itself: by the same table, policies and limits. Only what becomes of it differs: the header that an upstream
//! would have received is the answer, as the difference from the one that the proxy has.
//!
//! | dialect | file |
//! | --- | --- |
//! | `envoy-grpc` | [`envoy_grpc`]: `envoy.service.auth.v3.Authorization/Check` |
//! | `envoy-http` | [`envoy_http`]: the request itself, behind a prefix |
//! | `traefik` | [`traefik`]: `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For` |
//! | `caddy` | [`caddy`]: the same, and the query once more |
//! | `nginx` | [`nginx`]: the same, and refusals as 401 and 403 alone |
//!
//! A listener speaks one dialect, which its config names. Nothing in a question can choose another one, and a question that could be read
//! in two ways is a refusal.

mod answer;
mod caddy;
mod changes;
mod config;
mod dialect;
mod envoy_grpc;
mod envoy_http;
mod forwarded;
mod grpc;
mod instructions;
mod kept;
mod nginx;
mod protobuf;
mod question;
mod rules;
mod traefik;

pub(crate) use self::{
    answer::{Admitted, Answer, Refused},
    dialect::NotAsked,
    grpc::{MAX_MESSAGE, health},
    question::{Question, QuestionFault},
    rules::{DecisionRules, RulesContext},
};
pub use self::{
    config::{DecidesConfig, DialectConfig},
    instructions::Instructions,
};

//! A token judged by a route of a config: every check of its token policies, not only the first that fails.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::decode::printable;
use crate::{
    base::clock::Clock,
    config::Document,
    entra::Tenants,
    gateway::runtime::identity_http,
    inbound::{PolicyConfig, list, validate_azure_ad_token::ValidateAzureAdToken},
    settings::{Faults, Place},
};

/// The verdict of one token policy.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    /// The policy: the tenant whose tokens it accepts.
    policy: String,
    /// True if every check passed.
    pub(super) accepted: bool,
    checks: Vec<Outcome>,
}

/// The outcome of one check.
#[derive(Debug, Serialize)]
struct Outcome {
    check: &'static str,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Judges a token by the token policies of a route, the global ones included.
///
/// # Errors
/// The config cannot be read, has no such route, or the route has no policy for tokens of Entra.
pub(super) fn judge(config: &Path, route: &str, token: &str, clock: &Clock) -> anyhow::Result<Vec<Judged>> {
    let document = Document::load(config).map_err(|report| anyhow::anyhow!("{report}"))?;
    let settings = &document.config;
    let Some(found) = settings.routes.iter().find(|known| known.name == route) else {
        let known: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
        anyhow::bail!("the config has no route `{route}`; it has: {}", known.join(", "));
    };
    let mut faults = Faults::default();
    let root = Place::root();
    let tenants = Tenants::build(&settings.tenants, None, &root.key("tenants"), &mut faults);
    let http = identity_http(settings, &document, None, &root.key("identity-http"), &mut faults);
    let (mut policies, mut partner_check) = (Vec::new(), false);
    for policies_of in [&settings.inbound, &found.inbound] {
        list::each(policies_of, &settings.fragments, 0, &mut |policy| match policy {
            PolicyConfig::ValidateAzureAdToken(policy) => policies.push(policy.clone()),
            PolicyConfig::CheckPartner(_) => partner_check = true,
            _ => {}
        });
    }
    if policies.is_empty() {
        anyhow::bail!("the route `{route}` has no policy validate-azure-ad-token");
    }
    let built: Vec<_> = policies
        .iter()
        .map(|policy| {
            (policy.tenant.clone(), ValidateAzureAdToken::before_partner_check(policy, &tenants, partner_check, &mut faults))
        })
        .collect();
    let Some(http) = http.filter(|_| !faults.any_error()) else { anyhow::bail!("{}", document.report(&faults)) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        tenants.start(&http, clock, runtime.handle());
        tenants.tried().await;
        let mut judged = Vec::new();
        for (tenant, policy) in &built {
            let Some(policy) = policy else { continue };
            let checks: Vec<_> = policy.judge_each(token.as_bytes(), clock).await.into_iter().map(outcome).collect();
            let accepted = checks.iter().all(|check| check.passed);
            judged.push(Judged { policy: format!("validate-azure-ad-token for {tenant}"), accepted, checks });
        }
        Ok(judged)
    })
}

fn outcome((check, refusal): (&'static str, Option<crate::refusal::Refusal>)) -> Outcome {
    match refusal {
        None => Outcome { check, passed: true, code: None, cause: None, hint: None },
        Some(refusal) => Outcome {
            check,
            passed: false,
            code: Some(refusal.reason.code()),
            cause: refusal.cause.map(|cause| cause.to_string()),
            hint: refusal.hint.map(Into::into),
        },
    }
}

/// Describes the verdicts, a check a line.
pub(super) fn in_words(judged: &[Judged]) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    for policy in judged {
        let _ = writeln!(text, "\n{}", printable(&policy.policy));
        for check in &policy.checks {
            let Some(code) = check.code else {
                let _ = writeln!(text, "  {}: holds", check.check);
                continue;
            };
            let cause = check.cause.as_deref().unwrap_or_default();
            let _ = writeln!(text, "  {}: FAILS, {code}: {}", check.check, printable(cause));
            if let Some(hint) = &check.hint {
                let _ = writeln!(text, "    -> {}", printable(hint));
            }
        }
        let _ = writeln!(text, "  {}", if policy.accepted { "accepted" } else { "refused" });
    }
    text
}

//! A token judged by a route of a config: every check of its token policies, not only the first that fails.

use std::{fmt::Write as _, path::Path};

use serde::Serialize;

use super::decode::printable;
use crate::{
    base::clock::Clock,
    config::Document,
    entra::Tenants,
    gateway::runtime::identity_http,
    inbound::{
        token_policies::{TokenPolicy, token_policies},
        validate_azure_ad_token::ValidateAzureAdToken,
        validate_jwt::ValidateJwt,
    },
    settings::{Faults, Place},
};

/// The verdict of one token policy.
#[derive(Debug, Serialize)]
pub(super) struct Judged {
    /// The policy: the tenant or the issuer whose tokens it accepts.
    policy: String,
    /// True if every check passed.
    pub(super) accepted: bool,
    checks: Vec<Outcome>,
    /// The lookups of the policy, which ask Microsoft Graph with the gateway's credential; here they are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_asked: Vec<&'static str>,
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
/// The config cannot be read, has no such route, or the route has no token policy.
pub(super) fn judge(config: &Path, route: &str, token: &str, clock: &Clock) -> anyhow::Result<Vec<Judged>> {
    let document = Document::load(config).map_err(|report| anyhow::anyhow!("{report}"))?;
    let settings = &document.config;
    let Some(found) = settings.routes.iter().find(|known| known.name == route) else {
        let known: Vec<_> = settings.routes.iter().map(|route| route.name.as_str()).collect();
        anyhow::bail!("the config has no route `{route}`; it has: {}", known.join(", "));
    };
    let mut faults = Faults::default();
    let root = Place::root();
    let tenants = Tenants::build(&settings.tenants, None, &root.key("tenants"), &mut faults)
        .relative_to(&document.base)
        .with_issuers(&settings.issuers, &root.key("issuers"), &mut faults);
    let http = identity_http(settings, &document, None, &root.key("identity-http"), &mut faults);
    let policies = token_policies(&[&settings.inbound, &found.inbound], &settings.fragments);
    if policies.is_empty() {
        anyhow::bail!("the route `{route}` has no token policy: neither validate-azure-ad-token nor validate-jwt");
    }
    let built: Vec<_> = policies.iter().map(|policy| Built::of(policy, &tenants, &mut faults)).collect();
    let Some(http) = http.filter(|_| !faults.any_error()) else { anyhow::bail!("{}", document.report(&faults)) };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        tenants.start(&http, clock, runtime.handle());
        tenants.tried().await;
        let mut judged = Vec::new();
        for Built { name, policy, not_asked } in &built {
            let checks = match policy {
                Some(Policy::Entra(policy)) => policy.judge_each(token.as_bytes(), clock).await,
                Some(Policy::Issuer(policy)) => policy.judge_each(token.as_bytes(), clock).await,
                None => continue,
            };
            let checks: Vec<_> = checks.into_iter().map(outcome).collect();
            let accepted = checks.iter().all(|check| check.passed);
            judged.push(Judged { policy: name.clone(), accepted, checks, not_asked: not_asked.clone() });
        }
        Ok(judged)
    })
}

/// A token policy, built without its lookups.
struct Built {
    name: String,
    policy: Option<Policy>,
    not_asked: Vec<&'static str>,
}

/// A policy of either kind.
enum Policy {
    Entra(Box<ValidateAzureAdToken>),
    Issuer(Box<ValidateJwt>),
}

impl Built {
    fn of(policy: &TokenPolicy<'_>, tenants: &Tenants, faults: &mut Faults) -> Self {
        match policy {
            TokenPolicy::Entra { config, before_partner_check } => {
                let mut config = (*config).clone();
                let group = config.group_lookup.take().map(|_| "group-lookup");
                let claim = config.claim_lookup.take().map(|_| "claim-lookup");
                let policy = ValidateAzureAdToken::before_partner_check(&config, tenants, *before_partner_check, faults);
                Self {
                    name: format!("validate-azure-ad-token for {}", config.tenant),
                    policy: policy.map(|policy| Policy::Entra(Box::new(policy))),
                    not_asked: group.into_iter().chain(claim).collect(),
                }
            }
            TokenPolicy::Issuer(config) => Self {
                name: format!("validate-jwt for {}", config.issuer),
                policy: ValidateJwt::alone(config, tenants, faults).map(|policy| Policy::Issuer(Box::new(policy))),
                not_asked: Vec::new(),
            },
        }
    }
}

fn outcome((check, refusal): (&'static str, Option<crate::refusal::Refusal>)) -> Outcome {
    match refusal {
        None => Outcome { check, passed: true, code: None, cause: None, hint: None },
        Some(refusal) => Outcome {
            check,
            passed: false,
            code: Some(refusal.reason.code()),
            cause: refusal.cause.as_ref().map(|cause| cause.to_string()),
            hint: refusal.into_parts().hint.map(Into::into),
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
        for lookup in &policy.not_asked {
            let _ = writeln!(text, "  {lookup}: not asked; what Microsoft Graph would add is missing here");
        }
        let _ = writeln!(text, "  {}", if policy.accepted { "accepted" } else { "refused" });
    }
    text
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        dev_tenant::{DEFAULT_CLIENT, DevTenant, Options},
        entra::testing::{NOW, clock, jwks, key},
        settings::testing::write_all,
    };

    #[test]
    fn a_list_is_judged_as_the_gateway_runs_it() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let tenant = runtime.block_on(DevTenant::start(Options::default())).expect("it starts");
        let (id, authority) = (tenant.tenant_id(), tenant.base_url());
        let config = format!(
            "
tenants:
  contoso: {{ id: {id}, authority: \"{authority}\" }}
  listed: {{ id: organizations, authority: \"{authority}\" }}
partners: {{ fabrikam: {{ client-application-ids: [{DEFAULT_CLIENT}], tenants: [contoso], addresses: [127.0.0.1] }} }}
credentials: {{ gateway: {{ managed-identity: {{}} }} }}
routes:
  - name: orders
    match: {{ path: / }}
    inbound:
      - any-of:
          - - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777] }}
            - check-partner: {{}}
          - - validate-azure-ad-token:
                tenant: listed
                allowed-tenants: {{ file: tenants.txt }}
                audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777]
                claim-lookup: {{ graph: gateway, claims: {{ onpremisessamaccountname: onPremisesSamAccountName }} }}
    respond: {{ status: 200 }}
"
        );
        let folder = tempfile::tempdir().expect("a folder");
        write_all(folder.path(), &[("entrada.yaml", &config), ("tenants.txt", &format!("{id}\n"))]);
        let token = tenant.token().app(DEFAULT_CLIENT).audience("api://orders").roles([] as [&str; 0]).sign();

        let judged = judge(&folder.path().join("entrada.yaml"), "orders", &token, &Clock::system()).expect("it is judged");

        let codes = |judged: &Judged| judged.checks.iter().filter_map(|check| check.code).collect::<Vec<_>>();
        assert_eq!((judged[0].accepted, codes(&judged[0])), (true, vec![]), "{judged:?}");
        assert_eq!((judged[1].accepted, codes(&judged[1])), (false, vec!["permission-missing"]), "{judged:?}");
        assert!(in_words(&judged).contains("claim-lookup: not asked"), "{}", in_words(&judged));
    }

    /// Tests another issuer's policy: each check of it is told, not only the first that fails.
    #[test]
    fn a_token_of_another_issuer_is_judged_by_each_check_of_its_policy() {
        let config = "
issuers: { build: { issuer: \"https://build.example\", keys: { jwks: keys.json } } }
routes:
  - name: orders
    match: { path: / }
    inbound:
      - validate-jwt:
          issuer: build
          audiences: [orders]
          algorithms: [RS256]
          client-application-ids: [portal]
          scopes: [write]
          required-claims: [ { name: department, values: [sales] } ]
    respond: { status: 200 }
";
        let folder = tempfile::tempdir().expect("a folder");
        let keys = String::from_utf8(jwks(&[key(0).jwk(None)])).expect("it is JSON");
        write_all(folder.path(), &[("entrada.yaml", config), ("keys.json", &keys)]);
        let good = json!({ "iss": "https://build.example", "aud": "orders", "sub": "nia", "client_id": "portal",
            "scope": "read write", "department": "sales", "exp": NOW + 600 });
        let judged = |algorithm: &str, changes: Value| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let header = json!({ "alg": algorithm, "kid": key(0).kid(), "typ": "at+jwt" });
            let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
            let input = format!("{}.{}", encode(&header), encode(&claims));
            let signature = URL_SAFE_NO_PAD.encode(key(0).sign(algorithm, input.as_bytes()).unwrap());
            let token = format!("{input}.{signature}");
            let mut judged = judge(&folder.path().join("entrada.yaml"), "orders", &token, &clock()).expect("it is judged");
            assert_eq!((judged.len(), &*judged[0].policy), (1, "validate-jwt for build"));
            judged.remove(0)
        };
        let codes = |judged: &Judged| judged.checks.iter().filter_map(|check| check.code).collect::<Vec<_>>();

        let accepted = judged("RS256", json!({}));
        assert_eq!((accepted.accepted, codes(&accepted)), (true, vec![]), "{accepted:?}");
        let changes = json!({ "iss": "https://other.example", "aud": "stock", "client_id": "shop", "scope": "read",
            "department": "law", "exp": NOW - 900 });
        let refused = judged("RS256", changes);
        assert_eq!(
            (refused.accepted, codes(&refused)),
            (
                false,
                vec![
                    "token-issuer-not-allowed",
                    "token-audience-not-allowed",
                    "token-expired",
                    "client-application-not-allowed",
                    "required-claim-missing",
                    "scope-missing",
                ]
            ),
            "{refused:?}"
        );
        assert!(in_words(&[refused]).contains("scopes and roles: FAILS, scope-missing"));
        // What is not signed as the policy wants it says nothing, so nothing else of it is reported.
        let refused = judged("PS256", json!({ "aud": "stock" }));
        assert_eq!(codes(&refused), ["token-algorithm-not-allowed"]);
    }

    #[test]
    fn a_route_without_a_token_policy_judges_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = "routes: [ { name: ping, match: { path: / }, anonymous: true, respond: { status: 200 } } ]";
        write_all(folder.path(), &[("entrada.yaml", config)]);

        let error = judge(&folder.path().join("entrada.yaml"), "ping", "a.b.c", &clock()).expect_err("nothing judges");

        assert!(error.to_string().contains("neither validate-azure-ad-token nor validate-jwt"), "{error}");
    }
}

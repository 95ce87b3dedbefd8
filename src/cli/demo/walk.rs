//! The demo's requests, with their expected and actual outcomes.

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use super::{
    backend::ReceivedRequest,
    environment::{Environment, PARTNER},
};

/// An office of Contoso's, in the demo's address set.
const OFFICE: &str = "203.0.113.7";
/// An address outside of it.
const ELSEWHERE: &str = "198.51.100.77";

/// One request of the demo.
struct Step {
    /// The description of the request.
    title: &'static str,
    method: Method,
    path: &'static str,
    /// The caller's address; absent: the backend is called directly, bypassing the gateway.
    from: Option<&'static str>,
    headers: Vec<(&'static str, String)>,
    status: u16,
    verdict: Verdict,
}

/// A check of what a backend received: returns the note for the table, or the fault.
type Holds = dyn Fn(&ReceivedRequest) -> Result<String, String>;

/// The expected outcome of a request.
enum Verdict {
    /// A backend receives it, and this check passes: it returns the note for the table, or the fault.
    Allowed(Box<Holds>),
    /// The gateway refuses with this code, and no backend receives anything.
    Refused(&'static str),
    /// The backend itself refuses.
    RefusedByBackend,
}

/// The actual outcome of a request.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) title: &'static str,
    pub(super) request: String,
    pub(super) status: u16,
    /// True if it was admitted.
    pub(super) allowed: bool,
    /// The reason code of a refusal, or what the backend received.
    pub(super) note: String,
    /// The deviation from the expected outcome, if any.
    pub(super) unexpected: Option<String>,
}

impl Outcome {
    pub(super) const fn is_as_expected(&self) -> bool {
        self.unexpected.is_none()
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "title": self.title,
            "request": self.request,
            "status": self.status,
            "decision": if self.allowed { "allow" } else { "deny" },
            "note": self.note,
            "as_expected": self.is_as_expected(),
            "unexpected": self.unexpected,
        })
    }
}

/// Sends all requests; of the one that `broken` names, a wrong outcome is expected.
pub(super) async fn walk(environment: &Environment, broken: Option<usize>) -> anyhow::Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for (index, mut step) in steps(environment).into_iter().enumerate() {
        if broken == Some(index + 1) {
            step.status = 418;
        }
        outcomes.push(take(environment, &step).await.with_context(|| format!("the demo cannot ask: {}", step.title))?);
    }
    Ok(outcomes)
}

async fn take(environment: &Environment, step: &Step) -> anyhow::Result<Outcome> {
    // What a backend saw before is not what this request made it see.
    drop((environment.orders.take(), environment.internal.take()));
    let address = if step.from.is_some() { environment.gateway } else { environment.internal.address };
    let mut request = environment.http.request(step.method.clone(), format!("http://{address}{}", step.path));
    if let Some(from) = step.from {
        request = request.header("X-Forwarded-For", from);
    }
    for (name, value) in &step.headers {
        request = request.header(*name, value);
    }
    let answer = request.send().await?;
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_slice(&answer.bytes().await?).unwrap_or_default();
    let code = body["code"].as_str().map(ToOwned::to_owned);
    let seen = environment.orders.take().or_else(|| environment.internal.take());

    let found = match (&step.verdict, &seen) {
        (Verdict::Allowed(holds), Some(seen)) => holds(seen),
        (Verdict::Allowed(_), None) => Err("no backend saw it".to_owned()),
        (Verdict::Refused(expected), None) if code.as_deref() == Some(expected) => Ok((*expected).to_owned()),
        (Verdict::Refused(expected), None) => Err(format!("the code should be {expected}")),
        (Verdict::Refused(_), Some(_)) => Err("a backend saw it".to_owned()),
        (Verdict::RefusedByBackend, _) => Ok(format!("the backend: {}", body["refused"].as_str().unwrap_or("no reason"))),
    };
    let unexpected = match &found {
        Ok(_) if status != step.status => Some(format!("the status should be {}", step.status)),
        Ok(_) => None,
        Err(why) => Some(why.clone()),
    };
    Ok(Outcome {
        title: step.title,
        request: format!("{} {}", step.method, step.path),
        status,
        allowed: status < 400,
        note: found.unwrap_or_else(|_| code.unwrap_or_else(|| "let through".to_owned())),
        unexpected,
    })
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn allowed(holds: impl Fn(&ReceivedRequest) -> Result<String, String> + 'static) -> Verdict {
    Verdict::Allowed(Box::new(holds))
}

/// Returns requests with every kind of outcome.
fn steps(environment: &Environment) -> Vec<Step> {
    let tenant = &environment.tenant;
    let reader = || tenant.token().user("nia").audience("api://orders").scopes(["Orders.Read"]);
    let daemon = |roles: &[&str]| tenant.token().app(PARTNER).audience("api://orders").roles(roles.iter().copied());
    let with_token = |token: String| vec![("Authorization", bearer(&token))];
    let get = |title, path, headers, status, verdict| Step {
        title,
        method: Method::GET,
        path,
        from: Some(OFFICE),
        headers,
        status,
        verdict,
    };
    let refused = |title, headers, status, code| get(title, "/orders/17", headers, status, Verdict::Refused(code));

    let (nias, legacy) = (reader().sign(), tenant.token().user("nia").audience("api://legacy").sign());
    let kept = nias.clone();
    let moved = legacy.clone();
    vec![
        get(
            "Nia reads an order",
            "/orders/17",
            with_token(nias.clone()),
            200,
            allowed(move |seen| {
                if seen.bearer() == Some(&kept) {
                    Ok("her own token goes on to the backend".to_owned())
                } else {
                    Err("the token did not go on".to_owned())
                }
            }),
        ),
        get(
            "a partner's daemon reads an order",
            "/orders/17",
            with_token(daemon(&["Orders.Read"]).sign()),
            200,
            allowed(|seen| {
                seen.bearer()
                    .map(|_| "its role counts, where a user needs a scope".to_owned())
                    .ok_or_else(|| "the token did not go on".to_owned())
            }),
        ),
        Step {
            method: Method::POST,
            ..get(
                "a partner's daemon imports orders",
                "/orders/import",
                with_token(daemon(&["Orders.ReadWrite"]).sign()),
                200,
                allowed(|seen| {
                    if seen.headers.contains_key("authorization") {
                        Err("its token went on".to_owned())
                    } else {
                        Ok("its token stays at the gateway".to_owned())
                    }
                }),
            )
        },
        get(
            "Nia comes through application proxy",
            "/legacy/home",
            vec![("Authorization2", bearer(&legacy))],
            200,
            allowed(move |seen| {
                if seen.bearer() == Some(&moved) && !seen.headers.contains_key("authorization2") {
                    Ok("the token moved from Authorization2 to Authorization".to_owned())
                } else {
                    Err("the token did not move".to_owned())
                }
            }),
        ),
        get(
            "the same, for a backend that wants a name",
            "/legacy/home",
            vec![("Authorization2", bearer(&legacy))],
            200,
            allowed(|seen| remote_user(seen, "X-Remote-User: nokafor, from her token")),
        ),
        get(
            "she forges the identity header",
            "/legacy/home",
            vec![
                ("Authorization2", bearer(&legacy)),
                ("X-Remote-User", "admin".to_owned()),
                ("x_remote_user", "admin".to_owned()),
            ],
            200,
            allowed(|seen| remote_user(seen, "the backend sees nokafor all the same")),
        ),
        get(
            "a backend that knows only the gateway",
            "/internal/stock",
            with_token(nias.clone()),
            200,
            allowed(|seen| {
                seen.bearer()
                    .map(|_| "it checked the gateway's own token, got by certificate".to_owned())
                    .ok_or_else(|| "no token was attached".to_owned())
            }),
        ),
        Step {
            from: None,
            ..get(
                "the same backend, asked past the gateway",
                "/internal/stock",
                with_token(nias.clone()),
                401,
                Verdict::RefusedByBackend,
            )
        },
        Step {
            from: Some(ELSEWHERE),
            ..refused("Nia, from an address outside the list", with_token(nias.clone()), 403, "caller-address-not-allowed")
        },
        refused("no token", Vec::new(), 401, "token-missing"),
        refused("an expired token", with_token(reader().expired().sign()), 401, "token-expired"),
        refused(
            "a token for another API",
            with_token(reader().audience("api://payroll").sign()),
            401,
            "token-audience-not-allowed",
        ),
        refused("a token of another tenant", with_token(reader().tenant("fabrikam").sign()), 401, "token-issuer-not-allowed"),
        refused("a token with a forged signature", with_token(reader().wrong_key().sign()), 401, "token-signature-invalid"),
        refused("an ID token", with_token(reader().id_token().sign()), 401, "token-not-access-token"),
        refused("a user without the scope", with_token(reader().scopes(["Orders.List"]).sign()), 403, "scope-missing"),
        Step {
            method: Method::POST,
            ..get(
                "a daemon without the role",
                "/orders/import",
                with_token(daemon(&["Orders.Read"]).sign()),
                403,
                Verdict::Refused("role-missing"),
            )
        },
        get(
            "Otto, who has no account name",
            "/legacy/home",
            vec![("Authorization2", bearer(&tenant.token().user("otto").audience("api://legacy").sign()))],
            403,
            Verdict::Refused("header-value-unavailable"),
        ),
        get("a path that no route serves", "/payroll", with_token(nias), 404, Verdict::Refused("no-route")),
        Step {
            method: Method::DELETE,
            ..refused("a method that the route does not serve", Vec::new(), 405, "method-not-allowed")
        },
    ]
}

/// Checks that the account name comes from the token, once, under every spelling.
fn remote_user(seen: &ReceivedRequest, note: &str) -> Result<String, String> {
    let names = seen.all("x-remote-user");
    if names == ["nokafor"] { Ok(note.to_owned()) } else { Err(format!("the backend sees {names:?}")) }
}

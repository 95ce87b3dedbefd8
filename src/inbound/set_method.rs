//! Changes the method of the upstream's request.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/set-method.yaml")]
//! ```
//!
//! The body stays as it is. `HEAD` cannot be set, since its response has no body, nor can methods that are never forwarded. An expression
//! that makes no other method refuses with [`Reason::NotAuthorized`].

use http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::build_context::BuildContext;
use super::settings::{DependsOn, PolicySettings, Subject};
use crate::{
    exchange::Exchange,
    expression::{EvaluationError, Expression, Facts, Template},
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::Place,
    upstream::UpstreamRequest,
};

/// Methods that cannot be set: those that are never forwarded, and the one whose response has no body.
const NEVER: [&str; 4] = ["CONNECT", "TRACE", "TRACK", "HEAD"];

/// Changes the method of the upstream's request.
#[derive(Debug)]
pub enum SetMethod {
    /// Always to this one.
    Fixed(Method),
    /// To the one that the expression makes.
    Made(Box<Expression>),
}

/// Settings of `set-method`: a method, or an expression `@(…)` that makes one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SetMethodConfig(
    /// The method, or the expression.
    pub String,
);

impl PolicySettings for SetMethodConfig {
    fn depends_on(&self) -> DependsOn {
        DependsOn::Captures
    }

    fn subject(&self) -> Subject {
        Subject::new("the method", [self.0.clone()])
    }
}

impl SetMethod {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.apply(exchange, incoming, outgoing)?)
    }

    pub(crate) fn build(config: &SetMethodConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        match context.template(&config.0, place)? {
            Template::Expression(expression) => Some(Self::Made(expression)),
            Template::Literal(name) => match method(&name) {
                Some(method) => Some(Self::Fixed(method)),
                None => {
                    let cure = "write a method in upper case, as POST; CONNECT, TRACE, TRACK and HEAD cannot be set";
                    context.faults.error(place, format!("`{name}` is not a method to send"), cure);
                    None
                }
            },
        }
    }

    pub(crate) fn apply(
        &self,
        exchange: &Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        outgoing.method = self.method(&exchange.facts(incoming))?;
        Ok(())
    }

    fn method(&self, facts: &Facts<'_>) -> Result<Method, NoMethod> {
        match self {
            Self::Fixed(method) => Ok(method.clone()),
            Self::Made(expression) => method(&expression.text(facts)?).ok_or(NoMethod::Unfit),
        }
    }
}

/// Returns the method of this name, if it can be set. Methods in lower case are other ones (RFC 9110, section 9.1), and never meant.
fn method(name: &str) -> Option<Method> {
    let is_plain = !name.is_empty() && name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-');
    (is_plain && !NEVER.contains(&name)).then(|| Method::from_bytes(name.as_bytes()).ok()).flatten()
}

/// The reason why there is no method.
#[derive(Debug, thiserror::Error)]
enum NoMethod {
    #[error("the expression that makes the method has no value")]
    Unavailable(#[from] EvaluationError),
    #[error("the expression makes no method that can be set")]
    Unfit,
}

impl From<NoMethod> for Refusal {
    fn from(error: NoMethod) -> Self {
        Self::new(Reason::NotAuthorized, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{expression::tests::World, inbound::testing::Building};

    fn built(text: &str) -> Result<SetMethod, Vec<String>> {
        Building::default().build(|place, context| SetMethod::build(&SetMethodConfig(text.to_owned()), place, context))
    }

    #[test]
    fn a_method_is_written_or_made() {
        for (text, expected) in [
            ("POST", Some("POST")),
            ("M-SEARCH", Some("M-SEARCH")),
            ("@(request.method == 'GET' ? 'PUT' : 'POST')", Some("PUT")),
            ("@('HE' + 'AD')", None),
            ("@('post')", None),
            ("@('CONNECT')", None),
            ("@('GET / HTTP/1.1')", None),
            ("@('')", None),
            ("@(request.headers['x-method'])", None),
        ] {
            let method = built(text).expect(text).method(&World::new().facts());
            assert_eq!(method.as_ref().ok().map(Method::as_str), expected, "{text}");
        }
    }

    #[test]
    fn a_method_that_cannot_be_set_is_an_error_at_load() {
        for text in ["HEAD", "TRACE", "CONNECT", "post", "", "A B", "@(response.status)"] {
            assert_eq!(built(text).expect_err(text).len(), 1, "{text}");
        }
    }
}

//! Conditions about audit records: the same language, and each field is a name by itself.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value};

use super::{Expression, ExpressionError, Facts, Variables, check::Subject};
use crate::{
    base::clock::Clock,
    connection::Scheme,
    request::{Captures, IncomingRequest},
};

/// The name of the record as a whole.
const WHOLE: &str = "record";

/// A condition about audit records.
#[derive(Debug)]
pub(crate) struct RecordCondition {
    expression: Expression,
    /// No expression about a record can name anything of it.
    request: IncomingRequest,
    clock: Clock,
}

impl RecordCondition {
    /// Parses and checks a condition, as `code == "role-missing" && status >= 400`.
    ///
    /// # Errors
    /// Returns the first fault only.
    pub(crate) fn parse(text: &str) -> Result<Self, ExpressionError> {
        let expression = Expression::parse_about(text, Subject::Record)?.into_condition()?;
        let parts = http::Request::builder().uri("/").header(http::header::HOST, "record.invalid").body(());
        let unread = || ExpressionError {
            column: 1,
            message: "the condition cannot be evaluated".to_owned(),
            cure: String::new(),
            unknown_name: false,
        };
        let (parts, ()) = parts.map_err(|_| unread())?.into_parts();
        let request = IncomingRequest::read(parts, None).map_err(|_| unread())?;
        Ok(Self { expression, request, clock: Clock::system() })
    }

    /// Returns whether a record satisfies the condition. One that lacks a field which the condition reads does not.
    pub(crate) fn holds(&self, record: &Map<String, Value>) -> bool {
        let mut variables = Variables::default();
        for name in self.expression.variables() {
            let value = if name == WHOLE { Some(Value::Object(record.clone())) } else { record.get(name).cloned() };
            // A record that holds more than an expression may read does not satisfy any.
            if value.is_some_and(|value| variables.set(&Arc::from(name), value).is_err()) {
                return false;
            }
        }
        let facts = Facts {
            request: &self.request,
            caller: IpAddr::from([0, 0, 0, 0]),
            certificate: None,
            token: None,
            partner: None,
            named_tokens: &[],
            captures: &Captures::default(),
            route: None,
            status: None,
            response_headers: None,
            error: None,
            scheme: Scheme::Http,
            id: "",
            variables: &variables,
            clock: &self.clock,
            known: None,
        };
        self.expression.holds(&facts).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_reads_the_fields_of_a_record() {
        let record = json!({
            "decision": "deny", "code": "role-missing", "status": 403, "roles": ["a", "b"], "caller": "203.0.113.7", "path": "/orders/17",
            "config": { "digest": "d1", "generation": 3 }, "complete": true,
        });
        for (condition, expected) in [
            (r#"code == "role-missing""#, true),
            ("code == 'scope-missing'", false),
            ("status >= 400 && status < 500", true),
            ("complete && !(decision == 'allow')", true),
            ("roles.exists(role, role == 'b')", true),
            ("'c' in roles", false),
            ("path.startsWith('/orders/')", true),
            ("cidr('203.0.113.0/24', caller)", true),
            ("config.generation == 3", true),
            ("config['digest'] == 'd1'", true),
            ("has(record.code) && !has(record.hint)", true),
            // What is absent satisfies nothing.
            ("hint == 'x'", false),
            ("hint != 'x'", false),
            ("request == 'x'", false),
        ] {
            let parsed = RecordCondition::parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
            assert_eq!(parsed.holds(record.as_object().unwrap()), expected, "{condition}");
        }
    }

    #[test]
    fn what_is_no_condition_is_a_fault() {
        for (condition, expected) in
            [("code ==", ""), ("'text'", "a condition is true or false"), ("frobnicate(code)", "no function")]
        {
            let fault = RecordCondition::parse(condition).unwrap_err();
            assert!(fault.message.contains(expected), "{condition}: {fault}");
        }
    }
}

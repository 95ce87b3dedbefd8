//! Admits requests that bear a header field.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/check-header.yaml")]
//! ```
//!
//! The field must be there exactly once, and its whole value must be one of those listed: a repeated field is read by one program
//! as its first line and by another as its last. Refuses with [`Reason::HeaderCheckFailed`], with the status and the sentence that
//! the policy was given.

use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Scope;
use crate::{
    config::{Faults, Place},
    refusal::{Reason, Refusal},
    request::IncomingRequest,
};

/// Settings of `check-header`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckHeaderConfig {
    /// The field's name.
    pub name: String,
    /// The accepted values, whole; none means that the field must be there, once.
    #[serde(default)]
    pub values: Vec<String>,
    /// Compares the values without case. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
    /// The status of the refusal. Default: 401.
    pub failed_check_httpcode: Option<u16>,
    /// The sentence of the refusal.
    pub failed_check_error_message: Option<String>,
}

/// Admits requests that bear a header field.
#[derive(Debug)]
pub struct CheckHeader {
    name: HeaderName,
    values: Vec<Box<[u8]>>,
    ignore_case: bool,
    status: Option<StatusCode>,
    message: Option<Box<str>>,
}

impl CheckHeader {
    pub(crate) fn build(config: &CheckHeaderConfig, place: &Place, scope: &mut Scope<'_>) -> Option<Self> {
        let before = scope.faults.errors();
        let name = HeaderName::from_bytes(config.name.as_bytes()).ok();
        if name.is_none() {
            let message = format!("`{}` is no header's name", config.name);
            scope.faults.error(&place.key("name"), message, "names have letters, digits and `-`");
        }
        for (index, value) in config.values.iter().enumerate() {
            if value.trim() != value || value.chars().any(char::is_control) {
                let message = "no header field has a value with blanks around it or control characters";
                scope.faults.error(&place.key("values").index(index), message, "write the value as it is sent");
            }
        }
        let status =
            config.failed_check_httpcode.and_then(|code| error_status(code, &place.key("failed-check-httpcode"), scope.faults));
        if scope.faults.errors() > before {
            return None;
        }
        Some(Self {
            name: name?,
            values: config.values.iter().map(|value| value.as_bytes().into()).collect(),
            ignore_case: config.ignore_case,
            status,
            message: config.failed_check_error_message.as_deref().map(Into::into),
        })
    }

    pub(crate) fn check(&self, incoming: &IncomingRequest) -> Result<(), Refusal> {
        self.judge(incoming).map_err(|error| {
            let mut refusal = Refusal::new(Reason::HeaderCheckFailed, error);
            refusal.status = self.status;
            refusal.message.clone_from(&self.message);
            refusal
        })
    }

    fn judge(&self, incoming: &IncomingRequest) -> Result<(), CheckFailed> {
        let mut lines = incoming.headers.get_all(&self.name).iter();
        let value = lines.next().ok_or_else(|| CheckFailed::Absent(self.name.clone()))?.as_bytes();
        if lines.next().is_some() {
            return Err(CheckFailed::Repeated(self.name.clone()));
        }
        let accepted = |one: &[u8]| if self.ignore_case { value.eq_ignore_ascii_case(one) } else { value == one };
        if self.values.is_empty() || self.values.iter().any(|one| accepted(one)) {
            Ok(())
        } else {
            Err(CheckFailed::Other(self.name.clone()))
        }
    }
}

/// The status of a refusal, as a policy may choose it.
pub(super) fn error_status(code: u16, place: &Place, faults: &mut Faults) -> Option<StatusCode> {
    match StatusCode::from_u16(code) {
        Ok(status) if status.is_client_error() || status.is_server_error() => Some(status),
        _ => {
            faults.error(place, format!("{code} is no status of a refusal"), "write one from 400 to 599");
            None
        }
    }
}

/// Why the field is not accepted. Its value is the caller's and in no log.
#[derive(Debug, thiserror::Error)]
pub enum CheckFailed {
    /// The field is not there.
    #[error("{0} was not sent")]
    Absent(HeaderName),
    /// The field is there more than once.
    #[error("{0} was sent more than once")]
    Repeated(HeaderName),
    /// The field's value is none of those listed.
    #[error("{0} has another value than those accepted")]
    Other(HeaderName),
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::inbound::testing::Building;

    fn config(values: &[&str], ignore_case: bool) -> CheckHeaderConfig {
        CheckHeaderConfig {
            name: "X-Door".to_owned(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            ignore_case,
            failed_check_httpcode: None,
            failed_check_error_message: None,
        }
    }

    fn built(config: &CheckHeaderConfig) -> Result<CheckHeader, Vec<String>> {
        Building::default().build(|place, scope| CheckHeader::build(config, place, scope))
    }

    fn incoming(lines: &[&str]) -> IncomingRequest {
        let mut request = Request::builder().uri("/").header("host", "api.contoso.example");
        for line in lines {
            request = request.header("x-door", *line);
        }
        IncomingRequest::read(request.body(()).expect("a request").into_parts().0, None).expect("readable")
    }

    #[test]
    fn admits_one_whole_value_and_nothing_else() {
        for (values, ignore_case, lines, admitted) in [
            (&["a"][..], false, &["a"][..], true),
            (&["a", "b"], false, &["b"], true),
            (&["a"], false, &["A"], false),
            (&["a"], true, &["A"], true),
            (&["a"], false, &["b"], false),
            (&["a"], false, &["a, a"], false),
            (&["a"], false, &["ab"], false),
            (&["a"], false, &["a", "a"], false),
            (&["a"], false, &["a", "b"], false),
            (&["a"], false, &[], false),
            (&["a"], false, &[""], false),
            (&[], false, &["whatever"], true),
            (&[], false, &[""], true),
            (&[], false, &["one", "two"], false),
            (&[], false, &[], false),
        ] {
            let policy = built(&config(values, ignore_case)).expect("valid");

            let answer = policy.check(&incoming(lines));

            assert_eq!(answer.is_ok(), admitted, "{values:?} {lines:?}");
            if let Err(refusal) = answer {
                assert_eq!((refusal.reason, refusal.status()), (Reason::HeaderCheckFailed, StatusCode::UNAUTHORIZED));
            }
        }
    }

    #[test]
    fn answers_as_it_was_told() {
        let config = CheckHeaderConfig {
            failed_check_httpcode: Some(403),
            failed_check_error_message: Some("By the door, please.".to_owned()),
            ..config(&["a"], false)
        };

        let refusal = built(&config).expect("valid").check(&incoming(&["b"])).expect_err("another value");

        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal.message.as_deref(), Some("By the door, please."));
        assert!(!refusal.cause.expect("a cause").to_string().contains("\"b\""));
    }

    #[test]
    fn reports_all_that_is_wrong() {
        let config = CheckHeaderConfig {
            name: "X Door".to_owned(),
            values: vec![" a".to_owned(), "b\n".to_owned()],
            failed_check_httpcode: Some(200),
            ..config(&[], false)
        };

        assert_eq!(built(&config).expect_err("four faults").len(), 4);
    }
}

//! Questions of the `auth_request` of nginx, whose config writes the five fields; it knows two refusals, 401 and 403.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    answer::{Answer, Refused},
    question::{Head, Question, QuestionFault},
    traefik,
};

/// The field that holds the code of a refusal, for `error_page`.
const CODE: HeaderName = HeaderName::from_static("x-entrada-code");
/// The field that holds the status that other proxies would have sent.
const STATUS: HeaderName = HeaderName::from_static("x-entrada-status");

/// Reads a question.
pub(super) fn question(head: Head) -> Result<Question, QuestionFault> {
    traefik::question(head)
}

/// Makes the answer to a question about a request that is refused: any other status would become a 500.
pub(super) fn refuse(refused: Refused<'_>) -> Answer {
    let status = if refused.status == StatusCode::UNAUTHORIZED { refused.status } else { StatusCode::FORBIDDEN };
    let (code, told) = (refused.code, refused.status);
    let mut answer = Answer::refusal(refused);
    answer.status = status;
    if let Ok(code) = HeaderValue::from_str(code) {
        answer.headers.insert(&CODE, &code);
    }
    answer.headers.insert(&STATUS, &told.as_u16().into());
    answer
}

//! Questions of Traefik's `forwardAuth`: GET on a fixed address.

use http::request::Parts;

use super::{
    forwarded,
    question::{Question, QuestionFault},
};

/// Reads a question.
pub(super) fn question(parts: Parts) -> Result<Question, QuestionFault> {
    if parts.uri.query().is_some() {
        return Err(QuestionFault::Query);
    }
    forwarded::question(parts)
}

#[cfg(test)]
mod tests {
    use super::{
        super::forwarded::tests::{FIVE, asked},
        *,
    };

    #[test]
    fn the_address_of_questions_has_no_query() {
        assert!(question(asked("/decide", &FIVE)).is_ok());
        assert!(matches!(question(asked("/decide?x-forwarded-uri=/open", &FIVE)), Err(QuestionFault::Query)));
    }
}

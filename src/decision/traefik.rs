//! Questions of Traefik's `forwardAuth`: GET on a fixed address.

use super::{
    forwarded,
    question::{Head, Question, QuestionFault},
};

/// Reads a question.
pub(super) fn question(head: Head) -> Result<Question, QuestionFault> {
    if head.uri.query().is_some() {
        return Err(QuestionFault::Query);
    }
    forwarded::question(head)
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

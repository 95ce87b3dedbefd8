//! Questions of Caddy's `forward_auth`: GET on a fixed address, to which Caddy appends the query of the request.

use super::{
    answer::{Admitted, Answer, Told, listed},
    changes::Untellable,
    forwarded,
    question::{Head, Question, QuestionFault},
};

/// Reads a question. A parameter of the address could be repeated by a client, so nothing in it is read but whether it is the request's own.
pub(super) fn question(head: Head) -> Result<Question, QuestionFault> {
    let asked_with = head.uri.query().map(str::to_owned);
    let question = forwarded::question(head)?;
    let own = question.target.query();
    if asked_with.as_deref().is_some_and(|query| Some(query) != own) {
        return Err(QuestionFault::Query);
    }
    Ok(question)
}

/// Makes the answer to a question about an admitted request. A name of the list that is left out becomes the text of its placeholder in
/// Caddy 2.6; an empty value becomes nothing in later versions, and an empty field in that one.
pub(super) fn admit(admitted: &Admitted<'_>, told: &Told) -> Result<Answer, Untellable> {
    listed(admitted, told, told.empty.clone()).map(Answer::admission)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::{
        super::forwarded::tests::{FIVE, asked},
        *,
    };
    use crate::base::fields::Fields;

    #[test]
    fn every_name_of_the_list_is_answered() {
        let names = ["x-user", "x-groups"].map(HeaderName::from_static);
        let header = Fields::from_iter([(names[0].clone(), HeaderValue::from_static("nia"))]);

        let told = Told::new(names.into(), Vec::new());
        let answer = admit(&Admitted { received: &Fields::default(), header: &header }, &told).unwrap();

        assert_eq!(answer.headers.lines(), ["x-groups: ", "x-user: nia", "cache-control: no-store"]);
    }

    #[test]
    fn the_query_is_the_requests_own() {
        for (target, taken) in [("/decide?a=b,c", true), ("/decide", true), ("/decide?x=1&a=b,c", false), ("/decide?", false)] {
            assert_eq!(question(asked(target, &FIVE)).is_ok(), taken, "{target}");
        }
    }
}

//! The comparison of what is expected with what was found.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use regex::Regex;

use crate::{
    config::test_case::{TestTokenKind, TestVerdict},
    entra::token::TokenKind,
    offline::{Outcome, Verdict as OfflineVerdict},
};

/// The expectation of a text.
#[derive(Clone, Debug)]
pub(super) enum TextExpectation {
    /// There is none.
    Absent,
    /// There is one, and it is not empty.
    Present,
    /// It is this one.
    Is(String),
    /// It matches the pattern.
    Matches(Regex),
}

impl TextExpectation {
    /// Reads `absent`, `present`, `/pattern/`, or the text itself.
    pub(super) fn read(written: &str) -> Result<Self, regex::Error> {
        let pattern = written.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).filter(|pattern| !pattern.is_empty());
        Ok(match (written, pattern) {
            ("absent", _) => Self::Absent,
            ("present", _) => Self::Present,
            (_, Some(pattern)) => Self::Matches(Regex::new(pattern)?),
            (text, None) => Self::Is(text.to_owned()),
        })
    }

    /// Returns the text itself, if there is only one that fits.
    pub(super) fn literal(&self) -> Option<&str> {
        if let Self::Is(text) = self { Some(text) } else { None }
    }

    fn holds(&self, found: Option<&str>) -> bool {
        let found = found.filter(|found| !found.is_empty());
        match self {
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Is(text) => found.unwrap_or_default() == text,
            Self::Matches(pattern) => found.is_some_and(|found| pattern.is_match(found)),
        }
    }

    fn wanted(&self) -> String {
        match self {
            Self::Absent => "absent".to_owned(),
            Self::Present => "present".to_owned(),
            Self::Is(text) => text.clone(),
            Self::Matches(pattern) => format!("/{pattern}/"),
        }
    }
}

/// The expectation of one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Expectation {
    pub(super) verdict: Option<TestVerdict>,
    pub(super) status: Option<u16>,
    pub(super) code: Option<TextExpectation>,
    pub(super) policy: Option<TextExpectation>,
    pub(super) would_deny: Option<TextExpectation>,
    pub(super) route: Option<TextExpectation>,
    pub(super) upstream: Option<TextExpectation>,
    pub(super) upstream_method: Option<TextExpectation>,
    pub(super) upstream_path: Option<TextExpectation>,
    pub(super) upstream_headers: Vec<(HeaderName, TextExpectation)>,
    pub(super) headers: Vec<(HeaderName, TextExpectation)>,
    pub(super) body: Option<TextExpectation>,
    pub(super) caller: Option<IpAddr>,
    pub(super) partner: Option<TextExpectation>,
    pub(super) tenant: Option<TextExpectation>,
    pub(super) client: Option<TextExpectation>,
    pub(super) kind: Option<TestTokenKind>,
    pub(super) subject: Option<TextExpectation>,
    pub(super) object_id: Option<TextExpectation>,
}

/// The expectation of the requests of a step.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    pub(super) each: Expectation,
    /// Of the first so many requests.
    pub(super) first: Vec<(u32, Expectation)>,
    pub(super) last: Option<Expectation>,
}

impl Expected {
    /// Returns the expectations of the request with this index, of so many.
    pub(super) fn of(&self, index: u32, times: u32) -> impl Iterator<Item = &Expectation> {
        let first = self.first.iter().filter(move |(count, _)| index < *count).map(|(_, expectation)| expectation);
        let last = self.last.as_ref().filter(move |_| index + 1 == times);
        std::iter::once(&self.each).chain(first).chain(last)
    }
}

/// A fact that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The key of the expectation: `code`, `upstream-headers.X-Remote-User`.
    pub(crate) field: String,
    pub(crate) wanted: String,
    pub(crate) found: String,
}

impl Expectation {
    /// Compares what is expected with the outcome of a request.
    pub(super) fn differences(&self, outcome: &Outcome) -> Vec<Difference> {
        let mut found = Comparison { outcome, differences: Vec::new() };
        self.compare_verdict(&mut found);
        self.compare_upstream(&mut found);
        self.compare_response(&mut found);
        self.compare_identity(&mut found);
        found.differences
    }

    fn compare_verdict(&self, found: &mut Comparison<'_>) {
        let outcome = found.outcome;
        if let Some(wanted) = self.verdict {
            let holds = match wanted {
                TestVerdict::Allow => outcome.verdict == OfflineVerdict::Allow,
                TestVerdict::Refuse => matches!(outcome.verdict, OfflineVerdict::Refuse | OfflineVerdict::Fault),
                TestVerdict::Answer => outcome.verdict == OfflineVerdict::Answer,
            };
            let word = match wanted {
                TestVerdict::Allow => "allow",
                TestVerdict::Refuse => "refuse",
                TestVerdict::Answer => "answer",
            };
            found.note(holds, "verdict", word, || verdict(outcome));
        }
        found.text("code", self.code.as_ref(), outcome.code.as_deref(), true);
        found.text("policy", self.policy.as_ref(), outcome.policy.as_deref(), true);
        let would_deny = self.would_deny.as_ref().map(|_| outcome.would_deny.join(", "));
        found.text("would-deny", self.would_deny.as_ref(), would_deny.as_deref(), false);
        found.text("route", self.route.as_ref(), outcome.route.as_deref(), false);
        if let Some(status) = self.status {
            let own = outcome.status.as_u16();
            found.note(own == status, "status", &status.to_string(), || {
                outcome.code.as_ref().map_or_else(|| own.to_string(), |code| format!("{own} {code}"))
            });
        }
    }

    fn compare_upstream(&self, found: &mut Comparison<'_>) {
        let upstream = found.outcome.upstream.as_ref();
        found.text("upstream", self.upstream.as_ref(), upstream.map(|head| &*head.upstream), true);
        found.text("upstream-method", self.upstream_method.as_ref(), upstream.map(|head| head.method.as_str()), true);
        let path = upstream.map(|head| path(&head.url));
        found.text("upstream-path", self.upstream_path.as_ref(), path, true);
        for (name, wanted) in &self.upstream_headers {
            match upstream {
                Some(head) => {
                    found.field(&format!("upstream-headers.{name}"), wanted, &head.headers, name);
                }
                // Nothing is absent from a request that was not sent.
                None => found.note(false, &format!("upstream-headers.{name}"), &wanted.wanted(), || verdict(found.outcome)),
            }
        }
    }

    fn compare_response(&self, found: &mut Comparison<'_>) {
        let response = &found.outcome.response;
        for (name, wanted) in &self.headers {
            found.field(&format!("headers.{name}"), wanted, response.headers(), name);
        }
        let body = self.body.as_ref().map(|_| String::from_utf8_lossy(response.body()));
        found.text("body", self.body.as_ref(), body.as_deref(), false);
    }

    fn compare_identity(&self, found: &mut Comparison<'_>) {
        let outcome = found.outcome;
        if let Some(caller) = self.caller {
            let own = outcome.caller.as_ref().map(|caller| caller.address);
            found.note(own == Some(caller), "identity.caller", &caller.to_string(), || {
                own.map_or_else(|| verdict(outcome), |own| own.to_string())
            });
        }
        let token = outcome.token.as_deref();
        found.text("identity.partner", self.partner.as_ref(), outcome.partner.as_deref(), false);
        found.text("identity.tenant", self.tenant.as_ref(), token.map(|token| &*token.tenant), false);
        found.text("identity.client", self.client.as_ref(), token.and_then(|token| token.client.as_deref()), false);
        found.text("identity.subject", self.subject.as_ref(), token.and_then(|token| token.subject.as_deref()), false);
        found.text("identity.object-id", self.object_id.as_ref(), token.and_then(|token| token.object_id.as_deref()), false);
        if let Some(kind) = self.kind {
            let own = token.map(|token| if token.kind == TokenKind::App { TestTokenKind::App } else { TestTokenKind::User });
            found.note(own == Some(kind), "identity.kind", word(kind), || own.map_or("no token", word).to_owned());
        }
    }
}

const fn word(kind: TestTokenKind) -> &'static str {
    match kind {
        TestTokenKind::User => "user",
        TestTokenKind::App => "app",
    }
}

struct Comparison<'a> {
    outcome: &'a Outcome,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn note(&mut self, holds: bool, field: &str, wanted: &str, found: impl FnOnce() -> String) {
        if !holds {
            self.differences.push(Difference { field: field.to_owned(), wanted: wanted.to_owned(), found: found() });
        }
    }

    /// Compares a header field. The values of secrets are compared, and not shown.
    fn field(&mut self, what: &str, wanted: &TextExpectation, headers: &HeaderMap, name: &HeaderName) {
        let values = field(headers, name);
        let is_secret = headers.get_all(name).iter().any(HeaderValue::is_sensitive) || *name == header::AUTHORIZATION;
        self.note(wanted.holds(values.as_deref()), what, &wanted.wanted(), || match &values {
            Some(_) if is_secret => "***".to_owned(),
            Some(values) if !values.is_empty() => values.clone(),
            _ => "absent".to_owned(),
        });
    }

    /// Compares a text; where there is none, the verdict may say more than its absence.
    fn text(&mut self, name: &str, wanted: Option<&TextExpectation>, found: Option<&str>, or_verdict: bool) {
        let Some(wanted) = wanted else { return };
        let outcome = self.outcome;
        self.note(wanted.holds(found), name, &wanted.wanted(), || match found.filter(|found| !found.is_empty()) {
            Some(found) => found.to_owned(),
            None if or_verdict => verdict(outcome),
            None => "absent".to_owned(),
        });
    }
}

/// Describes the verdict of a request.
pub(super) fn verdict(outcome: &Outcome) -> String {
    match (outcome.verdict, &outcome.upstream) {
        (OfflineVerdict::Allow, Some(head)) => format!("allowed, upstream {}", head.upstream),
        (OfflineVerdict::Allow, None) => "allowed".to_owned(),
        (OfflineVerdict::Answer, _) => format!("answered by the gateway, {}", outcome.status.as_u16()),
        (OfflineVerdict::Refuse | OfflineVerdict::Fault, _) => {
            format!("refused, {} {}", outcome.status.as_u16(), outcome.code.as_deref().unwrap_or_default())
        }
    }
}

/// Returns the values of a field on one line, if there are any.
fn field(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

/// Returns the path and query of a URL.
fn path(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_compared_whole_but_for_patterns() {
        for (written, found, holds) in [
            ("nia", Some("nia"), true),
            ("nia", Some("nia "), false),
            ("nia", None, false),
            ("absent", None, true),
            ("absent", Some(""), true),
            ("absent", Some("absent"), false),
            ("present", Some("x"), true),
            ("present", None, false),
            ("/^n.a$/", Some("nia"), true),
            ("/^n.a$/", Some("nina"), false),
            ("/.*/", None, false),
            ("/", Some("/"), true),
            ("", None, true),
        ] {
            let expectation = TextExpectation::read(written).expect("a pattern");
            assert_eq!(expectation.holds(found), holds, "{written} {found:?}");
        }
        assert!(TextExpectation::read("/(/").is_err());
    }

    #[test]
    fn expectations_of_several_requests_apply_to_theirs() {
        let status = |status| Expectation { status: Some(status), ..Expectation::default() };
        let expected = Expected { each: status(1), first: vec![(2, status(2))], last: Some(status(3)) };
        let of = |index| expected.of(index, 3).filter_map(|expectation| expectation.status).collect::<Vec<_>>();

        assert_eq!([of(0), of(1), of(2)], [vec![1, 2], vec![1, 2], vec![1, 3]]);
    }
}

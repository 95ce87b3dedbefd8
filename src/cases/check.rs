//! The check of cases before they run: what they name exists, and what they expect can be compared.

mod request;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use http::HeaderName;

use super::{
    expectation::{Expectation, Expected, TextExpectation},
    token::WantedToken,
};
use crate::{
    config::{
        Config, TestConfig,
        test_case::{ExpectConfig, ExpectationConfig, TestRequestConfig, TestTime, TestTokenConfig, TestVerdict},
    },
    inbound::{PolicyConfig, list},
    offline::OfflineRequest,
    refusal::Reason,
    settings::{Faults, Place, suggest},
};

/// The maximum number of times that a request is sent.
const MOST_TIMES: u32 = 1_000_000;

/// The address of callers, where nothing else is written: one of those for documentation.
const CALLER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A case, ready to run.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The file, as the command names it.
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The time at which it begins, in seconds since 1970.
    pub(crate) now: u64,
    pub(crate) steps: Vec<CaseStep>,
}

/// A request of a case.
#[derive(Clone, Debug)]
pub(crate) struct CaseStep {
    /// The time that passes before it.
    pub(crate) after: Duration,
    /// The request, without its tokens.
    pub(crate) request: OfflineRequest,
    /// Tokens, by the header field that holds them.
    pub(crate) tokens: Vec<(HeaderName, WantedToken)>,
    pub(crate) times: u32,
    pub(super) expected: Expected,
}

/// The settings that the cases of one file share.
#[derive(Clone, Debug)]
pub(super) struct FileContext<'a> {
    /// The file, as the command names it.
    pub(super) name: String,
    pub(super) now: u64,
    pub(super) from: IpAddr,
    /// The tokens of the file; a config has none.
    pub(super) tokens: Option<&'a BTreeMap<String, TestTokenConfig>>,
    /// The folder that relative paths start from.
    pub(super) base: &'a Path,
}

impl Default for FileContext<'_> {
    fn default() -> Self {
        Self { name: String::new(), now: 0, from: CALLER, tokens: None, base: Path::new("") }
    }
}

/// Finds the line of a place, with the name of its file.
pub(super) type Lines<'a> = dyn Fn(&Place) -> (String, usize) + 'a;

/// Checks cases against the config that they test.
#[derive(Debug)]
pub(super) struct Checker<'a> {
    config: &'a Config,
    /// The codes of refusals: the gateway's, and those of the config's own.
    codes: Vec<&'a str>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        let routes = config.routes.iter().map(|route| &route.inbound);
        for policies in std::iter::once(&config.inbound).chain(routes) {
            list::each(policies, &config.fragments, 0, &mut |policy| {
                if let PolicyConfig::Authorize(policy) = policy {
                    codes.extend(policy.code.as_deref());
                }
            });
        }
        Self { config, codes }
    }

    /// Reads an address of callers.
    pub(super) fn from(&self, written: Option<&str>, place: &Place, faults: &mut Faults) -> IpAddr {
        let Some(text) = written else { return CALLER };
        text.parse().unwrap_or_else(|_| {
            faults.error(place, format!("`{text}` is not an address"), "write one as 203.0.113.9 or \"2001:db8::1\"");
            CALLER
        })
    }

    /// Checks the tokens of a file, used or not.
    pub(super) fn tokens(&self, tokens: &BTreeMap<String, TestTokenConfig>, place: &Place, faults: &mut Faults) {
        let file = FileContext { tokens: Some(tokens), ..FileContext::default() };
        for (name, token) in tokens {
            self.token(token, &file, &place.key(name), faults);
        }
    }

    /// Checks cases; those with faults are left out.
    pub(super) fn cases(
        &self,
        tests: &[TestConfig],
        file: &FileContext<'_>,
        place: &Place,
        lines: &Lines<'_>,
        faults: &mut Faults,
    ) -> Vec<Case> {
        let cases = tests.iter().enumerate().filter_map(|(index, test)| {
            let errors = faults.errors();
            let case = self.case(test, file, &place.index(index), lines, faults);
            (faults.errors() == errors).then_some(case)
        });
        cases.collect()
    }

    fn case(&self, test: &TestConfig, file: &FileContext<'_>, place: &Place, lines: &Lines<'_>, faults: &mut Faults) -> Case {
        if test.name.trim().is_empty() || test.name.contains(|letter: char| letter.is_control()) {
            faults.error(&place.key("name"), "a name has one line of text", "say what the case shows");
        }
        let now = test.now.map_or(file.now, |TestTime(at)| at);
        let file = &FileContext { now, ..file.clone() };
        let first = Written {
            after: Duration::ZERO,
            request: (&test.request, place.key("request")),
            times: test.times,
            answer: test.answer.as_ref(),
            expect: &test.expect,
            place: place.clone(),
        };
        let mut steps = Vec::from_iter(self.step(&first, file, faults));
        let mut before = first.request.clone();
        for (index, step) in test.then.iter().enumerate() {
            let place = place.key("then").index(index);
            if let Some(request) = &step.request {
                before = (request, place.key("request"));
            }
            let written = Written {
                after: step.after.map_or(Duration::ZERO, |after| after.0),
                request: before.clone(),
                times: step.times,
                answer: step.answer.as_ref(),
                expect: &step.expect,
                place,
            };
            steps.extend(self.step(&written, file, faults));
        }
        let (name, line) = lines(&place.key("name"));
        Case { name: test.name.clone(), file: name, line, now, steps }
    }

    fn step(&self, step: &Written<'_>, file: &FileContext<'_>, faults: &mut Faults) -> Option<CaseStep> {
        let times = step.times.unwrap_or(1);
        if times == 0 || times > MOST_TIMES {
            faults.error(
                &step.place.key("times"),
                format!("a request is not sent {times} times"),
                format!("write 1 to {MOST_TIMES}"),
            );
        }
        let expected = self.expected(step.expect, times, &step.place.key("expect"), faults);
        let (request, place) = (step.request.0, &step.request.1);
        let mut built = self.request(request, file, place, faults);
        if let Some(answer) = step.answer {
            let answer = self.answer(answer, &step.place.key("answer"), faults);
            built = built.map(|request| OfflineRequest { answer, ..request });
        }
        let tokens = self.tokens_of(request, file, place, faults);
        Some(CaseStep { after: step.after, request: built?, tokens, times, expected })
    }

    fn expected(&self, written: &ExpectConfig, times: u32, place: &Place, faults: &mut Faults) -> Expected {
        let several = written.first.keys().copied().max();
        if let Some(count) = several.filter(|count| *count > times) {
            let message =
                format!("the request is sent {}", if times == 1 { "once".to_owned() } else { format!("{times} times") });
            faults.error(&place.key(&format!("first-{count}")), message, "write `times` beside `request`, or a smaller number");
        }
        let says_something = says_something(&written.each) || written.last.is_some() || several.is_some();
        if !says_something {
            let message = "none of `code`, `status`, `upstream` and `verdict` is expected, so that any verdict would do";
            faults.error(place, message, "write one of them");
        }
        for (name, part) in written
            .first
            .iter()
            .map(|(count, part)| (format!("first-{count}"), part))
            .chain(written.last.iter().map(|last| ("last".to_owned(), last)))
        {
            if !says_something_at_all(part) {
                faults.error(&place.key(&name), "nothing is expected here", "write what is expected, such as `status`");
            }
        }
        Expected {
            each: self.expectation(&written.each, place, faults),
            first: written
                .first
                .iter()
                .map(|(count, part)| (*count, self.expectation(part, &place.key(&format!("first-{count}")), faults)))
                .collect(),
            last: written.last.as_ref().map(|last| self.expectation(last, &place.key("last"), faults)),
        }
    }

    fn expectation(&self, written: &ExpectationConfig, place: &Place, faults: &mut Faults) -> Expectation {
        contradictions(written, place, faults);
        let mut text = |value: Option<&String>, key: &str| {
            let value = value?;
            read(value, &place.key(key), faults)
        };
        let identity = written.identity.clone().unwrap_or_default();
        let mut expectation = Expectation {
            verdict: written.verdict,
            status: written.status,
            code: text(written.code.as_ref(), "code"),
            policy: text(written.policy.as_ref(), "policy"),
            would_deny: text(written.would_deny.as_ref(), "would-deny"),
            route: text(written.route.as_ref(), "route"),
            upstream: text(written.upstream.as_ref(), "upstream"),
            upstream_method: text(written.upstream_method.as_ref(), "upstream-method"),
            upstream_path: text(written.upstream_path.as_ref(), "upstream-path"),
            body: text(written.body.as_ref(), "body"),
            partner: text(identity.partner.as_ref(), "identity"),
            tenant: text(identity.tenant.as_ref(), "identity"),
            client: text(identity.client.as_ref(), "identity"),
            kind: identity.kind,
            subject: text(identity.subject.as_ref(), "identity"),
            object_id: text(identity.object_id.as_ref(), "identity"),
            ..Expectation::default()
        };
        if identity.caller.is_some() {
            let at = place.key("identity").key("caller");
            expectation.caller = Some(self.from(identity.caller.as_deref(), &at, faults));
        }
        expectation.upstream_headers = fields(&written.upstream_headers, &place.key("upstream-headers"), faults);
        expectation.headers = fields(&written.headers, &place.key("headers"), faults);
        self.known(&expectation, place, faults);
        expectation
    }

    /// Refuses names that the config does not have: such a case could never hold, or never fail.
    fn known(&self, expectation: &Expectation, place: &Place, faults: &mut Faults) {
        let Config { routes, upstreams, partners, .. } = self.config;
        let routes: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
        let upstreams: Vec<&str> = upstreams.keys().map(String::as_str).collect();
        let partners: Vec<&str> = partners.keys().map(String::as_str).collect();
        for (expected, at, what, names) in [
            (&expectation.code, place.key("code"), "code", &self.codes),
            (&expectation.route, place.key("route"), "route", &routes),
            (&expectation.upstream, place.key("upstream"), "upstream", &upstreams),
            (&expectation.partner, place.key("identity").key("partner"), "partner", &partners),
        ] {
            let Some(name) = expected.as_ref().and_then(TextExpectation::literal) else { continue };
            if !names.contains(&name) {
                let list = if what == "code" {
                    return_code_list(name, names)
                } else {
                    suggest::known(name, names.iter().copied(), "defined are")
                };
                faults.error(&at, format!("there is no {what} `{name}`"), list.unwrap_or_else(|| "none is defined".to_owned()));
            }
        }
    }
}

/// Suggests a code; there are too many to list them.
fn return_code_list(name: &str, codes: &[&str]) -> Option<String> {
    let near = suggest::close(name, codes).or_else(|| suggest::nearest(name, codes));
    Some(near.map_or_else(|| "docs/refusal-codes.md lists them".to_owned(), |near| format!("did you mean `{near}`?")))
}

/// A step as written.
struct Written<'a> {
    after: Duration,
    request: (&'a TestRequestConfig, Place),
    times: Option<u32>,
    answer: Option<&'a crate::config::test_case::TestAnswerConfig>,
    expect: &'a ExpectConfig,
    place: Place,
}

/// Returns whether the expectation tells verdicts apart.
const fn says_something(written: &ExpectationConfig) -> bool {
    written.code.is_some() || written.status.is_some() || written.upstream.is_some() || written.verdict.is_some()
}

fn says_something_at_all(written: &ExpectationConfig) -> bool {
    says_something(written)
        || written.policy.is_some()
        || written.would_deny.is_some()
        || written.route.is_some()
        || written.body.is_some()
        || written.upstream_method.is_some()
        || written.upstream_path.is_some()
        || written.identity.is_some()
        || !written.headers.is_empty()
        || !written.upstream_headers.is_empty()
}

/// Refuses expectations that exclude each other.
fn contradictions(written: &ExpectationConfig, place: &Place, faults: &mut Faults) {
    let absent = |text: &Option<String>| text.as_deref().is_none_or(|text| text == "absent");
    let reaches =
        !absent(&written.upstream) || !written.upstream_headers.is_empty() || written.verdict == Some(TestVerdict::Allow);
    let refused = !absent(&written.code) || written.verdict == Some(TestVerdict::Refuse);
    if reaches && refused {
        faults.error(place, "a refused request reaches no upstream", "write either `code` or `upstream`");
    }
}

fn read(written: &str, place: &Place, faults: &mut Faults) -> Option<TextExpectation> {
    match TextExpectation::read(written) {
        Ok(expectation) => Some(expectation),
        Err(error) => {
            let error = error.to_string();
            let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
            faults.error(place, format!("`{written}` is no pattern: {last}"), "write a regular expression between `/` and `/`");
            None
        }
    }
}

fn fields(written: &BTreeMap<String, String>, place: &Place, faults: &mut Faults) -> Vec<(HeaderName, TextExpectation)> {
    let mut fields = Vec::new();
    for (name, value) in written {
        let place = place.key(name);
        let expectation = read(value, &place, faults);
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(name) => fields.extend(expectation.map(|expectation| (name, expectation))),
            Err(_) => faults.error(&place, format!("`{name}` is not a header's name"), "names have letters, digits and `-`"),
        }
    }
    fields
}

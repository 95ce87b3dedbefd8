//! Limits of rates, quotas and concurrent calls.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    values::{TextValue, constant},
};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    output::{Item, Yaml, text},
    policy::PolicyDocument,
    xml::Element,
};

/// The longest period of a rate, in seconds.
const LONGEST_RATE: u64 = 86_400;

/// A difference of a limit.
type Difference = Option<(&'static str, &'static str)>;

impl<'i> Flow<'i> {
    pub(super) fn rate_limit_by_key(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let (key, difference) = self.counter_key(document, element, "counter-key")?;
        let mut entries = vec![("counter-key".to_owned(), text(key.text.clone()))];
        self.limit(document, element, &mut entries, LONGEST_RATE)?;
        for name in ["remaining-calls-header-name", "total-calls-header-name"] {
            if let Some(header) = self.literal(document, element, name, Hint::Text)?.filter(|header| !header.is_empty()) {
                entries.push((name.to_owned(), text(header)));
            }
        }
        self.variables_of_limit(element);
        let item = self.item(document, element, id, "rate-limit-by-key", Yaml::Map(entries));
        Ok(limited(vec![item], difference, element).with(&key.remarks))
    }

    pub(super) fn quota_by_key(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let (key, _) = self.counter_key(document, element, "counter-key")?;
        let mut entries = vec![("counter-key".to_owned(), text(key.text.clone()))];
        if let Some(bandwidth) = self.number(document, element, "bandwidth")?.filter(|bandwidth| *bandwidth > 0) {
            entries.push(("bandwidth".to_owned(), text(format!("{bandwidth}KiB"))));
        }
        self.limit(document, element, &mut entries, u64::MAX)?;
        let item = self.item(document, element, id, "quota-by-key", Yaml::Map(entries));
        let reason = "periods follow each other from 1970-01-01 on, and the counts are kept in the process";
        Ok(Outcome::changed(vec![item], "quota-periods", reason, "").with(&key.remarks))
    }

    pub(super) fn limit_of_subscription(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        if !self.scope.has_partner {
            return Err(not(
                "subscription",
                "it counts by subscription, and no policy before tells the partner that a subscription is here",
            ));
        }
        if element.elements().next().is_some() {
            return Err(not("nested-limits", "limits of single APIs and operations are limits of routes here"));
        }
        let mut entries = vec![("counter-key".to_owned(), text("@(partner.name)"))];
        let is_rate = element.name == "rate-limit";
        if !is_rate && let Some(bandwidth) = self.number(document, element, "bandwidth")?.filter(|bandwidth| *bandwidth > 0) {
            entries.push(("bandwidth".to_owned(), text(format!("{bandwidth}KiB"))));
        }
        self.limit(document, element, &mut entries, if is_rate { LONGEST_RATE } else { u64::MAX })?;
        if is_rate {
            for name in ["remaining-calls-header-name", "total-calls-header-name"] {
                if let Some(header) = self.literal(document, element, name, Hint::Text)?.filter(|header| !header.is_empty()) {
                    entries.push((name.to_owned(), text(header)));
                }
            }
        }
        self.variables_of_limit(element);
        let policy = if is_rate { "rate-limit-by-key" } else { "quota-by-key" };
        let item = self.item(document, element, id, policy, Yaml::Map(entries));
        let reason = "calls count by partner, which a subscription is here";
        Ok(Outcome::changed(vec![item], "subscription-is-partner", reason, "or set `rate-limit` and `quota` of the partner"))
    }

    pub(super) fn limit_concurrency(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let (key, _) = self.counter_key(document, element, "key")?;
        let count = self.number(document, element, "max-count")?.ok_or_else(|| not("unparsable", "the limit has no number"))?;
        let entries = vec![("max-count".to_owned(), Yaml::Plain(count.to_string())), ("key".to_owned(), text(key.text.clone()))];
        let mut items = vec![self.item(document, element, id, "limit-concurrency", Yaml::Map(entries))];
        self.children(document, element, &mut items);
        let reason = "the permit lasts to the end of the answer, not only over the enclosed policies";
        Ok(Outcome::note(items, "permit", reason).with(&key.remarks))
    }

    /// Adds calls, period and condition.
    fn limit(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        entries: &mut Vec<(String, Yaml)>,
        longest: u64,
    ) -> Result<(), Refusal> {
        if let Some(calls) = self.number(document, element, "calls")? {
            entries.push(("calls".to_owned(), Yaml::Plain(calls.to_string())));
        }
        let period =
            self.number(document, element, "renewal-period")?.ok_or_else(|| not("unparsable", "the limit has no period"))?;
        if period == 0 {
            return Err(not("quota-for-ever", "a quota without an end has no counterpart"));
        }
        entries.push(("renewal-period".to_owned(), text(format!("{}s", period.min(longest)))));
        if let Some(condition) = element.attribute("increment-condition") {
            self.scope.may_read_response = true;
            let condition = self.condition(document, condition);
            self.scope.may_read_response = false;
            entries.push(("increment-condition".to_owned(), text(condition?.text)));
        }
        if let Some(count) = self.number(document, element, "increment-count")? {
            entries.push(("increment-count".to_owned(), Yaml::Plain(count.to_string())));
        }
        Ok(())
    }

    /// Translates the key of a counter; one that the caller writes, or that names the subscription, becomes a better one.
    fn counter_key(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        name: &str,
    ) -> Result<(TextValue, Difference), Refusal> {
        let key = element.attribute(name).ok_or_else(|| not("unparsable", "the counter has no key"))?;
        let source = self.source(key);
        let lower = source.to_ascii_lowercase();
        let replaced = if lower.contains("x-forwarded-for") {
            self.shared.lint("L2", document, element.start);
            Some((
                "caller.address",
                "forwarded-header",
                "the caller can write X-Forwarded-For: calls count by the caller's address",
            ))
        } else if (source.contains("context.Subscription") || lower.contains("ocp-apim-subscription-key"))
            && self.scope.has_partner
        {
            Some(("partner.name", "subscription-is-partner", "calls count by partner, which a subscription is here"))
        } else if lower.contains("\"authorization\"") || source.contains("AsJwt") {
            self.shared.lint("L2", document, element.start);
            self.scope.tokens.first().map(|_| {
                (
                    "token.client + ' ' + token.subject",
                    "key-of-token",
                    "a new token is a new counter there: calls count by client and subject",
                )
            })
        } else {
            None
        };
        if let Some((cel, code, reason)) = replaced {
            let verdict = crate::report::Verdict::Changed;
            let judgement = crate::report::Judgement::new(verdict, code, reason, "");
            self.shared.registry.judge_expression(document.id, key, &judgement);
            let value = TextValue {
                text: format!("@({cel})"),
                is_expression: true,
                kind: crate::expression::Kind::Text,
                can_be_blank: false,
                nullable: false,
                remarks: Vec::new(),
            };
            return Ok((value, Some((code, reason))));
        }
        let value = self.value(document, key, Hint::Text)?;
        if value.is_expression {
            if source.contains("Headers") {
                self.shared.lint("L2", document, element.start);
            }
            if value.nullable {
                let refusal = not("null-key", "the key can be null, and then every call counts together or none does");
                self.refuse_expression(document, key, &refusal);
                return Err(refusal);
            }
            if constant(&value.text).is_none() {
                return Ok((value, None));
            }
        }
        // A key that is the same for all calls.
        let literal = constant(&value.text).unwrap_or(value.text);
        let names = crate::elements::variables::pieces_of(&literal);
        let cel = crate::expression::literal_of(&names).ok_or_else(|| not("unparsable", "the key is not understood"))?;
        Ok((TextValue { text: format!("@({})", cel.text), is_expression: true, remarks: Vec::new(), ..value_of(&literal) }, None))
    }

    /// Notes that the variables of a limit are not set here.
    fn variables_of_limit(&mut self, element: &Element) {
        for name in ["remaining-calls-variable-name", "retry-after-variable-name"] {
            if let Some(variable) = element.text_of(name).map(str::trim).filter(|name| !name.is_empty()) {
                self.forget(variable, not("limit-variable", "a limit sets no variables here: its header fields tell the same"));
            }
        }
    }
}

fn value_of(literal: &str) -> TextValue {
    TextValue {
        text: literal.to_owned(),
        is_expression: false,
        kind: crate::expression::Kind::Text,
        can_be_blank: false,
        nullable: false,
        remarks: Vec::new(),
    }
}

fn limited(items: Vec<Item>, difference: Difference, element: &Element) -> Outcome {
    if let Some((code, reason)) = difference {
        return Outcome::changed(items, code, reason, "");
    }
    let has_name = element.text_of("retry-after-header-name").is_some_and(|name| !name.eq_ignore_ascii_case("retry-after"));
    if has_name {
        return Outcome::note(items, "retry-after", "the field is always called Retry-After here");
    }
    if element.attribute("increment-condition").is_some() {
        return Outcome::note(
            items,
            "counted-at-once",
            "a call counts from its start, and is given back if the condition is false",
        );
    }
    Outcome::note(items, "counter-scope", "the counter is this policy's own; there it is one for all policies with the same key")
}

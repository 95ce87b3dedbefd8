//! The result of translating an element.

use crate::{
    csharp::Refusal,
    expression::Remark,
    output::Item,
    report::{Judgement, Verdict},
};

/// The policies that an element became, with the verdict.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) items: Vec<Item>,
    pub(crate) judgement: Judgement,
}

impl Outcome {
    pub(crate) fn same(items: Vec<Item>) -> Self {
        Self { items, judgement: Judgement::same() }
    }

    pub(crate) fn note(items: Vec<Item>, code: &str, reason: impl Into<String>) -> Self {
        Self { items, judgement: Judgement::new(Verdict::Note, code, reason, "") }
    }

    pub(crate) fn changed(items: Vec<Item>, code: &str, reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { items, judgement: Judgement::new(Verdict::Changed, code, reason, advice) }
    }

    /// Adds the differences of the expressions within.
    pub(crate) fn with(mut self, remarks: &[Remark]) -> Self {
        for remark in remarks {
            if remark.verdict > self.judgement.verdict {
                self.judgement = Judgement::new(remark.verdict, remark.code, remark.reason, "");
            }
        }
        self
    }
}

/// Returns a refusal of an element.
pub(crate) fn not(code: &'static str, reason: impl Into<String>) -> Refusal {
    Refusal::new(code, reason, 0)
}

/// Returns the advice for a code.
pub(crate) fn advice_of(code: &str) -> &'static str {
    match code {
        "body" => "do it in the backend: bodies pass through unread",
        "variable-of-body" => "let the backend decide, or send the value in a header or a claim",
        "sub-request" => {
            "a token endpoint becomes a `credential`, a vault a named value with `key-vault`, an authorizer a token policy; the rest is the backend's work"
        }
        "cache" => "a token belongs into a `credential`, a flag into a named value; answers are not cached here",
        "clock" | "random" | "crypto" => "do it in the backend",
        "portal-user" => "ask for a role or a group of the token",
        "subscription-key" | "subscription" => "use `validate-api-key` or `check-partner`, and `partner.name`",
        "backend-url" => "write the backend's URL",
        "computed-name" => "write the name",
        "statement" | "unparsable" | "type" | "member" | "too-large" => "write the expression by hand",
        "variable-not-set" => "import the document that sets it together with this one, or set it by hand",
        "audience-missing" => "name the API's audience: its client id, or its application id URI",
        "symmetric-key" => "sign with a key pair, and publish the public key in `issuers.NAME.keys`",
        "fragment-missing" => "import it, or write it into `fragments`",
        "backend-not-finite" => "list the possible upstreams in `among` of `set-backend-service`",
        "named-value-as-code" => "give its value with `--named-value`",
        "managed-identity" => "use `authorization: { credential, scope }` on a route of its own",
        "unverified-token" => "put a token policy before it",
        "unknown-part" => "mend the document: nobody can tell what this was to restrict",
        "element" => "write the policy by hand: what nobody knows may have restricted something",
        "not-accepted" => "write the policy by hand",
        "secret" => "a secret can stand in `set-header` and in credentials alone",
        _ => "write the policy by hand",
    }
}

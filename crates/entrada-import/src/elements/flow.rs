//! The walk through sections: each element once, in the order in which it runs.

use super::{
    outcome::{Outcome, advice_of, not},
    sections::Link,
    state::{Documents, Route, Shared},
};
use crate::{
    csharp::Refusal,
    expression::scope::{Scope, Section},
    kinds::{decides, unknown_part},
    output::{Item, Yaml, map, text},
    policy::PolicyDocument,
    report::{Judgement, Verdict},
    xml::Element,
};

/// The deepest nesting of lists, which entrada bounds as well.
pub(crate) const DEEPEST: usize = 8;

/// The walk through the policies of one route.
#[derive(Debug)]
pub(crate) struct Flow<'i> {
    pub(crate) shared: &'i mut Shared,
    pub(crate) documents: &'i Documents,
    pub(crate) scope: Scope,
    pub(crate) route: Route,
    /// The number of branches around the current element.
    pub(crate) branches: usize,
    /// The number of fragments around the current element.
    pub(crate) fragments: usize,
    /// The wider scopes, which `<base />` stands for.
    pub(super) wider: Vec<Link<'i>>,
}

impl<'i> Flow<'i> {
    pub(crate) fn new(shared: &'i mut Shared, documents: &'i Documents, scope: Scope, route: Route) -> Self {
        Self { shared, documents, scope, route, branches: 0, fragments: 0, wider: Vec::new() }
    }

    /// Translates an element, or says why it is left out.
    pub(crate) fn policy(&mut self, document: &'i PolicyDocument, element: &'i Element, out: &mut Vec<Item>) {
        let Some(id) = self.shared.registry.of_element(document.id, element) else { return };
        let rejected = self.shared.rejected.get(&self.shared.registry.position(id)).cloned();
        let translated = match rejected {
            Some(message) => Err(not("not-accepted", format!("`entrada check` does not accept the translation: {message}"))),
            None => self.translate(document, element, id),
        };
        match translated {
            Ok(Outcome { items, judgement }) => {
                self.shared.registry.judge(id, &judgement);
                out.extend(items);
            }
            Err(refusal) => self.leave_out(document, element, id, &refusal, out),
        }
    }

    fn translate(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> Result<Outcome, Refusal> {
        self.check_place(document, element)?;
        match element.name.as_str() {
            "base" => self.base(),
            "set-header" => self.set_header(document, element, id),
            "set-query-parameter" => self.set_query_parameter(document, element, id),
            "set-variable" => self.set_variable(document, element, id),
            "choose" => self.choose(document, element, id),
            "return-response" => self.return_response(document, element, id),
            "mock-response" => self.mock_response(document, element, id),
            "set-status" => self.set_status(document, element, id),
            "set-body" => self.set_body(document, element, id),
            "set-method" => self.set_method(document, element, id),
            "rewrite-uri" => self.rewrite_uri(document, element, id),
            "set-backend-service" => self.set_backend_service(document, element, id),
            "forward-request" => Ok(Outcome::same(Vec::new())),
            "cors" => self.cors(document, element, id),
            "ip-filter" => self.ip_filter(document, element, id),
            "check-header" => self.check_header(document, element, id),
            "validate-jwt" => self.validate_jwt(document, element, id),
            "validate-azure-ad-token" => self.validate_azure_ad_token(document, element, id),
            "validate-client-certificate" => self.validate_client_certificate(document, element, id),
            "authentication-managed-identity" => self.managed_identity(document, element, id),
            "authentication-basic" => self.authentication_basic(document, element, id),
            "rate-limit-by-key" => self.rate_limit_by_key(document, element, id),
            "quota-by-key" => self.quota_by_key(document, element, id),
            "rate-limit" | "quota" => self.limit_of_subscription(document, element, id),
            "limit-concurrency" => self.limit_concurrency(document, element, id),
            "include-fragment" => self.include_fragment(document, element, id),
            "trace" => self.trace(document, element, id),
            _ => Err(self.not_translated(document, element)),
        }
    }

    /// Refuses an element where its section or its document does not allow it.
    fn check_place(&self, document: &PolicyDocument, element: &Element) -> Result<(), Refusal> {
        let problem = document.problems.iter().find(|problem| (element.start..element.end).contains(&problem.at));
        if let Some(problem) = problem {
            return Err(not("unparsable", format!("line {}: {}", document.line(problem.at), problem.message)));
        }
        let name = element.name.as_str();
        let is_allowed = match self.scope.section {
            Section::Inbound => !matches!(name, "set-status" | "forward-request"),
            Section::Backend => matches!(name, "forward-request" | "base"),
            Section::Outbound => {
                matches!(
                    name,
                    "set-header"
                        | "set-variable"
                        | "set-status"
                        | "trace"
                        | "return-response"
                        | "choose"
                        | "include-fragment"
                        | "base"
                )
            }
            Section::OnError => matches!(
                name,
                "set-header"
                    | "set-variable"
                    | "set-status"
                    | "set-body"
                    | "trace"
                    | "return-response"
                    | "choose"
                    | "include-fragment"
                    | "base"
            ),
        };
        if let Some(part) = unknown_part(element, "") {
            return Err(not("unknown-part", part));
        }
        let is_known = super::rest::reason(name).is_none();
        if !is_allowed && is_known {
            return Err(match name {
                "set-body" => not("body", "it replaces the body of a message, and bodies pass through unread"),
                _ => not("section", format!("`{name}` in `{}` has no counterpart", self.scope.section.name())),
            });
        }
        Ok(())
    }

    /// Leaves an element out: says why, and writes a refusal where the element restricted anything.
    fn leave_out(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        refusal: &Refusal,
        out: &mut Vec<Item>,
    ) {
        let judgement = Judgement::new(Verdict::Not, refusal.code, refusal.reason.clone(), advice_of(refusal.code));
        self.shared.registry.judge(id, &judgement);
        let around = Judgement::new(Verdict::Not, "enclosed", format!("`{}` around it is not translated", element.name), "");
        self.shared.registry.judge_within(document.id, element, &around);
        self.forget_variables(element, refusal);
        let place = format!("apim: {} not: {} ({})", self.place(document, element), refusal.code, element.name);
        // What is not well-formed may have hidden what follows it.
        let is_damaged = document.problems.iter().any(|problem| (element.start..element.end).contains(&problem.at));
        if self.scope.section == Section::OnError || !is_damaged && !decides(element) {
            self.remove_headers(element, &place, id, out);
            out.push(Item::Comment(place));
            return;
        }
        self.refuse(id, &place, out);
    }

    /// Returns the file and line of an element.
    pub(crate) fn place(&self, document: &PolicyDocument, element: &Element) -> String {
        format!("{}:{}", document.file, document.line(element.start))
    }

    /// Makes a policy that comes from an element.
    pub(crate) fn item(&self, document: &PolicyDocument, element: &Element, id: usize, name: &str, value: Yaml) -> Item {
        Item::Policy { name: name.to_owned(), value, origin: id, comment: self.place(document, element) }
    }
}

/// Returns the policy that refuses in the place of something that was not translated.
pub(crate) fn refusal_item(origin: usize, place: &str) -> Item {
    let value = map([
        ("condition", text("@(false)")),
        ("code", text("not-imported")),
        ("message", text("A rule of this API was not imported.")),
    ]);
    Item::Policy { name: "authorize".to_owned(), value, origin, comment: place.to_owned() }
}

/// Returns whether a document restricts access in a section.
pub(super) fn restricts(document: &PolicyDocument, section: Section) -> bool {
    fn within(element: &Element) -> bool {
        crate::kinds::is_security(&element.name) && element.name != "cors" || element.elements().any(within)
    }
    document.section(section).is_some_and(within)
}

/// Returns the name of the fragment that a section of a document is.
pub(crate) fn fragment_name(document: &PolicyDocument, section: Section) -> String {
    let owner = crate::names::identifier(&document.owner, "");
    let owner = if owner.is_empty() { String::new() } else { format!("-{owner}") };
    format!("apim-{}{owner}-{}", document.scope.word(), section.name())
}

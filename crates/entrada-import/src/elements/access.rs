//! Access by address, header field and certificate; cors.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    expression::scope::Section,
    output::{Yaml, map, text},
    policy::{PolicyDocument, named_values_of},
    xml::Element,
};

impl<'i> Flow<'i> {
    pub(super) fn ip_filter(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let action = self.literal(document, element, "action", Hint::Text)?.unwrap_or_default();
        let is_forbid = match action.as_str() {
            "allow" => false,
            "forbid" => true,
            other => return Err(not("unparsable", format!("the action `{other}` is not known"))),
        };
        let mut addresses = Vec::new();
        for child in element.elements() {
            match child.name.as_str() {
                "address" => {
                    let address = child.text().ok_or_else(|| not("unparsable", "an address is empty"))?;
                    let address = self.value(document, address, if is_forbid { Hint::EveryAddress } else { Hint::Address })?;
                    addresses.push(address_text(&address.text, address.is_expression)?);
                }
                "address-range" => {
                    let from =
                        self.literal(document, child, "from", if is_forbid { Hint::FirstAddress } else { Hint::Address })?;
                    let to = self.literal(document, child, "to", if is_forbid { Hint::LastAddress } else { Hint::Address })?;
                    let (Some(from), Some(to)) = (from, to) else { return Err(not("unparsable", "a range lacks an end")) };
                    addresses.push(if from == to { from } else { format!("{from}-{to}") });
                }
                other => return Err(not("unparsable", format!("`{other}` stands within `ip-filter`"))),
            }
        }
        if addresses.is_empty() {
            return Err(not("unparsable", "the filter has no addresses"));
        }
        addresses.dedup();
        let is_private = is_forbid && addresses.iter().any(|address| is_private(address));
        let list = Yaml::List(addresses.iter().map(|address| text(address.clone())).collect());
        let mut entries = vec![("action".to_owned(), text(action)), ("addresses".to_owned(), list)];
        // It judges the connection there.
        entries.push(("of".to_owned(), text("peer")));
        let item = self.item(document, element, id, "ip-filter", Yaml::Map(entries));
        let reason = if is_private {
            "the last hop is judged, as there: a private range that is forbidden keeps an entrance out"
        } else {
            "the last hop is judged, as there; behind a front end `of: caller` with `trusted-proxies` is meant"
        };
        Ok(Outcome::note(vec![item], "last-hop", reason))
    }

    pub(super) fn check_header(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let name = self.required(document, element, "name", "the field has no name")?;
        let is_address = name.eq_ignore_ascii_case("x-forwarded-for");
        let mut values = Vec::new();
        for value in element.named("value") {
            let value = value.text().ok_or_else(|| not("unparsable", "a value is empty"))?;
            let value = self.value(document, value, if is_address { Hint::Address } else { Hint::Text })?;
            if !is_address {
                self.guard(&value.text);
            }
            if named_values_of(&value.text).iter().any(|name| self.shared.named.secrets().contains(name)) {
                return Err(not("secret", "a value is a secret, which can stand in `set-header` and in credentials alone"));
            }
            if value.is_expression {
                match super::values::constant(&value.text) {
                    Some(text) => values.push(text),
                    None => return Err(not("computed-name", "a value is computed, and has to be a text here")),
                }
            } else {
                values.push(value.text);
            }
        }
        if is_address {
            self.shared.lint("L1", document, element.start);
            if values.is_empty() {
                return Err(not("forwarded-header", "it asks whether X-Forwarded-For is there, which any caller can write"));
            }
            let list = Yaml::List(values.into_iter().map(text).collect());
            let value = map([("action", text("allow")), ("addresses", list)]);
            let item = self.item(document, element, id, "ip-filter", value);
            let reason = "any caller can write X-Forwarded-For: it became a filter on the caller's address";
            let advice = "list the front ends in `trusted-proxies`, so that the caller's address is theirs to tell";
            return Ok(Outcome::changed(vec![item], "forwarded-header", reason, advice));
        }
        let status = self.number(document, element, "failed-check-httpcode")?.unwrap_or(401);
        let message = self.literal(document, element, "failed-check-error-message", Hint::Text)?;
        let ignore_case = self.literal(document, element, "ignore-case", Hint::Text)?;
        let mut entries = vec![("name".to_owned(), text(name))];
        if !values.is_empty() {
            entries.push(("values".to_owned(), Yaml::List(values.into_iter().map(text).collect())));
        }
        if ignore_case.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            entries.push(("ignore-case".to_owned(), Yaml::Plain("true".into())));
        }
        entries.push(("failed-check-httpcode".to_owned(), Yaml::Plain(status.to_string())));
        if let Some(message) = message.filter(|message| !message.is_empty()) {
            entries.push(("failed-check-error-message".to_owned(), text(message)));
        }
        let item = self.item(document, element, id, "check-header", Yaml::Map(entries));
        Ok(Outcome::same(vec![item]))
    }

    pub(super) fn validate_client_certificate(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        if element.text_of("ignore-error").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            return Err(not("ignore-error", "a certificate that fails its checks is let in there; nothing here does that"));
        }
        let mut entries = Vec::new();
        for name in ["validate-trust", "validate-not-before", "validate-not-after", "validate-revocation"] {
            if let Some(value) = self.literal(document, element, name, Hint::Text)?
                && value.eq_ignore_ascii_case("false")
            {
                entries.push((name.to_owned(), Yaml::Plain("false".to_owned())));
            }
        }
        let mut identities = Vec::new();
        for identity in element.named("identities").flat_map(|list| list.named("identity")) {
            let mut parts = Vec::new();
            for attribute in &identity.attributes {
                let known =
                    ["thumbprint", "serial-number", "common-name", "subject", "dns-name", "issuer-subject", "issuer-thumbprint"];
                if !known.contains(&attribute.name.as_str()) {
                    return Err(not("certificate-identity", format!("`{}` has no counterpart", attribute.name)));
                }
                if let Some(value) =
                    self.literal(document, identity, &attribute.name, Hint::Text)?.filter(|value| !value.is_empty())
                {
                    parts.push((attribute.name.clone(), text(value)));
                }
            }
            identities.push(Yaml::Map(parts));
        }
        if !identities.is_empty() {
            entries.push(("identities".to_owned(), Yaml::List(identities)));
        }
        self.route.authenticates = true;
        let item = self.item(document, element, id, "validate-client-certificate", Yaml::Map(entries));
        let reason = "the listener has to ask for the certificate, and to know its authority";
        Ok(Outcome::changed(vec![item], "listener-certificates", reason, "add `tls` and `client-certificates` to the listener"))
    }

    pub(super) fn cors(&mut self, document: &'i PolicyDocument, element: &'i Element, id: usize) -> Result<Outcome, Refusal> {
        if self.scope.section != Section::Inbound {
            return Err(not("section", "`cors` stands outside of `inbound`"));
        }
        if self.route.has_cors {
            let reason = "only the first `cors` has an effect there, and it stands before";
            return Ok(Outcome::note(Vec::new(), "cors-twice", reason));
        }
        let mut entries = Vec::new();
        let mut is_open = false;
        for (list, child, key) in [
            ("allowed-origins", "origin", "allowed-origins"),
            ("allowed-methods", "method", "allowed-methods"),
            ("allowed-headers", "header", "allowed-headers"),
            ("expose-headers", "header", "expose-headers"),
        ] {
            let Some(element) = element.child(list) else { continue };
            let mut values = Vec::new();
            for value in element.named(child) {
                let Some(value) = value.text() else { continue };
                let value = self.value(document, value, if list == "allowed-origins" { Hint::Url } else { Hint::Text })?;
                if value.is_expression {
                    return Err(not("computed-name", "a value of cors is computed, and has to be a text here"));
                }
                let value = if list == "allowed-origins" { value.text.trim_end_matches('/').to_owned() } else { value.text };
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            if values.iter().any(|value| value == "*") {
                is_open |= list == "allowed-origins";
                values = vec!["*".to_owned()];
            }
            if values.is_empty() {
                continue;
            }
            entries.push((key.to_owned(), Yaml::List(values.into_iter().map(text).collect())));
        }
        let credentials = element.text_of("allow-credentials").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        if is_open {
            self.shared.lint("L8", document, element.start);
        }
        if credentials && is_open {
            return Err(not("cors-credentials", "every origin with credentials: browsers refuse that, and so does the gateway"));
        }
        if credentials {
            entries.push(("allow-credentials".to_owned(), Yaml::Plain("true".into())));
        }
        if let Some(methods) = element.child("allowed-methods")
            && let Some(age) = self.number(document, methods, "preflight-result-max-age")?.filter(|age| *age > 0)
        {
            entries.push(("preflight-result-max-age".to_owned(), text(format!("{age}s"))));
        }
        if !entries.iter().any(|(key, _)| key == "allowed-origins") {
            return Err(not("unparsable", "cors has no origins"));
        }
        self.route.has_cors = true;
        let item = self.item(document, element, id, "cors", Yaml::Map(entries));
        let reason = "an unmatched request goes on without permission, and a preflight gets an empty 200";
        Ok(Outcome::note(vec![item], "cors", reason))
    }
}

fn address_text(value: &str, is_expression: bool) -> Result<String, Refusal> {
    if !is_expression {
        return Ok(value.to_owned());
    }
    super::values::constant(value).ok_or_else(|| not("computed-name", "an address is computed, and has to be a text here"))
}

/// Returns whether an address is one of a private network, or is not known.
fn is_private(address: &str) -> bool {
    address.starts_with("10.")
        || address.starts_with("192.168.")
        || address.starts_with("172.")
        || !named_values_of(address).is_empty()
}

//! Token policies.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
};
use crate::{
    csharp::Refusal,
    estate::named::Hint,
    expression::{Holds, Kind, Variable},
    names::{identifier, unique},
    output::{Yaml, map, text},
    policy::{PolicyDocument, named_values_of},
    xml::Element,
};

/// Hosts of Entra, each with the name of its cloud.
const ENTRA: &[(&str, &str)] = &[
    ("login.microsoftonline.com", "public"),
    ("login.windows.net", "public"),
    ("sts.windows.net", "public"),
    ("login.microsoftonline.us", "us-government"),
    ("login.chinacloudapi.cn", "china"),
    ("login.partner.microsoftonline.cn", "china"),
];

/// The parts of a token policy that both kinds share.
#[derive(Debug, Default)]
struct TokenPolicy {
    entries: Vec<(String, Yaml)>,
    audiences: Vec<String>,
    header: String,
    notes: Vec<(&'static str, &'static str)>,
}

impl<'i> Flow<'i> {
    pub(super) fn validate_azure_ad_token(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let tenant = self.literal(document, element, "tenant-id", Hint::Guid)?.unwrap_or_default();
        if tenant.is_empty() {
            return Err(not("tenant-missing", "the policy has no tenant"));
        }
        if tenant.replace("{{", "").contains('{') {
            return Err(not("tenant-missing", format!("`{tenant}` stands for a tenant that somebody has to fill in")));
        }
        let endpoint = self.literal(document, element, "authentication-endpoint", Hint::Url)?;
        let cloud = endpoint.as_deref().and_then(cloud_of).unwrap_or("public");
        if element.attribute("token-value").is_some() {
            return Err(not("token-place", "the token is computed; it is read from a header or the query here"));
        }
        if element.child("decryption-keys").is_some() {
            return Err(not("decryption-keys", "encrypted tokens are not read"));
        }
        let policy = self.token_policy(document, element)?;
        if policy.audiences.is_empty() {
            self.shared.lint("L4", document, element.start);
            return Err(not("audience-missing", "the policy names no audience, so a token for any API of the tenant would pass"));
        }
        let name = self.tenant(&tenant, cloud, id);
        let mut entries = vec![("tenant".to_owned(), text(name))];
        if is_several(&tenant) {
            return Err(not("tenants-unlisted", "tokens of any tenant pass: list them in `allowed-tenants`"));
        }
        entries.extend(policy.entries.clone());
        let mut clients = Vec::new();
        for list in element.named("client-application-ids").chain(element.named("backend-application-ids")) {
            if list.name == "backend-application-ids" {
                return Err(not("backend-application-ids", "the application of the backend has no counterpart"));
            }
            for client in list.named("application-id") {
                let client = client.text().ok_or_else(|| not("unparsable", "an `application-id` is empty"))?;
                clients.push(self.plain_text(document, client, Hint::Guid)?);
            }
        }
        if clients.is_empty() && element.child("client-application-ids").is_some() {
            return Err(not("unparsable", "`client-application-ids` is empty"));
        }
        if !clients.is_empty() {
            entries.push(("client-application-ids".to_owned(), Yaml::List(clients.into_iter().map(text).collect())));
        }
        Ok(self.accepted(document, element, id, "validate-azure-ad-token", entries, &policy))
    }

    pub(super) fn validate_jwt(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        for (name, code, reason) in [
            ("require-signed-tokens", "unsigned-tokens", "tokens without a signature pass"),
            ("require-expiration-time", "tokens-without-end", "tokens that never expire pass"),
        ] {
            if element.text_of(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("false")) {
                return Err(not(code, reason));
            }
        }
        if element.attribute("token-value").is_some() {
            return Err(not("token-place", "the token is computed; it is read from a header or the query here"));
        }
        if element.child("decryption-keys").is_some() {
            return Err(not("decryption-keys", "encrypted tokens are not read"));
        }
        let configs: Vec<&Element> = element.named("openid-config").collect();
        for config in &configs {
            if config.text_of("url").is_some_and(|url| url.contains("/common/") || url.contains("/organizations/"))
                && element.child("issuers").is_none()
            {
                self.shared.lint("L5", document, config.start);
            }
        }
        if element.child("issuer-signing-keys").is_some() {
            let keys: Vec<&Element> = element.named("issuer-signing-keys").flat_map(|keys| keys.named("key")).collect();
            if keys.iter().any(|key| key.text().is_some()) {
                self.shared.lint("L7", document, element.start);
                if keys.iter().filter_map(|key| key.text()).any(|text| named_values_of(&self.source(text)).is_empty()) {
                    self.shared.lint("L6", document, element.start);
                }
                return Err(not("symmetric-key", "a symmetric key verifies the tokens: whoever can verify them can make them"));
            }
            return Err(not(
                "signing-keys",
                "the keys stand in the document: put them into a file, and name it in `issuers.NAME.keys`",
            ));
        }
        let mut policy = self.token_policy(document, element)?;
        if policy.audiences.is_empty() {
            // A required claim `aud` says the same.
            policy.audiences = self.audience_of_claims(document, element)?;
            if !policy.audiences.is_empty() {
                let audiences = Yaml::List(policy.audiences.iter().map(|audience| text(audience.clone())).collect());
                policy.entries.insert(0, ("audiences".to_owned(), audiences));
            }
        }
        if policy.audiences.is_empty() {
            self.shared.lint("L4", document, element.start);
            return Err(not("audience-missing", "the policy names no audience, so a token for any API of the issuer would pass"));
        }
        let mut urls = Vec::new();
        for config in &configs {
            let url = self.literal(document, config, "url", Hint::Metadata)?.filter(|url| !url.is_empty());
            urls.push(url.ok_or_else(|| not("unparsable", "`openid-config` has no URL"))?);
        }
        let url = match urls.as_slice() {
            [] => return Err(not("issuer-missing", "the policy names neither an issuer nor keys")),
            [one] => one.clone(),
            _ => return self.several_issuers(document, element, id, &urls, &policy),
        };
        let (name, entries) = self.issuer_entries(document, element, &url, id, &policy)?;
        Ok(self.accepted(document, element, id, &name, entries, &policy))
    }

    /// Returns the name of the policy for an issuer, and its settings.
    fn issuer_entries(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        url: &str,
        id: usize,
        policy: &TokenPolicy,
    ) -> Result<(String, Vec<(String, Yaml)>), Refusal> {
        let mut entries = Vec::new();
        if let Some((tenant, cloud)) = entra_tenant(url) {
            if is_several(&tenant) {
                let tenants = self.tenants_of_issuers(document, element)?;
                if tenants.is_empty() {
                    return Err(not("tenants-unlisted", "tokens of any tenant pass: list them in `allowed-tenants`"));
                }
                let name = self.tenant(&tenant, cloud, id);
                entries.push(("tenant".to_owned(), text(name)));
                entries.push(("allowed-tenants".to_owned(), Yaml::List(tenants.into_iter().map(text).collect())));
            } else {
                self.named_in(&tenant, Hint::Guid, Some(id));
                let name = self.tenant(&tenant, cloud, id);
                entries.push(("tenant".to_owned(), text(name)));
            }
            entries.extend(policy.entries.clone());
            return Ok(("validate-azure-ad-token".to_owned(), entries));
        }
        let name = self.issuer(url, id);
        entries.push(("issuer".to_owned(), text(name)));
        entries.extend(policy.entries.clone());
        Ok(("validate-jwt".to_owned(), entries))
    }

    fn several_issuers(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        urls: &[String],
        policy: &TokenPolicy,
    ) -> Result<Outcome, Refusal> {
        let mut lists = Vec::new();
        let mut seen = Vec::new();
        for url in urls {
            let (name, entries) = self.issuer_entries(document, element, url, id, policy)?;
            // v1 and v2 metadata of one tenant are one tenant here.
            if seen.contains(&entries) {
                continue;
            }
            seen.push(entries.clone());
            let mut outcome = self.accepted(document, element, id, &name, entries, policy);
            if let Some(crate::output::Item::Policy { name, value, .. }) = outcome.items.pop() {
                lists.push(Yaml::List(vec![Yaml::Map(vec![(name, value)])]));
            }
        }
        if let [Yaml::List(one)] = lists.as_slice()
            && let [Yaml::Map(entries)] = one.as_slice()
            && let [(name, value)] = entries.as_slice()
        {
            let item = self.item(document, element, id, name, value.clone());
            return Ok(Outcome::note(
                vec![item],
                "tenant-versions",
                "tokens of both versions of the tenant are accepted, as always here",
            ));
        }
        let item = self.item(document, element, id, "any-of", Yaml::List(lists));
        let reason = "several issuers: each has its policy in `any-of`";
        Ok(Outcome::note(vec![item], "several-issuers", reason))
    }

    /// Reads what both kinds of token policies share.
    fn token_policy(&mut self, document: &'i PolicyDocument, element: &'i Element) -> Result<TokenPolicy, Refusal> {
        let mut policy = TokenPolicy { header: "Authorization".to_owned(), ..TokenPolicy::default() };
        for audience in element.named("audiences").flat_map(|list| list.named("audience")) {
            let Some(audience) = audience.text() else { continue };
            policy.audiences.push(self.plain_text(document, audience, Hint::Text)?);
        }
        if !policy.audiences.is_empty() {
            let audiences = Yaml::List(policy.audiences.iter().map(|audience| text(audience.clone())).collect());
            policy.entries.push(("audiences".to_owned(), audiences));
        }
        let mut claims = Vec::new();
        for claim in element.named("required-claims").flat_map(|list| list.named("claim")) {
            if claim.text_of("name").map(str::trim) == Some("aud") && policy.audiences.is_empty() {
                continue;
            }
            claims.push(self.required_claim(document, claim)?);
        }
        if !claims.is_empty() {
            policy.entries.push(("required-claims".to_owned(), Yaml::List(claims)));
        }
        if let Some(header) = self.literal(document, element, "header-name", Hint::Text)?.filter(|header| !header.is_empty()) {
            if !header.eq_ignore_ascii_case("authorization") {
                policy.entries.push(("header-name".to_owned(), text(header.clone())));
            }
            policy.header = header;
        } else if let Some(parameter) = self.literal(document, element, "query-parameter-name", Hint::Text)? {
            policy.entries.push(("query-parameter-name".to_owned(), text(parameter)));
        }
        let status = self.number(document, element, "failed-validation-httpcode")?.unwrap_or(401);
        policy.entries.push(("failed-validation-httpcode".to_owned(), Yaml::Plain(status.to_string())));
        if let Some(message) =
            self.literal(document, element, "failed-validation-error-message", Hint::Text)?.filter(|text| !text.is_empty())
        {
            policy.entries.push(("failed-validation-error-message".to_owned(), text(message)));
        }
        let skew = self.number(document, element, "clock-skew")?.unwrap_or(0);
        if element.name == "validate-jwt" || skew > 0 {
            policy.entries.push(("clock-skew".to_owned(), text(format!("{}s", skew.min(600)))));
            if skew > 600 {
                policy.notes.push(("clock-skew", "a clock skew is at most ten minutes here"));
            }
        }
        if element.name == "validate-jwt"
            && policy.header.eq_ignore_ascii_case("authorization")
            && element.attribute("require-scheme").is_none()
        {
            policy.notes.push(("scheme", "a bare token in `Authorization` passes there; here it needs the scheme Bearer"));
        }
        Ok(policy)
    }

    fn required_claim(&mut self, document: &'i PolicyDocument, claim: &'i Element) -> Result<Yaml, Refusal> {
        let name = self.required(document, claim, "name", "a required claim has no name")?;
        let mut entries = vec![("name".to_owned(), text(name))];
        if self.literal(document, claim, "match", Hint::Text)?.is_some_and(|value| value == "any") {
            entries.push(("match".to_owned(), text("any")));
        }
        if let Some(separator) = claim.text_of("separator").filter(|separator| !separator.is_empty()) {
            entries.push(("separator".to_owned(), text(separator)));
        }
        let mut values = Vec::new();
        for value in claim.named("value") {
            let value = value.text().ok_or_else(|| not("unparsable", "a value of a required claim is empty"))?;
            values.push(text(self.plain_text(document, value, Hint::Text)?));
        }
        if !values.is_empty() {
            entries.push(("values".to_owned(), Yaml::List(values)));
        }
        Ok(Yaml::Map(entries))
    }

    /// Returns the audiences that a required claim names; with `match: all` there can be one alone.
    fn audience_of_claims(&mut self, document: &'i PolicyDocument, element: &'i Element) -> Result<Vec<String>, Refusal> {
        let mut audiences = Vec::new();
        for claim in element.named("required-claims").flat_map(|list| list.named("claim")) {
            if claim.text_of("name").map(str::trim) != Some("aud") {
                continue;
            }
            let values: Vec<_> = claim.named("value").filter_map(Element::text).collect();
            if values.len() > 1 && claim.text_of("match").map(str::trim) != Some("any") {
                return Err(not("audience-several", "a token would need several audiences at once"));
            }
            for value in values {
                audiences.push(self.plain_text(document, value, Hint::Text)?);
            }
        }
        Ok(audiences)
    }

    /// Returns the tenants that a list of issuers names.
    fn tenants_of_issuers(&mut self, document: &'i PolicyDocument, element: &'i Element) -> Result<Vec<String>, Refusal> {
        let mut tenants = Vec::new();
        for issuer in element.named("issuers").flat_map(|list| list.named("issuer")) {
            let Some(issuer) = issuer.text() else { continue };
            let issuer = self.plain_text(document, issuer, Hint::Text)?;
            let tenant = entra_tenant(&issuer).map(|(tenant, _)| tenant);
            let tenant = tenant.ok_or_else(|| not("issuer-unknown", format!("`{issuer}` is no issuer of Entra")))?;
            if !tenants.contains(&tenant) {
                tenants.push(tenant);
            }
        }
        Ok(tenants)
    }

    /// Translates a text that may be a constant expression.
    fn plain_text(&mut self, document: &PolicyDocument, value: &crate::xml::Text, hint: Hint) -> Result<String, Refusal> {
        let value = self.value(document, value, hint)?;
        if !value.is_expression {
            return Ok(value.text);
        }
        super::values::constant(&value.text).ok_or_else(|| not("computed-name", "a value is computed, and has to be a text here"))
    }

    /// Notes what a token policy brings for the policies behind it.
    fn accepted(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        name: &str,
        mut entries: Vec<(String, Yaml)>,
        policy: &TokenPolicy,
    ) -> Outcome {
        self.route.authenticates |= self.branches == 0;
        self.route.token_policies += 1;
        let own = format!("token_{}", letters(self.route.token_policies));
        if self.route.token_policies > 1 {
            entries.push(("as".to_owned(), text(own.clone())));
        }
        // The first that is valid is `token`, with or without a name.
        let token = if self.scope.tokens.is_empty() { "token".to_owned() } else { own };
        self.scope.tokens.push((token.clone(), policy.header.clone()));
        if let Some(variable) = element.text_of("output-token-variable-name").map(str::trim).filter(|name| !name.is_empty()) {
            let own = self.shared.variable(variable);
            let value =
                Variable { name: own, holds: Holds::Token(token), kind: Kind::Any, unset: false, null: false, texts: None };
            self.scope.variables.insert(variable.to_owned(), value);
        }
        let item = self.item(document, element, id, name, Yaml::Map(entries));
        match policy.notes.first() {
            Some((code, reason)) => Outcome::note(vec![item], code, *reason),
            None => Outcome::same(vec![item]),
        }
    }

    /// Returns the name of a tenant.
    fn tenant(&mut self, id: &str, cloud: &str, origin: usize) -> String {
        let settings = if cloud == "public" { map([("id", text(id))]) } else { map([("id", text(id)), ("cloud", text(cloud))]) };
        if let Some((name, _)) = self.shared.tenants.iter().find(|(_, own)| **own == settings) {
            return name.clone();
        }
        let suggested = match named_values_of(id).first() {
            Some(named) => identifier(named, "tenant"),
            None if id.len() == 36 => "tenant".to_owned(),
            None => identifier(id, "tenant"),
        };
        let name = unique(&suggested, |name| self.shared.tenants.contains_key(name));
        self.shared.tenants.insert(name.clone(), settings);
        self.shared.origins.insert(format!("/tenants/{name}"), origin);
        name
    }

    /// Returns the name of an issuer.
    fn issuer(&mut self, url: &str, origin: usize) -> String {
        let settings = map([("openid-config", text(url))]);
        if let Some((name, _)) = self.shared.issuers.iter().find(|(_, own)| **own == settings) {
            return name.clone();
        }
        let host = url.split("://").nth(1).unwrap_or(url);
        let name =
            unique(&identifier(host.split('/').next().unwrap_or(host), "issuer"), |name| self.shared.issuers.contains_key(name));
        self.shared.issuers.insert(name.clone(), settings);
        self.shared.origins.insert(format!("/issuers/{name}"), origin);
        name
    }
}

/// Returns a number in letters: names of tokens have no digits.
fn letters(number: usize) -> char {
    char::from(b'a' + u8::try_from(number.saturating_sub(1) % 26).unwrap_or(0))
}

fn is_several(tenant: &str) -> bool {
    matches!(tenant, "common" | "organizations" | "consumers")
}

fn cloud_of(url: &str) -> Option<&'static str> {
    ENTRA.iter().find(|(host, _)| url.contains(host)).map(|(_, cloud)| *cloud)
}

/// Returns the tenant of a URL of Entra, and its cloud.
fn entra_tenant(url: &str) -> Option<(String, &'static str)> {
    let rest = url.strip_prefix("https://")?;
    let (host, path) = rest.split_once('/')?;
    let (_, cloud) = ENTRA.iter().find(|(own, _)| own.eq_ignore_ascii_case(host))?;
    let tenant = path.split('/').next().filter(|tenant| !tenant.is_empty())?;
    Some((tenant.to_owned(), cloud))
}

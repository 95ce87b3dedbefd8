//! Client assertions (RFC 7523): what a client proves itself with at Entra. They are no tokens for APIs.

use serde_json::{Map, Value};

/// Returns the kind in words, if it is a client assertion, and what Entra would not accept.
pub(super) fn inspect(header: &Map<String, Value>, claims: &Map<String, Value>) -> Option<(String, Vec<String>)> {
    let text = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let names_certificate = ["x5t", "x5t#S256", "x5c"].iter().any(|name| header.contains_key(*name));
    // What Entra issues names its tenant, and what it was issued to.
    let of_entra = ["tid", "ver", "scp", "azp", "appid", "oid", "nonce"].iter().any(|name| claims.contains_key(*name));
    let (issuer, subject, audience) = (text(claims, "iss"), text(claims, "sub"), text(claims, "aud"));
    let to_itself = !issuer.is_empty() && issuer.eq_ignore_ascii_case(&subject);
    let for_token_endpoint = audience.ends_with("/token") || audience.contains("/oauth2/");
    if of_entra || !(to_itself || for_token_endpoint) || !(names_certificate || to_itself) {
        return None;
    }
    let mut problems = Vec::new();
    let mut tell = |wrong: bool, what: String| problems.extend(wrong.then_some(what));
    let algorithm = text(header, "alg");
    tell(
        !matches!(&*algorithm, "RS256" | "PS256"),
        format!("Entra accepts assertions signed with PS256 or RS256, and not with {algorithm:?}"),
    );
    tell(!names_certificate, "it names no certificate (`x5t#S256` or `x5t`): Entra answers AADSTS700027".to_owned());
    tell(!to_itself, format!("`iss` is {issuer:?} and `sub` is {subject:?}: both must be the client id (AADSTS50048)"));
    tell(uuid::Uuid::parse_str(&issuer).is_err(), format!("`iss` is {issuer:?}, and not the client id, a GUID"));
    tell(audience.is_empty(), "`aud` is not one text: it must be the token endpoint's URL (AADSTS700023)".to_owned());
    tell(
        audience.contains("/common/") || audience.contains("/organizations/"),
        format!("`aud` is {audience}: it must name the tenant (AADSTS700023)"),
    );
    tell(!claims.contains_key("exp"), "`exp` is missing".to_owned());
    Some((format!("a client assertion of the application {issuer}, for {audience}"), problems))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CLIENT: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
    const ENDPOINT: &str = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/oauth2/v2.0/token";

    #[test]
    fn assertions_of_all_libraries_are_known_and_their_faults_named() {
        let good = json!({ "aud": ENDPOINT, "iss": CLIENT, "sub": CLIENT, "jti": "1", "exp": 1_800_000_000.5 });
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            claims
        };
        let modern = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": "a" });
        for (header, claims, expected) in [
            (modern.clone(), good.clone(), None),
            (json!({ "alg": "RS256", "typ": "JWT", "x5t": "a", "kid": "A" }), with("exp", json!("1800000000")), None),
            (json!({ "alg": "RS256" }), good.clone(), Some("names no certificate")),
            (json!({ "alg": "ES256", "x5t": "a" }), good.clone(), Some("ES256")),
            (modern.clone(), with("aud", json!([ENDPOINT])), Some("AADSTS700023")),
            (
                modern.clone(),
                with("aud", json!(ENDPOINT.replace("aaaabbbb-0000-cccc-1111-dddd2222eeee", "common"))),
                Some("name the tenant"),
            ),
            (modern, with("sub", json!("other")), Some("AADSTS50048")),
        ] {
            let (kind, problems) =
                inspect(header.as_object().unwrap(), claims.as_object().unwrap()).unwrap_or_else(|| panic!("{header} {claims}"));

            assert!(kind.starts_with("a client assertion"), "{kind}");
            match expected {
                None => assert_eq!(problems, Vec::<String>::new(), "{header}"),
                Some(words) => assert!(problems.iter().any(|problem| problem.contains(words)), "{problems:?}"),
            }
        }
        // Version 1 tokens of Entra have `x5t`, too.
        let token =
            json!({ "aud": "api://orders", "iss": "https://sts.windows.net/t/", "sub": "s", "tid": "t", "appid": CLIENT });
        assert!(
            inspect(json!({ "alg": "RS256", "x5t": "a", "kid": "a" }).as_object().unwrap(), token.as_object().unwrap()).is_none()
        );
    }
}

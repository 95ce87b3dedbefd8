//! Issuers: the expected `iss`, literal or as a template for many tenants.

/// The placeholder for the tenant in Entra's documents.
pub(crate) const PLACEHOLDER: &str = "{tenantid}";

/// An issuer in metadata and keys: a literal, or a template that leaves the tenant open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// A literal issuer.
    Literal(Box<str>),
    /// The text before the tenant, and the text after it.
    Template(Box<str>, Box<str>),
}

impl Issuer {
    /// Reads an issuer from a document. More than one placeholder is not supported.
    pub(crate) fn read(text: &str) -> Option<Self> {
        // The live documents write it in lower case, Microsoft's own code does not mind.
        let places: Vec<_> = text.to_ascii_lowercase().match_indices(PLACEHOLDER).map(|(at, _)| at).collect();
        match places.as_slice() {
            [] => Some(Self::Literal(text.into())),
            [at] => Some(Self::Template(text[..*at].into(), text[at + PLACEHOLDER.len()..].into())),
            _ => None,
        }
    }

    /// Returns whether `issuer` is this issuer for `tenant`, compared exactly.
    pub(crate) fn is(&self, issuer: &str, tenant: &str) -> bool {
        match self {
            Self::Literal(text) => **text == *issuer,
            Self::Template(before, after) => issuer
                .strip_prefix(&**before)
                .and_then(|rest| rest.strip_suffix(&**after))
                .is_some_and(|middle| !tenant.is_empty() && middle == tenant),
        }
    }

    /// Returns the issuer of `tenant`.
    pub(crate) fn of(&self, tenant: &str) -> String {
        match self {
            Self::Literal(text) => text.to_string(),
            Self::Template(before, after) => format!("{before}{tenant}{after}"),
        }
    }

    /// Returns the tenant of a literal issuer: the one GUID among the segments of its path.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match self {
            Self::Template(..) => None,
            Self::Literal(text) => {
                let mut ids = text.split('/').skip(3).filter(|segment| is_guid(segment));
                ids.next().filter(|first| ids.all(|other| other == *first))
            }
        }
    }

    /// Returns whether the tenant is left open.
    pub(crate) const fn is_template(&self) -> bool {
        matches!(self, Self::Template(..))
    }
}

/// Returns whether `text` is a GUID in its usual form: `8-4-4-4-12` hexadecimal digits.
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "0f0f0f0f-1111-4222-8333-444455556666";
    const OTHER: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

    #[test]
    fn compares_whole_issuers_letter_for_letter() {
        let literal = Issuer::read("https://sts.windows.net/0f0f0f0f-1111-4222-8333-444455556666/").unwrap();
        let template = Issuer::read("https://login.microsoftonline.com/{tenantid}/v2.0").unwrap();
        let v2 = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        for (row, issuer, text, tenant, expected) in [
            ("literal", &literal, format!("https://sts.windows.net/{TENANT}/"), TENANT, true),
            ("without the slash", &literal, format!("https://sts.windows.net/{TENANT}"), TENANT, false),
            ("template", &template, v2.clone(), TENANT, true),
            ("with a slash more", &template, format!("{v2}/"), TENANT, false),
            ("another tenant's", &template, v2.clone(), OTHER, false),
            ("no tenant", &template, "https://login.microsoftonline.com//v2.0".to_owned(), "", false),
            ("alias host", &template, format!("https://login.windows.net/{TENANT}/v2.0"), TENANT, false),
            ("longer host", &template, format!("https://login.microsoftonline.com.evil.example/{TENANT}/v2.0"), TENANT, false),
            ("plain http", &template, format!("http://login.microsoftonline.com/{TENANT}/v2.0"), TENANT, false),
            ("upper case", &template, v2.to_uppercase(), TENANT, false),
            ("two tenants", &template, format!("https://login.microsoftonline.com/{TENANT}/{TENANT}/v2.0"), TENANT, false),
            ("the template itself", &template, "https://login.microsoftonline.com/{tenantid}/v2.0".to_owned(), TENANT, false),
        ] {
            assert_eq!(issuer.is(&text, tenant), expected, "{row}");
        }
        assert_eq!(template.of(TENANT), v2);
    }

    #[test]
    fn finds_the_tenant_of_a_literal_issuer() {
        let tenant = |text: &str| Issuer::read(text).unwrap().tenant().map(str::to_owned);

        assert_eq!(tenant(&format!("https://sts.windows.net/{TENANT}/")).as_deref(), Some(TENANT));
        assert_eq!(tenant(&format!("https://{TENANT}.ciamlogin.com/{TENANT}/v2.0")).as_deref(), Some(TENANT));
        assert_eq!(tenant(&format!("https://idp.example/{TENANT}/{OTHER}")), None);
        assert_eq!(tenant("https://idp.example/contoso"), None);
        assert_eq!(tenant("https://idp.example/{tenantId}/v2.0"), None);
    }

    #[test]
    fn reads_one_placeholder_at_most() {
        assert!(Issuer::read("https://x/{TenantId}/").unwrap().is_template());
        assert_eq!(Issuer::read("https://x/{tenantid}/{tenantid}/"), None);
    }

    #[test]
    fn knows_a_guid() {
        assert!(is_guid(TENANT));
        assert!(is_guid(&TENANT.to_uppercase()));
        for text in ["", "contoso.com", "0f0f0f0f111142228333444455556666", "{0f0f0f0f-1111-4222-8333-444455556666}"] {
            assert!(!is_guid(text), "{text}");
        }
        assert!(!is_guid("0f0f0f0f-1111-4222-8333-44445555666g"));
    }
}

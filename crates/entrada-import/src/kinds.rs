//! Kinds of elements: what restricts access, answers, or decides where a request goes.

/// Returns whether an element restricts or grants access.
pub(crate) fn is_security(name: &str) -> bool {
    must_refuse(name) && !matches!(name, "rewrite-uri" | "set-backend-service" | "mock-response" | "include-fragment")
        || name.starts_with("authentication-")
        || matches!(name, "cors" | "get-authorization-context")
}

/// Returns whether a refusal stands in the place of an element that is not translated: it restricts access, answers, or decides
/// where the request goes.
pub(crate) fn must_refuse(name: &str) -> bool {
    matches!(
        name,
        "ip-filter"
            | "check-header"
            | "return-response"
            | "mock-response"
            | "set-backend-service"
            | "rewrite-uri"
            | "include-fragment"
            | "limit-concurrency"
            | "rate-limit"
            | "rate-limit-by-key"
            | "quota"
            | "quota-by-key"
    ) || name.starts_with("validate-")
        || name.ends_with("-token-limit")
        || name.ends_with("content-safety")
}

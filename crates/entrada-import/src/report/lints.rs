//! Dangerous originals, by code.

use super::Lint;

/// Returns the sentence of a lint.
fn sentence(code: &str) -> &'static str {
    match code {
        "L1" => "access depends on X-Forwarded-For, which any caller can write; it became a filter on the caller's address",
        "L2" => "the key of a counter is a field that the caller writes: whoever changes it begins anew",
        "L3" => "a token is read that no policy before has verified",
        "L4" => "a token policy without an audience: a token for any API of the tenant passes",
        "L5" => "a token policy that accepts any tenant, without a list of issuers",
        "L6" => "a credential stands in the document as a literal: rotate it, since it is in the repository's history",
        "L7" => "a symmetric signing key: whoever can verify tokens can make them",
        "L8" => "cors admits every origin",
        "L9" => "an API with neither a token policy nor a subscription key, or with the key alone",
        "L10" => "no <base />: access rules of a wider scope do not run here",
        "L11" => "the backend is made of the request's data, without a list of what it may be",
        "L12" => "the caller's own token is forwarded to the backend: `authorization: remove` unless it is needed",
        "L13" => "a backend without TLS",
        "L14" => "a token of the service's identity for every API of a wide scope: every backend of it sees the token",
        "L15" => "a sub-request whose failure is ignored: its response is then null, and conditions on it fall one way",
        "L16" => "the message of an error is shown to the caller",
        "L17" => "a cache key that is the same for all callers: one caller's value may serve another",
        _ => "an original to look at",
    }
}

/// Makes a lint.
pub(crate) fn lint(code: &'static str, file: &str, line: usize) -> Lint {
    Lint { file: file.to_owned(), line, code, message: sentence(code).to_owned() }
}

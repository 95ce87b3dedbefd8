//! Requests for tests.

use super::IncomingRequest;

/// Makes a request with these header fields and this query, parsed as any other.
pub(crate) fn request(headers: &[(&'static str, &str)], query: Option<&str>) -> IncomingRequest {
    let target = query.map_or_else(|| "/orders".to_owned(), |query| format!("/orders?{query}"));
    let mut request = http::Request::builder().uri(target).header("host", "api.contoso.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    IncomingRequest::read(request.body(()).unwrap().into_parts().0, None).unwrap()
}

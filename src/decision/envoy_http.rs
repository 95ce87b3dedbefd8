//! Questions of Envoy over HTTP: the method and the path of the request, behind a prefix.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Version};

use super::{
    answer::{Admitted, Answer, Refused, Told},
    changes::{Changes, Untellable},
    forwarded::{PATH, own, take_source},
    question::{Head, Question, QuestionFault, host, scheme, single, target},
};
use crate::base::{buffers, fields::Known};

/// The field that names the fields which Envoy removes from the request.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Reads a question.
pub(super) fn question(head: Head) -> Result<Question, QuestionFault> {
    let Head { method, uri, mut headers, .. } = head;
    let written = uri.path_and_query().and_then(|target| target.as_str().strip_prefix(PATH)).filter(|rest| rest.starts_with('/'));
    let target = target(written.ok_or(QuestionFault::NoQuestion("a path behind /decide"))?.as_bytes())?;
    let host = match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).map_err(|_| QuestionFault::Unreadable("host"))?,
        None => single(&headers, Known::Host, "host")?.to_header_value(),
    };
    let host = self::host(host)?;
    let scheme = scheme(single(&headers, Known::XForwardedProto, "scheme")?.as_bytes())?;
    let source = take_source(&mut headers)?;
    own(&mut headers);
    Ok(Question {
        method,
        target,
        host,
        scheme,
        version: Version::HTTP_11,
        headers,
        source,
        certificate: None,
        server_name: None,
    })
}

/// Makes the answer to a question about an admitted request.
pub(super) fn admit(admitted: &Admitted<'_>, told: &Told) -> Result<Answer, Untellable> {
    let mut changes = Changes::between(admitted.received, admitted.header)?;
    let mut headers = buffers::fields();
    for (name, value) in std::mem::take(&mut changes.set) {
        if !told.lists(name) {
            return Err(Untellable::NotListed(name.to_header_name()));
        }
        headers.try_append(name.as_bytes(), &value).map_err(|_| Untellable::Value(name.to_header_name()))?;
    }
    let mut gone = buffers::buffer();
    for name in changes.remove.iter().copied().chain(told.absent(admitted, &changes).map(|(name, _)| name.into())) {
        if !gone.is_empty() {
            gone.push(b',');
        }
        gone.extend_from_slice(name.as_str().as_bytes());
    }
    if !gone.is_empty() {
        // Names joined by commas are always a value.
        let _ = headers.try_append(TO_REMOVE.as_str().as_bytes(), &gone);
    }
    buffers::keep_buffer(gone);
    Ok(Answer::admission(headers))
}

/// Makes the answer to a question about a request that is refused.
pub(super) fn refuse(mut refused: Refused<'_>) -> Answer {
    // For a caller of gRPC Envoy makes the body the message of the status.
    if refused.to_grpc {
        refused.body = Bytes::copy_from_slice(refused.code.as_bytes());
        refused.headers.remove(Known::ContentType);
        refused.headers.remove(Known::ContentLength);
    }
    Answer::refusal(refused)
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::{super::forwarded::tests::asked, *};
    use crate::base::fields::Fields;

    const FIELDS: [(&str, &str); 3] =
        [("host", "api.contoso.example"), ("x-forwarded-proto", "https"), ("x-forwarded-for", "203.0.113.7")];

    #[test]
    fn the_path_stands_behind_the_prefix() {
        let question = question(asked("/decide/orders/1?x=%2F", &FIELDS)).unwrap();
        assert_eq!((question.target.as_str(), question.host.to_str().unwrap()), ("/orders/1?x=%2F", "api.contoso.example"));

        for target in ["/decide", "/orders", "/decidex", "/decide?x"] {
            assert!(self::question(asked(target, &FIELDS)).is_err(), "{target}");
        }
        for missing in 0..FIELDS.len() {
            let fields: Vec<_> =
                FIELDS.into_iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, field)| field).collect();
            assert!(self::question(asked("/decide/orders", &fields)).is_err(), "{missing}");
        }
    }

    #[test]
    fn an_admission_names_what_is_set_and_what_is_removed() {
        fn map<T: FromIterator<(HeaderName, HeaderValue)>>(fields: &[(&'static str, &'static str)]) -> T {
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        }
        let (received, header) = (map(&[("x_user", "evil"), ("accept", "*/*")]), map(&[("x-user", "nia"), ("accept", "*/*")]));
        let admitted = Admitted { received: &received, header: &header };
        let names = ["x-user", "x-groups"].map(HeaderName::from_static);

        let answer = admit(&admitted, &Told::new(names.to_vec(), names.to_vec())).unwrap();

        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(
            answer.headers,
            map::<Fields>(&[
                ("x-user", "nia"),
                ("x-envoy-auth-headers-to-remove", "x_user,x-groups"),
                ("cache-control", "no-store")
            ])
        );
        assert!(admit(&admitted, &Told::new(names[1..].to_vec(), Vec::new())).is_err(), "a name that Envoy would not take");
    }
}

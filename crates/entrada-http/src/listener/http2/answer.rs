//! The head of an HTTP/2 response.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderValue, Method, StatusCode, Version};
use http_body::SizeHint;

use crate::{
    base::fields::{Fields, Known},
    listener::http1::{AnswerError, Delimiter, RequestFacts},
};

/// The connection-specific fields, which HTTP/2 does not allow: RFC 9113, section 8.2.2. Besides `TE`, which belongs to requests.
const CONNECTION_SPECIFIC: [Known; 6] =
    [Known::Connection, Known::TransferEncoding, Known::Upgrade, Known::Te, Known::KeepAlive, Known::ProxyConnection];

/// The known length of a response's body when its head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// There is no body, whatever the service says.
    None,
    Known(u64),
    Unknown,
}

/// Prepares the head for HTTP/2, and determines the body's length.
///
/// # Errors
/// Fails if the response contradicts itself.
pub(super) fn prepare(status: StatusCode, headers: &mut Fields, hint: &SizeHint, method: &Method) -> Result<Length, AnswerError> {
    let delimiter = Delimiter::of(status, headers, hint, RequestFacts::by(method, Version::HTTP_2, true, false))?;
    for name in CONNECTION_SPECIFIC {
        headers.remove(name);
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(Known::ContentLength);
    }
    if !headers.contains_key(Known::Date) {
        headers.append(Known::Date, &date());
    }
    Ok(match delimiter {
        Delimiter::NoBody => Length::None,
        Delimiter::Length(length) => {
            if length > 0 && !headers.contains_key(Known::ContentLength) {
                headers.append(Known::ContentLength, &HeaderValue::from(length));
            }
            Length::Known(length)
        }
        Delimiter::Chunks | Delimiter::Close => Length::Unknown,
    })
}

/// Returns `Date` (RFC 9110, section 6.6.1), which is made once a second.
fn date() -> HeaderValue {
    thread_local!(static DATE: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) });
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|date| match date {
        Some((made, value)) if *made == second => value.clone(),
        _ => {
            let value = HeaderValue::try_from(httpdate::fmt_http_date(now)).expect("a date is visible ASCII");
            date.insert((second, value)).1.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_connection_do_not_leave() {
        let mut headers = Fields::of(&[
            ("connection", "x-a"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("x-b", "c"),
        ]);

        let length = prepare(StatusCode::OK, &mut headers, &SizeHint::with_exact(7), &Method::GET);

        assert_eq!(length, Ok(Length::Known(7)));
        assert!(headers.contains_key(Known::Date));
        headers.remove(Known::Date);
        assert_eq!(headers, Fields::of(&[("x-b", "c"), ("content-length", "7")]));
    }

    #[test]
    fn answers_without_a_body_announce_what_they_may() {
        for (status, method, announced, expected, kept) in [
            (200, Method::HEAD, Some("7"), Ok(Length::None), true),
            (304, Method::GET, Some("7"), Ok(Length::None), true),
            (204, Method::GET, Some("0"), Ok(Length::None), false),
            (200, Method::GET, Some("8"), Err(AnswerError::Length), true),
            (103, Method::GET, None, Err(AnswerError::Informational), false),
            (101, Method::GET, None, Err(AnswerError::Informational), false),
        ] {
            let mut headers = announced.map_or_else(Fields::default, |length| Fields::of(&[("content-length", length)]));

            let length = prepare(StatusCode::from_u16(status).unwrap(), &mut headers, &SizeHint::with_exact(7), &method);

            assert_eq!(length, expected, "{status} {method}");
            assert_eq!(headers.contains_key(Known::ContentLength), kept, "{status} {method}");
        }
    }
}

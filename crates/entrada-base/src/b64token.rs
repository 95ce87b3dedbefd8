//! The form of bearer tokens.

/// Returns whether the text is a `b64token`: RFC 6750, section 2.1.
pub fn is_b64token(text: &str) -> bool {
    let unpadded = text.trim_end_matches('=');
    !unpadded.is_empty()
        && unpadded.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/'))
}

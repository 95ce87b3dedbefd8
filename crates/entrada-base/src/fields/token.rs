//! The letters of names and values.

/// The letters of tokens (RFC 9110, section 5.6.2) in lower case; 0 for all other bytes.
pub const TOKEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};

/// Returns whether no value can hold the byte. RFC 9110, section 5.5: control characters but the tab.
pub const fn is_forbidden(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

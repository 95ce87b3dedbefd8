//! Names of the config, made of names of the originals.

/// Makes a name of lower-case letters, digits and `-`.
pub(crate) fn identifier(text: &str, otherwise: &str) -> String {
    let mut name = String::new();
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            name.push(letter.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() >= 60 {
            break;
        }
    }
    let name = name.trim_end_matches('-');
    if name.is_empty() { otherwise.to_owned() } else { name.to_owned() }
}

/// Makes a name that is not taken.
pub(crate) fn unique(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    if !is_taken(name) {
        return name.to_owned();
    }
    (2..).map(|count| format!("{name}-{count}")).find(|name| !is_taken(name)).unwrap_or_else(|| name.to_owned())
}

/// Makes a name of lower-case letters, digits and `_`: `walletId` becomes `wallet_id`.
pub(crate) fn snake(text: &str, otherwise: &str) -> String {
    let mut name = String::new();
    let mut was_lower = false;
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            if letter.is_ascii_uppercase() && was_lower {
                name.push('_');
            }
            was_lower = letter.is_ascii_lowercase() || letter.is_ascii_digit();
            name.push(letter.to_ascii_lowercase());
        } else {
            was_lower = false;
            if !name.is_empty() && !name.ends_with('_') {
                name.push('_');
            }
        }
    }
    let name = name.trim_end_matches('_');
    match name.bytes().next() {
        None => otherwise.to_owned(),
        Some(byte) if byte.is_ascii_digit() => format!("v{name}"),
        Some(_) => name.to_owned(),
    }
}

/// Makes the name of a capture: lower-case letters and `_`.
pub(crate) fn capture_name(text: &str) -> String {
    const DIGITS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let snake = snake(text, "part");
    snake
        .chars()
        .map(|letter| letter.to_digit(10).map_or_else(|| letter.to_string(), |digit| DIGITS[digit as usize].to_owned()))
        .collect()
}

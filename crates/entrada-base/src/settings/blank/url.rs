//! The secrets of URLs: user information (RFC 3986, section 3.2.1), and parameters that authorize their holder.

use percent_encoding::percent_decode_str;

/// Parameters of queries and connection strings whose values are secrets, such as the signatures of Azure Storage (SAS) and the keys
/// of Functions and API Management. Compared without case, `-` and `_`.
const SECRETS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "accountkey",
    "apikey",
    "assertion",
    "clientassertion",
    "clientsecret",
    "code",
    "idtoken",
    "key",
    "passwd",
    "password",
    "pwd",
    "refreshtoken",
    "secret",
    "sharedaccesskey",
    "sharedaccesssignature",
    "sig",
    "signature",
    "subscriptionkey",
    "token",
    "xfunctionskey",
];

/// Returns the positions of secrets in a text, in order and without overlaps.
pub(super) fn secrets(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    // A comma or an apostrophe may be part of the secret; redacting too much does no harm.
    let ends = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '`' | '<' | '>');
    let mut start = 0;
    for word in text.split(ends) {
        let after = user_information(word).map_or(0, |(from, to)| {
            found.push((start + from, start + to));
            to
        });
        parameters(&word[after..], |from, to| found.push((start + after + from, start + after + to)));
        start += word.len();
        start += text[start..].chars().next().map_or(0, char::len_utf8);
    }
    found
}

/// Finds `user:password` in `https://user:password@host`, also without a scheme or with backslashes. A password may be unescaped,
/// slashes included, so everything up to the last `@` of the word counts.
fn user_information(word: &str) -> Option<(usize, usize)> {
    let at = word.rfind('@')?;
    let slashes = ["://", "//", "\\\\"].iter().find_map(|slashes| Some(word.find(slashes)? + slashes.len()));
    let from = match slashes.filter(|from| *from < at) {
        Some(from) => from,
        // `user@host` may be an email address, and `@(…)` is an expression.
        None if word[..at].contains(':') && !word.starts_with("@(") => 0,
        None => return None,
    };
    (from < at).then_some((from, at))
}

/// Finds the values of secret parameters: in a query up to the next `&`, in a connection string up to the next `;`.
fn parameters(word: &str, mut found: impl FnMut(usize, usize)) {
    let mut at = 0;
    while let Some(equals) = word[at..].find('=').map(|equals| at + equals) {
        let name = word[at..equals].rfind(['?', '&', ';', '#']).map_or(at, |separator| at + separator + 1);
        let value = equals + 1;
        let separated = word[..name].ends_with(['?', '&', ';', '#']);
        if (separated || name == 0) && is_secret(&word[name..equals]) {
            let query = word[..name].ends_with(['?', '&', '#']);
            let end = word[value..].find(if query { '&' } else { ';' }).map_or(word.len(), |end| value + end);
            if value < end {
                found(value, end);
            }
            at = end;
        } else {
            at = value;
        }
    }
}

fn is_secret(name: &str) -> bool {
    let name = percent_decode_str(name).decode_utf8_lossy();
    // `value: 'AccountKey=…'` and `[sig=…]` in messages and lists.
    let name = name.trim_start_matches(['\'', '(', '[', '{']);
    let plain: String =
        name.chars().filter(|letter| !matches!(letter, '-' | '_')).map(|letter| letter.to_ascii_lowercase()).collect();
    SECRETS.contains(&&*plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        let (mut shown, mut done) = (String::new(), 0);
        for (start, end) in secrets(text) {
            shown.push_str(&text[done..start]);
            shown.push_str("****");
            done = end;
        }
        shown + &text[done..]
    }

    #[test]
    fn secrets_of_urls_are_found_however_they_are_written() {
        for (text, expected) in [
            ("https://u:PW@h/a", "https://****@h/a"),
            ("https://u@h", "https://****@h"),
            ("see `//u:PW@h` and", "see `//****@h` and"),
            ("http:\\\\u:PW@h", "http:\\\\****@h"),
            ("http:/u:PW@h", "****@h"),
            ("http:\\u:PW@h", "****@h"),
            ("u:PW@h:3128", "****@h:3128"),
            ("proxy: u:P/W@W@h,", "proxy: ****@h,"),
            ("- 'u:PW@h'", "- ****@h'"),
            ("https://u:PW@h?sig=abc", "https://****@h?sig=****"),
            ("https://h/a?sv=2024&sig=a%2Fb%3D&se=1", "https://h/a?sv=2024&sig=****&se=1"),
            ("https://h/a?%73ig=abc", "https://h/a?%73ig=****"),
            ("https://h/a?SIG=a;b#c", "https://h/a?SIG=****"),
            ("https://h/api?code=abc==", "https://h/api?code=****"),
            ("https://h/?Subscription-Key=abc", "https://h/?Subscription-Key=****"),
            ("https://h/#access_token=abc&x=1", "https://h/#access_token=****&x=1"),
            (
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=ab=;X=1",
                "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=****;X=1",
            ),
            ("AccountKey=ab==;X=1", "AccountKey=****;X=1"),
            ("value: 'AccountKey=ab==;X=1'", "value: 'AccountKey=****;X=1'"),
            ("[sig=ab, ({key=ab", "[sig=**** ({key=****"),
        ] {
            assert_eq!(blanked(text), expected, "{text}");
        }
        for text in [
            "owner: integration@contoso.example",
            "value: \"@(request.headers['x-key'])\"",
            "@(a:b@c)",
            "https://[::1]:1/a?b=c",
            "api://orders/.default",
            "the key `a` = b",
            "https://h/?signal=1&keys=2",
            "code == 'a'",
        ] {
            assert_eq!(blanked(text), text);
        }
    }
}

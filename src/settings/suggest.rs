//! Suggestions: "did you mean …?".

/// Suggests a replacement for `written`: the closest known word, or all of them after `list`. Empty where no words are known.
pub(crate) fn known<'a>(written: &str, words: impl IntoIterator<Item = &'a str>, list: &str) -> Option<String> {
    let words: Vec<&str> = words.into_iter().collect();
    if let Some(word) = closest(written, &words) {
        return Some(format!("did you mean `{word}`?"));
    }
    let shown: Vec<String> = words.iter().take(20).map(|word| format!("`{word}`")).collect();
    let more = if words.len() > shown.len() { ", …" } else { "" };
    (!shown.is_empty()).then(|| format!("{list} {}{more}", shown.join(", ")))
}

/// Returns the word that is close enough to be the one that was meant.
fn closest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let folded = |text: &str| text.to_ascii_lowercase().replace(['_', ' '], "-");
    let wanted = folded(written);
    words
        .iter()
        .map(|word| (strsim::osa_distance(&wanted, &folded(word)), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_is_close() {
        for (written, expected) in [
            ("adress", Some("did you mean `address`?")),
            ("forwardedHeader", Some("did you mean `forwarded-header`?")),
            ("trusted_proxies", Some("did you mean `trusted-proxies`?")),
            ("zebra", Some("the keys are `address`, `forwarded-header`, `trusted-proxies`")),
        ] {
            let found = known(written, ["address", "forwarded-header", "trusted-proxies"], "the keys are");
            assert_eq!(found.as_deref(), expected, "{written}");
        }
        assert_eq!(known("x", [], "the keys are"), None);
    }
}

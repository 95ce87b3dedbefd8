//! Suggestions: "did you mean …?".

/// Suggests a replacement for `written`: the closest known word, or all of them after `list`. Empty where no words are known.
pub fn known<'a>(written: &str, words: impl IntoIterator<Item = &'a str>, list: &str) -> Option<String> {
    let words: Vec<&str> = words.into_iter().collect();
    if let Some(word) = close(written, &words) {
        return Some(format!("did you mean `{word}`?"));
    }
    let near = nearest(written, &words).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    let shown: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    (!shown.is_empty()).then(|| format!("{list} {}{near}", shown.join(", ")))
}

/// Returns the word that is close enough to be the one that was meant.
pub fn close<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    let wanted = folded(written);
    let by_letters = words
        .iter()
        .map(|word| (strsim::osa_distance(&wanted, &folded(word)), *word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 6)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word);
    by_letters.or_else(|| {
        // The same word with more or fewer parts: `tenant-id`, `rate-limit`.
        let mut longer = words.iter().filter(|word| {
            let word = folded(word);
            let extends = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('-'));
            short_enough(&word, &wanted) && (extends(&wanted, &word) || extends(&word, &wanted))
        });
        longer.next().copied().filter(|_| longer.next().is_none())
    })
}

/// Returns the most similar word, if one is similar at all.
pub fn nearest<'a>(written: &str, words: &[&'a str]) -> Option<&'a str> {
    const LIKE: f64 = 0.8;
    let wanted = folded(written);
    words
        .iter()
        .map(|word| (strsim::jaro_winkler(&wanted, &folded(word)), *word))
        .filter(|(likeness, _)| *likeness >= LIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

/// Returns whether the two words differ in length by a few letters at most.
fn short_enough(one: &str, other: &str) -> bool {
    one.len().abs_diff(other.len()) <= 8
}

/// Returns the word in lower case, its parts joined by hyphens.
fn folded(text: &str) -> String {
    text.to_ascii_lowercase().replace(['_', ' '], "-")
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

//! Comments that silence lints: `# entrada: allow CODE until 2027-06-30 because REASON`.

use std::ops::Range;

use super::silence::{Reach, Silence};
use crate::settings::{
    Date, Finding, Lint,
    fault::Place,
    node::{Kind, Node},
    origin::{Origin, Sources},
    suggest,
};

const FORM: &str = "write `# entrada: allow CODE because REASON`, or with `until 2027-06-30` before `because`";

/// Returns the silences in the comments of all files, and the comments that are to be silences and are none.
pub(super) fn comments(document: &Node, sources: &Sources) -> (Vec<Silence>, Vec<Finding>) {
    let (mut silences, mut invalid) = (Vec::new(), Vec::new());
    let mut scalars = Vec::new();
    let mut gathered = false;
    for file in 0..sources.len() {
        let text = &sources.get(file).text;
        let mut start = 0;
        for (index, line) in text.split('\n').enumerate() {
            let found = find(line).map(|range| start + range.start..start + range.end);
            let at_line = start;
            start += line.len() + 1;
            let Some(range) = found else { continue };
            if !gathered {
                gather(document, &mut scalars);
                gathered = true;
            }
            let within = |(other, scalar): &(usize, Range<usize>)| *other == file && scalar.contains(&range.start);
            if scalars.iter().any(within) {
                continue;
            }
            let at = Origin::new(file, range.clone());
            // A comment alone on its line is about the next one.
            let alone = text[at_line..].trim_start().starts_with('#');
            let line = if alone { next_line(text, index) } else { index };
            match read(text[range].trim_end()) {
                Ok((lints, until, reason)) => silences.extend(lints.into_iter().map(|lint| Silence {
                    lint,
                    reach: Reach::Line { file, line: line + 1 },
                    reason: reason.clone(),
                    until,
                    at: at.clone(),
                    place: Place::root(),
                })),
                Err((message, cure)) => {
                    invalid.push(Finding::warning(Lint::SilenceInvalid, at, &Place::root(), message, cure));
                }
            }
        }
    }
    (silences, invalid)
}

/// Returns the range of a comment for this program within a line, from its `#` on.
fn find(line: &str) -> Option<Range<usize>> {
    line.match_indices('#').find_map(|(at, _)| {
        let begins = line[..at].chars().next_back().is_none_or(char::is_whitespace);
        let ours = line[at + 1..].trim_start().strip_prefix("entrada:").is_some();
        (begins && ours).then_some(at..line.len())
    })
}

/// Returns the index of the next line that is neither empty nor a comment.
fn next_line(text: &str, index: usize) -> usize {
    let next = text.split('\n').enumerate().skip(index + 1).find(|(_, line)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    next.map_or(index, |(next, _)| next)
}

type Invalid = (String, String);

/// Reads a comment.
fn read(comment: &str) -> Result<(Vec<Lint>, Option<Date>, String), Invalid> {
    let text = comment.trim_start_matches('#').trim_start();
    let text = text.strip_prefix("entrada:").unwrap_or(text).trim();
    let Some(rest) = text.strip_prefix("allow").filter(|rest| rest.starts_with(char::is_whitespace)) else {
        return Err(("this comment for entrada does not say `allow`".to_owned(), FORM.to_owned()));
    };
    let (what, reason) = rest.split_once(" because ").map_or((rest, ""), |(what, reason)| (what, reason.trim()));
    let what = what.trim();
    let what = what.strip_suffix(" because").unwrap_or(what);
    let (codes, until) = match what.split_once(" until ") {
        Some((codes, day)) => {
            let read = Date::parse(day.trim());
            (codes, Some(read.ok_or_else(|| (format!("`{}` is not a day", day.trim()), "write it as in 2027-06-30".to_owned()))?))
        }
        None => (what, None),
    };
    let lints = codes.split([',', ' ']).filter(|code| !code.is_empty()).map(lint).collect::<Result<Vec<_>, _>>()?;
    if lints.is_empty() {
        return Err(("this comment silences nothing".to_owned(), FORM.to_owned()));
    }
    if reason.is_empty() {
        return Err(("this comment gives no reason, and silences nothing".to_owned(), FORM.to_owned()));
    }
    Ok((lints, until, reason.to_owned()))
}

fn lint(code: &str) -> Result<Lint, Invalid> {
    Lint::of_code(code).ok_or_else(|| {
        let codes: Vec<_> = Lint::ALL.iter().map(|lint| lint.code()).collect();
        let cure = suggest::close(code, &codes).map_or_else(
            || "write the code of a lint, as `check --format json` and docs/lints.md have it".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        (format!("no lint has the code `{code}`"), cure)
    })
}

/// Collects the ranges of texts, in which a `#` is no comment.
fn gather(node: &Node, scalars: &mut Vec<(usize, Range<usize>)>) {
    match &node.kind {
        Kind::List(entries) => entries.iter().for_each(|entry| gather(entry, scalars)),
        Kind::Map(entries) => entries.iter().for_each(|(key, value)| {
            scalars.push((key.at.file, key.at.start..key.at.end));
            gather(value, scalars);
        }),
        Kind::Text(_) | Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Broken => {
            scalars.push((node.at.file, node.at.start..node.at.end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_lints_a_day_and_a_reason() {
        let day = Date::parse("2027-06-30");
        let (wide, unused) = (Lint::TokenUnrestricted, Lint::Unused);
        for (text, expected) in [
            ("# entrada: allow unused because it comes soon", Ok((vec![unused], None, "it comes soon"))),
            ("#entrada:  allow unused until 2027-06-30 because of it", Ok((vec![unused], day, "of it"))),
            ("# entrada: allow unused, token-unrestricted because x", Ok((vec![unused, wide], None, "x"))),
            ("# entrada: allow unused", Err("no reason")),
            ("# entrada: allow unused because", Err("no reason")),
            ("# entrada: allow unused because  ", Err("no reason")),
            ("# entrada: allow unusd because x", Err("no lint has the code `unusd`")),
            ("# entrada: allow because x", Err("silences nothing")),
            ("# entrada: allow unused until soon because x", Err("`soon` is not a day")),
            ("# entrada: deny unused because x", Err("does not say `allow`")),
            ("# entrada: allowed unused because x", Err("does not say `allow`")),
        ] {
            match (read(text), expected) {
                (Ok((lints, until, reason)), Ok(expected)) => assert_eq!((lints, until, &*reason), expected, "{text}"),
                (Err((message, cure)), Err(expected)) => {
                    assert!(message.contains(expected) && !cure.is_empty(), "{text}: {message}")
                }
                (read, _) => panic!("{text}: {read:?}"),
            }
        }
    }

    #[test]
    fn only_comments_count() {
        for (line, expected) in [
            ("a: 1 # entrada: allow unused because x", Some(5)),
            ("# entrada: allow", Some(0)),
            ("a: b# entrada: allow", None),
            ("a: 1 # of entrada: allow", None),
            ("a: 1 # note # entrada: allow", Some(12)),
        ] {
            assert_eq!(find(line).map(|range| range.start), expected, "{line}");
        }
    }
}

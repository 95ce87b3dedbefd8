//! A difference in Markdown, for a comment on a pull request.

use std::fmt::Write as _;

use super::{
    report::{Change, Difference, Group},
    text::{flow, listed},
};

impl Difference {
    /// Writes the difference in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("### Access: {}\n", cell(&self.summary()));
        for (change, title) in [(Change::Gain, "Gains access"), (Change::Loss, "Loses access")] {
            let groups: Vec<&Group> = self.of(change).collect();
            if groups.is_empty() {
                continue;
            }
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "\n#### {title}\n\n| | routes | who | before | after | cause |\n| --- | --- | --- | --- | --- | --- |\n"
            );
            for (number, group) in groups.iter().enumerate() {
                let causes: Vec<String> = group
                    .places
                    .iter()
                    .map(|place| match &place.place {
                        Some(at) => format!("`{}:{}` {}", at.file, at.line, place.what),
                        None => place.what.clone(),
                    })
                    .collect();
                let since = group.from.as_ref().map(|from| format!(", from {from} on")).unwrap_or_default();
                let row = [
                    (number + 1).to_string(),
                    group.where_it_is(),
                    format!("{}{since}", group.who()),
                    group.before.in_words(),
                    group.after.in_words(),
                    causes.join("; "),
                ];
                let _ = writeln!(text, "| {} |", row.map(|text| cell(&text)).join(" | "));
            }
            for (number, group) in groups.iter().enumerate() {
                let tokens: Vec<String> = group.witness.token_spec.iter().map(|spec| flow(&spec["token"])).collect();
                let from = group.witness.request["from"].as_str().unwrap_or_default();
                let token = if tokens.is_empty() { String::new() } else { format!("# token: {}\n", tokens.join(" and ")) };
                let _ = write!(
                    text,
                    "\n<details><summary>{} {}: a request that {}</summary>\n\n```\n# from {from}\n{token}{}\n```\n\n</details>\n",
                    if change == Change::Gain { "Gain" } else { "Loss" },
                    number + 1,
                    if change == Change::Gain { "is newly served" } else { "is refused from now on" },
                    group.witness.curl.replace("```", "` ` `")
                );
            }
        }
        if !self.treatment.is_empty() {
            text.push_str("\n#### Same callers, other treatment\n\n| route | change |\n| --- | --- |\n");
            for treatment in &self.treatment {
                let _ = writeln!(text, "| {} | {} |", cell(&treatment.route), cell(&treatment.in_words()));
            }
        }
        let _ = writeln!(text, "\nNot compared: {}.", cell(&listed(&self.not_compared)));
        if !self.unknown.is_empty() {
            text.push_str("\n#### Unknown\n\n");
            for unknown in &self.unknown {
                let _ = writeln!(text, "- `{}` {}", unknown.place, cell(&unknown.why));
            }
        }
        for why in &self.cut_short {
            let _ = writeln!(text, "\n**Not complete:** {}. What was not compared may differ.", cell(why));
        }
        text
    }
}

/// Makes a text safe for a cell of a table: what the config says is shown as it is.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '|' | '<' | '>' | '*' | '_' | '[' | ']' | '\\' | '@' => {
                safe.push('\\');
                safe.push(letter);
            }
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

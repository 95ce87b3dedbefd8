//! The report for people.

use std::fmt::Write as _;

use super::{Entry, EntryKind, Report, Totals, Verdict};

/// The maximum number of entries of one kind in the text for people.
const MOST: usize = 200;
/// The number of reasons in the summary.
const REASONS: usize = 5;

impl Report {
    /// Returns the summary: about ten lines.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        let _ = self.write_summary(&mut text);
        text
    }

    fn write_summary(&self, out: &mut String) -> std::fmt::Result {
        let (elements, expressions) = (self.totals(EntryKind::Element), self.totals(EntryKind::Expression));
        writeln!(out, "documents    {}, {} of them translated whole", self.documents.len(), self.whole_documents().len())?;
        for (name, totals) in [("elements", elements), ("expressions", expressions)] {
            let Totals { same, note, changed, not } = totals;
            writeln!(
                out,
                "{name:<12} {}: {same} same, {note} same with a note, {changed} changed, {not} not translated",
                totals.all()
            )?;
        }
        writeln!(
            out,
            "routes       {}, in {} of them a refusal stands for a rule that was not translated",
            self.routes, self.refused_routes
        )?;
        if !self.merged.is_empty() {
            let operations: usize = self.merged.iter().map(|(_, operations)| operations.len()).sum();
            writeln!(
                out,
                "merged       {operations} operations are {} of the routes, since their policies are alike",
                self.merged.len()
            )?;
        }
        let reasons: Vec<_> = self.reasons().into_iter().take(REASONS).map(|(code, count)| format!("{code} {count}")).collect();
        if !reasons.is_empty() {
            writeln!(out, "why not      {}", reasons.join(", "))?;
        }
        let access: Vec<_> = self.access_rules_not_translated().collect();
        if let Some(first) = access.first() {
            writeln!(
                out,
                "access       {} rules are not translated and refuse in their place, the first at {}:{} ({})",
                access.len(),
                first.file,
                first.line,
                first.element
            )?;
        }
        if !self.lints.is_empty() {
            writeln!(out, "warnings     {} places of the originals are dangerous: see the report", self.lints.len())?;
        }
        writeln!(out, "next         {}", self.next_steps())
    }

    fn access_rules_not_translated(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.security && entry.verdict == Verdict::Not && entry.code != "enclosed")
    }

    fn next_steps(&self) -> String {
        let mut steps = Vec::new();
        let partners = self.needs.iter().filter(|need| need.kind == "partner").count();
        let other = self.needs.len() - partners;
        if partners > 0 {
            steps.push(format!("fill in {partners} partners"));
        }
        if other > 0 {
            steps.push(format!("supply {other} values"));
        }
        steps.push("read what is changed and not translated".to_owned());
        steps.push("run `entrada check`".to_owned());
        steps.join(", ")
    }

    /// Returns the report for people, in Markdown.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from("# Import from API Management\n\n```text\n");
        text.push_str(&self.summary());
        text.push_str("```\n");
        let _ = self.write_sections(&mut text);
        text
    }

    fn write_sections(&self, out: &mut String) -> std::fmt::Result {
        let access: Vec<_> = self.access_rules_not_translated().collect();
        entries(out, "Access rules that refuse in their place", &access)?;
        if !self.lints.is_empty() {
            writeln!(out, "\n## Dangerous originals\n\n| place | | |\n| --- | --- | --- |")?;
            for lint in self.lints.iter().take(MOST) {
                writeln!(out, "| {}:{} | {} | {} |", cell(&lint.file), lint.line, lint.code, cell(&lint.message))?;
            }
            cut(out, self.lints.len())?;
        }
        if !self.needs.is_empty() {
            writeln!(out, "\n## To be supplied\n\n| kind | name | where |\n| --- | --- | --- |")?;
            for need in self.needs.iter().take(MOST) {
                writeln!(out, "| {} | `{}` | {} |", need.kind, cell(&need.name), cell(&need.advice))?;
            }
            cut(out, self.needs.len())?;
        }
        let told = |verdict| {
            self.entries
                .iter()
                .filter(move |entry| entry.verdict == verdict && entry.code != "enclosed" && !entry.code.is_empty())
                .filter(|entry| entry.kind != EntryKind::Expression || verdict != Verdict::Changed)
                .collect::<Vec<_>>()
        };
        entries(out, "Not translated", &told(Verdict::Not))?;
        entries(out, "Changed", &told(Verdict::Changed))?;
        self.notes(out)?;
        if !self.merged.is_empty() {
            writeln!(out, "\n## Operations with the same policies\n\n| route | operations |\n| --- | --- |")?;
            for (route, operations) in self.merged.iter().take(MOST) {
                let operations: Vec<_> = operations.iter().map(|operation| format!("`{}`", cell(operation))).collect();
                writeln!(out, "| `{route}` | {} |", operations.join(", "))?;
            }
            cut(out, self.merged.len())?;
        }
        if !self.renamed.is_empty() {
            writeln!(out, "\n## Variables with another name\n\n| there | here |\n| --- | --- |")?;
            for (there, here) in &self.renamed {
                writeln!(out, "| `{}` | `{here}` |", cell(there))?;
            }
        }
        if !self.out_of_scope.is_empty() {
            writeln!(out, "\n## Seen and left alone\n\n| kind | number |\n| --- | --- |")?;
            for (kind, count) in &self.out_of_scope {
                writeln!(out, "| {} | {count} |", cell(kind))?;
            }
        }
        writeln!(out, "\nAn expression that fails ends in a 500 there, and in the refusal of its policy here.")
    }

    /// Writes the notes, each once with the number of places.
    fn notes(&self, out: &mut String) -> std::fmt::Result {
        let mut notes = std::collections::BTreeMap::<(&str, &str), usize>::new();
        // What stands within an element takes part in its note: the outermost is the place.
        let mut within = ("", "", "", String::new());
        for entry in self.entries.iter().filter(|entry| entry.verdict == Verdict::Note && !entry.reason.is_empty()) {
            let (file, code, reason) = (entry.file.as_str(), entry.code.as_str(), entry.reason.as_str());
            if (file, code, reason) == (within.0, within.1, within.2) && entry.path.starts_with(&within.3) {
                continue;
            }
            within = (file, code, reason, format!("{}/", entry.path));
            *notes.entry((code, reason)).or_default() += 1;
        }
        if notes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n## Same with a note\n\n| | places |\n| --- | --- |")?;
        for ((_, reason), count) in notes {
            writeln!(out, "| {} | {count} |", cell(reason))?;
        }
        Ok(())
    }
}

fn entries(out: &mut String, title: &str, entries: &[&Entry]) -> std::fmt::Result {
    if entries.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## {title}\n\n| place | element | why | what to do |\n| --- | --- | --- | --- |")?;
    for entry in entries.iter().take(MOST) {
        writeln!(
            out,
            "| {}:{} | `{}` | {}: {} | {} |",
            cell(&entry.file),
            entry.line,
            cell(&entry.element),
            entry.code,
            cell(&entry.reason),
            cell(&entry.advice)
        )?;
    }
    cut(out, entries.len())
}

fn cut(out: &mut String, length: usize) -> std::fmt::Result {
    if length > MOST {
        writeln!(out, "\nand {} more: `--report FILE` has all of them.", length - MOST)?;
    }
    Ok(())
}

/// Returns a text that stays within its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

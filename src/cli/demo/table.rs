//! The requests as a table, for people.

use std::fmt::Write as _;

use super::walk::Outcome;

/// The use of colours.
struct Colours(bool);

impl Colours {
    fn with(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    fn bad(&self, text: &str) -> String {
        self.with("1;31", text)
    }

    fn faint(&self, text: &str) -> String {
        self.with("2", text)
    }

    fn strong(&self, text: &str) -> String {
        self.with("1", text)
    }
}

/// Renders the table and its closing line.
pub(super) fn render(outcomes: &[Outcome], colours: bool) -> String {
    let paint = Colours(colours);
    let width = |of: fn(&Outcome) -> usize| outcomes.iter().map(of).max().unwrap_or_default();
    let (title, request) = (width(|outcome| outcome.title.chars().count()), width(|outcome| outcome.request.chars().count()));
    let number = outcomes.len().to_string().len();

    let mut text = format!(
        "{} a development tenant, two backends and a gateway, in this one process.\n{} requests, and what became of each:\n",
        paint.strong("entrada demo:"),
        outcomes.len(),
    );
    for (heading, allowed) in [("Let through", true), ("Refused", false)] {
        let _ = writeln!(text, "\n{}", paint.strong(heading));
        for (index, outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| outcome.allowed == allowed) {
            let mark = if outcome.is_as_expected() { paint.good("✓") } else { paint.bad("✗") };
            // Padded before it is painted: colours have no width.
            let status = outcome.status.to_string();
            let status = if allowed { paint.good(&status) } else { paint.with("33", &status) };
            let _ = writeln!(
                text,
                "  {mark} {} {:<title$}  {}  {status}  {}",
                paint.faint(&format!("{:>number$}", index + 1)),
                outcome.title,
                paint.faint(&format!("{:<request$}", outcome.request)),
                outcome.note,
            );
            if let Some(unexpected) = &outcome.unexpected {
                let _ = writeln!(text, "    {:>number$} {}", "", paint.bad(&format!("not as expected: {unexpected}")));
            }
        }
    }
    let good = outcomes.iter().filter(|outcome| outcome.is_as_expected()).count();
    let summary = format!("{good} of {} outcomes as expected", outcomes.len());
    let _ = writeln!(text, "\n{}", if good == outcomes.len() { paint.good(&summary) } else { paint.bad(&summary) });
    text
}

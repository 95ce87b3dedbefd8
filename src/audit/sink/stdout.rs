//! Standard output: JSON for programs, a line for a person on a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use super::outflow::Writer;
use crate::audit::{config::FormatConfig, text};

/// Returns the writer of standard output.
pub(super) fn writer(format: Option<FormatConfig>) -> Writer {
    let by_place = || if io::stdout().is_terminal() { FormatConfig::Text } else { FormatConfig::Json };
    match format.unwrap_or_else(by_place) {
        FormatConfig::Json => Box::new(print),
        FormatConfig::Text => Box::new(|lines| {
            let mut readable = String::new();
            lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| text::write(line, &mut readable));
            print(readable.as_bytes())
        }),
    }
}

fn print(lines: &[u8]) -> io::Result<u64> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(lines)?;
    stdout.flush()?;
    Ok(0)
}

//! `entrada audit tail`: records as lines for people.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use serde_json::{Map, Value};

use crate::{audit::text, expression::RecordCondition};

/// The time between two looks at a file that grows.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `entrada audit tail`.
#[derive(Args, Debug)]
#[command(after_help = "Exit status: 0 at the end of the file, 2 if it cannot be read or the condition is faulty.")]
pub(super) struct TailArguments {
    /// The file of records; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Go on with what is added to the file, also after it was rotated
    #[arg(long, short = 'f')]
    follow: bool,
    /// Show only records that satisfy a condition, as `code == "role-missing" && status >= 400`. A field is a name by itself, and
    /// `has(record.hint)` asks whether there is one
    #[arg(long, value_name = "CONDITION")]
    r#where: Option<String>,
    /// Show this many records from the end of the file [default: all]
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
}

/// Shows the records.
///
/// # Errors
/// Fails if the file cannot be read, or the condition is faulty.
pub(super) fn run(arguments: &TailArguments) -> anyhow::Result<ExitCode> {
    let condition = arguments.r#where.as_deref().map(RecordCondition::parse).transpose();
    let condition = condition.map_err(|fault| {
        let cure = if fault.cure.is_empty() { String::new() } else { format!("; {}", fault.cure) };
        anyhow!("--where {fault}{cure}")
    })?;
    let mut shown = Shown { condition, last: arguments.lines, kept: Vec::new(), part: Vec::new() };
    let result = if arguments.file == Path::new("-") {
        shown.read(&mut io::stdin().lock()).and_then(|()| shown.end(false))
    } else {
        follow(&arguments.file, arguments.follow, &mut shown)
    };
    match result {
        // Whoever reads has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(ExitCode::SUCCESS),
    }
}

/// Shows a file, and what is added to it.
fn follow(path: &Path, follow: bool, shown: &mut Shown) -> anyhow::Result<()> {
    let open = || File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let mut file = BufReader::new(open()?);
    shown.read(&mut file)?;
    shown.end(follow)?;
    if !follow {
        return Ok(());
    }
    loop {
        std::thread::sleep(LOOK_EVERY);
        shown.read(&mut file)?;
        // It was renamed, and another one has its name: what was still written to the old one has just been read.
        if let Ok(other) = File::open(path)
            && !is_same(file.get_ref(), &other)?
        {
            shown.read(&mut file)?;
            file = BufReader::new(other);
        }
    }
}

#[cfg(unix)]
fn is_same(one: &File, other: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;

    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
}

#[cfg(not(unix))]
fn is_same(_: &File, _: &File) -> io::Result<bool> {
    Ok(true)
}

/// The records that are shown.
struct Shown {
    condition: Option<RecordCondition>,
    /// The number of records from the end, until the end was reached.
    last: Option<usize>,
    /// Those of them that were read.
    kept: Vec<String>,
    /// The beginning of a line whose end is not there yet.
    part: Vec<u8>,
}

impl Shown {
    /// Shows whole lines; a part of one waits for the rest.
    fn read(&mut self, from: &mut impl BufRead) -> anyhow::Result<()> {
        loop {
            from.read_until(b'\n', &mut self.part)?;
            let Some(line) = self.part.strip_suffix(b"\n").map(<[u8]>::to_vec) else { return Ok(()) };
            self.part.clear();
            self.show(&line)?;
        }
    }

    fn show(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if let Some(condition) = &self.condition {
            let record: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
            if !record.is_some_and(|record| condition.holds(&record)) {
                return Ok(());
            }
        }
        let mut readable = String::new();
        text::write(line, &mut readable);
        match self.last {
            Some(last) => {
                self.kept.push(readable);
                if self.kept.len() > 2 * last {
                    self.kept.drain(..self.kept.len() - last);
                }
            }
            None => print(&readable)?,
        }
        Ok(())
    }

    /// Notes that the end was reached. Unless more may come, a line without its end is shown, too.
    fn end(&mut self, goes_on: bool) -> anyhow::Result<()> {
        if !goes_on && !self.part.is_empty() {
            let line = std::mem::take(&mut self.part);
            self.show(&line)?;
        }
        if let Some(last) = self.last.take() {
            let kept = std::mem::take(&mut self.kept);
            kept.iter().skip(kept.len().saturating_sub(last)).try_for_each(|line| print(line))?;
        }
        Ok(())
    }
}

fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(line.as_bytes())?;
    stdout.flush()
}

//! The text of metrics: Prometheus' format, and OpenMetrics.

use std::{fmt::Write, time::Duration};

/// The format of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that a reader asks for in `Accept`.
    pub fn asked_for(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the content type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Metrics as text, under construction.
#[derive(Debug, Default)]
pub struct MetricsText {
    text: String,
    format: Format,
}

impl MetricsText {
    /// Makes an empty text of this format.
    pub fn new(format: Format) -> Self {
        Self { text: String::new(), format }
    }

    /// Begins a family: its name, type (`counter`, `gauge`, `histogram`, `summary`) and help text.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // OpenMetrics names a counter without the suffix that its samples have.
        let name = match self.format {
            Format::OpenMetrics if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        // Writing to a string cannot fail, here and below.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Writes a family with one sample that has no labels.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Writes one sample. Labels come from the config, never from a caller.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        self.labels(labels);
        let _ = writeln!(self.text, " {value}");
    }

    /// Writes the samples of a histogram: the count of each bucket beside its bound, the count of all values and their sum.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        buckets: impl Iterator<Item = (String, u64)>,
        count: u64,
        sum: impl std::fmt::Display,
    ) {
        let mut below = 0;
        let buckets = buckets.map(|(bound, own)| {
            below += own;
            (bound, below)
        });
        for (bound, below) in buckets.chain([("+Inf".to_owned(), count)]) {
            let _ = write!(self.text, "{name}_bucket");
            let labels: Vec<_> = labels.iter().copied().chain([("le", &*bound)]).collect();
            self.labels(&labels);
            let _ = writeln!(self.text, " {below}");
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, count);
    }

    fn labels(&mut self, labels: &[(&str, &str)]) {
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for letter in text.chars() {
                match letter {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    /// Returns the whole text.
    pub fn into_string(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Returns microseconds as seconds.
pub(super) fn seconds(microseconds: u64) -> String {
    Duration::from_micros(microseconds).as_secs_f64().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_names_counters_without_their_suffix_and_has_an_end() {
        let mut text = MetricsText::new(Format::asked_for("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"));
        text.single("a_total", "counter", "All.", 1);
        text.family("d_seconds", "histogram", "Durations.");
        text.histogram("d_seconds", &[("r", "x")], [("0.5".to_owned(), 1), ("1".to_owned(), 2)].into_iter(), 4, 3.5);

        assert_eq!(
            text.into_string(),
            "# HELP a All.\n# TYPE a counter\na_total 1\n# HELP d_seconds Durations.\n# TYPE d_seconds histogram\n\
             d_seconds_bucket{r=\"x\",le=\"0.5\"} 1\nd_seconds_bucket{r=\"x\",le=\"1\"} 3\nd_seconds_bucket{r=\"x\",le=\"+Inf\"} 4\n\
             d_seconds_sum{r=\"x\"} 3.5\nd_seconds_count{r=\"x\"} 4\n# EOF\n"
        );
        assert_eq!(Format::asked_for("*/*"), Format::Prometheus);
    }
}

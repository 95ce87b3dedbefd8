//! Metrics as OTLP has them, made from the text of [`MetricsText`](crate::telemetry::MetricsText): one source, so that a scrape and an
//! export never differ.

use std::collections::BTreeMap;

use super::protobuf::Message;

/// Cumulative values: `AggregationTemporality`.
const CUMULATIVE: u64 = 2;

/// The names of OpenTelemetry, whose text form has units and underscores.
const NAMES: [(&str, &str, &str); 5] = [
    ("http_server_request_duration_seconds", "http.server.request.duration", "s"),
    ("http_server_request_body_size_bytes", "http.server.request.body.size", "By"),
    ("http_server_response_body_size_bytes", "http.server.response.body.size", "By"),
    ("http_server_active_requests", "http.server.active_requests", "{request}"),
    ("http_client_request_duration_seconds", "http.client.request.duration", "s"),
];

/// The attributes of OpenTelemetry among the labels.
const ATTRIBUTES: [(&str, &str); 5] = [
    ("http_route", "http.route"),
    ("http_request_method", "http.request.method"),
    ("http_response_status_code", "http.response.status_code"),
    ("server_address", "server.address"),
    ("server_port", "server.port"),
];

/// The time between which values were counted, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    pub(super) from: u64,
    pub(super) until: u64,
}

type Labels = Vec<(String, String)>;

/// A family as it was read.
#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Writes the metrics of this text: `ScopeMetrics.metrics`, one field each, in parts of at most so many bytes. A metric is never
/// divided, so that a large one may be a part of more.
pub(super) fn write(text: &str, period: Period, most: usize) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    for family in read(text) {
        let mut message = Message::default();
        // A summary has sum and count alone here, which are two counters.
        if family.kind == "summary" {
            for end in ["_sum", "_count"] {
                let samples = family.samples.iter().filter(|(name, ..)| name.ends_with(end)).cloned().collect();
                let name = format!("{}{end}", family.name);
                write_family(
                    &mut message,
                    &Family { name, kind: "counter".to_owned(), help: family.help.clone(), samples },
                    period,
                );
            }
        } else {
            write_family(&mut message, &family, period);
        }
        let written = message.into_bytes();
        match parts.last_mut() {
            Some(part) if part.is_empty() || part.len() + written.len() <= most => part.extend_from_slice(&written),
            _ => parts.push(written),
        }
    }
    parts
}

fn write_family(message: &mut Message, family: &Family, period: Period) {
    if family.samples.is_empty() {
        return;
    }
    let known = NAMES.iter().find(|(name, ..)| *name == family.name);
    let (name, unit) = known.map_or((&*family.name, ""), |(_, name, unit)| (name, unit));
    message.message(2, |metric| {
        metric.text(1, name).text(2, &family.help).text(3, unit);
        match &*family.kind {
            "histogram" => {
                metric.message(9, |histogram| histograms(histogram, family, period));
            }
            "counter" => {
                metric.message(7, |sum| {
                    numbers(sum, family, period);
                    sum.number(2, CUMULATIVE).number(3, 1);
                });
            }
            _ => {
                metric.message(5, |gauge| numbers(gauge, family, period));
            }
        }
    });
}

fn numbers(message: &mut Message, family: &Family, period: Period) {
    for (_, labels, value) in &family.samples {
        message.message(1, |point| {
            point.fixed64(2, period.from).fixed64(3, period.until).double(4, *value);
            attributes(point, 7, labels);
        });
    }
}

/// A histogram with its labels: the bounds with the counts up to them, the sum and the count.
#[derive(Debug, Default)]
struct Points {
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts are whole and positive")]
fn histograms(message: &mut Message, family: &Family, period: Period) {
    let mut all = BTreeMap::<Labels, Points>::new();
    for (name, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let bound = labels.iter().position(|(label, _)| label == "le").map(|at| labels.remove(at).1);
        let points = all.entry(labels).or_default();
        match (bound, name) {
            (Some(bound), _) => points.buckets.extend(bound.parse().ok().map(|bound: f64| (bound, *value))),
            (None, name) if name.ends_with("_sum") => points.sum = *value,
            (None, _) => points.count = *value,
        }
    }
    for (labels, points) in all {
        message.message(1, |point| {
            point.fixed64(2, period.from).fixed64(3, period.until).fixed64(4, points.count as u64).double(5, points.sum);
            let below = std::iter::once(0.0).chain(points.buckets.iter().map(|(_, below)| *below));
            point.packed(6, points.buckets.iter().zip(below).map(|((_, up_to), below)| (up_to - below) as u64));
            let bounds = points.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
            point.packed(7, bounds.map(f64::to_bits));
            attributes(point, 9, &labels);
        });
    }
    message.number(2, CUMULATIVE);
}

fn attributes(message: &mut Message, field: u32, labels: &Labels) {
    for (label, value) in labels.iter().filter(|(_, value)| !value.is_empty()) {
        let name = ATTRIBUTES.iter().find(|(known, _)| known == label).map_or(&**label, |(_, name)| name);
        match (name, value.parse()) {
            ("http.response.status_code" | "server.port", Ok(number)) => message.attribute_number(field, name, number),
            _ => message.attribute(field, name, value),
        };
    }
}

/// Reads our own text.
fn read(text: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            families.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
        } else if let (Some(rest), Some(family)) = (line.strip_prefix("# TYPE "), families.last_mut()) {
            family.kind = rest.rsplit(' ').next().unwrap_or_default().to_owned();
        } else if let (Some(sample), Some(family)) = (sample(line), families.last_mut()) {
            family.samples.push(sample);
        }
    }
    families
}

/// Reads one sample: name, labels, value.
fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (rest, value) = line.rsplit_once(' ')?;
    let (name, mut rest) = match rest.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (rest, ""),
    };
    let mut labels = Vec::new();
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut text = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, letter) => text.push(letter),
            }
        };
        labels.push((label.to_owned(), text));
        rest = after[end + 1..].trim_start_matches(',');
    }
    Some((name.to_owned(), labels, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{
        MetricsText,
        otlp::protobuf::tests::{Value, read as fields},
    };

    #[test]
    fn every_kind_of_sample_is_read_back() {
        let mut text = MetricsText::default();
        text.family("a_total", "counter", "All.");
        text.sample("a_total", &[("route", "x\"y\\z\n,=\"")], 3);
        text.single("b", "gauge", "One.", 1.5);

        let families = read(&text.into_string());

        assert_eq!(families[0].samples, [("a_total".to_owned(), vec![("route".to_owned(), "x\"y\\z\n,=\"".to_owned())], 3.0)]);
        assert_eq!((&*families[1].kind, &*families[1].help, &families[1].samples[0].2), ("gauge", "One.", &1.5));
    }

    #[test]
    fn a_histogram_has_its_own_counts_and_opentelemetrys_names() {
        let mut text = MetricsText::default();
        let name = "http_server_request_duration_seconds";
        text.family(name, "histogram", "Durations.");
        let labels = [("http_route", "r"), ("http_response_status_code", "200")];
        text.histogram(name, &labels, [("0.5".to_owned(), 2), ("1".to_owned(), 3)].into_iter(), 6, 4.5);

        let parts = write(&text.into_string(), Period { from: 1, until: 2 }, usize::MAX);

        let bytes = |value: &Value| if let Value::Bytes(bytes) = value { bytes.clone() } else { panic!("{value:?}") };
        let metric = fields(&bytes(&fields(&parts.concat())[0].1));
        assert_eq!(metric[0], (1, Value::Bytes(b"http.server.request.duration".to_vec())));
        assert_eq!(metric[2], (3, Value::Bytes(b"s".to_vec())));
        let histogram = fields(&bytes(&metric[3].1));
        assert_eq!((metric[3].0, &histogram[1]), (9, &(2, Value::Number(CUMULATIVE))));
        let point = fields(&bytes(&histogram[0].1));
        assert_eq!(point[2], (4, Value::Fixed(6)));
        let counts: Vec<u8> = [2_u64, 3, 1].into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(point[4], (6, Value::Bytes(counts)));
        assert_eq!(bytes(&point[5].1).len(), 16);
        assert!(String::from_utf8_lossy(&bytes(&point[6].1)).contains("http.route"));
    }

    #[test]
    fn what_is_too_large_for_one_export_is_in_several() {
        let mut text = MetricsText::default();
        for name in ["a", "b", "c"] {
            text.single(name, "gauge", "One.", 1.5);
        }
        let text = text.into_string();
        let period = Period { from: 1, until: 2 };
        let [whole] = &write(&text, period, usize::MAX)[..] else { panic!() };

        for (most, expected) in [(whole.len(), 1), (whole.len() - 1, 2), (0, 3)] {
            let parts = write(&text, period, most);
            assert_eq!((parts.len(), &parts.concat()), (expected, whole), "{most}");
        }
        assert_eq!(write("", period, 10).concat(), b"");
    }
}

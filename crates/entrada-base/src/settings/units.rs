//! Durations and sizes, written with their unit.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error};

/// A duration with its unit: `250ms`, `10s`, `5m`, `1h`, `30d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigDuration(pub Duration);

/// A number of bytes: `512B`, `64KiB`, `100MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// A calendar date, UTC: `2027-01-31`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(jiff::civil::Date);

const DAY_PATTERN: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$";
const SPAN_PATTERN: &str = "^[0-9]+(ms|s|m|h|d)$";
const SIZE_PATTERN: &str = "^[0-9]+(B|KiB|MiB|GiB)$";

impl ConfigDuration {
    /// Makes a duration of this many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Reads a duration such as `30s`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        Some(Self(Duration::from_millis(number.checked_mul(milliseconds)?)))
    }
}

impl Date {
    /// Reads a date such as `2027-03-31`.
    pub fn parse(text: &str) -> Option<Self> {
        // The library reads more spellings than the one that is meant here.
        let plain = text.len() == 10
            && text.bytes().enumerate().all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
        plain.then(|| text.parse().ok().map(Self)).flatten()
    }

    /// Returns the end of the day, in seconds since 1970.
    pub fn end(self) -> u64 {
        const SECONDS: i64 = 86_400;
        let day = self.0.to_zoned(jiff::tz::TimeZone::UTC).map_or(0, |start| start.timestamp().as_second());
        // A day before 1970 has ended at any time the clock can show.
        u64::try_from(day.saturating_add(SECONDS)).unwrap_or(0)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Size {
    /// Reads a size such as `16KiB`.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split(text)?;
        let bytes = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        Some(Self(number.checked_mul(bytes)?))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit())?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a duration; write it as 250ms, 10s, 5m, 1h or 30d")))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom(format!("`{text}` is not a size; write it as 512B, 64KiB, 100MiB or 1GiB")))
    }
}

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is not a date; write it as 2027-01-31")))
    }
}

impl JsonSchema for Date {
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": DAY_PATTERN, "description": "A day, UTC: 2027-01-31." })
    }
}

impl JsonSchema for ConfigDuration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SPAN_PATTERN, "description": "A duration with its unit: 250ms, 10s, 5m, 1h, 30d." })
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SIZE_PATTERN, "description": "A size with its unit: 512B, 64KiB, 100MiB, 1GiB." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_known_unit() {
        for (text, expected) in [
            ("250ms", Some(Duration::from_millis(250))),
            ("10s", Some(Duration::from_secs(10))),
            ("5m", Some(Duration::from_secs(300))),
            ("30d", Some(Duration::from_secs(2_592_000))),
            ("10", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(ConfigDuration::parse(text).map(|span| span.0), expected, "{text}");
        }
    }

    #[test]
    fn days_have_one_spelling_and_end_at_midnight() {
        for (text, expected) in [
            ("1970-01-01", Some(86_400)),
            ("2027-01-31", Some(1_801_440_000)),
            ("2028-02-29", Some(1_835_481_600)),
            ("1969-12-30", Some(0)),
            ("2027-02-29", None),
            ("2027-1-31", None),
            ("20270131", None),
            ("2027-01-31T00:00:00Z", None),
            ("31.01.2027", None),
            ("", None),
        ] {
            assert_eq!(Date::parse(text).map(Date::end), expected, "{text}");
        }
    }

    #[test]
    fn sizes_need_a_known_unit() {
        for (text, expected) in [
            ("64KiB", Some(65_536)),
            ("1GiB", Some(1 << 30)),
            ("5B", Some(5)),
            ("5", None),
            ("5KB", None),
            ("99999999999GiB", None),
        ] {
            assert_eq!(Size::parse(text).map(|size| size.0), expected, "{text}");
        }
    }
}

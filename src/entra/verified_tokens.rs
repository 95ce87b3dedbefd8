//! How much memory verified tokens take.

use schemars::JsonSchema;
use serde::Deserialize;

use super::seen::{LARGEST, MEMORY};
use crate::settings::{Faults, Place, Size};

/// What one token takes, more or less: as the older form of the setting counts.
const ONE: u64 = 4 << 10;
/// The most memory that the table may be given.
const MOST: u64 = 4 << 30;
/// The longest token that is read at all.
const LONGEST: u64 = 32 << 10;
/// A thread with less room keeps next to nothing.
const LEAST_PART: u64 = 64 << 10;

/// What is kept of tokens that a policy accepted, so as not to verify their signatures again.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum VerifiedTokensConfig {
    /// The older form: room for so many tokens in the whole process, 4 KiB each; 0 verifies each time.
    Tokens(u64),
    /// How much memory the tokens of the whole process take at most, and how long they may be.
    Bounds(VerifiedTokensBounds),
}

/// The bounds of what is kept of tokens.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct VerifiedTokensBounds {
    /// The memory of the whole process that they may take, at most 4GiB; each thread has its part. `0B` verifies each time.
    /// Default: 64MiB.
    pub memory: Size,
    /// The longest token that is kept; longer ones are verified each time. At most 32KiB. Default: 8KiB.
    pub largest: Size,
}

impl Default for VerifiedTokensBounds {
    fn default() -> Self {
        Self { memory: Size(MEMORY), largest: Size(LARGEST) }
    }
}

/// The bounds, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedTokens {
    pub(crate) memory: u64,
    pub(crate) largest: u64,
}

impl VerifiedTokens {
    /// The bounds of a config, for so many threads; what is wrong goes to the faults.
    pub(crate) fn build(config: Option<VerifiedTokensConfig>, workers: usize, place: &Place, faults: &mut Faults) -> Self {
        let bounds = match config {
            None => VerifiedTokensBounds::default(),
            Some(VerifiedTokensConfig::Bounds(bounds)) => bounds,
            Some(VerifiedTokensConfig::Tokens(tokens)) => {
                VerifiedTokensBounds { memory: Size(tokens.saturating_mul(ONE)), ..VerifiedTokensBounds::default() }
            }
        };
        let old = matches!(config, Some(VerifiedTokensConfig::Tokens(_)));
        let (memory, largest) = (bounds.memory.0, bounds.largest.0);
        let at = |key: &str| if old { place.clone() } else { place.key(key) };
        if memory > MOST {
            let message = "more than 4GiB of memory would be given to verified tokens";
            faults.error(&at("memory"), message, "choose less: one takes some 4 KiB to 10 KiB; the default is 64MiB");
        }
        if largest == 0 || largest > LONGEST {
            let cure = "write one up to 32KiB, the longest token that is read; to verify each time write `memory: 0B`";
            faults.error(&at("largest"), format!("no token of 1 to {largest} bytes is what can be meant"), cure);
        }
        let part = memory / workers.max(1) as u64;
        if memory > 0 && part < LEAST_PART {
            let message = format!("each thread may keep {part} bytes of verified tokens, which is next to nothing");
            faults.warning(&at("memory"), message, "give them 1MiB or more for each thread; the default is 64MiB");
        }
        Self { memory, largest }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn built(config: Option<serde_json::Value>) -> (VerifiedTokens, Vec<String>) {
        let mut faults = Faults::default();
        let config = config.map(|config| serde_json::from_value(config).expect("readable"));
        let tokens = VerifiedTokens::build(config, 4, &Place::root().key("verified-tokens"), &mut faults);
        (tokens, faults.iter().map(|fault| fault.place.to_string()).collect())
    }

    #[test]
    fn both_forms_bound_the_memory_of_the_process() {
        for (config, memory, largest) in [
            (None, 64 << 20, 8 << 10),
            (Some(json!({})), 64 << 20, 8 << 10),
            (Some(json!({ "memory": "1MiB", "largest": "4KiB" })), 1 << 20, 4 << 10),
            (Some(json!({ "memory": "0B" })), 0, 8 << 10),
            (Some(json!(0)), 0, 8 << 10),
            // What was the default of the older form is that of the newer one.
            (Some(json!(16_384)), 64 << 20, 8 << 10),
        ] {
            let (tokens, faults) = built(config.clone());

            assert_eq!(tokens, VerifiedTokens { memory, largest }, "{config:?}");
            assert!(faults.is_empty(), "{config:?}: {faults:?}");
        }
    }

    #[test]
    fn bounds_that_cannot_be_meant_are_told() {
        for (config, place) in [
            (json!(u64::MAX), "verified-tokens"),
            (json!(1), "verified-tokens"),
            (json!({ "memory": "5GiB" }), "verified-tokens.memory"),
            (json!({ "memory": "100KiB" }), "verified-tokens.memory"),
            (json!({ "largest": "0B" }), "verified-tokens.largest"),
            (json!({ "largest": "33KiB" }), "verified-tokens.largest"),
        ] {
            assert_eq!(built(Some(config.clone())).1, [place], "{config}");
        }
    }
}

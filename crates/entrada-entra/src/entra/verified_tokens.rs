//! The memory of verified tokens.

use schemars::JsonSchema;
use serde::Deserialize;

use super::verified_token_cache::{LARGEST, MEMORY};
use crate::settings::{Faults, Lint, Place, Size};

/// The approximate memory of one token, as the older form of the setting counts it.
const ONE: u64 = 4 << 10;
/// The largest memory that the table may have.
const MOST: u64 = 4 << 30;
/// The longest token that is read at all.
const LONGEST: u64 = 32 << 10;
/// The smallest useful memory of a thread.
const LEAST_PART: u64 = 64 << 10;

/// The cache of tokens that a policy accepted, whose signatures need not be verified again.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum VerifiedTokensConfig {
    /// The older form: the number of tokens in the whole process, 4 KiB each; 0 disables the cache.
    Tokens(u64),
    /// The memory limit of the whole process, and the length limit of a token.
    Bounds(VerifiedTokensBounds),
}

/// The limits of the cache.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct VerifiedTokensBounds {
    /// The memory limit of the whole process, at most 4GiB, divided among its threads. `0B` disables the cache. Default: 64MiB.
    pub memory: Size,
    /// The longest cached token; longer ones are verified each time. At most 32KiB. Default: 8KiB.
    pub largest: Size,
}

impl Default for VerifiedTokensBounds {
    fn default() -> Self {
        Self { memory: Size(MEMORY), largest: Size(LARGEST) }
    }
}

/// The limits, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedTokens {
    /// The bytes that all kept tokens may take.
    pub memory: u64,
    /// The bytes of the largest token that is kept.
    pub largest: u64,
}

impl VerifiedTokens {
    /// Builds the limits of a config, for this many threads; faults go to `faults`.
    pub fn build(config: Option<VerifiedTokensConfig>, workers: usize, place: &Place, faults: &mut Faults) -> Self {
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
            faults.warning(
                Lint::VerifiedTokensMemory,
                &at("memory"),
                message,
                "give them 1MiB or more for each thread; the default is 64MiB",
            );
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

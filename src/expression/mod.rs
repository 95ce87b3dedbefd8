//! Expressions: `@(…)` in the config.

//! Waits that end: for a condition, and for what should come.

use std::time::{Duration, Instant};

/// The time after which a wait fails.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
///
/// # Panics
///
/// Fails after [`LONGEST_WAIT`], and says what never came.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < LONGEST_WAIT, "never: {what}");
        tokio::task::yield_now().await;
    }
}

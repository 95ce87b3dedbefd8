//! The access of a partner: what a reload takes away, from streams that are open, too.

use tokio_util::sync::CancellationToken;

/// A partner's access. It goes on from one config to the next as long as the partner is in both and switched on, and ends at once
/// when it is not: calls under way and streams that it opened end with it.
#[derive(Clone, Debug)]
pub struct Access(CancellationToken);

impl Access {
    /// The access of a partner that is switched on, or is not: what it had before goes on.
    pub(super) fn going_on(before: Option<&Self>, enabled: bool) -> Self {
        if !enabled {
            return Self::none();
        }
        before.filter(|access| !access.has_ended()).cloned().unwrap_or_else(|| Self(CancellationToken::new()))
    }

    fn none() -> Self {
        let access = Self(CancellationToken::new());
        access.end();
        access
    }

    /// Ends it, for all that holds it.
    pub(super) fn end(&self) {
        self.0.cancel();
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until it ends.
    pub fn ended(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.cancelled_owned()
    }
}

//! The access of a partner, which a reload can end, open streams included.

use tokio_util::sync::CancellationToken;

/// A partner's access. It continues from one config to the next as long as the partner is in both and enabled, and ends at once
/// when it is not, together with its calls and streams in progress.
#[derive(Clone, Debug)]
pub struct Access(CancellationToken);

impl Access {
    /// Returns the access of a partner that is enabled or not, continuing the earlier one.
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

    /// Ends the access for all its holders.
    pub(super) fn end(&self) {
        self.0.cancel();
    }

    /// Returns whether the access has ended.
    pub fn has_ended(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the access ends.
    pub fn ended(self) -> impl Future<Output = ()> + Send + 'static {
        self.0.cancelled_owned()
    }
}

//! Locks whose holders leave what they hold whole, so that a panic elsewhere in the thread means nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock, poisoned or not.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

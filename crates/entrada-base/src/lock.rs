//! Locks whose holders keep the data consistent, so that a poisoned lock can be used.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock, poisoned or not.
pub fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

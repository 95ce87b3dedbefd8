//! The parts of `entrada run` that depend on the operating system: signals, the service manager, and handing over sockets.
//!
//! The means of Unix alone stand in `unix`, and have a twin in `windows`, which is built and tested elsewhere.

#[cfg(target_os = "linux")]
pub(super) mod take_over;
#[cfg(not(target_os = "linux"))]
#[path = "no_take_over.rs"]
pub(super) mod take_over;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(super) use unix::{ServiceManager, Signals, activated_sockets};
#[cfg(windows)]
pub(super) use windows::{ServiceManager, Signals, activated_sockets};

/// The meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// TERM, INT or QUIT; on Windows Ctrl-C, Ctrl-Break, and the end of the console or the system: finish the requests in progress,
    /// and end.
    Drain,
    /// HUP: read the config again.
    Reload,
    /// USR1: reopen the files of records.
    Reopen,
    /// Any other: do nothing.
    Nothing(i32),
}

//! The signals of `entrada run`: their meanings, and the guard that no other one ends the process.
//!
//! Every signal whose default action would end the process has a handler, but for those that cannot be caught (KILL, STOP) and
//! those that report a fault in the process itself (ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP). Signals that suspend a process or have
//! no effect by default (TSTP, CONT, CHLD, WINCH …) keep their meaning. PIPE is ignored from the start.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::super::SignalAction;

/// The signals with a meaning.
const KNOWN: [(SignalKind, SignalAction); 5] = [
    (SignalKind::terminate(), SignalAction::Drain),
    (SignalKind::interrupt(), SignalAction::Drain),
    (SignalKind::quit(), SignalAction::Drain),
    (SignalKind::hangup(), SignalAction::Reload),
    (SignalKind::user_defined1(), SignalAction::Reopen),
];

/// Returns the other signals that would end the process, by their numbers on Linux: USR2, ALRM, STKFLT, VTALRM, PROF, IO, PWR,
/// XCPU, XFSZ, and the real-time signals, of which the C library uses the first ones itself.
#[cfg(target_os = "linux")]
fn unknown() -> impl Iterator<Item = SignalKind> {
    const NAMED: [i32; 5] = [16, 24, 25, 26, 27];
    let named = [SignalKind::user_defined2(), SignalKind::alarm(), SignalKind::io(), SignalKind::from_raw(30)];
    named.into_iter().chain(NAMED.into_iter().chain(34..=64).map(SignalKind::from_raw))
}

#[cfg(not(target_os = "linux"))]
fn unknown() -> impl Iterator<Item = SignalKind> {
    [SignalKind::user_defined2(), SignalKind::alarm(), SignalKind::io()].into_iter()
}

/// The received signals.
#[derive(Debug)]
pub(in crate::cli) struct Signals(mpsc::UnboundedReceiver<SignalAction>);

impl Signals {
    /// Catches signals from now on. Must be called within a runtime, which has to run for signals to be received.
    ///
    /// # Errors
    /// Fails if a signal with a meaning cannot be caught.
    pub(in crate::cli) fn catch() -> io::Result<Self> {
        let (told, signals) = mpsc::unbounded_channel();
        for (kind, meaning) in KNOWN {
            pass_on(signal(kind)?, meaning, told.clone());
        }
        for kind in unknown() {
            // Not every system has each of them.
            if let Ok(signal) = signal(kind) {
                pass_on(signal, SignalAction::Nothing(kind.as_raw_value()), told.clone());
            }
        }
        Ok(Self(signals))
    }

    /// Returns the next one.
    pub(in crate::cli) async fn next(&mut self) -> SignalAction {
        match self.0.recv().await {
            Some(told) => told,
            None => std::future::pending().await,
        }
    }
}

/// Forwards each occurrence of the signal. As with all signals, several of a kind at once count as one.
fn pass_on(mut signal: Signal, meaning: SignalAction, told: mpsc::UnboundedSender<SignalAction>) {
    tokio::spawn(async move {
        while signal.recv().await.is_some() {
            if told.send(meaning).is_err() {
                return;
            }
        }
    });
}

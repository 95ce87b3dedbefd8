//! Console events of Windows in place of signals.
//!
//! A service wrapper that stops the program by Ctrl-C or Ctrl-Break gets a drain, as SIGTERM does elsewhere. There is no event for
//! a reload, which a changed file causes all the same, and none for reopening files, which Windows lets others rename while open.

use std::{io, time::Duration};

use tokio::{
    signal::windows,
    sync::mpsc::{self, UnboundedReceiver},
};

use super::SignalAction;
use crate::listener::InheritedSocket;

/// The received console events.
#[derive(Debug)]
pub(in crate::cli) struct Signals(UnboundedReceiver<SignalAction>);

impl Signals {
    /// Catches events from now on. Must be called within a runtime, which has to run for events to be received.
    ///
    /// # Errors
    /// Fails if an event cannot be caught.
    pub(in crate::cli) fn catch() -> io::Result<Self> {
        let (told, signals) = mpsc::unbounded_channel();
        macro_rules! pass_on {
            ($($event:ident)*) => { $({
                let (mut events, told) = (windows::$event()?, told.clone());
                tokio::spawn(async move {
                    while events.recv().await.is_some() && told.send(SignalAction::Drain).is_ok() {}
                });
            })* };
        }
        pass_on! { ctrl_c ctrl_break ctrl_close ctrl_logoff ctrl_shutdown }
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

/// The service manager, which is told nothing: a wrapper watches the process.
#[derive(Debug)]
pub(in crate::cli) struct ServiceManager;

impl ServiceManager {
    /// Returns the manager.
    pub(in crate::cli) const fn find() -> Self {
        Self
    }

    /// Does nothing.
    pub(in crate::cli) const fn tell(&self, _state: &str) {}

    /// Does nothing.
    pub(in crate::cli) const fn tell_of_reload(&self) {}

    /// Returns that no signs of life are wanted.
    pub(in crate::cli) const fn watchdog() -> Option<Duration> {
        None
    }
}

/// Returns no sockets: there is no socket activation.
///
/// # Errors
/// Never fails; the type is that of the other systems.
pub(in crate::cli) const fn activated_sockets() -> anyhow::Result<Vec<InheritedSocket>> {
    Ok(Vec::new())
}

//! The stand-in of `take_over` where sockets cannot be handed from process to process as on Linux: it says so.

use std::{convert::Infallible, io, path::Path};

use tokio::sync::oneshot;

use crate::listener::InheritedSocket;

/// The gateway in service; there is none to take over from.
#[derive(Debug)]
pub(in crate::cli) struct Predecessor(Infallible);

impl Predecessor {
    /// Refuses.
    ///
    /// # Errors
    /// Always fails.
    pub(in crate::cli) fn ask(_: &Path) -> anyhow::Result<Option<(Self, Vec<InheritedSocket>)>> {
        anyhow::bail!("`--take-over` needs Linux; start the gateway without it")
    }

    /// Is never called.
    pub(in crate::cli) fn release(self) {
        match self.0 {}
    }
}

/// The place where a successor would ask.
#[derive(Debug)]
pub(in crate::cli) struct HandOver;

impl HandOver {
    /// Refuses.
    ///
    /// # Errors
    /// Always fails.
    pub(in crate::cli) fn listen(_: &Path) -> anyhow::Result<Self> {
        anyhow::bail!("`--take-over` needs Linux; start the gateway without it")
    }

    /// Waits for ever.
    pub(in crate::cli) async fn successor(&mut self) -> Successor {
        std::future::pending().await
    }
}

/// A gateway that takes over; there is none.
#[derive(Debug)]
pub(in crate::cli) struct Successor(Infallible);

impl Successor {
    /// Is never called.
    ///
    /// # Errors
    /// Never fails; the type is that of Linux.
    pub(in crate::cli) fn hand_over(self, _: &[InheritedSocket]) -> io::Result<oneshot::Receiver<()>> {
        match self.0 {}
    }
}

//! Tunnels: the bytes of a connection after an upgrade.

use std::pin::pin;

use http::Extensions;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    time::{Instant, timeout_at},
};

use super::lifetime::unless_revoked;
use crate::{listener::Upgrade, partner::Access, upstream::Upgraded};

/// The caller's connection, if the request asks to upgrade it to another protocol.
#[derive(Clone, Debug)]
pub(super) enum Downstream {
    /// A connection of a listener.
    Listener(Upgrade),
    /// A connection of an application's server.
    Application(OnUpgrade),
}

impl Downstream {
    /// Takes the connection from the request's extensions, where the server has put it; `None` if there is none.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        let listener = extensions.remove::<Upgrade>().map(Self::Listener);
        // Left there for a service behind the gateway.
        listener.or_else(|| extensions.get::<OnUpgrade>().cloned().map(Self::Application))
    }
}

/// Copies bytes in both directions until one side ends, the token expires, or the partner's access ends.
pub(super) async fn carry(downstream: Downstream, mut upstream: Upgraded, ends_at: Instant, access: Option<Access>) {
    let carry = async {
        // However a tunnel ends, there is nobody left to tell.
        match downstream {
            Downstream::Listener(claim) => {
                let Ok(mut downstream) = claim.await else { return };
                let _ = copy_bidirectional(&mut downstream, &mut upstream).await;
            }
            Downstream::Application(claim) => {
                let Ok(downstream) = claim.await else { return };
                let _ = copy_bidirectional(&mut TokioIo::new(downstream), &mut upstream).await;
            }
        }
    };
    let carry = pin!(timeout_at(ends_at, carry));
    unless_revoked(access, carry).await;
}

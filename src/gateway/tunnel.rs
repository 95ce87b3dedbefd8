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

/// The caller's connection, if the request asks for another protocol on it.
#[derive(Clone, Debug)]
pub(super) enum Downstream {
    /// A connection of a listener.
    Listener(Upgrade),
    /// A connection of an application's server.
    Application(OnUpgrade),
}

impl Downstream {
    /// Takes the connection that the server put into the request's extensions, if any.
    pub(super) fn of(extensions: &mut Extensions) -> Option<Self> {
        let listener = extensions.remove::<Upgrade>().map(Self::Listener);
        // Left there for a service behind the gateway.
        listener.or_else(|| extensions.get::<OnUpgrade>().cloned().map(Self::Application))
    }
}

/// Carries bytes both ways until one side ends, or the token that opened the tunnel does, or the partner's access.
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

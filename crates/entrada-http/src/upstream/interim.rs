//! Informational responses of a server (RFC 9110, section 15.2), forwarded to the caller.

use std::fmt::Debug;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::hygiene;
use crate::listener::Informational;

/// The maximum number of informational responses, and the size limit of all their fields.
const MOST: usize = 32;
const MOST_BYTES: usize = 64 * 1024;

/// The fields that a server may not set itself.
pub trait Withheld: Debug + Sync {
    /// Returns whether this field of the server is withheld from the caller.
    fn withholds(&self, name: &HeaderName) -> bool;
}

/// The destination of informational responses.
#[derive(Clone, Copy, Debug)]
pub struct Interim<'a> {
    /// The channel to the caller.
    pub way: &'a Informational,
    /// The withheld fields.
    pub withheld: &'a dyn Withheld,
}

/// The relay of a server's informational responses.
#[derive(Debug)]
pub(super) struct Relay<'a> {
    to: Option<Interim<'a>>,
    count: usize,
    bytes: usize,
}

impl<'a> Relay<'a> {
    pub(super) const fn new(to: Option<Interim<'a>>) -> Self {
        Self { to, count: 0, bytes: 0 }
    }

    /// Returns whether none has arrived.
    pub(super) const fn is_unused(&self) -> bool {
        self.count == 0
    }

    /// Forwards one.
    ///
    /// # Errors
    /// Fails if there are too many.
    pub(super) fn pass(&mut self, status: StatusCode, mut headers: HeaderMap) -> Result<(), &'static str> {
        self.count += 1;
        self.bytes += headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>();
        if self.count > MOST || self.bytes > MOST_BYTES {
            return Err("there is no end of interim answers");
        }
        let Some(Interim { way, withheld }) = self.to else { return Ok(()) };
        let stay =
            |name: &HeaderName| hygiene::is_hop_by_hop(name) || *name == header::WWW_AUTHENTICATE || withheld.withholds(name);
        let staying: Vec<HeaderName> = headers.keys().filter(|name| stay(name)).cloned().collect();
        for name in staying {
            headers.remove(name);
        }
        way.send(status, headers);
        Ok(())
    }
}

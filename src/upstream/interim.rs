//! Informational answers of a server (RFC 9110, section 15.2), on their way to the caller.

use std::fmt::Debug;

use http::{HeaderMap, HeaderName, StatusCode, header};

use super::hygiene;
use crate::listener::Informational;

/// How many informational answers may come before the answer, and how many bytes their fields may have in all.
const MOST: usize = 32;
const MOST_BYTES: usize = 64 * 1024;

/// The fields that a server may not say itself.
pub trait Withheld: Debug + Sync {
    /// Whether the caller does not get this field as the server says it.
    fn withholds(&self, name: &HeaderName) -> bool;
}

/// Where informational answers go.
#[derive(Clone, Copy, Debug)]
pub struct Interim<'a> {
    /// The way to the caller.
    pub way: &'a Informational,
    /// What stays behind.
    pub withheld: &'a dyn Withheld,
}

/// Hands on what a server says before its answer.
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

    /// Whether nothing has come.
    pub(super) const fn is_unused(&self) -> bool {
        self.count == 0
    }

    /// Hands one on.
    ///
    /// # Errors
    /// There are too many.
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

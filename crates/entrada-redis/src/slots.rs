//! The hash slots of a cluster.

use std::collections::BTreeMap;

use crate::{endpoint::Endpoint, resp::Reply};

/// The number of slots.
pub(crate) const SLOTS: u16 = 16_384;

/// Returns the slot of a key: of the part within its first braces, if there is one.
pub fn slot_of(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let rest = &key[open + 1..];
        memchr::memchr(b'}', rest).filter(|length| *length > 0).map(|length| &rest[..length])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, as the specification of clusters has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// The owners of slots: the end of each range, and its node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owners(BTreeMap<u16, (u16, Endpoint)>);

impl Owners {
    /// Reads the reply to `CLUSTER SLOTS`; a node without a name is at `asked`, which answered.
    pub(crate) fn read(reply: &Reply, asked: &Endpoint) -> Option<Self> {
        let mut owners = Self::default();
        for range in reply.list() {
            let [from, to, primary, ..] = range.list() else { return None };
            let [host, port, ..] = primary.list() else { return None };
            let slot = |reply: &Reply| reply.integer().and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
            let host = host.text().filter(|host| !host.is_empty() && *host != "?").unwrap_or(&asked.host);
            let endpoint = Endpoint { host: host.into(), port: u16::try_from(port.integer()?).ok()? };
            owners.0.insert(slot(from)?, (slot(to)?, endpoint));
        }
        (!owners.0.is_empty()).then_some(owners)
    }

    /// Returns the node of a slot.
    pub(crate) fn of(&self, slot: u16) -> Option<&Endpoint> {
        let (_, (end, node)) = self.0.range(..=slot).next_back()?;
        (slot <= *end).then_some(node)
    }

    /// Returns the nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Endpoint> {
        self.0.values().map(|(_, node)| node)
    }

    /// Notes that a single slot has moved.
    pub(crate) fn moved(&mut self, slot: u16, node: Endpoint) {
        if let Some((from, (end, owner))) = self.0.range(..=slot).next_back().map(|(from, range)| (*from, range.clone()))
            && slot <= end
        {
            self.0.remove(&from);
            if from < slot {
                self.0.insert(from, (slot - 1, owner.clone()));
            }
            if slot < end {
                self.0.insert(slot + 1, (end, owner));
            }
        }
        self.0.insert(slot, (slot, node));
    }
}

/// A redirection of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// The slot is at another node from now on.
    Moved(u16, Endpoint),
    /// This one call is for another node.
    Ask(Endpoint),
}

impl Redirect {
    /// Reads the text of an error; a node without a name is at `asked`, which answered.
    pub(crate) fn read(text: &str, asked: &Endpoint) -> Option<Self> {
        let mut words = text.split(' ');
        let (kind, slot, node) = (words.next()?, words.next()?, words.next()?);
        let slot = slot.parse().ok().filter(|slot| *slot < SLOTS)?;
        let node = match node.strip_prefix(':') {
            Some(port) => Endpoint { host: asked.host.clone(), port: port.parse().ok()? },
            None => Endpoint::parse(node)?,
        };
        match kind {
            "MOVED" => Some(Self::Moved(slot, node)),
            "ASK" => Some(Self::Ask(node)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Endpoint {
        Endpoint { host: "192.0.2.1".into(), port }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // CRC-16/XMODEM of "123456789" is 0x31C3.
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), 12_182);
        assert_eq!(slot_of(b"a{foo}b"), 12_182);
        assert_eq!(slot_of(b"{foo}{bar}"), 12_182);
        assert_ne!(slot_of(b"{}foo"), slot_of(b"foo"), "empty braces are part of the key");
        assert_ne!(slot_of(b"{foo"), slot_of(b"foo"));
    }

    #[test]
    fn owners_are_read_and_moved() {
        let node = |host: &str, port| Reply::List(vec![Reply::Bulk(host.as_bytes().into()), Reply::Integer(port)]);
        let range = |from, to, node: Reply| Reply::List(vec![Reply::Integer(from), Reply::Integer(to), node]);
        let reply = Reply::List(vec![range(0, 100, node("192.0.2.1", 1)), range(200, 16_383, node("", 2))]);

        let mut owners = Owners::read(&reply, &at(9)).expect("it is one");
        assert_eq!(owners.of(0), Some(&at(1)));
        assert_eq!(owners.of(101), None);
        assert_eq!(owners.of(16_383), Some(&at(2)), "where it was asked");

        owners.moved(50, at(3));
        assert_eq!([0, 49, 50, 51, 100, 101].map(|slot| owners.of(slot).map_or(0, |node| node.port)), [1, 1, 3, 1, 1, 0]);
        owners.moved(50, at(1));
        owners.moved(101, at(4));
        assert_eq!([50, 101].map(|slot| owners.of(slot).map_or(0, |node| node.port)), [1, 4]);
        assert_eq!(owners.nodes().filter(|node| node.port == 2).count(), 1);

        for wrong in [Reply::Nothing, Reply::List(vec![Reply::Integer(1)]), Reply::List(vec![range(0, 16_384, node("a", 1))])] {
            assert_eq!(Owners::read(&wrong, &at(9)), None, "{wrong:?}");
        }
    }

    #[test]
    fn redirections_are_read() {
        assert_eq!(Redirect::read("MOVED 3999 192.0.2.1:6381", &at(1)), Some(Redirect::Moved(3_999, at(6_381))));
        assert_eq!(Redirect::read("MOVED 3999 :6381", &at(1)), Some(Redirect::Moved(3_999, at(6_381))));
        assert_eq!(Redirect::read("ASK 3999 192.0.2.1:6381", &at(1)), Some(Redirect::Ask(at(6_381))));
        for none in ["MOVED", "MOVED 3999", "MOVED 16384 a:1", "MOVED x a:1", "MOVED 1 a:x", "ERR 1 a:1", ""] {
            assert_eq!(Redirect::read(none, &at(1)), None, "{none}");
        }
    }
}

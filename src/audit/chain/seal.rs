//! A seal: a signature on the newest hash of a chain.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::signer::{Answer, Signed};
use crate::audit::line::{Line, number, object, plain, text};

/// The occasion of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::audit) enum SealReason {
    /// The time between two seals has passed.
    Interval,
    /// The file is rotated, or was moved away.
    Rotation,
    /// The process ends, or the file gets no further records.
    Stop,
}

impl SealReason {
    /// Returns the occasion, as seals have it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::Rotation => "rotation",
            Self::Stop => "stop",
        }
    }
}

/// The statement of a seal.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) chain: String,
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) previous_seal: Option<String>,
    pub(super) at: Duration,
    pub(super) reason: SealReason,
    pub(super) every: Duration,
}

/// A statement whose signature was asked for.
#[derive(Debug)]
pub(super) struct Awaited {
    pub(super) statement: Statement,
    pub(super) answer: Answer,
}

/// Returns the text that is signed.
pub(super) fn to_be_signed(
    (chain, seq, hash): (&str, u64, &str),
    previous_seal: &str,
    (sealed_at, reason, every): (u64, &str, u64),
) -> Vec<u8> {
    format!("entrada audit seal 1\n{chain}\n{seq}\n{hash}\n{previous_seal}\n{sealed_at}\n{reason}\n{every}\n").into_bytes()
}

/// Returns the digest by which the next seal names this one.
pub(super) fn digest_of(to_be_signed: &[u8], signature: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &[to_be_signed, signature].concat()))
}

impl Statement {
    /// Returns the text that is signed.
    pub(super) fn to_be_signed(&self) -> Vec<u8> {
        let previous = self.previous_seal.as_deref().unwrap_or_default();
        let occasion = (self.at.as_secs(), self.reason.as_str(), self.every.as_secs());
        to_be_signed((&self.chain, self.seq, &self.hash), previous, occasion)
    }

    /// Returns the digest by which the next seal names this one.
    pub(super) fn digest(&self, signature: &[u8]) -> String {
        digest_of(&self.to_be_signed(), signature)
    }

    /// Writes the record, with its line end.
    pub(super) fn write(&self, signed: &Signed, file: &str, now: Duration, record_id: u128, into: &mut Vec<u8>) {
        let signature = URL_SAFE_NO_PAD.encode(&signed.signature);
        let mut line = Line::begin(into, now, record_id);
        plain!(line, "event", "seal");
        plain!(line, "chain", &*self.chain);
        text!(line, "file", file);
        object!(line, "sealed", |line: &mut Line<'_>| {
            number!(line, "seq", self.seq);
            plain!(line, "hash", &*self.hash);
        });
        plain!(line, "previous_seal", self.previous_seal.as_deref());
        number!(line, "sealed_at", self.at.as_secs());
        plain!(line, "reason", self.reason.as_str());
        number!(line, "every", self.every.as_secs());
        plain!(line, "algorithm", signed.algorithm);
        text!(line, "key_id", &*signed.key_id);
        line.member("public_key", &signed.public_key.to_string());
        plain!(line, "signature", &*signature);
        line.end();
    }
}

/// A seal as it was read.
#[derive(Clone, Debug)]
pub(super) struct ReadSeal {
    pub(super) chain: String,
    /// The name of the file that it is about.
    pub(super) file: String,
    pub(super) seq: u64,
    pub(super) hash: String,
    pub(super) previous_seal: Option<String>,
    pub(super) sealed_at: u64,
    pub(super) reason: String,
    pub(super) every: u64,
    pub(super) key_id: String,
    pub(super) algorithm: String,
    pub(super) public_key: Value,
    pub(super) signature: Vec<u8>,
}

impl ReadSeal {
    /// Reads a seal; `None` if the record is none, or lacks a part.
    pub(super) fn read(record: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| record.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| record.get(name).and_then(Value::as_u64);
        if text("event")? != "seal" {
            return None;
        }
        let sealed = record.get("sealed")?;
        Some(Self {
            chain: text("chain")?,
            file: text("file")?,
            seq: sealed.get("seq").and_then(Value::as_u64).unwrap_or_default(),
            hash: sealed.get("hash")?.as_str()?.to_owned(),
            previous_seal: text("previous_seal"),
            sealed_at: number("sealed_at")?,
            reason: text("reason")?,
            every: number("every")?,
            key_id: text("key_id")?,
            algorithm: text("algorithm")?,
            public_key: record.get("public_key")?.clone(),
            signature: URL_SAFE_NO_PAD.decode(text("signature")?).ok()?,
        })
    }

    /// Returns the text that was signed.
    pub(super) fn to_be_signed(&self) -> Vec<u8> {
        let previous = self.previous_seal.as_deref().unwrap_or_default();
        to_be_signed((&self.chain, self.seq, &self.hash), previous, (self.sealed_at, &self.reason, self.every))
    }

    /// Returns the digest by which the next seal names this one.
    pub(super) fn digest(&self) -> String {
        digest_of(&self.to_be_signed(), &self.signature)
    }
}

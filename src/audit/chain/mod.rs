//! The chain through the lines of a file: each line has a number and the hash of the one before, and seals sign the newest hash.
//!
//! A line that is changed, removed or moved breaks the chain at the next line; to write the whole chain anew takes the key, and is
//! contradicted by the seals that went elsewhere. Lines are hashed as they are written, without their line end: SHA-256.

mod seal;
mod signer;
mod tail;
pub(crate) mod verify;

use std::{path::Path, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;

use self::seal::{Awaited, Statement};
pub(super) use self::{
    seal::SealReason,
    signer::Signer,
    tail::{Tail, Torn},
};
use super::{
    line::{Line, number, object, plain, text},
    own_record::RecordIds,
};

/// A hash of a line.
pub(super) type Hash = [u8; 32];

/// The settings of chains.
#[derive(Clone, Debug)]
pub(super) struct ChainSettings {
    pub(super) every: Duration,
    pub(super) signer: Arc<Signer>,
}

/// The state of a chain, for the status page.
#[derive(Clone, Debug, Serialize)]
pub struct ChainStatus {
    /// The chain's id.
    pub id: String,
    /// The number of its last line.
    pub seq: u64,
    /// The hash of its last line, in base64url.
    pub head: String,
    /// The newest seal, as it was written: an anchor for `entrada audit verify`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seal: Option<Value>,
}

/// The end of a chain in a file, from which it goes on.
#[derive(Clone, Debug)]
pub(super) struct Link {
    chain: String,
    seq: u64,
    head: Hash,
    /// The digest of its last seal.
    previous_seal: Option<String>,
}

/// The chain through a file and the rotated ones before it.
#[derive(Debug)]
pub(super) struct Chain {
    link: Link,
    settings: ChainSettings,
    ids: RecordIds,
    /// The name of the file, and that of the one before it.
    file: String,
    previous_file: String,
    next_seal: Duration,
    awaited: Option<Awaited>,
    last_seal: Option<Value>,
    /// Seals for other sinks.
    made: Vec<Vec<u8>>,
}

/// Returns the hash of a line without its line end.
pub(super) fn hash_of(line: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, line).as_ref());
    hash
}

/// Writes a hash as records have it.
pub(super) fn encoded(hash: &Hash) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

impl Chain {
    /// Begins a chain.
    pub(super) fn begin(settings: &ChainSettings, file: &str, now: Duration, out: &mut Vec<u8>) -> Self {
        let chain = uuid::Uuid::new_v4().simple().to_string();
        let mut chain = Self::of(settings, Link { chain, seq: 0, head: [0; 32], previous_seal: None }, file, now);
        chain.write_begin(now, None, out);
        chain
    }

    /// Goes on after the last line of a file; a line that is not whole stays, and the next one says so.
    pub(super) fn take_up(
        settings: &ChainSettings,
        link: Link,
        torn: Option<&Torn>,
        file: &str,
        now: Duration,
        out: &mut Vec<u8>,
    ) -> Self {
        let mut chain = Self::of(settings, link, file, now);
        if let Some(torn) = torn {
            let mut line = Vec::new();
            torn.write(now, &mut line);
            chain.link(&line, out);
        }
        chain
    }

    fn of(settings: &ChainSettings, link: Link, file: &str, now: Duration) -> Self {
        Self {
            link,
            settings: settings.clone(),
            ids: RecordIds::default(),
            file: file.to_owned(),
            previous_file: file.to_owned(),
            // The first one soon: what a crash before has left without a seal gets one.
            next_seal: now + Duration::from_secs(1).min(settings.every),
            awaited: None,
            last_seal: None,
            made: Vec::new(),
        }
    }

    /// Takes other settings.
    pub(super) fn set(&mut self, settings: &ChainSettings) {
        self.settings = settings.clone();
    }

    /// Adds a line to the chain: `line` is an object and ends with its line end.
    pub(super) fn link(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let body = line.strip_suffix(b"}\n").unwrap_or(line);
        out.extend_from_slice(body);
        self.link.seq += 1;
        out.extend_from_slice(b",\"seq\":");
        crate::base::fmt_fast::decimal(out, self.link.seq);
        out.extend_from_slice(b",\"prev\":\"");
        let mut encoded = [0; 43];
        // The room is that of 32 bytes.
        let _ = URL_SAFE_NO_PAD.encode_slice(self.link.head, &mut encoded);
        out.extend_from_slice(&encoded);
        out.extend_from_slice(b"\"}");
        self.link.head = hash_of(&out[begin..]);
        out.push(b'\n');
    }

    /// Notes the name that the file got when it was rotated.
    pub(super) fn file_was(&mut self, renamed: &Path) {
        self.previous_file = renamed.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    }

    /// Writes the first line of a file, which names the end of the one before.
    pub(super) fn begin_file(&mut self, file: &str, now: Duration, out: &mut Vec<u8>) {
        let previous = (std::mem::replace(&mut self.previous_file, file.to_owned()), self.link.seq, encoded(&self.link.head));
        self.file = file.to_owned();
        self.write_begin(now, Some(&previous), out);
    }

    fn write_begin(&mut self, now: Duration, previous: Option<&(String, u64, String)>, out: &mut Vec<u8>) {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, now, self.ids.next());
        plain!(line, "event", "chain-begin");
        plain!(line, "chain", &*self.link.chain);
        text!(line, "file", &*self.file);
        if let Some((file, seq, hash)) = previous {
            object!(line, "previous", |line: &mut Line<'_>| {
                text!(line, "file", &**file);
                number!(line, "seq", *seq);
                plain!(line, "hash", &**hash);
            });
        }
        line.end();
        self.link(&buffer, out);
    }

    /// Makes a seal when it is due, and writes one whose signature has arrived.
    pub(super) fn seal_if_due(&mut self, now: Duration, out: &mut Vec<u8>) {
        self.write_awaited(now, Duration::ZERO, out);
        if now >= self.next_seal {
            self.seal(now, SealReason::Interval, out);
        }
    }

    /// Makes a seal. A signature of a vault arrives later; before the end it is waited for.
    pub(super) fn seal(&mut self, now: Duration, reason: SealReason, out: &mut Vec<u8>) {
        let patience = if reason == SealReason::Stop { self.settings.signer.patience() } else { Duration::ZERO };
        self.write_awaited(now, patience, out);
        if self.awaited.is_none() {
            let statement = Statement {
                chain: self.link.chain.clone(),
                seq: self.link.seq,
                hash: encoded(&self.link.head),
                previous_seal: self.link.previous_seal.clone(),
                at: now,
                reason,
                every: self.settings.every,
            };
            self.awaited = Some(Awaited { answer: self.settings.signer.sign(statement.to_be_signed()), statement });
            self.next_seal = now + self.settings.every;
        }
        self.write_awaited(now, patience, out);
    }

    /// Writes the seal whose signature was asked for, if it has arrived.
    fn write_awaited(&mut self, now: Duration, patience: Duration, out: &mut Vec<u8>) {
        let Some(answer) = self.awaited.as_ref().and_then(|awaited| awaited.answer.get(patience)) else { return };
        let Some(Awaited { statement, .. }) = self.awaited.take() else { return };
        let signed = match answer {
            Ok(signed) => signed,
            Err(error) => {
                tracing::error!(error, "the chain of audit records could not be sealed; it is tried again");
                return;
            }
        };
        let mut line = Vec::new();
        statement.write(&signed, &self.file, now, self.ids.next(), &mut line);
        self.link.previous_seal = Some(statement.digest(&signed.signature));
        self.last_seal = serde_json::from_slice(&line).ok();
        self.link(&line, out);
        self.made.push(line);
    }

    /// Returns the seals since the last call.
    pub(super) fn take_seals(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.made)
    }

    /// Returns the state.
    pub(super) fn status(&self) -> ChainStatus {
        ChainStatus {
            id: self.link.chain.clone(),
            seq: self.link.seq,
            head: encoded(&self.link.head),
            last_seal: self.last_seal.clone(),
        }
    }
}

//! A look at the settings of the audit log, and at its sinks before they are opened: whether they can be.

use std::path::{Path, PathBuf};

use super::{
    AuditConfig, SinkConfig,
    chain::{ChainSettings, Signer},
    config::{ChainConfig, FileConfig, SealKeyConfig, SpoolConfig},
    remote::{self, RemoteContext},
    sink::mode,
    spool,
};
use crate::{
    certificate::keys::{LOOSE_CURE, loose_key},
    credentials::Credentials,
    identity::SigningKey,
    settings::{Faults, Lint, Place},
};

/// The time for which records should be kept: the usual demand on logs of access.
const A_YEAR: u64 = 365;
const DAY: u64 = 86_400;
/// The smallest size of a file that is rotated.
const SMALLEST_FILE: u64 = 64 << 10;

/// Checks the settings, and whether the files of the sinks can be opened. Nothing is made.
pub(crate) fn check(config: &AuditConfig, base: &Path, context: Option<RemoteContext<'_>>, faults: &mut Faults) {
    let root = Place::root().key("audit");
    for (index, name) in config.claims.iter().enumerate() {
        let place = root.key("claims").index(index);
        if name.split('.').any(str::is_empty) {
            faults.error(&place, "this names no claim", "write the name of a claim, as department or extn.costCenter");
        } else if config.claims[..index].contains(name) {
            faults.error(&place, format!("the claim `{name}` is listed twice"), "keep one of them");
        }
    }
    for (index, sink) in config.sinks.iter().enumerate() {
        let place = root.key("sinks").index(index).key(sink.key());
        if config.sinks[..index].iter().any(|other| other.name() == sink.name()) {
            faults.error(&place, "there is another sink like this", "keep one of them, and list all decisions in its `only`");
        }
        if let SinkConfig::File(file) = sink {
            check_file_sink(file, base, &place, faults);
        }
        if sink.is_remote() && config.spool.is_none() {
            let message = "this sink crosses a network, and there is no spool in which records wait while it cannot be reached";
            faults.error(&place, message, "add `spool: { directory: spool, size: 1GiB }` to `audit`");
        }
    }
    if let Some(spool) = &config.spool {
        check_spool(spool, config, base, &root.key("spool"), faults);
    }
    if let Some(chain) = &config.chain {
        if !config.sinks.iter().any(|sink| matches!(sink, SinkConfig::File(_))) {
            let message = "a chain goes through files, and no sink is one";
            faults.error(&root.key("chain"), message, "add a `file` sink, or leave `chain` out");
        }
        drop(chain_settings(chain, base, context.map(|context| context.credentials), faults));
    }
    remote::check(config, base, context, faults);
}

fn check_file_sink(file: &FileConfig, base: &Path, place: &Place, faults: &mut Faults) {
    check_file(&base.join(&file.path), &place.key("path"), faults);
    if file.mode.as_deref().is_some_and(|written| mode(written).is_none()) {
        let message = "records contain personal data: their files are at most 0640, and their owner reads and writes them";
        faults.error(&place.key("mode"), message, "write \"0640\" or \"0600\", in quotes");
    }
    if file.rotate.size.is_some_and(|size| size.0 < SMALLEST_FILE) {
        faults.error(&place.key("rotate").key("size"), "the files would be too small", "write at least 64KiB");
    }
    if file.rotate.every.is_some_and(|every| every.0.as_secs() < 60) {
        faults.error(&place.key("rotate").key("every"), "files would be rotated too often", "write at least 1m");
    }
    let rotates = file.rotate.size.is_some() || file.rotate.every.is_some();
    for (key, written) in [("keep", file.keep.is_some()), ("compress", file.compress.is_some())] {
        if written && !rotates {
            let message = format!("`{key}` is about rotated files, and this one is never rotated");
            faults.error(&place.key(key), message, "add `rotate: { size: 100MiB, every: 24h }`, or leave it out");
        }
    }
    if let Some(keep) = file.keep.filter(|keep| keep.0.as_secs() < A_YEAR * DAY) {
        let message =
            format!("records are deleted after {} days, and most rules for logs of access demand a year", keep.0.as_secs() / DAY);
        faults.warning(Lint::AuditKeepShort, &place.key("keep"), message, "write at least 365d, unless another sink keeps them");
    }
}

fn check_spool(spool: &SpoolConfig, config: &AuditConfig, base: &Path, place: &Place, faults: &mut Faults) {
    if spool.size.is_some_and(|size| size.0 < spool::SMALLEST) {
        faults.error(&place.key("size"), "the spool would be too small", "write at least 1MiB");
    }
    if !config.sinks.iter().any(SinkConfig::is_remote) {
        let message = "no sink crosses a network, so nothing waits in the spool";
        faults.warning(Lint::Unused, place, message, "leave it out");
    }
    let folder = base.join(&spool.directory);
    // It is made if need be: what matters is the nearest folder that is there.
    let there = folder.ancestors().find(|folder| folder.exists()).map_or_else(|| PathBuf::from("."), Path::to_owned);
    if !there.is_dir() {
        let message = format!("`{}` is not a folder", there.display());
        faults.error(&place.key("directory"), message, "name a folder");
    } else if let Err(error) = writable(&there) {
        let message = format!("nothing can be written to `{}`: {error}", there.display());
        faults.error(&place.key("directory"), message, "let this user write there, or name another folder");
    }
}

/// Builds the settings of chains. Those of a vault's key need credentials, and are left out without.
pub(super) fn chain_settings(
    config: &ChainConfig,
    base: &Path,
    credentials: Option<&Credentials>,
    faults: &mut Faults,
) -> Option<ChainSettings> {
    let place = Place::root().key("audit").key("chain").key("seal");
    let every = config.seal.every.map_or(std::time::Duration::from_secs(60), |every| every.0);
    if every.as_secs() < 1 {
        faults.error(&place.key("every"), "the time between two seals is too short", "write at least 1s");
    }
    let signer = match &config.seal.key {
        SealKeyConfig::File(written) => {
            let path = base.join(written);
            match SigningKey::from_file(&path) {
                Ok(key) => {
                    if let Some(message) = loose_key(&path) {
                        faults.warning(Lint::SecretFilePermissions, &place.key("key"), message, LOOSE_CURE);
                    }
                    Signer::here(key)
                }
                Err(fault) => {
                    let cure = "make one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256";
                    let message = format!("`{written}` is no key to sign with: {}", crate::base::error_chain::chain(&fault));
                    faults.error(&place.key("key"), message, cure);
                    return None;
                }
            }
        }
        SealKeyConfig::Vault(vault) => Signer::in_vault(credentials?.vault_signer(vault, &place.key("key"), faults)?),
    };
    Some(ChainSettings { every, signer: std::sync::Arc::new(signer) })
}

fn check_file(path: &Path, place: &Place, faults: &mut Faults) {
    let shown = path.display();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if path.is_dir() {
        faults.error(place, format!("`{shown}` is a folder"), "name a file in it, as `audit/entrada.jsonl`");
    } else if path.exists() {
        if let Err(error) = writable(path) {
            faults.error(
                place,
                format!("`{shown}` cannot be written to: {error}"),
                "let this user write to it, or name another file",
            );
        }
    } else if !folder.is_dir() {
        let cure = format!("make it: mkdir -p {}", folder.display());
        faults.error(place, format!("the folder `{}` is not there", folder.display()), cure);
    } else if let Err(error) = writable(folder) {
        let message = format!("no file can be made in `{}`: {error}", folder.display());
        faults.error(place, message, "let this user write there, or name another folder");
    }
}

/// Returns what the system says to writing there.
#[cfg(unix)]
fn writable(path: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::WRITE_OK)?)
}

#[cfg(not(unix))]
fn writable(path: &Path) -> std::io::Result<()> {
    let read_only = std::fs::metadata(path)?.permissions().readonly();
    if read_only { Err(std::io::ErrorKind::PermissionDenied.into()) } else { Ok(()) }
}

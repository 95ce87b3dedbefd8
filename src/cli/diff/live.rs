//! `entrada diff --live`: what a file has otherwise than a running gateway, by the digests of their parts.
//!
//! The gateway hands out digests alone, so that nothing of its config leaves it; values that are secrets are not part of them.

use std::io::Write as _;
use std::{collections::BTreeMap, path::Path, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::json;

use super::{DiffArguments, DiffFormat};
use crate::{base::error_chain, config::Document};

/// The longest wait for the gateway.
const WAIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const LONGEST: usize = 16 << 20;

/// The answer of the admin listener.
#[derive(Deserialize)]
struct Running {
    digest: String,
    generation: u64,
    parts: BTreeMap<String, String>,
}

/// Compares a file with the running gateway.
///
/// # Errors
/// Fails if the file cannot be read, or the gateway does not answer.
pub(super) async fn run(file: &Path, admin: &str, arguments: &DiffArguments) -> anyhow::Result<ExitCode> {
    let document = Document::load(file).map_err(|report| anyhow::anyhow!("{report}"))?;
    let running = ask(admin).await?;
    let own = document.fingerprint.parts();
    let mut parts = Vec::new();
    for name in own.keys().chain(running.parts.keys().filter(|name| !own.contains_key(*name))) {
        match (running.parts.get(name), own.get(name)) {
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(_), Some(_)) => parts.push((name, "differs")),
            (None, _) => parts.push((name, "only in the file")),
            (_, None) => parts.push((name, "only in the gateway")),
        }
    }
    let same = parts.is_empty();
    match arguments.format {
        DiffFormat::Json => {
            let parts: Vec<_> = parts.iter().map(|(name, what)| json!({ "part": name, "what": what })).collect();
            let own = document.fingerprint.digest();
            writeln!(
                std::io::stdout(),
                "{:#}",
                json!({ "same": same, "running": running.digest, "generation": running.generation, "file": own, "parts": parts })
            )?;
        }
        DiffFormat::Text | DiffFormat::Markdown => {
            let generation = running.generation;
            if same {
                writeln!(std::io::stdout(), "the gateway uses this config: {} (generation {generation})", running.digest)?;
            } else {
                writeln!(
                    std::io::stdout(),
                    "the gateway uses {} (generation {generation}), the file is {}",
                    running.digest,
                    document.fingerprint.digest()
                )?;
            }
            for (name, what) in &parts {
                writeln!(std::io::stdout(), "   {name:<32} {what}")?;
            }
        }
        DiffFormat::Sarif => bail!("a comparison with a running gateway has no places: use --format text or json"),
    }
    Ok(if same || arguments.fail_on.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(admin: &str) -> anyhow::Result<Running> {
    let url = format!("{}/api/config/parts", admin.trim_end_matches('/'));
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(WAIT).build()?;
    let asked = client.get(&url).send().await;
    let answer = asked.map_err(|error| anyhow::anyhow!("{url} does not answer: {}", error_chain::chain(&error)))?;
    if !answer.status().is_success() {
        bail!("{url} answers with {}; name the admin listener with --admin", answer.status());
    }
    let body = answer.bytes().await.with_context(|| format!("the answer of {url} breaks off"))?;
    if body.len() > LONGEST {
        bail!("the answer of {url} is longer than that of a gateway");
    }
    serde_json::from_slice(&body).with_context(|| format!("the answer of {url} is not that of a gateway's admin listener"))
}

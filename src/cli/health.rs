//! `entrada health`: asks a running gateway whether it is ready, for the health check of a container.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use url::Url;

/// The longest answer that is shown, in bytes.
const MOST_SHOWN: usize = 1_024;

/// Arguments of `entrada health`.
#[derive(Args, Debug)]
pub struct HealthArguments {
    /// The health or admin listener of the gateway; without a path, `/readyz` is asked
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9901")]
    url: Url,
    /// The number of seconds within which it has to answer
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

/// Asks once. Exits with 0 if the answer is a success, and with 1 if it is another or none.
///
/// # Errors
/// Fails if the URL cannot be asked.
pub fn run(arguments: &HealthArguments) -> anyhow::Result<ExitCode> {
    let mut url = arguments.url.clone();
    anyhow::ensure!(url.scheme() == "http" && url.has_host(), "`{url}` is not a probe: write it as http://127.0.0.1:9901/readyz");
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime could be had")?;
    let answer = runtime.block_on(ask(&url, Duration::from_secs(arguments.timeout.into())));
    match answer {
        Ok((status, text)) if status.is_success() => {
            println!("{text}");
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, text)) => {
            println!("{}", in_words(&url, status, &text));
            Ok(ExitCode::from(1))
        }
        Err(error) => {
            println!("{url} does not answer: {}", crate::base::error_chain::chain(&error));
            Ok(ExitCode::from(1))
        }
    }
}

/// Writes an answer that is no success.
fn in_words(url: &Url, status: http::StatusCode, text: &str) -> String {
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    // Where the config has `health`, the admin listener has no probes.
    let cure = match status {
        http::StatusCode::NOT_FOUND => {
            "; name the listener that has the probes: that of `health`, if the config has it (`entrada health http://127.0.0.1:9902`)"
        }
        _ => "",
    };
    format!("{url} answers {}{said}{cure}", status.as_u16())
}

/// Returns the status and the beginning of the text.
async fn ask(url: &Url, timeout: Duration) -> reqwest::Result<(http::StatusCode, String)> {
    // The gateway is on this machine or in this pod: no proxy lies between, and a redirect would lead elsewhere.
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).timeout(timeout).build()?;
    let mut answer = client.get(url.clone()).send().await?;
    let mut text = Vec::new();
    while text.len() < MOST_SHOWN
        && let Some(part) = answer.chunk().await?
    {
        text.extend_from_slice(&part);
    }
    text.truncate(MOST_SHOWN);
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    Ok((answer.status(), String::from_utf8_lossy(&text).trim_end().chars().map(printable).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_probes_is_told_with_the_cure() {
        let url = Url::parse("http://127.0.0.1:9901/readyz").unwrap();

        assert_eq!(
            in_words(&url, http::StatusCode::SERVICE_UNAVAILABLE, "not ready: signing keys"),
            "http://127.0.0.1:9901/readyz answers 503: not ready: signing keys"
        );
        assert!(
            in_words(&url, http::StatusCode::NOT_FOUND, "")
                .starts_with("http://127.0.0.1:9901/readyz answers 404; name the listener")
        );
    }
}

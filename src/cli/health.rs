//! `entrada health`: asks a running gateway whether it is ready, for the health check of a container.

use std::io::Write as _;
use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use url::Url;

/// The longest answer that is shown, in bytes.
const MOST_SHOWN: usize = 1_024;

/// The usual addresses of the admin listener, and of the one of `health`, which has the probes in place of the other.
const USUAL: [&str; 2] = ["http://127.0.0.1:9901/readyz", "http://127.0.0.1:9902/readyz"];

/// Arguments of `entrada health`.
#[derive(Args, Debug)]
pub struct HealthArguments {
    /// The health or admin listener of the gateway; without a path, `/readyz` is asked [default: http://127.0.0.1:9901, and where there is no probe, http://127.0.0.1:9902]
    #[arg(value_name = "URL")]
    url: Option<Url>,
    /// The number of seconds within which it has to answer
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=60))]
    timeout: u16,
}

/// Asks once. Exits with 0 if the answer is a success, and with 1 if it is another or none.
///
/// # Errors
/// Fails if the URL cannot be asked.
pub fn run(arguments: &HealthArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime could be had")?;
    let (url, answer) = runtime.block_on(first_probe(&probes(arguments)?, Duration::from_secs(arguments.timeout.into())))?;
    match answer {
        Ok((status, text)) if status.is_success() => {
            writeln!(std::io::stdout(), "{text}")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, text)) => {
            writeln!(std::io::stdout(), "{}", in_words(&url, status, &text))?;
            Ok(ExitCode::from(1))
        }
        Err(error) => {
            writeln!(std::io::stdout(), "{url} does not answer: {}", crate::base::error_chain::chain(&error))?;
            Ok(ExitCode::from(1))
        }
    }
}

/// Returns the addresses to ask, in this order until one has a probe.
fn probes(arguments: &HealthArguments) -> anyhow::Result<Vec<Url>> {
    let Some(mut url) = arguments.url.clone() else {
        return USUAL.iter().map(|usual| Url::parse(usual).context("a usual address")).collect();
    };
    anyhow::ensure!(url.scheme() == "http" && url.has_host(), "`{url}` is not a probe: write it as http://127.0.0.1:9901/readyz");
    if url.path() == "/" {
        url.set_path("/readyz");
    }
    Ok(vec![url])
}

/// Asks one address after the other until one has a probe, and returns its answer; that of the first, if none has.
async fn first_probe(urls: &[Url], timeout: Duration) -> anyhow::Result<(Url, reqwest::Result<(http::StatusCode, String)>)> {
    let mut first = None;
    for url in urls {
        let answer = ask(url, timeout).await;
        if matches!(&answer, Ok((status, _)) if *status != http::StatusCode::NOT_FOUND) {
            return Ok((url.clone(), answer));
        }
        first.get_or_insert((url.clone(), answer));
    }
    first.context("no address was given")
}

/// Writes an answer that is no success.
fn in_words(url: &Url, status: http::StatusCode, text: &str) -> String {
    let said = if text.is_empty() { String::new() } else { format!(": {text}") };
    // Where the config has `health`, the admin listener has no probes.
    let cure = match status {
        http::StatusCode::NOT_FOUND => {
            "; name the listener that has the probes, which is that of `health` where the config has it (`entrada health http://127.0.0.1:9912`)"
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
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    /// Answers every request with this status; returns the address of the probe.
    async fn listener(status: u16) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}!", status / 100);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Url::parse(&format!("http://{address}/readyz")).unwrap()
    }

    #[tokio::test]
    async fn the_first_listener_that_has_a_probe_is_the_one_that_counts() {
        let (ready, draining, elsewhere) = (listener(200).await, listener(503).await, listener(404).await);
        let nobody = {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
            Url::parse(&format!("http://{}/readyz", closed.local_addr().unwrap())).unwrap()
        };
        for (urls, asked, status) in [
            ([&ready, &draining], &ready, Some(200)),
            ([&draining, &ready], &draining, Some(503)),
            ([&elsewhere, &ready], &ready, Some(200)),
            ([&elsewhere, &draining], &draining, Some(503)),
            ([&nobody, &ready], &ready, Some(200)),
            ([&elsewhere, &nobody], &elsewhere, Some(404)),
            ([&nobody, &elsewhere], &nobody, None),
        ] {
            let (url, answer) = first_probe(&urls.map(Clone::clone), Duration::from_secs(20)).await.unwrap();
            assert_eq!((&url, answer.ok().map(|(status, _)| status.as_u16())), (asked, status), "{urls:?}");
        }
    }

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

//! `entrada dev-tenant`: the development tenant alone, until it is stopped.

use std::{
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::certificate::Format;
use crate::dev_tenant::{DEFAULT_AUDIENCE, DevTenant, Options};

/// Arguments of `entrada dev-tenant`.
#[derive(Args, Debug)]
pub struct DevTenantArguments {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:7070", value_name = "ADDRESS")]
    address: SocketAddr,
    /// Speak TLS, with a certificate authority made for this run (Microsoft's clients insist on https)
    #[arg(long)]
    tls: bool,
    /// Write the certificate authority to a file instead of printing it
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// The name in its URLs [default: localhost with --tls, else the address]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Listen beyond loopback: anyone who can reach it can get any token from it
    #[arg(long)]
    allow_remote: bool,
    /// Simulate Azure Arc, with its challenge files in this folder; clients accept only the agent's own folder
    #[arg(long, value_name = "FOLDER")]
    arc: Option<PathBuf>,
    /// The output format; json is one line once it listens
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs `entrada dev-tenant`.
///
/// # Errors
///
/// Fails if it cannot start.
pub fn run(arguments: &DevTenantArguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be had")?;
    runtime.block_on(serve(arguments))
}

async fn serve(arguments: &DevTenantArguments) -> anyhow::Result<ExitCode> {
    let on_loopback = arguments.address.ip().is_loopback();
    let tenant = DevTenant::start(Options {
        address: arguments.address,
        tls: arguments.tls,
        host: arguments.host.clone().or_else(|| (arguments.tls && on_loopback).then(|| "localhost".to_owned())),
        allow_remote: arguments.allow_remote,
        ..Options::default()
    })
    .await?;
    if let (Some(file), Some(ca)) = (&arguments.ca_file, tenant.ca_pem()) {
        std::fs::write(file, ca).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if let Some(folder) = &arguments.arc {
        tenant.play_arc(folder);
    }
    let text = match arguments.format {
        Format::Json => format!("{}\n", facts(&tenant)),
        Format::Text => words(&tenant, arguments.ca_file.as_deref()),
    };
    // Written whole and at once: whoever started it may be waiting for this line.
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to standard output")?;
    drop(out);
    told_to_stop().await.context("signals cannot be waited for")?;
    Ok(ExitCode::SUCCESS)
}

fn facts(tenant: &DevTenant) -> serde_json::Value {
    json!({
        "base_url": tenant.base_url(),
        "address": tenant.address(),
        "tenant_id": tenant.tenant_id(),
        "ca_pem": tenant.ca_pem(),
    })
}

/// Describes the tenant, with the settings for a gateway. There is one authority, that of a config: clients append the tenant's id.
fn words(tenant: &DevTenant, ca_file: Option<&Path>) -> String {
    let (base, id) = (tenant.base_url(), tenant.tenant_id());
    // An absolute path works from every folder.
    let absolute = |file: &Path| std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let file = ca_file.map_or_else(|| PathBuf::from("ca.pem"), absolute);
    let (trust, identity_http) = match tenant.ca_pem() {
        Some(_) => (format!(" --cacert '{}'", file.display()), format!("\x20 identity-http: {{ ca: \"{}\" }}\n", file.display())),
        None => (String::new(), String::new()),
    };
    let mut text = format!(
        "The development tenant plays Entra ID at {base}\n\n\
         \x20 tenant     {id} (contoso.example)\n\
         \x20 authority  {base}\n\
         \x20 metadata   {base}/{id}/v2.0/.well-known/openid-configuration\n\
         \x20 tokens     {base}/{id}/oauth2/v2.0/token\n\
         \x20 all of it  {base}/\n\n\
         A token for the orders API, as Entra issues it to the user nia; its audience is the API's client id, {DEFAULT_AUDIENCE}:\n\n\
         \x20 curl -s{trust} '{base}/dev/token?format=text' \\\n\
         \x20   -d '{{\"user\":\"nia\",\"audience\":\"api://orders\",\"scopes\":[\"Orders.Read\"]}}'\n\n\
         In a gateway's config:\n\n\
         \x20 tenants:\n\
         \x20   dev: {{ id: {id}, authority: \"{base}\" }}\n\
         {identity_http}\n\
         Ctrl-C ends it.\n"
    );
    if let (Some(ca), None) = (tenant.ca_pem(), ca_file) {
        text.push_str("\nIts certificate authority; save it as ca.pem for clients to trust:\n\n");
        text.push_str(ca);
    }
    text
}

/// Waits for SIGINT or SIGTERM.
pub(crate) async fn told_to_stop() -> io::Result<()> {
    #[cfg(unix)]
    {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}

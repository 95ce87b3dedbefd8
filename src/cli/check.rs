//! `entrada check`: reports every problem of a config, without serving it.

use std::{
    io::{IsTerminal as _, Write as _},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, ValueEnum};
use serde_json::json;

use super::config_file::ConfigFile;
use crate::{
    config::{Document, Report},
    decision::Instructions,
    gateway::runtime::{ListenerRules, Runtime},
    inbound::InboundPolicy,
    server,
    settings::{Faults, Place},
};

/// Arguments of `entrada check`.
#[derive(Args, Debug)]
pub struct CheckArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// Treat warnings as errors
    #[arg(long)]
    deny_warnings: bool,
    /// An address that no `ip-filter` may refuse; can be given several times
    #[arg(long, value_name = "ADDR")]
    must_allow: Vec<IpAddr>,
    /// The routes that `--must-allow` applies to [default: all]; can be given several times
    #[arg(long, value_name = "NAME", requires = "must_allow")]
    route: Vec<String>,
    /// The output format: for people, for machines, or for code scanning
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The output format of `entrada check`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
    /// For code scanning: SARIF 2.1.0.
    Sarif,
}

/// Checks the config.
///
/// # Errors
/// Fails if standard output cannot be written to.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<ExitCode> {
    let (report, instructions) = check(arguments);
    let passed = report.errors() == 0 && !(arguments.deny_warnings && report.warnings() > 0);
    let mut out = std::io::stdout().lock();
    match arguments.format {
        Format::Json => {
            let value = json!({
                "file": arguments.config.path(),
                "passed": passed,
                "errors": report.errors(),
                "warnings": report.warnings(),
                "findings": report.to_json(),
                "silenced": report.silenced_to_json(),
                "decisions": instructions.iter().map(as_json).collect::<Vec<_>>(),
            });
            writeln!(out, "{value:#}")?;
        }
        Format::Sarif => writeln!(out, "{:#}", report.to_sarif(&repository()))?,
        Format::Text => {
            if report.is_empty() {
                writeln!(out, "{}: {}", arguments.config.path().display(), report.summary())?;
            } else {
                let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
                write!(out, "{}", report.render(colours))?;
            }
            instructions.iter().try_for_each(|told| tell(told, &mut out))?;
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes what a proxy that asks has to be told.
fn tell(told: &Instructions, out: &mut impl std::io::Write) -> std::io::Result<()> {
    for (program, text) in &told.settings {
        let name = &told.listener;
        writeln!(
            out,
            "\nThe listener `{name}` answers questions of `{}`. Settings for {program}:\n\n{}",
            told.dialect,
            text.trim_end()
        )?;
    }
    Ok(())
}

fn as_json(told: &Instructions) -> serde_json::Value {
    let settings: serde_json::Map<_, _> =
        told.settings.iter().map(|(program, text)| ((*program).to_owned(), text.as_str().into())).collect();
    json!({ "listener": told.listener, "dialect": told.dialect, "settings": settings })
}

/// Returns the folder of the repository that the command runs in; without one, the working folder.
fn repository() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors().find(|folder| folder.join(".git").exists()).map_or_else(|| here.clone(), PathBuf::from)
}

/// Returns the report, and what the proxies that ask have to be told, if the config can be used.
fn check(arguments: &CheckArguments) -> (Report, Vec<Instructions>) {
    let document = match Document::load(&arguments.config.path()) {
        Ok(document) => document,
        Err(report) => return (report.with_the_rest(|document, faults| drop(server::try_out(document, faults))), Vec::new()),
    };
    let (mut faults, mut instructions) = (Faults::default(), Vec::new());
    if let Some(runtime) = server::try_out(&document, &mut faults) {
        must_allow(arguments, &document, &runtime, &mut faults);
        instructions = runtime.listeners.iter().filter_map(ListenerRules::instructions).collect();
    }
    (document.report(&faults), instructions)
}

/// Reports every route that would refuse one of the addresses.
fn must_allow(arguments: &CheckArguments, document: &Document, runtime: &Runtime, faults: &mut Faults) {
    let place = Place::root().key("routes");
    for name in &arguments.route {
        if !document.config.routes.iter().any(|route| route.name == *name) {
            faults.error(&place, format!("no route is called `{name}`, as `--route` has it"), "");
        }
    }
    for (index, (written, route)) in document.config.routes.iter().zip(&runtime.routes).enumerate() {
        if !arguments.route.is_empty() && !arguments.route.contains(&written.name) {
            continue;
        }
        for address in &arguments.must_allow {
            for entry in route.inbound.iter() {
                let InboundPolicy::IpFilter(filter) = &entry.policy else { continue };
                // Which peer a caller at that address comes by is not asked.
                if !filter.judges_caller() {
                    continue;
                }
                if let Err(refusal) = filter.judge(address.to_canonical(), &runtime.clock) {
                    let message = format!("the route `{}` would lock {address} out: {}: {refusal}", written.name, entry.at);
                    let cure = "list the address, or name the routes that are meant with `--route`";
                    faults.error(&place.index(index).key("name"), message, cure);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser as _;

    use super::*;
    use crate::{
        config::{TEST_FILE, testing::examples},
        settings::testing::write_all,
    };

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: CheckArguments,
    }

    fn checked(file: &Path, more: &[&str]) -> Vec<String> {
        let line = [&["check", file.to_str().expect("a text")], more].concat();
        let folder = format!("{}/", file.parent().expect("a folder").display());
        check(&Line::parse_from(line).arguments).0.lines().iter().map(|line| line.replace(&folder, "")).collect()
    }

    /// Makes a config with these policies on its single route.
    fn config(policies: &str) -> String {
        let policies: String = policies.lines().map(|line| format!("      {line}\n")).collect();
        format!(
            r#"
listeners: [ {{ name: public, address: "127.0.0.1:0" }} ]
tenants: {{ contoso: {{ id: aaaabbbb-0000-cccc-1111-dddd2222eeee }}, fabrikam: {{ id: bbbbcccc-1111-dddd-2222-eeee3333ffff }} }}
issuers: {{ partner-idp: {{ openid-config: https://idp.fabrikam.example/.well-known/openid-configuration }} }}
address-sets: {{ offices: [203.0.113.0/24] }}
credentials: {{ gateway: {{ managed-identity: {{}} }} }}
upstreams:
  orders: {{ servers: ["http://127.0.0.1:1"] }}
  orders-beta: {{ servers: ["http://127.0.0.1:1"] }}
  orders-west: {{ servers: ["http://127.0.0.1:1"] }}
  orders-north: {{ servers: ["http://127.0.0.1:1"] }}
partners: {{ fabrikam: {{ api-keys: [ {{ sha256: 5f9c4ab08cac7457e9111a30e4664920607ea2c115a1433d7be98e97e64244ca }} ] }} }}
fragments: {{ staff-only: [ {{ check-header: {{ name: X-Staff }} }} ] }}
routes:
  - name: orders
    match: {{ path: "/orders/{{person}}" }}
    inbound:
{policies}
    upstream: orders
"#
        )
    }

    const TOKEN: &str = "- validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], roles: [Orders.Read] }\n";

    #[test]
    fn every_example_can_be_served() {
        let folder = examples();
        for entry in std::fs::read_dir(folder.path()).expect("the examples are there") {
            let path = entry.expect("it can be listed").path();
            let name = path.to_string_lossy();
            if !name.ends_with(".yaml") || name.ends_with(TEST_FILE) {
                continue;
            }

            let found = checked(&path, &[]);

            let errors: Vec<_> = found.iter().filter(|line| !line.contains(": warning: ")).collect();
            assert!(errors.is_empty(), "{errors:#?}");
        }
    }

    /// The rest of a listener with everything that policies need.
    const LISTENER: &str = "\"127.0.0.1:0\", tls: { certificate: tls/server.pem, private-key: tls/server.key }, \
        client-certificates: { mode: optional, ca: tls/partners-ca.pem } }";

    /// Checks that each policy's example works on a route after a token policy, as readers will paste it.
    #[test]
    fn every_policy_example_can_be_served() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/policies");
        for entry in std::fs::read_dir(source).expect("the examples are there") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            let text = std::fs::read_to_string(&path).expect("it can be read");
            // Entries that are alternatives stand apart; each must be right by itself.
            for policy in text.split("\n\n").filter(|policy| policy.contains("- ")) {
                let own = name.starts_with("validate-") || ["any-of", "set-status", "set-body"].contains(&&*name);
                let token = if own { "" } else { TOKEN };
                let folder = examples();
                let text = config(&format!("{token}{policy}")).replace("\"127.0.0.1:0\" }", LISTENER);
                let text = match &*name {
                    "set-status" => text.replace("    inbound:", "    anonymous: true\n    outbound:"),
                    "set-body" => text.replace("    inbound:", "    anonymous: true\n    on-error:"),
                    _ => text,
                };
                write_all(folder.path(), &[("policy.yaml", &text)]);

                let found = checked(&folder.path().join("policy.yaml"), &[]);

                let errors: Vec<_> = found.iter().filter(|line| !line.contains(": warning: ")).collect();
                assert!(errors.is_empty(), "{name}: {errors:#?}\n{policy}");
            }
        }
    }

    #[test]
    fn faults_of_the_build_are_told_with_their_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("entrada.yaml");
        let text = config(TOKEN).replace("upstream: orders", "upstream: order");
        std::fs::write(&file, text).expect("written");

        let found = checked(&file, &[]);

        assert!(found.iter().any(|line| line.starts_with("entrada.yaml:20:15: ") && line.contains("`order`")), "{found:#?}");
    }

    #[test]
    fn addresses_that_must_get_in_are_not_locked_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("entrada.yaml");
        let text = config(&format!("{TOKEN}- ip-filter: {{ action: allow, addresses: [offices] }}"));
        std::fs::write(&file, text).expect("written");

        let locked_out = |more: &[&str]| checked(&file, more).iter().any(|line| line.contains("would lock"));
        assert!(!locked_out(&[]));
        assert!(!locked_out(&["--must-allow", "203.0.113.9"]));
        assert!(!locked_out(&["--must-allow", "::ffff:203.0.113.9"]));
        assert!(locked_out(&["--must-allow", "203.0.113.9", "--must-allow", "192.0.2.1"]));
        assert!(locked_out(&["--must-allow", "192.0.2.1", "--route", "orders"]));
        let unknown = checked(&file, &["--must-allow", "192.0.2.1", "--route", "other"]);
        assert!(unknown.iter().any(|line| line.contains("no route is called `other`")), "{unknown:#?}");
    }
}

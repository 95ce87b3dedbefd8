//! `entrada explain`: why a request would be decided as it is, and which fact would turn it.

use std::{
    fs,
    io::Read as _,
    io::Write as _,
    net::IpAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    base::text,
    cli::{certificate::Format, config_file::ConfigFile},
    config::Document,
    explain::{Described, Explanation, Recorded, curl, har_entry, recorded, to_text},
    offline::{OfflineFault, OfflineGateway, OfflineKeys, OfflineRequest, TokenSpec},
};

/// The longest file that is read, in bytes.
const MAX_INPUT: u64 = 256 << 20;
/// The longest token.
const MAX_TOKEN: u64 = 256 << 10;

/// Arguments of `entrada explain`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 if the request is allowed or answered, 1 if it is refused, 2 if that cannot be said: the request or the \
                  config cannot be read, a token is given without the keys to verify it, or a record does not have the token that \
                  decided.\nNothing is sent, and no token is shown."
)]
#[command(group = ArgGroup::new("input").required(true).args(["url", "curl", "har", "record"]))]
pub struct ExplainArguments {
    #[command(flatten)]
    config: ConfigFile,
    /// The method
    #[arg(long, short = 'X', default_value = "GET", conflicts_with_all = ["curl", "har", "record"])]
    method: String,
    /// The URL, as the caller writes it
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The address that connects: the caller's, or that of a proxy
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// A header field, as `Name: value`; can be given several times
    #[arg(long, short = 'H', value_name = "FIELD")]
    header: Vec<String>,
    /// A curl command, as browsers copy it for bash or for Windows; `-` reads standard input
    #[arg(long, value_name = "COMMAND")]
    curl: Option<String>,
    /// An HTTP archive, as browsers export it
    #[arg(long, value_name = "FILE")]
    har: Option<PathBuf>,
    /// The entry of the archive, from 1
    #[arg(long, value_name = "N", requires = "har")]
    entry: Option<usize>,
    /// A file of audit records; `-` reads standard input
    #[arg(long, value_name = "FILE", requires = "request_id")]
    record: Option<PathBuf>,
    /// The id of the recorded request
    #[arg(long, value_name = "ID", requires = "record")]
    request_id: Option<String>,
    /// The file that holds the token; `-` reads standard input. It is put into `Authorization`
    #[arg(long, value_name = "FILE", conflicts_with = "mint")]
    token: Option<PathBuf>,
    /// A token to be made, as `{ user: nia, audience: api://orders, scopes: [Orders.Read] }`, signed by the development key
    #[arg(long, value_name = "TOKEN")]
    mint: Option<String>,
    /// The keys of the issuers: a file that holds a JSON Web Key Set, or `dev-tenant` for the development key
    #[arg(long, value_name = "FILE")]
    keys: Option<String>,
    /// Fetch the keys of the issuers, as the gateway does
    #[arg(long, conflicts_with_all = ["keys", "mint"])]
    online: bool,
    /// The time of the request, as 2027-03-01T09:00:00Z [default: now; of a record or an archive, its own]
    #[arg(long, value_name = "TIME")]
    at: Option<jiff::Timestamp>,
    /// The listener that takes the request, by its name [default: the one that fits the URL's scheme]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The connection to the gateway uses TLS, whatever the URL says
    #[arg(long)]
    tls: bool,
    /// The client's certificate chain, PEM
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The status of the upstream's answer, for the policies on it
    #[arg(long, value_name = "STATUS", default_value = "200")]
    answer: http::StatusCode,
    /// Show the steps that passed before a refusal, too
    #[arg(long)]
    all: bool,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
///
/// # Errors
/// Fails if the question cannot be answered.
pub fn run(arguments: &ExplainArguments) -> anyhow::Result<ExitCode> {
    let document = Document::load(&arguments.config.path()).map_err(|report| anyhow::anyhow!("{report}"))?;
    let mut asked = Asked::read(arguments, &document)?;
    let now = match arguments.at {
        Some(at) => u64::try_from(at.as_second()).context("the time is before 1970")?,
        None => asked.time.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
    };
    let keys = keys(arguments)?;
    let given = keys.is_some() || arguments.online;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let gateway = runtime.block_on(gateway(arguments, &document, now, keys))?;
    if let Some(name) = &arguments.listener
        && gateway.runtime().listener(name).is_none()
    {
        let known: Vec<_> = gateway.runtime().listeners.iter().map(|rules| &*rules.name).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        bail!("there is no listener `{name}`; the config has: {known}");
    }
    let trial = match OfflineGateway::build(&document, now, OfflineKeys::Development) {
        Ok(trial) => trial,
        Err(fault) => bail!("{}", in_words(fault)),
    };
    let mut request = asked.request;
    if let Some(spec) = &arguments.mint {
        let token = TokenSpec::read(spec).and_then(|spec| spec.mint(&trial)).context("the token of --mint")?;
        request.set_header("Authorization", Some(&format!("Bearer {token}")));
    }
    let has_token = crate::explain::has_token(&request);
    let mut explanation = match &mut asked.recorded {
        Some(recorded) => {
            if arguments.token.is_some() || arguments.mint.is_some() {
                recorded.with_token();
            }
            let asked = (recorded, &request);
            runtime.block_on(Explanation::of_recorded(&document, &gateway, Some(&trial), asked, now))
        }
        None => runtime.block_on(Explanation::of(&document, &gateway, Some(&trial), &request, now)),
    };
    if has_token && !given && explanation.code.as_deref() == Some("signing-keys-unavailable") {
        bail!(
            "the request has a token, and there are no keys to verify it: give them with --keys FILE or --online, or say --keys dev-tenant"
        );
    }
    // The browser has left out what would tell whether the request was refused for want of a token.
    if asked.sanitised && explanation.code.as_deref() == Some("token-missing") {
        explanation.leave_open(vec!["the token (browsers leave it out of archives)".to_owned()]);
    }
    let then = asked.recorded.as_ref().map(|recorded| then(recorded, &explanation));
    match arguments.format {
        Format::Text => {
            for note in &asked.notes {
                writeln!(std::io::stdout(), "  note       {note}")?;
            }
            // First, since what was recorded was the decision; below it is judged with what the record has.
            if let Some(then) = &then {
                writeln!(std::io::stdout(), "  {:<10} {}", "recorded", then.words)?;
            }
            write!(std::io::stdout(), "{}", to_text(&explanation, arguments.all))?;
        }
        Format::Json => {
            let mut value = serde_json::to_value(&explanation)?;
            if !asked.notes.is_empty() {
                value["notes"] = json!(asked.notes);
            }
            if let Some(then) = &then {
                value["recorded"] = then.json.clone();
            }
            writeln!(std::io::stdout(), "{value:#}")?;
        }
    }
    Ok(match explanation.verdict {
        "unknown" => ExitCode::from(2),
        "allow" | "answer" => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Makes the gateway that judges.
async fn gateway(
    arguments: &ExplainArguments,
    document: &Document,
    now: u64,
    keys: Option<OfflineKeys>,
) -> anyhow::Result<OfflineGateway> {
    let without = if arguments.mint.is_some() { OfflineKeys::Development } else { OfflineKeys::AsTheyAre };
    let keys = keys.unwrap_or(without);
    let built = if arguments.online {
        OfflineGateway::build_online(document, now).await
    } else {
        OfflineGateway::build(document, now, keys)
    };
    built.map_err(|fault| anyhow::anyhow!("{}", in_words(fault)))
}

fn in_words(fault: OfflineFault) -> String {
    match fault {
        OfflineFault::Config(report) => report.to_string(),
        fault @ OfflineFault::Keys(_) => crate::base::error_chain::chain(&fault),
    }
}

fn keys(arguments: &ExplainArguments) -> anyhow::Result<Option<OfflineKeys>> {
    Ok(match arguments.keys.as_deref() {
        None => None,
        Some("dev-tenant") => Some(OfflineKeys::Development),
        Some(file) => Some(OfflineKeys::Jwks(read(Path::new(file), MAX_TOKEN)?.into_bytes())),
    })
}

/// Says why an archive does not tell what the caller sent.
const SANITISED: &str = "the archive has neither Authorization nor cookies: browsers leave them out unless asked to include sensitive data; \
                         give the token with --token";

/// The request in question, with what is known of it.
struct Asked {
    request: OfflineRequest,
    time: Option<u64>,
    notes: Vec<String>,
    /// Whether it comes from an archive without credentials.
    sanitised: bool,
    recorded: Option<Recorded>,
}

impl Asked {
    fn read(arguments: &ExplainArguments, document: &Document) -> anyhow::Result<Self> {
        let (mut time, mut notes, mut record, mut sanitised) = (None, Vec::new(), None, false);
        let described = if let Some(command) = &arguments.curl {
            let command = if command == "-" { read(Path::new("-"), MAX_TOKEN)? } else { command.clone() };
            let described = curl(&command)?;
            notes.extend(described.notes.iter().cloned());
            described
        } else if let Some(file) = &arguments.har {
            let entry = har_entry(&read(file, MAX_INPUT)?, arguments.entry)?;
            time = entry.started;
            if entry.sanitised && arguments.token.is_none() && arguments.mint.is_none() {
                sanitised = true;
                notes.push(SANITISED.to_owned());
            }
            entry.described
        } else if let (Some(file), Some(id)) = (&arguments.record, &arguments.request_id) {
            let found = recorded(document, &read(file, MAX_INPUT)?, id)?;
            time = Some(found.time);
            record = Some(found);
            Described::default()
        } else {
            let url = arguments.url.clone().unwrap_or_default();
            Described { method: arguments.method.clone(), url, ..Described::default() }
        };
        let from = arguments
            .from
            .or(record.as_ref().map(|record| record.peer))
            .context("say with --from which address connects: whether a caller is admitted can depend on it")?;
        let mut request = match &record {
            Some(record) => OfflineRequest { peer: from, ..record.request.clone() },
            None => described_request(&described, from)?,
        };
        for field in &arguments.header {
            let (name, value) =
                field.split_once(':').with_context(|| format!("`{field}` is no header field; write `Name: value`"))?;
            request.header(name.trim(), value.trim());
            record.iter_mut().for_each(|record| record.with_headers(std::iter::once(name.trim())));
        }
        if let Some(file) = &arguments.token {
            let token = Zeroizing::new(read(file, MAX_TOKEN)?);
            let token = token.trim().trim_start_matches("Bearer ");
            request.set_header("Authorization", Some(&format!("Bearer {token}")));
        }
        let certificate = arguments.certificate.clone().or(described.certificate.map(PathBuf::from));
        if let Some(file) = certificate {
            request.certificates = CertificateDer::pem_file_iter(&file)
                .and_then(Iterator::collect)
                .with_context(|| format!("cannot read certificates from {}", file.display()))?;
        }
        request.listener = arguments.listener.clone().or(request.listener);
        request.tls = arguments.tls.then_some(true).or(request.tls);
        *request.answer.status_mut() = arguments.answer;
        Ok(Self { request, time, notes, sanitised, recorded: record })
    }
}

fn described_request(described: &Described, from: IpAddr) -> anyhow::Result<OfflineRequest> {
    let mut request = OfflineRequest::new(&described.method, &described.url, from)?;
    request.headers.clone_from(&described.headers);
    request.body = described.body.clone();
    if described.http2 {
        request.version = http::Version::HTTP_2;
    }
    Ok(request)
}

/// A recorded decision, beside that of now.
struct Then {
    words: String,
    json: Value,
}

/// Compares a recorded decision with that of now.
fn then(recorded: &Recorded, now: &Explanation) -> Then {
    let same = now.verdict != "unknown" && recorded.code == now.code;
    let code = recorded.code.as_deref().unwrap_or("allowed");
    let mut words = match now.verdict {
        "unknown" if recorded.has_facts => format!("{code}; what is decided now depends on what the record does not have"),
        "unknown" => format!(
            "{code}; what is decided now depends on what the record does not have: with `audit: {{ replay: true }}` it would have the facts \
             that decide; the token can be given with --token FILE and --keys FILE, and header fields with --header"
        ),
        _ if same => format!("{code}; now the same"),
        _ => format!("{code}; now {}", now.code.as_deref().unwrap_or("allowed")),
    };
    if let Some(cause) = recorded.apart {
        words.push_str(&format!(" (what decided then, {cause}, is not judged again)"));
    }
    let json = json!({
        "decision": recorded.decision, "code": recorded.code, "policy": recorded.policy, "same": same,
        "replay_facts": recorded.has_facts, "without": recorded.without, "words": words,
    });
    Then { words, json }
}

fn read(file: &Path, most: u64) -> anyhow::Result<String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let (name, result) = if file == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().take(most).read_to_end(&mut bytes))
    } else {
        let open = fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        (file.display().to_string(), open.take(most).read_to_end(&mut bytes))
    };
    result.with_context(|| format!("cannot read {name}"))?;
    let text = text::decode(&bytes).map_err(|fault| anyhow::anyhow!("{name}: {fault}; {}", fault.cure()))?;
    Ok(text.into_owned())
}

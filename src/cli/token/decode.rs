//! `entrada token decode`: header and claims, times in words, the kind of token, and the check that it fails.
//!
//! The content is shown as it is. Only `--verify` tells whether any of it is true.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{by_route, client_assertion, wrapping};
use crate::{
    base::{clock::Clock, text},
    cli::certificate::Format,
    entra::{CloudConfig, TenantConfig, Tenants, inspect_form, read_object},
    identity_http::{IdentityHttp, IdentityHttpConfig},
    inbound::validate_azure_ad_token::{ValidateAzureAdToken, ValidateAzureAdTokenConfig},
    settings::{Faults, Place},
};

/// The longest text that is read, in bytes; a token is far shorter.
const MAX_INPUT: u64 = 256 << 10;

/// Arguments of `entrada token decode`.
#[derive(Args, Debug)]
pub struct DecodeArguments {
    /// The file that holds the token; `-` or nothing reads standard input
    file: Option<PathBuf>,
    /// A config: with `--route`, the token is judged by the route's token policies
    #[arg(long, value_name = "FILE", requires = "route", conflicts_with_all = ["tenant", "audience", "authority", "signing_keys_of"])]
    config: Option<PathBuf>,
    /// The route that judges the token, by its name; every check is reported, not only the first that fails
    #[arg(long, value_name = "NAME", requires = "config")]
    route: Option<String>,
    /// Fetch the tenant's keys and report the check that fails
    #[arg(long, requires = "tenant")]
    verify: bool,
    /// The tenant whose tokens are accepted: a GUID, a verified domain, `organizations` or `common`
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// An authority other than the cloud's
    #[arg(long, value_name = "URL", requires = "verify")]
    authority: Option<String>,
    /// The cloud of the tenant
    #[arg(long, value_enum, default_value_t = CloudName::Public, requires = "verify")]
    cloud: CloudName,
    /// An accepted audience; can be given several times. Without it the audience is not judged
    #[arg(long, value_name = "AUDIENCE", requires = "verify")]
    audience: Vec<String>,
    /// The client id of the API whose own signing key signs the token
    #[arg(long, value_name = "ID", requires = "verify")]
    signing_keys_of: Option<String>,
    /// The proxy for fetching. Default: HTTPS_PROXY
    #[arg(long, value_name = "URL", requires = "verify")]
    proxy: Option<String>,
    /// Certificate authorities (PEM) to trust in addition to the system's
    #[arg(long, value_name = "FILE", requires = "verify")]
    ca: Option<PathBuf>,
    /// The output format
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// A cloud's name on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum CloudName {
    Public,
    UsGovernment,
    China,
}

impl From<CloudName> for CloudConfig {
    fn from(name: CloudName) -> Self {
        match name {
            CloudName::Public => Self::Public,
            CloudName::UsGovernment => Self::UsGovernment,
            CloudName::China => Self::China,
        }
    }
}

/// The content of a presumed token. Nothing of it is verified.
#[derive(Clone, Debug, Serialize)]
pub struct Decoded {
    /// The probable kind of the token, in words.
    pub kind: String,
    /// The header's members.
    pub header: Option<Map<String, Value>>,
    /// The claims.
    pub claims: Option<Map<String, Value>>,
    /// Times among the claims: seconds since 1970, and the same in words.
    pub times: BTreeMap<&'static str, String>,
    /// The reasons why the gateway would call it malformed, or refuse its algorithm.
    pub problems: Vec<String>,
}

/// The result of the verification.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// True if every check passed.
    pub accepted: bool,
    /// The checks that passed, in order, up to the failed one.
    pub passed: Vec<&'static str>,
    /// The failed check.
    pub failed: Option<&'static str>,
    /// The reason's code, as callers would receive it.
    pub code: Option<&'static str>,
    /// The cause.
    pub cause: Option<String>,
    /// A possible change.
    pub hint: Option<String>,
}

/// Decodes a presumed token; `now` is in seconds since 1970.
pub fn decode(text: &str, now: u64) -> Decoded {
    let token = &*wrapping::bare(text);
    let mut problems = Vec::new();
    let parts: Vec<_> = token.split('.').collect();
    let mut part = |index: usize, name: &str| {
        let text = parts.get(index)?;
        let strict = URL_SAFE_NO_PAD.decode(text);
        let bytes = strict.clone().or_else(|_| wrapping::forgiving(text));
        if strict.is_err() && bytes.is_ok() {
            problems.push(format!("the {name} is in standard base64 or padded, and not in strict base64url"));
        }
        let object = bytes
            .map_err(|_| "not base64url".to_owned())
            .and_then(|bytes| read_object(&bytes).map_err(|error| error.to_string()));
        object.map_err(|what| problems.push(format!("the {name} is {what}"))).ok()
    };
    let header = part(0, "header");
    // The middle part of an encrypted token is no payload.
    let claims = if parts.len() == 3 { part(1, "payload") } else { None };
    let assertion = match (&header, &claims) {
        (Some(header), Some(claims)) => client_assertion::inspect(header, claims),
        _ => None,
    };
    if let Some((_, found)) = &assertion {
        // Entra reads it, and forgives what the gateway would not.
        problems.clone_from(found);
    } else if let Err(error) = inspect_form(token.as_bytes()) {
        problems.push(error);
    }
    problems.dedup();
    let times = claims.as_ref().map(|claims| times(claims, now)).unwrap_or_default();
    let kind = match (parts.len(), &header, &claims) {
        (5, ..) => "an encrypted token (JWE); the gateway reads signed tokens only".to_owned(),
        (3, Some(header), Some(claims)) => assertion.map_or_else(|| kind(header, claims), |(kind, _)| kind),
        _ => "no token that can be read".to_owned(),
    };
    Decoded { kind, header, claims, times, problems }
}

fn kind(header: &Map<String, Value>, claims: &Map<String, Value>) -> String {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let has = |name: &str| claims.contains_key(name);
    let version = match text("ver") {
        "1.0" => "version 1, ",
        "2.0" => "version 2, ",
        _ => "",
    };
    let graph = ["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"];
    if graph.contains(&text("aud")) || header.contains_key("nonce") {
        return format!("an access token for Microsoft Graph ({version}only Graph can verify it)");
    }
    let entra = if has("tid") { "Entra's" } else { "another issuer's" };
    let client = has("azp") || has("appid") || has("client_id");
    if has("at_hash") || has("c_hash") || (!client && !has("scp")) {
        return format!("an ID token ({version}{entra})");
    }
    let app = match text("idtyp") {
        "app" => true,
        "user" => false,
        _ => !has("scp") && has("sub") && claims.get("sub") == claims.get("oid"),
    };
    let whose = if app { "an application's own" } else { "a user's" };
    format!("an access token ({version}{entra}, {whose})")
}

const TIMES: [&str; 4] = ["auth_time", "iat", "nbf", "exp"];

fn times(claims: &Map<String, Value>, now: u64) -> BTreeMap<&'static str, String> {
    let in_words = |name: &'static str| {
        // Client libraries write fractions, and numbers as texts.
        let seconds = match claims.get(name)? {
            Value::String(text) => text.parse().ok()?,
            number => number.as_i64().or_else(|| number.as_f64().map(|seconds| seconds as i64))?,
        };
        let at = jiff::Timestamp::from_second(seconds).ok()?.strftime("%Y-%m-%d %H:%M:%S UTC");
        let distance = i128::from(seconds) - i128::from(now);
        let span = span(distance.unsigned_abs());
        Some((name, if distance >= 0 { format!("{at}, in {span}") } else { format!("{at}, {span} ago") }))
    };
    TIMES.into_iter().filter_map(in_words).collect()
}

/// Formats a duration: `2 h 5 min`.
pub(super) fn span(seconds: u128) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// The checks, in order, with the codes of each.
const CHECKS: [(&str, &[&str]); 9] = [
    ("form", &["token-malformed"]),
    ("algorithm", &["token-algorithm-not-allowed"]),
    ("key", &["token-key-unknown", "signing-keys-unavailable"]),
    ("signature", &["token-signature-invalid"]),
    ("issuer", &["token-issuer-not-allowed"]),
    ("tenant", &["token-tenant-not-allowed"]),
    ("audience", &["token-audience-not-allowed"]),
    ("times", &["token-expired", "token-not-yet-valid"]),
    ("kind", &["token-not-access-token", "token-binding-missing", "permission-missing"]),
];

pub(super) fn run(arguments: &DecodeArguments) -> anyhow::Result<ExitCode> {
    let text = read(arguments.file.as_deref())?;
    let clock = Clock::system();
    let decoded = decode(&text, clock.unix_seconds());
    let check = if arguments.verify { Some(verify(arguments, &wrapping::bare(&text), &decoded, &clock)?) } else { None };

    let judged = match (&arguments.config, &arguments.route) {
        (Some(config), Some(route)) => by_route::judge(config, route, &wrapping::bare(&text), &clock)?,
        _ => Vec::new(),
    };
    let output = match arguments.format {
        Format::Text if !judged.is_empty() => {
            format!("{}\n{}{}", capitalised(&decoded.kind), claims_in_words(&decoded), by_route::in_words(&judged))
        }
        Format::Text => in_words(&decoded, check.as_ref()),
        Format::Json => {
            let mut document = serde_json::to_value(&decoded)?;
            if let Some(check) = &check {
                document["check"] = serde_json::to_value(check)?;
            }
            if !judged.is_empty() {
                document["policies"] = serde_json::to_value(&judged)?;
            }
            format!("{document:#}\n")
        }
    };
    std::io::Write::write_all(&mut std::io::stdout(), output.as_bytes())?;
    let judged_well = judged.is_empty() || judged.iter().any(|policy| policy.accepted);
    let fine = decoded.problems.is_empty() && check.is_none_or(|check| check.accepted) && judged_well;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn read(file: Option<&Path>) -> anyhow::Result<String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let (name, read) = match file.filter(|file| *file != Path::new("-")) {
        Some(file) => {
            let open = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
            (file.display().to_string(), open.take(MAX_INPUT).read_to_end(&mut bytes))
        }
        None => ("standard input".to_owned(), std::io::stdin().take(MAX_INPUT).read_to_end(&mut bytes)),
    };
    read.with_context(|| format!("cannot read {name}"))?;
    let text = text::decode(&bytes).map_err(|fault| anyhow::anyhow!("{name}: {fault}; {}", fault.cure()))?;
    Ok(text.into_owned())
}

pub(super) fn verify(arguments: &DecodeArguments, token: &str, decoded: &Decoded, clock: &Clock) -> anyhow::Result<Check> {
    let config = TenantConfig {
        id: arguments.tenant.clone().unwrap_or_default(),
        cloud: arguments.cloud.into(),
        authority: arguments.authority.clone(),
        stale: None,
        graph: None,
        required: None,
    };
    let many = matches!(&*config.id.to_ascii_lowercase(), "organizations" | "common");
    let mut faults = Faults::default();
    let tenants = Tenants::build(&[("tenant".to_owned(), config)].into(), None, &Place::root(), &mut faults);
    // Without a word about the audience whatever the token says is right.
    let own = decoded.claims.as_ref().and_then(|claims| claims.get("aud")).and_then(Value::as_str).unwrap_or("none");
    let audiences = if arguments.audience.is_empty() { vec![own.to_owned()] } else { arguments.audience.clone() };
    let mut settings = json!({ "tenant": "tenant", "audiences": audiences, "signing-keys-of": arguments.signing_keys_of });
    if many {
        settings["allowed-tenants"] = "any".into();
    }
    let settings: ValidateAzureAdTokenConfig = serde_json::from_value(settings)?;
    let policy = ValidateAzureAdToken::alone(&settings, &tenants, &mut faults);
    let Some(policy) = policy.filter(|_| !faults.any_error()) else {
        let faults: Vec<_> =
            faults.iter().map(|fault| format!("{}; {}", fault.message, fault.cure.as_deref().unwrap_or_default())).collect();
        anyhow::bail!("{}", faults.join("\n"));
    };

    let ca = arguments.ca.as_ref().map(|path| path.display().to_string());
    let http = IdentityHttp::new(&IdentityHttpConfig { proxy: arguments.proxy.clone(), ca })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let verdict = runtime.block_on(async {
        tenants.start(&http, clock, runtime.handle());
        tenants.tried().await;
        policy.judge_text(token.as_bytes(), clock).await
    });
    let Err(refusal) = verdict else {
        let passed = CHECKS.iter().map(|(name, _)| *name).collect();
        return Ok(Check { accepted: true, passed, failed: None, code: None, cause: None, hint: None });
    };
    let code = refusal.reason.code();
    let at = CHECKS.iter().position(|(_, codes)| codes.contains(&code)).unwrap_or(CHECKS.len() - 1);
    let unfetched =
        tenants.status(clock).into_iter().filter_map(|document| Some(format!("{}: {}", document.url, document.error?)));
    let cause = refusal.cause.as_ref().map(|cause| cause.to_string()).into_iter();
    let cause: Vec<_> = if code == "signing-keys-unavailable" { cause.chain(unfetched).collect() } else { cause.collect() };
    Ok(Check {
        accepted: false,
        passed: CHECKS[..at].iter().map(|(name, _)| *name).collect(),
        failed: Some(CHECKS[at].0),
        code: Some(code),
        cause: Some(cause.join("; ")),
        hint: refusal.into_parts().hint.map(Into::into),
    })
}

/// Formats header and claims, one line each, and their problems.
pub(super) fn claims_in_words(decoded: &Decoded) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    for (title, object) in [("Header", &decoded.header), ("Claims", &decoded.claims)] {
        let Some(object) = object else { continue };
        let _ = writeln!(text, "\n{title}");
        for (name, value) in object {
            let time = decoded.times.iter().find(|(time, _)| *time == name).map(|(_, words)| format!("   ({words})"));
            let _ = writeln!(text, "  {}: {}{}", printable(name), printable(&value.to_string()), time.unwrap_or_default());
        }
    }
    if !decoded.problems.is_empty() {
        let _ = writeln!(text, "\nMalformed");
        for problem in &decoded.problems {
            let _ = writeln!(text, "  {problem}");
        }
    }
    text
}

fn in_words(decoded: &Decoded, check: Option<&Check>) -> String {
    let mut text = format!("{}\n{}", capitalised(&decoded.kind), claims_in_words(decoded));
    let Some(check) = check else {
        let _ = writeln!(text, "\nNothing of this is verified; --verify does that.");
        return text;
    };
    let _ = writeln!(text, "\nChecks");
    for passed in &check.passed {
        let _ = writeln!(text, "  {passed}: holds");
    }
    if let (Some(failed), Some(code)) = (check.failed, check.code) {
        let _ = writeln!(text, "  {failed}: FAILS, {code}");
    }
    for (title, words) in [("Cause", &check.cause), ("Hint", &check.hint)] {
        if let Some(words) = words {
            let _ = writeln!(text, "{title}: {words}");
        }
    }
    if check.accepted {
        let _ = writeln!(text, "Every check holds.");
    }
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Makes a token's content safe for a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
}

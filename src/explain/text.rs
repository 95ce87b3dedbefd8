//! Explanations for people.

use std::fmt::Write as _;

use super::{
    Explanation, Position, StepFacts, TurningFact,
    describe::{printable, span},
};

/// The width of a label.
const LABEL: usize = 10;

/// Writes an explanation. `all`: also the steps that passed before a refusal.
pub fn to_text(explanation: &Explanation, all: bool) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    let _ = write(&mut text, explanation, all);
    text
}

fn write(text: &mut String, it: &Explanation, all: bool) -> std::fmt::Result {
    let status = it.status.map(|status| status.to_string()).unwrap_or_default();
    let verdict = match it.verdict {
        "unknown" => "UNKNOWN ".to_owned(),
        "allow" => "ALLOWED ".to_owned(),
        "answer" => format!("ANSWERED {status}"),
        "fault" => format!("FAILED  {status} {}", it.code.as_deref().unwrap_or_default()),
        _ => format!("REFUSED {status} {}", it.code.as_deref().unwrap_or_default()),
    };
    let request = &it.request;
    let digest = it.config_digest.get(..8).unwrap_or(&it.config_digest);
    writeln!(text, "{verdict}   {} {}        config {digest}, {}", request.method, printable(&request.url), it.at)?;
    writeln!(text)?;
    if !it.unknown.is_empty() {
        let facts: Vec<String> = it.unknown.iter().map(|fact| printable(fact)).collect();
        writeln!(text, "  {} it depends on {}, which is not known", label("unknown"), facts.join(", "))?;
    }
    caller(text, it)?;
    route(text, it)?;
    steps(text, it, all)?;
    if let Some(upstream) = &it.upstream {
        let label = label("upstream");
        writeln!(text, "  {label} {:<14} {} {}", upstream.name, upstream.method, printable(&upstream.url))?;
        if !upstream.removed.is_empty() {
            writeln!(text, "        removed   {}", upstream.removed.join(", "))?;
        }
        for field in &upstream.added {
            writeln!(text, "        added     {}: {}", field.name, field.value)?;
        }
        writeln!(text, "        authorization: {}", upstream.authorization)?;
    }
    response(text, it)?;
    turning(text, it)?;
    if matches!(it.verdict, "refuse" | "fault") {
        if it.turning.as_ref().is_none_or(|turning| turning.facts.is_empty())
            && let Some(hint) = &it.hint
        {
            writeln!(text, "  {} {}", label("hint"), printable(hint))?;
        }
        let code = it.code.as_deref().unwrap_or_default();
        writeln!(text, "  caller saw {{\"code\":\"{code}\"}} with a request id; nothing of the above")?;
    }
    if !it.judged_without.is_empty() {
        writeln!(text, "  {} {}", label("without"), it.judged_without.join("; "))?;
    }
    writeln!(text, "\n  Nothing was sent.")
}

/// Writes the policies on the answer, which run last, and the answer that they made.
fn response(text: &mut String, it: &Explanation) -> std::fmt::Result {
    let mut ran = it.steps.iter().filter(|step| is_of_answer(step)).peekable();
    let Some(response) = it.response.as_ref().filter(|_| ran.peek().is_some()) else { return Ok(()) };
    for step in ran {
        one(text, step, it)?;
    }
    writeln!(text, "  {} {}", label("answer"), response.status)?;
    for field in &response.headers {
        writeln!(text, "        header    {}: {}", field.name, printable(&field.value))?;
    }
    Ok(())
}

fn is_of_answer(step: &StepFacts) -> bool {
    step.at.starts_with("outbound[") || step.at.starts_with("on-error[")
}

fn label(text: &str) -> String {
    format!("{text:<LABEL$}")
}

fn at(place: Option<&Position>) -> String {
    place.map_or_else(String::new, |place| format!("{}:{}", place.file, place.line))
}

fn caller(text: &mut String, it: &Explanation) -> std::fmt::Result {
    let Some(caller) = &it.caller else { return Ok(()) };
    let told = match caller.hops.as_slice() {
        [hop] if hop.trusted_by.is_some() => {
            format!("the peer; a trusted proxy ({}) that names no caller", hop.trusted_by.as_deref().unwrap_or_default())
        }
        [] | [_] if caller.source == "peer" => "the peer; it is no trusted proxy".to_owned(),
        _ => format!("by {}, from peer {}", caller.source, caller.peer),
    };
    writeln!(text, "  {} {:<15} {told}", label("caller"), caller.address)?;
    if caller.hops.len() > 1 || caller.source != "peer" {
        for hop in &caller.hops {
            match &hop.trusted_by {
                Some(entry) => writeln!(text, "        {:<16} trusted ({entry})", hop.address)?,
                None => writeln!(text, "        {:<16} the first that is not: the caller", hop.address)?,
            }
        }
    }
    Ok(())
}

fn route(text: &mut String, it: &Explanation) -> std::fmt::Result {
    match &it.route {
        Some(route) => writeln!(text, "  {} {:<14} {}", label("route"), route.name, at(route.place.as_ref()))?,
        None => writeln!(text, "  {} none", label("route"))?,
    }
    for other in &it.routes_considered {
        writeln!(text, "        not {}: {}", other.name, other.why_not)?;
    }
    if it.route.is_none()
        && let Some(cause) = &it.cause
    {
        writeln!(text, "        {}", printable(cause))?;
    }
    Ok(())
}

fn steps(text: &mut String, it: &Explanation, all: bool) -> std::fmt::Result {
    let refused = matches!(it.verdict, "refuse" | "fault" | "unknown");
    // Of a refusal only the way to it matters, as long as nobody asks for more.
    let folded = |step: &StepFacts| refused && !all && (step.outcome == "passed" || step.given_up);
    let on_request = || it.steps.iter().filter(|step| !is_of_answer(step));
    let hidden = on_request().filter(|step| folded(step)).count();
    if hidden > 0 {
        let entries = if hidden == 1 { "entry" } else { "entries" };
        writeln!(text, "  ✓ {hidden} {entries} passed (--all shows {})", if hidden == 1 { "it" } else { "them" })?;
    }
    for step in on_request().filter(|step| !folded(step)) {
        one(text, step, it)?;
    }
    match it.not_reached.as_slice() {
        [] => Ok(()),
        [one] => writeln!(text, "  – {one}   not reached"),
        several if all => several.iter().try_for_each(|one| writeln!(text, "  – {one}   not reached")),
        several => writeln!(text, "  – {} entries not reached", several.len()),
    }
}

fn one(text: &mut String, step: &StepFacts, it: &Explanation) -> std::fmt::Result {
    let mark = match step.outcome {
        "refused" if step.given_up => "·",
        "refused" => "✗",
        "would-refuse" => "!",
        "unknown" => "?",
        _ => "✓",
    };
    let (name, place) = (printable(&step.at), at(step.place.as_ref()));
    let is_token = step.looked_at.starts_with("the token in");
    if matches!(step.outcome, "refused" | "would-refuse" | "unknown") {
        let code = step.code.map(|code| format!("   {code}")).unwrap_or_default();
        writeln!(text, "  {mark} {name:<38} {place}{code}")?;
        writeln!(text, "        looked at {}", printable(&step.looked_at))?;
        if is_token && !step.given_up {
            token(text, it)?;
        }
        list(text, "wanted", &step.wanted)?;
        list(text, "found", &step.found)?;
        if !step.reason.is_empty() {
            writeln!(text, "        reason    {}", printable(&step.reason))?;
        }
        return Ok(());
    }
    let detail = match (step.reason.is_empty(), step.found.as_slice()) {
        (false, _) => format!("{}: {}", step.looked_at, step.reason),
        (true, []) => step.looked_at.clone(),
        (true, found) => format!("{}: {}", step.looked_at, found.join(", ")),
    };
    writeln!(text, "  {mark} {name:<38} {place:<20} {}", printable(&detail))?;
    if is_token { token(text, it) } else { Ok(()) }
}

fn token(text: &mut String, it: &Explanation) -> std::fmt::Result {
    let Some(token) = &it.token else { return Ok(()) };
    let whose = if token.kind == "app" { "an application's" } else { "a user's" };
    let left = match token.expires_in_s {
        Some(left) if left > 0 => format!(", {} left", span(left.unsigned_abs())),
        Some(left) => format!(", expired {} ago", span(left.unsigned_abs())),
        None => String::new(),
    };
    let client = token.client.as_deref().map(|client| format!(", by the client {client}")).unwrap_or_default();
    writeln!(text, "        token     in {}, {whose}{client}{left}", token.place)?;
    let key = token.key_id.as_deref().unwrap_or("none");
    writeln!(
        text,
        "        key       {key} ({}), issuer {}",
        token.algorithm.as_deref().unwrap_or("none"),
        token.issuer.as_deref().unwrap_or("none")
    )?;
    let failed = token.checks.iter().find(|check| !check.held);
    match failed {
        Some(check) => writeln!(text, "        checks    {} hold, {} does not", token.checks.len() - 1, check.name),
        None => writeln!(text, "        audience  {}", token.audience.as_deref().unwrap_or("none")),
    }
}

fn list(text: &mut String, name: &str, values: &[String]) -> std::fmt::Result {
    for (index, value) in values.iter().enumerate() {
        let name = if index == 0 { name } else { "" };
        writeln!(text, "        {name:<9} {}", printable(value))?;
    }
    Ok(())
}

fn turning(text: &mut String, it: &Explanation) -> std::fmt::Result {
    let Some(turning) = &it.turning else { return Ok(()) };
    writeln!(text)?;
    match turning.facts.as_slice() {
        [] => writeln!(
            text,
            "  {} no single fact that a caller controls; {} is where trials ended",
            label("turns it"),
            turning.leads_to
        )?,
        facts => {
            for (index, TurningFact { name, from, to }) in facts.iter().enumerate() {
                let label = if index == 0 { label("turns it") } else { label("and") };
                writeln!(text, "  {label} {name}: {}   (now {})", printable(to), printable(from))?;
            }
            writeln!(text, "  {} → {} (tried)", label(""), turning.leads_to)?;
        }
    }
    let mut told: Vec<&str> = Vec::new();
    for who in &turning.who {
        if !told.contains(&who.as_str()) {
            told.push(who);
            writeln!(text, "  {} {who}", label(if told.len() == 1 { "who can" } else { "" }))?;
        }
    }
    Ok(())
}

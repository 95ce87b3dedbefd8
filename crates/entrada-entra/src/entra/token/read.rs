//! Parsing of a verified payload into a [`Token`]: every claim that is checked has its type, or the token is malformed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{Claims, CredentialKind, Token, TokenKind};
use crate::entra::{
    footprint::{of_text, of_texts},
    issuer::is_guid,
    json::NotStrict,
    members::Members,
};

/// The latest time: beyond it, readers that use floating point cannot tell times apart (2^53).
const LATEST: u64 = 1 << 53;

/// The reason why a payload is not a token, though its signature is valid. Names claims, never their values.
#[derive(Debug, thiserror::Error)]
pub enum TokenFault {
    /// The payload is not the JSON that tokens hold.
    #[error("its payload is {0}")]
    Json(#[from] NotStrict),
    /// A claim has another type than it must have.
    #[error("its claim {0} has the wrong type")]
    Type(&'static str),
    /// A claim that must be there is absent.
    #[error("it has no claim {0}")]
    Absent(&'static str),
    /// A claim stands there in two spellings.
    #[error("it has the claim {0} in two spellings")]
    TwoSpellings(&'static str),
    /// The token expires before it becomes valid.
    #[error("it ends before it begins")]
    EndsBeforeItBegins,
}

/// Claims that a case-insensitive reader could confuse.
const JUDGED: [&str; 11] = ["iss", "tid", "aud", "exp", "nbf", "azp", "appid", "oid", "scp", "roles", "idtyp"];

/// A parsed payload: the token, and the facts that only its checks need.
#[derive(Debug)]
pub struct Payload {
    pub(crate) token: Token,
    /// The claims that every check needs.
    pub facts: Facts,
}

/// The facts of a payload that are checked, besides the token's own fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `ver`.
    pub(crate) version: Version,
    /// `iss`.
    pub(crate) issuer: Box<str>,
    /// `tid` as written, if it is a GUID.
    pub(crate) tenant: Box<str>,
    /// `aud`; only tokens of other issuers may have several.
    pub audiences: Vec<Box<str>>,
    /// `nbf`.
    pub not_before: Option<u64>,
    /// True if the kind of token (user or application) is certain.
    pub kind_is_certain: bool,
    /// True if it has the marks of an ID token.
    pub id_token: bool,
    /// The binding of the token (`cnf`), if any.
    pub binding: Option<Binding>,
    /// True if the token does not list all of its groups.
    pub groups_elsewhere: bool,
}

impl Facts {
    /// Returns the memory that the facts point to.
    pub(in crate::entra) fn memory(&self) -> usize {
        of_text(&self.issuer) + of_text(&self.tenant) + of_texts(&self.audiences, self.audiences.capacity())
    }
}

/// The key that a token is bound to: its presenter has to hold that key. RFC 7800, section 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The certificate with this SHA-256. RFC 8705, section 3.1.
    Certificate([u8; 32]),
    /// A binding that no policy can prove: a key (`jwk`, `kid`, `jkt`), or several bindings at once.
    Other,
}

impl Binding {
    fn of(claims: &Members) -> Option<Self> {
        let confirmation = claims.get("cnf")?;
        // Every member would have to hold, and so would one that nobody here knows.
        let thumbprint = match confirmation.as_object() {
            Some(members) if members.len() == 1 => members.get("x5t#S256").and_then(Value::as_str),
            _ => None,
        };
        let hash = thumbprint.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).and_then(|hash| hash.try_into().ok());
        Some(hash.map_or(Self::Other, Self::Certificate))
    }
}

/// The version that a token declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Version 1.0 of the tokens.
    V1,
    /// Version 2.0 of the tokens.
    V2,
    /// No version, or an unknown one.
    #[default]
    Unknown,
}

/// Reads the payload of an Entra token. Tenant, audience and time are checked later.
///
/// # Errors
/// Returns the malformed part.
pub fn read_entra(payload: &[u8]) -> Result<Payload, TokenFault> {
    read(payload, false)
}

/// Reads the payload of a user flow token of Azure AD B2C, which declares version 1 but otherwise follows version 2.
///
/// # Errors
/// Returns the malformed part.
pub fn read_user_flow(payload: &[u8]) -> Result<Payload, TokenFault> {
    read(payload, true)
}

fn read(payload: &[u8], user_flow: bool) -> Result<Payload, TokenFault> {
    let claims = Members::read(payload)?;
    // What is not one of the names and reads like one has a capital letter.
    for name in claims.iter().map(|(name, _)| name).filter(|name| name.bytes().any(|byte| byte.is_ascii_uppercase())) {
        if let Some(twin) = JUDGED.into_iter().find(|judged| name != *judged && name.eq_ignore_ascii_case(judged))
            && claims.contains(twin)
        {
            return Err(TokenFault::TwoSpellings(twin));
        }
    }

    let (not_before, expires_at) = times(&claims, false)?;
    let version = match text(&claims, "ver")? {
        Some("1.0") if !user_flow => Version::V1,
        Some("1.0") => Version::V2,
        Some("2.0") => Version::V2,
        _ => Version::Unknown,
    };
    let scopes: Vec<Box<str>> = words(text(&claims, "scp")?);
    let roles = list(&claims, "roles")?;
    let (subject, object_id) = (text(&claims, "sub")?, text(&claims, "oid")?);
    // The client's claims have other names in each version. Those of the other one are not looked at: a mapped claim may bear them.
    let (client, strength) = match version {
        Version::V2 => (text(&claims, "azp")?, text(&claims, "azpacr")?),
        Version::V1 | Version::Unknown => (text(&claims, "appid")?, text(&claims, "appidacr")?),
    };
    let kind = match text(&claims, "idtyp")? {
        Some("app") => Some(TokenKind::App),
        Some("user") => Some(TokenKind::User),
        Some(_) => None,
        None if !scopes.is_empty() => Some(TokenKind::User),
        None if subject.is_some() && subject == object_id => Some(TokenKind::App),
        None => None,
    };
    // A tenant that is no GUID is no tenant; that is judged where tenants are.
    let tenant = claims.get("tid").and_then(Value::as_str).filter(|tenant| is_guid(tenant)).unwrap_or_default();

    let facts = Facts {
        version,
        issuer: text(&claims, "iss")?.unwrap_or_default().into(),
        tenant: tenant.into(),
        audiences: text(&claims, "aud")?.map(Into::into).into_iter().collect(),
        not_before,
        kind_is_certain: kind.is_some(),
        id_token: is_id_token(&claims),
        binding: Binding::of(&claims),
        groups_elsewhere: groups_elsewhere(&claims),
    };
    let token = Token {
        kind: kind.unwrap_or(TokenKind::User),
        tenant: tenant.to_ascii_lowercase().into(),
        client: client.map(Into::into),
        subject: subject.map(Into::into),
        object_id: object_id.map(Into::into),
        scopes,
        roles,
        credential_kind: match strength {
            Some("0") => Some(CredentialKind::None),
            Some("1") => Some(CredentialKind::Secret),
            Some("2") => Some(CredentialKind::Certificate),
            _ => None,
        },
        id: text(&claims, "uti")?.map(Into::into),
        expires_at,
        recorded: Box::default(),
        claims: Claims(claims),
    };
    Ok(Payload { token, facts })
}

/// Reads the payload of another issuer's token: RFC 7519, and RFC 9068 for access tokens.
///
/// # Errors
/// Returns the malformed part.
pub fn read_other(payload: &[u8]) -> Result<Payload, TokenFault> {
    let claims = Members::read(payload)?;
    let (not_before, expires_at) = times(&claims, true)?;
    let subject = text(&claims, "sub")?;
    let client = match text(&claims, "client_id")? {
        Some(client) => Some(client),
        None => text(&claims, "azp")?,
    };
    // RFC 6749, section 3.3, writes scopes in one text; some issuers write a list.
    let scopes = match (claims.get("scope"), claims.get("scp")) {
        (Some(Value::String(scope)), _) | (None, Some(Value::String(scope))) => words(Some(scope)),
        (Some(_), _) => list(&claims, "scope")?,
        (None, _) => list(&claims, "scp")?,
    };
    let facts = Facts {
        version: Version::Unknown,
        issuer: text(&claims, "iss")?.unwrap_or_default().into(),
        tenant: Box::default(),
        audiences: list(&claims, "aud")?,
        not_before,
        kind_is_certain: true,
        id_token: is_id_token(&claims),
        binding: Binding::of(&claims),
        groups_elsewhere: false,
    };
    // RFC 9068, section 2.2: without a user the subject is the client itself.
    let app = subject.is_some() && subject == client;
    let token = Token {
        kind: if app { TokenKind::App } else { TokenKind::User },
        tenant: Box::default(),
        client: client.map(Into::into),
        subject: subject.map(Into::into),
        object_id: text(&claims, "oid")?.map(Into::into),
        scopes,
        roles: list(&claims, "roles")?,
        credential_kind: None,
        id: text(&claims, "jti")?.map(Into::into),
        expires_at,
        recorded: Box::default(),
        claims: Claims(claims),
    };
    Ok(Payload { token, facts })
}

/// Returns whether the payload of a token can be read: as Entra's, and as another issuer's.
pub fn inspect_payload(payload: &[u8]) -> (bool, bool) {
    (read_entra(payload).is_ok(), read_other(payload).is_ok())
}

/// Returns whether the claims are those of an ID token. OpenID Connect Core, sections 3.1.3.6 and 3.3.2.11.
fn is_id_token(claims: &Members) -> bool {
    claims.contains("at_hash") || claims.contains("c_hash")
}

/// Returns whether the token has more groups than it lists. The address that it names for them is never used: a token chooses no
/// address.
fn groups_elsewhere(claims: &Members) -> bool {
    let has_groups = claims.get("hasgroups").is_some_and(|value| value == true || value == "true");
    has_groups || claims.get("_claim_names").and_then(Value::as_object).is_some_and(|names| names.contains_key("groups"))
}

/// Reads `nbf` and `exp`, in range. RFC 7519, section 4.1.4, allows fractions of seconds, and some issuers send them: the time within
/// them counts as if it were shorter. Entra sends none, and a token of its own that has some is refused.
fn times(claims: &Members, fractions: bool) -> Result<(Option<u64>, u64), TokenFault> {
    let seconds = |name: &'static str, round: fn(f64) -> f64| match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let whole = value.as_u64().or_else(|| value.as_f64().filter(|_| fractions).and_then(|seconds| whole(round(seconds))));
            whole.filter(|seconds| *seconds <= LATEST).map(Some).ok_or(TokenFault::Type(name))
        }
    };
    let not_before = seconds("nbf", f64::ceil)?;
    let expires_at = seconds("exp", f64::floor)?.ok_or(TokenFault::Absent("exp"))?;
    if not_before.is_some_and(|not_before| not_before > expires_at) {
        return Err(TokenFault::EndsBeforeItBegins);
    }
    Ok((not_before, expires_at))
}

/// Returns a number of whole seconds from 0 to [`LATEST`].
fn whole(seconds: f64) -> Option<u64> {
    #[expect(clippy::cast_precision_loss, reason = "it is a power of two")]
    let range = 0.0..=LATEST as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    range.contains(&seconds).then_some(seconds as u64)
}

/// Reads a claim that is a text or absent; a text must not hold characters that could end a line elsewhere.
fn text<'a>(claims: &'a Members, name: &'static str) -> Result<Option<&'a str>, TokenFault> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !holds_control(text) => Ok(Some(text)),
        Some(_) => Err(TokenFault::Type(name)),
    }
}

/// Returns whether the text holds a control character. Nearly every claim is ASCII, which needs no decoding for this; and nearly
/// none holds one, so that checking many bytes at once is faster than stopping at the first.
fn holds_control(text: &str) -> bool {
    if text.is_ascii() {
        text.bytes().fold(false, |holds, byte| holds | byte.is_ascii_control())
    } else {
        text.chars().any(char::is_control)
    }
}

fn words(text: Option<&str>) -> Vec<Box<str>> {
    text.unwrap_or_default().split(' ').filter(|word| !word.is_empty()).map(Into::into).collect()
}

/// Reads a list of texts; a single text is a list of one, as some libraries write it.
fn list(claims: &Members, name: &'static str) -> Result<Vec<Box<str>>, TokenFault> {
    match claims.get(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text.as_str().into()]),
        Some(Value::Array(entries)) => {
            entries.iter().map(|entry| entry.as_str().map(Into::into).ok_or(TokenFault::Type(name))).collect()
        }
        Some(_) => Err(TokenFault::Type(name)),
    }
}

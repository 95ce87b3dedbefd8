//! The questions to Graph, and the meaning of its answers.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use url::Url;

use super::fault::GraphFault;
use crate::{
    credentials::AccessToken,
    entra::{is_guid, read_object, token::Token},
    identity_http::{Answer, Call, IdentityHttp},
};

/// The longest answer that is read, in bytes.
const MAX_BYTES: usize = 64 << 10;
/// The timeout of one call. A request is waiting.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
/// The maximum number of groups in one call.
const GROUPS_PER_CALL: usize = 20;

/// The user in question: `tid` and `oid` of a validated token.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) object_id: &'a str,
}

impl<'a> Person<'a> {
    /// Returns the user of a token, if it names one.
    pub fn of(token: &'a Token) -> Option<Self> {
        let object_id = token.object_id.as_deref().filter(|id| is_guid(id))?;
        (!token.tenant.is_empty()).then_some(Self { tenant: &token.tenant, object_id })
    }
}

/// A question to Graph about a user.
pub(super) trait Question: Sync {
    type Answer;

    /// Returns the user's tenant.
    fn tenant(&self) -> &str;

    /// Asks Graph.
    fn ask(
        &self,
        http: &IdentityHttp,
        base: &Url,
        token: &AccessToken,
    ) -> impl Future<Output = Result<Self::Answer, GraphFault>> + Send;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Principal {
    tenant: Box<str>,
    object_id: Box<str>,
}

impl Principal {
    fn new(person: Person<'_>) -> Option<Self> {
        let known = is_guid(person.tenant) && is_guid(person.object_id);
        known.then(|| Self {
            tenant: person.tenant.to_ascii_lowercase().into(),
            object_id: person.object_id.to_ascii_lowercase().into(),
        })
    }

    /// `{base}/v1.0/users/{id}`, and below.
    fn url(&self, base: &Url, below: &[&str]) -> Result<Url, GraphFault> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| GraphFault::Nonsense)?
            .pop_if_empty()
            .extend(["v1.0", "users", &*self.object_id])
            .extend(below);
        Ok(url)
    }
}

/// A question: the groups, of these, that a user is in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AboutGroups {
    who: Principal,
    groups: Arc<[Box<str>]>,
}

/// The groups, of those in question, that a user is in: a claim like `groups`.
#[derive(Debug, PartialEq, Eq)]
pub struct Groups(pub(super) Value);

impl Groups {
    /// Returns the groups as a claim.
    pub const fn claim(&self) -> &Value {
        &self.0
    }
}

impl AboutGroups {
    pub(super) fn new(person: Person<'_>, groups: &Arc<[Box<str>]>) -> Option<Self> {
        Some(Self { who: Principal::new(person)?, groups: groups.clone() })
    }
}

impl Question for AboutGroups {
    type Answer = Groups;

    fn tenant(&self) -> &str {
        &self.who.tenant
    }

    async fn ask(&self, http: &IdentityHttp, base: &Url, token: &AccessToken) -> Result<Groups, GraphFault> {
        let url = self.who.url(base, &["checkMemberGroups"])?;
        let mut member = Vec::new();
        for groups in self.groups.chunks(GROUPS_PER_CALL) {
            let body = Bytes::from(json!({ "groupIds": groups }).to_string());
            let answer = http.send(Call::post_json(&url, body, headers(token), MAX_BYTES).within(TIMEOUT)).await?;
            // A user whom the directory does not have is in no group of it.
            let Some(answer) = read(&answer)? else { return Ok(Groups(json!([]))) };
            let found = answer.get("value").and_then(Value::as_array).ok_or(GraphFault::Nonsense)?;
            let found: Vec<&str> = found.iter().map(|id| id.as_str().ok_or(GraphFault::Nonsense)).collect::<Result<_, _>>()?;
            // In the policy's own spelling, and nothing that was not asked.
            let own = groups.iter().filter(|group| found.iter().any(|found| found.eq_ignore_ascii_case(group)));
            member.extend(own.map(|group| Value::from(&**group)));
        }
        Ok(Groups(member.into()))
    }
}

/// A question: a user's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct AboutAttributes {
    who: Principal,
    /// The attributes and the claims that they become.
    claims: Arc<[(Box<str>, Box<str>)]>,
}

/// The attributes of a user: claims, by name.
#[derive(Default)]
pub struct Attributes {
    pub(super) claims: Vec<(Box<str>, Value)>,
    /// The last token that they were added to, and the combination: calls with the same token come in series.
    pub(super) last: ArcSwapOption<(Arc<Token>, Arc<Token>)>,
}

// Personal data, and no part of any log.
impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Attributes").field(&self.claims.len()).finish()
    }
}

impl Attributes {
    /// Returns the token with these claims added; its own claims win.
    pub fn added_to(&self, token: &Arc<Token>) -> Arc<Token> {
        if let Some(last) = self.last.load_full().filter(|last| Arc::ptr_eq(&last.0, token)) {
            return last.1.clone();
        }
        let mut more = Token::clone(token);
        for (name, value) in &self.claims {
            if more.claims.get(name).is_none() {
                more.claims.0.put(name, value.clone());
            }
        }
        let more = Arc::new(more);
        self.last.store(Some(Arc::new((token.clone(), more.clone()))));
        more
    }
}

impl AboutAttributes {
    pub(super) fn new(person: Person<'_>, claims: &Arc<[(Box<str>, Box<str>)]>) -> Option<Self> {
        Some(Self { who: Principal::new(person)?, claims: claims.clone() })
    }
}

impl Question for AboutAttributes {
    type Answer = Attributes;

    fn tenant(&self) -> &str {
        &self.who.tenant
    }

    async fn ask(&self, http: &IdentityHttp, base: &Url, token: &AccessToken) -> Result<Attributes, GraphFault> {
        let mut url = self.who.url(base, &[])?;
        let names: Vec<&str> = self.claims.iter().map(|(_, attribute)| &**attribute).collect();
        url.query_pairs_mut().append_pair("$select", &names.join(","));
        let answer = http.send(Call { headers: headers(token), ..Call::get(&url, MAX_BYTES) }.within(TIMEOUT)).await?;
        let Some(answer) = read(&answer)? else { return Ok(Attributes::default()) };
        let claims = self.claims.iter().filter_map(|(claim, attribute)| {
            let value = answer.get(&**attribute).filter(|value| says_something(value))?;
            Some((claim.clone(), value.clone()))
        });
        Ok(Attributes { claims: claims.collect(), last: ArcSwapOption::empty() })
    }
}

/// Returns whether an attribute has a value that could be a claim: Graph writes `null` for a missing one.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Object(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(entries) => !entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn headers(token: &AccessToken) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, token.header().clone());
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

/// Returns the object of a good answer; `None` if the directory has no such user.
fn read(answer: &Answer) -> Result<Option<Map<String, Value>>, GraphFault> {
    let document = || read_object(&answer.body).map_err(|_| GraphFault::Nonsense);
    match answer.status {
        StatusCode::OK => document().map(Some),
        StatusCode::NOT_FOUND => match code(&document()?) {
            code if &*code == "Request_ResourceNotFound" => Ok(None),
            // Anything else that is not there is an address of ours that is wrong.
            code => Err(GraphFault::Refused { status: StatusCode::NOT_FOUND, code }),
        },
        StatusCode::UNAUTHORIZED => Err(GraphFault::Unauthorized),
        status if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() => {
            let retry_after = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(GraphFault::Busy { status, retry_after })
        }
        status => Err(GraphFault::Refused { status, code: document().map(|document| code(&document)).unwrap_or_default() }),
    }
}

/// Returns Graph's own error code; foreign text, so only letters and the like.
fn code(document: &Map<String, Value>) -> Box<str> {
    let code = document.get("error").and_then(|error| error.get("code")).and_then(Value::as_str).unwrap_or("no code");
    code.chars().filter(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.')).take(64).collect()
}

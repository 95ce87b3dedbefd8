//! The policy's `context`: its members, and what each is here.

use super::{
    Kind, Section, Translator,
    value::{Cel, Level, Object, Plain, Value, literal},
};
use crate::{
    csharp::{Expr, Refusal},
    report::Verdict,
};

/// Returns the codes here of a reason of `LastError`.
pub(crate) fn codes_of(reason: &str) -> Option<&'static [&'static str]> {
    Some(match reason {
        "SubscriptionKeyNotFound" => &["api-key-missing"],
        "SubscriptionKeyInvalid" => &["api-key-invalid"],
        "RateLimitExceeded" => &["rate-limit-exceeded"],
        "QuotaExceeded" => &["quota-exceeded"],
        "CallerIpNotAllowed" | "CallerIpBlocked" => &["caller-address-not-allowed"],
        "FailedToParseCallerIP" => &["caller-address-unparsable"],
        "HeaderNotFound" | "HeaderValueNotAllowed" => &["header-check-failed"],
        "TokenNotFound" => &["token-missing"],
        "TokenSignatureInvalid" => &["token-signature-invalid"],
        "TokenAudienceNotAllowed" => &["token-audience-not-allowed"],
        "TokenIssuerNotAllowed" => &["token-issuer-not-allowed"],
        "TokenExpired" => &["token-expired"],
        "TokenSignatureKeyNotFound" => &["token-key-unknown"],
        "TokenClaimNotFound" | "TokenClaimValueNotAllowed" => &["required-claim-missing"],
        "JwtInvalid" => &["token-malformed"],
        "OperationNotFound" => &["no-route", "method-not-allowed"],
        "Timeout" => &["upstream-timeout"],
        "BackendConnectionFailure" => &["upstream-unreachable"],
        "ExpressionValueEvaluationFailure" => &["not-authorized", "header-value-unavailable"],
        _ => return None,
    })
}

/// Types whose functions are known by name.
const TYPES: &[&str] = &[
    "string",
    "String",
    "int",
    "Int32",
    "Int64",
    "long",
    "bool",
    "Boolean",
    "double",
    "Guid",
    "Convert",
    "Regex",
    "Uri",
    "WebUtility",
    "HttpUtility",
    "Encoding",
    "StringComparison",
    "StringSplitOptions",
    "RegexOptions",
    "TimeSpan",
    "Array",
    "Math",
    "Enumerable",
];

fn object(object: Object) -> Result<Value, Refusal> {
    Ok(Value::Object(object))
}

fn plain(cel: &str, kind: Kind) -> Result<Value, Refusal> {
    Ok(Value::Plain(Plain::new(Cel::primary(cel), kind)))
}

pub(super) fn unknown_member(of: &str, name: &str, at: usize) -> Refusal {
    Refusal::new("member", format!("`{of}.{name}` is not translated"), at)
}

impl Translator<'_> {
    /// Returns the path of a field, unless a policy before has changed it.
    pub(super) fn field(&self, response: bool, name: &str, at: usize) -> Result<Cel, Refusal> {
        if !response && self.scope.changed_headers.contains(&name.to_ascii_lowercase()) {
            return Err(changed(&format!("`{name}`"), at));
        }
        Ok(header(response, name))
    }

    /// Returns the path of a parameter, unless a policy before has changed it.
    pub(super) fn parameter(&self, name: &str, at: usize) -> Result<Cel, Refusal> {
        if self.scope.changed_parameters.contains(name) {
            return Err(changed(&format!("the parameter `{name}`"), at));
        }
        Ok(query(name))
    }

    pub(super) fn name(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        if let Some(value) = self.local(name) {
            return Ok(value.clone());
        }
        match name {
            "context" => object(Object::Context),
            "System" | "Net" | "Text" | "RegularExpressions" => object(Object::Type(String::new())),
            _ if TYPES.contains(&name) => object(Object::Type(name.to_owned())),
            "DateTime" | "DateTimeOffset" => Err(Refusal::new("clock", "it reads the clock", at)),
            "JObject" | "JToken" | "JArray" | "JsonConvert" => Err(Refusal::new("body", "it reads or makes JSON", at)),
            "XElement" | "XDocument" => Err(Refusal::new("body", "it reads or makes XML", at)),
            "Random" => Err(Refusal::new("random", "it draws a random number", at)),
            _ => Err(Refusal::new("unparsable", format!("`{name}` is not known"), at)),
        }
    }

    pub(super) fn member(&mut self, of: Value, name: &str, at: usize) -> Result<Value, Refusal> {
        let of = match of {
            Value::Object(of) => of,
            Value::Plain(of) => return self.member_of_value(&of, name, at),
            Value::Null => return Err(Refusal::new("type", "a member of null is read, which fails there", at)),
        };
        match (of, name) {
            (Object::Type(outer), name) if outer.is_empty() => {
                self.name(name, at).or_else(|_| object(Object::Type(String::new())))
            }
            (Object::Type(outer), name) => self.static_member(&outer, name, at),
            (Object::Context, name) => self.context_member(name, at),
            (Object::Request, name) => self.request_member(name, at),
            (Object::Response, name) => self.response_member(name, at),
            (Object::Url { original }, name) => self.url_member(original, name, at),
            (Object::Jwt(token), name) => self.token_member(&token, name, at),
            (Object::Api, "ServiceUrl") => object(Object::ServiceUrl),
            (Object::Api, name) => self.constant("Api", name, at),
            (Object::ServiceUrl, name) => self.constant("ServiceUrl", name, at),
            (Object::Operation, name) => self.constant("Operation", name, at),
            (Object::Deployment, name) => self.constant("Deployment", name, at),
            (Object::Product | Object::Subscription, "Id" | "Name") => self.partner(at),
            (Object::Subscription, "Key" | "PrimaryKey" | "SecondaryKey") => {
                Err(Refusal::new("subscription-key", "it reads the subscription's key, of which only a digest is known here", at))
            }
            (Object::User, "Groups") => object(Object::Groups),
            (Object::User, _) => {
                Err(Refusal::new("portal-user", "it reads a user of the developer portal; there are none here", at))
            }
            (Object::LastError, "Reason") => object(Object::LastErrorReason),
            (Object::LastError, "Source") => object(Object::LastErrorSource),
            (Object::LastError, "Message") => {
                self.remark(
                    Verdict::Changed,
                    "error-message",
                    "the message of an error becomes its code: its text does not exist here",
                );
                plain("error.code", Kind::Text)
            }
            (Object::QueryValues(_) | Object::HeaderValues { .. } | Object::ClaimValues(..), "Length" | "Count") => {
                Err(Refusal::new("member", "the number of values is not known here", at))
            }
            (other, name) => Err(unknown_member(object_name(&other), name, at)),
        }
    }

    fn context_member(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        match name {
            "Request" => object(Object::Request),
            "Response" => match self.scope.section {
                Section::Outbound | Section::OnError => object(Object::Response),
                _ if self.scope.may_read_response => object(Object::Response),
                _ => Err(Refusal::new("member", "there is no response yet", at)),
            },
            "Variables" => object(Object::Variables),
            "Api" => object(Object::Api),
            "Operation" => object(Object::Operation),
            "Product" => object(Object::Product),
            "Subscription" => object(Object::Subscription),
            "User" => object(Object::User),
            "Deployment" => object(Object::Deployment),
            "LastError" if self.scope.section == Section::OnError => object(Object::LastError),
            "LastError" => Err(Refusal::new("member", "there is no error outside of `on-error`", at)),
            "RequestId" => plain("request.id", Kind::Text),
            "Timestamp" | "Elapsed" => Err(Refusal::new("clock", "it reads the clock", at)),
            _ => Err(unknown_member("context", name, at)),
        }
    }

    fn request_member(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        match name {
            "Headers" => object(Object::Headers { response: false }),
            "Method" if self.scope.changed_method => Err(changed("the method", at)),
            "Method" => plain("request.method", Kind::Text),
            "IpAddress" => {
                self.remark(
                    Verdict::Changed,
                    "caller-address",
                    "the address of the connection there; here that of the caller, which differs behind `trusted-proxies`",
                );
                plain("caller.address", Kind::Text)
            }
            "Url" => object(Object::Url { original: false }),
            "OriginalUrl" => object(Object::Url { original: true }),
            "MatchedParameters" => object(Object::MatchedParameters),
            "Body" => Err(Refusal::new("body", "it reads a body, and bodies pass through unread", at)),
            "Certificate" => Err(Refusal::new("member", "the certificate is judged by `validate-client-certificate` here", at)),
            _ => Err(unknown_member("Request", name, at)),
        }
    }

    fn response_member(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        match name {
            "StatusCode" => {
                plain(if self.scope.section == Section::OnError { "error.status" } else { "response.status" }, Kind::Int)
            }
            "Headers" => object(Object::Headers { response: true }),
            "Body" => Err(Refusal::new("body", "it reads a body, and bodies pass through unread", at)),
            _ => Err(unknown_member("Response", name, at)),
        }
    }

    fn token_member(&mut self, token: &str, name: &str, at: usize) -> Result<Value, Refusal> {
        match name {
            "Claims" => object(Object::Claims(token.to_owned())),
            "Subject" => plain(&format!("{token}.subject"), Kind::Text),
            "Issuer" => plain(&format!("{token}.claims.iss"), Kind::Text),
            "Id" => self.claim_or_null(token, "jti"),
            "Audiences" => object(Object::ClaimValues(token.to_owned(), "aud".to_owned())),
            _ => Err(unknown_member("Jwt", name, at)),
        }
    }

    fn claim_or_null(&mut self, token: &str, claim: &str) -> Result<Value, Refusal> {
        let path = path(&format!("{token}.claims"), claim);
        Ok(Value::Plain(Plain::nullable(path.call("string", &[]), Kind::Text, path.call("has", &[]))))
    }

    pub(super) fn index(&mut self, of: Value, index: &Expr, at: usize) -> Result<Value, Refusal> {
        let key = Self::literal_text(index);
        let of = match of {
            Value::Object(of) => of,
            Value::Plain(list) => return self.element(&list, index, at),
            Value::Null => return Err(Refusal::new("type", "an element of null is read, which fails there", at)),
        };
        match of {
            Object::HeaderValues { .. } | Object::QueryValues(_) | Object::ClaimValues(..) => {
                let list = self.object_list(&of, at)?;
                self.element(&list, index, at)
            }
            Object::Variables => self.variable(&known_key(key, index)?, at),
            Object::Headers { response } => object(Object::HeaderValues { response, name: known_key(key, index)? }),
            Object::Query => object(Object::QueryValues(known_key(key, index)?)),
            Object::Claims(token) => object(Object::ClaimValues(token, known_key(key, index)?)),
            Object::MatchedParameters => {
                let name = known_key(key, index)?;
                Ok(Value::Plain(Plain { present: None, ..self.matched_parameter(&name) }))
            }
            other => Err(unknown_member(object_name(&other), "[…]", at)),
        }
    }

    /// Reads an element of a list.
    fn element(&mut self, list: &Plain, index: &Expr, at: usize) -> Result<Value, Refusal> {
        if list.kind != Kind::List {
            return Err(Refusal::new("type", "an element is read of something that is no list", at));
        }
        let index = self.plain(index)?;
        if index.kind != Kind::Int {
            return Err(Refusal::new("type", "an index is no number", at));
        }
        let cel = Cel::primary(format!("{}[{}]", list.cel.at(Level::Primary), index.cel.text));
        Ok(Value::Plain(Plain::text(cel)))
    }

    /// Reads a parameter of the operation's template.
    pub(super) fn matched_parameter(&self, name: &str) -> Plain {
        let parameters = &self.scope.parameters;
        if let Some(capture) = parameters.captures.get(name) {
            return Plain::text(Cel::primary(format!("captures.{capture}")));
        }
        if parameters.query.contains(name) {
            let cel = Cel::primary(format!("request.query[{}]", literal(name).text));
            return Plain::nullable(cel.clone(), Kind::Text, cel.call("has", &[]));
        }
        // Another operation of the API has it, perhaps.
        Plain::nullable(literal(""), Kind::Text, Cel::primary("false"))
    }

    /// Returns the value of an object that has one by itself.
    pub(super) fn object_value(&mut self, of: &Object, at: usize) -> Result<Plain, Refusal> {
        match of {
            Object::HeaderValues { response, name } => {
                self.remark(Verdict::Note, "joined-values", "several values of a field are joined by `,`");
                self.field(*response, name, at).map(Plain::text)
            }
            Object::QueryValues(name) => self.parameter(name, at).map(Plain::text),
            Object::LastErrorReason => {
                self.remark(
                    Verdict::Changed,
                    "error-reason",
                    "the reason of an error has another name here: see the refusal codes",
                );
                Ok(Plain::text(Cel::primary("error.code")))
            }
            Object::LastErrorSource => {
                self.remark(Verdict::Changed, "error-source", "the policy is named by its entry here");
                let cel = Cel::primary("error.policy");
                Ok(Plain::nullable(cel.clone(), Kind::Text, cel.call("has", &[])))
            }
            Object::Url { original: true } => Ok(Plain::text(Cel::primary("request.url"))),
            Object::Url { original: false } => Err(Refusal::new("backend-url", "it reads the URL of the backend", at)),
            Object::ServiceUrl => match self.constant("ServiceUrl", "", at) {
                Ok(Value::Plain(plain)) => Ok(plain),
                _ => Err(Refusal::new("backend-url", "it reads the URL of the backend", at)),
            },
            Object::ClaimValues(..) => self.object_list(of, at),
            other => Err(Refusal::new("member", format!("`{}` is no value by itself", object_name(other)), at)),
        }
    }

    /// Returns the list that an object is.
    pub(super) fn object_list(&mut self, of: &Object, at: usize) -> Result<Plain, Refusal> {
        match of {
            Object::HeaderValues { response, name } => {
                self.remark(Verdict::Changed, "joined-values", "the values of a field are split at `,` here, wherever it stands");
                Ok(Plain::new(self.field(*response, name, at)?.call("split", &["','"]), Kind::List))
            }
            Object::QueryValues(name) => {
                self.remark(
                    Verdict::Changed,
                    "joined-values",
                    "the values of a parameter are split at `,` here, wherever it stands",
                );
                Ok(Plain::new(self.parameter(name, at)?.call("split", &["','"]), Kind::List))
            }
            Object::ClaimValues(token, claim) => {
                let values = path(&format!("{token}.claims"), claim).call("values", &[]);
                let texts = Cel::primary(format!("{}.map(v, string(v))", values.text));
                Ok(Plain::new(texts, Kind::List))
            }
            other => Err(Refusal::new("type", format!("`{}` is no list", object_name(other)), at)),
        }
    }

    pub(super) fn object_is_null(&mut self, of: &Object, at: usize) -> Result<Cel, Refusal> {
        match of {
            Object::Response if self.scope.section == Section::Inbound => Ok(Cel::primary("true")),
            Object::Context
            | Object::Request
            | Object::Response
            | Object::Api
            | Object::Operation
            | Object::LastError
            | Object::Jwt(_) => Ok(Cel::primary("false")),
            Object::HeaderValues { response, name } => Ok(self.field(*response, name, at)?.call("has", &[]).not()),
            Object::QueryValues(name) => Ok(self.parameter(name, at)?.call("has", &[]).not()),
            Object::ClaimValues(token, claim) => Ok(path(&format!("{token}.claims"), claim).call("has", &[]).not()),
            Object::Subscription | Object::Product => {
                self.remark(Verdict::Changed, "subscription-is-partner", "the subscription or product is the partner here");
                if self.scope.has_partner {
                    Ok(Cel::primary("!has(partner.name)"))
                } else {
                    Err(Refusal::new("subscription", "no policy before tells the partner, which a subscription is here", at))
                }
            }
            Object::User => Err(Refusal::new("portal-user", "it reads a user of the developer portal; there are none here", at)),
            other => Err(Refusal::new("member", format!("`{}` is compared with null", object_name(other)), at)),
        }
    }
}

/// Returns the path of a field of the request or the response.
fn header(response: bool, name: &str) -> Cel {
    let of = if response { "response" } else { "request" };
    Cel::primary(format!("{of}.headers[{}]", literal(&name.to_ascii_lowercase()).text))
}

/// Returns the path of a parameter of the query.
fn query(name: &str) -> Cel {
    Cel::primary(format!("request.query[{}]", literal(name).text))
}

/// Returns the path of a name below another.
pub(super) fn path(of: &str, name: &str) -> Cel {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let is_word = matches!(
        name,
        "in" | "as"
            | "break"
            | "const"
            | "continue"
            | "else"
            | "for"
            | "function"
            | "if"
            | "import"
            | "let"
            | "loop"
            | "package"
            | "namespace"
            | "return"
            | "var"
            | "void"
            | "while"
            | "true"
            | "false"
            | "null"
    );
    Cel::primary(if is_plain && !is_word { format!("{of}.{name}") } else { format!("{of}[{}]", literal(name).text) })
}

pub(super) fn known_key(key: Option<String>, expr: &Expr) -> Result<String, Refusal> {
    key.ok_or_else(|| Refusal::new("computed-name", "the name of a header, parameter, claim or variable is computed", expr.at))
}

/// Refuses to read what policies before have changed: expressions here read the caller's request.
fn changed(what: &str, at: usize) -> Refusal {
    Refusal::new(
        "changed-before",
        format!("it reads {what} after a policy has changed it; expressions read the caller's request here"),
        at,
    )
}

pub(super) fn object_name(of: &Object) -> &'static str {
    match of {
        Object::Context => "context",
        Object::Request => "Request",
        Object::Response => "Response",
        Object::Headers { .. } | Object::HeaderValues { .. } => "Headers",
        Object::Query | Object::QueryValues(_) => "Query",
        Object::Url { original: true } => "OriginalUrl",
        Object::Url { original: false } => "Url",
        Object::Variables => "Variables",
        Object::MatchedParameters => "MatchedParameters",
        Object::Jwt(_) => "Jwt",
        Object::Claims(_) | Object::ClaimValues(..) => "Claims",
        Object::Api => "Api",
        Object::ServiceUrl => "ServiceUrl",
        Object::Operation => "Operation",
        Object::Product => "Product",
        Object::Subscription => "Subscription",
        Object::User => "User",
        Object::Groups => "Groups",
        Object::Deployment => "Deployment",
        Object::LastError | Object::LastErrorReason | Object::LastErrorSource => "LastError",
        Object::Type(_) => "the type",
        Object::Bytes(_) => "bytes",
    }
}

//! The `Authorization` for the backend.

use super::{
    flow::Flow,
    outcome::{Outcome, not},
    state::Authorization,
};
use crate::{
    csharp::{self, Code, Expr, ExprKind, Piece, Refusal},
    estate::named::Hint,
    expression::{Holds, Kind, Variable, literal_of},
    output::{Yaml, map, text},
    policy::{DocumentScope, PolicyDocument, named_values_of},
    report::{Judgement, Verdict},
    xml::Element,
};

const OTHER_IDENTITY: &str = "the token is one of the gateway's own identity, which needs the same roles";

impl<'i> Flow<'i> {
    /// Translates `set-header` of `Authorization`.
    pub(super) fn set_authorization(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
        action: &str,
    ) -> Result<Outcome, Refusal> {
        if action == "delete" {
            if self.branches > 0 {
                return Err(not(
                    "authorization",
                    "whether `Authorization` is removed depends on a condition; a route has one `authorization`",
                ));
            }
            self.set(Authorization::Remove, id);
            return Ok(Outcome::same(Vec::new()));
        }
        let value = element.named("value").next().and_then(Element::text);
        let value = value.ok_or_else(|| not("authorization", "an empty `Authorization` has no counterpart"))?;
        let source = self.source(value);
        let judged = self.authorization_of(&source, action);
        match judged {
            Ok((authorization, variable)) if self.branches == 0 => {
                let is_identity = variable.is_some();
                if let Some(variable) = variable {
                    self.use_identity(&variable);
                }
                named_values_of(&source).iter().for_each(|name| self.shared.named.mark_secret(name));
                self.named_in(&source, Hint::Text, Some(id));
                self.set(authorization, id);
                if is_identity {
                    let judgement = Judgement::new(Verdict::Changed, "other-identity", OTHER_IDENTITY, "grant it the roles");
                    self.shared.registry.judge_expression(document.id, value, &judgement);
                    return Ok(Outcome::changed(Vec::new(), "other-identity", OTHER_IDENTITY, "grant it the roles"));
                }
                self.shared.registry.judge_expression(document.id, value, &Judgement::same());
                Ok(Outcome::same(Vec::new()))
            }
            Ok(_) => {
                let refusal = not("authorization", "`Authorization` depends on a condition; a route has one `authorization`");
                self.refuse_expression(document, value, &refusal);
                Err(refusal)
            }
            Err(refusal) => {
                self.refuse_expression(document, value, &refusal);
                Err(refusal)
            }
        }
    }

    /// Returns the `authorization` that a value of the field means, and the variable whose token it uses.
    fn authorization_of(&self, source: &str, action: &str) -> Result<(Authorization, Option<String>), Refusal> {
        if !source.starts_with('@') {
            return match source.strip_prefix("Basic ") {
                Some(_) => Err(not(
                    "authorization",
                    "the user name and the password of Basic are needed apart: `authorization: { basic: … }`",
                )),
                None => {
                    Err(not("authorization", "a fixed `Authorization` has no counterpart: use a `credential`, or another field"))
                }
            };
        }
        let code = csharp::parse(source)?;
        let expr = match &code {
            Code::Expression(expr) => expr,
            Code::Block(statements) => match statements.as_slice() {
                [csharp::Statement::Return(expr)] => expr,
                _ => return Err(not("authorization", "the `Authorization` is computed")),
            },
        };
        let mut parts = Vec::new();
        flatten(expr, &mut parts);
        let [first, rest @ ..] = parts.as_slice() else { return Err(not("authorization", "the `Authorization` is computed")) };
        let scheme = literal(first).map(|text| text.trim_end().to_ascii_lowercase());
        match (scheme.as_deref(), rest) {
            (Some("bearer"), [token]) => self.bearer(token),
            (Some("basic"), [encoded]) => basic(encoded).map(|basic| (basic, None)),
            _ => self.copied(expr, action).map(|authorization| (authorization, None)),
        }
    }

    /// Returns the `authorization` of `"Bearer " + variable`.
    fn bearer(&self, token: &Expr) -> Result<(Authorization, Option<String>), Refusal> {
        let name = variable_name(token).ok_or_else(|| not("authorization", "the token for the backend is computed"))?;
        let variable = self.scope.variables.get(&name);
        match variable.map(|variable| &variable.holds) {
            Some(Holds::ManagedIdentity { resource, client }) => {
                Ok((Authorization::Set(credential(resource, client.as_deref())), Some(name)))
            }
            Some(Holds::Nothing(refusal)) => {
                Err(Refusal { reason: format!("`{name}` is not translated: {}", refusal.reason), ..refusal.clone() })
            }
            Some(_) => Err(not("authorization", format!("`{name}` is no token of the service's identity"))),
            None => Err(not("variable-not-set", format!("no policy before sets `{name}`"))),
        }
    }

    /// Returns the `authorization` of a copy of another field, which a token policy reads.
    fn copied(&self, expr: &Expr, action: &str) -> Result<Authorization, Refusal> {
        let names: Vec<String> = header_of(expr).into_iter().collect();
        let found = self.scope.tokens.iter().find(|(_, header)| names.iter().any(|name| name.eq_ignore_ascii_case(header)));
        match found {
            Some((_, header)) if action == "override" && header.eq_ignore_ascii_case("authorization") => Ok(Authorization::Keep),
            Some((_, header)) if action == "override" => Ok(Authorization::Set(map([("from-header", text(header.clone()))]))),
            _ => Err(not("authorization", "the `Authorization` is made of something that no token policy has accepted")),
        }
    }

    fn set(&mut self, authorization: Authorization, id: usize) {
        self.route.authorization = authorization;
        self.route.authorization_origin = Some(id);
    }

    /// Notes that the token of an identity is used.
    fn use_identity(&mut self, variable: &str) {
        let Some(id) = self.route.identities.remove(variable) else { return };
        if let Some(Variable { holds: Holds::ManagedIdentity { client, .. }, .. }) = self.scope.variables.get(variable) {
            let client = client.clone();
            self.identity(client.as_deref());
        }
        let judgement = Judgement::new(Verdict::Changed, "other-identity", OTHER_IDENTITY, "grant it the roles");
        self.shared.registry.judge(id, &judgement);
    }

    /// Adds the credential of an identity.
    fn identity(&mut self, client: Option<&str>) {
        let settings = match client {
            Some(client) => map([("client-id", text(client))]),
            None => Yaml::Map(Vec::new()),
        };
        self.shared.credentials.insert(credential_name(client), map([("managed-identity", settings)]));
    }

    pub(super) fn managed_identity(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let resource = self.literal(document, element, "resource", Hint::Url)?.filter(|resource| !resource.is_empty());
        let resource = resource.ok_or_else(|| not("unparsable", "the identity has no resource"))?;
        let client = self.literal(document, element, "client-id", Hint::Guid)?.filter(|client| !client.is_empty());
        if matches!(document.scope, DocumentScope::Global | DocumentScope::Product) {
            self.shared.lint("L14", document, element.start);
        }
        if let Some(name) = element.text_of("output-token-variable-name").map(str::trim).filter(|name| !name.is_empty()) {
            let own = self.shared.variable(name);
            let holds = Holds::ManagedIdentity { resource, client };
            let variable = Variable { name: own, holds, kind: Kind::Any, unset: false, null: false, texts: None };
            self.scope.variables.insert(name.to_owned(), variable);
            // Whether it is of use is known once a policy sends it.
            self.route.identities.insert(name.to_owned(), id);
            return Ok(Outcome::same(Vec::new()));
        }
        if self.branches > 0 {
            return Err(not("authorization", "the identity depends on a condition; a route has one `authorization`"));
        }
        self.identity(client.as_deref());
        self.set(Authorization::Set(credential(&resource, client.as_deref())), id);
        Ok(Outcome::changed(Vec::new(), "other-identity", OTHER_IDENTITY, "grant it the roles"))
    }

    pub(super) fn authentication_basic(
        &mut self,
        document: &'i PolicyDocument,
        element: &'i Element,
        id: usize,
    ) -> Result<Outcome, Refusal> {
        let username = self.literal(document, element, "username", Hint::Text)?.unwrap_or_default();
        let password = self.literal(document, element, "password", Hint::Text)?.unwrap_or_default();
        if self.branches > 0 {
            return Err(not("authorization", "the credentials depend on a condition; a route has one `authorization`"));
        }
        if named_values_of(&password).is_empty() {
            self.shared.lint("L6", document, element.start);
        }
        named_values_of(&password).iter().for_each(|name| self.shared.named.mark_secret(name));
        let basic = map([("username", text(username)), ("password", text(password))]);
        self.set(Authorization::Set(map([("basic", basic)])), id);
        Ok(Outcome::same(Vec::new()))
    }

    /// Judges the identities whose tokens nothing has sent.
    pub(crate) fn judge_identities(&mut self) {
        let judgement = Judgement::new(
            Verdict::Not,
            "managed-identity",
            "its token goes somewhere else than into `Authorization` of the backend's request",
            super::outcome::advice_of("managed-identity"),
        );
        for (_, id) in std::mem::take(&mut self.route.identities) {
            self.shared.registry.judge(id, &judgement);
        }
    }
}

/// Returns the `authorization` of a credential for a resource.
fn credential(resource: &str, client: Option<&str>) -> Yaml {
    map([("credential", text(credential_name(client))), ("scope", text(format!("{resource}/.default")))])
}

fn credential_name(client: Option<&str>) -> String {
    match client {
        None => "managed-identity".to_owned(),
        Some(client) => format!(
            "managed-identity-{}",
            crate::names::identifier(client.get(..client.len().min(20)).unwrap_or(client), "client")
        ),
    }
}

/// Returns the operands of a sum, from left to right.
fn flatten<'e>(expr: &'e Expr, parts: &mut Vec<&'e Expr>) {
    match &*expr.kind {
        ExprKind::Binary("+", left, right) => {
            flatten(left, parts);
            flatten(right, parts);
        }
        ExprKind::Text(pieces) if pieces.iter().any(|piece| matches!(piece, Piece::Hole(_))) && pieces.len() == 2 => {
            // `$"Bearer {token}"`: the text before the hole is what `literal` reads.
            parts.push(expr);
            if let [_, Piece::Hole(inner)] = pieces.as_slice() {
                parts.push(inner);
            }
        }
        _ => parts.push(expr),
    }
}

fn literal(expr: &Expr) -> Option<&str> {
    match &*expr.kind {
        ExprKind::Text(pieces) => match pieces.first() {
            Some(Piece::Text(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the text of a literal that is nothing else.
fn text_of(expr: &Expr) -> Option<String> {
    match &*expr.kind {
        ExprKind::Text(pieces) => match pieces.as_slice() {
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the name of the variable that an expression reads.
fn variable_name(expr: &Expr) -> Option<String> {
    let is_variables = |of: &Expr| matches!(&*of.kind, ExprKind::Member { name, .. } if name == "Variables");
    match &*expr.kind {
        ExprKind::Cast(_, inner) => variable_name(inner),
        ExprKind::Index { of, index, .. } if is_variables(of) => text_of(index),
        ExprKind::Call { function, arguments, .. } => match &*function.kind {
            ExprKind::Member { of, name, .. } if name == "GetValueOrDefault" && is_variables(of) => text_of(arguments.first()?),
            ExprKind::Member { of, name, .. } if name == "ToString" => variable_name(of),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the field that an expression copies.
fn header_of(expr: &Expr) -> Option<String> {
    match &*expr.kind {
        ExprKind::Cast(_, inner) => header_of(inner),
        ExprKind::Call { function, arguments, .. } => match &*function.kind {
            ExprKind::Member { of, name, .. } if name == "GetValueOrDefault" => match &*of.kind {
                ExprKind::Member { name, .. } if name == "Headers" => text_of(arguments.first()?),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Returns the `authorization` of `Convert.ToBase64String(Encoding.UTF8.GetBytes("user:password"))`.
fn basic(encoded: &Expr) -> Result<Authorization, Refusal> {
    let computed = || not("authorization", "the credentials of Basic are computed");
    let call = |expr: &Expr, wanted: &str| match &*expr.kind {
        ExprKind::Call { function, arguments, .. } => match (&*function.kind, arguments.as_slice()) {
            (ExprKind::Member { name, .. }, [argument]) if name == wanted => Some(argument.clone()),
            _ => None,
        },
        _ => None,
    };
    let bytes = call(encoded, "ToBase64String").ok_or_else(computed)?;
    let pair = call(&bytes, "GetBytes").ok_or_else(computed)?;
    let mut parts = Vec::new();
    flatten(&pair, &mut parts);
    let mut joined = String::new();
    for part in parts {
        let ExprKind::Text(pieces) = &*part.kind else { return Err(computed()) };
        literal_of(pieces).ok_or_else(computed)?;
        joined.push_str(&super::variables::text_of(pieces));
    }
    let (username, password) = joined.split_once(':').ok_or_else(computed)?;
    Ok(Authorization::Set(map([("basic", map([("username", text(username)), ("password", text(password))]))])))
}

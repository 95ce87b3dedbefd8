//! From the syntax tree to the evaluated form: names resolved, arguments counted, patterns and networks read.

mod calls;
mod operators;

use std::sync::Arc;

use http::HeaderName;

use super::{
    Expression, ExpressionError, Names, Uses,
    certificate::CertificateField,
    limits,
    node::{Field, Function, Kind, Node, Path},
    parse::{column, of_api_management},
    syntax::{Expr, Part},
};

pub(super) const ROOTS: [&str; 9] =
    ["request", "caller", "token", "captures", "partner", "route", "response", "variables", "error"];
const REQUEST: [&str; 9] = ["method", "path", "host", "headers", "query", "scheme", "url", "query_string", "id"];
const RESPONSE: [&str; 2] = ["status", "headers"];
const ERROR: [&str; 3] = ["code", "status", "policy"];
const CALLER: [&str; 2] = ["address", "certificate"];
const TOKEN: [&str; 7] = ["claims", "kind", "tenant", "client", "subject", "scopes", "roles"];

/// Checks a parsed expression and makes it ready for evaluation.
pub(super) fn check(parsed: &Expr<'_>, text: &str, subject: Subject<'_>) -> Result<Expression, ExpressionError> {
    let (tokens, of_record) = match subject {
        Subject::Request(tokens) => (tokens, false),
        Subject::Record => (&[][..], true),
    };
    let (uses, names) = (Uses::default(), Names::default());
    let mut checker = Checker { text, tokens, of_record, parts: 0, variables: Vec::new(), uses, names };
    let node = checker.node(parsed, 0)?;
    Ok(Expression { node, uses: checker.uses, names: checker.names })
}

/// The subject of an expression.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'a> {
    /// A request. The names are those of tokens besides `token`.
    Request(&'a [Box<str>]),
    /// A record, whose fields are names by themselves.
    Record,
}

struct Checker<'a> {
    text: &'a str,
    tokens: &'a [Box<str>],
    of_record: bool,
    parts: usize,
    variables: Vec<&'a str>,
    uses: Uses,
    names: Names,
}

type Checked<T = Node> = Result<T, ExpressionError>;

impl<'a> Checker<'a> {
    fn node(&mut self, expr: &'a Expr<'a>, depth: usize) -> Checked {
        self.parts += 1;
        if depth >= limits::DEPTH {
            return Err(self.fault(expr, format!("nested more than {} deep", limits::DEPTH), "write it flatter"));
        }
        if self.parts > limits::PARTS {
            return Err(self.fault(expr, format!("more than {} parts", limits::PARTS), "write several smaller expressions"));
        }
        if let Some(path) = self.path(expr)? {
            return Ok(Node::Path(path));
        }
        match &expr.part {
            Part::Bool(value) => Ok(Node::Bool(*value)),
            Part::Int(value) => Ok(Node::Int(*value)),
            Part::Double(value) => Ok(Node::Double(*value)),
            Part::Text(value) => Ok(Node::Text((&**value).into())),
            Part::Name(name) => match self.variables.iter().rposition(|variable| variable == name) {
                Some(index) => Ok(Node::Variable(index)),
                None => Err(self.unknown_root(expr, name)),
            },
            Part::Field(of, name) => self.member(of, name, depth),
            Part::Index(parts) => self.index(expr, parts, depth),
            Part::Call(call) => self.call(expr, call, depth),
            Part::Not(of) => self.not(expr, of, depth),
            Part::Negate(of) => self.negate(expr, of, depth),
            Part::Binary(operator, operands) => self.binary(expr, *operator, operands, depth),
            Part::Chain(logic, operands) => self.chain(*logic, operands, depth),
            Part::Choose(parts) => self.choose(expr, parts, depth),
            Part::List(elements) => self.nodes(elements, depth).map(Node::List),
            Part::Map(entries) => self.map(entries, depth),
        }
    }

    fn map(&mut self, entries: &'a [(Expr<'a>, Expr<'a>)], depth: usize) -> Checked {
        let mut nodes = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let key = self.node(name, depth + 1)?;
            self.demand(name, &key, &[Kind::Text], "the name of a map's entry")?;
            nodes.push((key, self.node(value, depth + 1)?));
        }
        Ok(Node::Map(nodes))
    }

    fn nodes(&mut self, list: &'a [Expr<'a>], depth: usize) -> Checked<Vec<Node>> {
        list.iter().map(|expr| self.node(expr, depth + 1)).collect()
    }

    /// Returns the path that starts at one of the roots, if the expression is one.
    fn path(&mut self, expr: &'a Expr<'a>) -> Checked<Option<Path>> {
        if self.of_record {
            return Ok(match expr.part {
                Part::Name(name) if !self.bound(name) => {
                    self.names.variables.push(name.into());
                    Some(Path { field: Field::Variable(name.into()), token: None, told: name.into() })
                }
                _ => None,
            });
        }
        if let Part::Name("captures") = expr.part
            && !self.bound("captures")
        {
            self.uses.captures = true;
            return Ok(Some(Path { field: Field::Captures, token: None, told: "captures".into() }));
        }
        let Some((owner, name)) = field_of(expr) else { return Ok(None) };
        let mut token = None;
        let field = match &owner.part {
            Part::Name(root) if !self.bound(root) && self.is_token(root) => {
                token = self.named(root);
                Some(self.token_field(expr, root, name)?)
            }
            Part::Name(root) if !self.bound(root) && !ROOTS.contains(root) => {
                return Err(self.unknown_root(owner, root));
            }
            Part::Name(root) if !self.bound(root) => Some(self.field(expr, root, name)?),
            Part::Field(of, group) => match (&of.part, *group) {
                (Part::Name(root), "claims") if self.is_token(root) && !self.bound(root) => {
                    self.uses.token = true;
                    token = self.named(root);
                    Some(Field::Claim(name.into()))
                }
                (Part::Name(root), "certificate") if *root == "caller" && !self.bound(root) => {
                    let field = CertificateField::named(name)
                        .ok_or_else(|| self.unknown_field(expr, "caller.certificate", name, &CertificateField::NAMES))?;
                    Some(self.certificate(Field::CertificateField(field)))
                }
                (Part::Name(root), "headers") if *root == "request" && !self.bound(root) => {
                    self.uses.request = true;
                    let name = self.header_name(expr, name)?;
                    self.names.headers.push(name.clone());
                    Some(Field::Header(name))
                }
                (Part::Name(root), "query") if *root == "request" && !self.bound(root) => {
                    self.uses.request = true;
                    self.names.parameters.push(name.into());
                    Some(Field::Parameter(name.into()))
                }
                (Part::Name(root), "headers") if *root == "response" && !self.bound(root) => {
                    let name = self.header_name(expr, name)?;
                    self.uses.confidential |= name == http::header::SET_COOKIE;
                    Some(self.response_headers(Field::ResponseHeader(name)))
                }
                _ => None,
            },
            _ => None,
        };
        Ok(field.map(|field| Path { told: told(expr), token, field }))
    }

    fn field(&mut self, expr: &Expr<'_>, root: &str, name: &str) -> Checked<Field> {
        Ok(match (root, name) {
            ("request", "method") => self.request(Field::Method),
            ("request", "path") => self.request(Field::RequestPath),
            ("request", "host") => self.request(Field::Host),
            ("request", "scheme") => self.request(Field::Scheme),
            ("request", "id") => self.request(Field::RequestId),
            // Any field or parameter may be read from these, the caller's credentials among them.
            ("request", "url") => self.confidential(Field::Url),
            ("request", "query_string") => self.confidential(Field::QueryString),
            ("request", "headers") => self.confidential(Field::Headers),
            ("request", "query") => self.confidential(Field::Query),
            ("request", _) => return Err(self.unknown_field(expr, root, name, &REQUEST)),
            ("caller", "address") => {
                self.uses.caller = true;
                Field::CallerAddress
            }
            ("caller", "certificate") => self.certificate(Field::Certificate),
            ("caller", _) => return Err(self.unknown_field(expr, root, name, &CALLER)),
            ("captures", _) => {
                self.uses.captures = true;
                self.names.captures.push(name.into());
                Field::Capture(name.into())
            }
            ("variables", _) => {
                self.names.variables.push(name.into());
                Field::Variable(name.into())
            }
            ("error", "code") => self.error(Field::ErrorCode),
            ("error", "status") => self.error(Field::ErrorStatus),
            ("error", "policy") => self.error(Field::ErrorPolicy),
            ("error", _) => return Err(self.unknown_field(expr, root, name, &ERROR)),
            ("partner", "name") => {
                self.uses.partner = true;
                Field::PartnerName
            }
            ("partner", _) => return Err(self.unknown_field(expr, root, name, &["name"])),
            ("route", "name") => Field::RouteName,
            ("response", "status") => {
                self.uses.response = true;
                Field::Status
            }
            ("response", "headers") => {
                self.uses.confidential = true;
                self.response_headers(Field::ResponseHeaders)
            }
            ("response", _) => return Err(self.unknown_field(expr, root, name, &RESPONSE)),
            ("route", _) => return Err(self.unknown_field(expr, root, name, &["name"])),
            _ => return Err(self.unknown_root(expr, root)),
        })
    }

    const fn request(&mut self, field: Field) -> Field {
        self.uses.request = true;
        field
    }

    const fn confidential(&mut self, field: Field) -> Field {
        self.uses.confidential = true;
        self.request(field)
    }

    const fn response_headers(&mut self, field: Field) -> Field {
        self.uses.response = true;
        self.uses.response_headers = true;
        field
    }

    const fn error(&mut self, field: Field) -> Field {
        self.uses.error = true;
        field
    }

    fn header_name(&self, expr: &Expr<'_>, name: &str) -> Checked<HeaderName> {
        let cure = "a header's name has letters, digits and `-`";
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| self.fault(expr, format!("`{name}` is not a header's name"), cure))
    }

    const fn certificate(&mut self, field: Field) -> Field {
        self.uses.caller = true;
        self.uses.certificate = true;
        field
    }

    /// Returns the field of a token: of `token`, or of one that has another name.
    fn token_field(&mut self, expr: &Expr<'_>, root: &str, name: &str) -> Checked<Field> {
        let field = match name {
            "claims" => Field::Claims,
            "kind" => Field::TokenKind,
            "tenant" => Field::Tenant,
            "client" => Field::Client,
            "subject" => Field::Subject,
            "scopes" => Field::Scopes,
            "roles" => Field::Roles,
            _ => {
                let mut fault = self.unknown_field(expr, root, name, &TOKEN);
                if !fault.cure.starts_with("did") {
                    fault.cure = format!("a claim of that name is {root}.claims.{name}");
                }
                return Err(fault);
            }
        };
        self.uses.token = true;
        Ok(field)
    }

    fn is_token(&self, root: &str) -> bool {
        root == "token" || self.tokens.iter().any(|name| **name == *root)
    }

    /// Returns the name of a token, where it is not `token`.
    fn named(&self, root: &str) -> Option<Box<str>> {
        (root != "token").then(|| root.into())
    }

    fn bound(&self, name: &str) -> bool {
        self.variables.contains(&name)
    }

    fn member(&mut self, operand: &'a Expr<'a>, name: &str, depth: usize) -> Checked {
        let of = self.node(operand, depth + 1)?;
        self.demand(operand, &of, &[Kind::Map], "what stands before the dot")?;
        Ok(Node::Member { of: Box::new(of), told: format!("`{name}`").into(), name: name.into() })
    }

    /// Refuses a part whose kind is known and not wanted.
    fn demand(&self, at: &Expr<'_>, node: &Node, wanted: &[Kind], what: impl std::fmt::Display) -> Checked<()> {
        match node.kind() {
            Some(kind) if !wanted.contains(&kind) => {
                let wanted: Vec<_> = wanted.iter().map(|kind| kind.article()).collect();
                Err(self.fault(at, format!("{what} is {kind}"), format!("it has to be {}", wanted.join(", or "))))
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, at: &Expr<'_>, message: impl Into<String>, cure: impl Into<String>) -> ExpressionError {
        ExpressionError { column: column(self.text, at.at), message: message.into(), cure: cure.into(), unknown_name: false }
    }

    fn count(&self, at: &Expr<'_>, name: &str, wanted: usize, found: usize) -> ExpressionError {
        let plural = if wanted == 1 { "" } else { "s" };
        self.fault(at, format!("`{name}` takes {wanted} argument{plural} here, and {found} are given"), "")
    }

    fn unknown_root(&self, at: &Expr<'_>, name: &str) -> ExpressionError {
        if ROOTS.contains(&name) || self.is_token(name) {
            let example = match name {
                "request" => "request.path".to_owned(),
                "caller" => "caller.address".to_owned(),
                "variables" => "variables.tier, which a `set-variable` before sets".to_owned(),
                "error" => "error.code".to_owned(),
                "response" => "response.status".to_owned(),
                token if self.is_token(token) => format!("{token}.claims.oid"),
                other => other.to_owned(),
            };
            return self.fault(at, format!("`{name}` is not a value by itself"), format!("name one of its fields, as {example}"));
        }
        let known: Vec<&str> = ROOTS.into_iter().chain(self.tokens.iter().map(|name| &**name)).collect();
        let cure = match of_api_management(self.text) {
            Some(cure) if name == "context" => cure,
            _ => suggestion(name, &known),
        };
        ExpressionError { unknown_name: true, ..self.fault(at, format!("nothing is called `{name}`"), cure) }
    }

    fn unknown_field(&self, at: &Expr<'_>, root: &str, name: &str, fields: &[&str]) -> ExpressionError {
        self.fault(at, format!("`{root}` has no field `{name}`"), suggestion(name, fields))
    }

    fn unknown_function(&self, at: &Expr<'_>, name: &str) -> ExpressionError {
        let mut names: Vec<_> = Function::ALL.into_iter().map(Function::name).collect();
        names.extend(["matches", "cidr", "has", "exists", "all", "exists_one", "filter", "map"]);
        self.fault(at, format!("no function is called `{name}`"), suggestion(name, &names))
    }
}

/// Returns the owner and the name of a field, which may be written as an index.
fn field_of<'a>(expr: &'a Expr<'a>) -> Option<(&'a Expr<'a>, &'a str)> {
    match &expr.part {
        Part::Field(owner, name) => Some((owner, name)),
        Part::Index(parts) => match &**parts {
            [owner, Expr { part: Part::Text(name), .. }] => Some((owner, name)),
            _ => None,
        },
        _ => None,
    }
}

/// Returns the expression as a person would write it, for a path.
fn told(expr: &Expr<'_>) -> Arc<str> {
    fn write(expr: &Expr<'_>, into: &mut String) {
        match &expr.part {
            Part::Name(name) => into.push_str(name),
            Part::Field(of, name) => {
                write(of, into);
                into.push('.');
                into.push_str(name);
            }
            Part::Index(parts) => {
                if let [owner, Expr { part: Part::Text(name), .. }] = &**parts {
                    write(owner, into);
                    into.push_str(&format!("[\"{name}\"]"));
                }
            }
            _ => {}
        }
    }
    let mut text = String::new();
    write(expr, &mut text);
    text.into()
}

fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match near {
        Some((distance, known)) if distance <= (name.len() / 3).clamp(1, 2) => format!("did you mean `{known}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

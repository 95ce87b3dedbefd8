//! From the syntax tree to what is evaluated: names resolved, arguments counted, patterns and networks read.

use std::{net::IpAddr, sync::Arc};

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};
use http::HeaderName;
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::{
    Expression, ExpressionError, Uses,
    certificate::CertificateField,
    limits,
    node::{Calculation, Comparison, Each, EachOf, Field, Function, Kind, Node, Path},
};

pub(super) const ROOTS: [&str; 7] = ["request", "caller", "token", "captures", "partner", "route", "response"];
const REQUEST: [&str; 5] = ["method", "path", "host", "headers", "query"];
const CALLER: [&str; 2] = ["address", "certificate"];
const TOKEN: [&str; 7] = ["claims", "kind", "tenant", "client", "subject", "scopes", "roles"];

/// Checks a parsed expression and makes it ready for evaluation.
///
/// `tokens` are the names of tokens besides `token`.
pub(super) fn check(
    parsed: &IdedExpr,
    source: &SourceInfo,
    text: &str,
    tokens: &[Box<str>],
) -> Result<Expression, ExpressionError> {
    let mut checker =
        Checker { source, text, tokens, parts: 0, variables: Vec::new(), uses: Uses::default(), captures: Vec::new() };
    let node = checker.node(parsed, 0)?;
    Ok(Expression { node, uses: checker.uses, captures: checker.captures })
}

struct Checker<'a> {
    source: &'a SourceInfo,
    text: &'a str,
    tokens: &'a [Box<str>],
    parts: usize,
    variables: Vec<&'a str>,
    uses: Uses,
    captures: Vec<Box<str>>,
}

type Checked<T = Node> = Result<T, ExpressionError>;

impl<'a> Checker<'a> {
    fn node(&mut self, expr: &'a IdedExpr, depth: usize) -> Checked {
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
        match &expr.expr {
            Expr::Literal(literal) => self.literal(expr, literal),
            Expr::Ident(name) => match self.variables.iter().rposition(|variable| variable == name) {
                Some(index) => Ok(Node::Variable(index)),
                None => Err(self.unknown_root(expr, name)),
            },
            Expr::Select(select) => self.member(select, depth),
            Expr::Call(call) => self.call(expr, call, depth),
            Expr::List(list) => self.nodes(&list.elements, depth).map(Node::List),
            Expr::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else {
                        return Err(self.fault(expr, "not a map", "write a map as {\"name\": value}"));
                    };
                    let key = self.node(&entry.key, depth + 1)?;
                    self.demand(&entry.key, &key, &[Kind::Text], "the name of a map's entry")?;
                    entries.push((key, self.node(&entry.value, depth + 1)?));
                }
                Ok(Node::Map(entries))
            }
            Expr::Struct(_) => Err(self.fault(expr, "messages are not supported", "write a map as {\"name\": value}")),
            Expr::Comprehension(_) | Expr::Unspecified => {
                Err(self.fault(expr, "the expression cannot be read", "expressions are written in CEL"))
            }
        }
    }

    fn nodes(&mut self, list: &'a [IdedExpr], depth: usize) -> Checked<Vec<Node>> {
        list.iter().map(|expr| self.node(expr, depth + 1)).collect()
    }

    fn literal(&self, expr: &IdedExpr, literal: &LiteralValue) -> Checked {
        match literal {
            LiteralValue::Boolean(value) => Ok(Node::Bool(*value.inner())),
            LiteralValue::Int(value) => Ok(Node::Int(*value.inner())),
            LiteralValue::Double(value) => Ok(Node::Double(*value.inner())),
            LiteralValue::String(value) => Ok(Node::Text(value.inner().into())),
            LiteralValue::Null => Err(self.fault(
                expr,
                "nothing is ever null here: what is null is absent",
                "ask with has(…), as has(token.claims.oid)",
            )),
            LiteralValue::UInt(_) => Err(self.fault(expr, "unsigned numbers are not supported", "leave the `u` out")),
            LiteralValue::Bytes(_) => Err(self.fault(expr, "bytes are not supported", "leave the `b` out")),
        }
    }

    /// The path that starts at one of the roots, where the expression is one.
    fn path(&mut self, expr: &'a IdedExpr) -> Checked<Option<Path>> {
        let (owner, name) = match &expr.expr {
            Expr::Ident(name) if name == "captures" && !self.bound(name) => {
                self.uses.captures = true;
                return Ok(Some(Path { field: Field::Captures, token: None, told: name.as_str().into() }));
            }
            Expr::Select(select) if !select.test => (&*select.operand, select.field.as_str()),
            Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => match call.args.as_slice() {
                [owner, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] => (owner, name.inner()),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        let mut token = None;
        let field = match &owner.expr {
            Expr::Ident(root) if !self.bound(root) && self.is_token(root) => {
                token = self.named(root);
                Some(self.token_field(expr, root, name)?)
            }
            Expr::Ident(root) if !self.bound(root) && !ROOTS.contains(&root.as_str()) => {
                return Err(self.unknown_root(owner, root));
            }
            Expr::Ident(root) if !self.bound(root) => Some(self.field(expr, root, name)?),
            Expr::Select(SelectExpr { operand, field: group, test: false }) => match (&operand.expr, group.as_str()) {
                (Expr::Ident(root), "claims") if self.is_token(root) && !self.bound(root) => {
                    self.uses.token = true;
                    token = self.named(root);
                    Some(Field::Claim(name.into()))
                }
                (Expr::Ident(root), "certificate") if root == "caller" && !self.bound(root) => {
                    let field = CertificateField::named(name)
                        .ok_or_else(|| self.unknown_field(expr, "caller.certificate", name, &CertificateField::NAMES))?;
                    Some(self.certificate(Field::CertificateField(field)))
                }
                (Expr::Ident(root), "headers") if root == "request" && !self.bound(root) => {
                    self.uses.request = true;
                    let header = HeaderName::from_bytes(name.as_bytes());
                    let cure = "a header's name has letters, digits and `-`";
                    Some(Field::Header(header.map_err(|_| self.fault(expr, format!("`{name}` is no header's name"), cure))?))
                }
                (Expr::Ident(root), "query") if root == "request" && !self.bound(root) => {
                    self.uses.request = true;
                    Some(Field::Parameter(name.into()))
                }
                _ => None,
            },
            _ => None,
        };
        Ok(field.map(|field| Path { told: told(expr), token, field }))
    }

    fn field(&mut self, expr: &IdedExpr, root: &str, name: &str) -> Checked<Field> {
        Ok(match (root, name) {
            ("request", "method") => self.request(Field::Method),
            ("request", "path") => self.request(Field::RequestPath),
            ("request", "host") => self.request(Field::Host),
            ("request", "headers") => self.request(Field::Headers),
            ("request", "query") => self.request(Field::Query),
            ("request", _) => return Err(self.unknown_field(expr, root, name, &REQUEST)),
            ("caller", "address") => {
                self.uses.caller = true;
                Field::CallerAddress
            }
            ("caller", "certificate") => self.certificate(Field::Certificate),
            ("caller", _) => return Err(self.unknown_field(expr, root, name, &CALLER)),
            ("captures", _) => {
                self.uses.captures = true;
                self.captures.push(name.into());
                Field::Capture(name.into())
            }
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
            ("response", _) => return Err(self.unknown_field(expr, root, name, &["status"])),
            ("route", _) => return Err(self.unknown_field(expr, root, name, &["name"])),
            _ => return Err(self.unknown_root(expr, root)),
        })
    }

    const fn request(&mut self, field: Field) -> Field {
        self.uses.request = true;
        field
    }

    const fn certificate(&mut self, field: Field) -> Field {
        self.uses.caller = true;
        self.uses.certificate = true;
        field
    }

    /// The field of a token: of `token`, or of one that has another name.
    fn token_field(&mut self, expr: &IdedExpr, root: &str, name: &str) -> Checked<Field> {
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

    /// The name of a token, where it is not `token`.
    fn named(&self, root: &str) -> Option<Box<str>> {
        (root != "token").then(|| root.into())
    }

    fn bound(&self, name: &str) -> bool {
        self.variables.contains(&name)
    }

    fn member(&mut self, select: &'a SelectExpr, depth: usize) -> Checked {
        let of = self.node(&select.operand, depth + 1)?;
        self.demand(&select.operand, &of, &[Kind::Map], "what stands before the dot")?;
        Ok(Node::Member { of: Box::new(of), told: format!("`{}`", select.field).into(), name: select.field.as_str().into() })
    }

    fn call(&mut self, expr: &'a IdedExpr, call: &'a CallExpr, depth: usize) -> Checked {
        if let Some(target) = &call.target {
            return self.method(expr, call, target, depth);
        }
        let sign = call.func_name.as_str();
        if let Some(comparison) = comparison(sign) {
            let [left, right] = self.pair(expr, call, depth)?;
            if let (Some(one), Some(other)) = (left.kind(), right.kind())
                && !one.comparable(other)
            {
                return Err(self.fault(expr, format!("{one} is compared with {other}"), "compare values of one kind"));
            }
            if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
                for (operand, node) in call.args.iter().zip([&left, &right]) {
                    self.demand(operand, node, &[Kind::Text, Kind::Int, Kind::Double], "what is ordered")?;
                }
            }
            return Ok(Node::Compare(comparison, Box::new([left, right])));
        }
        if let Some(calculation) = calculation(sign) {
            return self.calculation(expr, call, calculation, depth);
        }
        match sign {
            operators::LOGICAL_AND | operators::LOGICAL_OR => {
                let mut operands = Vec::new();
                self.chain(sign, &call.args, &mut operands, depth)?;
                Ok(if sign == operators::LOGICAL_AND { Node::And(operands) } else { Node::Or(operands) })
            }
            operators::LOGICAL_NOT => {
                let operand = self.only(expr, call, depth)?;
                self.demand(expr, &operand, &[Kind::Bool], "what stands after `!`")?;
                Ok(Node::Not(Box::new(operand)))
            }
            operators::NEGATE => {
                let operand = self.only(expr, call, depth)?;
                self.demand(expr, &operand, &[Kind::Int, Kind::Double], "what stands after `-`")?;
                Ok(Node::Negate(Box::new(operand)))
            }
            operators::CONDITIONAL => {
                let parts = self.nodes(&call.args, depth)?;
                let parts: Box<[Node; 3]> = parts.try_into().map_err(|_| self.unreadable(expr))?;
                self.demand(expr, &parts[0], &[Kind::Bool], "what stands before `?`")?;
                Ok(Node::Choose(parts))
            }
            operators::IN => {
                let [element, list] = self.pair(expr, call, depth)?;
                self.demand(expr, &list, &[Kind::List, Kind::Map], "what stands after `in`")?;
                Ok(Node::In(Box::new([element, list])))
            }
            operators::INDEX => {
                let [of, key] = self.pair(expr, call, depth)?;
                self.demand(expr, &of, &[Kind::List, Kind::Map], "what is indexed")?;
                self.demand(expr, &key, &[Kind::Int, Kind::Text], "an index")?;
                let told = match &key {
                    Node::Text(name) => format!("`{name}`"),
                    _ => "the element of that index".to_owned(),
                };
                Ok(Node::Index { of: Box::new(of), key: Box::new(key), told: told.into() })
            }
            operators::HAS => {
                let [asked] = call.args.as_slice() else { return Err(self.count(expr, "has", 1, call.args.len())) };
                let node = self.node(asked, depth + 1)?;
                match node {
                    Node::Path(_) | Node::Member { .. } | Node::Index { .. } => Ok(Node::Has(Box::new(node))),
                    _ => Err(self.fault(expr, "has() asks for a field or an element", "write it as has(token.claims.oid)")),
                }
            }
            "matches" => self.matches(expr, &call.args.iter().collect::<Vec<_>>(), depth),
            "cidr" => {
                let [network, address] = call.args.as_slice() else { return Err(self.count(expr, "cidr", 2, call.args.len())) };
                self.cidr(network, address, depth)
            }
            name => match Function::named(name) {
                Some(function) if function.member_only() => {
                    let cure = format!("write it as text.{name}(…)");
                    Err(self.fault(expr, format!("`{name}` stands after a text and a dot"), cure))
                }
                Some(function) => self.function(expr, function, call.args.iter().collect(), depth),
                None if Each::named(name).is_some() => {
                    let cure = format!("write it as list.{name}(x, …)");
                    Err(self.fault(expr, format!("`{name}` stands after a list and a dot"), cure))
                }
                None => Err(self.unknown_function(expr, name)),
            },
        }
    }

    fn method(&mut self, expr: &'a IdedExpr, call: &'a CallExpr, target: &'a IdedExpr, depth: usize) -> Checked {
        let name = call.func_name.as_str();
        if let Some(each) = Each::named(name) {
            return self.each(expr, each, call, target, depth);
        }
        match name {
            "matches" => self.matches(expr, &std::iter::once(target).chain(&call.args).collect::<Vec<_>>(), depth),
            "cidr" => {
                let [network] = call.args.as_slice() else { return Err(self.count(expr, "cidr", 1, call.args.len())) };
                self.cidr(network, target, depth)
            }
            _ => match Function::named(name) {
                Some(function) if function.call_only() => {
                    Err(self.fault(expr, format!("`{name}` is no method"), format!("write it as {name}(…)")))
                }
                Some(function) => self.function(expr, function, std::iter::once(target).chain(&call.args).collect(), depth),
                None => Err(self.unknown_function(expr, name)),
            },
        }
    }

    fn function(&mut self, expr: &IdedExpr, function: Function, arguments: Vec<&'a IdedExpr>, depth: usize) -> Checked {
        if arguments.len() != function.arguments() {
            return Err(self.count(expr, function.name(), function.arguments(), arguments.len()));
        }
        let mut nodes = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            let node = self.node(argument, depth + 1)?;
            let wanted: &[Kind] = match (function, index) {
                (Function::Join, 0) => &[Kind::List],
                (Function::Size, _) => &[Kind::Text, Kind::List, Kind::Map],
                (Function::Text, _) => &[Kind::Text, Kind::Bool, Kind::Int, Kind::Double],
                (Function::Int | Function::Double, _) => &[Kind::Text, Kind::Int, Kind::Double],
                (Function::Bool, _) => &[Kind::Text, Kind::Bool],
                _ => &[Kind::Text],
            };
            self.demand(argument, &node, wanted, "this argument")?;
            nodes.push(node);
        }
        Ok(Node::Call(function, nodes))
    }

    fn calculation(&mut self, expr: &'a IdedExpr, call: &'a CallExpr, calculation: Calculation, depth: usize) -> Checked {
        let [left, right] = self.pair(expr, call, depth)?;
        let wanted: &[Kind] = match calculation {
            Calculation::Add => &[Kind::Int, Kind::Double, Kind::Text, Kind::List],
            Calculation::Remainder => &[Kind::Int],
            Calculation::Subtract | Calculation::Multiply | Calculation::Divide => &[Kind::Int, Kind::Double],
        };
        for (operand, node) in call.args.iter().zip([&left, &right]) {
            self.demand(operand, node, wanted, "what is calculated with")?;
        }
        if let (Some(one), Some(other)) = (left.kind(), right.kind())
            && one != other
        {
            let message = format!("{one} and {other} do not go together in `{}`", calculation.sign());
            return Err(self.fault(expr, message, "convert one of them with string(), int() or double()"));
        }
        Ok(Node::Calculate(calculation, Box::new([left, right])))
    }

    /// The operands of a chain of one logical operator, flat and in the order they are written.
    fn chain(&mut self, sign: &str, operands: &'a [IdedExpr], into: &mut Vec<Node>, depth: usize) -> Checked<()> {
        for operand in operands {
            match &operand.expr {
                Expr::Call(call) if call.func_name == sign && call.target.is_none() => {
                    self.chain(sign, &call.args, into, depth)?;
                }
                _ => {
                    let node = self.node(operand, depth + 1)?;
                    self.demand(operand, &node, &[Kind::Bool], "an operand of `&&` and `||`")?;
                    into.push(node);
                }
            }
        }
        Ok(())
    }

    fn each(&mut self, expr: &IdedExpr, each: Each, call: &'a CallExpr, target: &'a IdedExpr, depth: usize) -> Checked {
        let name = call.func_name.as_str();
        let (variable, first, second) = match call.args.as_slice() {
            [variable, first] => (variable, first, None),
            [variable, first, second] if each == Each::Map => (variable, first, Some(second)),
            others => return Err(self.count(expr, name, 2, others.len())),
        };
        let Expr::Ident(bound) = &variable.expr else {
            return Err(self.fault(
                variable,
                "the first argument is a name for the element",
                format!("write it as list.{name}(x, …)"),
            ));
        };
        if ROOTS.contains(&bound.as_str()) || self.is_token(bound) || self.bound(bound) {
            return Err(self.fault(variable, format!("`{bound}` has a meaning already"), "choose another name, as `x`"));
        }
        let over = self.node(target, depth + 1)?;
        self.demand(target, &over, &[Kind::List, Kind::Map], format!("what stands before `.{name}`"))?;
        self.variables.push(bound);
        let first_node = self.node(first, depth + 1);
        let second_node = second.map(|second| self.node(second, depth + 1)).transpose();
        self.variables.pop();
        let (first_node, second_node) = (first_node?, second_node?);
        let (condition, result) = match (each, second_node) {
            (Each::Map, None) => (None, Some(first_node)),
            (Each::Map, second) => (Some(first_node), second),
            _ => (Some(first_node), None),
        };
        if let Some(condition) = &condition {
            self.demand(first, condition, &[Kind::Bool], "the condition")?;
        }
        Ok(Node::Each(each, Box::new(EachOf { over, condition, result })))
    }

    fn matches(&mut self, expr: &IdedExpr, arguments: &[&'a IdedExpr], depth: usize) -> Checked {
        let [text, pattern] = arguments else { return Err(self.count(expr, "matches", 2, arguments.len())) };
        let Expr::Literal(LiteralValue::String(written)) = &pattern.expr else {
            let message = "the pattern has to be a literal: it is compiled at load, and never made by a caller";
            return Err(self.fault(pattern, message, "write it as text.matches(\"^[a-z]+$\")"));
        };
        let node = self.node(text, depth + 1)?;
        self.demand(text, &node, &[Kind::Text], "what is matched")?;
        let regex = pattern_of(written.inner()).map_err(|error| self.fault(pattern, error.to_string(), "mend the pattern"))?;
        Ok(Node::Matches(Box::new(node), regex))
    }

    fn cidr(&mut self, network: &'a IdedExpr, address: &'a IdedExpr, depth: usize) -> Checked {
        let written: Vec<&IdedExpr> = match &network.expr {
            Expr::List(list) if !list.elements.is_empty() => list.elements.iter().collect(),
            _ => vec![network],
        };
        let mut networks = Vec::with_capacity(written.len());
        for one in written {
            let Expr::Literal(LiteralValue::String(text)) = &one.expr else {
                let cure = "write it as cidr(\"10.0.0.0/8\", caller.address)";
                return Err(self.fault(one, "the network has to be a literal: it is read at load", cure));
            };
            networks.push(network_of(text.inner()).map_err(|(message, cure)| self.fault(one, message, cure))?);
        }
        let node = self.node(address, depth + 1)?;
        self.demand(address, &node, &[Kind::Text], "an address")?;
        Ok(Node::Cidr(networks.into(), Box::new(node)))
    }

    fn pair(&mut self, expr: &IdedExpr, call: &'a CallExpr, depth: usize) -> Checked<[Node; 2]> {
        self.nodes(&call.args, depth)?.try_into().map_err(|_| self.unreadable(expr))
    }

    fn only(&mut self, expr: &IdedExpr, call: &'a CallExpr, depth: usize) -> Checked {
        match call.args.as_slice() {
            [operand] => self.node(operand, depth + 1),
            _ => Err(self.unreadable(expr)),
        }
    }

    /// Refuses a part whose kind is known and is not among those that are wanted.
    fn demand(&self, at: &IdedExpr, node: &Node, wanted: &[Kind], what: impl std::fmt::Display) -> Checked<()> {
        match node.kind() {
            Some(kind) if !wanted.contains(&kind) => {
                let wanted: Vec<_> = wanted.iter().map(|kind| kind.article()).collect();
                Err(self.fault(at, format!("{what} is {kind}"), format!("it has to be {}", wanted.join(", or "))))
            }
            _ => Ok(()),
        }
    }

    fn fault(&self, at: &IdedExpr, message: impl Into<String>, cure: impl Into<String>) -> ExpressionError {
        ExpressionError { column: self.column(at), message: message.into(), cure: cure.into() }
    }

    fn unreadable(&self, at: &IdedExpr) -> ExpressionError {
        self.fault(at, "the expression cannot be read", "expressions are written in CEL")
    }

    fn count(&self, at: &IdedExpr, name: &str, wanted: usize, found: usize) -> ExpressionError {
        let plural = if wanted == 1 { "" } else { "s" };
        self.fault(at, format!("`{name}` takes {wanted} argument{plural} here, and {found} are given"), "")
    }

    fn unknown_root(&self, at: &IdedExpr, name: &str) -> ExpressionError {
        if ROOTS.contains(&name) || self.is_token(name) {
            let example = match name {
                "request" => "request.path".to_owned(),
                "caller" => "caller.address".to_owned(),
                token if self.is_token(token) => format!("{token}.claims.oid"),
                other => other.to_owned(),
            };
            return self.fault(at, format!("`{name}` is no value by itself"), format!("name one of its fields, as {example}"));
        }
        let known: Vec<&str> = ROOTS.into_iter().chain(self.tokens.iter().map(|name| &**name)).collect();
        self.fault(at, format!("nothing is called `{name}`"), suggestion(name, &known))
    }

    fn unknown_field(&self, at: &IdedExpr, root: &str, name: &str, fields: &[&str]) -> ExpressionError {
        self.fault(at, format!("`{root}` has no field `{name}`"), suggestion(name, fields))
    }

    fn unknown_function(&self, at: &IdedExpr, name: &str) -> ExpressionError {
        let mut names: Vec<_> = Function::ALL.into_iter().map(Function::name).collect();
        names.extend(["matches", "cidr", "has", "exists", "all", "exists_one", "filter", "map"]);
        self.fault(at, format!("no function is called `{name}`"), suggestion(name, &names))
    }

    /// Where a part begins: for a call the name before its bracket, for a field the name after its dot.
    fn column(&self, at: &IdedExpr) -> usize {
        let start = self.source.offset_for(at.id).map_or(0, |(start, _)| usize::try_from(start).unwrap_or(0));
        let mut before = self.text.char_indices().map(|(index, _)| index).take_while(|index| *index < start).count();
        match &at.expr {
            Expr::Call(call) if self.text.get(start..).is_some_and(|rest| rest.starts_with('(')) => {
                before = before.saturating_sub(call.func_name.chars().count());
            }
            Expr::Select(_) => before += 1,
            _ => {}
        }
        before + 1
    }
}

/// The expression as a person would write it, for a path.
fn told(expr: &IdedExpr) -> Arc<str> {
    fn write(expr: &IdedExpr, into: &mut String) {
        match &expr.expr {
            Expr::Ident(name) => into.push_str(name),
            Expr::Select(select) => {
                write(&select.operand, into);
                into.push('.');
                into.push_str(&select.field);
            }
            Expr::Call(call) => {
                if let [owner, IdedExpr { expr: Expr::Literal(LiteralValue::String(name)), .. }] = call.args.as_slice() {
                    write(owner, into);
                    into.push_str(&format!("[\"{}\"]", name.inner()));
                }
            }
            _ => {}
        }
    }
    let mut text = String::new();
    write(expr, &mut text);
    text.into()
}

fn comparison(sign: &str) -> Option<Comparison> {
    Some(match sign {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn calculation(sign: &str) -> Option<Calculation> {
    Some(match sign {
        operators::ADD => Calculation::Add,
        operators::SUBSTRACT => Calculation::Subtract,
        operators::MULTIPLY => Calculation::Multiply,
        operators::DIVIDE => Calculation::Divide,
        operators::MODULO => Calculation::Remainder,
        _ => return None,
    })
}

fn pattern_of(written: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(written).size_limit(limits::PATTERN).dfa_size_limit(limits::PATTERN).nest_limit(32).build()
}

/// An address or a network; host bits are an error, since they show that something else was meant.
fn network_of(written: &str) -> Result<IpNet, (String, String)> {
    if let Ok(address) = written.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = written
        .parse()
        .map_err(|_| (format!("`{written}` is no network"), "write it as 10.0.0.0/8 or 2001:db8::/32".to_owned()))?;
    if network.trunc() != network {
        return Err((format!("`{written}` has host bits"), format!("the network is {}", network.trunc())));
    }
    Ok(network)
}

fn suggestion(name: &str, known: &[&str]) -> String {
    let near = known.iter().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    match near {
        Some((distance, known)) if distance <= (name.len() / 3).clamp(1, 2) => format!("did you mean `{known}`?"),
        _ => format!("there are {}", known.join(", ")),
    }
}

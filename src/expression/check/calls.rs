//! Operators, functions, patterns, and the conditions of list functions.

use std::net::IpAddr;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::{
    super::{
        limits,
        node::{Calculation, Comparison, Comprehension, Each, Function, Kind, Node},
    },
    Checked, Checker, ROOTS,
};

impl<'a> Checker<'a> {
    /// Checks an operator, or a function of any form.
    pub(super) fn call(&mut self, expr: &'a IdedExpr, call: &'a CallExpr, depth: usize) -> Checked {
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
                    Err(self.fault(expr, format!("`{name}` is not a method"), format!("write it as {name}(…)")))
                }
                Some(function) => self.function(expr, function, std::iter::once(target).chain(&call.args).collect(), depth),
                None => Err(self.unknown_function(expr, name)),
            },
        }
    }

    fn function(&mut self, expr: &IdedExpr, function: Function, arguments: Vec<&'a IdedExpr>, depth: usize) -> Checked {
        let (least, most) = function.arguments();
        if arguments.len() < least || arguments.len() > most {
            let wanted = if arguments.len() < least { least } else { most };
            return Err(self.count(expr, function.name(), wanted, arguments.len()));
        }
        let mut nodes = Vec::with_capacity(arguments.len());
        for (index, argument) in arguments.into_iter().enumerate() {
            let node = self.node(argument, depth + 1)?;
            self.demand(argument, &node, function.takes(index), "this argument")?;
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
            let message = format!("{one} and {other} cannot be combined in `{}`", calculation.sign());
            return Err(self.fault(expr, message, "convert one of them with string(), int() or double()"));
        }
        Ok(Node::Calculate(calculation, Box::new([left, right])))
    }

    /// Returns the operands of a chain of one logical operator, flat and in the order they are written.
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
        Ok(Node::Each(each, Box::new(Comprehension { over, condition, result })))
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

/// Returns an address or a network; host bits are an error, since they show that something else was meant.
fn network_of(written: &str) -> Result<IpNet, (String, String)> {
    if let Ok(address) = written.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network: IpNet = written
        .parse()
        .map_err(|_| (format!("`{written}` is not a network"), "write it as 10.0.0.0/8 or 2001:db8::/32".to_owned()))?;
    if network.trunc() != network {
        return Err((format!("`{written}` has host bits"), format!("the network is {}", network.trunc())));
    }
    Ok(network)
}

//! Functions, patterns, networks, and the conditions of list functions.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use super::{
    super::{
        limits,
        node::{Comprehension, Each, Function, Kind, Node},
        syntax::{Call, Expr, Part},
    },
    Checked, Checker, ROOTS,
};

impl<'a> Checker<'a> {
    /// Checks a function or a method.
    pub(super) fn call(&mut self, expr: &'a Expr<'a>, call: &'a Call<'a>, depth: usize) -> Checked {
        if let Some(target) = &call.on {
            return self.method(expr, call, target, depth);
        }
        match call.name {
            "has" => self.has(expr, &call.arguments, depth),
            "matches" => self.matches(expr, &call.arguments.iter().collect::<Vec<_>>(), depth),
            "cidr" => {
                let [network, address] = call.arguments.as_slice() else {
                    return Err(self.count(expr, "cidr", 2, call.arguments.len()));
                };
                self.cidr(network, address, depth)
            }
            name => match Function::named(name) {
                Some(function) if function.member_only() => {
                    let cure = format!("write it as text.{name}(…)");
                    Err(self.fault(expr, format!("`{name}` stands after a text and a dot"), cure))
                }
                Some(function) => self.function(expr, function, call.arguments.iter().collect(), depth),
                None if Each::named(name).is_some() => {
                    let cure = format!("write it as list.{name}(x, …)");
                    Err(self.fault(expr, format!("`{name}` stands after a list and a dot"), cure))
                }
                None => Err(self.unknown_function(expr, name)),
            },
        }
    }

    fn has(&mut self, expr: &'a Expr<'a>, arguments: &'a [Expr<'a>], depth: usize) -> Checked {
        let [asked] = arguments else { return Err(self.count(expr, "has", 1, arguments.len())) };
        let node = self.node(asked, depth + 1)?;
        match node {
            Node::Path(_) | Node::Member { .. } | Node::Index { .. } => Ok(Node::Has(Box::new(node))),
            _ => Err(self.fault(expr, "has() asks for a field or an element", "write it as has(token.claims.oid)")),
        }
    }

    fn method(&mut self, expr: &'a Expr<'a>, call: &'a Call<'a>, target: &'a Expr<'a>, depth: usize) -> Checked {
        let name = call.name;
        if let Some(each) = Each::named(name) {
            return self.each(expr, each, call, target, depth);
        }
        match name {
            "matches" => self.matches(expr, &std::iter::once(target).chain(&call.arguments).collect::<Vec<_>>(), depth),
            "cidr" => {
                let [network] = call.arguments.as_slice() else { return Err(self.count(expr, "cidr", 1, call.arguments.len())) };
                self.cidr(network, target, depth)
            }
            _ => match Function::named(name) {
                Some(function) if function.call_only() => {
                    Err(self.fault(expr, format!("`{name}` is not a method"), format!("write it as {name}(…)")))
                }
                Some(function) => self.function(expr, function, std::iter::once(target).chain(&call.arguments).collect(), depth),
                None => Err(self.unknown_function(expr, name)),
            },
        }
    }

    fn function(&mut self, expr: &Expr<'_>, function: Function, arguments: Vec<&'a Expr<'a>>, depth: usize) -> Checked {
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

    fn each(&mut self, expr: &Expr<'_>, each: Each, call: &'a Call<'a>, target: &'a Expr<'a>, depth: usize) -> Checked {
        let name = call.name;
        let (variable, first, second) = match call.arguments.as_slice() {
            [variable, first] => (variable, first, None),
            [variable, first, second] if each == Each::Map => (variable, first, Some(second)),
            others => return Err(self.count(expr, name, 2, others.len())),
        };
        let Part::Name(bound) = variable.part else {
            return Err(self.fault(
                variable,
                "the first argument is a name for the element",
                format!("write it as list.{name}(x, …)"),
            ));
        };
        if ROOTS.contains(&bound) || self.is_token(bound) || self.bound(bound) {
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

    fn matches(&mut self, expr: &Expr<'_>, arguments: &[&'a Expr<'a>], depth: usize) -> Checked {
        let [text, pattern] = arguments else { return Err(self.count(expr, "matches", 2, arguments.len())) };
        let Part::Text(written) = &pattern.part else {
            let message = "the pattern has to be a literal: it is compiled at load, and never made by a caller";
            return Err(self.fault(pattern, message, "write it as text.matches(\"^[a-z]+$\")"));
        };
        let node = self.node(text, depth + 1)?;
        self.demand(text, &node, &[Kind::Text], "what is matched")?;
        let regex = pattern_of(written).map_err(|error| self.fault(pattern, error.to_string(), "mend the pattern"))?;
        Ok(Node::Matches(Box::new(node), regex))
    }

    fn cidr(&mut self, network: &'a Expr<'a>, address: &'a Expr<'a>, depth: usize) -> Checked {
        let written: Vec<&Expr<'_>> = match &network.part {
            Part::List(elements) if !elements.is_empty() => elements.iter().collect(),
            _ => vec![network],
        };
        let mut networks = Vec::with_capacity(written.len());
        for one in written {
            let Part::Text(text) = &one.part else {
                let cure = "write it as cidr(\"10.0.0.0/8\", caller.address)";
                return Err(self.fault(one, "the network has to be a literal: it is read at load", cure));
            };
            networks.push(network_of(text).map_err(|(message, cure)| self.fault(one, message, cure))?);
        }
        let node = self.node(address, depth + 1)?;
        self.demand(address, &node, &[Kind::Text], "an address")?;
        Ok(Node::Cidr(networks.into(), Box::new(node)))
    }
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

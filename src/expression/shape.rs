//! The shape of an expression: its boolean structure over tests of single facts, for comparing conditions without a request.
//!
//! A test reads one operand and compares it with literals. What cannot be taken apart so, as arithmetic or a comparison of two facts, is
//! one [`Shape::Free`] with the operands that it reads.

use ipnet::IpNet;

use super::{
    Expression,
    node::{Comparison, Each, Field, Function, Node, Path},
};

/// A condition, taken apart.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// Always true, or always false.
    Constant(bool),
    /// All of these, from left to right, up to the first that is false.
    And(Vec<Self>),
    /// One of these, from left to right, up to the first that is true.
    Or(Vec<Self>),
    /// The opposite.
    Not(Box<Self>),
    /// `if ? then : otherwise`
    If(Box<[Self; 3]>),
    /// Whether the operand is there.
    Has(Operand),
    /// Whether the operand, which has to be there, passes a test.
    Test(Operand, Test),
    /// A condition that is not taken apart, with its text in a normal form.
    Free {
        /// Texts that are equal stand for equal conditions.
        text: String,
        /// The operands that it reads.
        reads: Vec<Operand>,
        /// The texts that it compares with.
        literals: Vec<String>,
    },
}

/// A fact that an expression reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operand {
    /// The fact.
    pub(crate) source: Source,
    /// The name of the token, where it is not `token`.
    pub(crate) token: Option<String>,
}

/// The source of an operand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Method,
    Path,
    Host,
    Scheme,
    Header(String),
    Parameter(String),
    Caller,
    Claim(String),
    TokenKind,
    Tenant,
    Client,
    Subject,
    Scopes,
    Roles,
    Capture(String),
    Partner,
    Variable(String),
    /// Always there: the name of the route, the request's id, all fields or parameters.
    Given(&'static str),
    /// Another fact, by its name; it may be absent.
    Other(String),
}

/// A test of one operand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Test {
    /// Whether it is one of these texts.
    In(Vec<String>),
    Starts(String),
    Ends(String),
    Contains(String),
    /// Whether the pattern is found in it.
    Matches(String),
    /// Whether it is `true`.
    True,
    /// Whether the list holds one of these texts.
    Holds(Vec<String>),
    /// Whether it is an address of these networks.
    Networks(Vec<IpNet>),
    /// The test on the text in the other case.
    Folded(Fold, Box<Self>),
}

/// A case that a text is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fold {
    Lower,
    Upper,
}

impl Expression {
    /// Returns the expression as a condition, taken apart.
    pub(crate) fn shape(&self) -> Shape {
        shape(&self.node)
    }

    /// Returns the operands that the expression reads, each once.
    pub(crate) fn operands(&self) -> Vec<Operand> {
        let mut found = Vec::new();
        reads(&self.node, &mut found);
        found
    }

    /// Returns the operand that the expression is, if it is nothing else.
    pub(crate) fn as_operand(&self) -> Option<Operand> {
        operand(&self.node)
    }

    /// Returns a text in a normal form, the same for expressions that are written alike.
    pub(crate) fn normal_form(&self) -> String {
        format!("{:?}", self.node)
    }
}

fn shape(node: &Node) -> Shape {
    let free = || {
        let (mut operands, mut literals) = (Vec::new(), Vec::new());
        reads(node, &mut operands);
        texts(node, &mut literals);
        Shape::Free { text: format!("{node:?}"), reads: operands, literals }
    };
    match node {
        Node::Bool(value) => Shape::Constant(*value),
        Node::And(parts) => Shape::And(parts.iter().map(shape).collect()),
        Node::Or(parts) => Shape::Or(parts.iter().map(shape).collect()),
        Node::Not(part) => Shape::Not(Box::new(shape(part))),
        Node::Choose(parts) => Shape::If(Box::new([shape(&parts[0]), shape(&parts[1]), shape(&parts[2])])),
        Node::Has(part) => operand(part).map_or_else(free, Shape::Has),
        Node::Path(_) => operand(node).map_or_else(free, |operand| Shape::Test(operand, Test::True)),
        Node::Compare(Comparison::Equal, sides) => equality(sides).unwrap_or_else(free),
        Node::Compare(Comparison::NotEqual, sides) => equality(sides).map_or_else(free, |equal| Shape::Not(Box::new(equal))),
        Node::In(sides) => membership(sides).unwrap_or_else(free),
        Node::Matches(of, pattern) => test(of, Test::Matches(pattern.as_str().to_owned())).unwrap_or_else(free),
        Node::Cidr(networks, of) => test(of, Test::Networks(networks.to_vec())).unwrap_or_else(free),
        Node::Call(function, arguments) => call(*function, arguments).unwrap_or_else(free),
        Node::Each(Each::Exists, of) => {
            let condition = of.condition.as_ref().and_then(equals_element);
            match (operand(&of.over), condition) {
                (Some(list), Some(texts)) => Shape::Test(list, Test::Holds(texts)),
                _ => free(),
            }
        }
        _ => free(),
    }
}

/// Returns the texts of a condition `x == "a"` or `x in ["a", "b"]` on the element of the innermost list.
fn equals_element(condition: &Node) -> Option<Vec<String>> {
    match condition {
        Node::Compare(Comparison::Equal, sides) => match &**sides {
            [Node::Variable(0), Node::Text(text)] | [Node::Text(text), Node::Variable(0)] => Some(vec![text.to_string()]),
            _ => None,
        },
        Node::In(sides) => match &**sides {
            [Node::Variable(0), list] => listed(list),
            _ => None,
        },
        _ => None,
    }
}

fn equality(sides: &[Node; 2]) -> Option<Shape> {
    match sides {
        [of, Node::Text(text)] | [Node::Text(text), of] => test(of, Test::In(vec![text.to_string()])),
        [of, Node::Bool(value)] | [Node::Bool(value), of] => {
            let plain = test(of, Test::True)?;
            // A claim that is no truth value is neither: the comparison is an error then.
            Some(if *value { plain } else { Shape::Not(Box::new(plain)) })
        }
        _ => None,
    }
}

fn membership(sides: &[Node; 2]) -> Option<Shape> {
    let [element, list] = sides;
    if let Some(texts) = listed(list) {
        return test(element, Test::In(texts));
    }
    match element {
        Node::Text(text) => {
            let list = operand(list)?;
            is_list(&list).then(|| Shape::Test(list, Test::Holds(vec![text.to_string()])))
        }
        _ => None,
    }
}

/// Returns whether an operand is a list, as far as that is known before there is a request; claims may be.
fn is_list(operand: &Operand) -> bool {
    matches!(operand.source, Source::Scopes | Source::Roles | Source::Claim(_))
}

fn listed(list: &Node) -> Option<Vec<String>> {
    let Node::List(elements) = list else { return None };
    let text = |element: &Node| if let Node::Text(text) = element { Some(text.to_string()) } else { None };
    elements.iter().map(text).collect()
}

fn call(function: Function, arguments: &[Node]) -> Option<Shape> {
    let [of, Node::Text(text)] = arguments else { return None };
    let text = text.to_string();
    match function {
        Function::StartsWith => test(of, Test::Starts(text)),
        Function::EndsWith => test(of, Test::Ends(text)),
        Function::Contains => test(of, Test::Contains(text)),
        _ => None,
    }
}

/// Returns the test of an operand, or of an operand in another case.
fn test(of: &Node, test: Test) -> Option<Shape> {
    if let Some(operand) = operand(of) {
        return Some(Shape::Test(operand, test));
    }
    match of {
        Node::Call(Function::Lower, arguments) => {
            Some(Shape::Test(operand(arguments.first()?)?, Test::Folded(Fold::Lower, Box::new(test))))
        }
        Node::Call(Function::Upper, arguments) => {
            Some(Shape::Test(operand(arguments.first()?)?, Test::Folded(Fold::Upper, Box::new(test))))
        }
        _ => None,
    }
}

fn operand(node: &Node) -> Option<Operand> {
    let Node::Path(Path { field, token, told }) = node else { return None };
    let source = match field {
        Field::Method => Source::Method,
        Field::RequestPath => Source::Path,
        Field::Host => Source::Host,
        Field::Scheme => Source::Scheme,
        Field::Header(name) => Source::Header(name.as_str().to_owned()),
        Field::Parameter(name) => Source::Parameter(name.to_string()),
        Field::CallerAddress => Source::Caller,
        Field::Claim(name) => Source::Claim(name.to_string()),
        Field::TokenKind => Source::TokenKind,
        Field::Tenant => Source::Tenant,
        Field::Client => Source::Client,
        Field::Subject => Source::Subject,
        Field::Scopes => Source::Scopes,
        Field::Roles => Source::Roles,
        Field::Capture(name) => Source::Capture(name.to_string()),
        Field::PartnerName => Source::Partner,
        Field::Variable(name) => Source::Variable(name.to_string()),
        Field::RouteName => Source::Given("route.name"),
        Field::Url => Source::Given("request.url"),
        Field::RequestId => Source::Given("request.id"),
        Field::Headers => Source::Given("request.headers"),
        Field::Query => Source::Given("request.query"),
        Field::Captures => Source::Given("captures"),
        _ => Source::Other(told.to_string()),
    };
    Some(Operand { source, token: token.as_deref().map(str::to_owned) })
}

/// Collects the operands of an expression, each once.
fn reads(node: &Node, found: &mut Vec<Operand>) {
    if let Some(operand) = operand(node) {
        if !found.contains(&operand) {
            found.push(operand);
        }
        return;
    }
    parts(node, &mut |part| reads(part, found));
}

/// Collects the texts of an expression.
fn texts(node: &Node, found: &mut Vec<String>) {
    match node {
        Node::Text(text) => found.push(text.to_string()),
        Node::Matches(_, pattern) => found.push(pattern.as_str().to_owned()),
        Node::Int(number) => found.extend([*number, number.saturating_add(1), number.saturating_sub(1)].map(|n| n.to_string())),
        _ => {}
    }
    parts(node, &mut |part| texts(part, found));
}

fn parts(node: &Node, visit: &mut dyn FnMut(&Node)) {
    match node {
        Node::Bool(_) | Node::Int(_) | Node::Double(_) | Node::Text(_) | Node::Path(_) | Node::Variable(_) => {}
        Node::Member { of, .. } | Node::Has(of) | Node::Not(of) | Node::Negate(of) | Node::Matches(of, _) | Node::Cidr(_, of) => {
            visit(of);
        }
        Node::Index { of, key, .. } => {
            visit(of);
            visit(key);
        }
        Node::And(list) | Node::Or(list) | Node::List(list) | Node::Call(_, list) => list.iter().for_each(visit),
        Node::Choose(list) => list.iter().for_each(visit),
        Node::Compare(_, list) | Node::Calculate(_, list) | Node::In(list) => list.iter().for_each(visit),
        Node::Map(entries) => entries.iter().for_each(|(name, value)| {
            visit(name);
            visit(value);
        }),
        Node::Each(_, of) => {
            visit(&of.over);
            of.condition.iter().chain(&of.result).for_each(visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape_of(text: &str) -> Shape {
        Expression::parse(text).expect(text).shape()
    }

    #[test]
    fn tests_of_single_facts_are_taken_apart() {
        let shape = shape_of("token.claims.dept == \"sales\" && !(request.path.startsWith(\"/a\") || \"x\" in token.roles)");
        let Shape::And(parts) = shape else { panic!("a conjunction") };
        assert!(
            matches!(&parts[0], Shape::Test(of, Test::In(texts)) if of.source == Source::Claim("dept".into()) && texts == &["sales"])
        );
        let Shape::Not(inner) = &parts[1] else { panic!("a negation") };
        let Shape::Or(parts) = &**inner else { panic!("an alternative") };
        assert!(matches!(&parts[0], Shape::Test(_, Test::Starts(text)) if text == "/a"));
        assert!(matches!(&parts[1], Shape::Test(of, Test::Holds(texts)) if of.source == Source::Roles && texts == &["x"]));
        assert!(matches!(shape_of("token.roles.exists(r, r == \"x\")"), Shape::Test(_, Test::Holds(_))));
        assert!(matches!(shape_of("lower(token.subject) == \"nia\""), Shape::Test(_, Test::Folded(Fold::Lower, _))));
    }

    #[test]
    fn the_rest_is_free_and_names_what_it_reads() {
        let Shape::Free { text, reads, literals } = shape_of("size(request.host) + 1 > 8") else { panic!("it is free") };
        assert_eq!(reads.len(), 1);
        assert!(literals.contains(&"8".to_owned()));
        let Shape::Free { text: other, .. } = shape_of("size( request.host )+1 > 8") else { panic!("it is free") };
        assert_eq!(text, other, "blanks say nothing");
    }
}

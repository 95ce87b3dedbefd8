//! The data that decided, for records: which paths an expression reads, and which of them made a condition false. Names alone, no
//! values: these may be personal, or secret.

use std::sync::Arc;

use super::{
    Expression, Facts,
    evaluate::Evaluator,
    node::{Comprehension, Node},
    template::Template,
    value::Value,
};

/// The most paths that are told.
const MOST: usize = 8;

impl Expression {
    /// Returns the paths that a false condition read where it was decided: of operands joined by `&&`, those of the first false one.
    /// Empty if there are none, or none is known.
    pub(crate) fn deciding(&self, facts: &Facts<'_>) -> String {
        let mut node = &self.node;
        while let Node::And(operands) = node {
            let is_false = |operand: &&Node| matches!(Evaluator::new(facts).evaluate(operand), Ok(Value::Bool(false)));
            let Some(operand) = operands.iter().find(is_false) else { break };
            node = operand;
        }
        told(node)
    }
}

impl Template {
    /// Returns the paths that the value is made of; empty for a text.
    pub(crate) fn sources(&self) -> String {
        match self {
            Self::Literal(_) => String::new(),
            Self::Expression(expression) => told(&expression.node),
        }
    }
}

fn told(node: &Node) -> String {
    let mut paths = Vec::new();
    collect(node, &mut paths);
    let mut distinct: Vec<&str> = Vec::new();
    for path in &paths {
        if !distinct.contains(&&**path) {
            distinct.push(path);
        }
    }
    distinct.truncate(MOST);
    distinct.join(", ")
}

fn collect(node: &Node, paths: &mut Vec<Arc<str>>) {
    match node {
        Node::Bool(_) | Node::Int(_) | Node::Double(_) | Node::Text(_) | Node::Variable(_) => {}
        Node::Path(path) => paths.push(path.told.clone()),
        Node::Member { of, .. } | Node::Has(of) | Node::Not(of) | Node::Negate(of) => collect(of, paths),
        Node::Matches(of, _) | Node::Cidr(_, of) => collect(of, paths),
        Node::Index { of, key, .. } => [of, key].into_iter().for_each(|node| collect(node, paths)),
        Node::And(nodes) | Node::Or(nodes) | Node::List(nodes) | Node::Call(_, nodes) => {
            nodes.iter().for_each(|node| collect(node, paths));
        }
        Node::Choose(nodes) => nodes.iter().for_each(|node| collect(node, paths)),
        Node::Compare(_, nodes) | Node::Calculate(_, nodes) | Node::In(nodes) => {
            nodes.iter().for_each(|node| collect(node, paths));
        }
        Node::Map(entries) => entries.iter().for_each(|(key, value)| {
            collect(key, paths);
            collect(value, paths);
        }),
        Node::Each(_, comprehension) => {
            let Comprehension { over, condition, result } = &**comprehension;
            [Some(over), condition.as_ref(), result.as_ref()].into_iter().flatten().for_each(|node| collect(node, paths));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::tests::World;

    #[test]
    fn the_operand_that_decided_is_told_by_what_it_reads() {
        let world = World::new();
        for (condition, expected) in [
            ("token.claims.level > 5", "token.claims.level"),
            ("token.claims.yes && token.claims.level > 5 && request.method == 'PUT'", "token.claims.level"),
            ("token.claims.yes && (token.tenant == 'x' || token.client == token.tenant)", "token.tenant, token.client"),
            ("1 == 2", ""),
            ("token.scopes.exists(s, s == request.host)", "token.scopes, request.host"),
        ] {
            let expression = Expression::parse_condition(condition).unwrap();
            assert!(!expression.holds(&world.facts()).unwrap(), "{condition}");
            assert_eq!(expression.deciding(&world.facts()), expected, "{condition}");
        }
    }
}

//! Operators.

use super::{
    super::{
        node::{Calculation, Comparison, Kind, Node},
        syntax::{Expr, Logic, Operator},
    },
    Checked, Checker,
};

impl<'a> Checker<'a> {
    /// Checks an operator of two operands.
    pub(super) fn binary(&mut self, expr: &Expr<'_>, operator: Operator, operands: &'a [Expr<'a>; 2], depth: usize) -> Checked {
        let nodes = self.both(operands, depth)?;
        match operator {
            Operator::Compare(comparison) => self.comparison(expr, comparison, operands, nodes),
            Operator::Calculate(calculation) => self.calculation(expr, calculation, operands, nodes),
            Operator::In => {
                self.demand(expr, &nodes[1], &[Kind::List, Kind::Map], "what stands after `in`")?;
                Ok(Node::In(Box::new(nodes)))
            }
        }
    }

    fn comparison(&self, expr: &Expr<'_>, comparison: Comparison, operands: &[Expr<'_>; 2], nodes: [Node; 2]) -> Checked {
        if let [Some(one), Some(other)] = nodes.each_ref().map(Node::kind)
            && !one.comparable(other)
        {
            return Err(self.fault(expr, format!("{one} is compared with {other}"), "compare values of one kind"));
        }
        if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            for (operand, node) in operands.iter().zip(&nodes) {
                self.demand(operand, node, &[Kind::Text, Kind::Int, Kind::Double], "what is ordered")?;
            }
        }
        Ok(Node::Compare(comparison, Box::new(nodes)))
    }

    fn calculation(&self, expr: &Expr<'_>, calculation: Calculation, operands: &[Expr<'_>; 2], nodes: [Node; 2]) -> Checked {
        let wanted: &[Kind] = match calculation {
            Calculation::Add => &[Kind::Int, Kind::Double, Kind::Text, Kind::List],
            Calculation::Remainder => &[Kind::Int],
            Calculation::Subtract | Calculation::Multiply | Calculation::Divide => &[Kind::Int, Kind::Double],
        };
        for (operand, node) in operands.iter().zip(&nodes) {
            self.demand(operand, node, wanted, "what is calculated with")?;
        }
        if let [Some(one), Some(other)] = nodes.each_ref().map(Node::kind)
            && one != other
        {
            let message = format!("{one} and {other} cannot be combined in `{}`", calculation.sign());
            return Err(self.fault(expr, message, "convert one of them with string(), int() or double()"));
        }
        Ok(Node::Calculate(calculation, Box::new(nodes)))
    }

    /// Checks operands joined by one logical operator.
    pub(super) fn chain(&mut self, logic: Logic, operands: &'a [Expr<'a>], depth: usize) -> Checked {
        let mut nodes = Vec::with_capacity(operands.len());
        for operand in operands {
            let node = self.node(operand, depth + 1)?;
            self.demand(operand, &node, &[Kind::Bool], "an operand of `&&` and `||`")?;
            nodes.push(node);
        }
        Ok(match logic {
            Logic::And => Node::And(nodes),
            Logic::Or => Node::Or(nodes),
        })
    }

    /// Checks a negated condition.
    pub(super) fn not(&mut self, expr: &Expr<'_>, of: &'a Expr<'a>, depth: usize) -> Checked {
        let operand = self.node(of, depth + 1)?;
        self.demand(expr, &operand, &[Kind::Bool], "what stands after `!`")?;
        Ok(Node::Not(Box::new(operand)))
    }

    /// Checks a negated number.
    pub(super) fn negate(&mut self, expr: &Expr<'_>, of: &'a Expr<'a>, depth: usize) -> Checked {
        let operand = self.node(of, depth + 1)?;
        self.demand(expr, &operand, &[Kind::Int, Kind::Double], "what stands after `-`")?;
        Ok(Node::Negate(Box::new(operand)))
    }

    /// Checks a choice by a condition.
    pub(super) fn choose(&mut self, expr: &Expr<'_>, [condition, yes, no]: &'a [Expr<'a>; 3], depth: usize) -> Checked {
        let parts = [self.node(condition, depth + 1)?, self.node(yes, depth + 1)?, self.node(no, depth + 1)?];
        self.demand(expr, &parts[0], &[Kind::Bool], "what stands before `?`")?;
        Ok(Node::Choose(Box::new(parts)))
    }

    /// Checks the reading of an element.
    pub(super) fn index(&mut self, expr: &Expr<'_>, parts: &'a [Expr<'a>; 2], depth: usize) -> Checked {
        let [of, key] = self.both(parts, depth)?;
        self.demand(expr, &of, &[Kind::List, Kind::Map], "what is indexed")?;
        self.demand(expr, &key, &[Kind::Int, Kind::Text], "an index")?;
        let told = match &key {
            Node::Text(name) => format!("`{name}`"),
            _ => "the element of that index".to_owned(),
        };
        Ok(Node::Index { of: Box::new(of), key: Box::new(key), told: told.into() })
    }

    fn both(&mut self, [left, right]: &'a [Expr<'a>; 2], depth: usize) -> Checked<[Node; 2]> {
        Ok([self.node(left, depth + 1)?, self.node(right, depth + 1)?])
    }
}

//! Evaluation: strict, from left to right, and bounded.

use std::{borrow::Cow, cmp::Ordering, net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    facts::Facts,
    functions, limits,
    node::{Calculation, Comparison, Comprehension, Each, Field, Kind, Node, Path},
    value::{EvaluationError, List, Map, Value},
};

/// One evaluation with its remaining budget.
pub(super) struct Evaluator<'f, 'a> {
    facts: &'f Facts<'a>,
    variables: Vec<Value<'a>>,
    steps: u32,
    text: usize,
}

type Evaluated<'a> = Result<Value<'a>, EvaluationError>;

impl<'f, 'a> Evaluator<'f, 'a> {
    pub(super) const fn new(facts: &'f Facts<'a>) -> Self {
        Self { facts, variables: Vec::new(), steps: limits::STEPS, text: limits::TEXT }
    }

    /// Returns the number of steps taken.
    #[cfg(test)]
    pub(super) const fn spent(&self) -> u32 {
        limits::STEPS - self.steps
    }

    pub(super) fn evaluate(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.spend(1)?;
        Ok(match node {
            Node::Bool(value) => Value::Bool(*value),
            Node::Int(value) => Value::Int(*value),
            Node::Double(value) => Value::Double(*value),
            Node::Text(text) => Value::Text(Cow::Borrowed(text)),
            Node::Path(path) => self.path(path)?,
            Node::Variable(index) => {
                let value = self.variables.get(*index).cloned();
                let value = value.ok_or(EvaluationError::Unfit("a variable is not bound"))?;
                self.account(value)?
            }
            Node::Member { of, name, told } => match self.evaluate(of)? {
                Value::Map(map) => self.entry(&map, name, told)?,
                other => return Err(EvaluationError::kind("what stands before the dot", Kind::Map, &other)),
            },
            Node::Index { of, key, told } => {
                let of = self.evaluate(of)?;
                let key = self.evaluate(key)?;
                self.index(&of, &key, told)?
            }
            Node::Has(asked) => match self.evaluate(asked) {
                Ok(_) => Value::Bool(true),
                Err(EvaluationError::Absent(_)) => Value::Bool(false),
                Err(other) => return Err(other),
            },
            Node::Not(operand) => Value::Bool(!self.truth(operand, "what stands after `!`")?),
            Node::Negate(operand) => match self.evaluate(operand)? {
                Value::Int(number) => Value::Int(number.checked_neg().ok_or(OUT_OF_RANGE)?),
                Value::Double(number) => Value::Double(-number),
                other => return Err(EvaluationError::kind("what stands after `-`", Kind::Int, &other)),
            },
            Node::And(operands) => Value::Bool(self.all(operands, true)?),
            Node::Or(operands) => Value::Bool(!self.all(operands, false)?),
            Node::Choose(parts) => {
                let [condition, yes, no] = &**parts;
                let chosen = if self.truth(condition, "what stands before `?`")? { yes } else { no };
                self.evaluate(chosen)?
            }
            Node::Compare(comparison, operands) => Value::Bool(self.compare(*comparison, operands)?),
            Node::Calculate(calculation, operands) => self.calculate(*calculation, operands)?,
            Node::In(operands) => Value::Bool(self.contains(operands)?),
            Node::List(elements) => {
                let list = elements.iter().map(|element| self.evaluate(element)).collect::<Result<Vec<_>, _>>()?;
                Value::List(List::Made(list.into()))
            }
            Node::Map(entries) => self.map(entries)?,
            Node::Each(each, of) => self.each(*each, of)?,
            Node::Call(function, arguments) => {
                let arguments = arguments.iter().map(|argument| self.evaluate(argument)).collect::<Result<Vec<_>, _>>()?;
                functions::call(*function, arguments, self)?
            }
            Node::Matches(text, pattern) => {
                let text = self.evaluate(text)?;
                let Value::Text(text) = text else {
                    return Err(EvaluationError::kind("what is matched", Kind::Text, &text));
                };
                self.spend(text.len())?;
                Value::Bool(pattern.is_match(&text))
            }
            Node::Cidr(networks, address) => Value::Bool(self.cidr(networks, address)?),
        })
    }

    /// Takes steps off the remaining budget.
    pub(super) fn spend(&mut self, steps: usize) -> Result<(), EvaluationError> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.steps = self.steps.checked_sub(steps).ok_or(EvaluationError::Cost("its steps"))?;
        Ok(())
    }

    /// Accounts for a text that was made: its bytes come off the remaining budget.
    pub(super) fn made(&mut self, text: String) -> Evaluated<'a> {
        self.account(Value::Text(Cow::Owned(text)))
    }

    /// Refuses a text of this length that would exceed the remaining budget, before it is made.
    pub(super) const fn may_make(&self, length: usize) -> Result<(), EvaluationError> {
        if length > self.text { Err(EvaluationError::Cost("the text it may make")) } else { Ok(()) }
    }

    /// Returns the time in seconds since 1970.
    pub(super) fn now(&self) -> u64 {
        self.facts.clock.unix_seconds()
    }

    pub(super) fn account(&mut self, value: Value<'a>) -> Evaluated<'a> {
        if let Value::Text(Cow::Owned(text)) = &value {
            self.text = self.text.checked_sub(text.len()).ok_or(EvaluationError::Cost("the text it may make"))?;
        }
        Ok(value)
    }

    fn path(&mut self, path: &Path) -> Evaluated<'a> {
        if matches!(path.field, Field::Parameter(_) | Field::Url) {
            self.spend(self.facts.request.target.query.as_ref().map_or(0, |query| query.len() / 16))?;
        }
        let value = self.facts.look_up(path)?;
        self.account(value)
    }

    fn entry(&mut self, map: &Map<'a>, name: &str, told: &Arc<str>) -> Evaluated<'a> {
        self.spend(map.weight() / 16)?;
        let value = map.get(name)?.ok_or_else(|| EvaluationError::Absent(told.clone()))?;
        self.account(value)
    }

    fn index(&mut self, of: &Value<'a>, key: &Value<'a>, told: &Arc<str>) -> Evaluated<'a> {
        match (of, key) {
            (Value::Map(map), Value::Text(name)) => self.entry(map, name, told),
            (Value::List(list), Value::Int(index)) => {
                let index = usize::try_from(*index).ok().filter(|index| *index < list.len());
                let value = list.get(index.ok_or_else(|| EvaluationError::Absent(told.clone()))?)?;
                self.account(value)
            }
            (Value::Map(_), other) => Err(EvaluationError::kind("the name within an object", Kind::Text, other)),
            (Value::List(_), other) => Err(EvaluationError::kind("the index of a list", Kind::Int, other)),
            (other, _) => Err(EvaluationError::kind("what is indexed", Kind::List, other)),
        }
    }

    fn truth(&mut self, node: &'a Node, what: &'static str) -> Result<bool, EvaluationError> {
        match self.evaluate(node)? {
            Value::Bool(truth) => Ok(truth),
            other => Err(EvaluationError::kind(what, Kind::Bool, &other)),
        }
    }

    /// Returns whether every operand is `wanted`; operands after the first that is not are not evaluated.
    fn all(&mut self, operands: &'a [Node], wanted: bool) -> Result<bool, EvaluationError> {
        for operand in operands {
            if self.truth(operand, "an operand of `&&` and `||`")? != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn compare(&mut self, comparison: Comparison, operands: &'a [Node; 2]) -> Result<bool, EvaluationError> {
        let left = self.evaluate(&operands[0])?;
        let right = self.evaluate(&operands[1])?;
        if matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            let equal = left.equals(&right, &mut |steps| self.spend(steps))?;
            return Ok(equal == (comparison == Comparison::Equal));
        }
        if let (Value::Text(left), Value::Text(right)) = (&left, &right) {
            self.spend(left.len().min(right.len()) / 64)?;
        }
        let ordering = left.compare(comparison.sign(), &right)?;
        Ok(match comparison {
            Comparison::Less => ordering == Ordering::Less,
            Comparison::LessOrEqual => ordering != Ordering::Greater,
            Comparison::Greater => ordering == Ordering::Greater,
            Comparison::GreaterOrEqual => ordering != Ordering::Less,
            Comparison::Equal => ordering == Ordering::Equal,
            Comparison::NotEqual => ordering != Ordering::Equal,
        })
    }

    fn calculate(&mut self, calculation: Calculation, operands: &'a [Node; 2]) -> Evaluated<'a> {
        let left = self.evaluate(&operands[0])?;
        let right = self.evaluate(&operands[1])?;
        match (left, right) {
            (Value::Int(left), Value::Int(right)) => {
                let result = match calculation {
                    Calculation::Add => left.checked_add(right),
                    Calculation::Subtract => left.checked_sub(right),
                    Calculation::Multiply => left.checked_mul(right),
                    Calculation::Divide => left.checked_div(right),
                    Calculation::Remainder => left.checked_rem(right),
                };
                result.map(Value::Int).ok_or(OUT_OF_RANGE)
            }
            (Value::Double(left), Value::Double(right)) if calculation != Calculation::Remainder => {
                let result = match calculation {
                    Calculation::Add => left + right,
                    Calculation::Subtract => left - right,
                    Calculation::Multiply => left * right,
                    Calculation::Divide | Calculation::Remainder => left / right,
                };
                if result.is_finite() { Ok(Value::Double(result)) } else { Err(OUT_OF_RANGE) }
            }
            (Value::Text(left), Value::Text(right)) if calculation == Calculation::Add => {
                // Asked before the text is made, so that no more is ever made than may be.
                if left.len() + right.len() > self.text {
                    return Err(EvaluationError::Cost("the text it may make"));
                }
                let mut text = left.into_owned();
                text.push_str(&right);
                self.made(text)
            }
            (Value::List(left), Value::List(right)) if calculation == Calculation::Add => {
                self.spend(left.len() + right.len())?;
                let mut list = Vec::with_capacity(left.len() + right.len());
                for element in left.iter().chain(right.iter()) {
                    list.push(self.account(element?)?);
                }
                Ok(Value::List(List::Made(list.into())))
            }
            (left, right) => Err(left.mismatch(calculation.sign(), &right)),
        }
    }

    fn contains(&mut self, operands: &'a [Node; 2]) -> Result<bool, EvaluationError> {
        let element = self.evaluate(&operands[0])?;
        match (self.evaluate(&operands[1])?, &element) {
            (Value::List(list), _) => {
                for other in list.iter() {
                    let other = self.account(other?)?;
                    if other.equals(&element, &mut |steps| self.spend(steps))? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (Value::Map(map), Value::Text(name)) => {
                self.spend(map.weight() / 16)?;
                Ok(map.get(name)?.is_some())
            }
            (Value::Map(_), other) => Err(EvaluationError::kind("what stands before `in`", Kind::Text, other)),
            (other, _) => Err(EvaluationError::kind("what stands after `in`", Kind::List, &other)),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Evaluated<'a> {
        let mut made: Vec<(Cow<'a, str>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (name, value) in entries {
            let name = match self.evaluate(name)? {
                Value::Text(name) => name,
                other => return Err(EvaluationError::kind("the name of a map's entry", Kind::Text, &other)),
            };
            self.spend(made.len() / 8)?;
            if made.iter().any(|(other, _)| *other == name) {
                return Err(EvaluationError::Unfit("a map has two entries of one name"));
            }
            let value = self.evaluate(value)?;
            made.push((name, value));
        }
        Ok(Value::Map(Map::Made(made.into())))
    }

    fn each(&mut self, each: Each, of: &'a Comprehension) -> Evaluated<'a> {
        let list = match self.evaluate(&of.over)? {
            Value::List(list) => list,
            // As in CEL, a map is gone over by its names.
            Value::Map(map) => {
                self.spend(map.weight())?;
                List::Made(map.names()?.into_iter().map(Value::Text).collect())
            }
            other => return Err(EvaluationError::kind("what is gone over", Kind::List, &other)),
        };
        let mut found = 0_usize;
        let mut made = Vec::new();
        for element in list.iter() {
            self.spend(1)?;
            let element = self.account(element?)?;
            self.variables.push(element);
            let holds = of.condition.as_ref().map_or(Ok(true), |condition| self.truth(condition, "the condition"));
            let result = match (&holds, &of.result) {
                (Ok(true), Some(result)) => Some(self.evaluate(result)),
                _ => None,
            };
            let element = self.variables.pop().ok_or(EvaluationError::Unfit("a variable is not bound"))?;
            match (each, holds?) {
                (Each::Exists, true) => return Ok(Value::Bool(true)),
                (Each::All, false) => return Ok(Value::Bool(false)),
                (Each::ExistsOne, true) => found += 1,
                (Each::Filter, true) => made.push(element),
                (Each::Map, true) => made.extend(result.transpose()?),
                (Each::Exists | Each::ExistsOne | Each::Filter | Each::Map, false) | (Each::All, true) => {}
            }
        }
        Ok(match each {
            Each::Exists => Value::Bool(false),
            Each::All => Value::Bool(true),
            Each::ExistsOne => Value::Bool(found == 1),
            Each::Filter | Each::Map => Value::List(List::Made(made.into())),
        })
    }

    fn cidr(&mut self, networks: &[IpNet], address: &'a Node) -> Result<bool, EvaluationError> {
        let address = match address {
            Node::Path(Path { field: Field::CallerAddress, .. }) => self.facts.caller,
            other => match self.evaluate(other)? {
                // An address that cannot be read is in no network and in every one: an error, so that `!cidr(…)` cannot hold for it.
                Value::Text(text) => text.parse().map_err(|_| EvaluationError::Unfit("a text is not an address"))?,
                other => return Err(EvaluationError::kind("an address", Kind::Text, &other)),
            },
        };
        let address: IpAddr = address.to_canonical();
        self.spend(networks.len())?;
        Ok(networks.iter().any(|network| network.contains(&address)))
    }
}

pub(super) const OUT_OF_RANGE: EvaluationError = EvaluationError::Unfit("a number is out of range");

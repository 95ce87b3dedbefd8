//! From tokens to the syntax tree. Operators of two operands are read by precedence, and nothing is nested deeper than the limits
//! allow, neither in the parser nor in its tree.

use super::{
    Call, Expr, Fault, Logic, Operator, Parsed, Part,
    tokens::{Kind, Token, Tokens, WORDS},
};
use crate::expression::{
    limits,
    node::{Calculation, Comparison},
};

/// Words that are kept for later: they can name a field, and nothing else.
const KEPT: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Returns whether no variable and no token can have this name.
pub(in super::super) fn is_word(name: &str) -> bool {
    WORDS.contains(&name) || KEPT.contains(&name)
}

/// The tallest tree: parts may be nested as deep as the limit says, and a path, as `token.claims.oid`, counts as one part.
const TALLEST: usize = limits::DEPTH + 2;

/// Parses an expression.
pub(in super::super) fn parse(text: &str) -> Parsed<Expr<'_>> {
    let mut tokens = Tokens::of(text);
    let token = tokens.next()?;
    let mut parser = Parser { tokens, token, nesting: 0 };
    let expr = parser.expression()?;
    match parser.token.kind {
        Kind::End => Ok(expr),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser<'s> {
    tokens: Tokens<'s>,
    /// The token that is looked at.
    token: Token<'s>,
    /// The number of expressions that are being read, one within the other.
    nesting: usize,
}

impl<'s> Parser<'s> {
    fn expression(&mut self) -> Parsed<Expr<'s>> {
        if self.nesting > usize::from(limits::NESTING) {
            return Err(too_deep(self.token.at, "brackets and choices are nested", limits::NESTING.into()));
        }
        self.nesting += 1;
        let expr = self.operation(1)?;
        let expr = if self.looks_at("?") { self.choice(expr)? } else { expr };
        self.nesting -= 1;
        Ok(expr)
    }

    /// Reads what follows a condition from its `?` on.
    fn choice(&mut self, condition: Expr<'s>) -> Parsed<Expr<'s>> {
        let at = self.token.at;
        self.advance()?;
        let yes = self.operation(1)?;
        self.demand(":", "an operator or `:`")?;
        let no = self.expression()?;
        grown(at, [condition.height, yes.height, no.height], Part::Choose(Box::new([condition, yes, no])))
    }

    /// Reads operands joined by operators that bind at least this strongly.
    fn operation(&mut self, least: u8) -> Parsed<Expr<'s>> {
        let mut left = self.operand()?;
        while let Some((joint, strength)) = self.joint()
            && strength >= least
        {
            let at = self.token.at;
            self.advance()?;
            let right = self.operation(strength + 1)?;
            left = joined(joint, at, left, right)?;
        }
        Ok(left)
    }

    /// Returns the operator that is looked at, and how strongly it binds.
    fn joint(&self) -> Option<(Joint, u8)> {
        let Kind::Sign(sign) = self.token.kind else { return None };
        let comparison = |comparison| Some((Joint::Operator(Operator::Compare(comparison)), 3));
        let calculation = |calculation, strength| Some((Joint::Operator(Operator::Calculate(calculation)), strength));
        match sign {
            "||" => Some((Joint::Logic(Logic::Or), 1)),
            "&&" => Some((Joint::Logic(Logic::And), 2)),
            "in" => Some((Joint::Operator(Operator::In), 3)),
            "==" => comparison(Comparison::Equal),
            "!=" => comparison(Comparison::NotEqual),
            "<" => comparison(Comparison::Less),
            "<=" => comparison(Comparison::LessOrEqual),
            ">" => comparison(Comparison::Greater),
            ">=" => comparison(Comparison::GreaterOrEqual),
            "+" => calculation(Calculation::Add, 4),
            "-" => calculation(Calculation::Subtract, 4),
            "*" => calculation(Calculation::Multiply, 5),
            "/" => calculation(Calculation::Divide, 5),
            "%" => calculation(Calculation::Remainder, 5),
            _ => None,
        }
    }

    /// Reads what stands between operators: a value, its fields and elements, and the `!` or `-` before it.
    fn operand(&mut self) -> Parsed<Expr<'s>> {
        match self.token.kind {
            Kind::Sign(sign @ ("!" | "-")) => self.signed(sign),
            _ => self.member(),
        }
    }

    /// Reads an operand after signs of one kind, of which two cancel out.
    fn signed(&mut self, sign: &'static str) -> Parsed<Expr<'s>> {
        let at = self.token.at;
        let mut signs = 0;
        while self.takes(sign)? {
            signs += 1;
        }
        // One minus before a number belongs to the number.
        if sign == "-" && signs == 1 && matches!(self.token.kind, Kind::Int(_) | Kind::Double(_)) {
            let number = self.number(at, "-")?;
            return self.rest_of(number);
        }
        let of = self.member()?;
        if signs % 2 == 0 {
            return Ok(of);
        }
        let (height, of) = (of.height, Box::new(of));
        grown(at, [height], if sign == "!" { Part::Not(of) } else { Part::Negate(of) })
    }

    fn member(&mut self) -> Parsed<Expr<'s>> {
        let value = self.value()?;
        self.rest_of(value)
    }

    /// Reads the fields, elements and methods after a value.
    fn rest_of(&mut self, mut of: Expr<'s>) -> Parsed<Expr<'s>> {
        loop {
            of = match self.token.kind {
                Kind::Sign(".") => self.field_or_method(of)?,
                Kind::Sign("[") => self.element(of)?,
                Kind::Sign("{") if matches!(of.part, Part::Name(_) | Part::Field(..)) => return Err(self.message()),
                _ => return Ok(of),
            };
        }
    }

    fn element(&mut self, of: Expr<'s>) -> Parsed<Expr<'s>> {
        let at = self.token.at;
        self.advance()?;
        self.refuse_optional(at, "[?")?;
        let key = self.expression()?;
        self.demand("]", "an operator or `]`")?;
        grown(at, [of.height, key.height], Part::Index(Box::new([of, key])))
    }

    fn message(&self) -> Box<Fault> {
        Fault::new(self.token.at, "messages are not supported").with_cure("write a map as {\"name\": value}")
    }

    fn field_or_method(&mut self, of: Expr<'s>) -> Parsed<Expr<'s>> {
        let dot = self.token.at;
        self.advance()?;
        self.refuse_optional(dot, ".?")?;
        let at = self.token.at;
        let Kind::Name(name) = self.token.kind else { return Err(self.unexpected("the name of a field")) };
        self.advance()?;
        let height = of.height;
        if self.takes("(")? {
            return self.call(at, name, Some(of));
        }
        grown(at, [height], Part::Field(Box::new(of), name))
    }

    fn refuse_optional(&self, at: usize, sign: &str) -> Parsed<()> {
        if self.looks_at("?") {
            let fault = Fault::new(at, format!("`{sign}` is not supported"));
            return Err(fault.with_cure("ask with has(…), as has(token.claims.oid) ? token.claims.oid : \"none\""));
        }
        Ok(())
    }

    /// Reads the arguments of a call, up to its closing parenthesis.
    fn call(&mut self, at: usize, name: &'s str, on: Option<Expr<'s>>) -> Parsed<Expr<'s>> {
        let mut arguments = Vec::new();
        if !self.takes(")")? {
            loop {
                arguments.push(self.expression()?);
                if !self.takes(",")? {
                    break;
                }
            }
            self.demand(")", "an operator, `,` or `)`")?;
        }
        let heights: Vec<_> = on.iter().chain(&arguments).map(|expr| expr.height).collect();
        grown(at, heights, Part::Call(Box::new(Call { on, name, arguments })))
    }

    fn value(&mut self) -> Parsed<Expr<'s>> {
        let at = self.token.at;
        match &mut self.token.kind {
            Kind::Name(name) => {
                let name = *name;
                self.name(at, name)
            }
            Kind::Text(text) => {
                let text = std::mem::take(text);
                self.advance()?;
                Ok(leaf(at, Part::Text(text)))
            }
            Kind::Int(_) | Kind::Double(_) => self.number(at, ""),
            Kind::Sign(sign) => {
                let sign = *sign;
                self.value_of_sign(at, sign)
            }
            Kind::End => Err(self.unexpected("a value")),
        }
    }

    fn value_of_sign(&mut self, at: usize, sign: &str) -> Parsed<Expr<'s>> {
        match sign {
            "true" | "false" => {
                self.advance()?;
                Ok(leaf(at, Part::Bool(sign == "true")))
            }
            "null" => Err(Fault::new(at, "nothing is ever null here: what is null is absent")
                .with_cure("ask with has(…), as has(token.claims.oid)")),
            "(" => self.bracketed(),
            "[" => {
                self.advance()?;
                self.list(at)
            }
            "{" => {
                self.advance()?;
                self.map(at)
            }
            // After `!`, where a number may still have its sign.
            "-" => {
                self.advance()?;
                self.number(at, "-")
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn bracketed(&mut self) -> Parsed<Expr<'s>> {
        self.advance()?;
        let expr = self.expression()?;
        self.demand(")", "an operator or `)`")?;
        Ok(expr)
    }

    fn name(&mut self, at: usize, name: &'s str) -> Parsed<Expr<'s>> {
        if KEPT.contains(&name) {
            return Err(Fault::new(at, format!("`{name}` is a word that is kept for later")).with_cure("choose another name"));
        }
        self.advance()?;
        if self.takes("(")? { self.call(at, name, None) } else { Ok(leaf(at, Part::Name(name))) }
    }

    /// Reads a number after its sign.
    fn number(&mut self, at: usize, sign: &str) -> Parsed<Expr<'s>> {
        let part = match self.token.kind {
            Kind::Int(written) => {
                let (digits, radix) = written.strip_prefix("0x").map_or((written, 10), |digits| (digits, 16));
                i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(Part::Int)
            }
            Kind::Double(written) => {
                let number = format!("{sign}{written}").parse().ok();
                number.filter(|number: &f64| number.is_finite()).map(Part::Double)
            }
            _ => return Err(self.unexpected("a number")),
        };
        let Some(part) = part else {
            let cure = format!("whole numbers go from {} to {}", i64::MIN, i64::MAX);
            return Err(Fault::new(at, "a number is too large").with_cure(cure));
        };
        self.advance()?;
        Ok(leaf(at, part))
    }

    fn list(&mut self, at: usize) -> Parsed<Expr<'s>> {
        let elements = self.listed("]", "an operator, `,` or `]`", Self::expression)?;
        let heights: Vec<_> = elements.iter().map(|element| element.height).collect();
        grown(at, heights, Part::List(elements))
    }

    fn map(&mut self, at: usize) -> Parsed<Expr<'s>> {
        let entries = self.listed("}", "an operator, `,` or `}`", |parser| {
            let name = parser.expression()?;
            parser.demand(":", "an operator or `:`")?;
            Ok((name, parser.expression()?))
        })?;
        let heights: Vec<_> = entries.iter().flat_map(|(name, value)| [name.height, value.height]).collect();
        grown(at, heights, Part::Map(entries))
    }

    /// Reads what stands between commas, up to the closing bracket; a comma may stand before it.
    fn listed<T>(&mut self, close: &'static str, expected: &str, mut one: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = Vec::new();
        if !self.looks_at(",") {
            while !self.looks_at(close) {
                all.push(one(self)?);
                if !self.takes(",")? {
                    break;
                }
            }
        } else {
            self.advance()?;
        }
        self.demand(close, expected)?;
        Ok(all)
    }

    fn looks_at(&self, sign: &str) -> bool {
        matches!(self.token.kind, Kind::Sign(found) if found == sign)
    }

    fn takes(&mut self, sign: &str) -> Parsed<bool> {
        let found = self.looks_at(sign);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn demand(&mut self, sign: &str, expected: &str) -> Parsed<()> {
        if self.takes(sign)? { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn advance(&mut self) -> Parsed<()> {
        self.token = self.tokens.next()?;
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> Box<Fault> {
        let found = match &self.token.kind {
            Kind::End => return Fault::new(self.token.at, format!("the expression ends where {expected} is expected")),
            Kind::Text(_) => "a text".to_owned(),
            Kind::Sign(found) | Kind::Name(found) | Kind::Int(found) | Kind::Double(found) => format!("`{found}`"),
        };
        let fault = Fault::new(self.token.at, format!("{found} stands where {expected} is expected"));
        match self.token.kind {
            Kind::Name("and" | "AND") => fault.with_cure("write `&&`"),
            Kind::Name("or" | "OR") => fault.with_cure("write `||`"),
            _ => fault,
        }
    }
}

#[derive(Clone, Copy)]
enum Joint {
    Logic(Logic),
    Operator(Operator),
}

#[cold]
fn too_deep(at: usize, what: &str, most: usize) -> Box<Fault> {
    Fault::new(at, format!("{what} more than {most} deep")).with_cure("write it flatter")
}

fn leaf(at: usize, part: Part<'_>) -> Expr<'_> {
    Expr { at, height: 1, part }
}

/// Returns a part above others of these heights.
fn grown(at: usize, below: impl IntoIterator<Item = usize>, part: Part<'_>) -> Parsed<Expr<'_>> {
    let height = 1 + below.into_iter().max().unwrap_or(0);
    if height > TALLEST {
        return Err(too_deep(at, "nested", limits::DEPTH));
    }
    Ok(Expr { at, height, part })
}

/// Returns both sides of an operator as one part.
fn joined<'s>(joint: Joint, at: usize, left: Expr<'s>, right: Expr<'s>) -> Parsed<Expr<'s>> {
    match joint {
        Joint::Logic(logic) => chained(logic, at, left, right),
        Joint::Operator(operator) => grown(at, [left.height, right.height], Part::Binary(operator, Box::new([left, right]))),
    }
}

/// Returns both sides of a logical operator as one chain.
fn chained<'s>(logic: Logic, sign: usize, left: Expr<'s>, right: Expr<'s>) -> Parsed<Expr<'s>> {
    let mut at = sign;
    let mut operands = match left {
        Expr { part: Part::Chain(same, operands), at: first, .. } if same == logic => {
            at = first;
            operands
        }
        left => vec![left],
    };
    match right {
        Expr { part: Part::Chain(same, more), .. } if same == logic => operands.extend(more),
        right => operands.push(right),
    }
    let heights: Vec<_> = operands.iter().map(|operand| operand.height).collect();
    grown(at, heights, Part::Chain(logic, operands))
}

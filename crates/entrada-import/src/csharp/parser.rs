//! The parser: precedence climbing over tokens.

use super::{
    Code, DEEPEST, Expr, ExprKind, LONGEST, Refusal,
    lexer::{self, Token},
};

/// Types that casts and generic calls name.
const TYPES: &[&str] = &[
    "string",
    "String",
    "bool",
    "Boolean",
    "int",
    "Int32",
    "Int64",
    "long",
    "double",
    "decimal",
    "float",
    "object",
    "char",
    "byte",
    "Guid",
    "DateTime",
    "DateTimeOffset",
    "TimeSpan",
    "Jwt",
    "IResponse",
    "JObject",
    "JToken",
    "JArray",
    "JProperty",
    "JValue",
    "XElement",
    "XDocument",
    "XNode",
    "Uri",
    "Dictionary",
    "IDictionary",
    "List",
    "IEnumerable",
    "KeyValuePair",
    "Authorization",
    "BasicAuthCredentials",
    "byte[]",
    "Exception",
    "IUrl",
    "System",
];

/// The most operands of one precedence in a row.
const LONGEST_CHAIN: usize = 200;

/// Binary operators by precedence, the weakest first; `??` and `?:` are weaker.
const OPERATORS: &[&[&str]] = &[&["||"], &["&&"], &["==", "!="], &["<", ">", "<=", ">="], &["+", "-"], &["*", "/", "%"]];

/// Reads `@(…)` or `@{…}`.
///
/// # Errors
/// Fails with the reason if the code is not in the part of C# that is read.
pub fn parse(text: &str) -> Result<Code, Refusal> {
    if text.len() > LONGEST {
        return Err(Refusal::new("unparsable", "the expression is too long", 0));
    }
    let inner = text.get(2..text.len().saturating_sub(1)).unwrap_or_default();
    let is_block = text.starts_with("@{") && text.ends_with('}');
    let is_expression = text.starts_with("@(") && text.ends_with(')');
    if !is_block && !is_expression {
        return Err(Refusal::new("unparsable", "the first bracket is never closed, or something follows the last one", 0));
    }
    let mut parser = Parser { tokens: lexer::tokens(inner, 2, 0)?, at: 0, depth: 0 };
    if is_block {
        return parser.block().map(Code::Block);
    }
    let expr = parser.expression()?;
    parser.expect_end()?;
    Ok(Code::Expression(expr))
}

/// Reads the expression of a hole in an interpolated string.
pub(super) fn hole(text: &str, offset: usize, nesting: usize) -> Result<Expr, Refusal> {
    if nesting > DEEPEST / 4 {
        return Err(Refusal::new("unparsable", "texts are nested too deeply", offset));
    }
    let mut parser = Parser { tokens: lexer::tokens(text, offset, nesting)?, at: 0, depth: nesting };
    let expr = parser.expression()?;
    if parser.is(":") || parser.is(",") {
        return Err(Refusal::new("member format", "a format or an alignment within a text is not translated", parser.place()));
    }
    parser.expect_end()?;
    Ok(expr)
}

pub(super) struct Parser {
    tokens: Vec<(Token, usize)>,
    pub(super) at: usize,
    depth: usize,
}

impl Parser {
    pub(super) fn peek(&self) -> &Token {
        self.ahead(0)
    }

    pub(super) fn ahead(&self, by: usize) -> &Token {
        self.tokens.get(self.at + by).map_or(&Token::End, |(token, _)| token)
    }

    pub(super) fn place(&self) -> usize {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |(_, place)| *place)
    }

    pub(super) fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(own) if *own == sign)
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(own) if own == word)
    }

    pub(super) fn accept(&mut self, sign: &str) -> bool {
        let accepted = self.is(sign);
        self.at += usize::from(accepted);
        accepted
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<(), Refusal> {
        if self.accept(sign) { Ok(()) } else { Err(self.unparsable(format!("`{sign}` is missing"))) }
    }

    pub(super) fn expect_end(&self) -> Result<(), Refusal> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unparsable("something follows the expression")) }
    }

    pub(super) fn unparsable(&self, reason: impl Into<String>) -> Refusal {
        Refusal::new("unparsable", reason, self.place())
    }

    pub(super) fn take_name(&mut self) -> Option<String> {
        let Token::Name(name) = self.peek() else { return None };
        let name = name.clone();
        self.at += 1;
        Some(name)
    }

    /// Goes one level deeper; the depth is bounded.
    pub(super) fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.depth >= DEEPEST {
            return Err(self.unparsable("the expression is nested too deeply"));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    pub(super) fn expression(&mut self) -> Result<Expr, Refusal> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expr, Refusal> {
        if let (Token::Name(name), Token::Sign("=>")) = (self.peek(), self.ahead(1)) {
            let (name, at) = (name.clone(), self.place());
            self.at += 2;
            if self.is("{") {
                return Err(Refusal::new("statement", "a function with statements is not translated", at));
            }
            let body = self.expression()?;
            return Ok(expr(ExprKind::Lambda(name, body), at));
        }
        let condition = self.coalesce()?;
        if !self.accept("?") {
            return Ok(condition);
        }
        let then = self.expression()?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        let at = condition.at;
        Ok(expr(ExprKind::Conditional(condition, then, otherwise), at))
    }

    fn coalesce(&mut self) -> Result<Expr, Refusal> {
        let left = self.binary(0)?;
        if !self.accept("??") {
            return Ok(left);
        }
        let right = self.deeper(Self::coalesce)?;
        let at = left.at;
        Ok(expr(ExprKind::Binary("??", left, right), at))
    }

    fn binary(&mut self, level: usize) -> Result<Expr, Refusal> {
        let Some(operators) = OPERATORS.get(level) else { return self.deeper(Self::unary) };
        let mut left = self.binary(level + 1)?;
        for _ in 0..LONGEST_CHAIN {
            if level == 3 && (self.is_word("is") || self.is_word("as")) {
                left = self.type_test(left)?;
                continue;
            }
            let Token::Sign(sign) = self.peek() else { return Ok(left) };
            let Some(operator) = operators.iter().find(|operator| *operator == sign) else { return Ok(left) };
            self.at += 1;
            let right = self.binary(level + 1)?;
            let at = left.at;
            left = expr(ExprKind::Binary(operator, left, right), at);
        }
        Err(self.unparsable("the expression is too long"))
    }

    /// Reads `is null`, `is not null` or `as T`.
    fn type_test(&mut self, left: Expr) -> Result<Expr, Refusal> {
        let at = self.place();
        let is_cast = self.is_word("as");
        self.at += 1;
        if is_cast {
            let name = self.type_name().ok_or_else(|| self.unparsable("a type is missing"))?;
            return Ok(expr(ExprKind::Cast(name, left), at));
        }
        let negated = self.is_word("not");
        self.at += usize::from(negated);
        if !self.is_word("null") {
            return Err(Refusal::new("member is", "a test of a type is not translated", at));
        }
        self.at += 1;
        Ok(expr(ExprKind::Binary(if negated { "!=" } else { "==" }, left, expr(ExprKind::Null, at)), at))
    }

    fn unary(&mut self) -> Result<Expr, Refusal> {
        let at = self.place();
        for (sign, letter) in [("!", '!'), ("-", '-'), ("+", '+')] {
            if self.accept(sign) {
                let operand = self.deeper(Self::unary)?;
                return Ok(if letter == '+' { operand } else { expr(ExprKind::Unary(letter, operand), at) });
            }
        }
        if let Some(name) = self.cast() {
            let operand = self.deeper(Self::unary)?;
            return Ok(expr(ExprKind::Cast(name, operand), at));
        }
        self.postfix()
    }

    /// Reads `(T)` if a cast begins here: a known type, and behind it the begin of an operand.
    fn cast(&mut self) -> Option<String> {
        let start = self.at;
        let name = self.accept("(").then(|| self.type_name()).flatten();
        let is_cast = name.is_some()
            && self.accept(")")
            && match self.peek() {
                Token::Sign(sign) => matches!(*sign, "(" | "!"),
                Token::End => false,
                Token::Name(name) => !matches!(name.as_str(), "is" | "as"),
                _ => true,
            };
        if !is_cast {
            self.at = start;
            return None;
        }
        name
    }

    /// Reads a type, such as `string`, `List<string>` or `int?`.
    pub(super) fn type_name(&mut self) -> Option<String> {
        let start = self.at;
        let mut name = self.take_name()?;
        while self.is(".") && matches!(self.ahead(1), Token::Name(_)) {
            self.at += 1;
            name = self.take_name()?;
        }
        if !TYPES.contains(&name.as_str()) {
            self.at = start;
            return None;
        }
        if self.accept("<") {
            loop {
                let inner = self.type_name();
                if inner.is_none() {
                    self.at = start;
                    return None;
                }
                if !self.accept(",") {
                    break;
                }
            }
            if !self.accept(">") {
                self.at = start;
                return None;
            }
            name.push_str("<>");
        }
        if self.is("[") && matches!(self.ahead(1), Token::Sign("]")) {
            self.at += 2;
            name.push_str("[]");
        }
        // `int?` and not `a ? b : c`.
        if self.is("?") && matches!(self.ahead(1), Token::Sign(")" | ">" | ",")) {
            self.at += 1;
            name.push('?');
        }
        Some(name)
    }

    fn postfix(&mut self) -> Result<Expr, Refusal> {
        let mut of = self.primary()?;
        let mut length = 0;
        loop {
            let at = self.place();
            length += 1;
            if length > DEEPEST {
                return Err(self.unparsable("the expression is nested too deeply"));
            }
            let conditional = self.is("?.");
            if conditional || self.is(".") {
                self.at += 1;
                let name = self.take_name().ok_or_else(|| self.unparsable("a name is missing behind `.`"))?;
                of = expr(ExprKind::Member { of, name, conditional }, at);
                let types = self.generic_arguments();
                if self.is("(") {
                    of = self.call(of, types)?;
                } else if !types.is_empty() {
                    return Err(self.unparsable("`(` is missing"));
                }
            } else if self.is("?[") || self.is("[") {
                let conditional = self.is("?[");
                self.at += 1;
                let index = self.expression()?;
                self.expect("]")?;
                of = expr(ExprKind::Index { of, index, conditional }, at);
            } else if self.is("(") {
                of = self.call(of, Vec::new())?;
            } else if self.is("++") || self.is("--") || self.is("=") || self.is("+=") || self.is("-=") {
                return Err(Refusal::new("statement", "an assignment is not translated", at));
            } else {
                return Ok(of);
            }
        }
    }

    /// Reads `<T>` if `(` follows it.
    fn generic_arguments(&mut self) -> Vec<String> {
        let start = self.at;
        let mut types = Vec::new();
        if self.accept("<") {
            while let Some(name) = self.type_name() {
                types.push(name);
                if !self.accept(",") {
                    break;
                }
            }
            if !types.is_empty() && self.accept(">") && self.is("(") {
                return types;
            }
        }
        self.at = start;
        Vec::new()
    }

    fn call(&mut self, function: Expr, types: Vec<String>) -> Result<Expr, Refusal> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.is(")") {
            // `name: value`; the name is not needed where the function has one order.
            if matches!((self.peek(), self.ahead(1)), (Token::Name(_), Token::Sign(":"))) {
                self.at += 2;
            }
            if self.is_word("out") || self.is_word("ref") {
                return Err(Refusal::new("statement", "a call with `out` is not translated", self.place()));
            }
            arguments.push(self.expression()?);
            if !self.accept(",") {
                break;
            }
        }
        self.expect(")")?;
        let at = function.at;
        Ok(expr(ExprKind::Call { function, types, arguments }, at))
    }

    fn primary(&mut self) -> Result<Expr, Refusal> {
        let at = self.place();
        let token = self.peek().clone();
        self.at += 1;
        let kind = match token {
            Token::Int(number) => ExprKind::Int(number),
            Token::Fraction(number) => ExprKind::Fraction(number),
            Token::Text(pieces) => ExprKind::Text(pieces),
            Token::Named(name) => ExprKind::Named(name),
            Token::Name(name) => match name.as_str() {
                "true" => ExprKind::Bool(true),
                "false" => ExprKind::Bool(false),
                "null" => ExprKind::Null,
                "new" => return self.creation(at),
                "throw" | "await" | "typeof" | "nameof" | "default" => {
                    return Err(Refusal::new("statement", format!("`{name}` is not translated"), at));
                }
                _ => ExprKind::Name(name),
            },
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign(sign) => {
                self.at -= 1;
                return Err(self.unparsable(format!("`{sign}` stands where a value is expected")));
            }
            Token::End => {
                self.at -= 1;
                return Err(self.unparsable("a value is missing"));
            }
        };
        Ok(expr(kind, at))
    }

    /// Reads what follows `new`.
    fn creation(&mut self, at: usize) -> Result<Expr, Refusal> {
        let mut name = String::new();
        while let Some(part) = self.take_name() {
            name = part;
            if !self.accept(".") {
                break;
            }
        }
        let is_text = matches!(name.as_str(), "" | "string" | "String" | "char" | "int");
        let is_array = self.is("[") && matches!(self.ahead(1), Token::Sign("]"));
        if is_text && is_array && matches!(self.ahead(2), Token::Sign("{")) {
            self.at += 3;
            return self.elements(at);
        }
        if matches!(name.as_str(), "List" | "HashSet") && self.generic_list() {
            return self.elements(at);
        }
        if matches!(name.as_str(), "List" | "HashSet")
            && let Some(list) = self.copied_list()?
        {
            return Ok(list);
        }
        // Refused by its name, wherever it ends.
        if name.is_empty() {
            return Err(self.unparsable("a type is missing behind `new`"));
        }
        Err(Refusal::new("type", format!("`new {name}` is not translated"), at))
    }

    /// Reads `<string> {` or `<string>() {`.
    fn generic_list(&mut self) -> bool {
        let start = self.at;
        let is_list = self.accept("<") && self.type_name().is_some() && self.accept(">");
        if is_list && self.accept("(") && !self.accept(")") {
            self.at = start;
            return false;
        }
        if is_list && self.accept("{") {
            return true;
        }
        self.at = start;
        false
    }

    /// Reads `<string>(list)`, which is the list.
    fn copied_list(&mut self) -> Result<Option<Expr>, Refusal> {
        let start = self.at;
        let is_copy = self.accept("<") && self.type_name().is_some() && self.accept(">") && self.accept("(") && !self.is(")");
        if !is_copy {
            self.at = start;
            return Ok(None);
        }
        let list = self.expression()?;
        self.expect(")")?;
        Ok(Some(list))
    }

    pub(super) fn elements(&mut self, at: usize) -> Result<Expr, Refusal> {
        let mut elements = Vec::new();
        while !self.is("}") {
            elements.push(self.expression()?);
            if !self.accept(",") {
                break;
            }
        }
        self.expect("}")?;
        Ok(expr(ExprKind::Array(elements), at))
    }
}

pub(super) fn expr(kind: ExprKind, at: usize) -> Expr {
    Expr { kind: Box::new(kind), at }
}

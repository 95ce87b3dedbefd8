//! Statements of `@{…}`: declarations, assignments, `if` and `return`.

use super::{Refusal, Statement, lexer::Token, parser::Parser};

/// Statements that are refused by name.
const REFUSED: &[&str] =
    &["for", "foreach", "while", "do", "switch", "try", "using", "throw", "const", "lock", "break", "continue", "goto", "yield"];

impl Parser {
    /// Reads statements up to the end.
    pub(super) fn block(&mut self) -> Result<Vec<Statement>, Refusal> {
        let statements = self.statements()?;
        self.expect_end()?;
        Ok(statements)
    }

    fn statements(&mut self) -> Result<Vec<Statement>, Refusal> {
        let mut statements = Vec::new();
        while *self.peek() != Token::End && !self.is("}") {
            if self.accept(";") {
                continue;
            }
            self.deeper(|parser| parser.statement(&mut statements))?;
        }
        Ok(statements)
    }

    /// Reads one statement, or several in braces.
    fn body(&mut self) -> Result<Vec<Statement>, Refusal> {
        if self.accept("{") {
            let statements = self.statements()?;
            self.expect("}")?;
            return Ok(statements);
        }
        let mut statements = Vec::new();
        self.deeper(|parser| parser.statement(&mut statements))?;
        Ok(statements)
    }

    fn statement(&mut self, statements: &mut Vec<Statement>) -> Result<(), Refusal> {
        let at = self.place();
        if self.is("{") {
            let inner = self.body()?;
            statements.extend(inner);
            return Ok(());
        }
        if let Token::Name(word) = self.peek()
            && REFUSED.contains(&word.as_str())
        {
            return Err(Refusal::new("statement", format!("`{word}` is not translated"), at));
        }
        if self.is_word("return") {
            self.at += 1;
            let value = self.expression()?;
            self.expect(";")?;
            statements.push(Statement::Return(value));
            return Ok(());
        }
        if self.is_word("if") {
            statements.push(self.condition()?);
            return Ok(());
        }
        if let Some(declared) = self.declaration() {
            return self.declarations(&declared, statements);
        }
        if let (Token::Name(name), Token::Sign(sign @ ("=" | "+="))) = (self.peek(), self.ahead(1)) {
            let (name, adds) = (name.clone(), *sign == "+=");
            self.at += 2;
            let value = self.expression()?;
            self.expect(";")?;
            let value = if adds {
                let own = super::parser::expr(super::ExprKind::Name(name.clone()), at);
                super::parser::expr(super::ExprKind::Binary("+", own, value), at)
            } else {
                value
            };
            statements.push(Statement::Assign { name, declared: None, value: Some(value) });
            return Ok(());
        }
        // A call as a statement has an effect, which nothing here could have.
        self.expression()?;
        Err(Refusal::new("statement", "a call that stands by itself is not translated", at))
    }

    /// Reads the type of a declaration, if one begins here.
    fn declaration(&mut self) -> Option<String> {
        let start = self.at;
        let declared = if self.is_word("var") { self.take_name() } else { self.type_name() };
        // `string[] a` and `int? a` have been read with the type.
        if self.is("?") {
            self.at += 1;
        }
        let is_one =
            declared.is_some() && matches!(self.peek(), Token::Name(_)) && matches!(self.ahead(1), Token::Sign("=" | ";" | ","));
        if is_one {
            return declared;
        }
        self.at = start;
        None
    }

    fn declarations(&mut self, declared: &str, statements: &mut Vec<Statement>) -> Result<(), Refusal> {
        loop {
            let name = self.take_name().ok_or_else(|| self.unparsable("a name is missing"))?;
            let value = match (self.accept("="), self.is("{")) {
                // `string[] a = { "b" };`
                (true, true) => {
                    let at = self.place();
                    self.at += 1;
                    Some(self.elements(at)?)
                }
                (true, false) => Some(self.expression()?),
                (false, _) => None,
            };
            statements.push(Statement::Assign { name, declared: Some(declared.to_owned()), value });
            if !self.accept(",") {
                break;
            }
        }
        self.expect(";")
    }

    fn condition(&mut self) -> Result<Statement, Refusal> {
        self.at += 1;
        self.expect("(")?;
        let condition = self.expression()?;
        self.expect(")")?;
        let then = self.body()?;
        let otherwise = if self.is_word("else") {
            self.at += 1;
            self.body()?
        } else {
            Vec::new()
        };
        Ok(Statement::If { condition, then, otherwise })
    }
}

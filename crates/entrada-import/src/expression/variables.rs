//! Variables: what reading one means at its place.

use super::{
    Holds, Kind, Translator,
    value::{Cel, Object, Plain, Value},
};
use crate::{
    csharp::{Expr, Refusal},
    report::Verdict,
};

impl Translator<'_> {
    /// Reads a variable that must be there.
    pub(super) fn variable(&mut self, name: &str, at: usize) -> Result<Value, Refusal> {
        let Some(variable) = self.scope.variables.get(name) else {
            return Err(unset(name, at));
        };
        match &variable.holds {
            Holds::Value => {}
            // Without its policy there is no token, and no claim of it would be there to refuse by.
            Holds::Token(_) if variable.unset => {
                let reason = format!("`{name}` holds a token, which is not validated on every way that leads here");
                return Err(Refusal::new("unverified-token", reason, at));
            }
            Holds::Token(token) => return Ok(Value::Object(Object::Jwt(token.clone()))),
            Holds::ManagedIdentity { .. } => {
                let reason = format!("`{name}` holds a token of the gateway's identity, which only `authorization` sends");
                return Err(Refusal::new("managed-identity", reason, at));
            }
            Holds::Nothing(refusal) => return Err(poisoned(name, refusal, at)),
        }
        let cel = Cel::primary(format!("variables.{}", variable.name));
        let has = cel.call("has", &[]);
        Ok(Value::Plain(Plain {
            present: variable.null.then(|| has.clone()),
            null_test: (variable.unset || variable.null).then_some(has),
            untyped: true,
            ..Plain::new(cel, variable.kind)
        }))
    }

    /// Reads a variable, or a default where it was not set.
    pub(super) fn variable_or(
        &mut self,
        name: &str,
        default: Option<&Expr>,
        kind: Option<Kind>,
        at: usize,
    ) -> Result<Value, Refusal> {
        if !self.scope.variables.contains_key(name) && self.scope.constants.is_single {
            return Err(unset(name, at));
        }
        let default = match (default, kind) {
            (Some(default), _) => self.value(default)?,
            (None, Some(Kind::Bool)) => Value::Plain(Plain::bool(Cel::primary("false"))),
            (None, Some(Kind::Int)) => Value::Plain(Plain::new(Cel::primary("0"), Kind::Int)),
            (None, _) => Value::Null,
        };
        if !self.scope.variables.contains_key(name) {
            self.remark(
                Verdict::Note,
                "variable-never-set",
                "no policy before sets the variable: the default is written in its place",
            );
            return Ok(default);
        }
        let value = match self.variable(name, at)? {
            Value::Plain(plain) => plain,
            other => return Ok(other),
        };
        let Some(present) = value.null_test.clone() else { return Ok(Value::Plain(Plain { untyped: false, ..value })) };
        let value = Plain { present: None, null_test: None, untyped: false, ..value };
        match default {
            Value::Null => Ok(Value::Plain(Plain { present: Some(present), ..value })),
            default => self.conditional(&present, Value::Plain(value), default, at),
        }
    }

    /// Asks whether a variable is set.
    pub(super) fn has_variable(&mut self, name: &str, at: usize) -> Result<Cel, Refusal> {
        let Some(variable) = self.scope.variables.get(name) else {
            if self.scope.constants.is_single {
                return Err(unset(name, at));
            }
            return Ok(Cel::primary("false"));
        };
        match &variable.holds {
            Holds::Value if variable.unset || variable.null => Ok(Cel::primary(format!("has(variables.{})", variable.name))),
            Holds::Value | Holds::Token(_) if !variable.unset => Ok(Cel::primary("true")),
            Holds::Nothing(refusal) => Err(poisoned(name, refusal, at)),
            _ => Err(Refusal::new("managed-identity", format!("`{name}` holds a token, which may not have been set"), at)),
        }
    }
}

fn unset(name: &str, at: usize) -> Refusal {
    Refusal::new(
        "variable-not-set",
        format!("no policy before sets `{name}`: import the document that does together with this one"),
        at,
    )
}

fn poisoned(name: &str, refusal: &Refusal, at: usize) -> Refusal {
    let code = match refusal.code {
        "body" | "variable-of-body" => "variable-of-body",
        code => code,
    };
    Refusal::new(code, format!("`{name}` is not translated: {}", refusal.reason), at)
}

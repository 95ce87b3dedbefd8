//! Calls: of functions of types, of members of the context, of methods of texts.

use super::{
    Kind, Translator,
    context::{known_key, object_name, path},
    operators::is_error,
    value::{Cel, Object, Plain, Value, literal},
};
use crate::{
    csharp::{Expr, ExprKind, Refusal},
    report::Verdict,
};

impl Translator<'_> {
    pub(super) fn call(&mut self, function: &Expr, types: &[String], arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        let ExprKind::Member { of, name, conditional } = &*function.kind else {
            return Err(Refusal::new("member", "a function without a name is called", at));
        };
        // `x.AsJwt()` of any text is the token that a policy before has accepted, if it was read from the same field.
        if name == "AsJwt" {
            return self.as_jwt(of, at);
        }
        let receiver = self.value(of)?;
        match receiver {
            Value::Object(Object::Type(outer)) => self.static_call(&outer, name, arguments, at),
            Value::Object(object) => self.object_call(&object, name, types, arguments, at),
            Value::Plain(plain) => self.method(plain, name, arguments, *conditional, at),
            Value::Null => Err(Refusal::new("type", "a method of null is called, which fails there", at)),
        }
    }

    fn object_call(
        &mut self,
        of: &Object,
        name: &str,
        types: &[String],
        arguments: &[Expr],
        at: usize,
    ) -> Result<Value, Refusal> {
        if name == "GetValueOrDefault" {
            return self.value_or_default(of, types, arguments, at);
        }
        if name == "ContainsKey" {
            let [key] = arguments else { return Err(arity(name, at)) };
            let key = known_key(Self::literal_text(key), key)?;
            return self.contains_key(of, &key, at).map(|cel| Value::Plain(Plain::bool(cel)));
        }
        match (of, name) {
            (Object::Groups, "Select") => Ok(Value::Object(Object::Groups)),
            (Object::Groups | Object::User, _) => Err(Refusal::new(
                "portal-user",
                "it reads groups of the developer portal: use a role or a group of the token",
                at,
            )),
            (Object::Url { original }, "ToString" | "ToUri") => Ok(Value::Object(Object::Url { original: *original })),
            (Object::ServiceUrl, "ToString") => self.object_value(of, at).map(Value::Plain),
            (Object::Bytes(_), _) => Err(Refusal::new("crypto", "it computes with bytes", at)),
            (of, "Equals") if is_error(of) => {
                let text = arguments.first().and_then(Self::literal_text).ok_or_else(|| arity(name, at))?;
                self.error_is(of, &text, at).map(|cel| Value::Plain(Plain::bool(cel)))
            }
            (Object::ClaimValues(token, claim), "Contains") if arguments.len() == 1 => {
                let value = self.text_cel(&arguments[0])?;
                let values = path(&format!("{token}.claims"), claim).call("values", &[]);
                Ok(Value::Plain(Plain::bool(value.relation("in", &values))))
            }
            (Object::HeaderValues { .. } | Object::QueryValues(_) | Object::ClaimValues(..), _) => {
                let list = self.object_list(of, at)?;
                self.method(list, name, arguments, false, at)
            }
            (Object::LastErrorReason | Object::LastErrorSource, _) => {
                let plain = self.object_value(of, at)?;
                self.method(plain, name, arguments, false, at)
            }
            (Object::Request | Object::Response, _) => Err(Refusal::new("member", format!("`{name}` is not translated"), at)),
            (other, name) => Err(Refusal::new("member", format!("`{}.{name}()` is not translated", object_name(other)), at)),
        }
    }

    /// Translates `GetValueOrDefault(key, default)`.
    fn value_or_default(&mut self, of: &Object, types: &[String], arguments: &[Expr], at: usize) -> Result<Value, Refusal> {
        let (key, default) = match arguments {
            [key] => (key, None),
            [key, default] => (key, Some(default)),
            _ => return Err(arity("GetValueOrDefault", at)),
        };
        let key = known_key(Self::literal_text(key), key)?;
        let kind = match types.first().map(|name| name.trim_end_matches('?')) {
            Some("string" | "String") => Some(Kind::Text),
            Some("bool" | "Boolean") => Some(Kind::Bool),
            Some("int" | "Int32" | "long" | "Int64") => Some(Kind::Int),
            Some("IResponse") => {
                return Err(Refusal::new("sub-request", "it reads the response of a request that the policy made", at));
            }
            Some("JObject" | "JToken" | "JArray") => return Err(Refusal::new("body", "it reads or makes JSON", at)),
            _ => None,
        };
        let value = match of {
            Object::Variables => return self.variable_of_kind(&key, default, kind, at),
            Object::Headers { response } => {
                let path = self.field(*response, &key, at)?;
                Plain::nullable(path.clone(), Kind::Text, path.call("has", &[]))
            }
            Object::Query => {
                let path = self.parameter(&key, at)?;
                Plain::nullable(path.clone(), Kind::Text, path.call("has", &[]))
            }
            Object::MatchedParameters => self.matched_parameter(&key),
            Object::Claims(token) => {
                let path = path(&format!("{token}.claims"), &key);
                let joined = Cel::primary(format!("join({}.map(v, string(v)), ',')", path.call("values", &[]).text));
                Plain::nullable(joined, Kind::Text, path.call("has", &[]))
            }
            other => return Err(Refusal::new("member", format!("`{}` has no `GetValueOrDefault`", object_name(other)), at)),
        };
        match (default, value.present.clone()) {
            (None, _) => Ok(Value::Plain(value)),
            (Some(_), None) => Ok(Value::Plain(value)),
            (Some(default), Some(present)) => {
                let default = self.value(default)?;
                if matches!(default, Value::Null) {
                    return Ok(Value::Plain(value));
                }
                self.conditional(&present, Value::Plain(Plain { present: None, ..value }), default, at)
            }
        }
    }

    fn variable_of_kind(&mut self, key: &str, default: Option<&Expr>, kind: Option<Kind>, at: usize) -> Result<Value, Refusal> {
        let value = self.variable_or(key, default, kind, at)?;
        if let (Value::Plain(plain), Some(kind)) = (&value, kind)
            && plain.kind != kind
            && plain.kind != Kind::Any
        {
            return Err(Refusal::new("type", format!("`{key}` has another type, which fails there"), at));
        }
        Ok(value)
    }

    fn contains_key(&mut self, of: &Object, key: &str, at: usize) -> Result<Cel, Refusal> {
        match of {
            Object::Variables => self.has_variable(key, at),
            Object::Headers { response } => Ok(self.field(*response, key, at)?.call("has", &[])),
            Object::Query => Ok(self.parameter(key, at)?.call("has", &[])),
            Object::Claims(token) => Ok(path(&format!("{token}.claims"), key).call("has", &[])),
            Object::MatchedParameters => {
                let value = self.matched_parameter(key);
                Ok(value.present.unwrap_or_else(|| Cel::primary("true")))
            }
            other => Err(Refusal::new("member", format!("`{}` has no `ContainsKey`", object_name(other)), at)),
        }
    }

    /// Translates `AsJwt()`: the token that a policy before has accepted.
    fn as_jwt(&mut self, of: &Expr, at: usize) -> Result<Value, Refusal> {
        let mut names = Vec::new();
        header_names(of, &mut names);
        let found = self.scope.tokens.iter().find(|(_, header)| names.iter().any(|name| name.eq_ignore_ascii_case(header)));
        let Some((token, _)) = found else {
            return Err(Refusal::new("unverified-token", "it reads a token that no policy before has accepted", at));
        };
        self.remark(Verdict::Note, "accepted-token", "the token that a policy before has accepted is read, and no other");
        Ok(Value::Object(Object::Jwt(token.clone())))
    }

    /// Translates what a function makes of each element.
    pub(super) fn lambda(&mut self, function: &Expr) -> Result<(String, Plain), Refusal> {
        let ExprKind::Lambda(name, body) = &*function.kind else {
            return Err(Refusal::new("member", "a function is expected", function.at));
        };
        // A name of its own, which is none of the words of the language.
        let own = format!("x{}", self.locals.len());
        self.locals.push((name.clone(), Value::Plain(Plain::text(Cel::primary(own.clone())))));
        let body = self.plain(body);
        self.locals.pop();
        Ok((own, body?))
    }

    /// Translates the last argument of comparisons of texts.
    pub(super) fn ignores_case(&self, arguments: &[Expr], at: usize) -> Result<bool, Refusal> {
        let Some(argument) = arguments.get(1) else { return Ok(false) };
        match &*argument.kind {
            ExprKind::Member { name, .. } if name.ends_with("IgnoreCase") => Ok(true),
            ExprKind::Member { name, .. } if matches!(name.as_str(), "Ordinal" | "InvariantCulture" | "CurrentCulture") => {
                Ok(false)
            }
            _ => Err(Refusal::new("member", "this way to compare texts is not translated", at)),
        }
    }
}

/// Returns a refusal of a call with other arguments than are known.
pub(super) fn arity(name: &str, at: usize) -> Refusal {
    Refusal::new("member", format!("`{name}` is called with arguments that are not translated"), at)
}

/// Collects the names of header fields that an expression reads.
fn header_names(expr: &Expr, names: &mut Vec<String>) {
    match &*expr.kind {
        ExprKind::Text(_) => names.extend(Translator::literal_text(expr)),
        ExprKind::Member { of, .. } => header_names(of, names),
        ExprKind::Index { of, index, .. } => {
            header_names(of, names);
            header_names(index, names);
        }
        ExprKind::Call { function, arguments, .. } => {
            header_names(function, names);
            arguments.iter().for_each(|argument| header_names(argument, names));
        }
        ExprKind::Cast(_, inner) => header_names(inner, names),
        _ => {}
    }
}

/// Returns the literal `''`, which joins and replaces use.
pub(super) fn empty() -> Cel {
    literal("")
}

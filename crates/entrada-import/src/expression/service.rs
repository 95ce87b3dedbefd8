//! Facts of the service: URLs, and constants of the API, the operation and the deployment.

use super::{
    Kind, Translator,
    value::{Cel, Object, Plain, Value, literal, sum},
};
use crate::{csharp::Refusal, report::Verdict};

/// The begin of the path below the API. It is told apart from that of the whole path, also where they are the same.
const BELOW_API: &str = "substring(request.path, ";

fn plain(cel: &str, kind: Kind) -> Result<Value, Refusal> {
    Ok(Value::Plain(Plain::new(Cel::primary(cel), kind)))
}

impl Translator<'_> {
    pub(super) fn url_member(&mut self, original: bool, name: &str, at: usize) -> Result<Value, Refusal> {
        match (name, original) {
            ("Query", _) => Ok(Value::Object(Object::Query)),
            ("QueryString", _) => {
                self.remark(Verdict::Note, "query-string", "`?` stands before the query there, and is added here");
                let query = Cel::primary("request.query_string");
                let condition = query.relation("==", &literal(""));
                let marked = sum(vec![literal("?"), query]);
                Ok(Value::Plain(Plain::text(Cel::conditional(&condition, &literal(""), &marked))))
            }
            ("Path", true) => plain("request.path", Kind::Text),
            ("Host", true) => plain("request.host", Kind::Text),
            ("Scheme", true) => plain("request.scheme", Kind::Text),
            ("Path", false) if self.scope.is_rewritten => {
                Err(Refusal::new("backend-url", "it reads the path after `rewrite-uri`", at))
            }
            ("Path", false) => {
                self.remark(
                    Verdict::Changed,
                    "url-path",
                    "the path below the API, as it was called; a text that it is compared with is read as beginning with `/`",
                );
                // The route of an API with a path takes nothing else, so that the path is never shorter.
                let below = match self.scope.constants.known.get("Api.Path").map(|path| path.trim_matches('/')) {
                    Some(path) if !path.is_empty() => path.chars().count() + 1,
                    _ => 0,
                };
                Ok(Value::Plain(Plain::text(Cel::primary(format!("{BELOW_API}{below})")))))
            }
            (_, false) => Err(Refusal::new("backend-url", "it reads the URL of the backend", at)),
            _ => Err(super::context::unknown_member("OriginalUrl", name, at)),
        }
    }

    /// Returns what a text is compared with: a path below the API begins with `/` here, and in documents with or without it.
    ///
    /// A condition that can never hold would open what it closes.
    pub(super) fn below_api(&self, own: &Cel, other: &Cel, at: usize) -> Result<Cel, Refusal> {
        if !own.text.contains(BELOW_API) {
            return Ok(other.clone());
        }
        let begin = ["'", "lower('", "upper('"].into_iter().find(|begin| other.text.starts_with(begin));
        match begin.map(|begin| other.text.split_at(begin.len())) {
            Some((_, rest)) if rest.starts_with('/') => Ok(other.clone()),
            Some((begin, rest)) => Ok(Cel::primary(format!("{begin}/{rest}"))),
            None => Err(Self::unclear_path(at)),
        }
    }

    /// Refuses what depends on the sign with which the path below the API begins.
    pub(super) fn no_path_below(&self, own: &Cel, at: usize) -> Result<(), Refusal> {
        if own.text.contains(BELOW_API) { Err(Self::unclear_path(at)) } else { Ok(()) }
    }

    fn unclear_path(at: usize) -> Refusal {
        Refusal::new("url-path", "it depends on the first sign of `Url.Path`, which is not certain: use `OriginalUrl.Path`", at)
    }

    /// Reads a constant of the API or its operation.
    pub(super) fn constant(&mut self, of: &'static str, name: &str, at: usize) -> Result<Value, Refusal> {
        let key = format!("{of}.{name}");
        if let Some(known) = self.scope.constants.known.get(key.as_str()) {
            return Ok(Value::Plain(Plain::text(literal(known))));
        }
        let named = match key.as_str() {
            "Operation.Id" | "Operation.Name" if self.scope.constants.is_single => {
                self.remark(
                    Verdict::Changed,
                    "operation-is-route",
                    "the operation is the route here: make a route for each operation, named like it",
                );
                return plain("route.name", Kind::Text);
            }
            "Api.Id" => "apim-api-id",
            "Api.Name" => "apim-api-name",
            "Api.Path" => "apim-api-path",
            "Api.Version" => "apim-api-version",
            "Api.Revision" => "apim-api-revision",
            "ServiceUrl.Host" => "apim-service-host",
            "ServiceUrl.Path" => "apim-service-path",
            "ServiceUrl.Scheme" => "apim-service-scheme",
            "ServiceUrl.Port" => "apim-service-port",
            "Operation.Method" => return plain("request.method", Kind::Text),
            "Operation.UrlTemplate" => "apim-operation-url-template",
            "Operation.Id" => "apim-operation-id",
            "Operation.Name" => "apim-operation-name",
            "Deployment.Region" => "apim-region",
            "Deployment.ServiceName" => "apim-service-name",
            "Deployment.ServiceId" => "apim-service-id",
            "Deployment.GatewayId" => "apim-gateway-id",
            _ => return Err(super::context::unknown_member(of, name, at)),
        };
        self.remark(Verdict::Note, "constant", "a constant of the service: supply it as a named value");
        self.named(named).map(|cel| Value::Plain(Plain::text(cel)))
    }

    /// Reads the name of the subscription or the product.
    pub(super) fn partner(&mut self, at: usize) -> Result<Value, Refusal> {
        self.remark(Verdict::Changed, "subscription-is-partner", "the subscription or product is the partner here");
        if !self.scope.has_partner {
            return Err(Refusal::new("subscription", "no policy before tells the partner, which a subscription is here", at));
        }
        plain("partner.name", Kind::Text)
    }
}

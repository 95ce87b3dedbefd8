//! A table of expressions, as Microsoft documents their members, with what each becomes.

use super::{
    scope::{Holds, Scope, Section, Variable},
    *,
};
use crate::csharp::Piece;

fn variable(name: &str, kind: Kind, unset: bool, null: bool) -> Variable {
    Variable { name: name.to_owned(), holds: Holds::Value, kind, unset, null, texts: None }
}

/// A scope with variables, a token and captures.
fn scope(section: Section) -> Scope {
    let mut scope = Scope::new(section);
    for (there, here, kind, unset, null) in [
        ("text", "text", Kind::Text, false, false),
        ("perhaps", "perhaps", Kind::Text, true, false),
        ("nullable", "nullable", Kind::Text, false, true),
        ("count", "count", Kind::Int, false, false),
        ("flag", "flag", Kind::Bool, false, false),
        ("a-b", "a_b", Kind::Text, false, false),
    ] {
        scope.variables.insert(there.to_owned(), variable(here, kind, unset, null));
    }
    let body = Refusal::new("body", "it reads a body, and bodies pass through unread", 0);
    scope.variables.insert("body".into(), Variable { holds: Holds::Nothing(body), ..variable("body", Kind::Any, true, true) });
    scope
        .variables
        .insert("jwt".into(), Variable { holds: Holds::Token("token".into()), ..variable("jwt", Kind::Any, false, false) });
    scope.tokens.push(("token".to_owned(), "Authorization".to_owned()));
    scope.has_partner = true;
    scope.parameters.captures = [("id", "id"), ("walletId", "wallet_id")].map(|(there, here)| (there.into(), here.into())).into();
    scope.parameters.query = ["q".to_owned()].into();
    scope.constants.known =
        [("Api.Name", "orders"), ("Operation.Id", "get-order")].map(|(key, value)| (key, value.to_owned())).into();
    scope.named = [("on".to_owned(), "true".to_owned()), ("limit".to_owned(), "7".to_owned())].into();
    scope.secrets = ["key".to_owned()].into();
    scope
}

/// Returns the translation, or the code of the refusal.
fn translated(source: &str, section: Section) -> String {
    let written = if source.starts_with("{ ") { format!("@{source}") } else { format!("@({source})") };
    translate(&written, &scope(section)).map_or_else(|refusal| format!("! {}", refusal.code), |translated| translated.cel)
}

/// The members of the context, in `inbound`.
const MEMBERS: &[(&str, &str)] = &[
    ("context.Request.Method", "request.method"),
    ("context.Request.Method == \"GET\"", "request.method == 'GET'"),
    ("context.Request.Method != \"GET\"", "request.method != 'GET'"),
    ("context.Request.IpAddress", "caller.address"),
    ("context.Request.OriginalUrl.Path", "request.path"),
    ("context.Request.OriginalUrl.Host", "request.host"),
    ("context.Request.OriginalUrl.Scheme", "request.scheme"),
    ("context.Request.OriginalUrl.ToString()", "request.url"),
    ("context.Request.OriginalUrl.ToUri().Host", "request.host"),
    ("context.Request.OriginalUrl.QueryString", "request.query_string == '' ? '' : '?' + request.query_string"),
    ("context.Request.Url.Path", "substring(request.path, 0)"),
    ("context.Request.Url.Path.StartsWith(\"admin/\")", "substring(request.path, 0).startsWith('/admin/')"),
    ("context.Request.Url.Path.StartsWith(\"/admin/\")", "substring(request.path, 0).startsWith('/admin/')"),
    ("context.Request.Url.Path.ToLower() == \"admin\"", "lower(substring(request.path, 0)) == '/admin'"),
    ("context.Request.Url.Path.Contains(\"admin\")", "substring(request.path, 0).contains('admin')"),
    (
        "context.Request.Url.Path.Equals(\"Admin\", StringComparison.OrdinalIgnoreCase)",
        "lower(substring(request.path, 0)) == lower('/Admin')",
    ),
    ("context.Request.Url.Path.Split('/')[0]", "! url-path"),
    ("Regex.IsMatch(context.Request.Url.Path, \"^admin\")", "! url-path"),
    ("context.Request.Url.Path == context.Request.OriginalUrl.Path", "! url-path"),
    ("context.Request.Url.Host", "! backend-url"),
    ("context.Request.Url.ToString()", "! backend-url"),
    ("context.Request.Headers.GetValueOrDefault(\"X-A\", \"b\")", "has(request.headers['x-a']) ? request.headers['x-a'] : 'b'"),
    ("context.Request.Headers.GetValueOrDefault(\"X-A\") == null", "!has(request.headers['x-a'])"),
    ("context.Request.Headers.GetValueOrDefault(\"X-A\") != null", "has(request.headers['x-a'])"),
    (
        "context.Request.Headers.GetValueOrDefault(\"X-A\") == \"b\"",
        "has(request.headers['x-a']) && request.headers['x-a'] == 'b'",
    ),
    (
        "context.Request.Headers.GetValueOrDefault(\"X-A\") != \"b\"",
        "!(has(request.headers['x-a']) && request.headers['x-a'] == 'b')",
    ),
    (
        "context.Request.Headers.GetValueOrDefault(\"X-A\") + \"b\"",
        "(has(request.headers['x-a']) ? request.headers['x-a'] : '') + 'b'",
    ),
    ("context.Request.Headers.GetValueOrDefault(\"A\") == context.Request.Headers.GetValueOrDefault(\"B\")", "! null-comparison"),
    ("context.Request.Headers.ContainsKey(\"X-A\")", "has(request.headers['x-a'])"),
    ("!context.Request.Headers.ContainsKey(\"X-A\")", "!has(request.headers['x-a'])"),
    ("context.Request.Headers[\"X-A\"].Contains(\"b\")", "'b' in split(request.headers['x-a'], ',')"),
    ("context.Request.Headers[(string)context.Variables[\"text\"]]", "! computed-name"),
    ("context.Request.Url.Query.GetValueOrDefault(\"page\", \"1\")", "has(request.query['page']) ? request.query['page'] : '1'"),
    ("context.Request.OriginalUrl.Query.ContainsKey(\"page\")", "has(request.query['page'])"),
    ("context.Request.MatchedParameters[\"id\"]", "captures.id"),
    ("context.Request.MatchedParameters[\"walletId\"]", "captures.wallet_id"),
    ("context.Request.MatchedParameters.GetValueOrDefault(\"id\", \"\")", "captures.id"),
    ("context.Request.MatchedParameters.ContainsKey(\"id\")", "true"),
    ("context.Request.MatchedParameters.ContainsKey(\"other\")", "false"),
    ("context.Request.MatchedParameters.GetValueOrDefault(\"other\", \"x\")", "'x'"),
    ("context.Request.MatchedParameters.GetValueOrDefault(\"q\", \"\")", "has(request.query['q']) ? request.query['q'] : ''"),
    ("context.Request.Body.As<string>()", "! body"),
    ("context.Request.Certificate.Thumbprint", "! member"),
    ("context.RequestId", "request.id"),
    ("context.RequestId.ToString()", "request.id"),
    ("context.Timestamp", "! clock"),
    ("context.Response.StatusCode == 200", "! member"),
    ("context.LastError.Reason", "! member"),
    ("context.Api.Name", "'orders'"),
    ("context.Operation.Id == \"get-order\"", "'get-order' == 'get-order'"),
    ("context.Deployment.Region", "{{apim-region}}"),
    ("context.Subscription.Id", "partner.name"),
    ("context.Subscription == null", "!has(partner.name)"),
    ("context.Product.Name == \"gold\"", "partner.name == 'gold'"),
    ("context.Subscription.Key", "! subscription-key"),
    ("context.User.Id", "! portal-user"),
    ("context.User.Groups.Select(g => g.Id).Contains(\"a\")", "! portal-user"),
    ("context.Nothing", "! member"),
];

/// Variables and named values.
const VARIABLES: &[(&str, &str)] = &[
    ("(string)context.Variables[\"text\"]", "variables.text"),
    ("context.Variables[\"text\"]", "variables.text"),
    ("(string)context.Variables[\"a-b\"] == \"x\"", "variables.a_b == 'x'"),
    ("(bool)context.Variables[\"flag\"]", "variables.flag"),
    ("(int)context.Variables[\"count\"] + 1", "variables.count + 1"),
    ("(int)context.Variables[\"text\"]", "! type"),
    ("(string)context.Variables[\"body\"]", "! variable-of-body"),
    ("(string)context.Variables[\"perhaps\"]", "variables.perhaps"),
    ("context.Variables[\"perhaps\"] != null", "has(variables.perhaps)"),
    ("context.Variables.ContainsKey(\"perhaps\")", "has(variables.perhaps)"),
    ("context.Variables.ContainsKey(\"text\")", "true"),
    ("context.Variables.ContainsKey(\"never\")", "false"),
    ("context.Variables.GetValueOrDefault<string>(\"perhaps\", \"x\")", "has(variables.perhaps) ? variables.perhaps : 'x'"),
    ("context.Variables.GetValueOrDefault(\"text\", \"x\")", "variables.text"),
    ("context.Variables.GetValueOrDefault(\"never\", \"x\")", "'x'"),
    ("context.Variables.GetValueOrDefault<bool>(\"never\")", "false"),
    ("context.Variables[\"never\"]", "! variable-not-set"),
    ("(string)context.Variables[\"nullable\"] == \"x\"", "has(variables.nullable) && variables.nullable == 'x'"),
    ("\"a\" + context.Variables[\"count\"]", "'a' + string(variables.count)"),
    ("\"a\" + context.Variables[\"flag\"]", "'a' + (variables.flag ? 'True' : 'False')"),
    ("\"{{name}}/a\"", "{{name}} + '/a'"),
    ("\"{{key}}\"", "! secret"),
    ("{{on}}", "true"),
    ("{{limit}} + 1", "7 + 1"),
    ("{{unknown}}", "! named-value-as-code"),
];

/// Texts, lists and functions.
const TEXTS: &[(&str, &str)] = &[
    ("string.IsNullOrEmpty((string)context.Variables[\"text\"])", "variables.text == ''"),
    (
        "string.IsNullOrEmpty(context.Request.Headers.GetValueOrDefault(\"A\"))",
        "!has(request.headers['a']) || request.headers['a'] == ''",
    ),
    ("String.IsNullOrWhiteSpace((string)context.Variables[\"text\"])", "trim(variables.text) == ''"),
    ("context.Request.Headers.GetValueOrDefault(\"A\") ?? \"b\"", "has(request.headers['a']) ? request.headers['a'] : 'b'"),
    ("(bool)context.Variables[\"flag\"] ? \"a\" : \"b\"", "variables.flag ? 'a' : 'b'"),
    (
        "((string)context.Variables[\"text\"]).Equals(\"X\", StringComparison.OrdinalIgnoreCase)",
        "lower(variables.text) == lower('X')",
    ),
    ("string.Equals((string)context.Variables[\"text\"], \"x\")", "variables.text == 'x'"),
    ("((string)context.Variables[\"text\"]).ToLower()", "lower(variables.text)"),
    ("((string)context.Variables[\"text\"]).ToUpperInvariant()", "upper(variables.text)"),
    ("((string)context.Variables[\"text\"]).Contains(\"x\")", "variables.text.contains('x')"),
    ("((string)context.Variables[\"text\"]).StartsWith(\"x\")", "variables.text.startsWith('x')"),
    ("((string)context.Variables[\"text\"]).EndsWith(\"x\")", "variables.text.endsWith('x')"),
    ("((string)context.Variables[\"text\"]).Replace(\"a\", \"b\")", "replace(variables.text, 'a', 'b')"),
    ("((string)context.Variables[\"text\"]).Substring(2)", "substring(variables.text, 2)"),
    ("((string)context.Variables[\"text\"]).Substring(2, 3)", "substring(variables.text, 2, 5)"),
    ("((string)context.Variables[\"text\"]).IndexOf(\"a\")", "index_of(variables.text, 'a')"),
    ("((string)context.Variables[\"text\"]).Length > 2", "size(variables.text) > 2"),
    ("((string)context.Variables[\"text\"]).Trim()", "trim(variables.text)"),
    ("((string)context.Variables[\"text\"]).Split(',')[0]", "split(variables.text, ',')[0]"),
    ("((string)context.Variables[\"text\"]).Split(' ').Last()", "last(split(variables.text, ' '))"),
    ("((string)context.Variables[\"text\"]).Split(',').First()", "split(variables.text, ',')[0]"),
    (
        "((string)context.Variables[\"text\"]).Split(new[] { ',' }, StringSplitOptions.RemoveEmptyEntries)[0]",
        "split(variables.text, ',').filter(x, x != '')[0]",
    ),
    ("((string)context.Variables[\"text\"]).Split(',', ';')", "! member"),
    (
        "context.Request.OriginalUrl.Path.Substring(context.Request.OriginalUrl.Path.LastIndexOf('/') + 1)",
        "last(split(request.path, '/'))",
    ),
    ("string.Format(\"{0}/{1}\", context.Request.Method, 1)", "request.method + '/' + string(1)"),
    ("string.Format(\"{{a}}{0:d}\", 1)", "! member"),
    ("$\"a{context.Request.Method}b\"", "'a' + request.method + 'b'"),
    ("string.Concat(\"a\", context.Request.Method)", "'a' + request.method"),
    ("string.Join(\",\", new[] { \"a\", \"b\" })", "join(['a', 'b'], ',')"),
    ("Regex.IsMatch(context.Request.Method, \"^G\", RegexOptions.IgnoreCase)", "request.method.matches('(?i)^G')"),
    ("Regex.IsMatch(context.Request.Method, \"^GET$\")", "request.method.matches('^GET\\\\n?$')"),
    ("Regex.IsMatch(context.Request.Method, \"(?=G)\")", "! member"),
    (
        "Regex.IsMatch(context.Request.OriginalUrl.Path, @\"^\\/{{base}}$\", RegexOptions.IgnoreCase)",
        "lower(request.path) == lower('/' + {{base}})",
    ),
    ("new[] { \"a\", \"b\" }.Contains(context.Request.Method)", "request.method in ['a', 'b']"),
    ("new[] { \"a\" }.Any(x => x == context.Request.Method)", "['a'].exists(x0, x0 == request.method)"),
    ("new[] { \"a\" }.All(x => x.Length > 2)", "['a'].all(x0, size(x0) > 2)"),
    ("int.Parse((string)context.Variables[\"text\"]) > 3", "int(variables.text) > 3"),
    ("Convert.ToBoolean((string)context.Variables[\"text\"])", "bool(variables.text)"),
    ("(3).ToString()", "string(3)"),
    ("Guid.NewGuid().ToString()", "uuid()"),
    ("Uri.EscapeDataString(context.Request.Method)", "url_encode(request.method)"),
    ("System.Net.WebUtility.UrlEncode(context.Request.Method)", "url_encode(request.method)"),
    ("Convert.ToBase64String(Encoding.UTF8.GetBytes(\"a:\" + context.Request.Method))", "base64('a:' + request.method)"),
    ("Encoding.UTF8.GetString(Convert.FromBase64String(\"YQ==\"))", "base64_decode('YQ==')"),
    ("DateTime.UtcNow.ToString()", "! clock"),
    ("new Random().Next()", "! random"),
    ("new HMACSHA256(new byte[0])", "! crypto"),
    ("JObject.Parse(\"{}\")[\"a\"]", "! body"),
    ("((IResponse)context.Variables[\"text\"]).StatusCode", "! sub-request"),
    ("1 + 2 * 3 - (4 - 5)", "1 + 2 * 3 - (4 - 5)"),
    ("\"it's\" + \"\\n\\\\\"", "'it\\'s\\n\\\\'"),
    (
        "context.Request.Method == \"A\" && (context.Request.Method == \"B\" || context.Request.Method == \"C\")",
        "request.method == 'A' && (request.method == 'B' || request.method == 'C')",
    ),
];

/// Tokens.
const TOKENS: &[(&str, &str)] = &[
    ("((Jwt)context.Variables[\"jwt\"]).Claims[\"oid\"][0]", "values(token.claims.oid).map(v, string(v))[0]"),
    (
        "((Jwt)context.Variables[\"jwt\"]).Claims.GetValueOrDefault(\"oid\", \"\")",
        "has(token.claims.oid) ? join(values(token.claims.oid).map(v, string(v)), ',') : ''",
    ),
    ("((Jwt)context.Variables[\"jwt\"]).Claims.ContainsKey(\"oid\")", "has(token.claims.oid)"),
    ("((Jwt)context.Variables[\"jwt\"]).Claims[\"roles\"].Contains(\"a\")", "'a' in values(token.claims.roles)"),
    ("((Jwt)context.Variables[\"jwt\"]).Claims[\"a.b\"].Contains(\"a\")", "'a' in values(token.claims['a.b'])"),
    ("((Jwt)context.Variables[\"jwt\"]).Subject", "token.subject"),
    ("((Jwt)context.Variables[\"jwt\"]).Issuer", "token.claims.iss"),
    ("((Jwt)context.Variables[\"jwt\"]).Audiences.Contains(\"a\")", "'a' in values(token.claims.aud)"),
    ("context.Request.Headers.GetValueOrDefault(\"Authorization\", \"\").Split(' ')[1].AsJwt()?.Subject", "token.subject"),
    ("context.Request.Headers.GetValueOrDefault(\"X-Other\", \"\").AsJwt()?.Subject", "! unverified-token"),
];

/// Blocks of statements.
const BLOCKS: &[(&str, &str)] = &[
    ("{ return context.Request.Method; }", "request.method"),
    ("{ var a = context.Request.Method; return a + a; }", "request.method + request.method"),
    ("{ if (context.Request.Method == \"GET\") { return \"a\"; } return \"b\"; }", "request.method == 'GET' ? 'a' : 'b'"),
    (
        "{ var a = \"x\"; if ((bool)context.Variables[\"flag\"]) { a = \"y\"; } return a + \"z\"; }",
        "variables.flag ? 'yz' : 'xz'",
    ),
    ("{ string a = null; if (a == null) return \"n\"; return a; }", "'n'"),
    ("{ foreach (var a in b) { } return \"x\"; }", "! statement"),
    ("{ if ((bool)context.Variables[\"flag\"]) { return \"a\"; } }", "! statement"),
];

/// `outbound` and `on-error`.
const ANSWERS: &[(&str, &str)] = &[
    ("context.Response.StatusCode == 404", "response.status == 404"),
    ("context.Response != null && context.Response.StatusCode >= 500", "response.status >= 500"),
    ("context.Response.Headers.GetValueOrDefault(\"A\", \"\")", "has(response.headers['a']) ? response.headers['a'] : ''"),
    ("context.Response.Headers.ContainsKey(\"A\")", "has(response.headers['a'])"),
    ("context.Response.Body.As<string>()", "! body"),
];

const ERRORS: &[(&str, &str)] = &[
    ("context.LastError.Reason == \"TokenExpired\"", "error.code == 'token-expired'"),
    ("context.LastError.Reason != \"QuotaExceeded\"", "error.code != 'quota-exceeded'"),
    ("context.LastError.Reason == \"OperationNotFound\"", "error.code in ['no-route', 'method-not-allowed']"),
    ("context.LastError.Reason == \"SomethingElse\"", "! member"),
    ("context.LastError.Source == \"ip-filter\"", "has(error.policy) && error.policy.endsWith('.ip-filter')"),
    ("context.LastError.Message", "error.code"),
    ("context.LastError.Section", "! member"),
    ("context.Response.StatusCode", "error.status"),
];

#[test]
fn expressions_become_what_the_table_says() {
    let mut rows = 0;
    let mut wrong = Vec::new();
    for (section, table) in [
        (Section::Inbound, MEMBERS),
        (Section::Inbound, VARIABLES),
        (Section::Inbound, TEXTS),
        (Section::Inbound, TOKENS),
        (Section::Inbound, BLOCKS),
        (Section::Outbound, ANSWERS),
        (Section::OnError, ERRORS),
    ] {
        for (source, expected) in table {
            rows += 1;
            let found = translated(source, section);
            if found != *expected {
                wrong.push(format!("{source}\n  expected {expected}\n  found    {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows >= 150, "{rows} rows");
}

#[test]
fn what_doubles_with_each_statement_is_bounded() {
    let doubled = |start: &str| format!("@{{ var a = {start}; {} return a; }}", "a = a + a; ".repeat(60));
    for start in ["context.Request.Method", "\"x\" + (bool)context.Variables[\"flag\"]"] {
        assert_eq!(translate(&doubled(start), &scope(Section::Inbound)).expect_err(start).code, "too-large");
    }
    for start in ["\"x\"", "((bool)context.Variables[\"flag\"] ? \"x\" : \"y\")"] {
        assert!(cases(&doubled(start), &scope(Section::Inbound)).is_err(), "{start}");
    }
    let ways = format!("@{{ var a = \"\"; {} return a; }}", "if ((bool)context.Variables[\"flag\"]) { a = \"b\"; } ".repeat(40));
    assert_eq!(translate(&ways, &scope(Section::Inbound)).expect_err("many ways").code, "too-large");
}

#[test]
fn what_a_policy_has_changed_is_not_read_as_the_callers() {
    let mut scope = scope(Section::Inbound);
    scope.changed_headers.insert("x-a".into());
    scope.changed_method = true;
    for source in ["@(context.Request.Headers.ContainsKey(\"X-A\"))", "@(context.Request.Method)"] {
        assert_eq!(translate(source, &scope).expect_err(source).code, "changed-before");
    }
    assert!(translate("@(context.Request.Headers.ContainsKey(\"X-B\"))", &scope).is_ok());
}

#[test]
fn the_values_of_a_variable_of_a_few_texts_are_enumerated() {
    let mut scope = scope(Section::Inbound);
    let texts = ["a", "b"].map(|text| vec![Piece::Text(text.to_owned())]).to_vec();
    scope.variables.insert("tier".into(), Variable { texts: Some(texts), ..variable("tier", Kind::Text, false, false) });
    let found = cases("@(\"https://\" + (string)context.Variables[\"tier\"] + \".example\")", &scope).expect("two cases");
    let shown: Vec<_> = found.iter().map(|case| (case.condition.text.as_str(), format!("{:?}", case.text))).collect();
    assert_eq!(shown[0], ("variables.tier == 'a'", "[Text(\"https://a.example\")]".to_owned()));
    assert_eq!(shown.len(), 2);
    let keys = ["x".to_owned(), "y".to_owned()];
    assert_eq!(key_of_cases(&found, &keys).text, "variables.tier == 'a' ? 'x' : variables.tier == 'b' ? 'y' : ''");
    assert_eq!(
        cases("@(context.Request.Headers.GetValueOrDefault(\"Host\", \"\"))", &scope).expect_err("many").code,
        "backend-not-finite"
    );
}

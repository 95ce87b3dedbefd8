use std::net::IpAddr;

use http::{Request, StatusCode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    base::{clock::Clock, fields::Fields},
    certificate::{
        ClientCertificate,
        testing::{Unusual, self_signed},
    },
    connection::Scheme,
    entra::token::{Claims, Token, TokenKind},
    request::{Captures, IncomingRequest, NamedToken, TokenPlace},
};

/// A request with everything that expressions can read.
pub(crate) struct World {
    pub(crate) request: IncomingRequest,
    pub(crate) caller: IpAddr,
    pub(crate) certificate: Option<ClientCertificate>,
    pub(crate) token: Option<Token>,
    pub(crate) captures: Captures,
    pub(crate) variables: Variables,
    pub(crate) answer: Fields,
    pub(crate) clock: Clock,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut request = Request::builder().uri("/people/ada%20l/mail?a=1&b=x%20y+z&c=1&c=2&%64=4&e");
        let fields =
            [("host", "API.contoso.example:8443"), ("x-a", "one"), ("x-b", "first"), ("x-b", "second"), ("accept", "text/html")];
        for (name, value) in fields {
            request = request.header(name, value);
        }
        let request = request.header("x-empty", "").header("x-latin", &b"caf\xe9"[..]).body(()).expect("a request");
        let request = IncomingRequest::read(request.into_parts().0, None).expect("readable");
        let claims = json!({
            "oid": "0f0f", "upn": "Ada@Contoso.Example", "onpremisessamaccountname": "ada", "empty": "", "gone": null,
            "level": 5, "ratio": 2.5, "whole": 3.0, "large": u64::MAX, "yes": true, "groups": ["g1", "g2"], "mixed": ["a", 1], "none": [],
            "holes": ["a", null], "extn.costCenter": "4711", "address": {"street": "Main", "zip": null}, "line": "a\r\nx-evil: 1",
            "comma": ["a,b", "c"], "padded": " ada", "kelvin": "\u{212a}im", "umlaut": "M\u{dc}LLER",
        });
        Self {
            request,
            caller: IpAddr::from([203, 0, 113, 7]),
            certificate: None,
            token: Some(Token {
                claims: Claims(claims.into()),
                kind: TokenKind::User,
                tenant: "aaaabbbb-0000-cccc-1111-dddd2222eeee".into(),
                client: Some("11112222-bbbb-3333-cccc-4444dddd5555".into()),
                subject: Some("subject-1".into()),
                object_id: None,
                scopes: vec!["Orders.Read".into(), "Mail.Read".into()],
                roles: vec![],
                credential_kind: None,
                id: None,
                expires_at: 0,
                recorded: Box::default(),
            }),
            captures: Captures {
                segments: vec![("person".into(), "ada%20l".into()), ("odd".into(), "%ff".into())],
                rest: "/mail".into(),
            },
            variables: variables(),
            answer: Fields::of(&[("etag", "\"v1\"")]),
            clock: Clock::manual(1_800_000_000),
        }
    }

    pub(crate) fn facts(&self) -> Facts<'_> {
        Facts {
            request: &self.request,
            caller: self.caller,
            certificate: self.certificate.as_ref(),
            token: self.token.as_ref(),
            named_tokens: &[],
            captures: &self.captures,
            partner: Some("fabrikam"),
            route: Some("people"),
            status: Some(StatusCode::NOT_FOUND),
            response_headers: Some(&self.answer),
            error: None,
            scheme: Scheme::Https,
            id: "0198c0de",
            variables: &self.variables,
            clock: &self.clock,
            known: None,
        }
    }
}

/// Returns the variables of the tests' request.
fn variables() -> Variables {
    let mut variables = Variables::default();
    variables.set(&"tier".into(), json!("gold")).expect("small");
    variables.set(&"level".into(), json!(3)).expect("small");
    variables
}

fn text_of(source: &str, world: &World) -> Result<String, String> {
    let expression = Expression::parse(source).map_err(|error| format!("load: {error}"))?;
    let facts = world.facts();
    expression.text(&facts).map(Cow::into_owned).map_err(|error| error.to_string())
}

#[test]
fn expressions_give_what_the_request_holds() {
    let world = World::new();
    for (source, expected) in [
        // Paths.
        ("request.method", "GET"),
        ("request.path", "/people/ada%20l/mail"),
        ("request.host", "api.contoso.example"),
        ("partner.name", "fabrikam"),
        ("request.headers[\"x-a\"]", "one"),
        ("request.headers[\"X-A\"]", "one"),
        ("request.headers.accept", "text/html"),
        ("request.headers[\"X-B\"]", "first,second"),
        ("request.headers[\"x-\" + \"B\"]", "first,second"),
        ("request.headers[\"x-empty\"]", ""),
        ("request.query.a", "1"),
        ("request.query[\"b\"]", "x y z"),
        ("request.query.c", "1,2"),
        ("request.query.d", "4"),
        ("request.query.e", ""),
        ("caller.address", "203.0.113.7"),
        ("token.claims.oid", "0f0f"),
        ("token.claims[\"extn.costCenter\"]", "4711"),
        ("token.claims.address.street", "Main"),
        ("token.claims[\"address\"][\"street\"]", "Main"),
        ("token.claims.empty", ""),
        ("token.claims.level", "5"),
        ("token.claims.ratio", "2.5"),
        ("token.claims.whole", "3.0"),
        ("token.claims.large", "18446744073709551615"),
        ("token.claims.yes", "true"),
        ("token.claims.groups[1]", "g2"),
        ("token.kind", "user"),
        ("token.tenant", "aaaabbbb-0000-cccc-1111-dddd2222eeee"),
        ("token.client", "11112222-bbbb-3333-cccc-4444dddd5555"),
        ("token.subject", "subject-1"),
        ("token.scopes[0]", "Orders.Read"),
        ("captures.person", "ada l"),
        ("route.name", "people"),
        ("string(response.status)", "404"),
        ("captures[\"person\"]", "ada l"),
        ("request.scheme", "https"),
        ("request.id", "0198c0de"),
        ("request.query_string", "a=1&b=x%20y+z&c=1&c=2&%64=4&e"),
        ("request.url", "https://api.contoso.example:8443/people/ada%20l/mail?a=1&b=x%20y+z&c=1&c=2&%64=4&e"),
        ("response.headers.etag", "\"v1\""),
        ("response.headers[\"ETag\"]", "\"v1\""),
        ("variables.tier", "gold"),
        ("variables[\"tier\"]", "gold"),
        ("variables.level + 1 == 4 ? 'yes' : 'no'", "yes"),
        // Functions.
        ("replace('a-b-c', '-', '+')", "a+b+c"),
        ("'a-b-c'.replace('x', '+')", "a-b-c"),
        ("replace(request.path, '/people/', '/users/')", "/users/ada%20l/mail"),
        ("'[' + trim('  a b\\t\\n') + ']'", "[a b]"),
        ("trim(token.claims.padded)", "ada"),
        ("substring('caf\u{e9}s', 3)", "\u{e9}s"),
        ("substring('caf\u{e9}s', 3, 4)", "\u{e9}"),
        ("'abc'.substring(3)", ""),
        ("string(index_of('caf\u{e9}s', 's'))", "4"),
        ("string(index_of('abc', 'x'))", "-1"),
        ("substring(token.claims.upn, 0, index_of(token.claims.upn, '@'))", "Ada"),
        ("last(split(token.claims.upn, '@'))", "Contoso.Example"),
        ("values(token.claims.oid)[0]", "0f0f"),
        ("join(values(token.claims.groups), ' ')", "g1 g2"),
        ("base64('M\u{fc}ller:x')", "TcO8bGxlcjp4"),
        ("base64_decode('TcO8bGxlcjp4')", "M\u{fc}ller:x"),
        ("url_encode('a/b?c=\u{e9} .~')", "a%2Fb%3Fc%3D%C3%A9%20.~"),
        ("string(now())", "1800000000"),
        ("string(size(uuid()))", "36"),
        ("uuid() == uuid() ? 'same' : 'other'", "other"),
        ("lower(token.claims.upn)", "ada@contoso.example"),
        ("token.claims.upn.lower()", "ada@contoso.example"),
        ("upper(token.claims.onpremisessamaccountname)", "ADA"),
        ("\"CONTOSO\\\\\" + token.claims.onpremisessamaccountname", "CONTOSO\\ada"),
        ("split(token.claims.upn, \"@\")[0]", "Ada"),
        ("token.claims.upn.split(\"@\")[1]", "Contoso.Example"),
        ("join(token.claims.groups, \",\")", "g1,g2"),
        ("token.claims.groups.join(\" \")", "g1 g2"),
        ("join(token.claims.none, \",\")", ""),
        ("join(token.claims.comma, \";\")", "a,b;c"),
        ("join(token.scopes.filter(s, s.startsWith(\"Orders.\")), \" \")", "Orders.Read"),
        ("join(token.scopes.map(s, lower(s)), \" \")", "orders.read mail.read"),
        ("join(token.scopes.map(s, s.endsWith(\".Read\"), split(s, \".\")[0]), \" \")", "Orders Mail"),
        ("string(1 + 2 * 3 - 4 / 2 % 2)", "7"),
        ("string(7 / 2)", "3"),
        ("string(-7 % 3)", "-1"),
        ("string(1.5 + 1.0)", "2.5"),
        ("string(int(\"42\") + int(2.9))", "44"),
        ("string(double(1) / 4.0)", "0.25"),
        ("string(bool(\"true\"))", "true"),
        ("string(size(token.claims.upn))", "19"),
        ("string(token.claims.groups.size())", "2"),
        ("string(size(\"\u{fc}\"))", "1"),
        ("token.kind == \"user\" ? \"person\" : \"daemon\"", "person"),
        ("{\"user\": \"person\", \"app\": \"daemon\"}[token.kind]", "person"),
        ("[\"a\", \"b\"][1]", "b"),
        // A letter beyond ASCII never becomes an ASCII one; others do change.
        ("lower(token.claims.kelvin)", "\u{212a}im"),
        ("lower(token.claims.umlaut)", "m\u{fc}ller"),
        ("upper(\"stra\u{df}e \u{131}\")", "STRA\u{df}E \u{131}"),
        // What is not evaluated cannot fail.
        ("true || token.claims.missing == \"x\" ? \"yes\" : \"no\"", "yes"),
        ("false && token.claims.missing == \"x\" ? \"yes\" : \"no\"", "no"),
        ("has(token.claims.missing) ? token.claims.missing : \"none\"", "none"),
    ] {
        assert_eq!(text_of(source, &world).as_deref(), Ok(expected), "{source}");
    }
}

#[test]
fn conditions_hold_or_not() {
    let world = World::new();
    for (source, expected) in [
        ("token.claims.level == 5", true),
        ("token.claims.level != 5", false),
        ("token.claims.level == 5.0", true),
        ("token.claims.large > 9223372036854775807", true),
        ("9007199254740993 == 9007199254740992.0", false),
        ("2 < 2.5 && 2.5 <= 3 && -2.5 < -2", true),
        ("\"a\" < \"b\" && !(\"b\" <= \"a\")", true),
        ("\"g1\" in token.claims.groups", true),
        ("\"g3\" in token.claims.groups", false),
        ("\"oid\" in token.claims", true),
        ("\"gone\" in token.claims", false),
        ("\"X-A\" in request.headers", true),
        ("\"x-c\" in request.headers", false),
        ("\"d\" in request.query", true),
        ("has(token.claims.oid)", true),
        ("has(token.claims[\"extn.costCenter\"])", true),
        ("has(token.claims.gone)", false),
        ("has(token.claims.missing)", false),
        ("has(token.claims.missing.deeper)", false),
        ("has(token.claims.address.zip)", false),
        ("has(token.claims.empty)", true),
        ("has(request.headers[\"x-c\"])", false),
        ("has(request.query.a)", true),
        ("has(variables.tier) && !has(variables.other)", true),
        ("has(error.code)", false),
        ("\"etag\" in response.headers", true),
        ("has(token.claims.groups[2])", false),
        ("!has(captures.person)", false),
        ("token.claims.groups.exists(g, g == \"g2\")", true),
        ("token.claims.groups.all(g, g.startsWith(\"g\"))", true),
        ("token.claims.groups.exists_one(g, g.startsWith(\"g\"))", false),
        ("token.claims.none.all(x, x == \"never\")", true),
        ("token.claims.none.exists(x, true)", false),
        ("token.claims.exists(name, name == \"oid\")", true),
        ("request.headers.exists(name, name.startsWith(\"x-\"))", true),
        ("token.scopes.exists(s, token.claims.groups.exists(g, s == g))", false),
        ("token.claims.groups == [\"g1\", \"g2\"]", true),
        ("token.claims.groups == [\"g1\"]", false),
        ("token.claims.address == {\"street\": \"Main\"}", true),
        ("token.scopes + token.roles == token.scopes", true),
        ("request.path.matches(\"^/people/[^/]+/mail$\")", true),
        ("matches(request.path, \"admin\")", false),
        ("\"a+b\".contains(\"+\")", true),
        ("cidr(\"203.0.113.0/24\", caller.address)", true),
        ("cidr(\"10.0.0.0/8\", caller.address)", false),
        ("caller.address.cidr(\"203.0.113.7\")", true),
        ("cidr([\"10.0.0.0/8\", \"203.0.113.0/28\"], caller.address)", true),
        ("cidr(\"10.0.0.0/8\", \"::ffff:10.1.2.3\")", true),
        ("true || false && false", true),
        ("!false", true),
        ("1 == 1 ? true : false", true),
    ] {
        let expression = Expression::parse_condition(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        assert_eq!(expression.holds(&world.facts()), Ok(expected), "{source}");
    }
}

#[test]
fn what_is_absent_or_unfit_is_an_error_everywhere() {
    let world = World::new();
    for (source, expected) in [
        ("token.claims.missing", "token.claims.missing is absent"),
        ("token.claims.gone", "token.claims.gone is absent"),
        ("token.claims[\"extn.missing\"]", "token.claims[\"extn.missing\"] is absent"),
        ("token.claims.address.zip", "`zip` is absent"),
        ("request.headers[\"x-c\"]", "request.headers[\"x-c\"] is absent"),
        ("request.query.z", "request.query.z is absent"),
        ("token.claims.groups[2]", "the element of that index is absent"),
        ("token.claims.groups[-1]", "the element of that index is absent"),
        ("token.claims.holes[1]", "the element of a list is absent"),
        ("captures.odd", "a captured segment is not well encoded"),
        ("request.headers[\"x-latin\"]", "a header field is not UTF-8"),
        ("variables.missing", "variables.missing is absent"),
        ("response.headers[\"x-c\"]", "response.headers[\"x-c\"] is absent"),
        ("error.code", "error.code is absent"),
        ("last(token.claims.none)", "the last element of a list is absent"),
        ("values(token.claims.missing)[0]", "token.claims.missing is absent"),
        ("values(token.claims.address)[0]", "what values() lists must be a list, but it is an object"),
        ("replace('abc', '', 'x')", "the part to be replaced is empty"),
        ("substring('abc', 4)", "a number is out of range"),
        ("substring('abc', -1)", "a number is out of range"),
        ("substring('abc', 2, 1)", "a number is out of range"),
        ("substring('abc', 0, 4)", "a number is out of range"),
        ("base64_decode('a')", "a text is not base64"),
        ("base64_decode('TcO8bGxlcjp4\\n')", "a text is not base64"),
        ("base64_decode('/w==')", "what is in base64 is not a text"),
        // Under every operator, on the side that is evaluated.
        ("token.claims.missing == \"x\" || true ? \"a\" : \"b\"", "token.claims.missing is absent"),
        ("token.claims.missing == \"x\" && false ? \"a\" : \"b\"", "token.claims.missing is absent"),
        ("!(token.claims.missing == \"x\") ? \"a\" : \"b\"", "token.claims.missing is absent"),
        ("token.claims.missing != \"x\" ? \"a\" : \"b\"", "token.claims.missing is absent"),
        ("false || token.claims.missing == \"x\" ? \"a\" : \"b\"", "token.claims.missing is absent"),
        ("token.claims.mixed.exists(x, x == \"z\") ? \"a\" : \"b\"", "a whole number and a text cannot be combined in `==`"),
        ("token.claims.holes.exists(x, x == \"z\") ? \"a\" : \"b\"", "the element of a list is absent"),
        ("\"z\" in token.claims.mixed ? \"a\" : \"b\"", "a whole number and a text cannot be combined in `==`"),
        ("has(token.claims.oid.deeper) ? \"a\" : \"b\"", "what stands before the dot must be an object, but it is a text"),
        // Nothing is converted.
        ("token.claims.level == \"5\" ? \"a\" : \"b\"", "a whole number and a text cannot be combined in `==`"),
        ("token.claims.level != \"5\" ? \"a\" : \"b\"", "a whole number and a text cannot be combined in `==`"),
        ("\"n\" + token.claims.level", "a text and a whole number cannot be combined in `+`"),
        ("token.claims.oid && true ? \"a\" : \"b\"", "an operand of `&&` and `||` must be true or false, but it is a text"),
        ("!token.claims.oid ? \"a\" : \"b\"", "what stands after `!` must be true or false, but it is a text"),
        ("token.claims.oid ? \"a\" : \"b\"", "what stands before `?` must be true or false, but it is a text"),
        ("token.claims.yes < true ? \"a\" : \"b\"", "load: at column 20 of the expression: what is ordered is true or false"),
        ("lower(token.claims.level)", "an argument must be a text, but it is a whole number"),
        ("int(token.claims.oid) == 1 ? \"a\" : \"b\"", "a text is not a whole number"),
        ("bool(token.claims.oid) ? \"a\" : \"b\"", "a text is neither `true` nor `false`"),
        ("string(9223372036854775807 + 1)", "a number is out of range"),
        ("string(1 / 0)", "a number is out of range"),
        ("string(1.0 / 0.0)", "a number is out of range"),
        ("string(double(\"inf\"))", "a number is out of range"),
        ("token.claims.groups", "a list is not a text; write join(list, separator)"),
        ("token.claims.address", "an object is not a text"),
        ("join(token.claims.comma, \",\")", "an element contains the separator of the joined list"),
        ("join(token.claims.comma, \", \")", "an element contains the separator of the joined list"),
        ("join(['a|', 'b'], '||')", "an element contains the separator of the joined list"),
        ("join(['a\\tb'], ' ')", "an element contains the separator of the joined list"),
        ("join(['a', ''], ',')", "an element of the list that is joined is empty, or has blanks around it"),
        ("join(['a', ' b'], ';')", "an element of the list that is joined is empty, or has blanks around it"),
        ("join([token.claims.groups], \",\")", "a list is not a text; write join(list, separator)"),
        ("split(\"abc\", request.headers[\"x-empty\"])[0]", "the separator is empty"),
        ("cidr(\"10.0.0.0/8\", token.claims.oid) ? \"a\" : \"b\"", "a text is not an address"),
        ("!cidr(\"10.0.0.0/8\", \"010.0.0.1\") ? \"a\" : \"b\"", "a text is not an address"),
        ("{token.kind: 1, \"user\": 2}[\"user\"] == 1 ? \"a\" : \"b\"", "a map has two entries of one name"),
    ] {
        assert_eq!(text_of(source, &world), Err(expected.to_owned()), "{source}");
    }
}

#[test]
fn without_a_token_all_of_it_is_absent() {
    let mut world = World::new();
    world.token = None;

    for source in ["token.claims.oid", "token.kind", "token.tenant", "join(token.scopes, \" \")"] {
        assert!(text_of(source, &world).is_err_and(|error| error.ends_with(" is absent")), "{source}");
    }
    assert_eq!(text_of("has(token.claims.oid) || has(token.kind) ? \"a\" : \"b\"", &world).as_deref(), Ok("b"));
}

#[test]
fn further_tokens_are_read_by_their_names() {
    let world = World::new();
    let device = Token { claims: Claims(json!({ "sub": "d-7" }).into()), ..world.token.clone().unwrap() };
    let place = TokenPlace::Query("device".into());
    let named = [NamedToken { name: "device".into(), token: device.into(), place }];
    let facts = Facts { named_tokens: &named, ..world.facts() };
    let names = ["device".into(), "build".into()];
    let text = |source: &str| {
        let expression = Expression::parse_knowing(source, &names).map_err(|error| format!("{error}; {}", error.cure))?;
        expression.text(&facts).map(Cow::into_owned).map_err(|error| error.to_string())
    };

    for (source, expected) in [
        ("device.claims.sub", Ok("d-7")),
        ("device.claims[\"sub\"] + token.claims.oid", Ok("d-70f0f")),
        ("join(device.scopes, ' ')", Ok("Orders.Read Mail.Read")),
        ("has(device.claims.oid) ? 'both' : 'one'", Ok("one")),
        ("device.claims.oid", Err("device.claims.oid is absent")),
        // Named by the config, and not among the request's: no other token takes its place.
        ("build.claims.oid", Err("build.claims.oid is absent")),
        (
            "device.sub",
            Err("at column 8 of the expression: `device` has no field `sub`; a claim of that name is device.claims.sub"),
        ),
        ("devise.claims.sub", Err("at column 1 of the expression: nothing is called `devise`; did you mean `device`?")),
        (
            "device",
            Err("at column 1 of the expression: `device` is not a value by itself; name one of its fields, as device.claims.oid"),
        ),
        ("[1].map(device, 2)", Err("at column 9 of the expression: `device` has a meaning already; choose another name, as `x`")),
    ] {
        assert_eq!(text(source), expected.map(str::to_owned).map_err(str::to_owned), "{source}");
    }
    assert!(Expression::parse_knowing("device.kind", &names).unwrap().uses().identity());
}

#[test]
fn a_tokens_name_is_a_word_without_a_meaning() {
    for (name, free) in [
        ("device", true),
        ("second_token2", true),
        ("token", false),
        ("request", false),
        ("in", false),
        ("as", false),
        ("true", false),
        ("Device", false),
        ("2nd", false),
        ("my-token", false),
        ("", false),
        ("a name", false),
    ] {
        assert_eq!(is_free_name(name), free, "{name}");
    }
}

#[test]
fn a_broken_query_gives_no_parameter_at_all() {
    let mut world = World::new();
    for query in ["a=%zz", "%zz=1&a=1", "a=%", "a=%ff", "%ff=1&a=1"] {
        world.request.target.query = Some(query.into());
        assert_eq!(text_of("request.query.a", &world), Err("a query parameter is not well encoded".to_owned()), "{query}");
    }
}

#[test]
fn mistakes_are_found_at_load_with_their_column() {
    for (source, column, message, cure) in [
        ("tokn.claims.oid", 1, "nothing is called `tokn`", "did you mean `token`?"),
        ("token.clams.oid", 7, "`token` has no field `clams`", "did you mean `claims`?"),
        ("token.oid", 7, "`token` has no field `oid`", "a claim of that name is token.claims.oid"),
        ("token", 1, "`token` is not a value by itself", "name one of its fields, as token.claims.oid"),
        ("request.header", 9, "`request` has no field `header`", "did you mean `headers`?"),
        (
            "caller.certificate.sha1",
            20,
            "`caller.certificate` has no field `sha1`",
            "there are subject, issuer, common_name, serial, thumbprint, thumbprint_sha256, dns_names, emails, uris, not_before, not_after, encoded",
        ),
        ("\"\u{fc}\" + lowr(\"a\")", 7, "no function is called `lowr`", "did you mean `lower`?"),
        ("lower()", 1, "`lower` takes 1 argument here, and 0 are given", ""),
        ("split(\"a\")", 1, "`split` takes 2 arguments here, and 1 are given", ""),
        ("startsWith(\"a\", \"b\")", 1, "`startsWith` stands after a text and a dot", "write it as text.startsWith(…)"),
        ("exists(\"a\", \"b\")", 1, "`exists` stands after a list and a dot", "write it as list.exists(x, …)"),
        (
            "request.path.matches(request.method)",
            30,
            "the pattern has to be a literal: it is compiled at load, and never made by a caller",
            "write it as text.matches(\"^[a-z]+$\")",
        ),
        (
            "cidr(request.path, caller.address)",
            14,
            "the network has to be a literal: it is read at load",
            "write it as cidr(\"10.0.0.0/8\", caller.address)",
        ),
        ("cidr(\"10.0.0.1/8\", caller.address)", 6, "`10.0.0.1/8` has host bits", "the network is 10.0.0.0/8"),
        ("cidr(\"ten\", caller.address)", 6, "`ten` is not a network", "write it as 10.0.0.0/8 or 2001:db8::/32"),
        ("null", 1, "nothing is ever null here: what is null is absent", "ask with has(…), as has(token.claims.oid)"),
        ("1u", 1, "unsigned numbers are not supported", "leave the `u` out"),
        ("b\"a\"", 1, "bytes are not supported", "leave the `b` out"),
        (
            "1 + \"a\"",
            3,
            "a whole number and a text cannot be combined in `+`",
            "convert one of them with string(), int() or double()",
        ),
        ("request.path == 1", 14, "a text is compared with a whole number", "compare values of one kind"),
        ("has(1)", 1, "has() asks for a field or an element", "write it as has(token.claims.oid)"),
        ("[1].exists(token, token == 1)", 12, "`token` has a meaning already", "choose another name, as `x`"),
        ("[1].exists(x, [2].exists(x, x == 1))", 26, "`x` has a meaning already", "choose another name, as `x`"),
        ("[1].exists(1, true)", 12, "the first argument is a name for the element", "write it as list.exists(x, …)"),
        (
            "x",
            1,
            "nothing is called `x`",
            "there are request, caller, token, captures, partner, route, response, variables, error",
        ),
        (
            "[1].exists(x, true) && x == 1",
            24,
            "nothing is called `x`",
            "there are request, caller, token, captures, partner, route, response, variables, error",
        ),
        ("request.headers[\"a b\"]", 16, "`a b` is not a header's name", "a header's name has letters, digits and `-`"),
        ("Message{a: 1}", 8, "messages are not supported", "write a map as {\"name\": value}"),
    ] {
        let error = Expression::parse(source).expect_err(source);
        assert_eq!((error.column, error.message.as_str(), error.cure.as_str()), (column, message, cure), "{source}");
    }
}

#[test]
fn what_is_no_cel_is_refused_with_its_column() {
    for (source, column) in
        [("", 1), ("1 +", 4), ("(1", 3), ("a b", 3), ("\"open", 1), ("1 +\n  )", 7), ("a.?b", 2), ("for", 1), ("\u{1}", 1)]
    {
        let error = Expression::parse(source).expect_err(source);
        assert_eq!(error.column, column, "{source:?}: {error}");
    }
}

#[test]
fn a_condition_can_be_true_or_false() {
    assert!(Expression::parse_condition("token.claims.admin").is_ok());
    for source in ["request.path", "\"true\"", "1", "token.scopes", "true ? 1 : 2"] {
        assert!(Expression::parse_condition(source).is_err(), "{source}");
    }
}

#[test]
fn expressions_tell_what_they_read() {
    let expression =
        Expression::parse("has(token.claims.oid) && cidr(\"10.0.0.0/8\", caller.address) && captures.a == captures[\"b\"]")
            .expect("valid");

    assert_eq!(expression.uses(), Uses { token: true, caller: true, captures: true, ..Uses::default() });
    assert!(expression.uses().identity());
    assert_eq!(expression.captures().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!Expression::parse("request.headers.accept").expect("valid").uses().identity());
}

#[test]
fn a_quoted_text_reads_back_as_itself() {
    let world = World::new();
    for text in ["", "plain", "with \"quotes\" and \\", "line\r\nend", "\u{1f600} ü", "@(1)", "')", "\u{0}"] {
        assert_eq!(text_of(&literal(text), &world).as_deref(), Ok(text));
    }
}

#[test]
fn expressions_beyond_the_limits_are_refused_at_load_on_a_small_stack() {
    let too_large = [
        format!("\"{}\"", "a".repeat(limits::LENGTH)),
        vec!["1"; limits::SIGNS + 2].join("+"),
        vec!["1"; limits::DEPTH + 1].join("+"),
        format!("token.claims{}", ".a".repeat(limits::DEPTH + 1)),
        format!("token.claims{}", ".a".repeat(500)),
        format!("{}1{}", "(".repeat(200), ")".repeat(200)),
        format!("{}1{}", "[".repeat(200), "]".repeat(200)),
        format!("{}true{}", "!(".repeat(80), ")".repeat(80)),
        format!("[1]{}", ".filter(x, true)".repeat(70)),
        vec!["true ? 1"; 60].join(" : ") + " : 2",
        format!("1{}", "[0]".repeat(160)),
        "\"a\".matches(\"(a{1000}){1000}\")".to_owned(),
    ];
    let small = std::thread::Builder::new().stack_size(512 * 1024);

    let answers =
        small.spawn(move || too_large.map(|source| Expression::parse(&source).is_err())).expect("a thread starts").join();

    assert_eq!(answers.expect("nothing overflows"), [true; 12]);
}

#[test]
fn long_but_flat_conditions_are_fine() {
    let source = (0..100).map(|index| format!("request.path == \"/{index}\"")).collect::<Vec<_>>().join(" || ");

    assert!(Expression::parse_condition(&source).is_ok());
}

#[test]
fn costly_evaluations_end_in_a_refusal() {
    let mut world = World::new();
    let many: Vec<_> = (0..500).map(|index| json!(format!("group-{index}"))).collect();
    let token = world.token.as_mut().expect("there is a token");
    token.claims.0.put("many", many.into());
    token.claims.0.put("long", "x".repeat(30_000).into());

    for source in [
        "token.claims.many.all(a, token.claims.many.all(b, a == a || b == b)) ? \"a\" : \"b\"",
        "token.claims.long + token.claims.long + token.claims.long",
        "replace(token.claims.long, 'x', 'yyyyyyyyyy')",
        "base64(base64(base64(token.claims.long)))",
        "url_encode(replace(token.claims.long, 'x', '/'))",
        "join(token.claims.many.map(a, substring(token.claims.long, 0, 20000)), ',')",
        "token.claims.many.all(a, index_of(token.claims.long, 'y') == -1) ? 'a' : 'b'",
        "token.claims.many.all(a, token.claims.many.all(b, size(uuid()) > 0)) ? 'a' : 'b'",
        "join(token.claims.many.map(a, token.claims.long), \",\")",
        "join(split(token.claims.long, \"x\").map(a, a + \"y\"), \",\")",
    ] {
        assert!(text_of(source, &world).is_err_and(|error| error.starts_with("the expression costs more")), "{source}");
    }
}

/// Generates pieces of expressions, valid and invalid.
fn source() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("token.claims.groups".to_owned()),
        Just("token.claims.level".to_owned()),
        Just("token.claims.missing".to_owned()),
        Just("token.claims.mixed".to_owned()),
        Just("token.scopes".to_owned()),
        Just("request.headers".to_owned()),
        Just("request.query".to_owned()),
        Just("request.path".to_owned()),
        Just("captures.person".to_owned()),
        Just("x".to_owned()),
        Just("true".to_owned()),
        Just("1.5".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        ".{0,6}".prop_map(|text| literal(&text)),
        ".{0,6}",
    ];
    leaf.prop_recursive(6, 64, 4, |inner| {
        let binary = prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "in", "."]);
        let call = prop::sample::select(vec![
            "lower",
            "size",
            "string",
            "int",
            "double",
            "has",
            "join",
            "split",
            "cidr",
            "replace",
            "trim",
            "substring",
            "index_of",
            "last",
            "values",
            "base64",
            "base64_decode",
            "url_encode",
            "uuid",
            "now",
        ]);
        let each = prop::sample::select(vec!["exists", "all", "exists_one", "filter", "map"]);
        prop_oneof![
            (inner.clone(), binary, inner.clone()).prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            (call, prop::collection::vec(inner.clone(), 0..4))
                .prop_map(|(name, arguments)| format!("{name}({})", arguments.join(", "))),
            (inner.clone(), each, inner.clone()).prop_map(|(list, name, body)| format!("{list}.{name}(x, {body})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), inner.clone()).prop_map(|(of, key)| format!("{of}[{key}]")),
            prop::collection::vec(inner, 0..4).prop_map(|elements| format!("[{}]", elements.join(", "))),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_is_written_evaluation_ends_within_its_bounds(source in source()) {
        let world = World::new();
        if let Ok(expression) = Expression::parse(&source) {
            let facts = world.facts();
            let mut evaluator = Evaluator::new(&facts);
            let value = evaluator.evaluate(&expression.node);
            prop_assert!(evaluator.spent() <= limits::STEPS);
            if let (Some(kind), Ok(value)) = (expression.node.kind(), value) {
                prop_assert_eq!(kind, value.kind(), "the kind that was promised at load");
            }
        }
    }

    #[test]
    fn whatever_is_written_is_parsed_or_refused(text in "\\PC{0,80}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn quoting_holds_for_every_text(text in any::<String>()) {
        let world = World::new();
        if literal(&text).len() <= limits::LENGTH && literal(&text).bytes().filter(u8::is_ascii_punctuation).count() <= limits::SIGNS {
            prop_assert_eq!(text_of(&literal(&text), &world), Ok(text));
        }
    }
}

#[test]
fn a_certificate_that_was_accepted_can_be_read() {
    let mut world = World::new();
    assert_eq!(text_of("caller.certificate.subject", &world), Err("caller.certificate.subject is absent".to_owned()));
    assert_eq!(text_of("has(caller.certificate)", &world), Ok("false".to_owned()));
    let certificate = self_signed("daemon").read(&[]);
    let (thumbprint, encoded) = (certificate.thumbprint_sha256().to_owned(), certificate.encoded());
    world.certificate = Some(certificate);

    for (source, expected) in [
        ("caller.certificate.subject", "CN=daemon, O=Fabrikam\\, Inc., C=NL"),
        ("caller.certificate.issuer", "CN=daemon, O=Fabrikam\\, Inc., C=NL"),
        ("caller.certificate.common_name", "daemon"),
        ("caller.certificate[\"common_name\"]", "daemon"),
        ("caller.certificate.serial", "7"),
        ("caller.certificate.thumbprint_sha256", thumbprint.as_str()),
        ("size(caller.certificate.thumbprint)", "40"),
        ("size(caller.certificate.dns_names)", "0"),
        ("size(caller.certificate.emails) + size(caller.certificate.uris)", "0"),
        ("caller.certificate.not_after - caller.certificate.not_before > 86400", "true"),
        ("caller.certificate.encoded", encoded.as_str()),
        ("has(caller.certificate) && has(caller.certificate.subject)", "true"),
        ("[\"serial\"].all(name, caller.certificate[name] == \"7\")", "true"),
    ] {
        assert_eq!(text_of(source, &world).as_deref(), Ok(expected), "{source}");
    }
    let authority = crate::certificate::testing::Authority::new("Root");
    let unusual = Unusual { dns_names: vec!["a.example".to_owned()], ..Unusual::default() };
    world.certificate = Some(authority.issue_unusual("daemon", &unusual).read(&[]));
    assert_eq!(text_of("\"a.example\" in caller.certificate.dns_names", &world), Ok("true".to_owned()));
}

use proptest::prelude::*;

use super::*;

fn table(routes: &[&str]) -> RouteTable {
    let (table, faults) = build(routes);
    assert!(faults.is_empty(), "{faults:?}");
    table
}

fn build(routes: &[&str]) -> (RouteTable, Vec<String>) {
    let configs: Vec<MatchConfig> = routes.iter().map(|yaml| crate::config::part(yaml)).collect();
    let mut faults = Faults::default();
    let table = RouteTable::build(&configs, &Place::root().key("routes"), &mut faults);
    (table, faults.iter().map(|fault| format!("{}: {}", fault.place, fault.message)).collect())
}

fn find(table: &RouteTable, method: &str, host: &str, target: &str) -> Result<Found, Refusal> {
    let target = Target::read(target).unwrap();
    table.find_for(host, &target, &Method::from_bytes(method.as_bytes()).unwrap())
}

fn route(table: &RouteTable, host: &str, target: &str) -> Result<usize, Reason> {
    find(table, "GET", host, target).map(|found| found.route).map_err(|refusal| refusal.reason)
}

#[test]
fn the_most_specific_host_decides_and_there_is_no_way_back() {
    let table = table(&[
        "{ hosts: [api.contoso.example], path: /a }",
        "{ hosts: ['*.contoso.example'], path: /b }",
        "{ hosts: ['*.eu.contoso.example'], path: /c }",
        "{ path: /d }",
    ]);
    for (host, target, expected) in [
        ("api.contoso.example", "/a", Ok(0)),
        ("api.contoso.example", "/b", Err(Reason::NoRoute)),
        ("api.contoso.example", "/d", Err(Reason::NoRoute)),
        ("www.contoso.example", "/b", Ok(1)),
        ("www.contoso.example", "/d", Err(Reason::NoRoute)),
        ("www.eu.contoso.example", "/c", Ok(2)),
        ("www.eu.contoso.example", "/b", Err(Reason::NoRoute)),
        ("eu.contoso.example", "/b", Ok(1)),
        ("a.b.contoso.example", "/b", Err(Reason::NoRoute)),
        ("a.b.contoso.example", "/d", Ok(3)),
        ("contoso.example", "/d", Ok(3)),
        ("contoso.example", "/b", Err(Reason::NoRoute)),
        ("apicontoso.example", "/d", Ok(3)),
        ("192.0.2.1", "/d", Ok(3)),
        ("192.0.2.1", "/a", Err(Reason::NoRoute)),
    ] {
        assert_eq!(route(&table, host, target), expected, "{host} {target}");
    }
}

#[test]
fn an_exact_path_then_the_longest_prefix_by_whole_segments() {
    let table = table(&[
        "{ path: / }",
        "{ path: /orders }",
        "{ path: /orders/archive }",
        "{ exact-path: /orders }",
        "{ exact-path: /orders/archive/ }",
        "{ exact-path: / }",
    ]);
    for (target, expected) in [
        ("/", 5),
        ("/x", 0),
        ("/order", 0),
        ("/orders", 3),
        ("/orders?a=b", 3),
        ("/orders/", 1),
        ("/orders/1", 1),
        ("/ordersx", 0),
        ("/orders/archive", 2),
        ("/orders/archive/", 4),
        ("/orders/archive/1/2/3", 2),
        ("/orders/archives", 1),
        ("/Orders", 0),
        ("/%6Frders/archive", 2),
    ] {
        assert_eq!(route(&table, "a", target), Ok(expected), "{target}");
    }
}

#[test]
fn written_out_segments_come_before_captures_from_the_left() {
    let table = table(&[
        "{ path: '/{a}/b' }",
        "{ path: /a }",
        "{ path: '/a/{x}/c' }",
        "{ path: '/{a}/b/c' }",
        "{ exact-path: '/a/{x}' }",
        "{ exact-path: '/{x}/y' }",
        "{ path: '/a/{x}' }",
    ]);
    for (target, expected) in [
        // Longest first: two segments beat one, wherever the captures are.
        ("/a/b/d", Ok(6)),
        ("/z/b/d", Ok(0)),
        ("/a/b/c", Ok(2)),
        ("/z/b/c", Ok(3)),
        ("/a", Ok(1)),
        ("/a/", Ok(1)),
        ("/a/q", Ok(4)),
        ("/a/y", Ok(4)),
        ("/z/y", Ok(5)),
        ("/z/y/", Err(Reason::NoRoute)),
        ("/z", Err(Reason::NoRoute)),
    ] {
        assert_eq!(route(&table, "a", target), expected, "{target}");
    }
}

#[test]
fn captures_one_segment_each_and_the_rest_with_its_slash() {
    let table = table(&[
        "{ path: '/people/{person}/mail' }",
        "{ exact-path: '/{a}/x/{b_c}' }",
        "{ path: /graph }",
        "{ hosts: [b], path: / }",
    ]);
    for (host, target, segments, rest) in [
        ("a", "/people/ann%20b/mail", &[("person", "ann%20b")][..], ""),
        ("a", "/people/ann/mail/", &[("person", "ann")], "/"),
        ("a", "/people/ann/mail/1/2?q", &[("person", "ann")], "/1/2"),
        ("a", "/1/x/2", &[("a", "1"), ("b_c", "2")], ""),
        ("a", "/graph/v1.0/me", &[], "/v1.0/me"),
        ("b", "/", &[], "/"),
        ("b", "/a", &[], "/a"),
    ] {
        let captures = find(&table, "GET", host, target).unwrap().captures;
        let found: Vec<_> = captures.segments.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!((found.as_slice(), &*captures.rest), (segments, rest), "{target}");
    }
    assert_eq!(route(&table, "a", "/people//mail"), Err(Reason::NoRoute));
    assert_eq!(table.captures(1), ["a", "b_c"]);
    assert!(table.captures(2).is_empty());
}

#[test]
fn routes_of_one_path_are_told_apart_by_method_and_name_their_own_captures() {
    let table = table(&["{ path: '/a/{x}', methods: [GET] }", "{ path: '/a/{y}', methods: [POST, PUT] }", "{ path: / }"]);

    for (method, expected) in [("GET", 0), ("HEAD", 0), ("POST", 1), ("PUT", 1)] {
        assert_eq!(find(&table, method, "h", "/a/1").unwrap().route, expected, "{method}");
    }
    assert_eq!(&*find(&table, "POST", "h", "/a/1").unwrap().captures.segments[0].0, "y");
    let refusal = find(&table, "DELETE", "h", "/a/1").unwrap_err();
    assert_eq!(refusal.reason, Reason::MethodNotAllowed);
    assert_eq!(refusal.allow.unwrap(), "GET, HEAD, POST, PUT");
}

#[test]
fn a_route_without_methods_takes_the_usual_ones() {
    let table = table(&["{ path: / }"]);

    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        assert!(find(&table, method, "h", "/").is_ok(), "{method}");
    }
    for method in ["PROPFIND", "get", "QUERY", "X"] {
        assert_eq!(find(&table, method, "h", "/").unwrap_err().reason, Reason::MethodNotAllowed, "{method}");
    }
}

#[test]
fn routes_that_match_alike_are_errors() {
    for (routes, fault) in [
        (
            &["{ path: /a }", "{ path: /a }"][..],
            Some("routes[1].match: the route matches requests that `routes[0]` matches alike"),
        ),
        (
            &["{ path: '/{x}' }", "{ path: '/{y}' }"],
            Some("routes[1].match: the route matches requests that `routes[0]` matches alike"),
        ),
        (
            &["{ methods: [GET] }", "{ path: / , methods: [HEAD] }"],
            Some("routes[1].match: the route matches requests that `routes[0]` matches alike"),
        ),
        (
            &["{ hosts: [a, b] }", "{ hosts: [b, A] }"],
            Some("routes[1].match: the route matches requests that `routes[0]` matches alike"),
        ),
        (
            &["{ methods: [GET] }", "{ methods: [POST] }", "{ methods: [PUT, POST] }"],
            Some("routes[2].match: the route matches requests that `routes[1]` matches alike"),
        ),
        (&["{ path: /a }", "{ exact-path: /a }"], None),
        (&["{ path: '/{x}' }", "{ path: /a }"], None),
        (&["{ hosts: [a] }", "{ hosts: ['*.a'] }", "{}"], None),
        (&["{ path: /a, methods: [GET] }", "{ path: /a, methods: [POST] }"], None),
    ] {
        let (_, faults) = build(routes);
        assert_eq!(faults.first().map(String::as_str), fault, "{routes:?}");
        assert!(faults.len() <= 1, "{faults:?}");
    }
}

#[test]
fn no_spelling_leads_around_the_route_that_guards_a_path() {
    // `/` could accept every oddity by name: what a careless backend would take for the guarded path is refused all the same.
    let table = table(&["{ path: / }", "{ path: /admin }", "{ path: /files }"]);
    for target in [
        "/x%2F..",
        "//admin",
        "/admin%2Fusers",
        "/admin%2fusers",
        "/%2Fadmin",
        "/admin;x",
        "/admin;x/users",
        "/admin%3Bx",
        "/admin%5Cusers",
        "/admin\\users",
        "/\\admin",
        "/admin%252Fusers",
        "//admin//users",
        "/;/admin",
        "/%5cadmin",
        "/;a=b/admin/users",
        "/admin%25252Fx",
    ] {
        let Ok(target) = Target::read(target) else { continue };
        let reason = table.find_for("h", &target, &Method::GET).unwrap_err().reason;
        assert_eq!(reason, Reason::RequestTargetInvalid, "{target}");
    }
    for (target, expected) in [("/files/a%2Fb", 2), ("/files;v=1/a", 2), ("/a%2Fb", 0), ("/100%25", 0), ("/a//b", 0)] {
        // The first segment of `/files;v=1` is not `files`, so it is another route for a careless reader.
        let expected = if target.starts_with("/files;") { Err(Reason::RequestTargetInvalid) } else { Ok(expected) };
        assert_eq!(route(&table, "h", target), expected, "{target}");
    }
}

#[test]
fn an_empty_table_serves_nothing() {
    assert_eq!(route(&RouteTable::default(), "a", "/"), Err(Reason::NoRoute));
}

/// A path pattern as a list: `None` is a capture.
type Shape = (Vec<Option<u8>>, bool);

/// What the docs say, taken literally: try every route, keep the best.
fn by_hand(shapes: &[Shape], path: &[u8]) -> Option<usize> {
    let matches = |(segments, exact): &Shape| {
        segments.len() <= path.len()
            && (!exact || segments.len() == path.len())
            && segments.iter().zip(path).all(|(segment, letter)| segment.is_none_or(|wanted| wanted == *letter))
    };
    let rank = |(segments, exact): &Shape| (*exact, segments.len(), segments.iter().map(Option::is_some).collect::<Vec<_>>());
    (0..shapes.len()).filter(|index| matches(&shapes[*index])).max_by_key(|index| rank(&shapes[*index]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn agrees_with_trying_every_route(
        mut shapes in prop::collection::vec((prop::collection::vec(prop::option::of(b'a'..=b'c'), 0..4), any::<bool>()), 1..16),
        path in prop::collection::vec(b'a'..=b'd', 1..5),
    ) {
        shapes.retain(|(segments, exact)| !exact || !segments.is_empty());
        shapes.sort();
        shapes.dedup();
        let written: Vec<_> = shapes.iter().map(|(segments, exact)| {
            let mut names = (b'a'..=b'z').map(char::from);
            let path: String = segments.iter().map(|segment| match segment {
                Some(letter) => format!("/{}", char::from(*letter)),
                None => format!("/{{{}}}", names.next().unwrap()),
            }).collect();
            let key = if *exact { "exact-path" } else { "path" };
            format!("{{ {key}: '{}' }}", if path.is_empty() { "/" } else { &path })
        }).collect();
        let table = table(&written.iter().map(String::as_str).collect::<Vec<_>>());
        let target: String = path.iter().map(|letter| format!("/{}", char::from(*letter))).collect();

        prop_assert_eq!(route(&table, "h", &target).ok(), by_hand(&shapes, &path), "{} in {:?}", target, written);
    }
}

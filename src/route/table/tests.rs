use proptest::prelude::*;

use super::*;

fn table(routes: &[&str]) -> RouteTable {
    let (table, faults) = build(routes);
    assert!(faults.is_empty(), "{faults:?}");
    table
}

/// Names of routes in these tests.
const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

fn build(routes: &[&str]) -> (RouteTable, Vec<String>) {
    build_folding(routes, |_| false)
}

/// Does the same, where some of the routes lead to a case-insensitive upstream.
fn build_folding(routes: &[&str], folds: impl Fn(usize) -> bool) -> (RouteTable, Vec<String>) {
    let configs: Vec<MatchConfig> = routes.iter().map(|yaml| crate::settings::testing::part(yaml)).collect();
    let mut faults = Faults::default();
    let matching = configs.iter().enumerate().map(|(index, config)| Matching {
        name: NAMES[index % NAMES.len()],
        config,
        at: (Place::root().key("routes").index(index), "match"),
        folds: folds(index),
        accepts: crate::request::AcceptConfig::ALL.iter().copied().collect(),
    });
    let table = RouteTable::build(matching, &mut faults);
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
fn tables_find_alike_only_if_all_that_decides_is_the_same() {
    let routes = ["{ hosts: [api.contoso.example], path: '/a/{id}' }", "{ path: /b, methods: [GET] }"];
    let own = table(&routes);

    assert!(own.finds_alike(&table(&routes)));
    for other in [
        vec![routes[1], routes[0]],
        vec![routes[0]],
        vec![routes[0], "{ path: /b, methods: [GET, PUT] }"],
        vec![routes[0], "{ exact-path: /b, methods: [GET] }"],
        vec!["{ hosts: [api.contoso.example], path: '/a/{name}' }", routes[1]],
        vec!["{ path: '/a/{id}' }", routes[1]],
    ] {
        assert!(!own.finds_alike(&table(&other)), "{other:?}");
    }
    assert!(!own.finds_alike(&build_folding(&routes, |index| index == 1).0));
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
    assert_eq!(refusal.allow.as_ref().unwrap(), "GET, HEAD, POST, PUT");
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

/// Builds a table in which the first routes lead to a case-insensitive upstream.
fn folding(first: usize, routes: &[&str]) -> RouteTable {
    let (table, faults) = build_folding(routes, |route| route < first);
    assert!(faults.is_empty(), "{faults:?}");
    table
}

const TWO_ROUTES: Result<usize, Reason> = Err(Reason::RequestTargetInvalid);

#[test]
fn routes_to_an_upstream_without_case_match_as_it_reads() {
    let table = folding(
        3,
        &[
            "{ hosts: [h], path: /Admin }",
            "{ hosts: [h], path: '/Users/{user}/Mail' }",
            "{ hosts: [h], exact-path: /caf%C3%A9 }",
            "{ hosts: [h], path: /orders }",
            "{ hosts: [other], path: /Admin }",
        ],
    );
    for (host, target, expected) in [
        ("h", "/Admin", Ok(0)),
        ("h", "/admin", Ok(0)),
        ("h", "/ADMIN/Users", Ok(0)),
        ("h", "/%41dm%69N", Ok(0)),
        ("h", "/administration", Err(Reason::NoRoute)),
        ("h", "/users/ann/mail", Ok(1)),
        ("h", "/users/ann", Err(Reason::NoRoute)),
        ("h", "/CAF%c3%a9", Ok(2)),
        // Another letter to the gateway and, as far as it knows, the same one to the upstream.
        ("h", "/caf%C3%89", TWO_ROUTES),
        ("h", "/orders", Ok(3)),
        ("h", "/Orders", Err(Reason::NoRoute)),
        ("other", "/Admin", Ok(4)),
        ("other", "/admin", Err(Reason::NoRoute)),
    ] {
        assert_eq!(route(&table, host, target), expected, "{host} {target}");
    }
    // What the route captures, and what follows, is as the caller wrote it.
    let captures = find(&table, "GET", "h", "/USERS/Ann%20B/mail/In%2CBox").unwrap().captures;
    assert_eq!((&*captures.segments[0].1, &*captures.rest), ("Ann%20B", "/In%2CBox"));
    let refusal = folding(1, &["{ path: /Admin, methods: [GET] }", "{ path: / }"]);
    let refusal = find(&refusal, "POST", "h", "/admin").unwrap_err();
    assert_eq!((refusal.reason, refusal.allow.as_ref().unwrap().to_str().unwrap()), (Reason::MethodNotAllowed, "GET, HEAD"));
}

#[test]
fn in_no_case_does_a_path_lead_around_the_route_that_guards_it() {
    // `/` leads to an upstream without case, and so does `/admin`.
    let table = folding(2, &["{ path: / }", "{ path: /admin }"]);
    for (target, expected) in [
        ("/ADMIN", Ok(1)),
        ("/aDMin/users", Ok(1)),
        ("/%41DMIN", Ok(1)),
        ("/ADMIN%2Fusers", TWO_ROUTES),
        ("/x;/..", Ok(0)),
        ("//ADMIN", TWO_ROUTES),
        ("/ADMIN;x", TWO_ROUTES),
        ("/%2541DMIN", TWO_ROUTES),
        ("/ADM%C4%B1N", TWO_ROUTES),
        ("/files", Ok(0)),
    ] {
        let Ok(parsed) = Target::read(target) else { continue };
        assert_eq!(
            table.find_for("h", &parsed, &Method::GET).map(|found| found.route).map_err(|r| r.reason),
            expected,
            "{target}"
        );
    }
    // `/admin` leads elsewhere, or nowhere: what the upstream of `/` has there is not to be had in another case.
    let table = folding(1, &["{ path: / }", "{ path: /admin }", "{ path: '/users/keys' }"]);
    for (target, expected) in [
        ("/admin", Ok(1)),
        ("/ADMIN", TWO_ROUTES),
        ("/Admin/users", TWO_ROUTES),
        ("/u%C5%BFers/keys", TWO_ROUTES),
        ("/users/%E2%84%AAeys", TWO_ROUTES),
        ("/users/keyring", Ok(0)),
        ("/Users", Ok(0)),
    ] {
        assert_eq!(route(&table, "h", target), expected, "{target}");
    }
    // Another upstream's paths are as they are written.
    let table = folding(1, &["{ path: /legacy }", "{ path: / }", "{ path: /public }", "{ path: /PUBLIC/x }"]);
    for (target, expected) in
        [("/public", Ok(2)), ("/Public", Ok(1)), ("/PUBLIC/x", Ok(3)), ("/public/x", Ok(2)), ("/LEGACY", Ok(0)), ("/", Ok(1))]
    {
        assert_eq!(route(&table, "h", target), expected, "{target}");
    }
}

#[test]
fn two_routes_that_differ_by_case_alone_are_errors_where_an_upstream_knows_none() {
    let alone =
        "routes[1].match: the path differs from that of `routes[0]` by case alone, and an upstream of the two knows no case";
    for (routes, folds, fault) in [
        (&["{ path: /Admin }", "{ path: /admin }"][..], &[0, 1][..], Some(alone)),
        (&["{ path: /Admin }", "{ path: /admin }"], &[0], Some(alone)),
        (&["{ path: /Admin }", "{ path: /admin }"], &[1], Some(alone)),
        (&["{ path: /Admin }", "{ path: /admin }"], &[], None),
        (&["{ path: /Admin }", "{ hosts: [h], path: /admin }"], &[0, 1], None),
        (&["{ path: '/{a}/Admin' }", "{ path: '/{b}/admin' }"], &[0], Some(alone)),
        (&["{ path: /Admin, methods: [GET] }", "{ path: /admin, methods: [POST] }"], &[0, 1], None),
        (&["{ path: /Admin }", "{ exact-path: /admin }"], &[0, 1], None),
        (&["{ path: /admin, methods: [GET] }", "{ path: /admin, methods: [POST] }"], &[0], None),
        (
            &["{ path: /admin }", "{ path: /admin }"],
            &[0],
            Some("routes[1].match: the route matches requests that `routes[0]` matches alike"),
        ),
        (
            &["{ path: /caf%C3%89 }"],
            &[0],
            Some("routes[0].match: `caf%C3%89` has capital letters beyond ASCII, which are not compared without case"),
        ),
    ] {
        let (_, faults) = build_folding(routes, |route| folds.contains(&route));
        assert_eq!(faults.first().map(String::as_str), fault, "{routes:?} {folds:?}");
        assert!(faults.len() <= 1, "{faults:?}");
    }
    // Told apart by their methods, whoever knows case and whoever does not.
    let table = folding(1, &["{ path: /Admin, methods: [GET] }", "{ path: /Admin, methods: [POST] }", "{ path: / }"]);
    for (method, target, expected) in [
        ("GET", "/admin", Ok(0)),
        ("POST", "/Admin", Ok(1)),
        ("POST", "/admin", Ok(2)),
        ("PUT", "/Admin", Err(Reason::MethodNotAllowed)),
    ] {
        let found = find(&table, method, "h", target).map(|found| found.route).map_err(|refusal| refusal.reason);
        assert_eq!(found, expected, "{method} {target}");
    }
}

#[test]
fn an_empty_table_serves_nothing() {
    assert_eq!(route(&RouteTable::default(), "a", "/"), Err(Reason::NoRoute));
}

/// The path reading of a backend: which of the possible transformations it applies.
#[derive(Clone, Copy, Debug)]
struct Backend {
    decodes: usize,
    decodes_before_it_splits: bool,
    backslash_is_slash: bool,
    /// 0 keeps parameters, 1 drops those of each segment, 2 drops everything after the first one.
    parameters: u8,
    cuts_query: bool,
    cuts_fragment: bool,
    merges: bool,
    normalises: bool,
}

impl Backend {
    /// Returns the segments that it sees.
    fn segments(self, path: &str) -> Vec<String> {
        // What is no separator for this backend is hidden from the split under a letter of its own.
        let hide = |text: &str| text.replace("%2F", "\u{1}").replace("%2f", "\u{1}");
        let mut text = path.to_owned();
        for time in 1..=self.decodes {
            if time == self.decodes && !self.decodes_before_it_splits {
                text = hide(&text);
            }
            text = percent_encoding::percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
        if self.normalises {
            text = crate::request::normalised(&text).into_owned();
        }
        if self.backslash_is_slash {
            text = text.replace('\\', "/");
        }
        for (cuts, at) in [(self.parameters == 2, ';'), (self.cuts_query, '?'), (self.cuts_fragment, '#')] {
            if cuts {
                text = text.split(at).next().unwrap().to_owned();
            }
        }
        let bare =
            |segment: &str| if self.parameters == 1 { segment.split(';').next().unwrap().to_owned() } else { segment.to_owned() };
        text.split('/').skip(1).map(bare).filter(|segment| !self.merges || !segment.is_empty()).collect()
    }
}

fn backend() -> impl Strategy<Value = Backend> {
    (1..4_usize, any::<bool>(), any::<bool>(), 0..3_u8, any::<[bool; 4]>()).prop_map(
        |(decodes, decodes_before_it_splits, backslash_is_slash, parameters, [cuts_query, cuts_fragment, merges, normalises])| {
            Backend {
                decodes,
                decodes_before_it_splits,
                backslash_is_slash,
                parameters,
                cuts_query,
                cuts_fragment,
                merges,
                normalises,
            }
        },
    )
}

/// Returns a segment as Windows and ASP.NET read it.
fn on_windows(segment: &str) -> String {
    let mut name = crate::request::normalised(segment).to_lowercase();
    while let Some((before, after)) = name.split_once("(s(").filter(|(_, after)| after.contains("))")) {
        name = format!("{before}{}", after.split_once("))").unwrap().1);
    }
    let name = name.split(':').next().unwrap().trim_end_matches(['.', ' ']).to_owned();
    if name == "admin~1" { "administrators".to_owned() } else { name }
}

/// Generates paths of the pieces that matter.
fn spelled(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(pieces), 1..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// A path pattern as a list: `None` is a capture.
type Shape = (Vec<Option<u8>>, bool);

/// Implements the documentation literally: try every route, keep the best.
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

    /// Checks that a case-insensitive upstream receives a path only by the route of that path in lower case, however it is
    /// spelled; any other upstream receives it by the route that it would have on its own.
    #[test]
    fn an_upstream_without_case_is_reached_by_one_route_alone(
        mut paths in prop::collection::vec((prop::collection::vec(prop::sample::select(b"aAbB*".to_vec()), 1..4), any::<bool>()), 1..10),
        path in prop::collection::vec(prop::sample::select(b"aAbBc".to_vec()), 1..4),
    ) {
        let small = |path: &[u8]| path.to_ascii_lowercase();
        paths.sort_by_key(|(path, _)| small(path));
        paths.dedup_by(|one, other| small(&one.0) == small(&other.0));
        let write = |path: &[u8], capture: bool| -> String {
            let mut names = (b'a'..=b'z').map(char::from);
            path.iter().map(|letter| match letter {
                b'*' if capture => format!("/{{{}}}", names.next().unwrap()),
                letter => format!("/{}", char::from(*letter)),
            }).collect()
        };
        let written: Vec<_> = paths.iter().map(|(path, _)| format!("{{ path: '{}' }}", write(path, true))).collect();
        let lower: Vec<_> = paths.iter().map(|(path, _)| format!("{{ path: '{}' }}", write(&small(path), true))).collect();
        let written: Vec<_> = written.iter().map(String::as_str).collect();
        let lower: Vec<_> = lower.iter().map(String::as_str).collect();
        let (found_by, faults) = build_folding(&written, |route| paths[route].1);
        prop_assert!(faults.is_empty(), "{:?}", faults);
        let (as_written, in_small) = (table(&written), table(&lower));

        let target = write(&path, false);
        let found = route(&found_by, "h", &target);
        let governing = route(&in_small, "h", &write(&small(&path), false));
        let exact = route(&as_written, "h", &target);

        match governing {
            Ok(governing) if paths[governing].1 => prop_assert_eq!(found, Ok(governing)),
            _ => match exact {
                Ok(exact) if paths[exact].1 => prop_assert_eq!(found, TWO_ROUTES),
                exact => prop_assert_eq!(found, exact),
            },
        }
    }

    /// Checks that, whatever a route accepts and however its backend reads it, the backend serves a path that belongs to that
    /// route.
    #[test]
    fn no_reading_of_an_accepted_target_is_another_routes(
        path in spelled(&[
            "/", "/", "admin", "secret", "x", "%2F", "%2f", "%5C", "%252F", "%25252F", ";", "%3B", "%253B", "%3F", "%253F",
            "%23", "//", "%EF%BC%8F", "%EF%BD%81dmin", "%EF%BC%852F", "%61dmin", "%2561dmin", "%C2%A5", "%20",
        ]),
        backend in backend(),
    ) {
        let table = table(&["{ path: / }", "{ path: /admin }", "{ path: '/{x}/secret' }"]);
        let Ok(target) = Target::read(&path) else { return Ok(()) };
        let Ok(found) = table.find_for("h", &target, &Method::GET) else { return Ok(()) };

        let segments = backend.segments(&target.path);
        let served = match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [_, "secret", ..] if !segments[0].is_empty() => 2,
            ["admin", ..] => 1,
            _ => 0,
        };
        prop_assert_eq!(found.route, served, "{} as {:?} by {:?}", target.path, segments, backend);
    }

    /// Checks the same for a backend on Windows.
    #[test]
    fn no_spelling_that_windows_folds_leads_around_a_route(
        path in spelled(&[
            "/", "/", "admin", "ADMIN", "x", ".", "...", "%20", ":", "%3A", "::$DATA", "(S(x))", "(s(", "%28S%28", "))", "%29%29", "~1", "admin~1",
            "%EF%BC%8E", "%EF%BC%9A", "%E3%80%80", "%EF%BD%81", "dmin", "%2F", "%5C", ";", "%3F", "%23", "administrators", "K%E2%84%AA",
        ]),
        backend in backend(),
    ) {
        let table = folding(3, &["{ path: / }", "{ path: /admin }", "{ path: /administrators }"]);
        let Ok(target) = Target::read(&path) else { return Ok(()) };
        let Ok(found) = table.find_for("h", &target, &Method::GET) else { return Ok(()) };

        let segments: Vec<_> = backend.segments(&target.path).iter().map(|segment| on_windows(segment)).collect();
        let segments: Vec<_> = segments.iter().map(String::as_str).filter(|segment| !backend.merges || !segment.is_empty()).collect();
        let served = match segments[..] {
            ["admin", ..] => 1,
            ["administrators", ..] => 2,
            _ => 0,
        };
        prop_assert_eq!(found.route, served, "{} as {:?} by {:?}", target.path, segments, backend);
    }

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

use super::*;
use crate::{
    expression::tests::World,
    inbound::testing::Building,
    refusal::{Reason, Refusal},
    request::{Reserved, ReservedNames},
    settings::Secrets,
};

fn config(name: &str, action: ExistsAction, values: &[&str]) -> SetHeaderConfig {
    let owned: Vec<_> = values.iter().map(|value| HeaderText::from(*value)).collect();
    let (value, values) = if let [value] = owned.as_slice() { (Some(value.clone()), vec![]) } else { (None, owned) };
    SetHeaderConfig { name: name.to_owned(), exists_action: action, value, values, when_absent: WhenAbsent::Refuse }
}

fn built(config: &SetHeaderConfig) -> Result<SetHeader, Vec<String>> {
    Building { token: true, captures: &["person"], ..Building::default() }
        .build(|place, context| SetHeader::build(config, place, context))
}

#[test]
fn values_hold_secrets_and_never_show_them() {
    let secrets = Secrets::known([("key", "@(hunter2)")]);
    let config: SetHeaderConfig = crate::settings::testing::part(r#"{ name: X-Key, value: "Bearer {{key}}" }"#);

    let policy = Building::default()
        .build(|place, context| {
            let mut context = BuildContext {
                faults: context.faults,
                sets: context.sets,
                tenants: context.tenants,
                secrets: &secrets,
                limits: context.limits,
                captures: context.captures,
                anonymous: context.anonymous,
                reserved: context.reserved,
                certificates: Default::default(),
                partners: None,
                token_places: context.token_places,
                graph: None,
                tokens_before: context.tokens_before,
                on_error: context.on_error,
                credential_names: &Default::default(),
                upstreams: None,
                key_places: context.key_places,
            };
            SetHeader::build(&config, place, &mut context)
        })
        .expect("it is good");

    assert!(!format!("{policy:?} {config:?}").contains("hunter2"));
    let Values::Ready(lines) = &policy.values else { panic!("made for each request") };
    assert_eq!(lines[0].as_bytes(), b"Bearer @(hunter2)");
    assert!(lines[0].is_sensitive());
}

fn lines(headers: &Fields, name: &str) -> Vec<String> {
    headers.get_all(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}

#[test]
fn does_what_the_action_says() {
    use ExistsAction::{Append, Delete, Override, Skip};
    let world = World::new();
    for (name, action, values, before, after) in [
        ("x-a", Override, &["new"][..], &[("x-a", "old"), ("x-a", "older")][..], &["new"][..]),
        ("x-a", Override, &["new"], &[], &["new"]),
        ("X-A", Override, &["one", "two"], &[("x-a", "old")], &["one, two"]),
        ("x-a", Append, &["new"], &[("x-a", "old")], &["old", "new"]),
        ("x-a", Append, &["new"], &[], &["new"]),
        ("x-a", Skip, &["new"], &[("x-a", "old")], &["old"]),
        ("x-a", Skip, &["new"], &[], &["new"]),
        ("x-a", Delete, &[], &[("x-a", "old"), ("x-a", "older")], &[]),
        ("x-a", Override, &["@(token.claims.oid)"], &[("x-a", "old")], &["0f0f"]),
        ("x-a", Override, &["@(token.claims.level)"], &[], &["5"]),
        ("x-a", Override, &["fixed", "@(token.claims.oid)"], &[], &["fixed, 0f0f"]),
        ("x-a", Override, &["@(token.claims.umlaut)"], &[], &["M\u{dc}LLER"]),
        ("x-a", Override, &["@(join(token.claims.groups, ','))"], &[], &["g1,g2"]),
        ("set-cookie", Override, &["a=1", "b=2"], &[("set-cookie", "c=3")], &["a=1", "b=2"]),
        ("set-cookie", Append, &["a=1", "@('b=' + token.claims.oid)"], &[("set-cookie", "c=3")], &["c=3", "a=1", "b=0f0f"]),
    ] {
        let policy = built(&config(name, action, values)).expect(name);
        let mut headers = Fields::of(before);

        policy.set(&world.facts(), &Clock::manual(0), &mut headers).expect("values can be had");

        assert_eq!(lines(&headers, name), after, "{name} {action:?} {values:?}");
    }
}

#[test]
fn delete_removes_what_a_backend_would_take_for_the_field() {
    let mut headers = Fields::of(&[("x-debug", "1"), ("x_debug", "1"), ("x-debug-level", "2")]);

    let policy = built(&config("X-Debug", ExistsAction::Delete, &[])).expect("valid");
    policy.set(&World::new().facts(), &Clock::manual(0), &mut headers).expect("nothing to be had");

    assert_eq!(headers, Fields::of(&[("x-debug-level", "2")]));
}

#[test]
fn a_value_that_cannot_be_had_refuses_unless_it_is_skipped() {
    let world = World::new();
    for (value, skipped) in [
        ("@(token.claims.missing)", true),
        ("@(token.claims.gone)", true),
        ("@(lower(token.claims.missing))", true),
        ("@(lower(token.claims.level))", true),
        ("@(token.claims.address.zip)", true),
        // These are no header values, whatever the config says.
        ("@(token.claims.line)", false),
        ("@(token.claims.padded)", false),
        ("@(token.claims.groups)", false),
        ("@(token.claims.address)", false),
        ("@('tab\\there')", false),
        ("@('delete\\u007f')", false),
        ("@('c1\\u0085')", false),
    ] {
        let refusing = config("x-a", ExistsAction::Override, &[value]);
        let skipping = SetHeaderConfig { when_absent: WhenAbsent::Skip, ..refusing.clone() };
        let mut headers = Fields::of(&[("x-a", "the caller's")]);

        let refusal = built(&refusing).expect(value).set(&world.facts(), &Clock::manual(0), &mut headers).expect_err(value);
        let answer = built(&skipping).expect(value).set(&world.facts(), &Clock::manual(0), &mut headers);

        assert_eq!(Refusal::from(refusal).reason, Reason::HeaderValueUnavailable, "{value}");
        assert_eq!(answer.is_ok(), skipped, "{value}");
        assert!(headers.is_empty(), "{value}: the caller's own value is gone all the same");
    }
}

#[test]
fn a_comma_in_one_of_several_values_refuses() {
    let policy = built(&config("x-a", ExistsAction::Override, &["fixed", "@('a,b')"])).expect("valid");

    assert!(policy.set(&World::new().facts(), &Clock::manual(0), &mut Fields::default()).is_err());
}

#[test]
fn reserves_the_names_that_callers_must_not_send() {
    use ExistsAction::{Delete, Override, Skip};
    let known = |reserved: &Reserved, name: &'static str| reserved.contains(&HeaderName::from_static(name));
    let mut names = ReservedNames::default();
    let mut faults = Faults::default();
    for (upstream, name, action, values) in [
        ("orders", "x-user", Override, &["@(token.claims.oid)"][..]),
        ("orders", "x-from", Override, &["@(caller.address)"]),
        ("orders", "x-environment", Override, &["production"]),
        ("orders", "x-gone", Delete, &[]),
        ("graph", "x-language", Skip, &["@(request.headers.accept)"]),
        ("graph", "x-user", Skip, &["someone"]),
    ] {
        names.enter(Some(upstream));
        let config = config(name, action, values);
        let building = Building { token: true, ..Building::default() };
        let built = building.build_with(&mut names, &mut faults, |place, context| SetHeader::build(&config, place, context));
        assert!(built.is_some(), "{name}");
    }
    names.check(&mut faults);

    let (orders, graph) = (names.finish(Some("orders")), names.finish(Some("graph")));
    assert!(known(&orders, "x_user") && known(&graph, "x-user"));
    assert!(known(&orders, "x-from") && known(&graph, "x-from"));
    assert!(known(&orders, "x-environment") && !known(&graph, "x-environment"));
    assert!(!known(&orders, "x-gone") && !known(&graph, "x-language"));
    assert_eq!(faults.errors(), 1, "skip on a reserved name");
}

#[test]
fn what_the_answer_bears_is_reserved_nowhere() {
    let mut names = ReservedNames::default();
    let mut faults = Faults::default();
    let config = config("x-user", ExistsAction::Override, &["@(token.claims.oid)"]);

    let building = Building { token: true, ..Building::default() };
    let built =
        building.build_with(&mut names, &mut faults, |place, context| SetHeader::build_for_answer(&config, place, context));

    assert!(built.is_some() && !names.finish(None).contains(&HeaderName::from_static("x-user")));
}

#[test]
fn mistakes_are_found_at_load() {
    use ExistsAction::{Delete, Override};
    for (name, action, values, expected) in [
        ("x a", Override, &["v"][..], "not a header's name"),
        ("Authorization", Override, &["v"], "`Authorization` is not set as a header"),
        ("authorization", Delete, &[], "`Authorization` is not set as a header"),
        ("Host", Override, &["v"], "`Host` is not set as a header"),
        ("Content-Length", Override, &["v"], "the gateway sets it itself"),
        ("transfer-encoding", Delete, &[], "the gateway sets it itself"),
        ("Connection", Override, &["v"], "the gateway sets it itself"),
        ("TE", Override, &["v"], "the gateway sets it itself"),
        ("Expect", Override, &["v"], "the gateway sets it itself"),
        ("x-a", Delete, &["v"], "takes no value"),
        ("x-a", Override, &[], "no `value` is written"),
        ("x-a", Override, &[""], "the value is empty"),
        ("x-a", Override, &["a\r\nx-b: c"], "control characters"),
        ("x-a", Override, &[" a"], "begins or ends with a space"),
        ("x-a", Override, &["@(tokn.claims.oid)"], "at column 3 of the expression: nothing is called `tokn`"),
        ("x-a", Override, &["@(token.claims.oid"], "no closing bracket"),
        ("x-a", Override, &["Bearer @(token.claims.oid)"], "mixes text and an expression"),
        ("x-a", Override, &["@(token.claims.oid) and more"], "goes on after the expression"),
        ("x-a", Override, &["@{ return 1; }"], "statements"),
        ("x-a", Override, &["@(captures.unknown)"], "captures no `unknown`"),
    ] {
        let faults = built(&config(name, action, values)).expect_err(name);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{name} {values:?}: {faults:?}");
    }
    let both = SetHeaderConfig { values: vec![HeaderText::from("b")], ..config("x-a", Override, &["a"]) };
    assert!(built(&both).expect_err("both")[0].contains("both `value` and `values`"));
}

#[test]
fn a_value_from_the_token_needs_a_token() {
    let config = config("x-user", ExistsAction::Override, &["@(has(token.claims.oid) ? token.claims.oid : 'nobody')"]);

    for anonymous in [false, true] {
        let building = Building { anonymous, ..Building::default() };
        let faults = building.build(|place, context| SetHeader::build(&config, place, context)).expect_err("no token policy");
        assert!(faults[0].contains("no policy before it validates one"), "{faults:?}");
    }
}

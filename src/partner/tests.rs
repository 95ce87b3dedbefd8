use std::time::Duration;

use super::*;
use crate::{
    certificate::testing::{NOW, self_signed},
    refusal::Reason,
    settings::Severity,
};

const APP: &str = "22223333-cccc-4444-dddd-5555eeee6666";
const OTHER_APP: &str = "77778888-cccc-4444-dddd-5555eeee6666";
const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const OTHER_TENANT: &str = "bbbbcccc-0000-cccc-1111-dddd2222eeee";

fn partners(yaml: &str) -> (Partners, Vec<String>) {
    partners_at(yaml, 0)
}

fn partners_at(yaml: &str, now: u64) -> (Partners, Vec<String>) {
    partners_after(None, yaml, now)
}

fn partners_after(previous: Option<&Partners>, yaml: &str, now: u64) -> (Partners, Vec<String>) {
    let (partners, faults) = built(previous, yaml, now);
    (partners, faults.iter().map(|fault| format!("{:?} {}: {}", fault.severity, fault.place, fault.message)).collect())
}

fn built(previous: Option<&Partners>, yaml: &str, now: u64) -> (Partners, Faults) {
    let tenants = format!("{{ contoso: {{ id: {TENANT} }}, any: {{ id: organizations }}, faulty: {{ id: '?' }} }}");
    let tenants = Tenants::build(&crate::settings::testing::part(&tenants), None, &Place::root(), &mut Faults::default());
    let with = PartnersContext {
        sets: &AddressSets::default(),
        tenants: &tenants,
        routes: &["orders", "partners"],
        certificates: true,
        now,
        secrets: &Secrets::default(),
        limits: &Limits::default(),
        metrics: (&Metrics::default(), 1),
        previous,
    };
    let mut faults = Faults::default();
    let partners = Partners::build(&crate::settings::testing::part(yaml), with, &Place::root().key("partners"), &mut faults);
    (partners, faults)
}

/// Makes a partner with every setting, and this `enabled`.
fn fabrikam(enabled: bool) -> Partners {
    let (partners, faults) = partners(&format!(
        "fabrikam: {{ enabled: {enabled}, client-application-ids: [{}], tenants: [contoso], client-credential: certificate, \
         addresses: [203.0.113.7, 198.51.100.0/24], routes: [partners], owner: integration@contoso.example, expires: 1970-03-01 }}",
        APP.to_ascii_uppercase()
    ));
    assert!(faults.iter().all(|fault| fault.starts_with("Warning")), "{faults:?}");
    partners
}

fn call<'a>() -> Call<'a> {
    Call {
        application: Some(APP),
        tenant: TENANT,
        kind: TokenKind::App,
        credential: Some(CredentialKind::Certificate),
        certificate: None,
        address: IpAddr::from([203, 0, 113, 7]),
        route: "partners",
    }
}

fn reason(partners: &Partners, call: Call<'_>, clock: &Clock) -> Option<Reason> {
    partners.judge(call, None, clock).err().map(|fault| Refusal::from(fault).reason)
}

#[test]
fn every_combination_is_judged_in_the_documented_order() {
    const END: u64 = 60 * 86_400;
    let mut judged = 0;
    for enabled in [true, false] {
        let partners = fabrikam(enabled);
        for application in [Some(APP), Some(OTHER_APP), None] {
            for tenant in [TENANT, OTHER_TENANT, ""] {
                for kind in [TokenKind::App, TokenKind::User] {
                    for route in ["partners", "orders"] {
                        for address in ["203.0.113.7", "198.51.100.9", "::ffff:203.0.113.7", "203.0.113.8", "2001:db8::1"] {
                            let is_elsewhere = matches!(address, "203.0.113.8" | "2001:db8::1");
                            for credential in [
                                Some(CredentialKind::Certificate),
                                Some(CredentialKind::Secret),
                                Some(CredentialKind::None),
                                None,
                            ] {
                                for now in [0, END - 1, END, END + 1] {
                                    let address = address.parse().unwrap();
                                    let certificate = None;
                                    let call = Call { application, tenant, kind, credential, certificate, address, route };
                                    let expected = if application != Some(APP) || tenant != TENANT || kind != TokenKind::App {
                                        Some(Reason::PartnerUnknown)
                                    } else if !enabled {
                                        Some(Reason::PartnerDisabled)
                                    } else if route != "partners" {
                                        Some(Reason::PartnerRouteNotAllowed)
                                    } else if is_elsewhere {
                                        Some(Reason::PartnerAddressNotAllowed)
                                    } else if credential != Some(CredentialKind::Certificate) {
                                        Some(Reason::PartnerCredentialTooWeak)
                                    } else {
                                        (now >= END).then_some(Reason::PartnerExpired)
                                    };
                                    assert_eq!(self::reason(&partners, call, &Clock::manual(now)), expected, "{call:?} at {now}");
                                    judged += 1;
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(judged, 2 * 3 * 3 * 2 * 2 * 5 * 4 * 4);
}

#[test]
fn access_ends_while_the_clock_goes_on() {
    let (partners, clock) = (fabrikam(true), Clock::manual(60 * 86_400 - 1));

    assert_eq!(partners.judge(call(), None, &clock).unwrap().name.as_ref(), "fabrikam");
    clock.advance(Duration::from_secs(1));
    assert_eq!(reason(&partners, call(), &clock), Some(Reason::PartnerExpired));
}

#[test]
fn what_is_left_out_has_its_default() {
    let (partners, faults) = partners(&format!("p: {{ client-application-ids: [{APP}] }}"));
    assert_eq!(faults, ["Warning partners.p: the partner may call from any address"]);
    let clock = Clock::manual(0);

    for (call, expected) in [
        (Call { credential: None, ..call() }, None),
        (Call { address: [192, 0, 2, 1].into(), ..call() }, None),
        (Call { route: "orders", ..call() }, None),
        (Call { tenant: "", ..call() }, Some(Reason::PartnerUnknown)),
        (Call { kind: TokenKind::User, ..call() }, Some(Reason::PartnerUnknown)),
    ] {
        assert_eq!(reason(&partners, call, &clock), expected, "{call:?}");
    }
}

#[test]
fn a_pinned_certificate_is_asked_for_after_the_credential_and_before_the_end_of_access() {
    let issued = self_signed("daemon");
    let (own, other) = (issued.read(&[]), self_signed("daemon").read(&[]));
    let pinned = |thumbprint: &str| {
        let (partners, faults) = partners(&format!(
            "p: {{ client-application-ids: [{APP}], client-credential: certificate, addresses: [203.0.113.7], \
             client-certificate: {{ thumbprints: [\"{}\", \"{thumbprint}\"] }}, expires: 2030-01-01 }}",
            "00".repeat(20)
        ));
        assert!(faults.is_empty(), "{faults:?}");
        partners
    };
    let weak = Some(Reason::PartnerCredentialTooWeak);

    for partners in [pinned(own.thumbprint()), pinned(own.thumbprint_sha256())] {
        for (certificate, credential, now, expected) in [
            (Some(&own), Some(CredentialKind::Certificate), NOW, None),
            (Some(&other), Some(CredentialKind::Certificate), NOW, weak),
            (None, Some(CredentialKind::Certificate), NOW, weak),
            (Some(&own), Some(CredentialKind::Secret), NOW, weak),
            (Some(&own), Some(CredentialKind::Certificate), own.not_before() - 1, weak),
            (Some(&own), Some(CredentialKind::Certificate), own.not_after() + 1, weak),
            (Some(&own), Some(CredentialKind::Certificate), own.not_after(), Some(Reason::PartnerExpired)),
        ] {
            let call = Call { certificate, credential, ..call() };
            assert_eq!(reason(&partners, call, &Clock::manual(now)), expected, "{certificate:?} {credential:?} {now}");
        }
    }
    let call = Call { certificate: Some(&own), address: [192, 0, 2, 1].into(), ..call() };
    assert_eq!(reason(&pinned(own.thumbprint()), call, &Clock::manual(NOW)), Some(Reason::PartnerAddressNotAllowed));
}

#[test]
fn users_tokens_count_only_where_the_partner_says_so() {
    let (partners, _) = partners(&format!("p: {{ client-application-ids: [{APP}], token-kind: any }}"));

    assert_eq!(reason(&partners, Call { kind: TokenKind::User, ..call() }, &Clock::manual(0)), None);
}

#[test]
fn one_application_may_be_two_partners_in_two_tenants() {
    let (partners, faults) = partners(&format!(
        "a: {{ client-application-ids: [{APP}], tenants: [contoso], addresses: [203.0.113.7] }}\n\
         b: {{ client-application-ids: [{APP}], tenants: [{OTHER_TENANT}], addresses: [203.0.113.7] }}"
    ));
    assert!(faults.is_empty(), "{faults:?}");

    for (tenant, name) in [(TENANT, "a"), (OTHER_TENANT, "b")] {
        assert_eq!(&*partners.judge(Call { tenant, ..call() }, None, &Clock::manual(0)).unwrap().name, name);
    }
}

#[test]
fn a_policy_narrows_to_some_partners() {
    let partners = fabrikam(true);

    assert!(partners.judge(call(), Some(&["fabrikam".into()]), &Clock::manual(0)).is_ok());
    let fault = partners.judge(call(), Some(&["tailspin".into()]), &Clock::manual(0)).unwrap_err();
    assert_eq!(fault, PartnerFault::Route("fabrikam".into()));
    assert_eq!(fault.partner().map(|name| &**name), Some("fabrikam"));
}

#[test]
fn what_is_incomplete_or_contradicts_itself_is_an_error() {
    for (yaml, fault) in [
        (
            "p: { client-application-ids: [] }".to_owned(),
            "Error partners.p.client-application-ids: the list is empty, so nobody would be this partner",
        ),
        (
            "p: { client-application-ids: [orders] }".to_owned(),
            "Error partners.p.client-application-ids[0]: `orders` is not an application id",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], tenants: [] }}"),
            "Error partners.p.tenants: the list is empty, so nobody would be this partner",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], tenants: [nowhere] }}"),
            "Error partners.p.tenants[0]: `nowhere` is neither a tenant of this config nor a GUID",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], tenants: [any] }}"),
            "Error partners.p.tenants[0]: `any` does not stand for one GUID",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], addresses: [] }}"),
            "Error partners.p.addresses: the list is empty, so every call would be refused",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], addresses: [offices] }}"),
            "Error partners.p.addresses[0]: there is no address set `offices`",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], client-certificate: {{ thumbprints: [] }} }}"),
            "Error partners.p.client-certificate.thumbprints: the list is empty, so every call would be refused",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], client-certificate: {{ thumbprints: [abc] }} }}"),
            "Error partners.p.client-certificate.thumbprints[0]: `abc` is not a thumbprint: it has 3 hexadecimal digits; SHA-1 has 40, SHA-256 has 64",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], routes: [] }}"),
            "Error partners.p.routes: the list is empty, so every call would be refused",
        ),
        (
            format!("p: {{ client-application-ids: [{APP}], routes: [partner] }}"),
            "Error partners.p.routes[0]: there is no route `partner`",
        ),
        (
            format!("a: {{ client-application-ids: [{APP}], tenants: [contoso] }}\nb: {{ client-application-ids: [{APP}] }}"),
            "Error partners.b.client-application-ids: `22223333-cccc-4444-dddd-5555eeee6666` is an application of the partner `a`, too",
        ),
        (
            format!(
                "a: {{ client-application-ids: [{APP}], tenants: [contoso] }}\nb: {{ client-application-ids: [{APP}], tenants: [{TENANT}] }}"
            ),
            "Error partners.b.client-application-ids: `22223333-cccc-4444-dddd-5555eeee6666` is an application of the partner `a`, too",
        ),
    ] {
        let (_, faults) = partners(&yaml);
        let errors: Vec<_> = faults.iter().filter(|fault| fault.starts_with("Error")).collect();
        assert_eq!(errors, [fault], "{yaml}");
    }
}

#[test]
fn a_route_that_is_nearly_there_is_offered() {
    for (route, expected) in
        [("partner", "is `partners` meant?"), ("Orders", "is `orders` meant?"), ("ping", "name a route of this config")]
    {
        let (_, faults) = built(None, &format!("p: {{ client-application-ids: [{APP}], routes: [{route}] }}"), 0);
        let cures: Vec<_> =
            faults.iter().filter(|fault| fault.severity == Severity::Error).filter_map(|fault| fault.cure.as_deref()).collect();
        assert_eq!(cures, [expected], "{route}");
    }
}

#[test]
fn a_tenant_that_is_faulty_itself_is_told_of_once() {
    let (partners, faults) = partners(&format!("p: {{ client-application-ids: [{APP}], tenants: [faulty] }}"));

    assert!(!faults.iter().any(|fault| fault.contains("partners.p.tenants")), "{faults:?}");
    assert_eq!(reason(&partners, call(), &Clock::manual(0)), Some(Reason::PartnerUnknown));
}

#[test]
fn access_goes_on_with_the_partner_and_ends_with_it() {
    let yaml = |enabled| format!("p: {{ enabled: {enabled}, client-application-ids: [{APP}] }}");
    let (first, _) = partners(&yaml(true));
    let (same, _) = partners_after(Some(&first), &yaml(true), 0);
    first.give_way_to(&same);
    let access = |partners: &Partners| partners.get("p").unwrap().access.clone();
    assert!(!access(&first).has_ended() && !access(&same).has_ended());

    let (off, _) = partners_after(Some(&same), &yaml(false), 0);
    assert!(!access(&same).has_ended(), "not before the other config is in force");
    assert!(access(&off).has_ended());
    same.give_way_to(&off);
    assert!(access(&first).has_ended() && access(&same).has_ended(), "for requests of all configs before");
    assert_eq!(reason(&same, call(), &Clock::manual(0)), Some(Reason::PartnerDisabled));

    let (again, _) = partners_after(Some(&off), &yaml(true), 0);
    off.give_way_to(&again);
    assert!(!access(&again).has_ended());
    assert_eq!(reason(&again, call(), &Clock::manual(0)), None);
    again.give_way_to(&Partners::default());
    assert!(access(&again).has_ended(), "gone from the config");
}

#[test]
fn a_partner_that_cannot_be_used_is_mentioned_and_not_there() {
    let (partners, _) = partners(&format!(
        "p: {{ client-application-ids: [{APP}], tenants: [nowhere] }}\nq: {{ client-application-ids: [{OTHER_APP}] }}"
    ));

    assert!(partners.mentions("p") && partners.get("p").is_none());
    assert!(partners.mentions("q") && partners.get("q").is_some());
    assert!(!partners.mentions("r"));
    assert_eq!(reason(&partners, call(), &Clock::manual(0)), Some(Reason::PartnerUnknown));
}

#[test]
fn the_status_tells_where_a_partner_stands() {
    let limits = "rate-limit: { calls: 5, renewal-period: 60s }, quota: { calls: 50, renewal-period: 30d }";
    let yaml = |enabled| {
        format!(
            "p: {{ enabled: {enabled}, client-application-ids: [{APP}], owner: Ann, expires: 1970-03-01, {limits} }}\nq: {{ client-application-ids: [{OTHER_APP}] }}"
        )
    };
    let ((on, _), (off, _)) = (partners(&yaml(true)), partners(&yaml(false)));
    for (partners, day, state, days_left) in [
        (&on, 0, "active", 60),
        (&on, 29, "active", 31),
        (&on, 30, "expiring", 30),
        (&on, 59, "expiring", 1),
        (&on, 60, "expired", 0),
        (&on, 61, "expired", 0),
        (&off, 0, "disabled", 60),
        (&off, 61, "disabled", 0),
    ] {
        assert_eq!(
            serde_json::to_value(partners.status(&Clock::manual(day * 86_400))).unwrap(),
            serde_json::json!([
                {
                    "name": "p", "state": state, "owner": "Ann", "expires": "1970-03-01", "days_left": days_left,
                    "rate_limit": { "calls": 5, "renewal_period_seconds": 60, "remaining": 5 },
                    "quota": { "calls": 50, "renewal_period_seconds": 30 * 86_400, "remaining": 50 },
                },
                { "name": "q", "state": "active" },
            ]),
            "day {day}"
        );
    }

    let mut text = crate::telemetry::MetricsText::default();
    off.write_metrics(&Clock::manual(0), &mut text);
    let text = text.into_string();
    for line in [
        "entrada_partner_enabled{partner=\"p\"} 0\n",
        "entrada_partner_enabled{partner=\"q\"} 1\n",
        "entrada_partner_expires_timestamp_seconds{partner=\"p\"} 5184000\n",
        "entrada_partner_limit_remaining{partner=\"p\",limit=\"rate-limit\"} 5\n",
        "entrada_partner_limit_remaining{partner=\"p\",limit=\"quota\"} 50\n",
    ] {
        assert!(text.contains(line), "{text}");
    }
    assert!(!text.contains("seconds{partner=\"q\"}"), "{text}");
}

#[test]
fn limits_that_cannot_be_meant_are_faults() {
    for (limit, expected) in [
        ("rate-limit: { calls: 1, renewal-period: 1s }", None),
        ("rate-limit: { calls: 1, renewal-period: 24h }", None),
        ("quota: { calls: 1, renewal-period: 365d }", None),
        (
            "rate-limit: { calls: 0, renewal-period: 60s }",
            Some("Error partners.p.rate-limit.calls: no call at all would be let through"),
        ),
        (
            "rate-limit: { calls: 1, renewal-period: 25h }",
            Some("Error partners.p.rate-limit.renewal-period: the period is too short or too long"),
        ),
        (
            "rate-limit: { calls: 1, renewal-period: 999ms }",
            Some("Error partners.p.rate-limit.renewal-period: the period is too short or too long"),
        ),
        ("quota: { calls: 0, renewal-period: 30d }", Some("Error partners.p.quota.calls: no call at all would be let through")),
        (
            "quota: { calls: 1, renewal-period: 999ms }",
            Some("Error partners.p.quota.renewal-period: the period is too short or too long"),
        ),
    ] {
        let (_, faults) = partners(&format!("p: {{ client-application-ids: [{APP}], {limit} }}"));
        let errors: Vec<_> = faults.iter().filter(|fault| fault.starts_with("Error")).map(String::as_str).collect();
        assert_eq!(errors, expected.as_slice(), "{limit}");
    }
}

#[test]
fn every_address_is_any_address() {
    for addresses in ["[0.0.0.0/0]", "['::/0', 192.0.2.1]", "[0.0.0.0/1, 128.0.0.0/1]"] {
        let (_, faults) = partners(&format!("p: {{ client-application-ids: [{APP}], addresses: {addresses} }}"));
        assert!(faults.contains(&"Warning partners.p: the partner may call from any address".to_owned()), "{faults:?}");
    }
}

#[test]
fn the_end_of_access_is_warned_of_ahead() {
    let yaml = |enabled| {
        format!(
            "p: {{ enabled: {enabled}, client-application-ids: [{APP}], addresses: [192.0.2.1], owner: Ann, expires: 1970-03-01 }}"
        )
    };
    for (day, enabled, expected) in [
        (0, true, None),
        (29, true, None),
        (30, true, Some("Warning partners.p.expires: the partner's access ends in 30 days, on 1970-03-01")),
        (59, true, Some("Warning partners.p.expires: the partner's access ends in 1 days, on 1970-03-01")),
        (60, true, Some("Warning partners.p.expires: the partner's access has ended on 1970-03-01")),
        (60, false, None),
    ] {
        let (_, faults) = partners_at(&yaml(enabled), day * 86_400);
        assert_eq!(faults.first().map(String::as_str), expected, "day {day}");
    }
}

//! Log messages about expiry, repeated daily: the access of partners, entries of address sets, and certificates of listeners.
//!
//! Expired and expiring items are also reported when a config is read, but a gateway may run for months on one config.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    gateway::runtime::Runtime,
    partner::{Partner, PartnerState},
};

const DAY: u64 = 86_400;

/// Reports at the start of each day what expires soon and what has just expired. Never returns.
pub(crate) async fn tell(runtime: Arc<ArcSwap<Runtime>>) {
    let mut told = runtime.load_full().clock.unix_seconds() / DAY;
    loop {
        let now = runtime.load_full().clock.unix_seconds();
        if now / DAY != told {
            told = now / DAY;
            for ending in endings(&runtime.load_full(), now) {
                tracing::warn!(at = ending.at, owner = ending.owner, "{}", ending.message);
            }
        }
        tokio::time::sleep(Duration::from_secs(DAY - now % DAY)).await;
    }
}

/// An item that has expired, or is about to.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    /// Its place in the config.
    at: String,
    owner: Option<String>,
    message: String,
}

/// Returns the items to report at the start of a day.
fn endings(runtime: &Runtime, now: u64) -> Vec<Ending> {
    let partners = runtime.partners.iter().filter_map(|partner| ending(partner, now));
    let sets = runtime.address_sets.by_name.iter().flat_map(|(name, set)| {
        set.dated().iter().filter(move |dated| has_just_ended(dated.expires.end(), now)).map(move |dated| Ending {
            at: format!("address-sets.{name}"),
            owner: dated.owner.as_deref().map(str::to_owned),
            message: format!("`{}` has expired on {} and no longer counts", dated.address, dated.expires),
        })
    });
    // Unlike the others, a certificate that has expired is an outage until it is replaced.
    let certificates = runtime.listener_certificates(now).into_iter().filter_map(|(certificate, complaint)| {
        Some(Ending { at: format!("listeners.{}.tls", certificate.listener), owner: None, message: complaint? })
    });
    partners.chain(sets).chain(certificates).collect()
}

fn ending(partner: &Partner, now: u64) -> Option<Ending> {
    let (until, day) = (partner.until?, partner.expires?);
    let message = match partner.state(now) {
        PartnerState::Expiring => format!("the partner's access ends in {} days, on {day}", (until - now).div_ceil(DAY)),
        PartnerState::Expired if has_just_ended(until, now) => format!("the partner's access has ended on {day}"),
        PartnerState::Active | PartnerState::Expired | PartnerState::Disabled => return None,
    };
    Some(Ending { at: format!("partners.{}", partner.name), owner: partner.owner.as_deref().map(str::to_owned), message })
}

/// Returns whether something that expired at `until` was still valid a day ago.
const fn has_just_ended(until: u64, now: u64) -> bool {
    until <= now && now - until < DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::clock::Clock, config::Document, gateway::runtime::RuntimeContext, settings::Faults, telemetry::Metrics};

    #[test]
    fn each_ending_is_told_on_its_days() {
        let app = |first: char| format!("{first}2223333-cccc-4444-dddd-5555eeee6666");
        let text = format!(
            "listeners: [ {{ name: public, address: \"127.0.0.1:0\" }} ]\n\
             address-sets: {{ guests: [ {{ address: 192.0.2.7, owner: events, expires: 1970-03-01 }}, 192.0.2.8 ] }}\n\
             partners:\n  a: {{ client-application-ids: [{}], owner: Ann, expires: 1970-03-01 }}\n  \
             b: {{ enabled: false, client-application-ids: [{}], expires: 1970-03-01 }}\n  c: {{ client-application-ids: [{}] }}\n",
            app('a'),
            app('b'),
            app('c'),
        );
        let document = Document::from_text("entrada.yaml", &text).unwrap_or_else(|report| panic!("{report}"));
        let (clock, metrics) = (Clock::manual(0), Metrics::default());
        let context =
            RuntimeContext { document: &document, purpose: Default::default(), workers: 1, clock: &clock, metrics: &metrics };
        let runtime = Runtime::build(context, None, &mut Faults::default()).expect("a sound config");

        for (day, expected) in [
            (29, &[][..]),
            (30, &["partners.a: the partner's access ends in 30 days, on 1970-03-01"]),
            (59, &["partners.a: the partner's access ends in 1 days, on 1970-03-01"]),
            (
                60,
                &[
                    "partners.a: the partner's access has ended on 1970-03-01",
                    "address-sets.guests: `192.0.2.7` has expired on 1970-03-01 and no longer counts",
                ],
            ),
            (61, &[]),
        ] {
            let found: Vec<_> =
                endings(&runtime, day * DAY).into_iter().map(|ending| format!("{}: {}", ending.at, ending.message)).collect();
            assert_eq!(found, expected, "day {day}");
        }
        assert_eq!(endings(&runtime, 60 * DAY)[1].owner.as_deref(), Some("events"));
    }

    #[test]
    fn certificates_of_listeners_are_told_before_and_after_their_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut parameters = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        (parameters.not_before, parameters.not_after) = (rcgen::date_time_ymd(2030, 1, 1), rcgen::date_time_ymd(2031, 1, 1));
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        std::fs::write(folder.path().join("a.pem"), certificate.pem()).expect("written");
        std::fs::write(folder.path().join("a.key"), key.serialize_pem()).expect("written");
        let text = "listeners: [ { name: public, address: \"127.0.0.1:0\", tls: { certificate: a.pem, private-key: a.key } } ]\n";
        let name = folder.path().join("entrada.yaml").display().to_string();
        let document = Document::from_text(&name, text).unwrap_or_else(|report| panic!("{report}"));
        let end = u64::try_from(rcgen::date_time_ymd(2031, 1, 1).unix_timestamp()).expect("after 1970");
        let (clock, metrics) = (Clock::manual(end - 100 * DAY), Metrics::default());
        let context =
            RuntimeContext { document: &document, purpose: Default::default(), workers: 1, clock: &clock, metrics: &metrics };
        let runtime = Runtime::build(context, None, &mut Faults::default()).expect("a sound config");

        for (now, expected) in [
            (end - 40 * DAY, None),
            (end - 20 * DAY, Some("expires in 20 days")),
            (end + DAY, Some("has expired, and clients refuse it")),
            (end + 9 * DAY, Some("has expired, and clients refuse it")),
        ] {
            let told: Vec<_> = endings(&runtime, now).into_iter().map(|ending| (ending.at, ending.message)).collect();
            match expected {
                None => assert!(told.is_empty(), "{told:?}"),
                Some(expected) => {
                    assert!(told.len() == 1 && told[0].0 == "listeners.public.tls" && told[0].1.ends_with(expected), "{told:?}");
                }
            }
        }
    }
}

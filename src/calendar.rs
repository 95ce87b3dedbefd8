//! What ends on a day, told in the log as the days go by: the access of partners, and entries of address sets.
//!
//! What had ended or was about to end when a config was read is told with the other warnings about it. A gateway may run for
//! months on one config, though.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::{
    partner::{Partner, Standing},
    runtime::Runtime,
};

const DAY: u64 = 86_400;

/// Tells each day, as it begins, what ends soon and what has just ended. Never returns.
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

/// Something that has ended, or is about to.
#[derive(Debug, PartialEq, Eq)]
struct Ending {
    /// Where it stands in the config.
    at: String,
    owner: Option<String>,
    message: String,
}

/// What there is to tell at the beginning of a day.
fn endings(runtime: &Runtime, now: u64) -> Vec<Ending> {
    let partners = runtime.partners.iter().filter_map(|partner| ending(partner, now));
    let sets = runtime.address_sets.by_name.iter().flat_map(|(name, set)| {
        set.dated().iter().filter(move |dated| has_just_ended(dated.expires.end(), now)).map(move |dated| Ending {
            at: format!("address-sets.{name}"),
            owner: dated.owner.as_deref().map(str::to_owned),
            message: format!("`{}` has expired on {} and no longer counts", dated.address, dated.expires),
        })
    });
    partners.chain(sets).collect()
}

fn ending(partner: &Partner, now: u64) -> Option<Ending> {
    let (until, day) = (partner.until?, partner.expires?);
    let message = match partner.standing(now) {
        Standing::Expiring => format!("the partner's access ends in {} days, on {day}", (until - now).div_ceil(DAY)),
        Standing::Expired if has_just_ended(until, now) => format!("the partner's access has ended on {day}"),
        Standing::Active | Standing::Expired | Standing::Disabled => return None,
    };
    Some(Ending { at: format!("partners.{}", partner.name), owner: partner.owner.as_deref().map(str::to_owned), message })
}

/// Whether something that ended at `until` had not ended a day ago.
const fn has_just_ended(until: u64, now: u64) -> bool {
    until <= now && now - until < DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        config::{Document, Faults},
        runtime::Surroundings,
        telemetry::Metrics,
    };

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
        let surroundings = Surroundings { document: &document, workers: 1, clock: &clock, metrics: &metrics };
        let runtime = Runtime::build(surroundings, None, &mut Faults::default()).expect("a sound config");

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
}

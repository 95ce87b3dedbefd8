//! Filters of addresses that decide nothing beside each other, or refuse every caller together.

use super::{InboundPolicy, PolicyEntry, ip_filter::IpFilter, list::PolicyList};
use crate::settings::{Faults, Lint};

/// Warns of filters of a list that never refuse, since those before them do, and of filters that together refuse everybody.
pub(crate) fn lint(list: &PolicyList, faults: &mut Faults) {
    let mut before: Vec<(&PolicyEntry, &IpFilter)> = Vec::new();
    // One that is report-only refuses nobody.
    for entry in list.iter().filter(|entry| !entry.is_report_only()) {
        let InboundPolicy::IpFilter(filter) = &entry.policy else { continue };
        if let Some((first, _)) = before.iter().find(|(_, before)| filter.refuses_nobody_behind(before)) {
            let message = format!("this filter never refuses: {} before it lets no such caller through", first.at);
            faults.warning(Lint::PolicyShadowed, &entry.place, message, "remove it, or mend the lists");
        } else if let Some((first, _)) = before.iter().find(|(_, before)| filter.refuses_everybody_behind(before)) {
            let message = format!("every caller is refused: this filter admits none of those that {} lets through", first.at);
            faults.warning(Lint::FilterRefusesEveryone, &entry.place, message, "mend the lists, or remove one of the two");
        }
        before.push((entry, filter));
    }
}

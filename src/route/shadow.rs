//! Routes that others leave no paths to.

use std::collections::HashMap;

use super::{
    Matching,
    pattern::{Host, Pattern, Segment},
};
use crate::settings::{Faults, Lint, Place};

/// A route's pattern, with its name and place.
struct Read<'a> {
    name: &'a str,
    place: Place,
    pattern: Pattern,
}

/// Warns of routes whose own path and all paths below are taken by others: which route serves a path is decided before the method is looked
/// at, so that the others take requests of all methods.
pub(crate) fn lint<'a>(matching: impl IntoIterator<Item = Matching<'a>>, faults: &mut Faults) {
    let read = |Matching { name, config, at: (place, key), .. }: Matching<'a>| {
        let place = place.key(key);
        // What cannot be read was reported when the table was built.
        Some(Read { name, pattern: Pattern::read(config, &place, &mut Faults::default())?, place })
    };
    let all: Vec<_> = matching.into_iter().filter_map(read).collect();
    let (mut own, mut below) = (HashMap::<_, Vec<&Read<'_>>>::new(), HashMap::<_, Vec<&Read<'_>>>::new());
    for route in &all {
        match route.pattern.segments.as_slice() {
            segments if route.pattern.exact => own.entry(shape(segments)).or_default().push(route),
            [around @ .., Segment::Capture(_)] => below.entry(shape(around)).or_default().push(route),
            _ => {}
        }
    }
    for route in all.iter().filter(|route| !route.pattern.exact) {
        let shape = shape(&route.pattern.segments);
        // On each of its hosts something has to take them.
        let taken = |by: &HashMap<Shape<'_>, Vec<&Read<'_>>>| {
            let by = by.get(&shape)?;
            let on = |host: &Host| by.iter().find(|other| other.pattern.hosts.contains(host)).map(|other| other.name.to_owned());
            route.pattern.hosts.iter().map(on).collect::<Option<Vec<_>>>()?.into_iter().next()
        };
        if let (Some(own), Some(below)) = (taken(&own), taken(&below)) {
            let message =
                format!("no path is left to this route: `{own}` takes its own, and `{below}` all below it, whatever the method");
            let cure = "give their methods and policies to those two, or leave one of them out";
            faults.warning(Lint::RouteShadowed, &route.place, message, cure);
        }
    }
}

/// The segments of a path, without the names of its captures.
type Shape<'p> = Vec<Option<&'p str>>;

fn shape(segments: &[Segment]) -> Shape<'_> {
    let text = segments.iter().map(|segment| match segment {
        Segment::Literal(text) => Some(&**text),
        Segment::Capture(_) => None,
    });
    text.collect()
}

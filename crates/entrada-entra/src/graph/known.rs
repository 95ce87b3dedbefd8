//! Answers as they were given, for judging the same request once more.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde_json::Value;

use super::question::{Attributes, Groups, Person};

/// An answer about one user.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphAnswer {
    /// The user: tenant and object id, separated by a slash.
    pub about: Box<str>,
    /// The time when the answer was used, in seconds since 1970.
    pub at: u64,
    /// The answer.
    pub told: GraphTold,
}

/// A question to Microsoft Graph with its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum GraphTold {
    /// The groups in question, and those of them that the user is in.
    Groups(Box<[Box<str>]>, Vec<Box<str>>),
    /// The claims in question, and those that the directory has.
    Claims(Box<[Box<str>]>, Vec<(Box<str>, Value)>),
}

impl GraphAnswer {
    /// Makes the answer about groups.
    pub fn of_groups(person: Person<'_>, asked: &[Box<str>], groups: &Groups, at: u64) -> Self {
        let texts = groups.claim().as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into);
        Self { about: name(person), at, told: GraphTold::Groups(asked.into(), texts.collect()) }
    }

    /// Makes the answer about attributes.
    pub fn of_attributes(person: Person<'_>, asked: &[(Box<str>, Box<str>)], found: &Attributes, at: u64) -> Self {
        let names = asked.iter().map(|(claim, _)| claim.clone()).collect();
        Self { about: name(person), at, told: GraphTold::Claims(names, found.claims.clone()) }
    }

    /// Returns the groups of these that the user is in, if all of them were asked about.
    pub fn groups(answers: &[Self], person: Person<'_>, asked: &[Box<str>]) -> Option<Arc<Groups>> {
        answers.iter().filter(|answer| answer.about == name(person)).find_map(|answer| {
            let GraphTold::Groups(known, member) = &answer.told else { return None };
            let has = |list: &[Box<str>], group: &str| list.iter().any(|one| one.eq_ignore_ascii_case(group));
            let all = asked.iter().all(|group| has(known, group));
            let own = asked.iter().filter(|group| has(member, group)).map(|group| Value::from(&**group));
            all.then(|| Arc::new(Groups(own.collect())))
        })
    }

    /// Returns these attributes of the user, if all of them were asked about.
    pub fn attributes(answers: &[Self], person: Person<'_>, asked: &[(Box<str>, Box<str>)]) -> Option<Arc<Attributes>> {
        answers.iter().filter(|answer| answer.about == name(person)).find_map(|answer| {
            let GraphTold::Claims(known, found) = &answer.told else { return None };
            let all = asked.iter().all(|(claim, _)| known.contains(claim));
            let own = found.iter().filter(|(claim, _)| asked.iter().any(|(one, _)| one == claim)).cloned();
            all.then(|| Arc::new(Attributes { claims: own.collect(), last: ArcSwapOption::empty() }))
        })
    }
}

fn name(person: Person<'_>) -> Box<str> {
    format!("{}/{}", person.tenant.to_ascii_lowercase(), person.object_id.to_ascii_lowercase()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_for_the_same_user_and_for_no_wider_question() {
        let person = Person { tenant: "aaaabbbb-0000-cccc-1111-dddd2222eeee", object_id: "00000000-0000-0000-0000-00000000000A" };
        let other = Person { object_id: "00000000-0000-0000-0000-00000000000b", ..person };
        let asked: Vec<Box<str>> = vec!["G1".into(), "G2".into()];
        let told = [GraphAnswer::of_groups(person, &asked, &Groups(vec!["g2"].into()), 7)];

        let known = GraphAnswer::groups(&told, person, &asked[1..]).expect("asked");
        assert_eq!(*known.claim(), Value::from(vec!["G2"]));
        assert_eq!(*GraphAnswer::groups(&told, person, &asked[..1]).expect("asked").claim(), Value::Array(Vec::new()));
        assert!(GraphAnswer::groups(&told, other, &asked).is_none());
        assert!(GraphAnswer::groups(&told, person, &["G3".into()]).is_none());
        assert!(GraphAnswer::attributes(&told, person, &[("a".into(), "b".into())]).is_none());
    }
}

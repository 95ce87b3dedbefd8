//! A region in words: which callers, with which tokens, under which conditions.

use super::{
    region::{Atom, Flag, ListKey, Region, Spot, TextKey, TokenList, TokenText},
    report::Condition,
    side::Side,
    world::World,
};
use crate::expression::shape::{Fold, Test};

/// The most values that are named of one fact.
const MOST: usize = 6;

/// Writes regions in words, without what is never shown.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) sides: [&'a Side; 2],
    pub(crate) world: &'a World,
}

impl Words<'_> {
    /// Returns the tokens of the requests; nothing if they do not matter.
    pub(crate) fn tokens(&self, region: &Region) -> Option<String> {
        let spots = region.flags.iter().filter_map(|(flag, holds)| match flag {
            Flag::Token(spot) => Some((spot, *holds)),
            _ => None,
        });
        let words: Vec<String> = spots.map(|(spot, there)| self.token(region, spot, there)).collect();
        (!words.is_empty()).then(|| words.join(", and "))
    }

    fn token(&self, region: &Region, spot: &Spot, there: bool) -> String {
        let place = if *spot == Spot::Header("authorization".to_owned()) { String::new() } else { format!(" in {spot}") };
        if !there {
            return format!("no token{place}");
        }
        let flag = |flag: fn(Spot) -> Flag| region.flags.get(&flag(spot.clone())).copied();
        let who = match (flag(Flag::Sound), flag(Flag::App)) {
            (Some(false), _) => "a token that its issuer has not signed",
            (_, Some(true)) => "applications",
            (_, Some(false)) => "users",
            (_, None) => "tokens",
        };
        let mut facts = Vec::new();
        for (key, fact) in &region.texts {
            let TextKey::Token(of, field) = key else { continue };
            let Some(wanted) = fact.wanted().filter(|_| of == spot) else { continue };
            let wanted: Vec<_> = wanted.iter().map(|value| self.value(field, value)).collect();
            let name = match field {
                TokenText::Issuer => "of",
                TokenText::Audience => "for",
                TokenText::Client => "client",
                TokenText::Credential => "client credential",
                TokenText::Subject => "subject",
                TokenText::Claim(name) => name.as_str(),
            };
            facts.push(format!("{name} {}", one_of(&wanted)));
        }
        for (ListKey(of, list), fact) in &region.lists {
            let name = match list {
                TokenList::Roles => "role",
                TokenList::Scopes => "scope",
                TokenList::Claim(name) => name.as_str(),
            };
            for wanted in fact.wanted().into_iter().filter(|_| of == spot) {
                facts.push(format!("{name} {}", one_of(&wanted)));
            }
        }
        if let Some((least, _)) = region.ages.get(spot).filter(|(least, _)| *least > i64::MIN) {
            facts.push(format!("expired {least} s ago or earlier"));
        }
        let facts = if facts.is_empty() { String::new() } else { format!(": {}", facts.join(", ")) };
        format!("{who}{place}{facts}")
    }

    fn value(&self, field: &TokenText, value: &str) -> String {
        if *field != TokenText::Issuer {
            return self.shown(value);
        }
        let issuer = self.world.issuers.iter().find(|issuer| issuer.key == value);
        match issuer.map(|issuer| (&issuer.tenant, &issuer.issuer)) {
            Some((Some((_, guid)), _)) if guid == super::side::UNNAMED_TENANT => "any tenant".to_owned(),
            Some((Some((name, guid)), _)) => {
                // One name may stand for many tenants.
                let alone =
                    self.world.issuers.iter().filter(|issuer| issuer.tenant.as_ref().is_some_and(|(own, _)| own == name)).count()
                        == 1;
                if alone { name.clone() } else { guid.clone() }
            }
            Some((None, Some(name))) => name.clone(),
            _ => value.split_once(':').map_or(value, |(_, url)| url).to_owned(),
        }
    }

    fn shown(&self, value: &str) -> String {
        if self.hides(value) { "***".to_owned() } else { value.to_owned() }
    }

    /// Returns whether a text is a secret of either config.
    pub(crate) fn hides(&self, value: &str) -> bool {
        self.sides.iter().any(|side| side.hides(value))
    }

    /// Returns the facts besides addresses and tokens.
    pub(crate) fn conditions(&self, region: &Region) -> Vec<Condition> {
        let mut found = Vec::new();
        for (atom, holds) in &region.decided {
            let implied = match atom {
                Atom::Exists(key) if *holds => {
                    region.decided.iter().any(|(other, holds)| *holds && matches!(other, Atom::Text(of, _) if of == key))
                }
                Atom::Flag(Flag::Repeated(_)) => !holds,
                _ => false,
            };
            if implied {
                continue;
            }
            if let Some(text) = self.condition(atom) {
                found.push(Condition { text, value: *holds });
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn condition(&self, atom: &Atom) -> Option<String> {
        match atom {
            Atom::Exists(key) => Some(format!("{} is there", of_request(key)?)),
            Atom::Text(key, test) => Some(format!("{} {}", of_request(key)?, self.test(test))),
            Atom::Flag(Flag::Repeated(name)) => Some(format!("the header {name} is repeated")),
            Atom::Flag(Flag::Certificate(_)) => Some("the client's certificate is accepted".to_owned()),
            Atom::Flag(Flag::Key(spot, _)) => Some(format!("the key in {spot} is the partner's")),
            Atom::Flag(Flag::Claim(_, name)) => Some(format!("the claim {name} is true")),
            Atom::Flag(Flag::Bound(_)) => Some("the token is bound to the certificate".to_owned()),
            Atom::Flag(Flag::Free(text)) => Some(self.world.free_words(text)),
            Atom::Caller(_) | Atom::List(..) | Atom::Filled(_) | Atom::Flag(_) | Atom::Lapsed(..) => None,
        }
    }

    fn test(&self, test: &Test) -> String {
        match test {
            Test::In(texts) | Test::Holds(texts) => {
                let texts: Vec<_> = texts.iter().map(|text| self.shown(text)).collect();
                format!("is {}", one_of(&texts))
            }
            Test::Starts(text) => format!("begins with {text}"),
            Test::Ends(text) => format!("ends with {text}"),
            Test::Contains(text) => format!("contains {text}"),
            Test::Matches(pattern) => format!("matches {pattern}"),
            Test::True => "is true".to_owned(),
            Test::Networks(networks) => {
                let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
                format!("is in {}", one_of(&networks))
            }
            Test::Folded(Fold::Lower, test) => format!("in lower case {}", self.test(test)),
            Test::Folded(Fold::Upper, test) => format!("in upper case {}", self.test(test)),
        }
    }
}

fn of_request(key: &TextKey) -> Option<String> {
    match key {
        TextKey::Header(name) => Some(format!("the header {name}")),
        TextKey::Parameter(name) => Some(format!("the parameter {name}")),
        TextKey::Token(..) => None,
    }
}

/// Writes values, one of which is meant.
fn one_of(values: &[String]) -> String {
    let shown = values.iter().take(MOST).cloned().collect::<Vec<_>>().join(" or ");
    if values.len() > MOST { format!("{shown} or {} more", values.len() - MOST) } else { shown }
}

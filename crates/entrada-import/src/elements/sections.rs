//! Sections: the documents of a route, from the narrowest to the widest, and what stands in them beside policies.

use super::flow::{Flow, fragment_name, refusal_item, restricts};
use super::outcome::{Outcome, not};
use crate::{
    csharp::Refusal,
    expression::scope::Section,
    output::{Item, Yaml, map, text},
    policy::{PolicyDocument, says_something},
    report::{Judgement, Verdict},
    xml::{Element, Node, Text},
};

/// A document in the chain of a route, or the products of its API, one of which counts for a caller.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Link<'i> {
    Document(&'i PolicyDocument),
    Products(&'i [Alternative<'i>]),
}

/// A product, as one of several.
#[derive(Clone, Debug)]
pub(crate) struct Alternative<'i> {
    /// The names of the partners that its subscriptions are.
    pub(crate) partners: Vec<String>,
    pub(crate) document: Option<&'i PolicyDocument>,
}

impl<'i> Flow<'i> {
    /// Translates a section: that of the narrowest document, with those of the wider ones at `<base />`.
    pub(crate) fn section(&mut self, chain: &[Link<'i>], section: Section) -> Vec<Item> {
        self.scope.section = section;
        let Some((link, wider)) = chain.split_first() else { return Vec::new() };
        let document = match link {
            Link::Document(document) => *document,
            Link::Products(products) => return self.products(products, wider, section),
        };
        self.shared.registry.judge_element(document.id, &document.root, &Judgement::same());
        let mut items = Vec::new();
        if section == Section::Inbound {
            self.damage(document, &mut items);
        }
        if document.root.name == "fragment" {
            if section == Section::Inbound {
                self.children(document, &document.root, &mut items);
            }
            return items;
        }
        let Some(element) = document.section(section) else {
            items.extend(self.section(wider, section));
            return items;
        };
        self.shared.registry.judge_element(document.id, element, &Judgement::same());
        if !holds_base(element) && wider.iter().any(|link| link_restricts(link, section)) {
            self.shared.lint("L10", document, element.start);
        }
        let around = std::mem::replace(&mut self.wider, wider.to_vec());
        self.children(document, element, &mut items);
        self.wider = around;
        items
    }

    /// Translates `<base />`: the section of the next wider scope, in its place. It may stand in a branch as well.
    pub(super) fn base(&mut self) -> Result<Outcome, Refusal> {
        let Some(next) = self.wider.first().copied() else {
            return Ok(Outcome::note(Vec::new(), "base", "`<base />` stands where no wider scope is"));
        };
        if self.fragments > 0 {
            return Err(not("base", "`<base />` stands in a fragment, which is of no scope"));
        }
        let (wider, section) = (self.wider.clone(), self.scope.section);
        let items = self.section(&wider, section);
        self.scope.section = section;
        Ok(Outcome::same(match next {
            Link::Document(next) if !items.is_empty() => vec![Item::Group { name: fragment_name(next, section), items }],
            _ => items,
        }))
    }

    /// Translates the elements within an element. A text among them is a rule that nobody can read.
    pub(crate) fn children(&mut self, document: &'i PolicyDocument, element: &'i Element, out: &mut Vec<Item>) {
        for node in &element.children {
            match node {
                Node::Element(child) => self.policy(document, child, out),
                Node::Text(text) if says_something(text) => self.text_among_policies(document, element, text, out),
                Node::Text(_) => {}
            }
        }
    }

    pub(super) fn text_among_policies(&mut self, document: &PolicyDocument, element: &Element, text: &Text, out: &mut Vec<Item>) {
        let line = document.line(text.content_start());
        let reason = format!("line {line}: a text stands among the policies, in the place of which others may be filled in");
        let judgement = Judgement::new(Verdict::Not, "unparsable", reason, "fill it in before the import");
        self.shared.registry.judge_expression(document.id, text, &judgement);
        self.shared.registry.judge_element(document.id, element, &judgement);
        let id = self.shared.registry.of_element(document.id, element).unwrap_or(usize::MAX);
        let place = format!("apim: {}:{line} not: unparsable (text)", document.file);
        self.refuse(id, &place, out);
    }

    /// Refuses in the place of what cannot be read of a document, and stands in none of its policies.
    pub(super) fn damage(&mut self, document: &PolicyDocument, out: &mut Vec<Item>) {
        let Some((at, message)) = document.damage() else { return };
        let line = document.line(at);
        let judgement = Judgement::new(Verdict::Not, "unparsable", format!("line {line}: {message}"), "mend the document");
        self.shared.registry.judge_element(document.id, &document.root, &judgement);
        let id = self.shared.registry.of_element(document.id, &document.root).unwrap_or(usize::MAX);
        self.refuse(id, &format!("apim: {}:{line} not: unparsable", document.file), out);
    }

    /// Writes a refusal: where it stands if that is in `inbound`, else behind all that does.
    pub(super) fn refuse(&mut self, id: usize, place: &str, out: &mut Vec<Item>) {
        self.route.refuses = true;
        if self.scope.section == Section::Inbound {
            out.push(refusal_item(id, place));
        } else {
            out.push(Item::Comment(place.to_owned()));
            if !self.route.refuses_for.iter().any(|own| own == place) {
                self.route.refuses_for.push(place.to_owned());
            }
        }
    }

    /// Translates the products of an API: the partner tells which of them counts.
    fn products(&mut self, products: &'i [Alternative<'i>], wider: &[Link<'i>], section: Section) -> Vec<Item> {
        for document in products.iter().filter_map(|product| product.document) {
            let reason = "the API belongs to several products: the partner's name tells whose policies run";
            let judgement = Judgement::new(Verdict::Changed, "several-products", reason, "look at the names in the conditions");
            self.shared.registry.judge_element(document.id, &document.root, &judgement);
        }
        // What all begin with is done once, where it may authenticate and choose for the whole route.
        let is_first = products.iter().all(|product| product.document.is_none_or(|document| begins_with_base(document, section)));
        let mut items = if is_first { self.section_of(wider, section) } else { Vec::new() };
        let rest: &[Link<'i>] = if is_first { &[] } else { wider };
        let before = self.scope.clone();
        let (mut branches, mut ends) = (Vec::new(), Vec::new());
        self.branches += 1;
        for product in products {
            self.scope = before.clone();
            let chain: Vec<Link<'i>> = product.document.map(Link::Document).into_iter().chain(rest.iter().copied()).collect();
            let own = self.section_of(&chain, section);
            if !super::variables::ends_request(&own) {
                ends.push(self.scope.clone());
            }
            branches.push((Some(condition_of(&product.partners, section)), own));
        }
        if section != Section::Inbound && !is_first {
            self.scope = before.clone();
            branches.push((None, self.section_of(rest, section)));
        }
        self.branches -= 1;
        self.scope = before;
        self.scope.join(&ends);
        if !branches.iter().any(|(_, items)| items.iter().any(Item::writes)) {
            items.extend(branches.into_iter().flat_map(|(_, items)| items));
            return items;
        }
        if section == Section::Inbound {
            branches.push((None, vec![no_product()]));
        }
        let comment = "the policies of the partner's product".to_owned();
        items.push(Item::Policy { name: "choose".to_owned(), value: Yaml::Branches(branches), origin: usize::MAX, comment });
        items
    }

    /// Translates the section of a chain as one document's, whatever stands around it.
    fn section_of(&mut self, chain: &[Link<'i>], section: Section) -> Vec<Item> {
        let items = self.section(chain, section);
        self.scope.section = section;
        match chain.first() {
            Some(Link::Document(document)) if !items.is_empty() => {
                vec![Item::Group { name: fragment_name(document, section), items }]
            }
            _ => items,
        }
    }
}

/// Returns the condition that the caller is one of the partners.
fn condition_of(partners: &[String], section: Section) -> String {
    let names: Vec<String> = partners.iter().map(|name| crate::expression::literal(name).text).collect();
    // A refusal may come before the partner is known.
    let known = if section == Section::OnError { "has(partner.name) && " } else { "" };
    format!("@({known}partner.name in [{}])", names.join(", "))
}

/// Returns the refusal for a partner that has subscribed to none of the products.
fn no_product() -> Item {
    let value = map([
        ("condition", text("@(false)")),
        ("code", text("product-missing")),
        ("message", text("The subscription is for no product of this API.")),
    ]);
    let comment = "the partner has none of the API's products".to_owned();
    Item::Policy { name: "authorize".to_owned(), value, origin: usize::MAX, comment }
}

/// Returns whether a section is absent, or begins with `<base />` and has no other one.
fn begins_with_base(document: &PolicyDocument, section: Section) -> bool {
    fn bases(element: &Element) -> usize {
        usize::from(element.name == "base") + element.elements().map(bases).sum::<usize>()
    }
    document
        .section(section)
        .is_none_or(|section| section.elements().next().is_some_and(|first| first.name == "base") && bases(section) == 1)
}

/// Returns whether `<base />` stands in an element, or in a branch within it.
fn holds_base(element: &Element) -> bool {
    element.elements().any(|inner| inner.name == "base" || holds_base(inner))
}

fn link_restricts(link: &Link<'_>, section: Section) -> bool {
    match link {
        Link::Document(document) => restricts(document, section),
        Link::Products(products) => {
            products.iter().filter_map(|product| product.document).any(|document| restricts(document, section))
        }
    }
}

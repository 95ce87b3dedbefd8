//! One of the two configs: its settings, the engine that serves it, and what is read of both once.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use http::HeaderName;
use secrecy::ExposeSecret as _;

use super::{
    content::Contents,
    region::{ENTRA_ISSUER, OTHER_ISSUER, Spot},
    space::AddressSpace,
};
use crate::{
    address::AddressEntryConfig,
    base::fields::Sorted,
    caller::TrustedProxyConfig,
    config::Document,
    entra::PERSONAL_ACCOUNTS,
    explain::{AddressList, FoundPlace, TokenEntry},
    expression::{
        Template,
        shape::{Operand, Shape},
    },
    inbound::{
        list::{Listed, Written, listed},
        validate_azure_ad_token::{AllowedTenantsConfig, listed_tenants},
    },
    offline::{OfflineFault, OfflineGateway, OfflineKeys},
    settings::{Faults, HeaderText, Place, Secret, node::Node},
};

/// A tenant that no config names, for issuers of many.
pub(crate) const UNNAMED_TENANT: &str = "20000000-0000-4000-8000-000000000002";

/// Header fields that a request has to bear, each with one of its values.
pub(crate) type RequiredFields = Vec<(String, Vec<String>)>;

/// An expression, taken apart.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) shape: Shape,
    pub(crate) operands: Vec<Operand>,
    /// The operand that it is, if it is nothing else.
    pub(crate) operand: Option<Operand>,
    /// Its normal form.
    pub(crate) text: String,
}

/// The issuers whose tokens a policy takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Issuers {
    These(Vec<String>),
    /// All whose name begins and ends so, but for one.
    Any {
        begins: String,
        ends: String,
        except: String,
    },
}

/// One of the two configs.
#[derive(Debug)]
pub struct Side {
    pub(crate) document: Document,
    pub(crate) gateway: OfflineGateway,
    pub(crate) contents: Contents,
    /// The names that token policies give to their tokens.
    tokens: Vec<Box<str>>,
    reads: RefCell<HashMap<String, Option<Rc<Read>>>>,
    spaces: RefCell<HashMap<String, Rc<AddressSpace>>>,
    /// Texts that are never shown.
    hidden: RefCell<Vec<String>>,
}

impl Side {
    /// Compiles a config at this time.
    pub(crate) fn new(document: &Document, nodes: &Node, now: u64) -> Result<Self, OfflineFault> {
        let gateway = OfflineGateway::build(document, now, OfflineKeys::Development)?;
        Ok(Self::of(document, nodes, gateway))
    }

    /// Reads and compiles the config in this text, for tests and benchmarks.
    ///
    /// # Errors
    /// Fails with the faults of the config, in words.
    pub fn from_text(name: &str, text: &str, now: u64) -> Result<Self, String> {
        let (document, nodes) = Document::from_text_with_values(name, text, &|_| None).map_err(|report| report.to_string())?;
        Self::new(&document, &nodes, now).map_err(|fault| match fault {
            OfflineFault::Config(report) => report.to_string(),
            fault @ OfflineFault::Keys(_) => fault.to_string(),
        })
    }

    /// Returns whether the name of a route contains this text.
    pub fn has_route(&self, text: &str) -> bool {
        self.document.config.routes.iter().any(|route| route.name.contains(text))
    }

    /// Returns the engine of the config.
    pub const fn gateway(&self) -> &OfflineGateway {
        &self.gateway
    }

    /// Takes a config that is compiled.
    pub(crate) fn of(document: &Document, nodes: &Node, gateway: OfflineGateway) -> Self {
        let mut tokens = Vec::new();
        each_text(nodes, Some("as"), &mut |text| tokens.push(text.into()));
        Self {
            contents: Contents::of(document, nodes.clone()),
            document: document.clone(),
            gateway,
            tokens,
            reads: RefCell::default(),
            spaces: RefCell::default(),
            hidden: RefCell::default(),
        }
    }

    /// Moves both the engine and what depends on the time to another time.
    pub(crate) fn set_time(&self, now: u64) {
        self.gateway.begin(now);
        self.spaces.borrow_mut().clear();
    }

    /// Returns the entries of a route's lists: the global one and its own.
    pub(crate) fn entries(&self, index: usize) -> Vec<Listed<'_>> {
        let config = &self.document.config;
        let Some(route) = config.routes.get(index) else { return Vec::new() };
        let root = Place::root();
        let global =
            Written { policies: &config.inbound, place: root.key("inbound"), name: "global", shared: true, report_only: false };
        let own = Written {
            policies: &route.inbound,
            place: root.key("routes").index(index).key("inbound"),
            name: "inbound",
            shared: false,
            report_only: route.mode.is_report_only(),
        };
        [global, own].iter().flat_map(|list| listed(list, &config.fragments)).collect()
    }

    /// Returns an expression, taken apart; `None` for a text.
    pub(crate) fn read(&self, text: &str) -> Option<Rc<Read>> {
        if !text.starts_with("@(") {
            return None;
        }
        if let Some(known) = self.reads.borrow().get(text) {
            return known.clone();
        }
        let template = Template::build(text, &self.tokens, &Place::root(), &mut Faults::default());
        let read = match template {
            Some(Template::Expression(expression)) => Some(Rc::new(Read {
                shape: expression.shape(),
                operands: expression.operands(),
                operand: expression.as_operand(),
                text: expression.normal_form(),
            })),
            _ => None,
        };
        self.reads.borrow_mut().insert(text.to_owned(), read.clone());
        read
    }

    /// Returns the addresses of a list at a place, as they count now.
    pub(crate) fn space(&self, entries: &[AddressEntryConfig], place: &Place) -> Rc<AddressSpace> {
        if let Some(known) = self.spaces.borrow().get(place.pointer()) {
            return known.clone();
        }
        let space = Rc::new(AddressSpace::of(AddressList::of(entries, self.gateway.runtime()).ranges()));
        self.spaces.borrow_mut().insert(place.pointer().to_owned(), space.clone());
        space
    }

    /// Returns the addresses of trusted peers, each with the fields that their requests have to bear.
    pub(crate) fn trusted(&self, from: &[TrustedProxyConfig], place: &Place) -> Vec<(Rc<AddressSpace>, RequiredFields)> {
        let trusted = from.iter().enumerate().map(|(index, entry)| {
            let place = place.index(index);
            match entry {
                TrustedProxyConfig::Text(text) => (self.space(&[AddressEntryConfig::Text(text.clone())], &place), Vec::new()),
                TrustedProxyConfig::Noted(noted) => (self.space(&[AddressEntryConfig::Noted(noted.clone())], &place), Vec::new()),
                TrustedProxyConfig::Group(group) => {
                    let fields = group.require_header.iter().map(|(name, values)| (name.to_ascii_lowercase(), values.clone()));
                    (self.space(&group.addresses, &place), fields.collect())
                }
            }
        });
        trusted.collect()
    }

    /// Returns whether callers' fields of this name are removed before the policies of a route run.
    pub(crate) fn removes(&self, index: usize, name: &str) -> bool {
        let Some(route) = self.gateway.runtime().routes.get(index) else { return false };
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return false };
        route.reserved.sort((&name).into(), &route.read) == Sorted::Goes
    }

    /// Returns the values of settings that may be secrets, which are not shown then.
    pub(crate) fn values(&self, values: &[HeaderText]) -> Vec<String> {
        let value = |value: &HeaderText| {
            let text = crate::explain::revealed(value, &self.document.secrets).unwrap_or_else(|| "***".to_owned());
            if value.names_secret() {
                self.hide(&text);
            }
            text
        };
        values.iter().map(value).collect()
    }

    /// Returns a secret, which is not shown.
    pub(crate) fn revealed(&self, secret: &Secret) -> String {
        let text = secret.reveal(&self.document.secrets).map(|text| text.expose_secret().to_owned()).unwrap_or_default();
        self.hide(&text);
        text
    }

    fn hide(&self, text: &str) {
        let mut hidden = self.hidden.borrow_mut();
        if !hidden.iter().any(|known| known == text) {
            hidden.push(text.to_owned());
        }
    }

    /// Returns whether a text is never shown.
    pub(crate) fn hides(&self, text: &str) -> bool {
        self.hidden.borrow().iter().any(|hidden| hidden == text)
    }

    /// Returns the content at a place.
    pub(crate) fn content(&self, place: &Place) -> String {
        self.contents.text(place)
    }

    /// Returns a text for an upstream that is the same where requests go to the same servers in the same way.
    pub(crate) fn upstream(&self, name: &str) -> String {
        if self.document.config.upstreams.contains_key(name) {
            self.contents.digest_of("upstreams", name)
        } else {
            name.to_owned()
        }
    }

    /// Returns whether some upstream knows no case.
    pub(crate) fn folds(&self) -> bool {
        self.document.config.upstreams.values().any(|upstream| upstream.case_insensitive_paths)
    }

    /// Returns the GUIDs of tenants, each written as a name or a GUID.
    pub(crate) fn guids(&self, tenants: &[String]) -> Vec<String> {
        tenants.iter().filter_map(|written| Some(self.gateway.tenant_of(Some(written)).ok()?.1)).collect()
    }

    /// Returns the name that stands for the issuer of a tenant of this config.
    pub(crate) fn entra_issuer(&self, tenant: &str, guid: &str) -> Option<String> {
        Some(format!("{ENTRA_ISSUER}{}", self.gateway.issuer(tenant, guid, 2)?))
    }

    /// Returns the name that stands for another issuer of this config.
    pub(crate) fn other_issuer(&self, name: &str) -> Option<String> {
        Some(format!("{OTHER_ISSUER}{}", self.gateway.runtime().tenants.issuer(name)?))
    }

    /// Returns the issuers whose tokens a policy takes.
    pub(crate) fn issuers(&self, policy: TokenEntry<'_>) -> Issuers {
        let TokenEntry::Entra(config) = policy else {
            return Issuers::These(self.other_issuer(policy.issuer()).into_iter().collect());
        };
        let tenants = &self.gateway.runtime().tenants;
        let many = tenants.get(&config.tenant).is_some_and(|tenant| tenant.id().is_many());
        let named = listed_tenants(config, tenants);
        let own = self.gateway.tenant_of(Some(&config.tenant)).ok().map(|(_, guid)| guid);
        let any = matches!(&config.allowed_tenants, Some(AllowedTenantsConfig::Word(word)) if word == "any");
        let issuer = |guid: &str| self.entra_issuer(&config.tenant, guid);
        match named {
            Some(named) if many => Issuers::These(named.iter().filter_map(|guid| issuer(guid)).collect()),
            Some(named) => {
                let own = own.filter(|own| named.iter().any(|guid| **guid == **own));
                Issuers::These(own.and_then(|own| issuer(&own)).into_iter().collect())
            }
            None if many && any => {
                let sample = issuer(UNNAMED_TENANT).unwrap_or_default();
                let (begins, ends) = sample.split_once(UNNAMED_TENANT).unwrap_or((sample.as_str(), ""));
                let except = issuer(PERSONAL_ACCOUNTS).unwrap_or_default();
                Issuers::Any { begins: begins.to_owned(), ends: ends.to_owned(), except }
            }
            None => Issuers::These(own.and_then(|own| issuer(&own)).into_iter().collect()),
        }
    }
}

impl From<&FoundPlace> for Spot {
    fn from(place: &FoundPlace) -> Self {
        match place {
            FoundPlace::Header(name, _) => Self::Header(name.to_ascii_lowercase()),
            FoundPlace::Query(name) => Self::Query(name.clone()),
        }
    }
}

/// Visits the texts of settings: all, or those under this key.
pub(crate) fn each_text(node: &Node, under: Option<&str>, visit: &mut dyn FnMut(&str)) {
    use crate::settings::node::Kind;
    match &node.kind {
        Kind::Text(text) if under.is_none() => visit(&text.value),
        Kind::List(entries) => entries.iter().for_each(|entry| each_text(entry, under, visit)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                match value.as_text() {
                    Some(text) if under == Some(key.text.as_str()) => visit(text),
                    _ => each_text(value, under, visit),
                }
            }
        }
        _ => {}
    }
}

/// Visits the keys of the maps under this key.
pub(crate) fn each_key(node: &Node, under: &str, visit: &mut dyn FnMut(&str)) {
    use crate::settings::node::Kind;
    match &node.kind {
        Kind::List(entries) => entries.iter().for_each(|entry| each_key(entry, under, visit)),
        Kind::Map(entries) => {
            for (key, value) in entries {
                if key.text == under {
                    value.as_map().into_iter().flatten().for_each(|(key, _)| visit(&key.text));
                }
                each_key(value, under, visit);
            }
        }
        _ => {}
    }
}

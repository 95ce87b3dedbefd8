//! The parts of the config in force that the console shows, made when it is taken: texts alone, without values that may be secrets.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::words;
use crate::{
    address::AddressEntryConfig,
    config::{Document, Fingerprint, Report},
    explain::policy_at,
    gateway::runtime::Runtime,
    partner::PartnerConfig,
    route::{Action, Route, RouteConfig},
};

/// The methods of a route that names none.
const USUAL_METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// The config in force, as the console shows it.
#[derive(Debug, Default)]
pub(crate) struct ShownConfig {
    /// The routes, by their index.
    pub(super) routes: Vec<ShownRoute>,
    /// The partners, by name.
    pub(super) partners: BTreeMap<String, ShownPartner>,
    /// The files that were read, the main one first.
    pub(super) files: Vec<String>,
    /// The warnings of `check`, as it prints them for machines, and those that are silenced.
    pub(super) warnings: Vec<Value>,
    pub(super) silenced: Vec<Value>,
    /// The settings by name, for telling what the next config changes.
    pub(crate) fingerprint: Fingerprint,
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownRoute {
    /// Host names; none for any host.
    pub(super) hosts: Vec<String>,
    /// The path; `/` for every path.
    pub(super) path: String,
    /// Whether only this path is meant, and nothing below it.
    pub(super) exact: bool,
    /// The methods.
    pub(super) methods: Vec<String>,
    /// Whether callers need not authenticate.
    pub(super) anonymous: bool,
    /// The policies on the request, in the order they run.
    pub(super) policies: Vec<ShownPolicy>,
    /// The destination of requests that go to no upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<String>,
    /// The `Authorization` that the upstream receives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authorization: Option<String>,
}

/// A policy.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownPolicy {
    /// The entry, as in records.
    pub(super) at: String,
    /// Its requirement or effect.
    pub(super) words: String,
    /// Whether its refusals are not enforced.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) report_only: bool,
}

/// A partner, as far as the config describes it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct ShownPartner {
    applications: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addresses: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<String>>,
}

impl ShownConfig {
    /// Gathers what is shown of a config that was built.
    pub(crate) fn of(document: &Document, runtime: &Runtime, report: &Report) -> Self {
        let config = &document.config;
        let partner = |(name, partner): (&String, &PartnerConfig)| (name.clone(), ShownPartner::of(partner));
        Self {
            routes: runtime
                .routes
                .iter()
                .enumerate()
                .map(|(index, route)| ShownRoute::of(route, config.routes.get(index), document))
                .collect(),
            partners: config.partners.iter().map(partner).collect(),
            files: document.files.iter().map(|file| file.display().to_string()).collect(),
            warnings: findings(report.to_json()),
            silenced: findings(report.silenced_to_json()),
            fingerprint: document.fingerprint.clone(),
        }
    }
}

/// Returns findings without the lines of the files.
fn findings(report: Value) -> Vec<Value> {
    let Value::Array(mut findings) = report else { return Vec::new() };
    findings.iter_mut().filter_map(Value::as_object_mut).for_each(|finding| {
        finding.remove("text");
        finding.remove("related");
    });
    findings
}

impl ShownRoute {
    fn of(route: &Route, written: Option<&RouteConfig>, document: &Document) -> Self {
        let policies = route.inbound.iter().map(|entry| ShownPolicy {
            at: entry.at.to_string(),
            words: policy_at(&document.config, &entry.place).map(words::policy).unwrap_or_default(),
            report_only: entry.report_only,
        });
        let policies = policies.collect();
        // The metadata of other routes are served by routes that nobody wrote.
        let Some(written) = written else {
            return Self {
                hosts: Vec::new(),
                path: "/.well-known/oauth-protected-resource".to_owned(),
                exact: false,
                methods: vec!["GET".to_owned(), "HEAD".to_owned()],
                anonymous: true,
                policies,
                answer: Some("the metadata of protected resources".to_owned()),
                authorization: None,
            };
        };
        let matches = &written.matches;
        let methods: Vec<_> = match matches.methods.is_empty() {
            true => USUAL_METHODS.map(str::to_owned).into(),
            false => matches.methods.clone(),
        };
        Self {
            hosts: matches.hosts.clone(),
            path: matches.exact_path.as_ref().or(matches.path.as_ref()).map_or("/", String::as_str).to_owned(),
            exact: matches.exact_path.is_some(),
            methods,
            anonymous: written.anonymous,
            policies,
            answer: words::answer(written),
            authorization: matches!(route.action, Action::Forward(_)).then(|| words::authorization(&written.authorization)),
        }
    }
}

impl ShownPartner {
    fn of(config: &PartnerConfig) -> Self {
        let addresses = |entries: &Vec<AddressEntryConfig>| entries.iter().map(|entry| entry.text().to_owned()).collect();
        Self {
            applications: config.client_application_ids.clone(),
            addresses: config.addresses.as_ref().map(addresses),
            routes: config.routes.clone(),
        }
    }
}

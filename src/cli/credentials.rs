//! The credentials of a config, built as the gateway builds them, for the commands that try them.
//!
//! Nothing else of the config is built, so that a faulty route does not hide a faulty credential.

use std::{path::Path, sync::Arc};

use crate::{
    base::clock::Clock,
    config::{Document, Report},
    credentials::{Credentials, CredentialsContext},
    gateway::runtime::identity_http,
    limits::store::{Store, StoreContext},
    server,
    settings::{Fault, Faults, Place},
};

/// The credentials of a config.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The config.
    pub(crate) document: Document,
    /// The credentials that could be built.
    pub(crate) credentials: Credentials,
    /// Their faults.
    faults: Faults,
}

impl Loaded {
    /// Reads the config at `path` and builds its credentials, without network access.
    ///
    /// # Errors
    /// Returns the faults of a config that cannot be read. A credential that cannot be built is not an error.
    pub(crate) fn load(path: &Path, clock: &Clock) -> Result<Self, Report> {
        let document = Document::load(path)?;
        let mut faults = Faults::default();
        let root = Place::root();
        let Some(http) = identity_http(&document.config, &document, None, &root.key("identity-http"), &mut faults) else {
            return Err(document.report(&faults));
        };
        let setting = CredentialsContext {
            tenants: &document.config.tenants,
            base: &document.base,
            secrets: &document.secrets,
            http: &http,
            clock,
            previous: None,
        };
        let credentials = Credentials::build(&document.config.credentials, &setting, &root.key("credentials"), &mut faults);
        Ok(Self { document, credentials, faults })
    }

    /// Returns the faults of the credentials, with their lines.
    pub(crate) fn report(&self) -> Report {
        self.document.report(&self.faults)
    }

    /// Says that the gateway would not start with this config, if it would not. A credential can be tried all the same.
    pub(crate) fn note(&self) -> Option<String> {
        let mut faults = Faults::default();
        drop(server::try_out(&self.document, &mut faults));
        let errors = faults.errors();
        (errors > 0).then(|| {
            let plural = if errors == 1 { "" } else { "s" };
            format!("note: this config has {errors} error{plural}, so `entrada run` would not start with it; `entrada check` says where")
        })
    }

    /// Returns the faults of one credential.
    pub(crate) fn faults_of(&self, name: &str) -> impl Iterator<Item = &Fault> {
        let place = Place::root().key("credentials").key(name);
        let below = format!("{}/", place.pointer());
        self.faults.iter().filter(move |fault| fault.place == place || fault.place.pointer().starts_with(&below))
    }

    /// Builds the store of limits that several gateways share; `None` if the config has none.
    ///
    /// # Errors
    /// Returns the faults of its settings.
    pub(crate) fn limit_store(&self, clock: &Clock) -> Option<Result<Arc<Store>, Faults>> {
        let config = self.document.config.redis.as_ref()?;
        let mut faults = Faults::default();
        let with = StoreContext {
            base: &self.document.base,
            secrets: &self.document.secrets,
            credentials: &self.credentials,
            clock,
            previous: None,
        };
        let store = Store::build(config, with, &Place::root().key("redis"), &mut faults);
        Some(store.ok_or(faults))
    }

    /// Returns the names in the config, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.document.config.credentials.keys().map(String::as_str)
    }
}

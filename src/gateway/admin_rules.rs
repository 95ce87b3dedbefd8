//! The rules of the admin listener: who may ask it, and under which names.

use std::{net::SocketAddr, path::Path, sync::Arc};

use bytes::Bytes;
use http::request::Parts;

use super::{answer, lifetime::admit_certificate};
use crate::{
    base::{clock::Clock, error_chain::chain},
    caller::Caller,
    config::{AdminConfig, Config},
    entra::Tenants,
    exchange::Exchange,
    inbound::validate_azure_ad_token::{ValidateAzureAdToken, outside_of_routes},
    listener::{ClientCertificateMode, Connection, LimitsConfig, ListenerSettings, SettingsConfig},
    refusal::Refusal,
    request::IncomingRequest,
    settings::{Faults, Lint, Place},
    upstream::UpstreamRequest,
};

/// The rules of the admin listener.
#[derive(Debug)]
pub struct AdminRules {
    /// The settings of its connections, without its limits.
    pub(crate) settings: ListenerSettings,
    /// The names by which it is asked for, besides addresses and `localhost`; in lower case.
    pub(crate) hosts: Box<[Box<str>]>,
    /// The policy on tokens.
    token: Option<ValidateAzureAdToken>,
    /// Whether clients have to show a certificate.
    certificates: bool,
}

impl AdminRules {
    /// Builds the rules; file names are relative to `base`. Faults go to `faults`.
    pub(super) fn build(config: &Config, base: &Path, tenants: &Tenants, faults: &mut Faults) -> Option<Self> {
        let place = Place::root().key("admin");
        let none = AdminConfig::default();
        let admin = config.admin.as_ref().unwrap_or(&none);
        let limits = LimitsConfig::default();
        let settings = SettingsConfig {
            limits: &limits,
            tls: admin.tls.as_ref(),
            client_certificates: admin.client_certificates.as_ref(),
            http2: false,
            proxy_protocol: false,
        };
        let settings = ListenerSettings::build(settings, base, &place, faults);
        let token = admin.validate_azure_ad_token.as_ref().map(|token| {
            let place = place.key("validate-azure-ad-token");
            if token.mode.is_report_only() {
                let cure = "leave `mode` out: whom it refuses may not read the console";
                faults.error(&place.key("mode"), "nobody would be refused", cure);
            }
            outside_of_routes(tenants, faults, |context| ValidateAzureAdToken::build(token, &place, context))
        });
        let certificates = admin.client_certificates.as_ref().is_some_and(|asked| asked.mode == ClientCertificateMode::Required);
        judge_exposure(admin, certificates, &place, faults);
        let hosts = hosts(admin, &place, faults);
        // A policy that could not be built is not left out: nothing is built then.
        let token = match token {
            Some(built) => Some(built?),
            None => None,
        };
        Some(Self { settings: settings?, hosts, token, certificates })
    }

    /// Returns whether callers have to prove who they are.
    pub(crate) const fn asks(&self) -> bool {
        self.token.is_some() || self.certificates
    }

    /// Judges a caller by its certificate and its token.
    ///
    /// # Errors
    /// Returns the response to a caller who is refused.
    pub(crate) async fn judge(
        &self,
        parts: Parts,
        connection: &Arc<Connection>,
        clock: &Clock,
    ) -> Result<(), http::Response<Bytes>> {
        let mut exchange = Exchange::begin(clock.clone(), connection.clone(), 0);
        match self.admit(parts, &mut exchange).await {
            Ok(()) => Ok(()),
            Err(refusal) => {
                let (response, refusal) = answer::unrecorded(refusal, exchange.id.as_str());
                let cause = refusal.cause.as_ref().map(|cause| chain(&**cause));
                let (code, hint) = (refusal.reason.code(), refusal.hint.as_deref());
                tracing::info!(peer = %connection.peer, code, cause, hint, "a question to the admin listener was refused");
                Err(response.into())
            }
        }
    }

    async fn admit(&self, parts: Parts, exchange: &mut Exchange) -> Result<(), Refusal> {
        let incoming = IncomingRequest::read(parts, exchange.connection.tls.as_ref())?;
        exchange.caller = Some(Caller::of(&exchange.connection, &incoming.headers, &exchange.clock)?);
        admit_certificate(exchange, None)?;
        match &self.token {
            Some(token) => token.check(exchange, &incoming, &mut UpstreamRequest::default()).await,
            None => Ok(()),
        }
    }
}

/// Reports listeners that ask nobody who they are, although the network reaches them, and settings that contradict each other.
fn judge_exposure(admin: &AdminConfig, certificates: bool, place: &Place, faults: &mut Faults) {
    let exposed = admin.address.parse::<SocketAddr>().is_ok_and(|address| !address.ip().is_loopback());
    let token = admin.validate_azure_ad_token.is_some();
    if admin.client_certificates.is_some() && !certificates && !token {
        let message = "clients may leave their certificate out, and nothing else asks who they are";
        faults.error(&place.key("client-certificates").key("mode"), message, "write `mode: required`");
    } else if admin.anonymous && (token || certificates) {
        let message = "`anonymous` lets everybody in, and the listener asks who they are";
        faults.error(&place.key("anonymous"), message, "keep one of the two");
    } else if exposed && !token && !certificates && !admin.anonymous {
        let message = "the admin listener can be reached from the network, and asks nobody who they are";
        let cure = "keep it on 127.0.0.1, give it `validate-azure-ad-token`, or `tls` and `client-certificates: { mode: required, ca: … }`; \
                    `anonymous: true` shows it to everybody";
        faults.error(&place.key("address"), message, cure);
    } else if exposed && admin.anonymous {
        let cure = "keep it on loopback; probes and metrics can have a listener of their own, `health`";
        let message = "the admin listener can be reached from the network, and asks nobody who they are";
        faults.warning(Lint::AdminExposed, &place.key("address"), message, cure);
    } else if exposed && admin.tls.is_none() {
        let message = "tokens for the console cross the network in clear, and so does what it shows";
        faults.warning(
            Lint::AdminExposed,
            &place.key("address"),
            message,
            "give it `tls`, or keep it on loopback behind a proxy",
        );
    }
}

fn hosts(admin: &AdminConfig, place: &Place, faults: &mut Faults) -> Box<[Box<str>]> {
    let place = place.key("hosts");
    for (index, host) in admin.hosts.iter().enumerate() {
        if host.is_empty() || host.contains(['/', ':', '*', ' ']) {
            let message = format!("`{host}` is no name of a host");
            faults.error(&place.index(index), message, "write it without scheme and port, as console.contoso.example");
        }
    }
    admin.hosts.iter().map(|host| host.to_ascii_lowercase().into()).collect()
}

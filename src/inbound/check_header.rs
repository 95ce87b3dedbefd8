//! Admits requests that carry a header field.
//!
//! ```yaml
#![doc = include_str!("../../config/policies/check-header.yaml")]
//! ```
//!
//! The field must be there exactly once, and its whole value must be one of those listed: a repeated field is read by one program
//! as its first line and by another as its last. Refuses with [`Reason::HeaderCheckFailed`], with the policy's status and
//! sentence.
//!
//! A value may be a shared key, so the duration of a comparison reveals nothing of it, not even its length: digests of a fixed
//! length are compared, all of them, each to its end. While a vault's secret is not available, the request is refused with
//! [`Reason::CredentialUnavailable`], unless another value matches.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use http::{HeaderName, StatusCode};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::settings::PolicySettings;
use super::{build_context::BuildContext, mode::ModeConfig};
use crate::outgoing::field::Unavailable;
use crate::{
    base::clock::Clock,
    exchange::Exchange,
    refusal::{Reason, Refusal, Stop},
    request::IncomingRequest,
    settings::{Faults, HeaderText, LiveSecret, Place},
    upstream::UpstreamRequest,
};

/// Settings of `check-header`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CheckHeaderConfig {
    /// The field's name.
    pub name: String,
    /// The accepted values, compared whole; without any, the field must just be present, once. Each may be or contain a secret.
    #[serde(default)]
    pub values: Vec<HeaderText>,
    /// Compares the values case-insensitively. Default: false.
    #[serde(default)]
    pub ignore_case: bool,
    /// The status of the refusal. Default: 401.
    pub failed_check_httpcode: Option<u16>,
    /// The sentence of the refusal.
    pub failed_check_error_message: Option<String>,
    /// `report-only` records and counts refusals instead of enforcing them. Default: enforce.
    #[serde(default)]
    pub mode: ModeConfig,
}

/// Admits requests that carry a header field.
#[derive(Debug)]
pub struct CheckHeader {
    name: HeaderName,
    values: Vec<Accepted>,
    ignore_case: bool,
    status: Option<StatusCode>,
    message: Option<Box<str>>,
}

impl PolicySettings for CheckHeaderConfig {
    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl CheckHeader {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        if let Some(known) = exchange.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref()) {
            known.look_at_header(&self.name);
        }
        Ok(self.check(incoming, &exchange.clock)?)
    }

    pub(crate) fn build(config: &CheckHeaderConfig, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let before = context.faults.errors();
        let name = HeaderName::from_bytes(config.name.as_bytes()).ok();
        if name.is_none() {
            let message = format!("`{}` is not a header's name", config.name);
            context.faults.error(&place.key("name"), message, "names have letters, digits and `-`");
        }
        let values: Vec<_> = (config.values.iter().enumerate())
            .filter_map(|(index, value)| Accepted::build(value, config.ignore_case, &place.key("values").index(index), context))
            .collect();
        let status =
            config.failed_check_httpcode.and_then(|code| error_status(code, &place.key("failed-check-httpcode"), context.faults));
        if context.faults.errors() > before {
            return None;
        }
        Some(Self {
            name: name?,
            values,
            ignore_case: config.ignore_case,
            status,
            message: config.failed_check_error_message.as_deref().map(Into::into),
        })
    }

    pub(crate) fn check(&self, incoming: &IncomingRequest, clock: &Clock) -> Result<(), Refusal> {
        self.judge(incoming, clock).map_err(|error| {
            if let CheckFailed::NotThere(name) = &error {
                return Unavailable::secret(&name.clone(), error).into();
            }
            let mut refusal = Refusal::new(Reason::HeaderCheckFailed, error);
            refusal.status = self.status;
            refusal.message.clone_from(&self.message);
            refusal
        })
    }

    fn judge(&self, incoming: &IncomingRequest, clock: &Clock) -> Result<(), CheckFailed> {
        let mut lines = incoming.headers.get_all(&self.name);
        let value = lines.next().ok_or_else(|| CheckFailed::Absent(self.name.clone()))?.as_bytes();
        if lines.next().is_some() {
            return Err(CheckFailed::Repeated(self.name.clone()));
        }
        if self.values.is_empty() {
            return Ok(());
        }
        let sent = digest_of(value, self.ignore_case);
        let (mut accepted, mut missing) = (false, false);
        for one in &self.values {
            match one.digest(self.ignore_case, clock) {
                Some(digest) => accepted |= verify_slices_are_equal(&digest, &sent).is_ok(),
                None => missing = true,
            }
        }
        match (accepted, missing) {
            (true, _) => Ok(()),
            (false, true) => Err(CheckFailed::NotThere(self.name.clone())),
            (false, false) => Err(CheckFailed::Other(self.name.clone())),
        }
    }
}

/// SHA-256.
type Digest = [u8; 32];

/// One accepted value.
enum Accepted {
    Known(Digest),
    /// A value with a vault's secret in it, which changes while the gateway runs.
    Vault(Box<VaultValue>),
}

/// A value with a vault's secret in it, and its last digest.
struct VaultValue {
    secret: LiveSecret,
    made: ArcSwapOption<(Arc<SecretString>, Digest)>,
}

/// Omits the digest, from which a short key could be guessed.
impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Accepted")
    }
}

impl Accepted {
    fn build(written: &HeaderText, ignore_case: bool, place: &Place, context: &mut BuildContext<'_>) -> Option<Self> {
        let live = match written.live(context.secrets) {
            Ok(live) => live,
            Err(error) => {
                context.faults.error(place, error.to_string(), error.cure());
                return None;
            }
        };
        if live.in_vaults().next().is_some() {
            return Some(Self::Vault(Box::new(VaultValue { secret: live, made: ArcSwapOption::empty() })));
        }
        // What no vault holds is known, at any time.
        let value = live.value(0)?;
        let text = value.expose_secret();
        if text.is_empty() && written.names_secret() {
            let cure = "see that its file or variable holds the key";
            context.faults.error(place, "this secret is empty, so whoever sends nothing would have it", cure);
            return None;
        }
        if text.trim() != text || text.chars().any(char::is_control) {
            let message = "no header field has a value with blanks around it or control characters";
            context.faults.error(place, message, "write the value as it is sent");
            return None;
        }
        Some(Self::Known(digest_of(text.as_bytes(), ignore_case)))
    }

    /// Returns the value's digest; `None` while its vault secret is not available.
    fn digest(&self, ignore_case: bool, clock: &Clock) -> Option<Digest> {
        let value = match self {
            Self::Known(digest) => return Some(*digest),
            Self::Vault(value) => value,
        };
        let text = value.secret.value(clock.unix_seconds()).filter(|text| !text.expose_secret().is_empty())?;
        if let Some(made) = value.made.load_full().filter(|made| Arc::ptr_eq(&made.0, &text)) {
            return Some(made.1);
        }
        let digest = digest_of(text.expose_secret().as_bytes(), ignore_case);
        value.made.store(Some(Arc::new((text, digest))));
        Some(digest)
    }
}

/// Returns the digest of a value; if case is ignored, that of its lower-case form.
fn digest_of(value: &[u8], ignore_case: bool) -> Digest {
    let mut context = digest::Context::new(&digest::SHA256);
    if ignore_case {
        let mut small = [0; 64];
        for part in value.chunks(small.len()) {
            let small = &mut small[..part.len()];
            small.copy_from_slice(part);
            small.make_ascii_lowercase();
            context.update(small);
        }
    } else {
        context.update(value);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// Returns the status of a refusal that a policy chooses.
pub(super) fn error_status(code: u16, place: &Place, faults: &mut Faults) -> Option<StatusCode> {
    match StatusCode::from_u16(code) {
        Ok(status) if status.is_client_error() || status.is_server_error() => Some(status),
        _ => {
            faults.error(place, format!("{code} is not a status of a refusal"), "write one from 400 to 599");
            None
        }
    }
}

/// The reason why the field is not accepted. Its value is the caller's and never logged.
#[derive(Debug, thiserror::Error)]
pub enum CheckFailed {
    /// The field is absent.
    #[error("{0} was not sent")]
    Absent(HeaderName),
    /// The field is there more than once.
    #[error("{0} was sent more than once")]
    Repeated(HeaderName),
    /// The field's value is not one of those listed.
    #[error("{0} has none of the accepted values")]
    Other(HeaderName),
    /// The vault's secret for the comparison is not available.
    #[error("the secret that {0} is compared with is unavailable")]
    NotThere(HeaderName),
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::inbound::testing::Building;

    fn config(values: &[&str], ignore_case: bool) -> CheckHeaderConfig {
        CheckHeaderConfig {
            mode: ModeConfig::Enforce,
            name: "X-Door".to_owned(),
            values: values.iter().map(|value| HeaderText::from(*value)).collect(),
            ignore_case,
            failed_check_httpcode: None,
            failed_check_error_message: None,
        }
    }

    fn built(config: &CheckHeaderConfig) -> Result<CheckHeader, Vec<String>> {
        Building::default().build(|place, context| CheckHeader::build(config, place, context))
    }

    fn incoming(lines: &[&str]) -> IncomingRequest {
        let mut request = Request::builder().uri("/").header("host", "api.contoso.example");
        for line in lines {
            request = request.header("x-door", *line);
        }
        IncomingRequest::read(request.body(()).expect("a request").into_parts().0, None).expect("readable")
    }

    #[test]
    fn admits_one_whole_value_and_nothing_else() {
        for (values, ignore_case, lines, admitted) in [
            (&["a"][..], false, &["a"][..], true),
            (&["a", "b"], false, &["b"], true),
            (&["a"], false, &["A"], false),
            (&["a"], true, &["A"], true),
            (&["a"], false, &["b"], false),
            (&["a"], false, &["a, a"], false),
            (&["a"], false, &["ab"], false),
            (&["ab"], false, &["a"], false),
            (
                &["a-Key-of-more-than-sixty-four-letters-which-is-read-in-several-Parts-0"],
                true,
                &["a-key-of-more-than-sixty-four-letters-which-is-read-in-several-parts-0"],
                true,
            ),
            (
                &["a-Key-of-more-than-sixty-four-letters-which-is-read-in-several-Parts-0"],
                true,
                &["a-key-of-more-than-sixty-four-letters-which-is-read-in-several-parts-1"],
                false,
            ),
            (&["a"], false, &["a", "a"], false),
            (&["a"], false, &["a", "b"], false),
            (&["a"], false, &[], false),
            (&["a"], false, &[""], false),
            (&[], false, &["whatever"], true),
            (&[], false, &[""], true),
            (&[], false, &["one", "two"], false),
            (&[], false, &[], false),
        ] {
            let policy = built(&config(values, ignore_case)).expect("valid");

            let answer = policy.check(&incoming(lines), &Clock::system());

            assert_eq!(answer.is_ok(), admitted, "{values:?} {lines:?}");
            if let Err(refusal) = answer {
                assert_eq!((refusal.reason, refusal.status()), (Reason::HeaderCheckFailed, StatusCode::UNAUTHORIZED));
            }
        }
    }

    #[test]
    fn answers_as_it_was_told() {
        let config = CheckHeaderConfig {
            failed_check_httpcode: Some(403),
            failed_check_error_message: Some("By the door, please.".to_owned()),
            ..config(&["a"], false)
        };

        let refusal = built(&config).expect("valid").check(&incoming(&["b"]), &Clock::system()).expect_err("another value");

        assert_eq!(refusal.status(), StatusCode::FORBIDDEN);
        assert_eq!(refusal.message.as_deref(), Some("By the door, please."));
        assert!(!refusal.into_parts().cause.expect("a cause").to_string().contains("\"b\""));
    }

    #[test]
    fn reports_all_that_is_wrong() {
        let config = CheckHeaderConfig {
            name: "X Door".to_owned(),
            values: vec![" a".into(), "b\n".into()],
            failed_check_httpcode: Some(200),
            ..config(&[], false)
        };

        assert_eq!(built(&config).expect_err("four faults").len(), 4);
    }
}

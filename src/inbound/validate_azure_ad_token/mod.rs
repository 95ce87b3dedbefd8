//! Admits callers with an Entra token.
//!
//! The order of the checks is fixed: the token's place, its size and form, its algorithm, its key, its signature; only then is
//! the payload read, and judged by issuer, tenant, audience, times, kind, client and claims. The policy, never the token,
//! determines the accepted keys, and nothing about its claims is revealed before its signature was verified. Finally, if the
//! policy says so, Microsoft Graph is asked for facts that a user's token lacks.

mod build;
mod config;
mod elsewhere;
mod error;
mod hint;
mod judge;
mod lookup;
mod place;
mod settings;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use http::{HeaderValue, StatusCode};

pub(crate) use self::build::{listed_tenants, outside_of_routes};
pub use self::config::{
    AllowedTenantConfig, AllowedTenantsConfig, ClaimLookupConfig, ClientCredentialConfig, GraphClaimsConfig, GraphGroupsConfig,
    GroupLookupConfig, LookupWord, MatchConfig, RequiredClaimConfig, SigningKeysConfig, TenantFileConfig, TokenBindingConfig,
    TokenKindConfig, TokenTypeConfig, ValidateAzureAdTokenConfig,
};
use self::{error::NotAccepted, judge::Rules, lookup::AnswerSource, place::Places};
use crate::inbound::{mode::ModeConfig, settings::PolicySettings};
use crate::{
    base::clock::Clock,
    entra::{CloudConfig, KeySet, Moment, Verified, Verifier, VerifyError, token::TokenSeen},
    exchange::{Earlier, Evidence, Exchange, TokenEvidence},
    graph::GraphFault,
    refusal::{Reason, Refusal, Stop},
    request::{IncomingRequest, NamedToken, TokenPlace},
    upstream::UpstreamRequest,
};

/// The retry time while there are no signing keys, in seconds: they are requested every few seconds.
const RETRY_AFTER: u32 = 5;

/// Admits callers with an Entra token.
#[derive(Debug)]
pub struct ValidateAzureAdToken {
    places: Places,
    /// The token's name besides `token`.
    name: Option<Arc<str>>,
    verifier: Verifier,
    rules: Rules,
    answer: Answer,
    /// The key sets of applications among the audiences, or of the tenant, for hints that `signing-keys-of` is missing, or not
    /// needed. They are never used for verification.
    suspects: Vec<Arc<KeySet>>,
    /// The cloud of the tenant, unless it has a custom authority.
    cloud: Option<CloudConfig>,
    /// The name of the keys and algorithms, once somebody asks.
    verifier_name: OnceLock<Arc<str>>,
}

/// The settings of refusals.
#[derive(Debug, Default)]
struct Answer {
    /// The status instead of 401 and 403.
    status: Option<StatusCode>,
    /// The sentence instead of the reason's.
    message: Option<Box<str>>,
    /// The challenge that names the scopes.
    scope_challenge: Option<HeaderValue>,
    /// The challenge that asks for an authentication context.
    claims_challenge: Option<HeaderValue>,
}

/// The facts besides the token that affect its verdict.
#[derive(Clone, Copy, Default)]
struct Caller<'a> {
    /// The index of the worker thread.
    worker: usize,
    /// The SHA-256 of the certificate whose key the caller has proven to hold.
    certificate: Option<&'a [u8; 32]>,
    /// The evidence of an earlier judgement of the same request, by which it is judged.
    evidence: Option<&'a Evidence>,
}

/// An accepted token, and its place.
type Admitted<'a> = (Arc<Verified>, &'a TokenPlace);

/// The reason why a token is not accepted, and the token once its signature held.
#[derive(Debug)]
struct NotAdmitted {
    error: NotAccepted,
    verified: Option<Arc<Verified>>,
}

impl<E: Into<NotAccepted>> From<E> for NotAdmitted {
    fn from(error: E) -> Self {
        Self { error: error.into(), verified: None }
    }
}

impl PolicySettings for ValidateAzureAdTokenConfig {
    fn authenticates(&self) -> bool {
        true
    }

    fn requires_token(&self) -> bool {
        true
    }

    fn judges(&self) -> bool {
        true
    }

    fn mode(&self) -> ModeConfig {
        self.mode
    }
}

impl ValidateAzureAdToken {
    /// Runs the policy on a request.
    ///
    /// # Errors
    /// Returns the refusal, or the gateway's own response, that ends the request.
    pub(crate) async fn run(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        outgoing: &mut UpstreamRequest,
    ) -> Result<(), Stop> {
        Ok(self.check(exchange, incoming, outgoing).await?)
    }

    /// Judges the token of a request; notes it on the exchange if it is accepted.
    pub(crate) async fn check(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        _outgoing: &mut UpstreamRequest,
    ) -> Result<(), Refusal> {
        let certificate = exchange.proven_certificate().map(|certificate| *certificate.sha256());
        let again = exchange.trace.decides_only();
        let evidence = exchange.evidence.as_deref().filter(|_| again);
        let caller = Caller { worker: exchange.worker, certificate: certificate.as_ref(), evidence };
        let (verified, place) = match self.authenticate(incoming, &exchange.clock, caller).await {
            Ok(admitted) => admitted,
            Err(refused) if again => return Err(self.refuse_again(refused.error, exchange)),
            Err(refused) => return Err(self.turn_away(refused, exchange, incoming)),
        };
        if exchange.evidence.is_some() && !again {
            self.note(exchange, place, Ok(&verified));
        }
        let token = if self.rules.lookups.are_none() {
            verified.token.clone()
        } else {
            let at = exchange.clock.unix_seconds();
            let mut source = match &mut exchange.evidence {
                Some(evidence) if again => AnswerSource::Known(evidence.is_recorded().then_some(&*evidence.graph)),
                Some(evidence) => AnswerSource::Graph(Some((&mut evidence.graph, at))),
                None if again => AnswerSource::Known(None),
                None => AnswerSource::Graph(None),
            };
            let completed = match Box::pin(self.rules.lookups.complete(&verified, &self.rules, &mut source)).await {
                Ok(completed) => completed,
                // The lookup tells, and not the token.
                Err(error @ NotAccepted::Claim(_)) if again => return Err(Refusal::new(Reason::from(&error), error)),
                Err(error) if again => return Err(self.refuse_again(error, exchange)),
                Err(error) => {
                    exchange.refused_token = Some(verified.token.clone());
                    return Err(self.refuse(error, None));
                }
            };
            if !again && let Ok(Some((token, _))) = self.places.find(incoming) {
                self.verifier.keep(&token, exchange.worker, exchange.clock.unix_seconds(), &verified);
            }
            completed
        };
        exchange.holds_until(verified.token.expires_at, self.rules.clock_skew);
        if let Some(name) = &self.name {
            let (name, token) = (name.clone(), token.clone());
            exchange.named_tokens.push(NamedToken { name, token, place: place.clone() });
        }
        // What a first token policy established stays.
        if exchange.token.is_none() {
            exchange.token = Some(token);
            exchange.token_place = Some(place.clone());
        }
        Ok(())
    }

    /// Makes the refusal, and notes whose token it was: as a fact once its signature held, and as what it says of itself before.
    #[cold]
    fn turn_away(&self, refused: NotAdmitted, exchange: &mut Exchange, incoming: &IncomingRequest) -> Refusal {
        let NotAdmitted { error, verified } = refused;
        let found = self.places.find(incoming).ok().flatten();
        if let Some((_, place)) = found.as_ref().filter(|_| exchange.evidence.is_some()) {
            self.note(exchange, place, verified.as_ref().ok_or_else(|| Reason::from(&error)));
        }
        let token = verified.map(|verified| verified.token.clone());
        exchange.refused_place = found.as_ref().map(|(_, place)| (*place).clone());
        exchange.token_seen = found.filter(|_| token.is_none()).and_then(|(token, _)| TokenSeen::read(&token));
        exchange.refused_token = token;
        self.refuse_request(error, incoming)
    }

    /// Makes the refusal of a request that is judged once more: nobody gets it as an answer.
    #[cold]
    fn refuse_again(&self, error: NotAccepted, exchange: &mut Exchange) -> Refusal {
        let known = exchange.evidence.as_ref().and_then(|evidence| evidence.recorded.as_deref());
        match &error {
            NotAccepted::Lookup(fault) if matches!(**fault, GraphFault::NotAtHand) => {
                exchange.lacks("an answer of Microsoft Graph");
            }
            NotAccepted::Claim(name) => known.into_iter().for_each(|known| known.look_at_claim(name)),
            NotAccepted::BoundToCertificate | NotAccepted::BoundToAnother => {
                known.into_iter().for_each(|known| known.look_at_certificate());
            }
            NotAccepted::Missing => {
                known.into_iter().for_each(|known| self.places.iter().for_each(|place| known.look_in(place)));
            }
            NotAccepted::NotAtHand => exchange.lacks("the verification of the token by the keys of the config"),
            _ => {}
        }
        Refusal::new(Reason::from(&error), error)
    }

    /// Notes the verification of a token, for judging the request once more.
    #[cold]
    fn note(&self, exchange: &mut Exchange, place: &TokenPlace, result: Result<&Arc<Verified>, Reason>) {
        let Some(evidence) = &mut exchange.evidence else { return };
        evidence.tokens.push(TokenEvidence {
            place: place.clone(),
            verifier: self.verifier_name().clone(),
            with: Some(self.verifier.with()),
            result: result.map(|verified| (verified.clone(), self.verifier.form_of(verified))),
        });
    }

    fn verifier_name(&self) -> &Arc<str> {
        self.verifier_name.get_or_init(|| self.verifier.name().into())
    }

    /// Makes the refusal with the policy's settings.
    fn refuse_request(&self, error: NotAccepted, incoming: &IncomingRequest) -> Refusal {
        let token = self.places.find(incoming).ok().flatten();
        let missing = matches!(error, NotAccepted::Missing);
        let mut refusal = self.refuse(error, token.as_ref().map(|(token, _)| &**token));
        if missing {
            refusal.hint = elsewhere::hint(&self.places, incoming);
        }
        refusal
    }

    /// Judges a token outside of any request.
    ///
    /// # Errors
    /// Returns the refusal of a request with it.
    pub async fn judge_text(&self, token: &[u8], clock: &Clock) -> Result<(), Refusal> {
        self.judge(token, clock, Caller::default()).await.map(drop).map_err(|refused| self.refuse(refused.error, Some(token)))
    }

    /// Judges a token outside of any request, by each check on its own. What the token says counts only if its signature is valid: where
    /// verification fails, nothing else is reported.
    pub async fn judge_each(&self, token: &[u8], clock: &Clock) -> Vec<(&'static str, Option<Refusal>)> {
        const STEPS: [&str; 4] = ["form", "algorithm", "key", "signature"];
        let now = Moment::of(clock);
        let verified = match self.verifier.verify(token, 0, now) {
            Err(VerifyError::UnknownKey | VerifyError::NoKeys) => self.verifier.verify_anew(token, 0, clock).await,
            result => result,
        };
        let verified = match verified {
            Ok(verified) => verified,
            Err(error) => {
                let failed = match &error {
                    VerifyError::Algorithm => 1,
                    VerifyError::UnknownKey | VerifyError::NoKeys => 2,
                    VerifyError::Signature => 3,
                    _ => 0,
                };
                let passed = STEPS[..failed].iter().map(|step| (*step, None));
                return passed.chain([(STEPS[failed], Some(self.refuse(error.into(), Some(token))))]).collect();
            }
        };
        let judged = self.rules.judge_each(&verified, now.unix, None).into_iter();
        let judged = judged.map(|(check, result)| (check, result.err().map(|error| self.refuse(error, Some(token)))));
        STEPS.iter().map(|step| (*step, None)).chain(judged).collect()
    }

    async fn authenticate(
        &self,
        incoming: &IncomingRequest,
        clock: &Clock,
        caller: Caller<'_>,
    ) -> Result<Admitted<'_>, NotAdmitted> {
        let (token, place) = self.places.find(incoming)?.ok_or(NotAccepted::Missing)?;
        if let Some(evidence) = caller.evidence {
            return Ok((self.judge_again(&token, place, clock, caller, evidence)?, place));
        }
        Ok((self.judge(&token, clock, caller).await?, place))
    }

    /// Judges a token by the evidence of an earlier judgement. Where that does not count for this policy's keys, the token is verified
    /// with those at hand; nothing is fetched. Where the token itself is not there either, nothing is known.
    fn judge_again(
        &self,
        token: &[u8],
        place: &TokenPlace,
        clock: &Clock,
        caller: Caller<'_>,
        evidence: &Evidence,
    ) -> Result<Arc<Verified>, NotAdmitted> {
        let now = Moment::of(clock);
        let verified = match evidence.of(place, &self.verifier, self.verifier_name(), now) {
            Earlier::Held(verified) => verified,
            Earlier::Failed(reason) => {
                let error = VerifyError::of_reason(reason).map_or(NotAccepted::NotAtHand, NotAccepted::Verify);
                return Err(error.into());
            }
            Earlier::Unknown if evidence.stands_for_tokens() => return Err(NotAccepted::NotAtHand.into()),
            Earlier::Unknown => {
                if let Some(verified) = self.verifier.cached(token, caller.worker, now) {
                    verified
                } else {
                    let verified = self.verifier.verify(token, caller.worker, now)?;
                    if self.rules.judge(&verified, now.unix, caller.certificate).is_ok() {
                        // The room is the config's own, and none of the one that serves.
                        self.verifier.keep(token, caller.worker, now.unix, &verified);
                    }
                    verified
                }
            }
        };
        self.rules.judge(&verified, now.unix, caller.certificate)?;
        Ok(verified)
    }

    async fn judge(&self, token: &[u8], clock: &Clock, caller: Caller<'_>) -> Result<Arc<Verified>, NotAdmitted> {
        let worker = caller.worker;
        let now = Moment::of(clock);
        let whose = |error, verified: &Arc<Verified>| NotAdmitted { error, verified: Some(verified.clone()) };
        if let Some(verified) = self.verifier.cached(token, worker, now) {
            self.rules.judge(&verified, now.unix, caller.certificate).map_err(|error| whose(error, &verified))?;
            return Ok(verified);
        }
        let verified = match self.verifier.verify(token, worker, now) {
            // The one arm that may wait, and so the one whose future is boxed.
            Err(VerifyError::UnknownKey | VerifyError::NoKeys) => {
                Box::pin(self.verifier.verify_anew(token, worker, clock)).await?
            }
            result => result?,
        };
        self.rules.judge(&verified, now.unix, caller.certificate).map_err(|error| whose(error, &verified))?;
        // Only now: strangers have tokens that verify, too. Where more is asked elsewhere, that has to hold first.
        if self.rules.lookups.are_none() {
            self.verifier.keep(token, worker, now.unix, &verified);
        }
        Ok(verified)
    }

    fn refuse(&self, error: NotAccepted, token: Option<&[u8]>) -> Refusal {
        let reason = Reason::from(&error);
        let mut refusal = Refusal::from(reason);
        match &error {
            NotAccepted::Scope => refusal.challenge = self.answer.scope_challenge.clone(),
            NotAccepted::Context { capable: true } => refusal.challenge = self.answer.claims_challenge.clone(),
            // A client that cannot step up would only try again with the same token.
            NotAccepted::Context { capable: false } => refusal.status = Some(StatusCode::FORBIDDEN),
            _ => {}
        }
        if matches!(reason.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            refusal.status = self.answer.status.or(refusal.status);
            refusal.message = self.answer.message.clone();
        }
        if reason == Reason::SigningKeysUnavailable {
            refusal.retry_after = Some(RETRY_AFTER);
        }
        if let NotAccepted::Lookup(fault) = &error {
            refusal.retry_after = fault.retry_after();
        }
        refusal.hint = self.hint(&error, token);
        refusal.cause = Some(error.into());
        refusal
    }
}

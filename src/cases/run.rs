//! The run of cases through the engine that serves.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderName, header};

use super::{
    Case, CaseStep, Difference,
    token::{Mint, WantedToken},
};
use crate::{
    config::Document,
    difference::{self, Options, Side},
    offline::{OfflineFault, OfflineGateway, OfflineKeys, OfflineRequest, Outcome},
    refusal::trace::Step,
    settings::node::Node,
};

/// The result of a case.
#[derive(Debug)]
pub(crate) struct CaseResult {
    pub(crate) duration: Duration,
    /// The difference from the expectation; `None` if the case holds.
    pub(crate) failure: Option<Failure>,
}

/// The first request of a case that is not as expected.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The number of the request in the case, from 1 on, and of all its requests.
    pub(crate) request: (u64, u64),
    pub(crate) differences: Vec<Difference>,
    /// The steps of the decision on that request.
    pub(crate) steps: Vec<Step>,
    /// The cause of a refusal, and a change that the operator could make, as the record has them.
    pub(crate) because: Vec<String>,
}

/// Runs cases, one after the other.
#[derive(Debug)]
pub(crate) struct Runner {
    gateway: OfflineGateway,
    tokio: tokio::runtime::Runtime,
    mint: Mint,
}

/// The reason why cases cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] OfflineFault),
    /// The system gives no runtime.
    #[error("no runtime could be had")]
    Runtime(#[from] std::io::Error),
    /// A token cannot be minted.
    #[error("the case `{0}`: {1}")]
    Token(String, String),
}

impl Runner {
    /// Compiles the config; it is not started, and opens no socket.
    ///
    /// # Errors
    /// Fails if the config cannot be used.
    pub(crate) fn new(document: &Document, now: u64) -> Result<Self, RunError> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let within = tokio.enter();
        let gateway = OfflineGateway::build(document, now, OfflineKeys::Development)?;
        drop(within);
        Ok(Self { gateway, tokio, mint: Mint::default() })
    }

    /// Returns the gateway that judges.
    pub(crate) const fn gateway(&self) -> &OfflineGateway {
        &self.gateway
    }

    /// Runs a case, and shows the outcome of each of its requests, up to the first that is not as expected.
    ///
    /// # Errors
    /// Fails if a token of the case cannot be minted.
    pub(crate) fn run(&mut self, case: &Case, trace: bool, see: &mut dyn FnMut(&Outcome)) -> Result<CaseResult, RunError> {
        let began = Instant::now();
        let requests = self.requests(case, trace)?;
        let mut failure = play(&self.tokio, &self.gateway, case, &requests, see);
        if failure.is_some() && !trace {
            // The steps are of interest after all, and are the same again: time stands still, and counters begin anew.
            let requests = self.requests(case, true)?;
            failure = play(&self.tokio, &self.gateway, case, &requests, &mut |_| ());
        }
        Ok(CaseResult { duration: began.elapsed(), failure })
    }

    /// Returns whether the case holds for another config.
    ///
    /// # Errors
    /// Fails if a token of the case cannot be minted.
    pub(crate) fn holds_for(&mut self, case: &Case, gateway: &OfflineGateway) -> Result<bool, RunError> {
        let requests = self.requests(case, false)?;
        Ok(play(&self.tokio, gateway, case, &requests, &mut |_| ()).is_none())
    }

    /// Compiles another config.
    ///
    /// # Errors
    /// Fails if it cannot be used.
    pub(crate) fn other(&self, document: &Document) -> Result<OfflineGateway, OfflineFault> {
        let _within = self.tokio.enter();
        self.gateway.build_after(document)
    }

    /// Compares two configs at the time of the gateway that judges.
    ///
    /// # Errors
    /// Fails if one of them cannot be used.
    pub(crate) fn difference(
        &self,
        old: (&Document, &Node),
        new: (&Document, &Node),
    ) -> Result<difference::Difference, OfflineFault> {
        let _within = self.tokio.enter();
        let old = Side::of(old.0, old.1, self.gateway.build_after(old.0)?);
        let new = Side::of(new.0, new.1, self.gateway.build_after(new.0)?);
        Ok(self.tokio.block_on(difference::difference([&old, &new], &Options::default())))
    }

    /// Runs a single request on a gateway, without counts from earlier ones.
    pub(crate) fn probe(&self, gateway: &OfflineGateway, request: &OfflineRequest, now: u64) -> Outcome {
        gateway.begin(now);
        self.tokio.block_on(gateway.run(request))
    }

    /// Returns the value of a field with a token of a case.
    ///
    /// # Errors
    /// Fails if the token cannot be minted.
    pub(crate) fn bearer(&mut self, name: &HeaderName, wanted: &WantedToken, case: &Case) -> Result<String, RunError> {
        let minted = self.mint.token(wanted, &self.gateway);
        let token: Arc<str> = minted.map_err(|fault| RunError::Token(case.name.clone(), fault.to_string()))?;
        let bare = *name != header::AUTHORIZATION && wanted.config.text.is_some();
        Ok(if bare { token.to_string() } else { format!("Bearer {token}") })
    }

    /// Returns the requests of a case, with their tokens.
    ///
    /// # Errors
    /// Fails if a token cannot be minted.
    pub(crate) fn requests(&mut self, case: &Case, trace: bool) -> Result<Vec<OfflineRequest>, RunError> {
        self.gateway.begin(case.now);
        case.steps.iter().map(|step| self.request(case, step, trace)).collect()
    }

    fn request(&mut self, case: &Case, step: &CaseStep, trace: bool) -> Result<OfflineRequest, RunError> {
        let mut request = OfflineRequest { read_trace: trace, ..step.request.clone() };
        for (name, wanted) in &step.tokens {
            let value = self.bearer(name, wanted, case)?;
            request.header(name.as_str(), value);
        }
        Ok(request)
    }
}

/// Sends the requests of a case until one is not as expected.
fn play(
    tokio: &tokio::runtime::Runtime,
    gateway: &OfflineGateway,
    case: &Case,
    requests: &[OfflineRequest],
    see: &mut dyn FnMut(&Outcome),
) -> Option<Failure> {
    gateway.begin(case.now);
    let all = case.steps.iter().map(|step| u64::from(step.times)).sum();
    let mut number = 0;
    for (step, request) in case.steps.iter().zip(requests) {
        gateway.advance(step.after.as_secs());
        for index in 0..step.times {
            number += 1;
            let mut outcome = tokio.block_on(gateway.run(request));
            see(&outcome);
            let expected = step.expected.of(index, step.times);
            let differences: Vec<_> = expected.flat_map(|expectation| expectation.differences(&outcome)).collect();
            if !differences.is_empty() {
                let steps = std::mem::take(&mut outcome.steps);
                let because = outcome.cause.take().into_iter().chain(outcome.hint.take()).collect();
                return Some(Failure { request: (number, all), differences, steps, because });
            }
        }
    }
    None
}

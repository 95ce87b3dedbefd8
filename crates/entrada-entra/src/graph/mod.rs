//! Microsoft Graph, for policies that need facts about a user which the token lacks.
//!
//! There are two questions: the user's groups, if a token has more groups than it lists, and the user's attributes, if a token
//! lacks a mapped claim. The address is the cloud's, with validated values (`tid` and `oid`); the URL that a token names for its
//! groups is never followed, since a token must not choose where the gateway's credential goes.
//!
//! Answers are cached for a while, in a bounded number, and one call serves all waiters. A question without an answer is an
//! error, never "no": a fault refuses the request.

mod answers;
mod fault;
mod known;
mod question;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::Semaphore};

use self::{
    answers::Answers,
    question::{AboutAttributes, AboutGroups},
};
pub use self::{
    fault::GraphFault,
    known::{GraphAnswer, GraphTold},
    question::{Attributes, Groups, Person},
};
use crate::{
    base::{clock::Clock, lock::lock},
    credentials::{Credential, TokenSlot},
    entra::GraphAddress,
    identity_http::IdentityHttp,
};

/// The maximum number of cached answers of each kind.
const MOST_ANSWERS: usize = 20_000;
/// The maximum number of concurrent calls.
const MOST_CALLS: usize = 32;

/// Graph as one credential sees it.
pub struct Graph {
    address: GraphAddress,
    credential: Arc<Credential>,
    groups: Answers<AboutGroups, Groups>,
    attributes: Answers<AboutAttributes, Attributes>,
    calls: Semaphore,
    /// The monotonic time, in milliseconds, until which Graph is left alone, because it demanded that or was unreachable.
    pause_until: AtomicU64,
    engine: OnceLock<Engine>,
}

/// The tools of calls.
#[derive(Clone, Debug)]
struct Engine {
    http: IdentityHttp,
    clock: Clock,
    handle: Handle,
}

impl Graph {
    fn new(address: GraphAddress, credential: Arc<Credential>) -> Arc<Self> {
        Arc::new(Self {
            address,
            credential,
            groups: Answers::new(MOST_ANSWERS),
            attributes: Answers::new(MOST_ANSWERS),
            calls: Semaphore::new(MOST_CALLS),
            pause_until: AtomicU64::new(0),
            engine: OnceLock::new(),
        })
    }

    /// Returns the groups, of those in question, that a user is in, directly or through others. An answer is valid for `lasts`.
    ///
    /// # Errors
    /// Fails if Graph, or a token for it, is unavailable.
    pub async fn groups(
        self: &Arc<Self>,
        person: Person<'_>,
        of: &Arc<[Box<str>]>,
        lasts: Duration,
    ) -> Result<Arc<Groups>, Arc<GraphFault>> {
        let engine = self.engine.get().ok_or(GraphFault::NotStarted)?;
        let about = AboutGroups::new(person, of).ok_or(GraphFault::NoPerson)?;
        let ask = || {
            let (graph, engine, about) = (self.clone(), engine.clone(), about.clone());
            async move { graph.ask(&engine, &about).await }
        };
        self.groups.get(&about, &engine.clock, &engine.handle, lasts, ask).await
    }

    /// Returns these attributes of a user, as claims. An answer is valid for `lasts`.
    ///
    /// # Errors
    /// Fails if Graph, or a token for it, is unavailable.
    pub async fn attributes(
        self: &Arc<Self>,
        person: Person<'_>,
        claims: &Arc<[(Box<str>, Box<str>)]>,
        lasts: Duration,
    ) -> Result<Arc<Attributes>, Arc<GraphFault>> {
        let engine = self.engine.get().ok_or(GraphFault::NotStarted)?;
        let about = AboutAttributes::new(person, claims).ok_or(GraphFault::NoPerson)?;
        let ask = || {
            let (graph, engine, about) = (self.clone(), engine.clone(), about.clone());
            async move { graph.ask(&engine, &about).await }
        };
        self.attributes.get(&about, &engine.clock, &engine.handle, lasts, ask).await
    }

    /// Returns the groups as [`groups`](Self::groups) does if the answer is at hand: nothing is asked.
    ///
    /// # Errors
    /// Fails if it is not.
    pub fn known_groups(
        &self,
        person: Person<'_>,
        of: &Arc<[Box<str>]>,
        lasts: Duration,
    ) -> Result<Arc<Groups>, Arc<GraphFault>> {
        let engine = self.engine.get().ok_or(GraphFault::NotAtHand)?;
        let about = AboutGroups::new(person, of).ok_or(GraphFault::NoPerson)?;
        Ok(self.groups.known(&about, &engine.clock, lasts).ok_or(GraphFault::NotAtHand)?)
    }

    /// Returns the attributes as [`attributes`](Self::attributes) does if the answer is at hand: nothing is asked.
    ///
    /// # Errors
    /// Fails if it is not.
    pub fn known_attributes(
        &self,
        person: Person<'_>,
        claims: &Arc<[(Box<str>, Box<str>)]>,
        lasts: Duration,
    ) -> Result<Arc<Attributes>, Arc<GraphFault>> {
        let engine = self.engine.get().ok_or(GraphFault::NotAtHand)?;
        let about = AboutAttributes::new(person, claims).ok_or(GraphFault::NoPerson)?;
        Ok(self.attributes.known(&about, &engine.clock, lasts).ok_or(GraphFault::NotAtHand)?)
    }

    async fn ask<Q: question::Question>(&self, engine: &Engine, question: &Q) -> Result<Q::Answer, GraphFault> {
        let now = milliseconds(engine.clock.monotonic());
        let pause = self.pause_until.load(Ordering::Relaxed);
        if now < pause {
            return Err(GraphFault::Paused { seconds: (pause - now).div_ceil(1_000) });
        }
        // The semaphore is never closed; were it, nothing would be asked.
        let _permit = self.calls.acquire().await.map_err(|_| GraphFault::Interrupted)?;
        let slot = self.slot(question.tenant()).ok_or(GraphFault::NoPerson)?;
        let token = slot.token().await?;
        let answer = match question.ask(&engine.http, &self.address.base, &token).await {
            // The token was revoked, or permissions were granted since: a fresh one is worth one attempt.
            Err(GraphFault::Unauthorized) if slot.refused(&token) => {
                let fresh = slot.token().await?;
                question.ask(&engine.http, &self.address.base, &fresh).await
            }
            answer => answer,
        };
        if let Some(pause) = answer.as_ref().err().and_then(GraphFault::pause) {
            self.pause_until.store(milliseconds(engine.clock.monotonic() + pause), Ordering::Relaxed);
        }
        answer
    }

    /// Returns the slot of the token for Graph in a tenant. A managed identity has only its own tenant, which the build has
    /// checked.
    fn slot(&self, tenant: &str) -> Option<Arc<TokenSlot>> {
        if self.credential.is_application() {
            self.credential.slot_in(tenant, &self.address.scope)
        } else {
            self.credential.slot(&self.address.scope)
        }
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph")
            .field("address", &self.address)
            .field("credential", self.credential.name())
            .finish_non_exhaustive()
    }
}

/// The Graph clients that policies use; they outlive reloads, with their caches.
#[derive(Debug, Default)]
pub struct Graphs {
    asked: Mutex<Vec<Arc<Graph>>>,
    /// The clients of the previous config, which are reused where nothing changed.
    inherited: Mutex<Vec<Arc<Graph>>>,
}

impl Graphs {
    /// Starts without any; those of `previous` are reused where they are requested again.
    pub fn after(previous: Option<&Self>) -> Self {
        let inherited = previous.map(|previous| lock(&previous.asked).clone()).unwrap_or_default();
        Self { asked: Mutex::default(), inherited: Mutex::new(inherited) }
    }

    /// Returns Graph at an address as a credential sees it: the existing client, or a new one.
    pub fn of(&self, address: &GraphAddress, credential: &Arc<Credential>) -> Arc<Graph> {
        let is_it = |graph: &&Arc<Graph>| graph.address == *address && Arc::ptr_eq(&graph.credential, credential);
        let mut asked = lock(&self.asked);
        if let Some(graph) = asked.iter().find(is_it) {
            return graph.clone();
        }
        let inherited = lock(&self.inherited).iter().find(is_it).cloned();
        let graph = inherited.unwrap_or_else(|| Graph::new(address.clone(), credential.clone()));
        asked.push(graph.clone());
        graph
    }

    /// Lets the clients call, on a runtime that outlives requests.
    pub fn start(&self, http: &IdentityHttp, clock: &Clock, handle: &Handle) {
        lock(&self.inherited).clear();
        for graph in &*lock(&self.asked) {
            // One that lived under the config before goes on with its client: a changed client makes a new credential.
            let _ = graph.engine.set(Engine { http: http.clone(), clock: clock.clone(), handle: handle.clone() });
        }
    }
}

fn milliseconds(reading: Duration) -> u64 {
    u64::try_from(reading.as_millis()).unwrap_or(u64::MAX)
}

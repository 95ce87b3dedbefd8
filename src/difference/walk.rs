//! The walk through the requests of a cell with both configs at once: where they end differently is a cube.

use super::{
    cell::{Address, Arrival, Cell, Given, Target},
    region::{Atom, Flag, Region},
    run::{Asked, Open, Refused, Run, State, Stopped, refuse},
    side::Side,
    world::World,
};
use crate::{
    authorization::AuthorizationConfig,
    connection::Scheme,
    expression::shape::{Operand, Source},
    identity::IdentityHeaderConfig,
    inbound::list::Listed,
    listener::ClientCertificateMode,
    refusal::Reason,
    route::{RequireTlsConfig, RequireTlsWord, RouteConfig},
    settings::Place,
};

/// The most free conditions of one walk.
const MOST_FREE: usize = 24;
/// The most parts of one cell.
const MOST_PARTS: usize = 20_000;

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Refused(Refused),
    /// The gateway answers itself.
    Answered {
        status: u16,
        content: String,
    },
    /// It is sent upstream, or relayed, with these changes.
    Sent {
        to: String,
        effects: Vec<String>,
    },
}

impl End {
    /// Returns whether the caller gets what the route serves: a refusal that the config words itself is none.
    pub(crate) const fn serves(&self) -> bool {
        match self {
            Self::Refused(_) => false,
            Self::Answered { status, .. } => *status < 400,
            Self::Sent { .. } => true,
        }
    }
}

/// Requests that the two configs treat differently.
#[derive(Clone, Debug)]
pub(crate) struct Cube {
    pub(crate) region: Region,
    pub(crate) ends: [End; 2],
}

/// The result of a walk.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub(crate) cubes: Vec<Cube>,
    /// The number of parts that were told apart.
    pub(crate) parts: usize,
    /// The reason why it is not complete.
    pub(crate) cut_short: Option<&'static str>,
}

/// One config in a walk.
pub(crate) struct Walker<'a> {
    pub(crate) side: &'a Side,
    pub(crate) given: Given,
    pub(crate) target: Target,
    pub(crate) entries: Vec<Listed<'a>>,
}

impl<'a> Walker<'a> {
    /// Takes one config to a cell, by an arrival.
    pub(crate) fn new(side: &'a Side, index: usize, cell: &Cell, arrival: &Arrival, captures: Vec<(String, String)>) -> Self {
        let target = cell.targets[index].clone();
        let entries = if let Target::Route(route) = target { side.entries(route) } else { Vec::new() };
        let mut fields = arrival.fields.clone();
        if cell.preflight {
            fields.push(("access-control-request-method".to_owned(), cell.method.clone()));
        }
        let given = Given {
            host: cell.host.clone(),
            path: cell.path.clone(),
            method: if cell.preflight { "OPTIONS".to_owned() } else { cell.method.clone() },
            preflight: cell.preflight,
            captures,
            scheme: arrival.schemes[index],
            caller: arrival.callers[index],
            peer: arrival.proxy.map_or(Address::Any, Address::Known),
            listener: arrival.listeners[index].clone(),
            fields,
        };
        Self { side, given, target, entries }
    }

    /// Runs the route on a region.
    fn end(&self, world: &World, region: &Region) -> Asked<End> {
        let index = match self.target {
            Target::Route(index) => index,
            Target::Nowhere(code) => {
                return Ok(End::Refused(Refused { code: code.to_owned(), place: Place::root().key("routes") }));
            }
        };
        let Some(route) = self.side.document.config.routes.get(index) else {
            // A document that the gateway makes of another route.
            return Ok(End::Answered { status: 200, content: "metadata".to_owned() });
        };
        let run = Run { side: self.side, world, given: &self.given, route, index, region, entries: &self.entries };
        let mut state = State::default();
        let stopped = match run.before()? {
            Some(stopped) => Some(stopped),
            None => match run.lists(&mut state)? {
                Some(stopped) => Some(stopped),
                None => run.identity(&state)?,
            },
        };
        match stopped {
            Some(Stopped::Refused(refused)) => Ok(End::Refused(refused)),
            Some(Stopped::Answered { status, content, .. }) => Ok(End::Answered { status, content }),
            None => Ok(run.sent(state)),
        }
    }
}

impl Run<'_> {
    /// Judges what comes before the policies: the certificate that the listener asks for, and TLS.
    fn before(&self) -> Asked<Option<Stopped>> {
        let listeners = Place::root().key("listeners");
        let config = &self.side.document.config;
        let listener = config.listeners.iter().position(|listener| listener.name == self.given.listener);
        if let Some(index) = listener
            && let Some(asked) = &config.listeners[index].client_certificates
            && asked.mode == ClientCertificateMode::Required
        {
            let place = listeners.index(index).key("client-certificates");
            if !self.ask(Atom::Flag(Flag::Certificate(self.side.content(&place))))? {
                return Ok(Some(refuse(Reason::ClientCertificateMissing, &place)));
            }
        }
        let place = self.place().key("require-tls");
        let redirects = self.route.require_tls == RequireTlsConfig::Word(RequireTlsWord::Redirect);
        Ok(match self.route.require_tls {
            RequireTlsConfig::Refuse(false) => None,
            _ if self.given.scheme == Scheme::Https => None,
            _ if redirects && matches!(self.given.method.as_str(), "GET" | "HEAD") => {
                Some(Stopped::Answered { place, status: 308, content: "redirect".to_owned() })
            }
            _ => Some(refuse(Reason::TlsRequired, &place)),
        })
    }

    fn place(&self) -> Place {
        Place::root().key("routes").index(self.index)
    }

    /// Makes the fields that identify the caller, and checks what `authorization` needs.
    fn identity(&self, state: &State) -> Asked<Option<Stopped>> {
        for (name, config) in &self.route.identity_headers {
            if !self.has_value(config, state)? {
                let place = self.place().key("identity-headers").key(name);
                return Ok(Some(refuse(Reason::HeaderValueUnavailable, &place)));
            }
        }
        if let AuthorizationConfig::OnBehalfOf(_) = &self.route.authorization
            && let Some(spot) = &state.token
            && self.ask(Atom::Flag(Flag::App(spot.clone())))?
        {
            return Ok(Some(refuse(Reason::OnBehalfOfNeedsUser, &self.place().key("authorization"))));
        }
        Ok(None)
    }

    fn has_value(&self, config: &IdentityHeaderConfig, state: &State) -> Asked<bool> {
        if config.default.is_some() || config.when_absent == Some(crate::inbound::set_header::WhenAbsent::Skip) {
            return Ok(true);
        }
        if let Some(claim) = &config.claim {
            return self.exists(&Operand { source: Source::Claim(claim.clone()), token: None }, state);
        }
        for read in config.value.iter().filter_map(|value| self.side.read(value)) {
            for operand in &read.operands {
                if !self.exists(operand, state)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Returns the end of a request that passes.
    fn sent(&self, state: State) -> End {
        let content = |key: &str| self.side.content(&self.place().key(key));
        if let Some(respond) = &self.route.respond {
            return End::Answered { status: respond.status, content: content("respond") };
        }
        let mut effects = state.effects;
        for key in ["authorization", "identity-headers", "backend-assertion", "trusted-headers", "upgrades"] {
            effects.push(format!("{key} {}", content(key)));
        }
        if !self.route.identity_headers.is_empty() || self.route.backend_assertion.is_some() {
            effects.push(format!("of {:?}", state.token));
        }
        let to = match (&state.upstream, &self.route.upstream) {
            (Some(chosen), _) => self.side.upstream(chosen),
            (None, Some(upstream)) => self.side.upstream(upstream),
            (None, None) => format!("{}{}", content("token-relay"), content("assertion-keys")),
        };
        End::Sent { to, effects }
    }
}

/// Walks through a region with both configs.
pub(crate) fn walk(walkers: &[Walker<'_>; 2], world: &World, region: Region) -> Walked {
    let mut walked = Walked::default();
    let mut open = vec![region];
    while let Some(region) = open.pop() {
        let both = walkers[0].end(world, &region).and_then(|old| Ok([old, walkers[1].end(world, &region)?]));
        match both {
            Ok(ends) => {
                walked.parts += 1;
                let nowhere = walkers.iter().all(|walker| matches!(walker.target, Target::Nowhere(_)));
                if differ(&ends, nowhere) {
                    walked.cubes.push(Cube { region, ends });
                }
                if walked.parts >= MOST_PARTS {
                    walked.cut_short = Some("a cell has too many parts");
                    return walked;
                }
            }
            Err(Open(atom)) => {
                let free = region.decided.iter().filter(|(atom, _)| matches!(atom, Atom::Flag(Flag::Free(_)))).count();
                if free > MOST_FREE {
                    walked.cut_short = Some("a cell has too many conditions that cannot be taken apart");
                    continue;
                }
                open.extend([false, true].into_iter().filter_map(|holds| region.with(&atom, holds)));
            }
        }
    }
    walked
}

/// Returns whether two ends differ. Which of several faults of a request is told first says nothing of who has access: of refusals
/// only those differ that no route makes, and those whose code a config has written itself.
fn differ(ends: &[End; 2], nowhere: bool) -> bool {
    let own = |refused: &Refused| Reason::ALL.iter().all(|reason| reason.code() != refused.code);
    match ends {
        [End::Refused(old), End::Refused(new)] => old.code != new.code && (nowhere || own(old) || own(new)),
        [old, new] => old != new,
    }
}

/// Returns the name that a route has in reports.
pub(crate) fn name_of(side: &Side, target: &Target) -> Option<String> {
    let Target::Route(index) = target else { return None };
    side.document.config.routes.get(*index).map(|RouteConfig { name, .. }| name.clone())
}

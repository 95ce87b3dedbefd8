//! A list of policies on the response: fragments inserted, built, and run in the order written.

use bytes::Bytes;
use http::HeaderName;

use super::{Flow, Kind, OutboundBranchConfig, OutboundPolicy, OutboundPolicyConfig};
use crate::{
    base::header_names::X_REQUEST_ID,
    base::response::Response,
    exchange::Exchange,
    inbound::{
        PolicyConfig,
        build_context::BuildContext,
        choose::BranchConfig,
        cors,
        list::{Fragments, MAX_DEPTH},
        return_response::ReturnResponse,
        set_body::SetBody,
        set_header::SetHeader,
        set_status::SetStatus,
        set_variable::SetVariable,
        trace::Trace,
    },
    refusal::Refusal,
    request::{IncomingRequest, same_folded},
    settings::Place,
    upstream::Withheld,
};

/// The policies on the response, built.
#[derive(Debug, Default)]
pub struct OutboundList(Vec<OutboundPolicy>);

impl OutboundList {
    /// Builds the list at this place, which audit records call `name`; policies that cannot be built are left out, and their faults
    /// reported.
    pub(crate) fn build(
        configs: &[OutboundPolicyConfig],
        (place, name): (&Place, &str),
        fragments: &Fragments,
        context: &mut BuildContext<'_>,
    ) -> Self {
        Builder { context, fragments, within: Vec::new(), depth: 0 }.list(configs, place, name)
    }

    /// Returns the list with that of the route behind it.
    #[must_use]
    pub(crate) fn then(mut self, own: Self) -> Self {
        self.0.extend(own.0);
        self
    }

    /// Returns whether there is no policy.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Applies the policies of `on-error` to the response with which a request is refused. The record keeps what was decided.
    pub(crate) fn answer_refusal<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) {
        if self.0.is_empty() {
            return;
        }
        let decided = exchange.outcome.policy.clone();
        // A policy that fails ends the list; what it would have changed stays as it is.
        let _ = self.run(exchange, incoming, response);
        exchange.outcome.policy = decided;
    }

    /// Applies the policies to the response.
    ///
    /// # Errors
    /// Returns the refusal that replaces the response, if a required value is unavailable.
    pub(crate) fn apply<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<(), Refusal> {
        self.run(exchange, incoming, response).map(|_| ())
    }

    /// Returns whether a policy of the list sets or removes this field: a server cannot repeat it in trailers. Unlike an
    /// informational response, trailers belong to the response that the policies apply to, so that one which was not replaced
    /// keeps its own.
    pub(crate) fn speaks_for(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|policy| match &policy.kind {
            Kind::SetHeader(policy) => same_folded(policy.name().as_str(), name.as_str()),
            Kind::SetVariable(_) | Kind::SetStatus(_) | Kind::SetBody(_) | Kind::Trace(_) | Kind::ReturnResponse(_) => false,
            #[cfg(test)]
            Kind::Panic(_) => false,
            Kind::Choose { branches, otherwise } => {
                branches.iter().map(|(_, list)| list).chain([otherwise]).any(|list| list.speaks_for(name))
            }
        })
    }

    pub(super) fn run<B: From<Bytes>>(
        &self,
        exchange: &mut Exchange,
        incoming: &IncomingRequest,
        response: &mut Response<B>,
    ) -> Result<Flow, Refusal> {
        for policy in &self.0 {
            if policy.apply(exchange, incoming, response)? == Flow::Ends {
                return Ok(Flow::Ends);
            }
        }
        Ok(Flow::Goes)
    }
}

/// Withholds the fields of informational responses that the policies would change, since the policies apply only to the final
/// response.
impl Withheld for OutboundList {
    fn withholds(&self, name: &HeaderName) -> bool {
        let said_by_the_gateway = *name == X_REQUEST_ID || cors::is_permission(name.into());
        said_by_the_gateway
            || self.0.iter().any(|policy| match &policy.kind {
                Kind::SetHeader(policy) => policy.name() == name,
                Kind::SetVariable(_) | Kind::SetStatus(_) | Kind::SetBody(_) | Kind::Trace(_) => false,
                #[cfg(test)]
                Kind::Panic(_) => false,
                // It takes the place of all that the server says.
                Kind::ReturnResponse(_) => true,
                Kind::Choose { branches, otherwise } => {
                    otherwise.withholds(name) || branches.iter().any(|(_, list)| list.withholds(name))
                }
            })
    }
}

/// The context in which a list is built.
struct Builder<'b, 's> {
    context: &'b mut BuildContext<'s>,
    fragments: &'b Fragments,
    /// The fragments that contain the list.
    within: Vec<String>,
    depth: usize,
}

impl Builder<'_, '_> {
    /// Builds a list; `name` is its name in audit records.
    fn list(&mut self, configs: &[OutboundPolicyConfig], place: &Place, name: &str) -> OutboundList {
        let mut policies = Vec::new();
        if self.depth >= MAX_DEPTH {
            let message = format!("lists of policies stand more than {MAX_DEPTH} deep within each other");
            self.context.faults.error(place, message, "write them flatter");
            return OutboundList::default();
        }
        self.depth += 1;
        for (index, config) in configs.iter().enumerate() {
            let place = place.index(index).key(config.name());
            let at = format!("{name}[{index}].{}", config.name());
            let kind = match config {
                OutboundPolicyConfig::SetHeader(config) => {
                    SetHeader::build_for_answer(config, &place, self.context).map(Kind::SetHeader)
                }
                OutboundPolicyConfig::SetVariable(config) => {
                    SetVariable::build_for_answer(config, &place, self.context).map(Kind::SetVariable)
                }
                OutboundPolicyConfig::SetStatus(config) => SetStatus::build(*config, &place, self.context).map(Kind::SetStatus),
                OutboundPolicyConfig::SetBody(config) => {
                    SetBody::build(config, &place, self.context).map(Box::new).map(Kind::SetBody)
                }
                OutboundPolicyConfig::Trace(config) => {
                    Trace::build_for_answer(config, &place, self.context).map(Box::new).map(Kind::Trace)
                }
                OutboundPolicyConfig::ReturnResponse(config) => {
                    ReturnResponse::build(config, &place, self.context).map(Box::new).map(Kind::ReturnResponse)
                }
                OutboundPolicyConfig::Choose(branches) => self.choose(branches, &place, &at),
                #[cfg(test)]
                OutboundPolicyConfig::Panic(text) => Some(Kind::Panic(text.clone())),
                OutboundPolicyConfig::IncludeFragment(fragment) => {
                    policies.extend(self.fragment(fragment, &place).0);
                    None
                }
            };
            policies.extend(kind.map(|kind| OutboundPolicy { kind, at: at.into(), place }));
        }
        self.depth -= 1;
        OutboundList(policies)
    }

    fn fragment(&mut self, name: &str, place: &Place) -> OutboundList {
        let fragments = self.fragments;
        if self.within.iter().any(|within| within == name) {
            self.context.faults.error(place, format!("the fragment `{name}` includes itself"), "take it out of its own list");
            return OutboundList::default();
        }
        let Some(policies) = fragments.get(name) else {
            let names: Vec<_> = fragments.keys().map(|name| format!("`{name}`")).collect();
            let cure = if names.is_empty() { "none is defined".to_owned() } else { format!("defined are {}", names.join(", ")) };
            self.context.faults.error(place, format!("there is no fragment `{name}`"), cure);
            return OutboundList::default();
        };
        match policies.iter().map(for_answers).collect::<Result<Vec<_>, _>>() {
            Ok(policies) => {
                self.within.push(name.to_owned());
                let list = self.list(&policies, &Place::root().key("fragments").key(name), name);
                self.within.pop();
                list
            }
            Err(policy) => {
                let message =
                    format!("the fragment `{name}` has `{policy}`, which is for requests: here there is an answer already");
                let cure = "include fragments of policies that `outbound` accepts";
                self.context.faults.error(place, message, cure);
                OutboundList::default()
            }
        }
    }

    fn choose(&mut self, config: &[OutboundBranchConfig], place: &Place, at: &str) -> Option<Kind> {
        let before = self.context.faults.errors();
        let (mut branches, mut last) = (Vec::new(), OutboundList::default());
        for (index, branch) in config.iter().enumerate() {
            let place = place.index(index);
            match branch {
                OutboundBranchConfig { when: Some(when), then: Some(then), otherwise: None } => {
                    let condition = self.context.condition_on_answer(when, &place.key("when"));
                    let list = self.list(then, &place.key("do"), &format!("{at}[{index}].do"));
                    branches.extend(condition.map(|condition| (condition, list)));
                }
                OutboundBranchConfig { when: None, then: None, otherwise: Some(otherwise) }
                    if index > 0 && index + 1 == config.len() =>
                {
                    last = self.list(otherwise, &place.key("otherwise"), &format!("{at}[{index}].otherwise"));
                }
                _ => {
                    let cure = "write { when: \"@(…)\", do: […] }, or at last { otherwise: […] }";
                    self.context.faults.error(&place, "a branch has either `when` and `do`, or at last `otherwise` alone", cure);
                }
            }
        }
        if config.is_empty() {
            self.context.faults.error(place, "there is no branch", "write { when: \"@(…)\", do: […] }");
        }
        (self.context.faults.errors() == before).then_some(Kind::Choose { branches, otherwise: last })
    }
}

/// Converts a fragment's policy to one on the response; fails with the name of one that cannot be.
fn for_answers(policy: &PolicyConfig) -> Result<OutboundPolicyConfig, &'static str> {
    let list = |policies: &Option<Vec<PolicyConfig>>| {
        policies.as_ref().map(|policies| policies.iter().map(for_answers).collect::<Result<Vec<_>, _>>()).transpose()
    };
    Ok(match policy {
        PolicyConfig::SetHeader(config) => OutboundPolicyConfig::SetHeader(config.clone()),
        PolicyConfig::SetStatus(config) => OutboundPolicyConfig::SetStatus(*config),
        PolicyConfig::SetBody(config) => OutboundPolicyConfig::SetBody(config.clone()),
        PolicyConfig::Trace(config) => OutboundPolicyConfig::Trace(config.clone()),
        PolicyConfig::SetVariable(config) => OutboundPolicyConfig::SetVariable(config.clone()),
        PolicyConfig::ReturnResponse(config) => OutboundPolicyConfig::ReturnResponse(config.clone()),
        PolicyConfig::IncludeFragment(name) => OutboundPolicyConfig::IncludeFragment(name.clone()),
        PolicyConfig::Choose(branches) => {
            let branch = |branch: &BranchConfig| {
                Ok(OutboundBranchConfig {
                    when: branch.when.clone(),
                    then: list(&branch.then)?,
                    otherwise: list(&branch.otherwise)?,
                })
            };
            OutboundPolicyConfig::Choose(branches.iter().map(branch).collect::<Result<_, &'static str>>()?)
        }
        other => return Err(other.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbound::testing::Building;

    fn built(yaml: &str) -> Result<OutboundList, Vec<String>> {
        let configs: Vec<OutboundPolicyConfig> = crate::settings::testing::part(yaml);
        Building::default().build(|place, context| {
            Some(OutboundList::build(&configs, (&place.key("outbound"), "outbound"), &Fragments::new(), context))
        })
    }

    #[test]
    fn entries_are_named_as_audit_records_name_them() {
        let list = built(
            "[ { set-header: { name: A, value: a } }, { choose: [ { when: '@(response.status == 404)', do: [ { return-response: {} } ] }, { otherwise: [ { set-header: { name: B, value: b } } ] } ] } ]",
        )
        .expect("valid");

        let Kind::Choose { branches, otherwise } = &list.0[1].kind else { panic!("{list:?}") };
        let names = [&list.0[0], &list.0[1], &branches[0].1.0[0], &otherwise.0[0]].map(|policy| policy.at.to_string());
        assert_eq!(
            names,
            [
                "outbound[0].set-header",
                "outbound[1].choose",
                "outbound[1].choose[0].do[0].return-response",
                "outbound[1].choose[1].otherwise[0].set-header"
            ]
        );
    }

    #[test]
    fn mistakes_are_found_at_load() {
        for (yaml, expected) in [
            ("[ { choose: [] } ]", "there is no branch"),
            ("[ { choose: [ { otherwise: [] } ] } ]", "either `when` and `do`"),
            ("[ { choose: [ { when: '@(response.status)', do: [] } ] } ]", "a condition is true or false"),
            ("[ { include-fragment: nowhere } ]", "there is no fragment `nowhere`"),
            ("[ { return-response: { status: 99 } } ]", "not a status to answer with"),
        ] {
            let faults = built(yaml).expect_err(yaml);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{yaml}: {faults:?}");
        }
    }

    #[test]
    fn a_fragment_of_checks_is_for_requests() {
        let policies: Vec<PolicyConfig> =
            crate::settings::testing::part("[ { set-header: { name: A, value: a } }, { check-header: { name: B } } ]");
        let converted: Vec<_> = policies.iter().map(for_answers).map(|it| it.map(|it| it.name())).collect();
        assert_eq!(converted, [Ok("set-header"), Err("check-header")]);
    }
}

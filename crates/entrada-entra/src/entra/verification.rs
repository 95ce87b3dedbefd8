//! The result of a verification, for judging the same request once more: at once under other rules, or later from its record.
//!
//! A result counts for another verifier only if that one would have asked the same: the same keys, and the same algorithms.

use std::{fmt::Write as _, sync::Arc};

use aws_lc_rs::digest;
use serde_json::{Map, Value, json};

use super::{
    algorithm::Algorithm,
    key_set::KeySet,
    token::{TokenFault, read_entra, read_other, read_user_flow, recorded},
    verify::{IssuerVerdict, Moment, Profile, Verified, Verifier, VerifyError},
};
use crate::refusal::Reason;

/// The claims by which every token is judged. All others are unknown to a later judge, unless they were asked for.
pub const JUDGED_CLAIMS: [&str; 22] = [
    "iss",
    "aud",
    "tid",
    "ver",
    "exp",
    "nbf",
    "iat",
    "sub",
    "oid",
    "azp",
    "appid",
    "client_id",
    "azpacr",
    "appidacr",
    "idtyp",
    "scp",
    "scope",
    "roles",
    "acrs",
    "xms_cc",
    "uti",
    "jti",
];
/// The most bytes of the claims of one token that are kept.
const MOST_BYTES: usize = 8 << 10;

/// The keys and algorithms that a token was verified with, within this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedWith {
    /// The number and the generation of each key set.
    sets: Box<[(u64, u64)]>,
    algorithms: Box<[Algorithm]>,
}

/// The form in which a payload is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadForm {
    /// Entra's.
    Entra,
    /// That of a user flow of Azure AD B2C.
    UserFlow,
    /// Another issuer's.
    Other,
}

impl PayloadForm {
    /// Returns its name in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::UserFlow => "user-flow",
            Self::Other => "other",
        }
    }

    /// Returns the form of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Entra, Self::UserFlow, Self::Other].into_iter().find(|form| form.as_str() == name)
    }
}

impl Verifier {
    /// Returns what it verifies with now.
    pub fn with(&self) -> VerifiedWith {
        VerifiedWith {
            sets: self.sets.iter().map(|set| (set.id(), set.generation())).collect(),
            algorithms: self.algorithms.as_slice().into(),
        }
    }

    /// Returns whether it verifies with just that.
    pub fn is_with(&self, with: &VerifiedWith) -> bool {
        *self.algorithms == *with.algorithms
            && self.sets.len() == with.sets.len()
            && self.sets.iter().zip(&with.sets).all(|(set, known)| (set.id(), set.generation()) == *known)
    }

    /// Returns whether its own keys have verified this, and still would.
    pub fn confirms(&self, verified: &Verified, now: Moment) -> bool {
        self.algorithms.contains(&verified.algorithm)
            && self.sets.iter().any(|set| {
                set.id() == verified.set
                    && set.generation() == verified.generation
                    && set.serves(verified.endpoints, now.monotonic)
            })
    }

    /// Returns a name of the sources of its keys and of its algorithms, which is the same in every process.
    pub fn name(&self) -> String {
        let mut text = format!("{:?}", self.profile);
        for algorithm in &self.algorithms {
            // Writing to a text cannot fail.
            let _ = write!(text, " {}", algorithm.as_str());
        }
        for set in &self.sets {
            text.push('\n');
            name_of(set, &mut text);
        }
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the form in which the payload of this token was read.
    pub fn form_of(&self, verified: &Verified) -> PayloadForm {
        let user_flow = || self.sets.iter().any(|set| set.id() == verified.set && set.source().user_flow);
        match self.profile {
            Profile::Other => PayloadForm::Other,
            Profile::Entra if user_flow() => PayloadForm::UserFlow,
            Profile::Entra => PayloadForm::Entra,
        }
    }
}

/// Names the source of a set, and its keys where the config holds them.
fn name_of(set: &KeySet, text: &mut String) {
    let source = set.source();
    let _ = write!(text, "{:?} {} {}", source.tenant, source.many_tenants, source.user_flow);
    for endpoint in &source.endpoints {
        let _ = write!(text, " {} {:?}", endpoint.metadata, endpoint.assumed_issuer);
    }
    if set.is_given() {
        let _ = write!(text, " {}", set.given_keys());
    }
}

impl Verified {
    /// Returns the signature algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the claims that a later judge needs, and those of these names; `None` if they are too long.
    pub fn judged_claims(&self, more: &[Box<str>]) -> Option<Map<String, Value>> {
        let claims = &self.token.claims;
        let names = JUDGED_CLAIMS.into_iter().chain(more.iter().map(|name| &**name));
        let mut kept: Map<String, Value> = names.filter_map(|name| Some((name.to_owned(), claims.get(name)?.clone()))).collect();
        // Of these only what they say of the token is kept.
        if self.facts.id_token {
            kept.insert("at_hash".to_owned(), true.into());
        }
        if self.facts.groups_elsewhere {
            kept.insert("hasgroups".to_owned(), true.into());
        }
        match claims.get("cnf") {
            Some(Value::Object(members)) if members.len() == 1 && members.contains_key("x5t#S256") => {
                kept.insert("cnf".to_owned(), Value::Object(members.clone()));
            }
            Some(_) => drop(kept.insert("cnf".to_owned(), json!({ "other": true }))),
            None => {}
        }
        (Value::Object(kept.clone()).to_string().len() <= MOST_BYTES).then_some(kept)
    }

    /// Makes the result of an earlier verification again, from what was kept of it.
    ///
    /// # Errors
    /// Fails if the claims are not those of a token.
    pub fn recalled(
        form: PayloadForm,
        claims: &Map<String, Value>,
        (issuer, own_tenant): (IssuerVerdict, bool),
        algorithm: Algorithm,
    ) -> Result<Arc<Self>, TokenFault> {
        let bytes = Value::Object(claims.clone()).to_string();
        let mut payload = match form {
            PayloadForm::Entra => read_entra(bytes.as_bytes()),
            PayloadForm::UserFlow => read_user_flow(bytes.as_bytes()),
            PayloadForm::Other => read_other(bytes.as_bytes()),
        }?;
        payload.token.recorded = recorded(&payload.token, &payload.facts);
        let token = Arc::new(payload.token);
        Ok(Arc::new(Self { token, facts: payload.facts, issuer, own_tenant, algorithm, endpoints: 0, set: 0, generation: 0 }))
    }
}

impl IssuerVerdict {
    const ALL: [(Self, &str); 7] = [
        (Self::Agrees, "agrees"),
        (Self::UnknownVersion, "unknown-version"),
        (Self::NoTenant, "no-tenant"),
        (Self::OtherIssuer, "other-issuer"),
        (Self::KeyOfOtherIssuer, "key-of-other-issuer"),
        (Self::KeyOfUnknownIssuer, "key-of-unknown-issuer"),
        (Self::NoMetadata, "no-metadata"),
    ];

    /// Returns its name in records.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(verdict, _)| *verdict == self).map_or("agrees", |(_, name)| *name)
    }

    /// Returns the verdict of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, own)| *own == name).map(|(verdict, _)| *verdict)
    }
}

impl VerifyError {
    /// Returns an error that is refused for this reason; `None` if no verification fails so.
    pub const fn of_reason(reason: Reason) -> Option<Self> {
        Some(match reason {
            Reason::TokenMalformed => Self::NoKeyId,
            Reason::TokenAlgorithmNotAllowed => Self::Algorithm,
            Reason::TokenKeyUnknown => Self::UnknownKey,
            Reason::TokenSignatureInvalid => Self::Signature,
            Reason::SigningKeysUnavailable => Self::NoKeys,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_again_from_what_was_kept_of_it() {
        let tenant = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
        let entra = json!({
            "iss": format!("https://login.microsoftonline.com/{tenant}/v2.0"), "ver": "2.0", "exp": 9, "nbf": 3, "tid": tenant,
            "aud": "api://orders", "azp": "11112222-bbbb-3333-cccc-4444dddd5555", "azpacr": "2", "sub": "s", "oid": "o", "uti": "u",
            "scp": "Orders.Read Orders.Write", "acrs": ["c1"], "cnf": { "x5t#S256": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" },
            "_claim_names": { "groups": "src1" }, "department": "sales", "private": "nobody asked",
        });
        let other = json!({ "iss": "https://idp", "exp": 9, "aud": ["a", "b"], "sub": "x", "client_id": "x", "scope": "a b",
            "c_hash": "h", "cnf": { "jkt": "k" }, "private": 1 });
        for (form, claims) in [(PayloadForm::Entra, entra), (PayloadForm::Other, other)] {
            let claims = claims.as_object().unwrap();
            let first = Verified::recalled(form, claims, (IssuerVerdict::Agrees, true), Algorithm::Rs256).unwrap();
            let kept = first.judged_claims(&["department".into(), "absent".into()]).unwrap();

            let again = Verified::recalled(form, &kept, (IssuerVerdict::Agrees, true), Algorithm::Rs256).unwrap();

            assert_eq!(again.facts, first.facts, "{form:?}");
            assert_eq!(again.token.recorded, first.token.recorded);
            assert_eq!(again.token.claims.get("department"), first.token.claims.get("department"));
            assert_eq!(again.token.claims.get("acrs"), first.token.claims.get("acrs"));
            assert!(!Value::Object(kept).to_string().contains("private"));
        }
    }

    #[test]
    fn names_lead_back() {
        for (verdict, name) in IssuerVerdict::ALL {
            assert_eq!((IssuerVerdict::named(name), verdict.as_str()), (Some(verdict), name));
        }
        for form in [PayloadForm::Entra, PayloadForm::UserFlow, PayloadForm::Other] {
            assert_eq!(PayloadForm::named(form.as_str()), Some(form));
        }
        for reason in Reason::ALL {
            if let Some(error) = VerifyError::of_reason(*reason) {
                assert!(!error.to_string().is_empty(), "{reason:?}");
            }
        }
    }
}

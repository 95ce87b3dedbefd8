//! Entra's error codes, explained for operators.
//!
//! Microsoft warns that codes and texts change. Therefore only two things depend on them: the advice in logs, status and `entrada
//! token acquire`, and the decision to try another certificate.

/// The meaning of an error code, and its remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The meaning, in few words.
    pub meaning: &'static str,
    /// The operator's remedy.
    pub cure: &'static str,
    /// The gateway's next step.
    pub next: Next,
}

/// The condition under which the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Never.
    Nothing,
    /// With the certificate that is now on disk or in the vault, or with the other one.
    OtherCertificate,
    /// After a while.
    Wait,
    /// After the user has signed in again.
    Interaction,
    /// After the tenant's administrator has consented.
    Consent,
}

/// Returns the advice on a code, if there is any.
pub fn advice(code: u32) -> Option<Advice> {
    let (meaning, cure, next) = match code {
        700_027 => (
            "the assertion's signature was not accepted",
            "upload this certificate to the app registration; a new upload takes minutes to be known everywhere",
            Next::OtherCertificate,
        ),
        50_012 => ("the assertion was not accepted", "upload this certificate to the app registration", Next::OtherCertificate),
        700_024 => ("the assertion is outside its time range", "set this machine's clock right", Next::OtherCertificate),
        1_000_502 => ("the certificate is outside its validity", "make a new certificate and upload it", Next::OtherCertificate),
        7_000_214 => ("the certificate was revoked", "make a new certificate and upload it", Next::OtherCertificate),
        50_032 => (
            "the RSA key is too weak",
            "make a certificate of 2048 bits at least with `entrada certificate new`",
            Next::OtherCertificate,
        ),
        700_030 => (
            "the certificate's subject is not trusted by name",
            "upload the certificate itself and switch `send-certificate-chain` off",
            Next::Nothing,
        ),
        700_023 => (
            "the assertion's audience is not this tenant's",
            "check `cloud` and `id` of the tenant: the authority must be the app registration's own",
            Next::Nothing,
        ),
        50_027 => {
            ("a token in the request is malformed", "compare the token with what the identity provider issued", Next::Nothing)
        }
        50_048 => ("subject and issuer of the assertion differ", "check `client-id`", Next::Nothing),
        7_000_215 => (
            "the client secret is wrong",
            "paste the secret's value, not its id; better: use a certificate",
            Next::OtherCertificate,
        ),
        7_000_222 => ("the client secret has expired", "make a new one; better: use a certificate", Next::OtherCertificate),
        7_000_218 => ("the request had no client credential", "give the credential a certificate", Next::Nothing),
        700_025 => (
            "the app registration is a public client",
            "switch off `Allow public client flows` on the app registration",
            Next::Nothing,
        ),
        700_016 => (
            "the application is not known in this tenant",
            "check `client-id` and the tenant; in another organisation's tenant its administrator has to consent first",
            Next::Consent,
        ),
        7_000_229 => (
            "the application has no enterprise application in this tenant",
            "let the tenant's administrator consent, or create the enterprise application there",
            Next::Consent,
        ),
        7_000_112 | 70_001 => ("the application is disabled", "enable the enterprise application", Next::Nothing),
        90_002 => ("the tenant does not exist", "check the tenant's `id` and `cloud`", Next::Nothing),
        900_023 => ("the tenant's id is none", "write the tenant as a GUID or a verified domain", Next::Nothing),
        90_038 | 900_382 | 900_432 => ("the tenant lives in another national cloud", "set the tenant's `cloud`", Next::Nothing),
        50_194 | 9_001_023 => {
            ("a token was asked for at `common` or `organizations`", "name the tenant by its own id", Next::Nothing)
        }
        500_011 => (
            "the resource is not known in this tenant",
            "check the spelling of `scope`; the API must be installed in this tenant",
            Next::Nothing,
        ),
        50_001 => ("the resource is unknown or disabled", "check the spelling of `scope`", Next::Nothing),
        650_057 => (
            "the application has not asked for this resource",
            "add the API permission to the app registration and let an administrator consent",
            Next::Nothing,
        ),
        70_011 | 28_002 | 28_003 | 700_022 | 1_002_012 => {
            ("the scope is not usable", "name one resource, followed by `/.default`", Next::Nothing)
        }
        501_051 => (
            "the application has no role of the resource, which demands one",
            "assign an app role of the resource to the gateway's application",
            Next::Nothing,
        ),
        50_146 => (
            "the resource demands a signing key of its own and has no valid one",
            "give the resource's application a signing key, or drop its claims mapping",
            Next::Nothing,
        ),
        501_461 => (
            "the resource accepts mapped claims, and the audience is not fit for that",
            "ask by the resource's GUID, or by a URI in a verified domain",
            Next::Nothing,
        ),
        65_001 => (
            "nobody has consented to the delegated permission",
            "let an administrator consent to the gateway's delegated permissions",
            Next::Consent,
        ),
        50_013 => (
            "the caller's token was not accepted as an assertion",
            "tokens that are signed with an application's own key cannot be exchanged",
            Next::Nothing,
        ),
        500_131 => (
            "the caller's token is not for this application",
            "the route's audience must be the credential's `client-id`",
            Next::Nothing,
        ),
        500_133 => ("the caller's token has expired", "the caller needs a new token", Next::Nothing),
        240_002 => ("an ID token was sent as an assertion", "callers must send access tokens", Next::Nothing),
        7_000_114 => (
            "only a user's token can be exchanged",
            "use `credential` for applications that call on their own behalf",
            Next::Nothing,
        ),
        50_074 | 50_076 | 50_079 | 50_158 | 53_000..=53_003 | 530_032 => (
            "Conditional Access asks the user for more",
            "the user has to sign in again; the answer tells the client how",
            Next::Interaction,
        ),
        50_173 | 50_132 | 50_133 | 700_082 | 70_043 => {
            ("the user's sign-in is no longer good", "the user has to sign in again", Next::Interaction)
        }
        70_021 => (
            "no federated credential fits, or it is not known everywhere yet",
            "compare issuer, subject and audience with the app registration's federated credential; a new one takes minutes",
            Next::Wait,
        ),
        700_211..=700_213 | 7_002_137 | 7_002_138 => (
            "issuer, subject or audience of the federated token do not fit",
            "compare them with the app registration's federated credential, letter case included",
            Next::Nothing,
        ),
        700_229 => ("the federated token is a user's", "use a managed identity's token", Next::Nothing),
        5_002_738 => ("the federated token's algorithm is not accepted", "the issuer has to sign with RS256", Next::Nothing),
        100_007 => ("the regional endpoint does not serve this application", "use the global authority", Next::Nothing),
        50_196 => {
            ("the same token was asked for too often", "see whether something keeps refusing the gateway's tokens", Next::Wait)
        }
        90_055 => ("the tenant is throttled", "wait", Next::Wait),
        50_033 | 50_087 | 90_006 | 90_012 | 90_024 | 90_033 | 90_090 | 40_010 => {
            ("Entra has a passing fault", "wait", Next::Wait)
        }
        _ => return None,
    };
    Some(Advice { meaning, cure, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that a daemon can receive, by subject.
    const MET: &[&[u32]] = &[
        // The assertion, the certificate, the secret.
        &[
            700_027, 700_024, 1_000_502, 7_000_214, 700_030, 700_023, 50_027, 50_048, 50_012, 50_032, 7_000_215, 7_000_222,
            7_000_218, 700_025,
        ],
        // The application and the tenant.
        &[700_016, 7_000_229, 7_000_112, 70_001, 90_002, 900_023, 90_038, 900_382, 900_432, 50_194, 9_001_023],
        // The resource and the scope.
        &[500_011, 50_001, 650_057, 70_011, 28_002, 28_003, 700_022, 1_002_012, 501_051, 50_146, 501_461],
        // On behalf of users.
        &[
            65_001, 50_013, 500_131, 500_133, 240_002, 7_000_114, 50_076, 50_079, 50_074, 50_158, 53_000, 53_001, 53_002, 53_003,
            530_032, 50_173, 50_132, 50_133, 700_082, 70_043,
        ],
        // Federated tokens.
        &[70_021, 700_211, 700_212, 700_213, 7_002_137, 7_002_138, 700_229, 5_002_738],
        // What passes, and what is asked too often.
        &[100_007, 50_196, 90_055, 50_033, 50_087, 90_006, 90_012, 90_024, 90_033, 90_090, 40_010],
    ];

    #[test]
    fn each_code_that_a_daemon_can_meet_has_a_meaning_and_a_cure() {
        for code in MET.iter().copied().flatten() {
            let advice = advice(*code).unwrap_or_else(|| panic!("AADSTS{code} has no advice"));

            assert!(!advice.meaning.is_empty() && !advice.cure.is_empty(), "AADSTS{code}");
        }
    }

    #[test]
    fn tells_what_the_gateway_can_do_by_itself() {
        for (code, next) in [
            (700_027, Some(Next::OtherCertificate)),
            (7_000_222, Some(Next::OtherCertificate)),
            (700_016, Some(Next::Consent)),
            (65_001, Some(Next::Consent)),
            (53_002, Some(Next::Interaction)),
            (50_196, Some(Next::Wait)),
            (90_002, Some(Next::Nothing)),
            (1, None),
        ] {
            assert_eq!(advice(code).map(|advice| advice.next), next, "{code}");
        }
    }
}

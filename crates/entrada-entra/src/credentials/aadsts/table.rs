//! The table of codes.

use super::{Advice, Asker, Next};

/// Codes with the same advice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) codes: &'static [u32],
    /// The advice for the gateway's own requests, and for every asker without other advice.
    own: Advice,
    user: Option<Advice>,
    partner: Option<Advice>,
    partner_user: Option<Advice>,
}

const fn row(codes: &'static [u32], next: Next, meaning: &'static str, cure: &'static str) -> Row {
    Row { codes, own: Advice { meaning, cure, next }, user: None, partner: None, partner_user: None }
}

impl Row {
    /// Sets the advice for a request on behalf of a user.
    const fn user(mut self, next: Next, meaning: &'static str, cure: &'static str) -> Self {
        self.user = Some(Advice { meaning, cure, next });
        self
    }

    /// Sets the cure for a partner's request; the meaning stays.
    const fn partner(mut self, cure: &'static str) -> Self {
        self.partner = Some(Advice { meaning: self.own.meaning, cure, next: Next::Nothing });
        self
    }

    /// Sets the advice for a partner's request on behalf of a user.
    const fn partner_user(mut self, meaning: &'static str, cure: &'static str) -> Self {
        self.partner_user = Some(Advice { meaning, cure, next: Next::Nothing });
        self
    }

    fn of(&self, asker: Asker) -> Advice {
        let said = match asker {
            Asker::Gateway | Asker::Platform => None,
            Asker::User => self.user,
            // Codes of exchanges alone have one advice for partners.
            Asker::Partner if self.user.is_none() => self.partner.or(self.partner_user),
            Asker::Partner => self.partner,
            Asker::PartnerUser => self.partner_user.or(self.partner),
        };
        said.unwrap_or(self.own)
    }
}

/// Returns the advice on a code, if there is any.
pub(super) fn find(code: u32, asker: Asker) -> Option<Advice> {
    TABLE.iter().find(|row| row.codes.contains(&code)).map(|row| row.of(asker))
}

/// Returns the advice by the OAuth error, for a code that is not in the table.
pub(super) fn by_error(error: &str, asker: Asker) -> Option<Advice> {
    let row = FAMILIES.iter().find(|(known, _)| *known == error).map(|(_, row)| row)?;
    let advice = row.of(asker);
    // Without a user there is nobody to sign in again.
    let next = if advice.next == Next::Interaction && !asker.has_user() { Next::Nothing } else { advice.next };
    Some(Advice { next, ..advice })
}

const RESIGN: &str = "the user has to sign in again; the answer tells the client how";
const PARTNER_RESIGN: &str = "the partner has to hand the `claims` of this answer to its own client, whose user signs in again";
const UPLOAD: &str = "upload this certificate to the app registration; a new upload takes minutes to be known everywhere";
const PARTNER_UPLOAD: &str = "the partner has to upload the certificate that it signs with to its app registration; that takes minutes to be known everywhere";
pub(in crate::credentials) const RENEW: &str =
    "make a new certificate with `entrada certificate new` and upload it beside the old one";
const PARTNER_RENEW: &str = "the partner has to make a new certificate and upload it to its app registration";
const REWRITTEN: &str = "see that no proxy between here and Entra rewrites requests; Microsoft finds the answer by its trace id";
const PARTNER_REQUEST: &str = "the partner has to compare its request with Microsoft's description of the grant";
const LOOK_UP: &str = "look the code up at https://login.microsoftonline.com/error";

/// The advice by OAuth error: RFC 6749, section 5.2, and Entra's own.
const FAMILIES: &[(&str, Row)] = &[
    (
        "invalid_client",
        row(&[], Next::OtherCertificate, "the client's certificate, secret or federated token was not accepted", LOOK_UP),
    ),
    ("unauthorized_client", row(&[], Next::Nothing, "the application may not do this in this tenant", LOOK_UP)),
    ("invalid_grant", row(&[], Next::Nothing, "what the token is asked for with was not accepted", LOOK_UP)),
    ("invalid_scope", row(&[], Next::Nothing, "the scope is not usable", "name one resource, followed by `/.default`")),
    ("invalid_resource", row(&[], Next::Nothing, "the resource is not known in this tenant", "check the spelling of the scope")),
    ("invalid_target", row(&[], Next::Nothing, "`resource` and scope do not agree", "leave `resource` out of the request")),
    (
        "invalid_request",
        row(&[], Next::Nothing, "the token request is not as Entra wants it", REWRITTEN).partner(PARTNER_REQUEST),
    ),
    ("unsupported_grant_type", row(&[], Next::Nothing, "the grant is not supported here", REWRITTEN).partner(PARTNER_REQUEST)),
    (
        "interaction_required",
        row(
            &[],
            Next::Nothing,
            "a Conditional Access policy blocks the application",
            "look at the tenant's sign-in logs of service principals, which name the policy",
        )
        .user(Next::Interaction, "the user has to do more than was done", RESIGN)
        .partner_user("the user has to do more than was done", PARTNER_RESIGN),
    ),
    ("temporarily_unavailable", row(&[], Next::Wait, "Entra has a passing fault", "wait")),
    ("server_error", row(&[], Next::Wait, "Entra has a passing fault", "wait")),
];

/// The known codes of the gateway's own requests, its exchanges and the relayed requests.
pub(super) const TABLE: &[Row] = &[
    // The certificate, the assertion, the secret.
    row(&[700_027, 50_012], Next::OtherCertificate, "the assertion's signature was not accepted", UPLOAD).partner(PARTNER_UPLOAD),
    row(&[700_026], Next::OtherCertificate, "the app registration has no certificate at all", UPLOAD).partner(PARTNER_UPLOAD),
    row(&[700_024], Next::OtherCertificate, "the assertion is outside its time range", "set this machine's clock right")
        .partner("the partner has to set its machine's clock right, and to make a new assertion for each few minutes"),
    row(
        &[700_028],
        Next::OtherCertificate,
        "the assertion was not accepted, as one that was used before",
        "see that nothing between here and Entra sends requests twice",
    )
    .partner("the partner has to make a new assertion, with a `jti` of its own"),
    row(&[1_000_502], Next::OtherCertificate, "the certificate is outside its validity", RENEW).partner(PARTNER_RENEW),
    row(&[7_000_214], Next::OtherCertificate, "the certificate was revoked", RENEW).partner(PARTNER_RENEW),
    row(
        &[50_032],
        Next::OtherCertificate,
        "the RSA key is too weak",
        "make a certificate of 2048 bits at least with `entrada certificate new`",
    )
    .partner("the partner has to make a certificate of 2048 bits at least and upload it to its app registration"),
    row(
        &[700_030],
        Next::Nothing,
        "the certificate's subject is not trusted by name",
        "upload the certificate itself and switch `send-certificate-chain` off",
    )
    .partner("the partner has to upload the certificate itself, and to send no chain (`x5c`)"),
    row(
        &[700_023],
        Next::Nothing,
        "the assertion's audience is not this tenant's",
        "check `cloud` and `id` of the tenant: the authority must be the app registration's own",
    )
    .partner("the partner has to make its assertion for Entra's token endpoint of this tenant, not for the relay's URL"),
    row(
        &[50_027],
        Next::Nothing,
        "a token in the request is malformed",
        "compare the token with what the identity provider issued",
    )
    .partner("the partner has to send assertions as they were made, each a signed JWT of three parts"),
    row(
        &[50_048, 700_021],
        Next::Nothing,
        "the assertion is not of the application that `client-id` names",
        "check `client-id`, and that the token of `federated-token` is meant for this application",
    )
    .partner("the partner has to put its client id into `client_id`, and into `iss` and `sub` of the assertion"),
    row(
        &[7_000_215, 70_002],
        Next::OtherCertificate,
        "the client secret is wrong",
        "paste the secret's value, not its id; better: use a certificate",
    )
    .partner("the partner has to send the secret's value, not its id"),
    row(&[7_000_222], Next::OtherCertificate, "the client secret has expired", "make a new one; better: use a certificate")
        .partner("the partner has to make a new secret; better: use a certificate"),
    row(
        &[7_000_218, 7_000_216],
        Next::Nothing,
        "the request had no client credential",
        "give the credential a certificate; a file with a secret may be empty",
    )
    .partner("the partner has to send `client_assertion` or `client_secret`"),
    row(
        &[7_000_225],
        Next::Nothing,
        "the application may not ask for tokens with this credential",
        "look at the tenant's policies for applications (app management policies) and at the kind of the application",
    ),
    row(
        &[700_025],
        Next::Nothing,
        "the app registration is a public client",
        "switch off `Allow public client flows` on the app registration",
    ),
    // The application and the tenant.
    row(
        &[700_016],
        Next::Consent,
        "the application is not known in this tenant",
        "check `client-id` and the tenant; in another organisation's tenant its administrator has to consent first",
    )
    .partner("check the partner's `client_id`; an application of another organisation needs this tenant's consent"),
    row(
        &[7_000_229],
        Next::Consent,
        "the application has no enterprise application in this tenant",
        "let the tenant's administrator consent, or create the enterprise application there",
    ),
    row(
        &[7_000_112, 70_001],
        Next::Nothing,
        "the application is disabled",
        "enable the enterprise application in this tenant",
    ),
    row(&[90_002, 90_019], Next::Nothing, "the tenant does not exist", "check the tenant's `id` and `cloud`"),
    row(
        &[900_023, 90_020, 50_059, 900_021],
        Next::Nothing,
        "the request names no tenant that can be understood",
        "write the tenant's `id` as a GUID or a verified domain",
    ),
    row(
        &[50_049, 90_038, 900_382, 900_432, 90_051],
        Next::Nothing,
        "the tenant, or the application, lives in another national cloud",
        "set the tenant's `cloud`, or its `authority`",
    ),
    row(
        &[50_194, 9_001_023, 90_010],
        Next::Nothing,
        "a token was asked for at `common` or `organizations`, or the application is single-tenant",
        "name the tenant by its own id; in other tenants the app registration has to be multi-tenant",
    ),
    row(
        &[500_021, 500_022, 500_212, 500_213],
        Next::Nothing,
        "the tenant's cross-tenant or network restrictions do not let the application in",
        "ask the tenant's administrator to allow it in the cross-tenant access settings",
    ),
    row(
        &[53_003],
        Next::Nothing,
        "a Conditional Access policy for workload identities blocks the application",
        "let the policy admit this machine's outgoing address, or leave the application out of it; the sign-in logs of service principals name the policy",
    )
    .user(Next::Interaction, "Conditional Access blocks the user, or asks for more", RESIGN)
    .partner("let the policy admit the gateway's outgoing address for the partner's application: relayed requests come from there")
    .partner_user("Conditional Access blocks the user, or asks for more", PARTNER_RESIGN),
    // The resource and the scope.
    row(
        &[500_011, 650_052],
        Next::Nothing,
        "the resource is not known in this tenant",
        "check the spelling of `scope`; the API must be installed in this tenant (an enterprise application)",
    ),
    row(&[50_001, 500_014, 5_000_224], Next::Nothing, "the resource is unknown or disabled", "check the spelling of `scope`, and enable the API's enterprise application"),
    row(
        &[650_053],
        Next::Nothing,
        "the resource has no scope of this name",
        "compare `scope` with `Expose an API` in the resource's app registration; `/.default` asks for all that was consented to",
    ),
    row(
        &[650_056, 650_057, 65_005],
        Next::Consent,
        "the application has no permission for this resource",
        "add the API permission to the app registration and let an administrator consent",
    )
    .partner("the partner has to add the API permission to its app registration, and an administrator of this tenant to consent"),
    row(
        &[70_011, 28_000, 28_002, 28_003, 700_022, 1_002_012],
        Next::Nothing,
        "the scope is not usable",
        "name one resource, followed by `/.default`",
    )
    .user(
        Next::Nothing,
        "the scope is not usable",
        "name scopes of one resource, as `https://graph.microsoft.com/User.Read`, or the resource followed by `/.default`",
    ),
    row(
        &[9_010_010, 901_002],
        Next::Nothing,
        "the request has a `resource` that is not the application ID URI of the scope",
        "leave `resource` out; where clients send it (RFC 8707), name the application ID URI as `protected-resource-metadata.resource`",
    )
    .partner("the partner has to leave `resource` out: the scope names the resource"),
    row(
        &[90_009],
        Next::Nothing,
        "the application asks for a token for itself, by a name that it cannot be asked by",
        "write the scope with the application's own client id: the GUID, followed by `/.default`",
    ),
    row(
        &[501_051, 50_105],
        Next::Nothing,
        "the application has no role of the resource, which demands one",
        "assign an app role of the resource to the application (API permissions, admin consent)",
    )
    .user(
        Next::Nothing,
        "the user is not assigned to the resource, which demands it",
        "assign the user or a group to the resource (Enterprise applications, Users and groups)",
    )
    .partner("assign an app role of the resource to the partner's application (API permissions, admin consent)")
    .partner_user(
        "the user is not assigned to the resource, which demands it",
        "assign the user or a group to the resource (Enterprise applications, Users and groups)",
    ),
    row(
        &[50_146],
        Next::Nothing,
        "the resource has mapped claims, and neither `acceptMappedClaims` nor a valid signing key of its own",
        "set `acceptMappedClaims` to true in the resource's manifest and ask for it by its client id or a URI in a verified domain; or give it a signing key of its own, which its routes name by `signing-keys-of`; or drop its claims mapping",
    ),
    row(
        &[501_461],
        Next::Nothing,
        "the resource has `acceptMappedClaims`, and is asked for by a URI that is not fit for that",
        "ask for it by its client id (the GUID, followed by `/.default`) or by a URI in a verified domain; or give it a signing key of its own instead of `acceptMappedClaims`",
    ),
    // Consent and users' tokens.
    row(
        &[65_001, 65_004, 90_094, 90_093, 65_002, 900_981],
        Next::Consent,
        "nobody has consented to the permission",
        "let an administrator consent to the gateway's permissions",
    )
    .user(
        Next::Consent,
        "nobody has consented to the delegated permission",
        "let an administrator consent to the gateway's delegated permissions; or list the client under `knownClientApplications`, so that its users consent to both",
    )
    .partner("let an administrator of this tenant consent to the permissions of the partner's application"),
    row(
        &[50_013, 5_000_811],
        Next::Nothing,
        "the caller's token was not accepted as an assertion",
        "tokens that are signed with an application's own key cannot be exchanged; all others must be of this tenant",
    )
    .partner_user(
        "the user's token was not accepted as an assertion",
        "the partner has to exchange a token that this tenant issued for its own API, and that no custom signing key signed",
    ),
    row(
        &[500_131],
        Next::Nothing,
        "the caller's token is not for this application",
        "the route's audience must be the credential's `client-id`",
    )
    .partner_user(
        "the user's token is not for the application that exchanges it",
        "the partner has to exchange tokens whose `aud` is its own client id or application ID URI",
    ),
    row(&[500_133], Next::Nothing, "the caller's token has expired", "the caller needs a new token")
        .partner("the partner's own client needs a new token"),
    row(&[240_002], Next::Nothing, "an ID token was sent as an assertion", "callers must send access tokens")
        .partner("the partner has to exchange access tokens"),
    row(
        &[7_000_114, 7_000_113],
        Next::Nothing,
        "only a user's token can be exchanged",
        "use `credential` for applications that call on their own behalf",
    )
    .partner("the partner has to use client credentials where no user is there"),
    row(
        &[
            16_000, 50_005, 50_055, 50_058, 50_072, 50_074, 50_076, 50_078, 50_079, 50_097, 50_125, 50_127, 50_129, 50_131, 50_135, 50_140,
            50_142, 50_144, 50_158, 50_187, 50_199, 53_000, 53_001, 53_002, 53_004, 53_011, 530_003, 530_032, 530_035,
            700_003, 135_011, 500_121,
        ],
        Next::Nothing,
        "a Conditional Access policy asks for what an application cannot do",
        "leave the application out of the policy; the sign-in logs of service principals name it",
    )
    .user(Next::Interaction, "Conditional Access asks the user for more", RESIGN)
    .partner_user("Conditional Access asks the user for more", PARTNER_RESIGN),
    row(
        &[50_173, 50_132, 50_133, 50_089, 700_082, 700_084, 70_043, 70_044, 70_008, 700_081, 70_000],
        Next::Nothing,
        "the sign-in behind the request is no longer good",
        "ask again with a new one",
    )
    .user(Next::Interaction, "the user's sign-in is no longer good", RESIGN)
    .partner_user("the user's sign-in is no longer good", PARTNER_RESIGN),
    row(
        &[50_020, 50_034, 51_004, 50_177, 50_178, 500_208],
        Next::Nothing,
        "the user has no account in this tenant",
        "invite the user as a guest, or exchange the token in the user's own tenant",
    ),
    row(
        &[50_053, 50_057, 500_571],
        Next::Nothing,
        "the user's account is disabled or locked",
        "see the user's account in the tenant; the user cannot come in before",
    ),
    // Federated tokens.
    row(
        &[70_021],
        Next::Wait,
        "no federated credential fits, or it is not known everywhere yet",
        "compare issuer, subject and audience with the app registration's federated credential; a new one takes minutes",
    ),
    row(
        &[700_211, 700_212, 700_213, 7_002_137, 7_002_138],
        Next::Nothing,
        "issuer, subject or audience of the federated token do not fit",
        "compare them with the app registration's federated credential, letter case included",
    ),
    row(
        &[700_229, 700_222],
        Next::Nothing,
        "the federated token is one of Entra's that may not be used so",
        "use the token of a user-assigned managed identity: an application's own, for `api://AzureADTokenExchange`",
    ),
    row(&[5_002_738], Next::Nothing, "the federated token's algorithm is not accepted", "the issuer has to sign with RS256"),
    // The form of the request.
    row(
        &[90_013, 90_014, 90_004, 90_007, 90_015, 90_022, 90_023, 90_100, 900_144, 900_561, 9_000_411, 9_002_313],
        Next::Nothing,
        "the token request lacks a field, or one cannot be read",
        REWRITTEN,
    )
    .partner(PARTNER_REQUEST),
    row(
        &[70_003, 700_051, 9_002_326, 9_002_327],
        Next::Nothing,
        "the application may not use this grant",
        "see the app registration's `Authentication` page: a gateway is a confidential client without redirect URIs for single pages",
    )
    .partner("see the `Authentication` page of the partner's app registration: it has to be a confidential client"),
    // What passes, and what is asked too often.
    row(&[100_007], Next::Nothing, "the regional endpoint does not serve this application", "use the global authority"),
    row(
        &[50_196],
        Next::Wait,
        "the same token was asked for too often",
        "see whether something keeps refusing the gateway's tokens",
    )
    .partner("the partner has to keep its tokens until they end"),
    row(&[90_055, 90_056], Next::Wait, "the tenant is throttled", "wait"),
    row(
        &[50_033, 50_087, 90_006, 90_012, 90_016, 90_024, 90_033, 90_090, 40_010],
        Next::Wait,
        "Entra has a passing fault",
        "wait",
    ),
];

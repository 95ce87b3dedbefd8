//! Hints for operators on how a refused token could be admitted: a diagnosis for the audit record, never for the caller.
//!
//! A hint may use a token with an invalid signature, since nothing is decided by it. It consists of fixed words and the policy's
//! own settings; nothing of the token is repeated.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{TokenKindConfig, ValidateAzureAdToken, error::NotAccepted};
use crate::entra::{CloudConfig, IssuerVerdict, Profile, VerifyError, is_guid, read_object};

/// Audiences that are Microsoft Graph.
const GRAPH: [&str; 3] = ["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"];

/// The time after its expiry within which a wrong clock is a likely cause.
const RECENTLY: u64 = 3_600;

/// The unverified statements of a token.
struct Unverified {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Unverified {
    fn read(token: &[u8]) -> Option<Self> {
        let mut parts =
            token.split(|byte| *byte == b'.').take(2).map(|part| read_object(&URL_SAFE_NO_PAD.decode(part).ok()?).ok());
        Some(Self { header: parts.next()??, claims: parts.next()?? })
    }

    fn text(&self, claim: &str) -> &str {
        self.claims.get(claim).and_then(Value::as_str).unwrap_or_default()
    }

    fn is_for_graph(&self) -> bool {
        GRAPH.contains(&self.text("aud"))
    }

    /// Returns whether it looks like an ID token, which names no client, only the application that it is for.
    fn is_id_token(&self) -> bool {
        ["scp", "azp", "appid", "idtyp"].iter().all(|name| !self.claims.contains_key(*name))
    }
}

type Hint = Option<Cow<'static, str>>;

impl ValidateAzureAdToken {
    /// Returns a change with which the token would be admitted.
    pub(super) fn hint(&self, error: &NotAccepted, token: Option<&[u8]>) -> Hint {
        let token = || token.and_then(Unverified::read);
        match error {
            NotAccepted::Verify(VerifyError::UnknownKey | VerifyError::Signature) => self.hint_for_key(&token()?),
            NotAccepted::BoundToCertificate => Some(
                "the caller has to show the certificate that the token is bound to: let the listener ask for one \
                 (`client-certificates`), or take it from the proxy that ends TLS (`validate-client-certificate` with `from`)"
                    .into(),
            ),
            NotAccepted::Unbound => {
                Some("the client has to ask Entra for a token that is bound to its certificate, as `token-binding` demands".into())
            }
            NotAccepted::Verify(VerifyError::Algorithm) => {
                Some("the algorithm is not accepted: Entra signs with RS256 alone, and for other issuers `algorithms` says what is".into())
            }
            NotAccepted::Verify(VerifyError::NoKeys) | NotAccepted::Issuer(IssuerVerdict::NoMetadata) => Some(
                "the tenant's metadata or keys cannot be fetched: look at the console for the error, and at identity-http for the \
                 proxy"
                    .into(),
            ),
            NotAccepted::Verify(_) | NotAccepted::NotAtHand | NotAccepted::Place(_) | NotAccepted::Missing => None,
            NotAccepted::Kind => Some(match self.rules.kind {
                TokenKindConfig::App => "the client calls for a user: it should acquire a token of its own (client credentials), for which \
                                         its app registration needs an app role of this API (API permissions, admin consent); or set \
                                         token-kind to any"
                    .into(),
                TokenKindConfig::User | TokenKindConfig::Any => {
                    "the client calls for itself: it should sign a user in and ask for a scope of this API (Expose an API in the app \
                     registration); or set token-kind to any"
                        .into()
                }
            }),
            NotAccepted::Client => Some(
                "add the client's application (client) id, azp or appid in its token, to client-application-ids if it is meant to call"
                    .into(),
            ),
            NotAccepted::Issuer(_) if self.rules.profile == Profile::Other => {
                Some("the token's issuer and the one of the setting differ: compare them letter by letter, a slash at the end counts".into())
            }
            NotAccepted::Issuer(verdict) => self.hint_for_issuer(*verdict, &token()?),
            NotAccepted::Tenant => Some("add the token's tenant (tid) to allowed-tenants if its users are meant to come in".into()),
            NotAccepted::Audience => self.hint_for_audience(&token()?),
            NotAccepted::Expired(ago) if *ago < RECENTLY => Some(
                "the client does not renew its token in time, or the clock of this machine is ahead: compare it with a time server"
                    .into(),
            ),
            NotAccepted::Expired(_) => Some("the client goes on with a token that is long over: it should ask for a new one".into()),
            NotAccepted::NotYetValid(_) => Some("the clock of this machine is behind: compare it with a time server".into()),
            NotAccepted::NotAccessToken => Some(
                "the client sends an ID token: it should send the access token, acquired for a scope of this API (Expose an API in the \
                 app registration)"
                    .into(),
            ),
            NotAccepted::NotIdToken => Some("the place holds an access token: set token-type to access".into()),
            NotAccepted::BoundToAnother => Some(
                "the client has to show the certificate with which it acquired the token, and ask for a new token where it was \
                 renewed"
                    .into(),
            ),
            NotAccepted::Bound => Some("the client acquires proof-of-possession tokens: it should acquire bearer tokens, or bind them to its certificate".into()),
            NotAccepted::ClientCredential => Some(
                "the client authenticates to Entra with a secret or with nothing: upload a certificate in its app registration \
                 (Certificates & secrets), and acquire with that"
                    .into(),
            ),
            NotAccepted::Claim(name) => Some(hint_for_claim(name)),
            NotAccepted::GroupOverage => Some(
                "the user is in more groups than a token lists: set groupMembershipClaims to ApplicationGroup in the API's manifest, and \
                 assign the groups to the application; or check app roles instead; or set group-lookup with a credential"
                    .into(),
            ),
            NotAccepted::Lookup(fault) => fault.cure(),
            NotAccepted::Scope => Some(
                format!(
                    "the client should ask for one of the scopes {} (Expose an API in this API's app registration, API permissions in the \
                     client's), with consent",
                    self.rules.scopes.join(", ")
                )
                .into(),
            ),
            NotAccepted::Role if self.rules.roles.is_empty() => Some(
                "`scopes` alone lets users in: if applications are meant to call, name the app roles that they need in `roles`; if not, \
                 say `token-kind: user`"
                    .into(),
            ),
            NotAccepted::Role => Some(
                format!(
                    "assign one of the app roles {} (App roles in this API's app registration): to applications under API permissions with \
                     admin consent, to users under Enterprise applications",
                    self.rules.roles.join(", ")
                )
                .into(),
            ),
            NotAccepted::Permission => Some(
                "grant the client an app role of this API (API permissions, admin consent), or list it in client-application-ids".into(),
            ),
            NotAccepted::Context { capable: true } => None,
            NotAccepted::Context { capable: false } => Some(
                "the client did not say that it understands claims challenges: it should declare the capability cp1, and the API's \
                 manifest should ask for the optional claims xms_cc and acrs"
                    .into(),
            ),
        }
    }

    fn hint_for_key(&self, token: &Unverified) -> Hint {
        // Graph's tokens are signed in a way that nobody else can verify, and their header has a nonce.
        if token.header.contains_key("nonce") || token.is_for_graph() {
            return Some(
                "the token is for Microsoft Graph, and nobody but Graph can verify it: the client should ask for a scope of this API \
                 (Expose an API in the app registration)"
                    .into(),
            );
        }
        let key_id = token.header.get("kid").and_then(Value::as_str)?;
        if let Some(suspect) = self.suspects.iter().find(|suspect| suspect.lists(key_id)) {
            return Some(match &suspect.source().application {
                Some(application) => format!(
                    "the API's app registration has a custom signing key, which its claims are mapped with: set signing-keys-of to \
                     {application}"
                )
                .into(),
                None => "the tenant's own key signed, so the API's app registration has no custom signing key (with acceptMappedClaims in \
                         its manifest it needs none): remove signing-keys-of, or set signing-keys to [tenant, app] while moving"
                    .into(),
            });
        }
        if let Some(cloud) = self.other_cloud(token.text("iss")) {
            return Some(format!("the token is from another cloud: set the tenant's cloud to {cloud} if that is meant").into());
        }
        let own = self.verifier.sets.iter().filter_map(|set| set.source().tenant.as_deref());
        let unlisted = self.verifier.sets.iter().all(|set| !set.lists(key_id));
        if unlisted
            && self.rules.profile == Profile::Entra
            && own.into_iter().any(|own| own.eq_ignore_ascii_case(token.text("tid")))
        {
            return Some(
                "the token says that it is of this tenant, and no key of the tenant's signed it: if the API's app registration has a \
                 custom signing key (mapped claims), set signing-keys-of to the API's client id; otherwise it is forged"
                    .into(),
            );
        }
        None
    }

    fn hint_for_audience(&self, token: &Unverified) -> Hint {
        let audience = token.text("aud");
        let listed = || self.rules.audiences.iter().map(|own| &**own);
        let guid = |text: &'_ str| text.strip_prefix("api://").filter(|id| is_guid(id)).map(str::to_owned);
        if token.is_for_graph() {
            Some(
                "the token is for Microsoft Graph: the client should ask for a scope of this API (Expose an API in the app registration)"
                    .into(),
            )
        } else if let Some(own) = listed().find(|own| guid(own).as_deref() == Some(audience)) {
            let id = own.trim_start_matches("api://");
            Some(
                format!(
                    "version 2 tokens (requestedAccessTokenVersion in the API's manifest) name the API by its client id: add {id} to \
                     audiences"
                )
                .into(),
            )
        } else if let Some(own) = listed().find(|own| guid(audience).as_deref() == Some(*own)) {
            Some(
                format!(
                    "version 1 tokens name the API as the client asked for it: add api://{own} to audiences, or set \
                     requestedAccessTokenVersion to 2 in the API's manifest"
                )
                .into(),
            )
        } else if is_guid(audience) && listed().all(|own| !is_guid(own)) {
            Some(
                "version 2 tokens (requestedAccessTokenVersion in the API's manifest) name the API by its client id: add that id to \
                 audiences if the token is meant for this API"
                    .into(),
            )
        } else if listed().any(|own| own.trim_end_matches('/') == audience.trim_end_matches('/')) {
            Some("audience and setting differ by a slash at the end: write it as the token has it".into())
        } else if listed().any(|own| own.eq_ignore_ascii_case(audience)) {
            Some("audience and setting differ by upper and lower case: write it as the token has it".into())
        } else if token.is_id_token() {
            Some(
                "the client sends an ID token of its own: it should send the access token, acquired for a scope of this API (Expose an \
                 API in the app registration)"
                    .into(),
            )
        } else {
            Some(
                "the client asks for a token for another API: it should ask for a scope of this one (API permissions in its app \
                 registration)"
                    .into(),
            )
        }
    }

    fn hint_for_issuer(&self, verdict: IssuerVerdict, token: &Unverified) -> Hint {
        match verdict {
            IssuerVerdict::Agrees | IssuerVerdict::NoMetadata => None,
            IssuerVerdict::UnknownVersion => {
                Some("the token is none of Entra's version 1 or 2; tokens of other issuers need validate-jwt".into())
            }
            IssuerVerdict::NoTenant => Some("the token names no tenant (tid); tokens of other issuers need validate-jwt".into()),
            IssuerVerdict::KeyOfOtherIssuer | IssuerVerdict::KeyOfUnknownIssuer => {
                Some("the signing key is not one for tokens of this tenant: the token is forged, or of a personal account".into())
            }
            IssuerVerdict::OtherIssuer => Some(match self.other_cloud(token.text("iss")) {
                Some(cloud) => {
                    format!(
                        "the token is from another cloud, where the client's and the API's app registrations are: set the tenant's cloud \
                         to {cloud} if that is meant"
                    )
                    .into()
                }
                None => {
                    "the token is from another tenant: the client should sign in to this one; or, to accept several, make the API \
                     multi-tenant (Supported account types under Authentication in its app registration), set the tenant's id to \
                     organizations, and list them in allowed-tenants"
                        .into()
                }
            }),
        }
    }

    /// Returns the cloud of an issuer, if its host tells it and it is not the policy's own.
    fn other_cloud(&self, issuer: &str) -> Option<&'static str> {
        let (cloud, name) = match issuer.strip_prefix("https://")?.split('/').next()? {
            "login.microsoftonline.com" => (CloudConfig::Public, "public"),
            "login.microsoftonline.us" => (CloudConfig::UsGovernment, "us-government"),
            "login.partner.microsoftonline.cn" | "sts.chinacloudapi.cn" => (CloudConfig::China, "china"),
            _ => return None,
        };
        (self.cloud != Some(cloud)).then_some(name)
    }
}

fn hint_for_claim(name: &str) -> Cow<'static, str> {
    match name {
        "scp" => "a token lists its scopes in one text: use `scopes`, or a separator of one space".into(),
        "groups" => "set groupMembershipClaims in the API's manifest (Token configuration, Add groups claim)".into(),
        name if name.starts_with("extn.") => {
            "add the directory extension as an optional claim of the access token (Token configuration in the API's registration)"
                .into()
        }
        _ => "if no token has the claim: add it in the API's registration (Token configuration, or a claims-mapping policy with \
              acceptMappedClaims or a custom signing key); users of the cloud alone and applications lack claims from on premises"
            .into(),
    }
}

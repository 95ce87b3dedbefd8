//! The table of lints: the codes of findings, by which they are looked up and silenced.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fault::Severity;

/// The subject of a lint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Somebody may get in, see or send more than is meant.
    Security,
    /// Part of the config does something else than it seems to, or nothing.
    Correctness,
    /// Something needs care soon, or while the gateway runs.
    Operations,
}

impl Topic {
    /// Returns the topic as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Correctness => "correctness",
            Self::Operations => "operations",
        }
    }
}

/// Declares [`Lint`]: one line per lint, with its code, severity and topic.
macro_rules! lints {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal, $severity:ident, $topic:ident;)*) => {
        /// The kind of a finding. A code never changes its meaning and is never reused.
        #[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Lint { $($(#[doc = $doc])+ #[serde(rename = $code)] $name,)* }

        impl Lint {
            /// All lints, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Returns the stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// Returns the severity of its findings.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// Returns the subject.
            pub const fn topic(self) -> Topic {
                match self { $(Self::$name => Topic::$topic,)* }
            }

            /// Returns the meaning in one line, as in `docs/lints.md`.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii_start(),)* }
            }
        }
    };
}

lints! {
    /// The config cannot be used as it is written.
    ConfigInvalid = "config-invalid", Error, Correctness;

    // Who gets in.
    /// A token policy checks only tenant and audience: every user and application with any permission passes.
    TokenUnrestricted = "token-unrestricted", Warning, Security;
    /// A token policy restricts users by scopes, and applications by nothing.
    ApplicationsUnrestricted = "applications-unrestricted", Warning, Security;
    /// A token policy admits every tenant of Entra, and nothing else says whose applications or partners may call.
    AnyTenant = "any-tenant", Warning, Security;
    /// The route's policies that authenticate are report-only, so that nobody is authenticated.
    ReportOnlyAuthentication = "report-only-authentication", Warning, Security;
    /// A policy for addresses admits every address of a family.
    FilterAdmitsEveryone = "filter-admits-everyone", Warning, Security;
    /// Policies for addresses refuse every caller.
    FilterRefusesEveryone = "filter-refuses-everyone", Warning, Correctness;
    /// The addresses of Front Door are trusted without the id of a profile: those of all its customers.
    FrontDoorWithoutId = "front-door-without-id", Warning, Security;
    /// A partner may call from any address.
    PartnerAnyAddress = "partner-any-address", Warning, Security;
    /// No route checks the partner, so that its entry admits nobody and restricts nothing.
    PartnerUnchecked = "partner-unchecked", Warning, Correctness;
    /// A route checks partners, and none may use it.
    PartnersNone = "partners-none", Warning, Correctness;
    /// A partner must show a certificate, and no listener asks for one.
    PartnerCertificateNeverShown = "partner-certificate-never-shown", Warning, Correctness;
    /// Pages of every origin may call.
    CorsAnyOrigin = "cors-any-origin", Warning, Security;
    /// The admin listener can be reached from the network.
    AdminExposed = "admin-exposed", Warning, Security;

    // What is shown and sent.
    /// A listener takes tokens without TLS from the network.
    ListenerWithoutTls = "listener-without-tls", Warning, Security;
    /// A token is accepted in the query, where logs and histories keep it.
    TokenInQuery = "token-in-query", Warning, Security;
    /// A token is sent to an upstream in clear.
    TokenSentInClear = "token-sent-in-clear", Warning, Security;
    /// A secret is sent to an upstream in clear.
    SecretSentInClear = "secret-sent-in-clear", Warning, Security;
    /// A secret is part of a response to callers.
    SecretShownToCaller = "secret-shown-to-caller", Warning, Security;
    /// The gateway's token for a Microsoft service is sent to a server that is not Microsoft's.
    CredentialLeavesOrigin = "credential-leaves-origin", Warning, Security;
    /// A response redirects callers to a host that only the inner network knows.
    RedirectToInternalHost = "redirect-to-internal-host", Warning, Security;
    /// The route validates no token, and forwards whatever callers put into `Authorization`.
    AnonymousAuthorizationKept = "anonymous-authorization-kept", Warning, Security;

    // The gateway's own secrets and keys.
    /// A client secret is used, where a certificate or a managed identity could be.
    ClientSecret = "client-secret", Warning, Security;
    /// A client secret stands in the config itself.
    ClientSecretInConfig = "client-secret-in-config", Warning, Security;
    /// A private key leaves its vault.
    KeyExportable = "key-exportable", Warning, Security;
    /// Others may use a file that holds a secret or a private key.
    SecretFilePermissions = "secret-file-permissions", Warning, Security;

    // What has no effect.
    /// A policy never runs: one before it ends every request.
    PolicyUnreachable = "policy-unreachable", Warning, Correctness;
    /// A policy never refuses: what it would refuse is refused before it.
    PolicyShadowed = "policy-shadowed", Warning, Correctness;
    /// A branch of `choose` never runs: one before it is taken whenever its condition is true.
    BranchUnreachable = "branch-unreachable", Warning, Correctness;
    /// A list of `any-of` never decides: one before it admits every request that it would admit.
    AnyOfNeverWins = "any-of-never-wins", Warning, Correctness;
    /// A route never matches: others take all of its paths.
    RouteShadowed = "route-shadowed", Warning, Correctness;
    /// Something is defined and used nowhere.
    Unused = "unused", Warning, Correctness;
    /// A pattern of `include` matches no file.
    IncludeMatchesNothing = "include-matches-nothing", Warning, Correctness;
    /// An entry of a list stands in it twice.
    ListedTwice = "listed-twice", Warning, Correctness;
    /// An address is in a list twice.
    AddressListedTwice = "address-listed-twice", Warning, Correctness;
    /// Two entries of a list of addresses overlap.
    AddressesOverlap = "addresses-overlap", Warning, Correctness;
    /// A set holds no address.
    AddressSetEmpty = "address-set-empty", Warning, Correctness;
    /// A set holds every address.
    AddressSetEverything = "address-set-everything", Warning, Security;
    /// An entry is wider than any one network.
    AddressRangeVast = "address-range-vast", Warning, Security;
    /// `tls` is written for an upstream whose servers do not use TLS.
    UpstreamTlsUnused = "upstream-tls-unused", Warning, Correctness;
    /// Connections of callers' own are kept, and no route forwards what they are for.
    AffinityUnused = "affinity-unused", Warning, Correctness;

    // What is something else than it seems.
    /// No token has this audience.
    AudienceNeverIssued = "audience-never-issued", Warning, Correctness;
    /// No token has this scope.
    ScopeNeverIssued = "scope-never-issued", Warning, Correctness;
    /// A required value can never be met, since it holds the separator.
    SeparatorInValue = "separator-in-value", Warning, Correctness;
    /// An expression stands where none is evaluated.
    ExpressionNotEvaluated = "expression-not-evaluated", Warning, Correctness;
    /// A text reads like an expression and is not marked as one.
    ExpressionUnmarked = "expression-unmarked", Warning, Correctness;
    /// A claim stands by itself as a condition, which holds only where the claim is `true`.
    BareClaim = "bare-claim", Warning, Correctness;
    /// A star in a path stands for itself.
    PathStar = "path-star", Warning, Correctness;
    /// Routes without hosts are not served under a host that another route names.
    HostNamedElsewhere = "host-named-elsewhere", Warning, Correctness;
    /// A host is likely a mistyped word.
    HostMistyped = "host-mistyped", Warning, Correctness;
    /// TLS is required where none can come, so that every request is refused.
    TlsRequiredNowhere = "tls-required-nowhere", Warning, Correctness;
    /// Connections of callers' own cannot work over HTTP/2, which every listener offers.
    AffinityOverHttp2 = "affinity-over-http2", Warning, Correctness;
    /// Entra refuses the resource that clients derive from the metadata.
    MetadataResourceMismatch = "metadata-resource-mismatch", Warning, Correctness;
    /// An upstream is the gateway itself.
    UpstreamIsGateway = "upstream-is-gateway", Warning, Correctness;

    // What needs care.
    /// A decision for another proxy opens a WebSocket, which nothing closes when the caller's token expires.
    DecisionTunnel = "decision-tunnel", Warning, Security;
    /// Policies on every response do not run for requests that another proxy forwards.
    DecisionOutbound = "decision-outbound", Warning, Correctness;
    /// Tokens of the gateway's own go to another proxy without TLS.
    DecisionTokensPlain = "decision-tokens-plain", Warning, Security;
    /// No certificate of a listener is for a host that a route serves.
    HostWithoutCertificate = "host-without-certificate", Warning, Operations;
    /// A certificate has expired, expires soon, or is not valid yet.
    CertificateExpiry = "certificate-expiry", Warning, Operations;
    /// A partner's access has ended.
    PartnerExpired = "partner-expired", Warning, Operations;
    /// A partner's access ends soon.
    PartnerExpiresSoon = "partner-expires-soon", Warning, Operations;
    /// An address has expired and no longer counts.
    AddressExpired = "address-expired", Warning, Operations;
    /// A quota is kept in the process, where a restart begins it anew.
    QuotaLocal = "quota-local", Warning, Operations;
    /// No record of requests is written anywhere.
    AuditOff = "audit-off", Warning, Operations;
    /// Files of records are deleted before a year has passed.
    AuditKeepShort = "audit-keep-short", Warning, Operations;
    /// Records are sent to a service that Microsoft has retired.
    AuditSinkRetired = "audit-sink-retired", Warning, Operations;
    /// A collector is named, and neither traces nor metrics are exported to it.
    OtlpExportsNothing = "otlp-exports-nothing", Warning, Operations;
    /// The connections of all listeners may need more open files than the process may have.
    OpenFiles = "open-files", Warning, Operations;
    /// More connections of one peer are allowed than the listener allows at all.
    ConnectionsPerPeer = "connections-per-peer", Warning, Correctness;
    /// So little memory is left for verified tokens that hardly any is kept.
    VerifiedTokensMemory = "verified-tokens-memory", Warning, Operations;

    // Silences.
    /// A silence is without effect: nothing of its code is found at its place.
    SilenceUnused = "silence-unused", Warning, Correctness;
    /// The day until which a finding is silenced has passed.
    SilenceExpired = "silence-expired", Warning, Operations;
    /// A comment that is to silence a finding cannot be read, or gives no reason.
    SilenceInvalid = "silence-invalid", Warning, Correctness;
}

impl Lint {
    /// Returns the lint of this code.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|lint| lint.code() == code)
    }

    /// Returns whether its findings can be silenced: those about errors and about silences cannot.
    pub const fn can_be_silenced(self) -> bool {
        matches!(self.severity(), Severity::Warning)
            && !matches!(self, Self::SilenceUnused | Self::SilenceExpired | Self::SilenceInvalid)
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

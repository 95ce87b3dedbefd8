//! Rights that an identity has and the gateway does not need.

use serde_json::{Map, Value};

use super::{
    KeyUse,
    certificates::VaultSource,
    examine::{Outcome, Step},
    key_vault::{EXPORTABLE, NON_EXPORTABLE},
    signing_certificate::SigningCertificate,
};

/// Microsoft Graph, as the audience of tokens.
const GRAPH: [&str; 3] = ["https://graph.microsoft.com", "https://graph.microsoft.com/", "00000003-0000-0000-c000-000000000000"];

/// Returns what the identity may do in a vault besides signing.
pub(super) async fn of_vault(source: &VaultSource, signer: &SigningCertificate, whom: &str) -> Vec<Step> {
    let mut found = Vec::new();
    if signer.is_exportable() {
        found.push(Step::new("vault", Outcome::Warning, EXPORTABLE).cure(NON_EXPORTABLE));
    }
    // What comes is wiped unread; that it comes at all is the finding.
    if source.key_use == KeyUse::Sign && source.vault.secret(&source.name, signer.version()).await.is_ok() {
        let what = if signer.is_exportable() { "and with it the private key" } else { "which signing does not need" };
        let message = format!("{whom} may read the secret beside the certificate {}, {what}", source.name);
        let cure = "leave it the roles Key Vault Crypto User and Key Vault Reader: Key Vault Certificate User, Secrets User and Administrator \
                    read secrets, and so does `get` of secrets in an access policy";
        found.push(Step::new("vault", Outcome::Warning, message).cure(cure));
    }
    found
}

/// Returns the broad application roles in a token for Microsoft Graph.
pub(super) fn of_token(claims: &Map<String, Value>) -> Option<Step> {
    let audience = claims.get("aud").and_then(Value::as_str).unwrap_or_default();
    let roles = claims.get("roles").and_then(Value::as_array).filter(|_| GRAPH.contains(&audience))?;
    let broad: Vec<_> = roles.iter().filter_map(Value::as_str).filter(|role| is_broad(role)).collect();
    let message = format!("the application has broad roles of Microsoft Graph: {}", broad.join(", "));
    let cure = "remove them from its API permissions: the gateway needs User.Read.All and GroupMember.Read.All for lookups, and else nothing";
    (!broad.is_empty()).then(|| Step::new("token", Outcome::Warning, message).cure(cure))
}

/// Returns whether a role of Microsoft Graph reaches over a whole tenant, beyond what lookups need.
fn is_broad(role: &str) -> bool {
    const CONTENT: [&str; 9] =
        ["Directory", "Mail", "Files", "Sites", "Chat", "ChannelMessage", "Calendars", "Notes", "RoleManagement"];
    let mut words = role.split('.');
    let of = words.next().unwrap_or_default();
    role == "full_access_as_app"
        || CONTENT.contains(&of)
        || words.any(|word| matches!(word, "ReadWrite" | "FullControl" | "Manage" | "Send" | "AccessAsUser"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn broad_roles_are_told_from_those_that_lookups_need() {
        for (audience, role, broad) in [
            (GRAPH[0], "User.Read.All", false),
            (GRAPH[0], "GroupMember.Read.All", false),
            (GRAPH[0], "Application.Read.All", false),
            (GRAPH[0], "Directory.Read.All", true),
            (GRAPH[2], "User.ReadWrite.All", true),
            (GRAPH[0], "Application.ReadWrite.OwnedBy", true),
            (GRAPH[0], "Sites.FullControl.All", true),
            (GRAPH[0], "Mail.Send", true),
            // What an API of one's own calls its roles is its own affair.
            ("api://orders", "Orders.ReadWrite.All", false),
        ] {
            let claims = json!({ "aud": audience, "roles": [role] });
            assert_eq!(of_token(claims.as_object().unwrap()).is_some(), broad, "{audience} {role}");
        }
    }
}

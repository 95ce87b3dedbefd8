//! The registrations that every development tenant starts with. All names and ids are invented, except for Microsoft's own
//! services.

use std::collections::BTreeSet;

use super::{
    directory::{App, Directory, EVERY_TENANT, TOKEN_EXCHANGE, Tenant, User},
    mint::{DEFAULT_AUDIENCE, DEFAULT_CLIENT},
};

/// The first tenant.
pub(crate) const CONTOSO: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
/// Another tenant: a customer's.
pub(crate) const FABRIKAM: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
/// Microsoft Graph.
pub(crate) const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// The gateway's own registration; it has no certificate until one is uploaded.
pub(crate) const GATEWAY: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// A partner's daemon.
pub(crate) const PARTNER: &str = "22223333-cccc-4444-dddd-5555eeee6666";
/// The API behind the gateway that wants the gateway's own token.
pub(crate) const INTERNAL: &str = "44445555-eeee-6666-ffff-777788889999";
/// The API behind application proxy.
pub(crate) const LEGACY: &str = "55556666-ffff-7777-aaaa-88889999aaaa";

pub(crate) fn directory() -> Directory {
    let tenant = |id: &str, name: &str| Tenant {
        id: id.to_owned(),
        name: name.to_owned(),
        domains: BTreeSet::from([format!("{name}.example"), format!("{name}.onmicrosoft.com")]),
    };
    Directory {
        tenants: vec![tenant(CONTOSO, "contoso"), tenant(FABRIKAM, "fabrikam")],
        users: vec![
            User::new("nia")
                .named("Nia Okafor")
                .attribute("onpremisessamaccountname", "nokafor")
                .attribute("onpremisesdomainname", "corp.contoso.example")
                .attribute("netbiosname", "CORP")
                .attribute("employeeid", "E-1104")
                .attribute("department", "Logistics"),
            // Lives in the cloud only: nothing synchronised, so no account name.
            User::new("otto").named("Otto Lindqvist").attribute("department", "Finance"),
        ],
        apps: vec![
            App::new(DEFAULT_AUDIENCE).named("Orders API").uri("api://orders"),
            App::new(LEGACY).named("Legacy portal").uri("api://legacy").v1(),
            App::new(INTERNAL).named("Orders backend").uri("api://orders-internal"),
            App::new(DEFAULT_CLIENT).named("Orders web client"),
            App::new(GATEWAY)
                .named("Gateway")
                .uri("api://gateway")
                .granted("api://orders-internal", ["Orders.Forward"])
                .granted("https://graph.microsoft.com", ["User.Read.All", "GroupMember.Read.All"])
                .granted("https://vault.azure.net", ["user_impersonation"])
                .delegated("https://graph.microsoft.com", ["User.Read", "Mail.Read"])
                .delegated("api://orders-internal", ["Orders.Read"]),
            App::new(PARTNER).named("Fabrikam integration").granted("api://orders", ["Orders.Read", "Orders.ReadWrite"]),
            service(GRAPH, "Microsoft Graph", &["https://graph.microsoft.com"]).v1(),
            service("cfa8b339-82a2-471a-a3c9-0fc0be7a4093", "Azure Key Vault", &["https://vault.azure.net"]).v1(),
            service("be14bf7e-8ab4-49b0-9dc6-a0eddd6fa73e", "Azure Monitor", &["https://monitor.azure.com"]).v1(),
            service("acca5fbb-b7e4-4009-81f1-37e38fd66d78", "Azure Cache for Redis", &["https://redis.azure.com"]).v1(),
            service("797f4846-ba00-4fd7-ba43-dac1f8f63013", "Azure Resource Manager", &["https://management.azure.com"]).v1(),
            service("fb60f99c-7a34-4190-8149-302f77469936", "Token exchange", &[TOKEN_EXCHANGE]),
        ],
    }
}

/// Returns a Microsoft service, known in every tenant.
fn service(client_id: &str, name: &str, uris: &[&str]) -> App {
    uris.iter().fold(App::new(client_id).named(name).consented_by(EVERY_TENANT), |app, uri| app.uri(uri))
}

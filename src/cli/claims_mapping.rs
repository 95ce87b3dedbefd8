//! `entrada claims-mapping`: the policy that puts a user's attribute into tokens as a claim.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::settings::suggest;

/// Arguments of `entrada claims-mapping`.
#[derive(Args, Debug)]
pub struct ClaimsMappingArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the claims-mapping policy for claims, ready to paste
    Show(ShowArguments),
}

/// Arguments of `entrada claims-mapping show`.
#[derive(Args, Debug)]
pub struct ShowArguments {
    /// A claim and the attribute that it is taken from, as samaccountname=onpremisessamaccountname; can be given several times
    #[arg(long, value_name = "CLAIM=ATTRIBUTE", required = true)]
    claim: Vec<String>,
    /// Print the body for Microsoft Graph, POST /v1.0/policies/claimsMappingPolicies, with this display name
    #[arg(long, value_name = "NAME")]
    graph: Option<String>,
    /// Leave out the claims that every token has otherwise
    #[arg(long)]
    without_basic_claims: bool,
}

/// The attributes of users that a policy can take claims from, in Entra's spelling.
const ATTRIBUTES: &[&str] = &[
    "surname",
    "givenname",
    "displayname",
    "objectid",
    "mail",
    "userprincipalname",
    "department",
    "onpremisessamaccountname",
    "netbiosname",
    "dnsdomainname",
    "onpremisesecurityidentifier",
    "companyname",
    "streetaddress",
    "postalcode",
    "preferredlanguage",
    "onpremisesuserprincipalname",
    "mailnickname",
    "othermail",
    "country",
    "city",
    "state",
    "jobtitle",
    "employeeid",
    "facsimiletelephonenumber",
    "assignedroles",
    "accountenabled",
    "usertype",
];

/// Claims that no policy can set: they say who the token is of, for and from.
const RESTRICTED: &[&str] = &[
    "acr",
    "acrs",
    "amr",
    "app_displayname",
    "appid",
    "appidacr",
    "at_hash",
    "aud",
    "auth_time",
    "azp",
    "azpacr",
    "c_hash",
    "cnf",
    "exp",
    "groups",
    "hasgroups",
    "iat",
    "idp",
    "idtyp",
    "iss",
    "jti",
    "kid",
    "name",
    "nbf",
    "nonce",
    "oid",
    "preferred_username",
    "roles",
    "scp",
    "sid",
    "sub",
    "tid",
    "unique_name",
    "upn",
    "uti",
    "ver",
    "wids",
    "xms_cc",
];

/// Carries out `entrada claims-mapping`.
///
/// # Errors
///
/// A claim or an attribute that Entra would refuse.
pub fn run(arguments: &ClaimsMappingArguments) -> anyhow::Result<ExitCode> {
    let Command::Show(arguments) = &arguments.command;
    let policy = policy(arguments)?;
    match &arguments.graph {
        Some(name) => writeln!(std::io::stdout(), "{:#}", json!({ "definition": [policy.to_string()], "displayName": name }))?,
        None => writeln!(std::io::stdout(), "{policy:#}")?,
    }
    // Beside the policy, so that standard output can be redirected into a file.
    eprintln!(
        "Assign it to the API's enterprise application (POST /v1.0/servicePrincipals/ID/claimsMappingPolicies/$ref), and either set \
         `acceptMappedClaims` in the API's manifest and ask for the API by its client id or a URI in a verified domain, or give it a signing \
         key of its own, which `signing-keys-of` names."
    );
    Ok(ExitCode::SUCCESS)
}

/// Builds the policy. Without the basic claims, tokens lack the name and address of the user.
fn policy(arguments: &ShowArguments) -> anyhow::Result<Value> {
    let schema: Vec<Value> = arguments.claim.iter().map(|text| entry(text)).collect::<anyhow::Result<_>>()?;
    let basic = if arguments.without_basic_claims { "false" } else { "true" };
    Ok(json!({ "ClaimsMappingPolicy": { "Version": 1, "IncludeBasicClaimSet": basic, "ClaimsSchema": schema } }))
}

fn entry(text: &str) -> anyhow::Result<Value> {
    let (claim, attribute) = text
        .split_once('=')
        .filter(|(claim, attribute)| !claim.is_empty() && !attribute.is_empty())
        .with_context(|| format!("{text:?} is no claim with its attribute: write it as employeeid=employeeid"))?;
    if claim.chars().any(|letter| !letter.is_ascii_graphic() || matches!(letter, '"' | '\\')) {
        bail!("{claim:?} is no name of a claim");
    }
    if RESTRICTED.contains(&claim.to_ascii_lowercase().as_str()) {
        bail!("Entra lets no policy set the claim `{claim}`: choose another name, as x-{claim}");
    }
    // A directory extension: its owner's client id without dashes stands in the name.
    if attribute.starts_with("extension_") {
        return Ok(json!({ "Source": "user", "ExtensionID": attribute, "JwtClaimType": claim }));
    }
    let attribute = attribute.to_ascii_lowercase();
    let numbered = attribute
        .strip_prefix("extensionattribute")
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: u8| (1..=15).contains(&number));
    if !numbered && !ATTRIBUTES.contains(&attribute.as_str()) {
        let cure = suggest::known(&attribute, ATTRIBUTES.iter().copied(), "the attributes are").unwrap_or_default();
        bail!("no user has an attribute `{attribute}`; {cure}");
    }
    Ok(json!({ "Source": "user", "ID": attribute, "JwtClaimType": claim }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_entries_that_entra_takes() {
        for (text, expected) in [
            (
                "samaccountname=onpremisessamaccountname",
                Ok("{\"ID\":\"onpremisessamaccountname\",\"JwtClaimType\":\"samaccountname\",\"Source\":\"user\"}"),
            ),
            ("cost=ExtensionAttribute7", Ok("{\"ID\":\"extensionattribute7\",\"JwtClaimType\":\"cost\",\"Source\":\"user\"}")),
            (
                "costCenter=extension_0123456789abcdef0123456789abcdef_costCenter",
                Ok(
                    "{\"ExtensionID\":\"extension_0123456789abcdef0123456789abcdef_costCenter\",\"JwtClaimType\":\"costCenter\",\"Source\":\"user\"}",
                ),
            ),
            ("oid=objectid", Err("lets no policy set the claim `oid`")),
            ("AUD=mail", Err("lets no policy set the claim `AUD`")),
            ("a=extensionattribute16", Err("no user has an attribute")),
            ("dept=departmnt", Err("did you mean `department`?")),
            ("dept", Err("is no claim with its attribute")),
            ("=mail", Err("is no claim with its attribute")),
            ("a b=mail", Err("is no name of a claim")),
        ] {
            match (entry(text), expected) {
                (Ok(entry), Ok(expected)) => assert_eq!(entry.to_string(), expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}

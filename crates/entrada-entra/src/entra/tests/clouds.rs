//! Issuers × versions × clouds × tenants: the tokens that match each setting, by an oracle that knows the issuers as text.

use url::Url;

use super::*;
use crate::entra::{
    is_guid,
    key_set::Document,
    keys::Keys,
    metadata::Metadata,
    testing::{Mint, OTHER_TENANT, TENANT, tenants},
};

/// A cloud according to its documents.
struct Cloud {
    name: &'static str,
    login: &'static str,
    /// The host of version 1 issuers.
    tokens: &'static str,
}

const CLOUDS: [Cloud; 3] = [
    Cloud { name: "public", login: "login.microsoftonline.com", tokens: "sts.windows.net" },
    Cloud { name: "us-government", login: "login.microsoftonline.us", tokens: "sts.windows.net" },
    Cloud { name: "china", login: "login.partner.microsoftonline.cn", tokens: "sts.chinacloudapi.cn" },
];

/// Returns `iss` in this cloud. With `{tenantid}` it is the form of documents that leave the tenant open.
fn issuer(cloud: &Cloud, version: u8, tenant: &str) -> String {
    match version {
        1 => format!("https://{}/{tenant}/", cloud.tokens),
        _ => format!("https://{}/{tenant}/v2.0", cloud.login),
    }
}

/// Makes a verifier of the tenant entry, whose key set holds the documents that the cloud would serve for it.
fn verifier_of(cloud: &Cloud, id: &str) -> Verifier {
    let tenants = tenants(&[("entra", json!({ "id": id, "cloud": cloud.name }))]);
    let set = tenants.key_set(tenants.get("entra").unwrap(), None);
    let named = match id {
        "organizations" | "common" => "{tenantid}",
        // A domain is one name of the tenant; the documents write its GUID.
        _ => TENANT,
    };
    for (index, version) in [(0, 2), (1, 1)] {
        let endpoint = &set.source().endpoints[index];
        let path = if version == 2 { "/v2.0" } else { "" };
        assert_eq!(endpoint.metadata.as_str(), format!("https://{}/{id}{path}/.well-known/openid-configuration", cloud.login));
        let document = json!({
            "issuer": issuer(cloud, version, named),
            "jwks_uri": format!("https://{}/{id}/discovery{path}/keys", cloud.login),
        });
        let metadata = Metadata::read(document.to_string().as_bytes(), &endpoint.bounds).unwrap();
        // Keys of version 2 name the issuer that they are good for; those of version 1 do not.
        let whose = (version == 2).then(|| issuer(cloud, 2, "{tenantid}"));
        let keys = Keys::read(&jwks(&[key(0).jwk(whose.as_deref())]), Algorithm::ENTRA).unwrap();
        set.put(index, Document { metadata, keys }, clock().monotonic());
    }
    Verifier {
        sets: vec![set],
        profile: Profile::Entra,
        algorithms: Algorithm::ENTRA.to_vec(),
        verified_token_cache: Arc::default(),
    }
}

#[test]
fn every_token_agrees_with_its_own_cloud_version_and_tenant_alone() {
    // Each token is signed once: the key is the same everywhere, as it must not be what tells them apart.
    let mut tokens = Vec::new();
    for cloud in &CLOUDS {
        for said in [1, 2] {
            for written in [1, 2] {
                for named in [TENANT, OTHER_TENANT] {
                    for tid in [TENANT, OTHER_TENANT] {
                        let iss = issuer(cloud, written, named);
                        let mint = if said == 1 { Mint::user().version_1() } else { Mint::user() };
                        tokens.push((mint.with("iss", iss.as_str()).with("tid", tid).sign(), iss, said, tid));
                    }
                }
            }
        }
    }
    let mut agreed = 0;
    for cloud in &CLOUDS {
        for id in [TENANT, "contoso.example", "organizations", "common"] {
            let verifier = verifier_of(cloud, id);
            let many = !is_guid(id) && !id.contains('.');
            for (token, iss, said, tid) in &tokens {
                let row = format!("{} {id}: version {said}, {iss}, tid {tid}", cloud.name);
                let verified = verify(&verifier, token.as_bytes()).unwrap_or_else(|error| panic!("{row}: {error}"));

                let agrees = *iss == issuer(cloud, *said, tid) && (many || *tid == TENANT);

                assert_eq!(verified.issuer == IssuerVerdict::Agrees, agrees, "{row}: {:?}", verified.issuer);
                if !many && agrees {
                    assert!(verified.own_tenant, "{row}");
                }
                if many {
                    assert!(!verified.own_tenant, "{row}");
                }
                agreed += usize::from(agrees);
            }
        }
    }
    // By hand: version 2 agrees in its own cloud; version 1 of the public cloud and of US Government is written alike.
    // Single tenants (2 entries): 3 of version 2, 5 of version 1. Several tenants (2 entries): twice that, one for each tenant.
    assert_eq!(agreed, 2 * (3 + 5) + 2 * 2 * (3 + 5));
}

#[test]
fn metadata_of_one_cloud_is_not_believed_in_another() {
    for own in &CLOUDS {
        for other in CLOUDS.iter().filter(|other| other.name != own.name) {
            for id in [TENANT, "contoso.example", "organizations"] {
                let tenants = tenants(&[("entra", json!({ "id": id, "cloud": own.name }))]);
                let set = tenants.key_set(tenants.get("entra").unwrap(), None);
                let named = if id == "organizations" { "{tenantid}" } else { TENANT };
                let bounds = &set.source().endpoints[0].bounds;
                let keys = |cloud: &Cloud| format!("https://{}/common/discovery/v2.0/keys", cloud.login);
                let read = |issuer: String, keys: String| {
                    Metadata::read(json!({ "issuer": issuer, "jwks_uri": keys }).to_string().as_bytes(), bounds).is_ok()
                };

                assert!(read(issuer(own, 2, named), keys(own)), "{} {id}", own.name);
                assert!(!read(issuer(other, 2, named), keys(own)), "{} {id}: issuer of {}", own.name, other.name);
                assert!(!read(issuer(own, 2, named), keys(other)), "{} {id}: keys of {}", own.name, other.name);
            }
        }
    }
}

/// Tests custom authorities: the addresses of their documents, the content of these, and the tokens.
#[test]
fn authorities_of_their_own_issue_as_their_documents_say() {
    let ciam = format!("https://{TENANT}.ciamlogin.com/{TENANT}/v2.0");
    let custom = format!("https://login.contoso.example/{TENANT}/v2.0");
    for (row, authority, asked, written) in [
        ("External ID", "https://contoso.ciamlogin.com", format!("https://contoso.ciamlogin.com/{TENANT}"), &ciam),
        (
            "External ID, with its slash",
            "https://contoso.ciamlogin.com/",
            format!("https://contoso.ciamlogin.com/{TENANT}"),
            &ciam,
        ),
        ("a domain of one's own", "https://login.contoso.example", format!("https://login.contoso.example/{TENANT}"), &custom),
        (
            "External ID, at a domain of one's own",
            "https://login.contoso.example",
            format!("https://login.contoso.example/{TENANT}"),
            &ciam,
        ),
        (
            "the tenant is in the path already",
            &*format!("https://login.contoso.example/{TENANT}"),
            format!("https://login.contoso.example/{TENANT}"),
            &custom,
        ),
    ] {
        let tenants = tenants(&[("entra", json!({ "id": TENANT, "authority": authority }))]);
        let set = tenants.key_set(tenants.get("entra").unwrap(), None);
        let endpoint = set.source().endpoints[0].clone();
        assert_eq!(endpoint.metadata, Url::parse(&format!("{asked}/v2.0/.well-known/openid-configuration")).unwrap(), "{row}");
        let document = json!({ "issuer": written, "jwks_uri": format!("{asked}/discovery/v2.0/keys") });
        let metadata = Metadata::read(document.to_string().as_bytes(), &endpoint.bounds).unwrap();
        let keys = Keys::read(&jwks(&[key(0).jwk(None)]), Algorithm::ENTRA).unwrap();
        set.put(0, Document { metadata, keys }, clock().monotonic());
        let verifier = Verifier {
            sets: vec![set],
            profile: Profile::Entra,
            algorithms: Algorithm::ENTRA.to_vec(),
            verified_token_cache: Arc::default(),
        };
        let verdict = |iss: &str| verify(&verifier, Mint::user().with("iss", iss).sign().as_bytes()).unwrap().issuer;

        assert_eq!(verdict(written), IssuerVerdict::Agrees, "{row}");
        for other in [
            format!("https://{OTHER_TENANT}.ciamlogin.com/{TENANT}/v2.0"),
            format!("https://{TENANT}.ciamlogin.com/{OTHER_TENANT}/v2.0"),
            format!("https://{TENANT}.ciamlogin.com.evil.example/{TENANT}/v2.0"),
            format!("http://{TENANT}.ciamlogin.com/{TENANT}/v2.0"),
            format!("https://fabrikam.ciamlogin.com/{TENANT}/v2.0"),
        ] {
            let document = json!({ "issuer": other, "jwks_uri": format!("{asked}/discovery/v2.0/keys") });
            assert!(Metadata::read(document.to_string().as_bytes(), &endpoint.bounds).is_err(), "{row}: {other}");
        }
        let elsewhere = json!({ "issuer": written, "jwks_uri": format!("https://{OTHER_TENANT}.ciamlogin.com/keys") });
        assert!(Metadata::read(elsewhere.to_string().as_bytes(), &endpoint.bounds).is_err(), "{row}");
        for other in [
            format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            format!("{written}/"),
            written.replace(TENANT, OTHER_TENANT),
        ] {
            assert_eq!(verdict(&other), IssuerVerdict::OtherIssuer, "{row}: {other}");
        }
    }
}

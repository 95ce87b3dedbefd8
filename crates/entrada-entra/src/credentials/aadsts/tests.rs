use std::collections::BTreeSet;

use super::{table::TABLE, *};

/// The parties that can receive a code.
const ASKERS: [Asker; 4] = [Asker::Gateway, Asker::User, Asker::Partner, Asker::PartnerUser];

/// The codes that a daemon, an exchange or a relayed request can meet, by what they are about; a code may never fall out of the table.
const MET: &[&[u32]] = &[
    // The assertion, the certificate, the secret.
    &[
        700_027, 700_024, 1_000_502, 7_000_214, 700_030, 700_023, 50_027, 50_048, 50_012, 50_032, 7_000_215, 7_000_222,
        7_000_218, 7_000_216, 7_000_225, 700_021, 700_025, 700_026, 700_028,
    ],
    // The application and the tenant.
    &[
        700_016, 7_000_229, 7_000_112, 70_001, 90_002, 900_023, 90_038, 900_382, 900_432, 50_194, 9_001_023, 50_049, 50_059,
        53_003,
    ],
    // The resource and the scope.
    &[
        500_011, 50_001, 650_052, 650_053, 650_056, 650_057, 70_011, 28_002, 28_003, 700_022, 1_002_012, 501_051, 50_105, 50_146,
        501_461, 90_009, 901_002, 9_010_010,
    ],
    // On behalf of users.
    &[
        65_001, 50_013, 500_131, 500_133, 240_002, 7_000_113, 7_000_114, 50_034, 50_076, 50_079, 50_074, 50_129, 50_158, 53_000,
        53_001, 53_002, 530_032, 50_173, 50_132, 50_133, 700_082, 70_043,
    ],
    // Federated tokens.
    &[70_021, 700_211, 700_212, 700_213, 7_002_137, 7_002_138, 700_229, 5_002_738],
    // The form of the request, what passes, and what is asked too often.
    &[90_013, 90_014, 100_007, 50_196, 90_055, 50_033, 50_087, 90_006, 90_012, 90_024, 90_033, 90_090, 40_010],
];

fn of(code: u32, asker: Asker) -> Advice {
    advice(Some(code), "", asker).unwrap_or_else(|| panic!("AADSTS{code} has no advice"))
}

#[test]
fn each_code_has_a_meaning_and_a_cure_that_fits_who_asked() {
    let known: BTreeSet<u32> = TABLE.iter().flat_map(|row| row.codes).copied().collect();
    assert_eq!(known.len(), TABLE.iter().map(|row| row.codes.len()).sum::<usize>(), "a code stands twice");
    assert!(MET.iter().copied().flatten().all(|code| known.contains(code)));

    for (code, asker) in known.iter().flat_map(|code| ASKERS.map(|asker| (*code, asker))) {
        let Advice { meaning, cure, next } = of(code, asker);

        assert!(!meaning.is_empty() && !cure.is_empty(), "AADSTS{code}");
        if !asker.has_user() {
            assert!(
                next != Next::Interaction && !cure.contains("sign in again"),
                "AADSTS{code}: nobody is there to sign in: {cure}"
            );
        }
        if matches!(asker, Asker::Partner | Asker::PartnerUser) {
            // The operator of a relay cannot mend a partner's keys, machine or registration by settings of the gateway.
            for own in [
                "entrada certificate",
                "this machine's",
                "`client-id`",
                "`send-certificate-chain`",
                "the answer tells the client",
            ] {
                assert!(!cure.contains(own), "AADSTS{code}: {own} in what is said of a partner: {cure}");
            }
        }
    }
}

#[test]
fn a_code_that_nobody_knows_is_read_by_its_oauth_error() {
    for error in
        ["invalid_client", "unauthorized_client", "invalid_grant", "invalid_scope", "invalid_resource", "invalid_request"]
    {
        for asker in ASKERS {
            let advice = advice(Some(1), error, asker).unwrap_or_else(|| panic!("{error}"));
            assert!(!advice.meaning.is_empty() && !advice.cure.is_empty() && advice.next != Next::Interaction, "{error}");
        }
    }
    assert_eq!(advice(None, "interaction_required", Asker::User).map(|advice| advice.next), Some(Next::Interaction));
    assert_eq!(advice(None, "interaction_required", Asker::Gateway).map(|advice| advice.next), Some(Next::Nothing));
    assert_eq!(advice(Some(1), "strange", Asker::Gateway), None);
    assert_eq!(advice(Some(700_027), "invalid_client", Asker::Platform), None);
}

#[test]
fn tells_what_the_gateway_can_do_by_itself() {
    for (code, asker, next) in [
        (700_027, Asker::Gateway, Next::OtherCertificate),
        (7_000_222, Asker::Gateway, Next::OtherCertificate),
        (700_016, Asker::Gateway, Next::Consent),
        (65_001, Asker::User, Next::Consent),
        (53_002, Asker::User, Next::Interaction),
        (53_003, Asker::User, Next::Interaction),
        (53_003, Asker::Gateway, Next::Nothing),
        (50_196, Asker::Gateway, Next::Wait),
        (90_002, Asker::Gateway, Next::Nothing),
    ] {
        assert_eq!(of(code, asker).next, next, "{code} {asker:?}");
    }
}

#[test]
fn the_cures_of_mapped_claims_name_what_the_manifest_has() {
    for (code, words) in [
        (50_146, ["acceptMappedClaims", "signing key", "client id"]),
        (501_461, ["acceptMappedClaims", "signing key", "client id"]),
        (9_010_010, ["resource", "application ID URI", "RFC 8707"]),
    ] {
        let cure = of(code, Asker::Gateway).cure;
        assert!(words.iter().all(|word| cure.contains(word)), "AADSTS{code}: {cure}");
    }
    for (code, asker, word) in [
        (53_003, Asker::Gateway, "sign-in logs"),
        (53_003, Asker::Partner, "the gateway's outgoing address"),
        (7_000_215, Asker::Partner, "the partner has to"),
        (700_023, Asker::Partner, "not for the relay's URL"),
        (500_131, Asker::PartnerUser, "its own client id"),
        (500_131, Asker::User, "the credential's `client-id`"),
    ] {
        assert!(of(code, asker).cure.contains(word), "AADSTS{code} {asker:?}: {}", of(code, asker).cure);
    }
}

//! Builds the certificates of a credential, from files or from a vault.

use super::{open_vault, reveal};
use crate::{
    certificate::{
        Thumbprint,
        keys::{LOOSE_CURE, loose_key},
    },
    credentials::{
        AssertionAlgorithm, AssertionConfig, CertificateConfig, CredentialConfig, KeyUse, KeyVaultCertificateConfig,
        certificates::{CertificateFile, CertificateForm, CertificateSource, Certificates, VaultSource},
        set::{CredentialsContext, Siblings},
    },
    settings::{Faults, Lint, Place},
};

pub(super) fn certificates(
    config: &CredentialConfig,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<Certificates> {
    let written: Vec<_> = match &config.certificate {
        Some(certificate) => vec![(place.key("certificate"), certificate)],
        None => {
            let place = place.key("certificates");
            config.certificates.iter().enumerate().map(|(index, certificate)| (place.index(index), certificate)).collect()
        }
    };
    let sources: Vec<_> = written.iter().map(|(place, written)| source(written, context, siblings, place, faults)).collect();
    let sources: Vec<_> = sources.into_iter().collect::<Option<_>>()?;
    for ((place, _), source) in written.iter().zip(&sources) {
        suits(source, config.assertion, place, faults)?;
    }
    let certificates = match Certificates::load(config.assertion, sources.clone()) {
        Ok(certificates) => certificates,
        Err(failed) => {
            for (index, error) in failed {
                let CertificateSource::File(source) = &sources[index] else { continue };
                let file = source.file.display();
                faults.error(&written[index].0, format!("{file}: {}", crate::base::error_chain::chain(&error)), error.cure());
            }
            return None;
        }
    };
    for ((place, _), source) in written.iter().zip(&sources) {
        let CertificateSource::File(source) = source else { continue };
        if let Some(message) = loose_key(source.key_file()) {
            faults.warning(Lint::SecretFilePermissions, place, message, LOOSE_CURE);
        }
    }
    for (index, signer) in certificates.by_source() {
        let now = context.clock.unix_seconds();
        if let Some((concern, cure)) = signer.concern(now) {
            faults.warning(Lint::CertificateExpiry, &written[index].0, concern, cure);
        }
    }
    Some(certificates)
}

fn source(
    written: &CertificateConfig,
    context: &CredentialsContext<'_>,
    siblings: Siblings<'_>,
    place: &Place,
    faults: &mut Faults,
) -> Option<CertificateSource> {
    if let Some(kept) = &written.key_vault {
        if *written != (CertificateConfig { key_vault: Some(kept.clone()), ..CertificateConfig::default() }) {
            faults.error(place, "both a file and `key-vault` are given", "leave one of them");
            return None;
        }
        let KeyVaultCertificateConfig { vault, certificate, version, identity, key_use } = kept;
        let names = [("certificate", Some(certificate)), ("version", version.as_ref())];
        let vault = open_vault(vault, identity, &names, siblings, &place.key("key-vault"), faults)?;
        let (name, version, key_use) = (certificate.clone(), version.clone(), *key_use);
        if key_use == KeyUse::Download {
            faults.warning(Lint::KeyExportable,
                &place.key("key-vault").key("use"),
                "the private key leaves the vault: a stolen copy is good until the certificate ends, for days or months; a stolen token for an hour",
                "write `use: sign`, so that the key stays in the vault; `entrada certificate policy` prints the policy of a certificate whose key cannot be exported",
            );
        }
        return Some(CertificateSource::Vault(VaultSource { vault, name, version, key_use }));
    }
    let path = |text: &String| context.base.join(text);
    let password = match &written.password {
        Some(password) => Some(reveal(password, context, &place.key("password"), faults)?),
        None => None,
    };
    if let Some(thumbprint) = &written.thumbprint {
        let (form, file) = key_only(written, thumbprint, place, faults)?;
        return Some(CertificateSource::File(CertificateFile { file: path(file), form, password }));
    }
    match (&written.pem, &written.pfx, &written.private_key) {
        (Some(pem), None, key) => {
            let form = CertificateForm::Pem(key.as_ref().map(path));
            Some(CertificateSource::File(CertificateFile { file: path(pem), form, password }))
        }
        (None, Some(pfx), None) => {
            Some(CertificateSource::File(CertificateFile { file: path(pfx), form: CertificateForm::Pfx, password }))
        }
        (None, Some(_), Some(_)) => {
            faults.error(&place.key("private-key"), "a PFX file holds its private key itself", "leave `private-key` out");
            None
        }
        (Some(_), Some(_), _) => {
            faults.error(place, "both `pem` and `pfx` are given", "leave one of them");
            None
        }
        (None, None, Some(_)) => {
            let cure = "name its file as `pem`, or write the `thumbprint` of the one that the app registration has";
            faults.error(place, "a private key is named, and no certificate", cure);
            None
        }
        (None, None, None) => {
            faults.error(place, "no file is named", "name one as `pem` or `pfx`");
            None
        }
    }
}

/// Returns the form and the file of a private key whose certificate is known by its thumbprint.
fn key_only<'a>(
    written: &'a CertificateConfig,
    thumbprint: &str,
    place: &Place,
    faults: &mut Faults,
) -> Option<(CertificateForm, &'a String)> {
    let at = place.key("thumbprint");
    let file = match (&written.private_key, &written.pem, &written.pfx) {
        (Some(file), None, None) => file,
        (_, Some(_), _) | (_, _, Some(_)) => {
            faults.error(&at, "the certificate is in the file, and its thumbprint with it", "leave `thumbprint` out");
            return None;
        }
        (None, None, None) => {
            faults.error(&at, "a thumbprint names a certificate, and no key is named", "name the key's file as `private-key`");
            return None;
        }
    };
    match Thumbprint::parse(thumbprint) {
        Ok(thumbprint) => Some((CertificateForm::Key(thumbprint), file)),
        Err(fault) => {
            let cure = "write the 40 hexadecimal digits that the portal shows, or the 64 of SHA-256";
            faults.error(&at, format!("`{thumbprint}` is not a thumbprint: {fault}"), cure);
            None
        }
    }
}

/// Reports settings that a private key without its certificate cannot follow: the thumbprint has to be the one that the algorithm
/// names certificates by, and there is no chain to send.
fn suits(source: &CertificateSource, settings: AssertionConfig, place: &Place, faults: &mut Faults) -> Option<()> {
    let CertificateSource::File(CertificateFile { form: CertificateForm::Key(thumbprint), .. }) = source else { return Some(()) };
    let at = place.key("thumbprint");
    match (settings.algorithm, thumbprint) {
        (Some(AssertionAlgorithm::PS256), Thumbprint::Sha1(_)) => {
            let cure = "write the SHA-256 thumbprint (64 digits), or leave `algorithm` out: SHA-1 signs with RS256";
            faults.error(&at, "PS256 names the certificate by its SHA-256 thumbprint, and this is SHA-1", cure);
            return None;
        }
        (Some(AssertionAlgorithm::RS256), Thumbprint::Sha256(_)) => {
            let cure = "write the SHA-1 thumbprint (40 digits), or leave `algorithm` out: SHA-256 signs with PS256";
            faults.error(&at, "RS256 names the certificate by its SHA-1 thumbprint, and this is SHA-256", cure);
            return None;
        }
        _ => {}
    }
    if settings.send_certificate_chain {
        let cure = "name the certificate's file as `pem`, or leave `send-certificate-chain` out";
        faults.error(&at, "the certificate is to be sent, and only its thumbprint is known", cure);
        return None;
    }
    Some(())
}

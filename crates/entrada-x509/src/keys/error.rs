//! Faults of a certificate or its key, and their cures.

use std::{io, path::PathBuf};

use super::LEAST_BITS;

/// The reason why a certificate or its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file cannot be read.
    #[error("{} cannot be read", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is far larger than any certificate file.
    #[error("{} is larger than 1 MiB", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing in the file.
    #[error("the file is empty")]
    Empty,
    /// There is no PEM block.
    #[error("there is no PEM block in it")]
    NotPem,
    /// The text is in an encoding that PEM does not know.
    #[error("the file is UTF-16 text")]
    Utf16,
    /// A PEM block is damaged.
    #[error("a PEM block is damaged")]
    PemUnreadable,
    /// There is no certificate.
    #[error("there is no certificate in it")]
    NoCertificate,
    /// There is no private key.
    #[error("there is no private key in it")]
    NoKey,
    /// There is no private key in a file that has nothing else.
    #[error("there is no private key in it")]
    NoKeyAlone,
    /// There are several private keys, and nothing tells which one belongs to the thumbprint.
    #[error("there are several private keys in it, and a thumbprint does not tell which one is meant")]
    SeveralKeys,
    /// There is a certificate, which makes a thumbprint superfluous.
    #[error("there is a certificate in it, so the thumbprint says nothing that the file does not")]
    CertificateBesideThumbprint,
    /// The private key is encrypted, and no password is given.
    #[error("the private key is encrypted")]
    Encrypted,
    /// The password is wrong.
    #[error("the password is wrong")]
    WrongPassword,
    /// The encryption of the private key is not supported.
    #[error("the encryption of the private key is not supported")]
    EncryptionUnknown,
    /// The file is not a PKCS#12 file.
    #[error("it is not a PKCS#12 file")]
    NotPfx,
    /// The PKCS#12 file is shorter than it says.
    #[error("the PKCS#12 file is cut off: {bytes} bytes of {of}")]
    PfxCutOff {
        /// The actual length.
        bytes: usize,
        /// The length that the file declares.
        of: usize,
    },
    /// The PKCS#12 file uses an unsupported algorithm.
    #[error("the encryption of the PKCS#12 file is not supported")]
    PfxTooOld,
    /// The PKCS#12 file is damaged.
    #[error("the PKCS#12 file cannot be read ({reason})")]
    PfxUnreadable {
        /// The reader's error, without any of the content.
        reason: Box<str>,
    },
    /// The private key is encrypted in OpenSSL's legacy format.
    #[error("the private key is encrypted in OpenSSL's legacy format (Proc-Type: 4,ENCRYPTED)")]
    OldEncryption,
    /// The certificate is damaged.
    #[error("the certificate cannot be read")]
    CertificateUnreadable,
    /// The key is not an RSA key.
    #[error("the {what}, but Entra accepts only RSA keys")]
    NotRsa {
        /// The object without such a key: the certificate or the private key.
        what: &'static str,
    },
    /// The RSA key is too short.
    #[error("the RSA key has {bits} bits, and Entra accepts no fewer than {LEAST_BITS}")]
    TooShort {
        /// The size of the modulus.
        bits: usize,
    },
    /// The RSA key is too short, by its own account.
    #[error("the RSA key has fewer than {LEAST_BITS} bits, and Entra accepts no such key")]
    KeyTooShort,
    /// The private key is damaged, or its format is not supported.
    #[error("the private key cannot be used ({reason})")]
    KeyUnusable {
        /// The error of the cryptography library.
        reason: Box<str>,
    },
    /// The private key belongs to another certificate.
    #[error("the private key does not belong to the certificate of {subject}")]
    Mismatch {
        /// The subject of the certificate.
        subject: Box<str>,
    },
    /// The private key makes invalid signatures.
    #[error("the private key makes signatures that are invalid under its certificate")]
    KeyDefective,
}

impl CertificateError {
    /// Returns the operator's remedy.
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::File { .. } => "name a file that the gateway may read; relative paths start at the config file",
            Self::FileTooLarge { .. } => "name the file that holds the certificate",
            Self::NotPem => "name a PEM file here; a PKCS#12 file goes under `pfx`",
            Self::Empty => "put certificate and private key into it",
            Self::Utf16 => "save it as UTF-8 or ASCII",
            Self::PemUnreadable => "export certificate and key again; each block runs from its BEGIN line to its END line",
            Self::NoCertificate => "put the certificate into it, beside the private key",
            Self::NoKeyAlone => "name the file with the private key: a block that begins with `-----BEGIN PRIVATE KEY-----`",
            Self::SeveralKeys => "leave one of them in it",
            Self::CertificateBesideThumbprint => "name the file as `pem` instead, and leave `thumbprint` out",
            Self::NoKey => "put the private key into it, or name the key's file as `private-key`",
            Self::Encrypted => "give the `password`, as a named value from a file",
            Self::WrongPassword => {
                "give the password that the file was made with; a file for a named value may end in one line end. A damaged file looks the same"
            }
            Self::EncryptionUnknown | Self::OldEncryption => "convert it with `openssl pkcs8 -topk8 -in KEY -out gateway.key`",
            Self::NotPfx => "name a PKCS#12 file here; a PEM file goes under `pem`",
            Self::PfxTooOld | Self::PfxUnreadable { .. } => {
                "export it again with AES-256, as `openssl pkcs12 -export` does by default"
            }
            Self::PfxCutOff { .. } => "copy it again, as binary",
            Self::CertificateUnreadable => "export the certificate again",
            Self::NotRsa { .. } | Self::TooShort { .. } | Self::KeyTooShort => {
                "make an RSA certificate with `entrada certificate new` and upload it to the app registration"
            }
            Self::KeyUnusable { .. } | Self::KeyDefective => "export the private key again, as PKCS#8 or PKCS#1",
            Self::Mismatch { .. } => "name the key that this certificate was made with",
        }
    }
}

//! Certificate, key and authority as files, and what is made of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::identity::{Identity, IdentityError};

/// Where the PEM files are. They may be replaced at any time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// This process's certificate, with the chain up to the authority, its own first. It serves at both ends of a connection.
    pub certificate: PathBuf,
    /// Its private key, unencrypted.
    pub key: PathBuf,
    /// The authority that signs the job's certificates; several while one follows another.
    pub ca: PathBuf,
}

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TlsFileError {
    #[error("failed to read {}: {reason}", file.display())]
    Read { file: PathBuf, reason: String },
    #[error("failed to use {}: {reason}", file.display())]
    Content { file: PathBuf, reason: String },
    #[error("failed to use {}: the certificate {cause}", file.display())]
    Identity { file: PathBuf, cause: IdentityError },
}

/// What the three files held when they were read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    certificate: Result<Vec<u8>, TlsFileError>,
    key: Result<Vec<u8>, TlsFileError>,
    ca: Result<Vec<u8>, TlsFileError>,
}

/// What a handshake needs.
pub(crate) struct Credentials {
    pub(crate) identity: Identity,
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) roots: Arc<RootCertStore>,
}

impl TlsFiles {
    pub(crate) fn read(&self) -> Contents {
        let read = |file: &Path| {
            let failed = |e: std::io::Error| TlsFileError::Read { file: file.to_owned(), reason: e.to_string() };
            std::fs::read(file).map_err(failed)
        };
        Contents { certificate: read(&self.certificate), key: read(&self.key), ca: read(&self.ca) }
    }

    pub(crate) fn credentials(
        &self,
        contents: &Contents,
        provider: &CryptoProvider,
    ) -> Result<Credentials, TlsFileError> {
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let identity = Identity::of_certificate(&chain[0])
            .map_err(|cause| TlsFileError::Identity { file: self.certificate.clone(), cause })?;
        let key = CertifiedKey::from_der(chain, private_key(&self.key, &contents.key)?, provider)
            .map_err(|e| unusable(&self.key, format!("not the key of {}: {e}", self.certificate.display())))?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca, &contents.ca)? {
            roots.add(certificate).map_err(|e| unusable(&self.ca, e.to_string()))?;
        }
        Ok(Credentials { identity, key: Arc::new(key), roots: Arc::new(roots) })
    }
}

fn unusable(file: &Path, reason: String) -> TlsFileError {
    TlsFileError::Content { file: file.to_owned(), reason }
}

/// At least one.
fn certificates(
    file: &Path,
    content: &Result<Vec<u8>, TlsFileError>,
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = content.as_ref().map_err(Clone::clone)?;
    let found: Vec<_> = rustls_pemfile::certs(&mut text.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|e| unusable(file, format!("not PEM: {e}")))?;
    if found.is_empty() {
        return Err(unusable(file, "it holds no certificate".to_owned()));
    }
    Ok(found)
}

fn private_key(file: &Path, content: &Result<Vec<u8>, TlsFileError>) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    let text = content.as_ref().map_err(Clone::clone)?;
    rustls_pemfile::private_key(&mut text.as_slice())
        .map_err(|e| unusable(file, format!("not PEM: {e}")))?
        .ok_or_else(|| unusable(file, "it holds no unencrypted private key".to_owned()))
}

/// Without the bytes: one of them is a secret.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contents")
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.identity)
    }
}

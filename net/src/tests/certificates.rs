//! Authorities, certificates and the files that hold them.

use std::path::Path;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;

use crate::{Security, TlsFiles};

/// An authority of its own.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate for a process, with its key, as PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate with these URIs, as the operator would issue it.
    pub(crate) fn issue(&self, uris: &[&str]) -> Issued {
        self.issue_with(uris, |_| ())
    }

    pub(crate) fn issue_expired(&self, uri: &str) -> Issued {
        self.issue_with(&[uri], |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        })
    }

    fn issue_with(&self, uris: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// The files of one process.
pub(crate) struct Files {
    _directory: TempDir,
    pub(crate) tls: TlsFiles,
}

impl Files {
    pub(crate) fn new(issued: &Issued, trusted: &Authority) -> Self {
        let directory = TempDir::new().unwrap();
        let file = |name: &str| directory.path().join(name);
        let tls = TlsFiles { certificate: file("tls.crt"), key: file("tls.key"), ca: file("ca.crt") };
        let files = Self { _directory: directory, tls };
        files.replace(issued, trusted);
        files
    }

    pub(crate) fn replace(&self, issued: &Issued, trusted: &Authority) {
        let write = |file: &Path, text: &str| std::fs::write(file, text).unwrap();
        write(&self.tls.certificate, &issued.certificate);
        write(&self.tls.key, &issued.key);
        write(&self.tls.ca, &trusted.pem());
    }

    pub(crate) fn security(&self) -> Security {
        Security::mutual(self.tls.clone()).unwrap()
    }
}

impl Authority {
    /// A process with this identity that trusts this authority. Its files are not needed again.
    pub(crate) fn process(&self, uri: &str) -> Security {
        Files::new(&self.issue(&[uri]), self).security()
    }
}

//! An authority and certificates for the processes of a job, as an operator would issue them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::process::Run;

pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of one process.
pub struct Certificate {
    folder: tempfile::TempDir,
}

impl Authority {
    pub fn found() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// For `<job>/<role>`; `trusted` is whom the process trusts.
    pub fn issue(&self, whom: &str, trusted: &Self) -> Certificate {
        let mut params = CertificateParams::default();
        let uri = format!("millstream://default/{whom}");
        params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = Certificate { folder: tempfile::tempdir().unwrap() };
        let files = [("tls.crt", signed.pem()), ("tls.key", key.serialize_pem()), ("ca.crt", trusted.pem.clone())];
        for (name, text) in files {
            std::fs::write(certificate.file(name), text).unwrap();
        }
        certificate
    }
}

impl Certificate {
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gives a process this certificate.
    pub fn given_to(&self, run: Run) -> Run {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        run.arg("--tls-cert")
            .arg(&path(&self.file("tls.crt")))
            .arg("--tls-key")
            .arg(&path(&self.file("tls.key")))
            // As a container would be told.
            .env("MILLSTREAM_TLS_CA", &path(&self.file("ca.crt")))
    }
}

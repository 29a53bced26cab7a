//! A private certificate authority and a server's certificate signed by it.
//!
//! Owns: making them by the `openssl` command, valid for 127.0.0.1 and localhost, for a short while.

use crate::subprocess::{require, run};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

const DAYS_VALID: &str = "30";
const NAMES: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";

/// PEM files.
pub(super) struct Certificate {
    /// What a client trusts.
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    /// PKCS#8, not encrypted.
    pub(super) key: PathBuf,
    /// Key and certificate in one file, as a Kafka broker wants them.
    pub(super) keystore: PathBuf,
}

/// Makes both in `folder`.
pub(super) fn make(folder: &Path) -> Result<Certificate> {
    require("openssl", "openssl")?;
    let file = |name: &str| folder.join(name);
    let made = Certificate {
        authority: file("ca.pem"),
        certificate: file("server.pem"),
        key: file("server-key.pem"),
        keystore: file("keystore.pem"),
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    run(Command::new("openssl")
        .args(["req", "-x509", "-days", DAYS_VALID, "-subj", "/CN=Millstream test authority"])
        .args(new_key)
        .arg("-keyout")
        .arg(file("ca-key.pem"))
        .arg("-out")
        .arg(&made.authority))?;
    run(Command::new("openssl")
        .args(["req", "-subj", "/CN=localhost"])
        .args(new_key)
        .arg("-keyout")
        .arg(&made.key)
        .arg("-out")
        .arg(file("request.pem")))?;
    std::fs::write(file("names"), NAMES)?;
    run(Command::new("openssl")
        .args(["x509", "-req", "-days", DAYS_VALID, "-CAcreateserial", "-in"])
        .arg(file("request.pem"))
        .arg("-CA")
        .arg(&made.authority)
        .arg("-CAkey")
        .arg(file("ca-key.pem"))
        .arg("-extfile")
        .arg(file("names"))
        .arg("-out")
        .arg(&made.certificate))?;
    let keystore = [std::fs::read(&made.key)?, std::fs::read(&made.certificate)?].concat();
    std::fs::write(&made.keystore, keystore)?;
    Ok(made)
}

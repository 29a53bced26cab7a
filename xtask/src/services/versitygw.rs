//! versitygw: an S3 server in Go over a folder. It checks credentials and speaks TLS.

mod go;

use crate::endpoints::{Endpoints, S3Endpoint};
use crate::{cache, subprocess};
use anyhow::Result;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const MODULE: &str = "github.com/versity/versitygw/cmd/versitygw";
const VERSION: &str = "v1.8.0";

pub(super) fn install() -> Result<PathBuf> {
    cache::tool(&format!("versitygw-{VERSION}"), "a Go module, built in about 2 minutes", |folder| {
        go::install(&format!("{MODULE}@{VERSION}"), &folder.join("bin"))
    })
}

pub(super) fn start(folder: &Path, tls: bool) -> Result<Endpoints> {
    let [port] = super::ports::free()?;
    let address = format!("127.0.0.1:{port}");
    let (data, metadata, users) = (folder.join("data"), folder.join("metadata"), folder.join("users"));
    // A folder of the first level is a bucket.
    for made in [&data.join(super::S3_BUCKET), &metadata, &users] {
        std::fs::create_dir_all(made)?;
    }
    let mut command = Command::new(install()?.join("bin/versitygw"));
    command.args(["--access", super::S3_ACCESS_KEY_ID, "--secret", super::S3_SECRET_ACCESS_KEY]);
    command.args(["--port", &address, "--quiet", "--keep-alive", "--iam-dir"]).arg(users);
    let certificate = if tls { Some(super::certificates::make(folder)?) } else { None };
    if let Some(made) = &certificate {
        command.arg("--cert").arg(&made.certificate).arg("--key").arg(&made.key);
    }
    // Without `--sidecar` it keeps metadata in extended attributes, which not every file system has.
    command.args(["posix", "--sidecar"]).arg(metadata).arg(data);
    let mut child = subprocess::start_service(&mut command, folder, "log")?;
    super::wait_until_ready("versitygw", &mut child, &folder.join("log"), || TcpStream::connect(&address).is_ok())?;
    let endpoint = S3Endpoint {
        name: if tls { "versitygw-tls" } else { "versitygw" }.to_owned(),
        endpoint: format!("{}://{address}", if tls { "https" } else { "http" }),
        region: "us-east-1".to_owned(),
        access_key_id: super::S3_ACCESS_KEY_ID.to_owned(),
        secret_access_key: super::S3_SECRET_ACCESS_KEY.to_owned(),
        bucket: super::S3_BUCKET.to_owned(),
        ca_file: certificate.map(|made| made.authority),
        checks_credentials: true,
    };
    Ok(if tls {
        Endpoints { s3_tls: Some(endpoint), ..Endpoints::default() }
    } else {
        Endpoints { s3: vec![endpoint], ..Endpoints::default() }
    })
}

//! moto: an S3 server from PyPI. It starts in a second and takes any credentials.

use crate::endpoints::{Endpoints, S3Endpoint};
use crate::{cache, subprocess};
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "5.2.5";
/// Each package with its version, so that the server is the same everywhere.
const REQUIREMENTS: &str = include_str!("moto-requirements.txt");
const SERVER: &str = include_str!("moto_server.py");

pub(super) fn install() -> Result<PathBuf> {
    cache::tool(&format!("moto-{VERSION}"), "from PyPI, about 20 s", |folder| {
        subprocess::require("python3", "python3-venv")?;
        let requirements = folder.join("requirements.txt");
        std::fs::write(&requirements, REQUIREMENTS)?;
        let environment = folder.join("environment");
        subprocess::run(Command::new("python3").args(["-m", "venv"]).arg(&environment))
            .context("failed to make a Python environment (Debian and Ubuntu: apt-get install python3-venv)")?;
        let pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--requirement"];
        subprocess::run(Command::new(environment.join("bin/python")).args(pip).arg(&requirements)).map(drop)
    })
}

pub(super) fn start(folder: &Path) -> Result<Endpoints> {
    let [port] = super::ports::free()?;
    // Not `bin/moto_server`: that script knows only the path under which the environment was made.
    let mut child = subprocess::start_service(
        Command::new(install()?.join("environment/bin/python")).args([
            "-c",
            SERVER,
            "-H",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]),
        folder,
        "log",
    )?;
    let address = format!("127.0.0.1:{port}");
    super::wait_until_ready("moto", &mut child, &folder.join("log"), || make_bucket(&address).is_ok())?;
    Ok(Endpoints {
        s3: vec![S3Endpoint {
            name: "moto".to_owned(),
            endpoint: format!("http://{address}"),
            region: "us-east-1".to_owned(),
            access_key_id: super::S3_ACCESS_KEY_ID.to_owned(),
            secret_access_key: super::S3_SECRET_ACCESS_KEY.to_owned(),
            bucket: super::S3_BUCKET.to_owned(),
            ca_file: None,
            checks_credentials: false,
        }],
        ..Endpoints::default()
    })
}

/// One request by hand: moto wants no signature for it.
fn make_bucket(address: &str) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let path = super::S3_BUCKET;
    write!(stream, "PUT /{path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.lines().next().is_some_and(|status| status.contains(" 200 ")) {
        bail!("moto answered: {answer}");
    }
    Ok(())
}

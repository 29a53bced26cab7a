//! Building a Go program, also where the distribution's Go is too old for it.
//!
//! Owns: finding a Go toolchain that is new enough. Does not own: what is built.

use crate::subprocess::{require, run};
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// From this minor version of Go 1 on, `go` fetches the toolchain that a module asks for by itself.
const FETCHES_TOOLCHAINS: u32 = 21;
/// What an older `go` fetches: toolchains are modules too.
const TOOLCHAIN_VERSION: &str = "v0.0.1-go1.25.0";

/// Builds `program` (`module/path@version`) into `bin`. Go's own caches lie in the same folder and go afterwards.
pub(super) fn install(program: &str, bin: &Path) -> Result<()> {
    require("go", "golang-go")?;
    let caches = bin.with_extension("go-caches");
    fs::create_dir_all(&caches)?;
    let go = if own_minor_version()? >= FETCHES_TOOLCHAINS { PathBuf::from("go") } else { fetch_toolchain(&caches)? };
    let mut install = command(&go, &caches);
    run(install.env("GOBIN", bin).args(["install", program])).context("failed to build it")?;
    fs::remove_dir_all(&caches).with_context(|| format!("failed to remove {}", caches.display()))
}

fn command(go: &Path, caches: &Path) -> Command {
    let mut command = Command::new(go);
    // `-modcacherw`: or the modules' folders could not be removed. No cgo: no C headers are needed.
    command.env("GOPATH", caches.join("path")).env("GOCACHE", caches.join("build")).env("GOFLAGS", "-modcacherw");
    command.env("CGO_ENABLED", "0").current_dir(caches);
    command
}

fn own_minor_version() -> Result<u32> {
    let version = run(Command::new("go").args(["env", "GOVERSION"]))?;
    let minor =
        version.trim().strip_prefix("go1.").and_then(|rest| rest.split(['.', 'r', 'b', ' ', '-']).next()?.parse().ok());
    minor.with_context(|| format!("failed to read Go's version `{}`", version.trim()))
}

/// Gets a newer toolchain as the module that it is; an old `go` does not know that its tools are programs.
fn fetch_toolchain(caches: &Path) -> Result<PathBuf> {
    let platform =
        run(Command::new("go").args(["env", "GOOS", "GOARCH"]))?.split_whitespace().collect::<Vec<_>>().join("-");
    let module = format!("golang.org/toolchain@{TOOLCHAIN_VERSION}.{platform}");
    run(command(Path::new("go"), caches).args(["mod", "download", &module]))
        .with_context(|| format!("failed to fetch {module}"))?;
    let root = caches.join("path/pkg/mod").join(module);
    for folder in [root.join("bin"), root.join("pkg/tool").join(platform.replace('-', "_"))] {
        for tool in fs::read_dir(&folder).with_context(|| format!("failed to list {}", folder.display()))? {
            let tool = tool?.path();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755))?;
        }
    }
    let go = root.join("bin/go");
    if !go.is_file() {
        bail!("the toolchain has no {}", go.display());
    }
    Ok(go)
}

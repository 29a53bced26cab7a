//! Building all test binaries at once.
//!
//! Owns: the profile and the features of the tests, finding the binaries. One build for the whole workspace: built
//! crate by crate, the shared dependencies would be compiled again for each crate's choice of features.

use super::Setting;
use super::checks::cargo;
use super::summary::{Outcome, Summary};
use crate::{clone_root, subprocess};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

pub(crate) const PROFILE: &str = "ci";
/// The package of the binary and its feature that lets crash tests kill it at named places.
const PRODUCT: &str = "millstream";
const FAULT_POINTS: &str = "fault-points";

/// A test binary.
pub(super) struct TestBinary {
    /// The folder of its crate.
    pub(super) krate: String,
    /// `lib` for unit tests, otherwise the name of the test target.
    pub(super) target: String,
    pub(super) program: PathBuf,
    /// Where cargo would run it.
    pub(super) folder: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    profile: Option<Profile>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// The features with which everything is tested.
pub(super) fn features() -> Result<Vec<String>> {
    let metadata = subprocess::run(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("failed to read cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo's metadata has no packages")?;
    let product = packages.iter().find(|package| package["name"] == PRODUCT);
    let has = product.is_some_and(|package| package["features"].get(FAULT_POINTS).is_some());
    Ok(if has { vec![format!("--features={PRODUCT}/{FAULT_POINTS}")] } else { Vec::new() })
}

/// Builds one program with its own features and returns where it is.
pub(crate) fn program(package: &str, profile: &str) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--package", package, "--profile", profile, "--message-format=json-render-diagnostics"]);
    let output = build.current_dir(clone_root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("failed to start cargo")?;
    anyhow::ensure!(output.status.success(), "{package} does not compile ({})", output.status);
    let text = String::from_utf8(output.stdout).context("cargo printed something else than text")?;
    let built = text.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok()?.executable).next_back();
    built.with_context(|| format!("{package} has no program"))
}

/// `None` when something does not compile; cargo has said what.
pub(super) fn test_binaries(setting: &Setting, summary: &mut Summary) -> Result<Option<Vec<TestBinary>>> {
    let begin = Instant::now();
    let mut build = cargo();
    build.args(["test", "--workspace", "--no-run", "--profile", PROFILE]).args(features()?);
    build.arg("--message-format=json-render-diagnostics").current_dir(clone_root());
    subprocess::mark(&mut build, &setting.logs);
    let output = build.stderr(Stdio::inherit()).output().context("failed to start cargo")?;
    let mut outcome = Outcome::check("build", begin.elapsed());
    if !output.status.success() {
        outcome.fail(format!("the tests do not compile ({})", output.status));
    }
    let green = !outcome.failed();
    summary.add(outcome);
    std::fs::write(setting.logs.join("build.json"), &output.stdout)?;
    let text = String::from_utf8(output.stdout).context("cargo printed something else than text")?;
    let mut binaries: Vec<_> = text.lines().filter_map(test_binary).collect();
    // Quick crates first, the binary's end-to-end tests last, a cluster of it at the very end: a plain mistake shows early.
    binaries.sort_by_key(|binary| {
        (binary.krate == "e2e", binary.krate == "cli", binary.krate.clone(), binary.target.clone())
    });
    Ok(green.then_some(binaries))
}

fn test_binary(line: &str) -> Option<TestBinary> {
    let message: Message = serde_json::from_str(line).ok()?;
    if message.reason != "compiler-artifact" || !message.profile?.test {
        return None;
    }
    let folder = message.manifest_path?.parent()?.to_owned();
    let target = message.target?;
    let integration = target.kind.iter().any(|kind| kind == "test");
    Some(TestBinary {
        krate: folder.file_name()?.to_str()?.to_owned(),
        target: if integration { target.name } else { target.kind.first()?.clone() },
        program: message.executable?,
        folder,
    })
}

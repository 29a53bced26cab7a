//! Chores of the repository, and what its tests need to find the services that a chore started.
//!
//! Owns: services for tests, the test run, the rules of the code base. Does not own: anything that the product runs.

pub mod audit;
pub mod bench;
pub mod cache;
pub mod demo;
pub mod endpoints;
pub mod services;
mod subprocess;
pub mod suites;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The top folder of the clone that the caller is in. Several clones may share one build cache, so it is not the one
/// that this was compiled in; outside of any, that one is meant.
pub fn clone_root() -> PathBuf {
    let compiled_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the top");
    let here = std::env::current_dir().unwrap_or_default();
    here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file()).unwrap_or(compiled_in).to_owned()
}

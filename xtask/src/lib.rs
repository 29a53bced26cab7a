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

/// The clone's top folder.
pub fn clone_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies one level below the top").to_owned()
}

//! Known vulnerabilities of the dependencies: `cargo xtask audit`. Apart from the tests, because the database changes
//! when the code does not.

use crate::clone_root;
use crate::suites::checks::cargo_deny;
use anyhow::Result;
use std::process::{Command, ExitCode};

pub fn main() -> Result<ExitCode> {
    let status = Command::new(cargo_deny()?).args(["check", "advisories"]).current_dir(clone_root()).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

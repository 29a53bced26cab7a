//! The rules of this code base that a machine can check: `cargo xtask tidy`.
//!
//! Owns: the rules and their limits. Hard rules fail; budgets are printed so that a review sees where they are
//! exceeded. Does not own: formatting and lints, which rustfmt and clippy check.

mod functions;
mod modules;
mod wording;

use crate::{clone_root, subprocess};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A file of the repository.
struct SourceFile {
    /// Relative to the clone.
    path: PathBuf,
    text: String,
}

/// What was found.
#[derive(Default)]
struct Findings {
    /// Each makes the run fail.
    broken: Vec<String>,
    /// Each is printed.
    over_budget: Vec<String>,
}

impl Findings {
    fn broken(&mut self, path: &Path, line: usize, what: &str) {
        self.broken.push(format!("{}:{line}: {what}", path.display()));
    }

    fn over_budget(&mut self, path: &Path, line: usize, what: &str) {
        self.over_budget.push(format!("{}:{line}: {what}", path.display()));
    }
}

pub fn main() -> Result<ExitCode> {
    let files = tracked_files()?;
    let mut findings = Findings::default();
    wording::check(&files, &mut findings);
    let rust: Vec<_> = files.iter().filter(|file| file.path.extension().is_some_and(|e| e == "rs")).collect();
    let sizes = modules::check(&rust, &mut findings);
    let functions = functions::check(&rust, &mut findings)?;
    for line in &findings.over_budget {
        println!("over budget: {line}");
    }
    for line in &findings.broken {
        println!("broken rule: {line}");
    }
    println!("{sizes}; {functions}; {} broken rules", findings.broken.len());
    Ok(if findings.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Text files under version control, and new ones that nothing excludes.
fn tracked_files() -> Result<Vec<SourceFile>> {
    let root = clone_root();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let mut files = Vec::new();
    for path in subprocess::run(&mut git).context("failed to list the repository's files")?.lines() {
        // Not text, or removed but not yet from the index.
        let Ok(text) = std::fs::read_to_string(root.join(path)) else { continue };
        files.push(SourceFile { path: PathBuf::from(path), text });
    }
    Ok(files)
}

/// Whether the whole file is test code.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    name == "tests" || name.ends_with("_tests") || path.components().any(|part| part.as_os_str() == "tests")
}

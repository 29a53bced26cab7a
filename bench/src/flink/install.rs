//! Obtains Flink: its libraries from PyPI's source archive, the Kafka connector from Maven Central, the submitter by javac.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

const VERSION: &str = "2.2.1";
const CONNECTOR: &str = "org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2";
const SUBMITTER: &str = include_str!("SubmitSql.java");

/// A Flink that can be started.
#[derive(Debug)]
pub struct Installation {
    pub home: PathBuf,
    pub classes: PathBuf,
}

impl Installation {
    /// Installs what is missing; a complete installation is reused.
    pub fn obtain() -> anyhow::Result<Self> {
        let folder = super::cache_folder()?.join("flink");
        let this = Self { home: folder.join(format!("flink-{VERSION}")), classes: folder.join("classes") };
        if !this.home.join("complete").exists() {
            eprintln!("installing Flink {VERSION} into {} (312 MB from PyPI, some minutes)", folder.display());
            fs::create_dir_all(&folder)?;
            download(&folder)?;
            unpack(&folder, &this.home)?;
            run(Command::new("mvn")
                .args(["-q", "-B", "dependency:copy", &format!("-Dartifact={CONNECTOR}")])
                .arg(format!("-DoutputDirectory={}", this.home.join("lib").display())))?;
            fs::write(this.home.join("complete"), "")?;
        }
        this.compile_submitter()?;
        Ok(this)
    }

    fn compile_submitter(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.classes)?;
        let source = self.classes.join("SubmitSql.java");
        if fs::read_to_string(&source).is_ok_and(|s| s == SUBMITTER) && self.classes.join("SubmitSql.class").exists() {
            return Ok(());
        }
        fs::write(&source, SUBMITTER)?;
        run(Command::new("javac").arg("-cp").arg(format!("{}/lib/*", self.home.display())).arg(&source))
    }
}

fn download(folder: &Path) -> anyhow::Result<()> {
    let archives = folder.join("archive");
    if archive(&archives).is_ok() {
        return Ok(());
    }
    let environment = folder.join("python");
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    let pip = environment.join("bin/pip");
    // The archive's own build script needs pkg_resources, which newer versions no longer have.
    run(Command::new(&pip).args(["-q", "install", "setuptools<75", "wheel"]))?;
    run(Command::new(&pip)
        .args(["-q", "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "-d"])
        .arg(&archives)
        .arg(format!("apache-flink-libraries=={VERSION}")))
}

fn archive(folder: &Path) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(folder)?;
    entries
        .filter_map(Result::ok)
        .map(|e| e.path())
        .find(|p| p.to_string_lossy().ends_with(".tar.gz"))
        .with_context(|| format!("no archive in {}", folder.display()))
}

fn unpack(folder: &Path, home: &Path) -> anyhow::Result<()> {
    let unpacked = folder.join("unpacked");
    if unpacked.exists() {
        fs::remove_dir_all(&unpacked)?;
    }
    fs::create_dir_all(&unpacked)?;
    run(Command::new("tar")
        .arg("xzf")
        .arg(archive(&folder.join("archive"))?)
        .arg("-C")
        .arg(&unpacked)
        .arg("--strip-components=1"))?;
    if home.exists() {
        fs::remove_dir_all(home)?;
    }
    fs::rename(unpacked.join("deps"), home)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

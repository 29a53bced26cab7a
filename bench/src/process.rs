//! A job under measurement: one `millstream run` in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::measure::{self, Cost};

/// One process with a log of its own; it is killed when dropped.
#[derive(Debug)]
pub struct Member {
    child: Option<Child>,
    log: PathBuf,
    started: Instant,
}

impl Member {
    /// Its state and its log are in `folder`.
    pub fn start(
        binary: &Path,
        arguments: &[&str],
        environment: &[(&'static str, String)],
        folder: &Path,
        name: &str,
    ) -> anyhow::Result<Self> {
        let log = folder.join(name);
        let started = Instant::now();
        let child = Command::new(binary)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .env("MILLSTREAM_STATE_DIR", folder.join("state"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to start {}", binary.display()))?;
        Ok(Self { child: Some(child), log, started })
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the process was waited for")?.id())
    }

    /// What it has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log).with_context(|| format!("failed to read {}", self.log.display()))
    }

    /// Fails with its log when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.as_mut().context("the process was waited for")?.try_wait()?;
        ensure!(ended.is_none(), "the process ended: {}", self.log()?);
        Ok(())
    }

    /// Waits for the end of a bounded job.
    pub fn wait(&mut self) -> anyhow::Result<Cost> {
        let cost = measure::wait(self.child.take().context("the process was waited for")?, self.started)?;
        ensure!(cost.status.success(), "the process failed: {}", self.log()?);
        Ok(cost)
    }

    /// SIGTERM.
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid()?)?;
        // SAFETY: a signal to a child that was not waited for.
        ensure!(unsafe { libc::kill(pid, libc::SIGTERM) } == 0, "failed to ask process {pid} to end");
        Ok(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A running job in one process.
#[derive(Debug)]
pub struct Process {
    member: Member,
    _folder: TempDir,
    pub started: Instant,
}

impl Process {
    pub fn start(binary: &Path, manifest: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = write_manifest(&folder, manifest)?;
        let started = Instant::now();
        let member = Member::start(binary, &["run", &path], &[], folder.path(), "log")?;
        Ok(Self { member, _folder: folder, started })
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        self.member.pid()
    }

    /// What the job has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        self.member.log()
    }

    /// Fails with the job's log when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.member.check()
    }

    /// Lets the job run so long; fails when it ends before.
    pub fn watch(&mut self, duration: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(500).min(end.saturating_duration_since(Instant::now())));
            self.check()?;
        }
        Ok(())
    }

    /// Waits for the end of a bounded job.
    pub fn wait(mut self) -> anyhow::Result<Cost> {
        self.member.wait()
    }
}

/// Returns the path, for a command line.
pub fn write_manifest(folder: &TempDir, manifest: &str) -> anyhow::Result<String> {
    let path = folder.path().join("job.yaml");
    std::fs::write(&path, manifest)?;
    Ok(path.display().to_string())
}

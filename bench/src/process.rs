//! A job under measurement: one `millstream run` in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::measure::{self, Cost};

/// A running job; it is killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
    folder: TempDir,
    pub started: Instant,
}

impl Process {
    pub fn start(binary: &Path, manifest: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("job.yaml");
        std::fs::write(&path, manifest)?;
        let started = Instant::now();
        let child = Command::new(binary)
            .arg("run")
            .arg(&path)
            .env("MILLSTREAM_STATE_DIR", folder.path().join("state"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("log"))?)
            .spawn()
            .with_context(|| format!("failed to start {}", binary.display()))?;
        Ok(Self { child: Some(child), folder, started })
    }

    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.child.as_ref().context("the job was waited for")?.id())
    }

    /// What the job has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        let path: PathBuf = self.folder.path().join("log");
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// Fails with the job's log when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.as_mut().context("the job was waited for")?.try_wait()?;
        ensure!(ended.is_none(), "the job ended: {}", self.log()?);
        Ok(())
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
        let cost = measure::wait(self.child.take().context("the job was waited for")?, self.started)?;
        ensure!(cost.status.success(), "the job failed: {}", self.log()?);
        Ok(cost)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

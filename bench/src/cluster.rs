//! A job under measurement in processes of its own: one coordinator, and workers.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::measure::Cost;
use crate::process::{Member, write_manifest};
use crate::rest;

/// A running job; its processes are killed when dropped.
pub struct Cluster {
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
    folder: TempDir,
    listen: String,
    /// Of its operations API.
    page: String,
    coordinator: Member,
    workers: Vec<Member>,
    started: usize,
}

impl Cluster {
    /// A coordinator without workers.
    pub fn start(binary: &Path, manifest: &str, environment: &[(&'static str, String)]) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = write_manifest(&folder, manifest)?;
        let (listen, page) = (free_address()?, free_address()?);
        let arguments = ["coordinator", &path, "--listen", &listen, "--http", &page];
        let coordinator = Member::start(binary, &arguments, environment, folder.path(), "coordinator")?;
        let (binary, environment) = (binary.to_owned(), environment.to_vec());
        Ok(Self { binary, environment, folder, listen, page, coordinator, workers: Vec::new(), started: 0 })
    }

    /// A worker with so many slots.
    pub fn add_worker(&mut self, slots: u32) -> anyhow::Result<()> {
        let slots = slots.to_string();
        let arguments = ["worker", "--coordinator", &self.listen, "--slots", &slots, "--shuffle-listen", "127.0.0.1:0"];
        let name = format!("worker-{}", self.started);
        self.started += 1;
        self.workers.push(Member::start(&self.binary, &arguments, &self.environment, self.folder.path(), &name)?);
        Ok(())
    }

    /// `kill -9`, or a polite request, which is waited for.
    pub fn end_worker(&mut self, number: usize, politely: bool) -> anyhow::Result<()> {
        let mut worker = self.workers.remove(number);
        if politely {
            worker.ask_to_end()?;
            worker.wait()?;
        }
        Ok(())
    }

    /// Fails with the log of a process that has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.members().try_for_each(Member::check)
    }

    pub fn log(&self) -> anyhow::Result<String> {
        self.coordinator.log()
    }

    /// Waits for the end of a bounded job. Costs are sums, but for the time of the wall.
    pub fn wait(mut self) -> anyhow::Result<Cost> {
        let mut total = self.coordinator.wait()?;
        for worker in &mut self.workers {
            let cost = worker.wait()?;
            total.processor += cost.processor;
            total.resident_bytes_max += cost.resident_bytes_max;
        }
        Ok(total)
    }

    fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        std::iter::once(&mut self.coordinator).chain(&mut self.workers)
    }

    /// Changes the parallelism while the job runs, and waits until that is done. What is said of it.
    pub fn rescale(&self, parallelism: u32, id: &str) -> anyhow::Result<String> {
        let asked = serde_json::json!({ "operationId": id, "parallelism": parallelism });
        let answer = rest::post(&self.page, "/v1/rescale", &asked)?;
        anyhow::ensure!(answer["state"] == "DONE", "the job was not rescaled: {answer}");
        Ok(answer["message"].as_str().unwrap_or_default().to_owned())
    }

    /// Takes a savepoint while the job runs, and waits for it. What is said of it.
    pub fn savepoint(&self, folder: &str, id: &str) -> anyhow::Result<String> {
        let asked = serde_json::json!({ "operationId": id, "folder": folder });
        let answer = rest::post(&self.page, "/v1/savepoint", &asked)?;
        anyhow::ensure!(answer["state"] == "DONE", "no savepoint was taken: {answer}");
        Ok(answer["message"].as_str().unwrap_or_default().to_owned())
    }

    /// What it says of the job; `None` while it does not answer.
    pub fn status(&self) -> Option<serde_json::Value> {
        rest::get(&self.page, "/v1/status").ok()
    }
}

/// An address of this host that nobody listens on.
fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

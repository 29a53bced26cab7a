//! The folder that holds the state of a set of services.
//!
//! Owns: the lock on it, one folder per service, what runs, the endpoints file. Does not own: how a service starts.

use super::Service;
use crate::endpoints::{self, Endpoints};
use crate::{cache, subprocess};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a service may take to end when it is asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// A start is tried again when another process took a port between its choice and its use.
const STARTS_MAX: u32 = 3;

pub(super) struct RunFolder {
    folder: PathBuf,
    _lock: File,
}

/// Written in a service's folder when it answers.
#[derive(Serialize, Deserialize)]
struct Running {
    properties: Vec<(String, String)>,
    /// A service with a process less does not run.
    processes: usize,
    endpoints: Endpoints,
}

impl RunFolder {
    /// Opens it for this process alone: two runs at once take turns.
    pub(super) fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        // The mark of a service's processes: the same spelling of the path each time.
        let folder = folder.canonicalize()?;
        let lock = cache::lock(&folder.join("lock"), "another `services` command on the same folder")?;
        Ok(Self { folder, _lock: lock })
    }

    pub(super) fn up(&self, services: &[Service], properties: &[(String, String)]) -> Result<Endpoints> {
        for &service in services {
            if let Some(running) = self.read(service)? {
                if matches!(service, Service::Kafka(_)) && running.properties != properties {
                    bail!("{} runs with other properties: stop it first, or use another --run folder", service.name());
                }
                continue;
            }
            let outcome = self.start(service, properties);
            self.write_endpoints()?;
            outcome?;
        }
        self.endpoints()
    }

    fn start(&self, service: Service, properties: &[(String, String)]) -> Result<()> {
        let folder = self.service_folder(service);
        for attempt in 1.. {
            // What a dead run left goes first.
            self.stop(service)?;
            fs::create_dir_all(&folder)?;
            let begin = Instant::now();
            match service.start(&folder, properties) {
                Ok(endpoints) => {
                    let processes = subprocess::service_processes(&folder)?.len();
                    let running = Running { properties: properties.to_vec(), processes, endpoints };
                    fs::write(folder.join("running.json"), serde_json::to_vec_pretty(&running)?)?;
                    eprintln!("{} answers after {:.1} s", service.name(), begin.elapsed().as_secs_f32());
                    return Ok(());
                }
                Err(error) => {
                    kill(&folder)?;
                    let port_taken = format!("{error:#}").to_lowercase().contains("address already in use");
                    if attempt >= STARTS_MAX || !port_taken {
                        return Err(error.context(format!("failed to start {}", service.name())));
                    }
                }
            }
        }
        unreachable!("the last attempt returns")
    }

    pub(super) fn down(&self, services: &[Service]) -> Result<()> {
        services.iter().try_for_each(|&service| self.stop(service))?;
        self.write_endpoints()
    }

    fn stop(&self, service: Service) -> Result<()> {
        let folder = self.service_folder(service);
        kill(&folder)?;
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
        }
        Ok(())
    }

    pub(super) fn running(&self, services: &[Service]) -> Result<Vec<Service>> {
        let mut running = Vec::new();
        for &service in services {
            if self.read(service)?.is_some() {
                running.push(service);
            }
        }
        Ok(running)
    }

    pub(super) fn endpoints(&self) -> Result<Endpoints> {
        let mut endpoints = Endpoints::default();
        for &service in super::Name::All.services() {
            if let Some(running) = self.read(service)? {
                endpoints.merge(running.endpoints);
            }
        }
        Ok(endpoints)
    }

    fn write_endpoints(&self) -> Result<()> {
        let file = endpoints::file(&self.folder);
        let endpoints = self.endpoints()?;
        if endpoints == Endpoints::default() {
            return fs::remove_file(&file).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error).with_context(|| format!("failed to remove {}", file.display())),
            });
        }
        fs::write(&file, endpoints.to_json()).with_context(|| format!("failed to write {}", file.display()))
    }

    /// `None` unless all its processes live.
    fn read(&self, service: Service) -> Result<Option<Running>> {
        let folder = self.service_folder(service);
        let Ok(text) = fs::read(folder.join("running.json")) else { return Ok(None) };
        let Ok(running) = serde_json::from_slice::<Running>(&text) else { return Ok(None) };
        let living = subprocess::service_processes(&folder)?.len();
        Ok((living == running.processes).then_some(running))
    }

    pub(super) fn service_folder(&self, service: Service) -> PathBuf {
        self.folder.join(service.name())
    }
}

/// Ends every process of the service in `folder`, politely first.
fn kill(folder: &Path) -> Result<()> {
    let begin = Instant::now();
    for pid in subprocess::service_processes(folder)? {
        subprocess::signal(pid, libc::SIGTERM);
    }
    loop {
        let living = subprocess::service_processes(folder)?;
        if living.is_empty() {
            return Ok(());
        }
        if begin.elapsed() > STOP_PATIENCE {
            living.into_iter().for_each(|pid| subprocess::signal(pid, libc::SIGKILL));
        }
        subprocess::pause(POLL_INTERVAL);
    }
}

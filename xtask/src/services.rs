//! Real Kafka brokers and S3 servers on this machine, for tests and for people.
//!
//! Owns: which services there are, their life, where their endpoints are written. Does not own: how each is obtained
//! and started (its own module).

mod certificates;
mod kafka;
mod moto;
mod ports;
mod run_folder;
mod versitygw;

use crate::endpoints::Endpoints;
use crate::subprocess::{self, pause};
use anyhow::{Result, bail};
use clap::{Subcommand, ValueEnum};
use run_folder::RunFolder;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};
use std::time::{Duration, Instant};

/// How long a server may take to answer; a busy machine takes ten times what an idle one does.
const READY_PATIENCE: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

const S3_ACCESS_KEY_ID: &str = "millstream";
const S3_SECRET_ACCESS_KEY: &str = "millstream-secret";
const S3_BUCKET: &str = "millstream";

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
    /// Folder of the services' state; another folder is another set of services. Default: `.dev/services` in the clone.
    #[arg(long, global = true, value_name = "FOLDER")]
    run: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// Starts services that do not run yet, fetching them at first use; prints their endpoints as `export NAME='value'`.
    Up {
        #[arg(default_values = ["kafka", "s3"])]
        names: Vec<Name>,
        /// Prints the endpoints as JSON.
        #[arg(long)]
        json: bool,
        /// Sets a property of the brokers started now, as in `--set message.max.bytes=100000`.
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = kafka::parse_property)]
        properties: Vec<(String, String)>,
    },
    /// Stops services and removes their data. Default: all.
    Down {
        #[arg(default_values = ["all"])]
        names: Vec<Name>,
    },
    /// Kills one of the three brokers of kafka3 (`kill -9`), or starts it again with its data.
    Broker {
        action: BrokerAction,
        #[arg(value_parser = clap::value_parser!(u8).range(1..=3))]
        id: u8,
    },
    /// Says what runs. The exit code is 0 when every named service does.
    Status {
        #[arg(default_values = ["all"])]
        names: Vec<Name>,
        #[arg(long)]
        json: bool,
    },
    /// Fetches and builds what the services need, and starts nothing.
    Install {
        #[arg(default_values = ["all"])]
        names: Vec<Name>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BrokerAction {
    Kill,
    /// Returns when all three know each other again.
    Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// One broker.
    Kafka,
    /// Three brokers.
    Kafka3,
    /// One broker with TLS and SASL.
    KafkaSecure,
    /// moto: starts at once, takes any credentials.
    S3,
    /// versitygw: checks credentials; once plain and once with TLS.
    S3Strict,
    All,
}

/// A service that can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    Kafka(kafka::Kind),
    Moto,
    Versitygw { tls: bool },
}

impl Name {
    /// All but `All`.
    pub const EACH: [Name; 5] = [Name::Kafka, Name::Kafka3, Name::KafkaSecure, Name::S3, Name::S3Strict];

    fn services(self) -> &'static [Service] {
        const ALL: [Service; 6] = [
            Service::Kafka(kafka::Kind::One),
            Service::Kafka(kafka::Kind::Three),
            Service::Kafka(kafka::Kind::Secure),
            Service::Moto,
            Service::Versitygw { tls: false },
            Service::Versitygw { tls: true },
        ];
        match self {
            Name::Kafka => &ALL[0..1],
            Name::Kafka3 => &ALL[1..2],
            Name::KafkaSecure => &ALL[2..3],
            Name::S3 => &ALL[3..4],
            Name::S3Strict => &ALL[4..6],
            Name::All => &ALL,
        }
    }
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Kafka(kind) => kind.name(),
            Service::Moto => "moto",
            Service::Versitygw { tls: false } => "versitygw",
            Service::Versitygw { tls: true } => "versitygw-tls",
        }
    }

    fn install(self) -> Result<()> {
        match self {
            Service::Kafka(_) => kafka::install().map(drop),
            Service::Moto => moto::install().map(drop),
            Service::Versitygw { .. } => versitygw::install().map(drop),
        }
    }

    /// Starts it in `folder`, which is empty, and waits until it answers.
    fn start(self, folder: &Path, properties: &[(String, String)]) -> Result<Endpoints> {
        match self {
            Service::Kafka(kind) => kafka::start(kind, folder, properties),
            Service::Moto => moto::start(folder),
            Service::Versitygw { tls } => versitygw::start(folder, tls),
        }
    }
}

/// Where the services of this clone live unless `--run` says otherwise.
pub fn default_run_folder() -> PathBuf {
    crate::clone_root().join(".dev/services")
}

pub fn main(arguments: Arguments) -> Result<ExitCode> {
    let run = arguments.run.unwrap_or_else(default_run_folder);
    match arguments.action {
        Action::Up { names, json, properties } => {
            let endpoints = up(run, &names, &properties)?;
            print(&endpoints, json);
        }
        Action::Down { names } => RunFolder::open(run)?.down(&distinct(&names))?,
        Action::Broker { action, id } => {
            let folder = RunFolder::open(run)?.service_folder(Service::Kafka(kafka::Kind::Three));
            match action {
                BrokerAction::Kill => kafka::kill_broker(&folder, id)?,
                BrokerAction::Start => kafka::start_broker(&folder, id)?,
            }
        }
        Action::Status { names, json } => return status(run, &names, json),
        Action::Install { names } => distinct(&names).into_iter().try_for_each(Service::install)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts what does not run yet. Returns the endpoints of all that runs.
pub fn up(run: PathBuf, names: &[Name], properties: &[(String, String)]) -> Result<Endpoints> {
    let services = distinct(names);
    services.iter().try_for_each(|service| service.install())?;
    RunFolder::open(run)?.up(&services, properties)
}

/// Stops all services in `run`.
pub fn down(run: PathBuf) -> Result<()> {
    RunFolder::open(run)?.down(Name::All.services())
}

/// Endpoints of what runs in `run`.
pub fn endpoints(run: PathBuf) -> Result<Endpoints> {
    RunFolder::open(run)?.endpoints()
}

/// The process of the single broker in `run`, for who measures it.
pub fn broker_pid(run: &Path) -> Result<Option<i32>> {
    let folder = run.canonicalize()?.join(Service::Kafka(kafka::Kind::One).name());
    Ok(subprocess::service_processes(&folder)?.first().copied())
}

/// Where Kafka's own tools are, for who measures with them.
pub fn kafka_jars() -> Result<PathBuf> {
    Ok(kafka::install()?.join("jars"))
}

fn distinct(names: &[Name]) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for &service in names.iter().flat_map(|name| name.services()) {
        if !services.contains(&service) {
            services.push(service);
        }
    }
    services
}

fn status(run: PathBuf, names: &[Name], json: bool) -> Result<ExitCode> {
    let folder = RunFolder::open(run)?;
    let services = distinct(names);
    let running = folder.running(&services)?;
    for service in &services {
        let state = if running.contains(service) { "runs" } else { "does not run" };
        eprintln!("{:<14} {state}", service.name());
    }
    print(&folder.endpoints()?, json);
    Ok(if running.len() == services.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(endpoints: &Endpoints, json: bool) {
    if json {
        println!("{}", endpoints.to_json());
        return;
    }
    for (name, value) in endpoints.variables() {
        println!("export {name}='{value}'");
    }
}

/// Waits until `ready` says so; gives up when `child` ends or time is over, and shows its log.
fn wait_until_ready(what: &str, child: &mut Child, log: &Path, mut ready: impl FnMut() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !ready() {
        if let Some(status) = child.try_wait()? {
            bail!("{what} ended while it started ({status}); its log ends with:\n{}", subprocess::log_tail(log));
        }
        if begin.elapsed() > READY_PATIENCE {
            bail!(
                "{what} does not answer after {} s; its log ends with:\n{}",
                READY_PATIENCE.as_secs(),
                subprocess::log_tail(log)
            );
        }
        pause(POLL_INTERVAL);
    }
    Ok(())
}

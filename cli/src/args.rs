//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_api::flinkjob::Duration;
use millstream_store::StoreOptions;

use crate::checkpoints::args::CheckpointsArguments;
use crate::exit::Exit;
use crate::savepoint::args::SavepointArguments;
use crate::state::args::StateArguments;
use crate::{ask, checkpoints, coordinator, explain, run, savepoint, state, worker};

/// Flink-style stream processing.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a job in this process until it ends or is stopped; run again, it goes on from its last checkpoint.
    Run(OneProcessArguments),
    /// Run a job's master in this process; workers that run its tasks come over the network.
    Coordinator(CoordinatorArguments),
    /// Run tasks of a job whose coordinator is another process.
    Worker(WorkerArguments),
    /// Check a manifest and its SQL without running anything.
    Validate(JobArguments),
    /// Print the dataflow graph of a job, or what would become of its stored state.
    Explain(ExplainArguments),
    /// Show what a running job does: tasks, checkpoints, splits and their lag, restarts.
    Status(StatusArguments),
    /// Check a manifest against a running job: what of its state would be kept, dropped or refused. Nothing is touched.
    Prepare(PrepareArguments),
    /// Stop a running job with a last checkpoint, from which it can go on; or drain it, so that it has finished.
    Stop(StopArguments),
    /// Change the parallelism of a running job, while it runs.
    Rescale(RescaleArguments),
    /// Look into stored state: the tables of a checkpoint or a savepoint, SQL over them, skewed keys.
    State(StateArguments),
    /// The checkpoints that a job retains: list, show, verify and release them.
    Checkpoints(CheckpointsArguments),
    /// Take a savepoint of a running job: a copy of a checkpoint that needs nothing else to go on from.
    Savepoint(SavepointArguments),
}

/// How a place in S3 is reached that no job's manifest speaks of.
#[derive(Debug, Args)]
pub struct S3Arguments {
    /// Server of a place in S3 other than AWS, such as http://host:9000. A job's manifest says its own.
    #[arg(long, value_name = "URL")]
    s3_endpoint: Option<String>,
    /// Region of a place in S3.
    #[arg(long, value_name = "REGION")]
    s3_region: Option<String>,
}

impl S3Arguments {
    pub fn are_given(&self) -> bool {
        self.s3_endpoint.is_some() || self.s3_region.is_some()
    }

    pub fn options(&self) -> StoreOptions {
        let (endpoint, region) = (self.s3_endpoint.clone(), self.s3_region.clone());
        StoreOptions { endpoint, region, ..StoreOptions::default() }
    }
}

/// Which job.
#[derive(Debug, Args)]
pub struct JobArguments {
    /// The manifest: a YAML file of kind FlinkJob.
    pub manifest: PathBuf,
}

#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Serve /metrics, /healthz and the operations API as JSON on this address, such as 127.0.0.1:9180.
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Structure of the log on standard error. On a terminal, `auto` shows a live line and only warnings.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// Take the job's log over from this owner, as the refusal names it.
    #[arg(long, value_name = "OWNER")]
    pub take_over: Option<String>,
    /// Start from this savepoint, s3://bucket/path or a folder, as spec.restore.savepoint. It counts once.
    #[arg(long, value_name = "SAVEPOINT")]
    pub from_savepoint: Option<String>,
    /// Run with this parallelism instead of the manifest's.
    #[arg(long, value_name = "TASKS")]
    pub parallelism: Option<u32>,
}

#[derive(Debug, Args)]
pub struct OneProcessArguments {
    #[command(flatten)]
    pub run: RunArguments,
    /// Serve the operations API for `millstream status` and `millstream stop` on this address, such as 127.0.0.1:9182.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct CoordinatorArguments {
    #[command(flatten)]
    pub run: RunArguments,
    /// Take workers, and serve the operations API, on this address, such as 0.0.0.0:6123.
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: String,
    /// Where other processes reach that address, if it is not what is listened on. Default: this host's name where every
    /// address is listened on.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Whose job it is. Coordinators of one job on several machines must say the same. Default: this user on this machine.
    #[arg(long, value_name = "OWNER")]
    pub owner: Option<String>,
    #[command(flatten)]
    pub tls: TlsArguments,
}

#[derive(Debug, Args)]
pub struct WorkerArguments {
    /// Where the job's coordinators are, separated by commas.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', required = true)]
    pub coordinator: Vec<String>,
    /// Task indexes that this process runs at once, a thread each.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub slots: u32,
    /// Only serve this job. Default: whatever job the coordinator has.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pub job: Option<String>,
    /// Take rows from other workers on this address.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:0")]
    pub shuffle_listen: String,
    /// How other workers reach this machine. Default: the address by which it reaches the coordinator.
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// How long tasks may take to move to other workers when this process is asked to stop.
    #[arg(long, value_name = "DURATION", default_value = "30 s")]
    pub drain_timeout: Duration,
    /// Serve /metrics and /healthz on this address, such as 127.0.0.1:9181.
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Structure of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    #[command(flatten)]
    pub tls: TlsArguments,
}

/// Certificates for the connections between the processes of a job: all three, or none.
#[derive(Clone, Debug, Args)]
pub struct TlsArguments {
    /// This process's certificate with the chain up to the authority, as PEM. It names the process by the URI
    /// millstream://NAMESPACE/JOB/ROLE, where the role is coordinator, worker or operator.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, as PEM, unencrypted.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// The authority that signs the job's certificates, as PEM.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `text`, with a live line where standard error is a terminal.
    Auto,
    Text,
    Json,
}

impl LogFormat {
    /// For processes that have nothing to show on a live line.
    pub fn without_live_line(self) -> Self {
        if self == Self::Auto { Self::Text } else { self }
    }
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Form of the graph, or of the answer to --against.
    #[arg(long, short, value_enum, default_value_t = ExplainFormat::Text)]
    pub output: ExplainFormat,
    /// Instead of the graph, print what would become of stored state if the job started from it: a savepoint's folder or URI,
    /// or, without a value, the job's newest checkpoint. Nothing is touched.
    #[arg(long, value_name = "SAVEPOINT", num_args = 0..=1, default_missing_value = "")]
    pub against: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Json,
    Mermaid,
}

/// Which coordinator.
#[derive(Debug, Args)]
pub struct AskedArguments {
    /// Where it listens: the address of its `--listen`. Of several, any one.
    #[arg(long, value_name = "HOST:PORT", env = "MILLSTREAM_COORDINATOR")]
    pub coordinator: String,
    #[command(flatten)]
    pub tls: TlsArguments,
}

#[derive(Debug, Args)]
pub struct StatusArguments {
    #[command(flatten)]
    pub asked: AskedArguments,
    /// Go on, and print the status again whenever it changes.
    #[arg(long, short)]
    pub watch: bool,
    /// Form of the status. As JSON it is the operations API's, one object per line.
    #[arg(long, short, value_enum, default_value_t = StatusFormat::Table)]
    pub output: StatusFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct PrepareArguments {
    #[command(flatten)]
    pub job: JobArguments,
    #[command(flatten)]
    pub asked: AskedArguments,
    /// Form of the answer. As JSON it is the operations API's.
    #[arg(long, short, value_enum, default_value_t = StatusFormat::Table)]
    pub output: StatusFormat,
}

#[derive(Debug, Args)]
pub struct StopArguments {
    #[command(flatten)]
    pub asked: AskedArguments,
    /// As if all input ended now: windows and timers fire, and the job has finished; it does not go on from there.
    #[arg(long)]
    pub drain: bool,
    /// Name of this stop, to ask again with when the answer was lost. Drawn when it is not given.
    #[arg(long, value_name = "ID")]
    pub operation_id: Option<String>,
}

#[derive(Debug, Args)]
pub struct RescaleArguments {
    #[command(flatten)]
    pub asked: AskedArguments,
    /// Tasks of each kind, 1 to the job's maxParallelism. It holds until `spec.parallelism` is edited.
    #[arg(long, value_name = "TASKS")]
    pub parallelism: u32,
    /// Name of this change, to ask again with when the answer was lost. Drawn when it is not given.
    #[arg(long, value_name = "ID")]
    pub operation_id: Option<String>,
}

impl Arguments {
    /// Runs the command. Its result is the process's exit code.
    pub fn execute(self) -> Exit {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Coordinator(arguments) => coordinator::run(&arguments),
            Command::Worker(arguments) => worker::run(&arguments),
            Command::Validate(arguments) => explain::validate(&arguments),
            Command::Explain(arguments) => explain::explain(&arguments),
            Command::Status(arguments) => ask::status(&arguments),
            Command::Prepare(arguments) => ask::prepare::prepare(&arguments),
            Command::Stop(arguments) => ask::stop(&arguments),
            Command::Rescale(arguments) => ask::rescale(&arguments),
            Command::State(arguments) => state::run(arguments),
            Command::Checkpoints(arguments) => checkpoints::run(&arguments),
            Command::Savepoint(arguments) => savepoint::run(&arguments),
        }
    }
}

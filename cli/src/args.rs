//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit::Exit;
use crate::{explain, run};

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
    Run(RunArguments),
    /// Check a manifest and its SQL without running anything.
    Validate(JobArguments),
    /// Print the dataflow graph of a job.
    Explain(ExplainArguments),
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
    /// Serve /metrics, /healthz and /status on this address, such as 127.0.0.1:9180.
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<SocketAddr>,
    /// Structure of the log on standard error. On a terminal, `auto` shows a live line and only warnings.
    #[arg(long, value_enum, default_value_t = LogFormat::Auto)]
    pub log_format: LogFormat,
    /// Take the job's log over from this owner, as the refusal names it.
    #[arg(long, value_name = "OWNER")]
    pub take_over: Option<String>,
    /// Run with this parallelism instead of the manifest's.
    #[arg(long, value_name = "TASKS")]
    pub parallelism: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `text`, with a live line where standard error is a terminal.
    Auto,
    Text,
    Json,
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    #[command(flatten)]
    pub job: JobArguments,
    /// Form of the graph.
    #[arg(long, short, value_enum, default_value_t = ExplainFormat::Text)]
    pub output: ExplainFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    Text,
    Json,
    Mermaid,
}

impl Arguments {
    /// Runs the command. Its result is the process's exit code.
    pub fn execute(self) -> Exit {
        match self.command {
            Command::Run(arguments) => run::run(&arguments),
            Command::Validate(arguments) => explain::validate(&arguments),
            Command::Explain(arguments) => explain::explain(&arguments),
        }
    }
}

//! The command line of `millstream checkpoints`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::state::args::SourceArguments;

#[derive(Debug, Args)]
pub struct CheckpointsArguments {
    #[command(subcommand)]
    pub command: CheckpointsCommand,
}

#[derive(Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// List what the job retains, oldest first, and which one a start goes on from.
    List(ListArguments),
    /// Show what is in a checkpoint or a savepoint: tables, positions, watermarks, transactions.
    Show(ShowArguments),
    /// Read everything that the job's checkpoints or a savepoint name, and check that it is what was written.
    Verify(VerifyArguments),
    /// Drop a retained checkpoint of a stopped job, with the objects that no other one names.
    Release(ReleaseArguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CheckpointFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// The job's manifest file.
    #[arg(value_name = "MANIFEST")]
    pub manifest: PathBuf,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = CheckpointFormat::Table)]
    pub output: CheckpointFormat,
}

#[derive(Debug, Args)]
pub struct ShowArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = CheckpointFormat::Table)]
    pub output: CheckpointFormat,
}

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// With --checkpoint only that one of a job, otherwise its log and all of them.
    #[command(flatten)]
    pub source: SourceArguments,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = CheckpointFormat::Table)]
    pub output: CheckpointFormat,
}

#[derive(Debug, Args)]
pub struct ReleaseArguments {
    /// The job's manifest file.
    #[arg(value_name = "MANIFEST")]
    pub manifest: PathBuf,
    /// The checkpoint to drop, as `millstream checkpoints list` shows it.
    #[arg(long, value_name = "SEQ")]
    pub checkpoint: u64,
    /// And all before it: a log has no holes.
    #[arg(long)]
    pub and_older: bool,
}

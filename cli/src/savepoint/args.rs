//! The command line of `millstream savepoint`.

use clap::{Args, Subcommand};

use crate::args::{S3Arguments, StatusFormat, TlsArguments};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct SavepointArguments {
    #[command(subcommand)]
    pub command: Option<SavepointCommand>,
    #[command(flatten)]
    pub take: TakeArguments,
}

#[derive(Debug, Subcommand)]
pub enum SavepointCommand {
    /// Show the savepoints in a folder, oldest first.
    List(ListArguments),
    /// Delete a savepoint with all of its objects.
    Delete(DeleteArguments),
}

#[derive(Debug, Args)]
pub struct TakeArguments {
    /// Where the job's coordinator listens: the address of its `--listen`. Of several, any one.
    #[arg(long, value_name = "HOST:PORT", env = "MILLSTREAM_COORDINATOR")]
    pub coordinator: Option<String>,
    #[command(flatten)]
    pub tls: TlsArguments,
    /// The folder in which the savepoint gets a folder of its own: s3://bucket/path or a directory that the coordinator
    /// reaches. Default: the folder `savepoints` beside the job's checkpoints.
    #[arg(long, value_name = "FOLDER")]
    pub path: Option<String>,
    /// End the job with it: nothing is read after it.
    #[arg(long)]
    pub stop: bool,
    /// With --stop: as if all input ended now; windows and timers fire, and the job has finished.
    #[arg(long, requires = "stop")]
    pub drain: bool,
    /// Name of this savepoint, to ask again with when the answer was lost. Drawn when it is not given.
    #[arg(long, value_name = "ID")]
    pub operation_id: Option<String>,
}

#[derive(Debug, Args)]
pub struct ListArguments {
    /// A job's manifest file, or the folder or URI that savepoints were taken into.
    #[arg(value_name = "MANIFEST|FOLDER")]
    pub place: String,
    #[command(flatten)]
    pub s3: S3Arguments,
    #[arg(long, short, value_enum, default_value_t = StatusFormat::Table)]
    pub output: StatusFormat,
}

#[derive(Debug, Args)]
pub struct DeleteArguments {
    /// The savepoint's folder or URI.
    #[arg(value_name = "SAVEPOINT")]
    pub place: String,
    #[command(flatten)]
    pub s3: S3Arguments,
    /// Also where the savepoint was not completed, or half deleted.
    #[arg(long)]
    pub incomplete: bool,
}

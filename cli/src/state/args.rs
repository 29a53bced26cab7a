//! The command line of `millstream state`, and how commands name what they look into.

use clap::{Args, Subcommand, ValueEnum};

use crate::args::S3Arguments;

/// What is looked into.
#[derive(Debug, Args)]
// By this argument it is known whether one is named; by itself the group would have none, as another struct is flattened into it.
#[group(arg = "place")]
pub struct SourceArguments {
    /// A job's manifest file, or a savepoint: its folder, or its URI such as s3://bucket/path.
    #[arg(value_name = "MANIFEST|SAVEPOINT")]
    pub place: String,
    /// The job's checkpoint of this number, as `millstream checkpoints list` shows it. Default: the newest.
    #[arg(long, value_name = "SEQ")]
    pub checkpoint: Option<u64>,
    #[command(flatten)]
    pub s3: S3Arguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RowFormat {
    Table,
    Csv,
    /// One object per line.
    Json,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true, arg_required_else_help = true)]
pub struct StateArguments {
    #[command(subcommand)]
    pub command: Option<StateCommand>,
    #[command(flatten)]
    pub source: Option<SourceArguments>,
    /// A line for each key group that has rows.
    #[arg(long)]
    pub key_groups: bool,
    /// Form of the answer. As CSV it has a line for each key group that has rows.
    #[arg(long, short, value_enum, default_value_t = RowFormat::Table)]
    pub output: RowFormat,
}

#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Run SQL over the tables, and print the rows.
    Query(QueryArguments),
    /// Find keys, key groups and tasks that have more state than others.
    Skew(SkewArguments),
}

#[derive(Debug, Args)]
pub struct QueryArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// The statement. Tables are called as `millstream state` shows them, or "uid"."table".
    #[arg(value_name = "SQL")]
    pub sql: String,
    /// Form of the rows.
    #[arg(long, short, value_enum, default_value_t = RowFormat::Table)]
    pub output: RowFormat,
}

#[derive(Debug, Args)]
pub struct SkewArguments {
    #[command(flatten)]
    pub source: SourceArguments,
    /// Keys and key groups that are shown of each table.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub top: u16,
    /// Judge by this number of tasks. Default: as the checkpoint was taken.
    #[arg(long, value_name = "TASKS", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallelism: Option<u32>,
    /// Form of the answer.
    #[arg(long, short, value_enum, default_value_t = SkewFormat::Table)]
    pub output: SkewFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SkewFormat {
    Table,
    Json,
}

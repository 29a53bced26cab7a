//! The `millstream` binary.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod coordinator;
mod exit;
mod explain;
mod job_file;
mod logging;
mod owner;
mod run;
mod worker;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    args::Arguments::parse().execute().into()
}

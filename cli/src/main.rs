//! The `millstream` binary.

#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::process::ExitCode;

use clap::Parser;

mod against;
mod args;
mod ask;
mod checkpoints;
mod coordinator;
mod exit;
mod explain;
mod http;
mod job_file;
mod logging;
mod owner;
mod run;
mod savepoint;
mod state;
mod tls;
mod worker;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    args::Arguments::parse().execute().into()
}

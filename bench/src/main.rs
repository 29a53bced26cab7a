//! Load generator and measuring client: events into Kafka, jobs run and measured, topics counted and digested.

use clap::Parser;

mod arguments;
mod cluster;
mod events;
mod fill;
mod flink;
mod footprint;
mod gaps;
mod jobs;
mod keyed;
mod latency;
mod loopback;
mod machine;
mod manifest;
mod measure;
mod process;
mod recovery;
mod rescale;
mod rest;
mod savepoint;
mod scene;
mod shuffle;
mod throttled;
mod topics;

fn main() -> anyhow::Result<()> {
    arguments::Arguments::parse().execute()
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::{fill, footprint, jobs, latency, recovery, rescale, savepoint, shuffle, throttled, topics};

#[derive(Debug, Parser)]
#[command(name = "millstream-bench", about = "Load generator and measuring client")]
pub struct Arguments {
    /// Kafka's bootstrap servers.
    #[arg(long, global = true, env = "MILLSTREAM_TEST_KAFKA", default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a topic and fill it with JSON bids.
    Fill(fill::FillArguments),
    /// Run jobs over a filled topic and print a JSON line per run.
    Jobs(JobsArguments),
    /// Append bids at a fixed rate to a running pass-through job; print latency by append and by visibility.
    Latency(latency::LatencyArguments),
    /// Measure the start, the idle load and the memory of small jobs.
    Footprint(footprint::FootprintArguments),
    /// Watch checkpoints while the broker lets the job write a tenth of its input.
    Throttled(throttled::ThrottledArguments),
    /// Send rows from one worker to another on this machine; print bytes per second and the latency of small batches.
    Shuffle(shuffle::ShuffleArguments),
    /// End workers of a cluster with much state; print how long output stays away.
    Recovery(recovery::RecoveryArguments),
    /// Change the parallelism of a cluster while it runs; print how long output stays away.
    Rescale(rescale::RescaleArguments),
    /// Take savepoints of a cluster while it runs; print how long they take.
    Savepoint(savepoint::SavepointArguments),
    /// Count a topic's committed records and digest them without regard to their order.
    Digest { topic: String },
}

#[derive(Debug, clap::Args)]
pub struct JobsArguments {
    /// The `millstream` binary.
    #[arg(long)]
    pub binary: PathBuf,
    /// The filled topic.
    #[arg(long, default_value = "bids")]
    pub topic: String,
    /// Which jobs; all without it.
    #[arg(long = "job")]
    pub jobs: Vec<String>,
    /// Runs of each job.
    #[arg(long, default_value_t = 1)]
    pub runs: u32,
    #[arg(long, default_value_t = 2)]
    pub parallelism: u32,
    #[arg(long, default_value = "1 s")]
    pub interval: String,
    /// Run each job with this checkpoint interval too, in turn, and state what the checkpoints cost.
    #[arg(long)]
    pub against_interval: Option<String>,
    /// Run each job as a coordinator and so many workers too, in turn, and state what that costs. They share the
    /// parallelism's slots.
    #[arg(long)]
    pub workers: Option<u32>,
    /// Run each job on Flink too, in turn, and compare the outputs.
    #[arg(long)]
    pub flink: bool,
    /// Process id of the broker, to state its share of the processors.
    #[arg(long)]
    pub broker_pid: Option<u32>,
}

impl Arguments {
    pub fn execute(self) -> anyhow::Result<()> {
        match self.command {
            Command::Fill(arguments) => fill::fill(&self.bootstrap, &arguments),
            Command::Jobs(arguments) => jobs::run(&self.bootstrap, &arguments),
            Command::Latency(arguments) => latency::run(&self.bootstrap, &arguments),
            Command::Footprint(arguments) => footprint::run(&self.bootstrap, &arguments),
            Command::Throttled(arguments) => throttled::run(&self.bootstrap, &arguments),
            Command::Shuffle(arguments) => shuffle::run(&arguments),
            Command::Recovery(arguments) => recovery::run(&self.bootstrap, &arguments),
            Command::Rescale(arguments) => rescale::run(&self.bootstrap, &arguments),
            Command::Savepoint(arguments) => savepoint::run(&self.bootstrap, &arguments),
            Command::Digest { topic } => {
                let digest = topics::digest(&self.bootstrap, &topic)?;
                println!("{}", serde_json::to_string(&digest)?);
                Ok(())
            }
        }
    }
}

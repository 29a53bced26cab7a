//! `cargo xtask <chore>`: see `cargo xtask --help`.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::{audit, bench, demo, services, suites, tidy};

/// The chores of this repository. `./dev` calls them for people.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Starts and stops real Kafka brokers and S3 servers, for tests and for people.
    Services(services::Arguments),
    /// Runs all checks and every suite, with its services.
    Test(suites::Arguments),
    /// Checks the house rules: sizes, names, heads, words.
    Tidy,
    /// Checks the dependencies against the database of known vulnerabilities.
    Audit,
    /// Shows the product: a job, a kill, a recovery.
    Demo,
    /// Measures; `--flink` runs Flink on the same input in turn.
    Bench(bench::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().chore {
        Chore::Services(arguments) => services::main(arguments),
        Chore::Test(arguments) => suites::main(&arguments),
        Chore::Tidy => tidy::main(),
        Chore::Audit => audit::main(),
        Chore::Demo => demo::main(),
        Chore::Bench(arguments) => bench::main(&arguments),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

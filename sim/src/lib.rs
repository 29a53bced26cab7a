//! Deterministic simulation of a job: the real job master and the real log code, with simulated workers, network, store and
//! broker.
//!
//! Owns: virtual time, the clocks of the processes, faults, what must hold after every event, and the one oracle: what a `read_committed` reader of the
//! output sees equals the reference. Does not own: any rule of the protocol; those are in `millstream_coordinator`, and in
//! the model of the worker here where the real one has them in its tasks and sinks. One seed is one run, the same on every
//! machine.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod broker;
pub mod calls;
pub mod clock;
pub mod coordinator;
pub mod coverage;
pub mod job;
mod names;
pub mod network;
pub mod plan;
pub mod process;
pub mod rules;
pub mod signs;
pub mod sink;
pub mod store;
pub mod task;
pub mod worker;
pub mod world;

pub use coverage::Coverage;
pub use rules::{Invariant, Rules, Watch};
pub use world::{Verdict, simulate};

//! The coordinator of a job: decides when epochs begin, seals them, restores after a failure.
//!
//! Three layers. [`job`] is the job master as a pure machine: events in, commands out; no tokio, no clock, no randomness.
//! [`log`] reads and writes the job's log in the store. [`runtime`] connects the two with time, workers' channels and
//! signals. The simulation drives the first two. [`savepoint`] copies checkpoints. [`transport`] brings workers of other
//! processes; [`operations`] is what people ask of a job and tell it, [`retained`] what its log holds for those who look at
//! it from outside.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod job;
pub mod log;
pub mod operations;
pub mod retained;
pub mod runtime;
pub mod savepoint;
pub mod transport;

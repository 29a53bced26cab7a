//! The data plane: everything that runs inside a worker.
//!
//! Data flows one way: `source` -> `transform` chain -> `exchange` -> ... -> `sink`, driven by `task` on the slots of
//! `runtime`; `state` and `snapshot` stand beside it. Owns: records and their processing. Does not own: when a
//! checkpoint happens or what a failure means for the job; that is the coordinator's.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod attach;
pub mod element;
pub mod exchange;
pub mod expr;
pub mod format;
pub mod keys;
pub mod metrics;
pub mod runtime;
pub mod secrets;
pub mod sink;
pub mod slot;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod task;
pub mod transform;

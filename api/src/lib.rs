#![cfg_attr(test, allow(clippy::unwrap_used))]
//! The contracts between the parts of Millstream: types, and the pure rules that belong to them.
//!
//! Owns: the `FlinkJob` resource, ids, the job graph with its type system and expressions, the entries of a
//! job's log. Does not own: anything that does I/O, spawns, reads a clock or draws a random number.

pub mod control;
pub mod flinkjob;
pub mod graph;
pub mod ids;
pub mod log;
pub mod proto;
pub mod readings;

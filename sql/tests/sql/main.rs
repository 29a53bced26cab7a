//! The SQL front end through its front door: text in, graph or errors out.

#![allow(clippy::unwrap_used)]

mod errors;
mod explain;
mod expressions;
mod fuzz;
mod graphs;
mod support;
mod tables;

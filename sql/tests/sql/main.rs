//! The SQL front end through its front door: text in, graph or errors out.

#![allow(clippy::unwrap_used)]

mod fuzz;
mod golden;
mod scripts;
mod support;

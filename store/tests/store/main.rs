//! Every store keeps the same promises: a local directory, and each S3 server that runs.
//!
//! `cargo xtask services up s3 s3-strict` starts the servers.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contract;
mod lost_replies;
mod places;
mod proxy;
mod refusals;

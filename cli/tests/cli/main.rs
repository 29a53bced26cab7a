//! End-to-end tests of the `millstream` binary on a real broker and real S3 servers.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod cluster;
mod corpus;
mod crash;
mod drain;
mod edit;
mod examples;
mod golden;
mod hours;
mod manifest;
mod operation;
mod preloading;
mod savepoint;
mod scripts;
mod shuffle;
mod status;
mod stored;
mod strangers;
mod tls;

//! The simulation's suites: many seeds of the protocol as it is, and some of it with a rule switched off.

#![allow(clippy::unwrap_used)]

mod broken_rules_are_noticed;
mod many_seeds;

//! The `FlinkJob` resource: what a user applies.

pub mod options;

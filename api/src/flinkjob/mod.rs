//! The `FlinkJob` resource: what a user applies.

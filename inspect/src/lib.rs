//! Looking into stored state from outside of any job: the tables of a checkpoint or a savepoint, their skew, SQL over them,
//! and whether they are whole.
//!
//! Owns: what is read and how it adds up. Does not own: the formats (`api::log`, `worker::snapshot`), which checkpoints a log
//! retains (`coordinator::retained`), nor how answers are printed (`cli`). Writes nothing.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod columns;
mod error;
#[cfg(test)]
mod fixture;
mod skew;
mod sql;
mod stored;
mod survey;
mod verify;

pub use columns::{KEY_GROUP, NAMESPACE, StoredTable, WRITTEN_MS};
pub use error::{InspectError, InspectErrorKind};
pub use skew::{HeavyKey, TableSkew, Verdict, skew, task_shares, verdict};
pub use sql::{Answer, Cell, query};
pub use stored::{Stored, checkpoints_of};
pub use survey::{GroupSize, TableSurvey, survey};
pub use verify::{Damage, Progress, Verified, verify};

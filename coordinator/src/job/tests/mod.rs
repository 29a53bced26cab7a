//! The core by hand: event in, the exact commands out.

mod changing;
mod claiming;
mod ending;
mod epochs;
pub(crate) mod fixture;
mod restoring;
mod retaining;
mod savepoints;
mod standing_by;
mod standing_still;
mod taking_over;
mod workers;

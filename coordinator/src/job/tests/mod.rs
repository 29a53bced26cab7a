//! The core by hand: event in, the exact commands out.

mod claiming;
mod ending;
mod epochs;
pub(crate) mod fixture;
mod restoring;
mod retaining;
mod workers;

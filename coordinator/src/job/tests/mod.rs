//! The core by hand: event in, state and the exact commands out.

pub(crate) mod fixture;

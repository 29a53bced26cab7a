//! What processes say to each other, generated from `proto/`. Only the messages: who speaks them generates the calls.

/// Between a coordinator and its workers.
pub mod control {
    #[allow(clippy::all, missing_docs)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/millstream.control.v1.rs"));
    }
}

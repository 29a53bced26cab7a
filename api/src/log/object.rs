//! Names of the objects that segments are stored under.
//!
//! A name is never used twice (generation, epoch, task, nonce) and starts with random characters, which spreads the
//! objects over a store's partitions. The generation in it lets collection tell an orphan of a dead coordinator from an
//! object that a living one is about to name.

use super::Nonce;
use crate::ids::{Epoch, Generation, TaskId};

/// Folder of all state objects, below the job's path.
pub const STATE_FOLDER: &str = "state/";

/// What a state object's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    pub generation: Generation,
    pub epoch: Epoch,
    pub task: TaskId,
    /// Drawn for this object.
    pub nonce: Nonce,
}

impl ObjectName {
    /// `state/<2 random>/<generation>-<epoch>-<vertex>.<index>-<nonce>.<extension>`, relative to the job's path.
    #[must_use]
    pub fn path(&self, extension: &str) -> String {
        let Self { generation, epoch, task, nonce } = self;
        let spread = nonce.0.get(..2).unwrap_or("00");
        format!("{STATE_FOLDER}{spread}/{generation}-{epoch}-{}.{}-{}.{extension}", task.vertex, task.index, nonce.0)
    }

    /// The generation in a path that [`ObjectName::path`] made. `None` for any other path.
    #[must_use]
    pub fn generation_of(path: &str) -> Option<Generation> {
        let (_, name) = path.strip_prefix(STATE_FOLDER)?.split_once('/')?;
        let (generation, rest) = name.split_once('-')?;
        (rest.matches('-').count() == 2).then_some(Generation(generation.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VertexId;

    #[test]
    fn a_path_tells_its_generation_and_others_do_not() {
        let task = TaskId { vertex: VertexId(1), index: 3 };
        let name = ObjectName { generation: Generation(12), epoch: Epoch(7), task, nonce: Nonce("ab01".to_owned()) };
        assert_eq!(name.path("parquet"), "state/ab/12-7-1.3-ab01.parquet");
        assert_eq!(ObjectName::generation_of(&name.path("parquet")), Some(Generation(12)));
        for other in ["log/0", "state/x", "state/ab/notes.txt", "state/ab/x-7-1.3-ab01.parquet"] {
            assert_eq!(ObjectName::generation_of(other), None, "{other}");
        }
    }
}

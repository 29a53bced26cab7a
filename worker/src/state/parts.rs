//! Key groups that go from one state to another by pointer, when the tasks that own them change.
//!
//! Both stand at the barrier of the same epoch, with nothing after it. What is handed over has no undo layers: the manifest of
//! that epoch covers it.

use std::ops::Range;

use millstream_api::ids::Epoch;

use super::backend::Backend;
use super::memory::GroupTables;
use super::versions::Version;
use super::{State, StateError, TableSpec};

/// Some key groups of every table of a state.
#[derive(Debug)]
pub struct StatePart {
    groups: Range<u16>,
    tables: Vec<(TableSpec, Vec<GroupTables>)>,
    /// The newest stamp that its rows may have.
    version: Version,
}

impl StatePart {
    #[must_use]
    pub fn groups(&self) -> &Range<u16> {
        &self.groups
    }

    /// Whether a state with these tables can take it.
    pub(crate) fn fits<'a>(&self, tables: impl Iterator<Item = &'a TableSpec>) -> bool {
        self.tables.iter().map(|(spec, _)| spec).eq(tables)
    }
}

impl State {
    /// Takes key groups out, as of the barrier of `epoch`, to which the state goes back. `None`: this backend cannot.
    pub fn split_off(&mut self, groups: &Range<u16>, epoch: Epoch) -> Result<Option<StatePart>, StateError> {
        if !matches!(self.backend, Backend::Memory { .. }) {
            return Ok(None);
        }
        let groups = groups.start.max(self.groups.start)..groups.end.min(self.groups.end);
        self.roll_back(epoch)?;
        let Backend::Memory { tables, .. } = &mut self.backend else { return Ok(None) };
        let specs = self.tables.iter().map(|def| def.spec.clone());
        let tables = specs.zip(tables.iter_mut().map(|table| table.take_groups(&groups))).collect();
        Ok(Some(StatePart { groups, tables, version: self.versions.newest() }))
    }

    /// Puts key groups in that this state owns and has nothing of. `loaded` ends this.
    pub fn absorb(&mut self, part: StatePart) -> Result<(), StateError> {
        let fits = part.fits(self.tables.iter().map(|def| &def.spec));
        let Backend::Memory { tables, .. } = &mut self.backend else {
            let reason = "only tables in memory go over by pointer".to_owned();
            return Err(StateError::Bug { verb: "assemble", reason });
        };
        if !fits || !self.versions.restoring() {
            let reason = format!("key groups {:?} do not belong into it", part.groups);
            return Err(StateError::Bug { verb: "assemble", reason });
        }
        for (table, (_, groups)) in tables.iter_mut().zip(part.tables) {
            table.put_groups(part.groups.start, groups)?;
        }
        self.versions.allow_stamps(part.version);
        self.check_budgets()
    }
}

//! What both backends know of a table.

use arrow_schema::SchemaRef;

use super::changes::change_schema;
use super::row::RowLayout;
use super::versions::Version;
use super::{StateError, TableSpec};
use crate::keys::KeyEncoder;

/// A declared table.
#[derive(Debug)]
pub(crate) struct TableDef {
    pub spec: TableSpec,
    pub layout: RowLayout,
    pub encoder: KeyEncoder,
    pub change_schema: SchemaRef,
}

impl TableDef {
    pub fn new(spec: TableSpec) -> Result<Self, StateError> {
        let encoder = KeyEncoder::new(&spec.key.fields)
            .map_err(|e| StateError::Bug { verb: "declare a table of", reason: e.to_string() })?;
        let layout = RowLayout::new(&spec.value, spec.ttl_ms.is_some());
        let change_schema = change_schema(&spec);
        Ok(Self { spec, layout, encoder, change_schema })
    }

    /// Whether a row of these cells has outlived the table's TTL.
    #[inline]
    pub fn expired(&self, cells: &[u8], now_ms: i64) -> bool {
        match self.spec.ttl_ms {
            None => false,
            Some(ttl_ms) => {
                let ttl_ms = i64::try_from(ttl_ms).unwrap_or(i64::MAX);
                self.layout.written_ms(cells).saturating_add(ttl_ms) <= now_ms
            }
        }
    }
}

/// When an access happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// The interval that changes belong to.
    pub version: Version,
    /// Processing time, for TTL.
    pub now_ms: i64,
    /// Whether pre-images are kept (they are given up past `undo_bytes_max`).
    pub keep_images: bool,
}

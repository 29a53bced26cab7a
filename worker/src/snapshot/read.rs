//! Segments from the store, for some key groups.

use std::collections::VecDeque;
use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use bytes::Bytes;
use millstream_api::log::{ObjectRef, Segment, SegmentContent, TableManifest};
use millstream_store::StoreErrorKind;
use tokio::task::JoinHandle;

use super::format::clip;
use super::{Segments, SnapshotError, columns, inline, parquet};
use crate::state::TableSpec;

/// Objects that are fetched ahead of the one that is being decoded.
const FETCH_AHEAD: usize = 3;

/// A segment's bytes, checked.
#[derive(Debug)]
pub(super) struct Fetched {
    /// How messages name it.
    pub name: String,
    /// Key groups that it counts for.
    groups: Range<u16>,
    content: FetchedContent,
}

#[derive(Debug)]
enum FetchedContent {
    Inline(String),
    Object(Bytes),
}

impl Segments {
    /// Reads what these key groups need of a table, oldest segment first, in batches for `State::load`.
    pub async fn read(
        &self,
        table: &TableManifest,
        spec: &TableSpec,
        groups: Range<u16>,
        mut on_batch: impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        columns::check(table, spec)?;
        let mut ahead = table.segments.iter().filter(|s| overlaps(s, &groups));
        let mut fetches: VecDeque<AbortOnDrop> = VecDeque::new();
        loop {
            while fetches.len() <= FETCH_AHEAD
                && let Some(next) = ahead.next()
            {
                fetches.push_back(self.start_fetch(table, next));
            }
            let Some(fetch) = fetches.pop_front() else { return Ok(()) };
            let fetched = fetch.join().await?;
            let mut fitted = |batch| on_batch(columns::fit(batch, spec).map_err(|reason| fetched.corrupt(reason))?);
            fetched.decode(&groups, &mut fitted)?;
        }
    }

    /// Begins to fetch a segment of the table.
    pub(super) fn start_fetch(&self, table: &TableManifest, segment: &Segment) -> AbortOnDrop {
        let (segments, groups) = (self.clone(), segment.first_group..segment.end_group);
        let (name, content) = (self.name_of(table, segment), segment.content.clone());
        AbortOnDrop(tokio::spawn(async move {
            let content = match content {
                SegmentContent::Inline { data } => FetchedContent::Inline(data),
                SegmentContent::Object(object) => FetchedContent::Object(segments.get(&object).await?),
            };
            Ok(Fetched { name, groups, content })
        }))
    }

    /// An object, exactly as it was written.
    async fn get(&self, object: &ObjectRef) -> Result<Bytes, SnapshotError> {
        let corrupt = |reason: String| SnapshotError::Corrupt { object: self.describe(&object.path), reason };
        let bytes = match self.store.get(&self.full_path(&object.path)).await {
            Ok(bytes) => bytes,
            Err(e) if e.kind == StoreErrorKind::NotFound => {
                return Err(corrupt("it is missing from the store".into()));
            }
            Err(e) => return Err(e.into()),
        };
        if bytes.len() as u64 != object.bytes {
            return Err(corrupt(format!("it has {} bytes, {} were written", bytes.len(), object.bytes)));
        }
        let found = crc32c::crc32c(&bytes);
        if found != object.crc32c {
            return Err(corrupt(format!("its crc32c is {found:08x}, {:08x} was written", object.crc32c)));
        }
        Ok(bytes)
    }

    /// How messages name a segment.
    fn name_of(&self, table: &TableManifest, segment: &Segment) -> String {
        match &segment.content {
            SegmentContent::Object(object) => self.describe(&object.path),
            SegmentContent::Inline { .. } => {
                format!("the inline segment of epoch {} of table {} of {}", segment.epoch, table.table, table.uid)
            }
        }
    }
}

impl Fetched {
    /// Shows the rows of these key groups.
    pub fn decode(
        &self,
        groups: &Range<u16>,
        on_batch: &mut impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let groups = self.groups.start.max(groups.start)..self.groups.end.min(groups.end);
        let mut show = |batch: RecordBatch| {
            if batch.num_columns() < 3 || *batch.column(0).data_type() != DataType::UInt16 {
                return Err(self.corrupt("it has no column of key groups".into()));
            }
            let mine = clip(&batch, &groups);
            if mine.num_rows() == 0 { Ok(()) } else { on_batch(mine) }
        };
        match &self.content {
            FetchedContent::Inline(data) => {
                inline::decode(data).map_err(|e| self.corrupt(e))?.into_iter().try_for_each(&mut show)
            }
            FetchedContent::Object(bytes) => {
                let reader = parquet::read(bytes.clone(), &groups).map_err(|e| self.corrupt(e.to_string()))?;
                for batch in reader {
                    show(batch.map_err(|e| self.corrupt(e.to_string()))?)?;
                }
                Ok(())
            }
        }
    }

    pub fn bytes(&self) -> usize {
        match &self.content {
            FetchedContent::Inline(data) => data.len(),
            FetchedContent::Object(bytes) => bytes.len(),
        }
    }

    pub fn corrupt(&self, reason: String) -> SnapshotError {
        SnapshotError::Corrupt { object: self.name.clone(), reason }
    }
}

/// A fetch that nobody waits for any more ends.
pub(super) struct AbortOnDrop(JoinHandle<Result<Fetched, SnapshotError>>);

impl AbortOnDrop {
    pub async fn join(mut self) -> Result<Fetched, SnapshotError> {
        (&mut self.0).await.expect("a fetch neither panics nor is aborted while somebody waits")
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn overlaps(segment: &Segment, groups: &Range<u16>) -> bool {
    segment.first_group < groups.end && segment.end_group > groups.start
}

//! Segments from the store, for some key groups.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::DataType;
use bytes::Bytes;
use millstream_api::log::{ObjectRef, Segment, SegmentContent, TableManifest};
use millstream_store::{StoreError, StoreErrorKind};
use tokio::task::JoinHandle;

use super::format::clip;
use super::{Segments, SnapshotError, columns, inline, parquet};
use crate::state::TableSpec;

/// Objects that are fetched ahead of the one that is being decoded.
const FETCH_AHEAD: usize = 3;
/// A larger object does not stay in memory while stored state is looked at. A range has at most 16 segments.
const IN_MEMORY_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a large object that are in memory on its way to a file.
const SPOOL_PART_BYTES: usize = 8 << 20;

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
    /// Too large for memory: a file of this process, without a name.
    File(File, u64),
}

/// A segment, and the key groups of which its rows are wanted, ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Part<'a> {
    pub segment: &'a Segment,
    pub groups: Vec<Range<u16>>,
}

/// How far reading is, for whoever waits for it.
#[derive(Debug, Default)]
pub struct ReadProgress {
    bytes: AtomicU64,
    batches: AtomicU64,
}

impl ReadProgress {
    /// Stored bytes of the segments that were read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Changes whenever something was read or taken in.
    pub fn steps(&self) -> u64 {
        self.bytes().wrapping_add(self.batches.load(Ordering::Relaxed))
    }
}

impl Segments {
    /// Reads parts of a table's segments, oldest first, in batches for `State::load`.
    pub async fn read(
        &self,
        table: &TableManifest,
        spec: &TableSpec,
        parts: &[Part<'_>],
        mut on_batch: impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        columns::check(table, spec)?;
        let mut ahead = parts.iter();
        let mut fetches: VecDeque<(AbortOnDrop, &[Range<u16>])> = VecDeque::new();
        loop {
            while fetches.len() <= FETCH_AHEAD
                && let Some(next) = ahead.next()
            {
                fetches.push_back((self.start_fetch(table, next.segment), &next.groups));
            }
            let Some((fetch, groups)) = fetches.pop_front() else { return Ok(()) };
            let fetched = fetch.join().await?;
            self.progress.bytes.fetch_add(fetched.bytes() as u64, Ordering::Relaxed);
            let mut fitted = |batch| {
                self.progress.batches.fetch_add(1, Ordering::Relaxed);
                on_batch(columns::fit(batch, spec).map_err(|reason| fetched.corrupt(reason))?)
            };
            fetched.decode_ranges(groups, &mut fitted)?;
            // Whoever gives this up does so between two segments, also where none has to be waited for.
            tokio::task::yield_now().await;
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

    /// A segment for whoever looks at stored state from a process without a worker's budgets: a large object goes to a
    /// temporary file, checked on the way.
    pub(super) async fn fetch_aside(&self, table: &TableManifest, segment: &Segment) -> Result<Fetched, SnapshotError> {
        let groups = segment.first_group..segment.end_group;
        let content = match &segment.content {
            SegmentContent::Inline { data } => FetchedContent::Inline(data.clone()),
            SegmentContent::Object(object) if object.bytes <= IN_MEMORY_BYTES_MAX => {
                FetchedContent::Object(self.get(object).await?)
            }
            SegmentContent::Object(object) => FetchedContent::File(self.spool(object).await?, object.bytes),
        };
        Ok(Fetched { name: self.name_of(table, segment), groups, content })
    }

    /// An object, exactly as it was written, in a file that is gone when it is closed or the process ends.
    async fn spool(&self, object: &ObjectRef) -> Result<File, SnapshotError> {
        let failed = |e: std::io::Error| SnapshotError::Spool { reason: e.to_string() };
        let mut file = tempfile::tempfile().map_err(failed)?;
        let (mut bytes, mut checksum) = (0, 0);
        loop {
            let part = self.store.get_part(&self.full_path(&object.path), bytes, SPOOL_PART_BYTES).await;
            let part = part.map_err(|e| self.unread(object, e))?;
            bytes += part.len() as u64;
            checksum = crc32c::crc32c_append(checksum, &part);
            file.write_all(&part).map_err(failed)?;
            // Past what was written nothing is wanted, but that there is something is damage.
            if part.len() < SPOOL_PART_BYTES || bytes > object.bytes {
                break;
            }
        }
        self.check(object, bytes, checksum)?;
        Ok(file)
    }

    /// An object, exactly as it was written.
    async fn get(&self, object: &ObjectRef) -> Result<Bytes, SnapshotError> {
        let got = self.store.get(&self.full_path(&object.path)).await;
        let bytes = got.map_err(|e| self.unread(object, e))?;
        self.check(object, bytes.len() as u64, crc32c::crc32c(&bytes))?;
        Ok(bytes)
    }

    /// What was read of an object against what was written.
    fn check(&self, object: &ObjectRef, bytes: u64, checksum: u32) -> Result<(), SnapshotError> {
        let reason = if bytes != object.bytes {
            format!("it has {bytes} bytes, {} were written", object.bytes)
        } else if checksum != object.crc32c {
            format!("its crc32c is {checksum:08x}, {:08x} was written", object.crc32c)
        } else {
            return Ok(());
        };
        Err(SnapshotError::Corrupt { object: self.describe(&object.path), reason })
    }

    fn unread(&self, object: &ObjectRef, error: StoreError) -> SnapshotError {
        if error.kind != StoreErrorKind::NotFound {
            return error.into();
        }
        SnapshotError::Corrupt { object: self.describe(&object.path), reason: "it is missing from the store".into() }
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
        self.batches(&groups, |batch| {
            let mine = clip(&batch, &groups);
            if mine.num_rows() == 0 { Ok(()) } else { on_batch(mine) }
        })
    }

    /// Shows the rows of several ranges, ascending; what is stored is gone through once.
    fn decode_ranges(
        &self,
        ranges: &[Range<u16>],
        on_batch: &mut impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(()) };
        self.decode(&(first.start..last.end), &mut |batch| {
            let mine = ranges.iter().map(|range| clip(&batch, range)).filter(|mine| mine.num_rows() > 0);
            mine.into_iter().try_for_each(&mut *on_batch)
        })
    }

    /// Shows the stored batches that may have rows of these key groups, as they are.
    pub fn batches(
        &self,
        groups: &Range<u16>,
        mut on_batch: impl FnMut(RecordBatch) -> Result<(), SnapshotError>,
    ) -> Result<(), SnapshotError> {
        let mut show = |batch: RecordBatch| {
            if batch.num_columns() < 3 || *batch.column(0).data_type() != DataType::UInt16 {
                return Err(self.corrupt("it has no column of key groups".into()));
            }
            on_batch(batch)
        };
        let reader = match &self.content {
            FetchedContent::Inline(data) => {
                return inline::decode(data).map_err(|e| self.corrupt(e))?.into_iter().try_for_each(&mut show);
            }
            FetchedContent::Object(bytes) => parquet::read(bytes.clone(), groups),
            FetchedContent::File(file, _) => {
                let file = file.try_clone().map_err(|e| SnapshotError::Spool { reason: e.to_string() })?;
                parquet::read(file, groups)
            }
        };
        for batch in reader.map_err(|e| self.corrupt(e.to_string()))? {
            show(batch.map_err(|e| self.corrupt(e.to_string()))?)?;
        }
        Ok(())
    }

    pub fn bytes(&self) -> usize {
        match &self.content {
            FetchedContent::Inline(data) => data.len(),
            FetchedContent::Object(bytes) => bytes.len(),
            FetchedContent::File(_, bytes) => usize::try_from(*bytes).unwrap_or(usize::MAX),
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

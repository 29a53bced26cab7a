//! Segments as Parquet: zstd, row groups of at least a MiB or one, statistics per page, so that any reader can open a
//! checkpoint and a task reads only the row groups of its key groups.

use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;

/// Bytes in memory per row group. Segments compress to a fifth or a third, so that a MiB is left at least.
const ROW_GROUP_MEMORY_BYTES: usize = 8 << 20;
/// No row group is smaller than this, whatever its rows weigh.
const ROW_GROUP_ROWS_MIN: usize = 4 << 10;
/// Rows per batch of a reader.
const READ_BATCH_ROWS: usize = 16 << 10;
const CREATED_BY: &str = concat!("millstream ", env!("CARGO_PKG_VERSION"));

/// A segment that is being written.
pub(super) struct ParquetSegment {
    writer: ArrowWriter<Vec<u8>>,
}

impl ParquetSegment {
    /// `memory_bytes` and `rows`: size of the content, about, from which the rows per row group follow.
    pub fn new(schema: &SchemaRef, memory_bytes: usize, rows: usize) -> Result<Self, ArrowError> {
        let row_bytes = (memory_bytes / rows.max(1)).max(1);
        let rows_per_group = (ROW_GROUP_MEMORY_BYTES / row_bytes).max(ROW_GROUP_ROWS_MIN);
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_max_row_group_row_count(Some(rows_per_group))
            .set_statistics_enabled(EnabledStatistics::Page)
            .build();
        Ok(Self { writer: ArrowWriter::try_new(Vec::new(), SchemaRef::clone(schema), Some(properties))? })
    }

    /// Appends sorted rows.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        Ok(self.writer.write(batch)?)
    }

    pub fn finish(self) -> Result<Vec<u8>, ArrowError> {
        Ok(self.writer.into_inner()?)
    }
}

/// Reads the row groups that may hold these key groups. The rows still have to be clipped.
pub(super) fn read(
    content: impl ChunkReader + 'static,
    groups: &Range<u16>,
) -> Result<ParquetRecordBatchReader, ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(content)?;
    let row_groups = builder.metadata().row_groups();
    let wanted = (0..row_groups.len()).filter(|i| may_hold(&row_groups[*i], groups)).collect();
    builder.with_row_groups(wanted).with_batch_size(READ_BATCH_ROWS).build()
}

/// By the statistics of the first column, the key group.
fn may_hold(row_group: &RowGroupMetaData, groups: &Range<u16>) -> bool {
    match row_group.columns().first().and_then(|column| column.statistics()) {
        Some(Statistics::Int32(group)) => match (group.min_opt(), group.max_opt()) {
            (Some(min), Some(max)) => *min < i32::from(groups.end) && *max >= i32::from(groups.start),
            _ => true,
        },
        _ => true,
    }
}

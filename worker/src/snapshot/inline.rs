//! Small segments, which ride in the manifest: Arrow IPC in base64.

use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::ArrowError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_api::log::{SegmentContent, TableManifest};

/// Longest inline segment, as base64. A longer one is worth an object: many tasks share the manifest's 256 KiB.
pub(super) const INLINE_SEGMENT_BYTES_MAX: usize = 32 << 10;

/// The rows as base64, if that takes at most `bytes_max` bytes.
pub(super) fn encode(batch: &RecordBatch, bytes_max: usize) -> Result<Option<String>, ArrowError> {
    let bytes_max = bytes_max.min(INLINE_SEGMENT_BYTES_MAX);
    // Base64 makes four bytes of three; do not even encode what is too large anyway.
    if batch.num_rows() > bytes_max || batch.num_columns() > bytes_max {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref())?;
    writer.write(batch)?;
    writer.finish()?;
    drop(writer);
    Ok((bytes.len().div_ceil(3) * 4 <= bytes_max).then(|| STANDARD.encode(&bytes)))
}

pub(super) fn decode(data: &str) -> Result<Vec<RecordBatch>, String> {
    let bytes = STANDARD.decode(data).map_err(|e| e.to_string())?;
    let reader = StreamReader::try_new(bytes.as_slice(), None).map_err(|e| e.to_string())?;
    reader.collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// Bytes that the inline segments of these key groups take in a manifest.
#[must_use]
pub fn inline_bytes(table: &TableManifest, groups: &Range<u16>) -> usize {
    let mine = table.segments.iter().filter(|s| s.first_group < groups.end && s.end_group > groups.start);
    mine.map(|segment| match &segment.content {
        SegmentContent::Inline { data } => data.len(),
        SegmentContent::Object(_) => 0,
    })
    .sum()
}

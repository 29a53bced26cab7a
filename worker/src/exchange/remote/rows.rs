//! Rows as frames: an Arrow IPC message without its schema, which both sides know from the graph.
//!
//! The encoder copies a batch once, into its frame; the decoder copies nothing: the arrays point into the frame's payload.
//! What arrives is checked before Arrow reads it, whose reader takes lengths and offsets for true.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int8Type;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_ipc::{MessageHeader, MetadataVersion};
use arrow_schema::{ArrowError, DataType, SchemaRef};
use bytes::Bytes;
use millstream_api::graph::{ROW_KIND, RowKind};

use super::frame::{ChannelId, Frame, FrameError, HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX};
use crate::exchange::{ExchangeError, batch_bytes};

/// Of buffers within a payload: the largest that an Arrow type of ours needs (i128).
const ALIGNMENT: usize = 16;
/// An IPC message begins with this, then the length of its metadata as i32.
const CONTINUATION_MARKER: [u8; 4] = [0xff; 4];
const MESSAGE_PREFIX_BYTES: usize = 8;
/// What a message has besides rows, at most: the table of the metadata, and for each column its nodes, buffers and padding.
const MESSAGE_BYTES: usize = 256;
const COLUMN_BYTES: usize = 128;
/// Rows of a frame: a bound on what a batch without columns, or with columns of NULL, may claim to be.
const ROWS_MAX: usize = 1 << 20;
/// Before an LZ4 block: the length of what it holds.
const LZ4_PREFIX_BYTES: usize = 4;

/// How rows are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// On a fast network copying is cheaper than any compression.
    #[default]
    None,
    Lz4,
}

/// Makes the frames of one channel.
pub(super) struct RowsEncoder {
    channel: ChannelId,
    writer: StreamWriter<Vec<u8>>,
    compression: Compression,
    /// Position of the row kind; none on append-only edges.
    row_kind: Option<usize>,
}

/// A frame of rows.
#[derive(Debug)]
pub(super) struct RowsFrame {
    pub(super) bytes: Bytes,
    /// What it counts for the channel's credit: its payload, not compressed.
    pub(super) credit_bytes: usize,
}

impl RowsEncoder {
    pub(super) fn new(channel: ChannelId, schema: &SchemaRef, compression: Compression) -> Result<Self, ArrowError> {
        let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
        let row_kind = schema.fields().len().checked_sub(1).filter(|last| schema.field(*last).name() == ROW_KIND);
        Ok(Self {
            channel,
            writer: StreamWriter::try_new_with_options(Vec::new(), schema, options)?,
            compression,
            row_kind,
        })
    }

    /// Makes the frames of a batch, mostly one.
    pub(super) fn encode(
        &mut self,
        batch: &RecordBatch,
        mut deliver: impl FnMut(RowsFrame),
    ) -> Result<(), ExchangeError> {
        // The last piece is the next to go.
        let mut pieces = vec![batch.clone()];
        while let Some(piece) = pieces.pop() {
            let mut payload_bytes = batch_bytes(&piece);
            if piece.num_rows() <= ROWS_MAX && payload_bytes <= PAYLOAD_BYTES_MAX {
                let frame = self.encode_whole(&piece)?;
                payload_bytes = frame.len() - HEADER_BYTES;
                if payload_bytes <= PAYLOAD_BYTES_MAX {
                    deliver(self.finish(frame)?);
                    continue;
                }
            }
            let Some(at) = self.middle(&piece) else {
                return Err(ExchangeError::RowTooLarge { bytes: payload_bytes, limit: PAYLOAD_BYTES_MAX });
            };
            pieces.push(piece.slice(at, piece.num_rows() - at));
            pieces.push(piece.slice(0, at));
        }
        Ok(())
    }

    /// The batch behind a place for the header, of whatever length, not compressed.
    fn encode_whole(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let frame = self.writer.get_mut();
        frame.clear();
        frame.reserve_exact(HEADER_BYTES + MESSAGE_BYTES + COLUMN_BYTES * batch.num_columns() + batch_bytes(batch));
        frame.extend_from_slice(&[0; HEADER_BYTES]);
        self.writer.write(batch)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    /// The frame with its header, compressed if that is wanted and smaller.
    fn finish(&self, mut frame: Vec<u8>) -> Result<RowsFrame, ExchangeError> {
        let credit_bytes = frame.len() - HEADER_BYTES;
        let lz4 = self.compression == Compression::Lz4 && compress(&mut frame)?;
        let header =
            Header { kind: Kind::Rows { lz4 }, channel: self.channel, payload_bytes: frame.len() - HEADER_BYTES };
        frame[..HEADER_BYTES].copy_from_slice(&header.write());
        Ok(RowsFrame { bytes: Bytes::from(frame), credit_bytes })
    }

    /// Where a batch may be cut in two: a -U stays with its +U.
    fn middle(&self, batch: &RecordBatch) -> Option<usize> {
        let rows = batch.num_rows();
        let kinds = self.row_kind.map(|at| batch.column(at).as_primitive::<Int8Type>());
        let may_cut = |at: usize| kinds.is_none_or(|k| k.value(at - 1) != RowKind::UpdateBefore as i8);
        let half = rows / 2;
        [half, half + 1].into_iter().find(|at| (1..rows).contains(at) && may_cut(*at))
    }
}

impl std::fmt::Debug for RowsEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowsEncoder").field("channel", &self.channel).finish_non_exhaustive()
    }
}

/// Reads the frames of one channel.
#[derive(Debug)]
pub(super) struct RowsDecoder {
    schema: SchemaRef,
}

/// A decoded frame.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) batch: RecordBatch,
    /// As the sender counts it.
    pub(super) credit_bytes: usize,
}

impl RowsDecoder {
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    /// The rows of a frame of that kind.
    pub(super) fn decode(&self, frame: Frame) -> Result<Rows, FrameError> {
        let Frame { header, payload } = frame;
        let error = |reason: String| FrameError::Payload { channel: header.channel, reason };
        let payload = match header.kind {
            Kind::Rows { lz4: true } => decompress(&payload).map_err(error)?,
            _ => payload,
        };
        let batch = self.decode_message(&payload).map_err(error)?;
        Ok(Rows { batch, credit_bytes: payload.len() })
    }

    fn decode_message(&self, payload: &Buffer) -> Result<RecordBatch, String> {
        let (metadata, body) = split(payload)?;
        let message = arrow_ipc::root_as_message(metadata).map_err(|e| format!("no Arrow message: {e}"))?;
        let version = message.version();
        let batch = match message.header_type() {
            MessageHeader::RecordBatch if version == MetadataVersion::V5 => message.header_as_record_batch(),
            _ => None,
        };
        let batch = batch.ok_or("an Arrow message that is no record batch")?;
        self.check(batch, body.len())?;
        let none = HashMap::new();
        RecordBatchDecoder::try_new(&body, batch, self.schema.clone(), &none, &version)
            .and_then(|decoder| decoder.with_require_alignment(true).read_record_batch())
            .map_err(|e| e.to_string())
    }

    /// That the lengths are those of such a schema, and that all of it lies in the body.
    fn check(&self, batch: arrow_ipc::RecordBatch<'_>, body_bytes: usize) -> Result<(), String> {
        let rows = usize::try_from(batch.length()).ok().filter(|rows| *rows <= ROWS_MAX).ok_or("too many rows")?;
        if batch.compression().is_some() || batch.variadicBufferCounts().is_some_and(|counts| !counts.is_empty()) {
            return Err("compressed buffers or views, which are not used here".to_owned());
        }
        let nodes = batch.nodes().ok_or("no nodes")?;
        let mut buffers = batch.buffers().ok_or("no buffers")?.iter();
        if nodes.len() != self.schema.fields().len() {
            return Err(format!("{} columns where the channel has {}", nodes.len(), self.schema.fields().len()));
        }
        for (field, node) in self.schema.fields().iter().zip(nodes.iter()) {
            let nulls = usize::try_from(node.null_count()).ok().filter(|nulls| *nulls <= rows);
            let (Some(nulls), true) = (nulls, usize::try_from(node.length()) == Ok(rows)) else {
                return Err(format!(
                    "column {} of {} rows with {} NULL, in a batch of {rows}",
                    field.name(),
                    node.length(),
                    node.null_count()
                ));
            };
            for layout in layouts(field.data_type(), rows, nulls)? {
                let buffer = buffers.next().ok_or("too few buffers")?;
                if !layout.fits(buffer, body_bytes) {
                    return Err(format!("column {}: {layout:?} is not {buffer:?} of {body_bytes}", field.name()));
                }
            }
        }
        if buffers.next().is_some() { Err("too many buffers".to_owned()) } else { Ok(()) }
    }
}

/// The metadata and the body of an Arrow message.
fn split(payload: &Buffer) -> Result<(&[u8], Buffer), String> {
    let bytes = payload.as_slice();
    let (marker, rest) = bytes.split_first_chunk::<4>().ok_or("no Arrow message")?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or("no Arrow message")?;
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| "a negative length")?;
    let aligned = (MESSAGE_PREFIX_BYTES + length).is_multiple_of(ALIGNMENT);
    if *marker != CONTINUATION_MARKER || length > rest.len() || !aligned {
        return Err(format!("an Arrow message whose metadata have {length} bytes of {}", rest.len()));
    }
    Ok((&rest[..length], payload.slice(MESSAGE_PREFIX_BYTES + length)))
}

/// What a buffer of a column must be.
#[derive(Debug)]
struct Layout {
    /// Bytes that it has at least.
    least: usize,
    /// Bytes of one of its values: it holds whole ones.
    element: usize,
}

impl Layout {
    /// Whether a buffer is like this, and lies within a body of so many bytes.
    fn fits(&self, buffer: &arrow_ipc::Buffer, body_bytes: usize) -> bool {
        let (Ok(offset), Ok(length)) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length())) else {
            return false;
        };
        let within = offset.checked_add(length).is_some_and(|end| end <= body_bytes);
        within && offset.is_multiple_of(ALIGNMENT) && length >= self.least && length.is_multiple_of(self.element)
    }
}

/// The buffers of a column.
fn layouts(data_type: &DataType, rows: usize, nulls: usize) -> Result<Vec<Layout>, String> {
    let layout = |least, element| Layout { least, element };
    let validity = layout(if nulls > 0 { rows.div_ceil(8) } else { 0 }, 1);
    Ok(match data_type {
        DataType::Null => Vec::new(),
        DataType::Boolean => vec![validity, layout(rows.div_ceil(8), 1)],
        DataType::Utf8 | DataType::Binary => {
            // Offsets of no rows may be left out.
            let offsets = layout(if rows > 0 { 4 * (rows + 1) } else { 0 }, 4);
            vec![validity, offsets, layout(0, 1)]
        }
        other => match other.primitive_width() {
            Some(width) => vec![validity, layout(width * rows, width)],
            None => return Err(format!("a column of type {other}, which does not travel")),
        },
    })
}

/// Compresses a frame; `false`: it would not get smaller.
fn compress(frame: &mut Vec<u8>) -> Result<bool, ArrowError> {
    let payload = &frame[HEADER_BYTES..];
    let start = HEADER_BYTES + LZ4_PREFIX_BYTES;
    let mut compressed = vec![0; start + lz4_flex::block::get_maximum_output_size(payload.len())];
    let length = u32::try_from(payload.len()).expect("a payload is below 16 MiB");
    compressed[HEADER_BYTES..start].copy_from_slice(&length.to_le_bytes());
    let written = lz4_flex::block::compress_into(payload, &mut compressed[start..])
        .map_err(|e| ArrowError::ComputeError(e.to_string()))?;
    compressed.truncate(start + written);
    let smaller = compressed.len() < frame.len();
    if smaller {
        compressed.shrink_to_fit();
        *frame = compressed;
    }
    Ok(smaller)
}

fn decompress(payload: &Buffer) -> Result<Buffer, String> {
    let (length, block) = payload.as_slice().split_first_chunk::<LZ4_PREFIX_BYTES>().ok_or("no LZ4 block")?;
    let length = u32::from_le_bytes(*length) as usize;
    // LZ4 packs a byte into 255 at best: a length that is a lie takes no more than that.
    if length > PAYLOAD_BYTES_MAX || length / 256 > block.len() {
        return Err(format!("an LZ4 block of {} bytes that claims to hold {length}", block.len()));
    }
    let mut bytes = MutableBuffer::from_len_zeroed(length);
    match lz4_flex::block::decompress_into(block, bytes.as_slice_mut()) {
        Ok(written) if written == length => Ok(bytes.into()),
        Ok(written) => Err(format!("an LZ4 block of {written} bytes that claims to hold {length}")),
        Err(e) => Err(format!("no LZ4 block: {e}")),
    }
}

#[cfg(test)]
mod tests;

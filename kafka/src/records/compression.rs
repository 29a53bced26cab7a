//! The compressions that a batch may have.

use std::io::Read;

use zstd::zstd_safe::DCtx;

use super::Damage;

/// Most bytes that one batch may grow to. A producer fills batches before it compresses them, to `max.request.size` at
/// most: one that grows beyond this is damaged, or meant to do harm.
const BATCH_BYTES_MAX: usize = 512 << 20;
/// A buffer that one huge batch made larger than this is given back after it.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// How Java's snappy writer begins; librdkafka and others write one bare block.
const SNAPPY_MAGIC: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The magic, and two version numbers.
const SNAPPY_HEAD_BYTES: usize = 16;

/// Decompresses one batch after the other into a buffer of its own.
#[derive(Default)]
pub(crate) struct Decompressor {
    out: Vec<u8>,
    /// Its tables and window take longer to set up than a batch of usual size to decompress.
    zstd: Option<DCtx<'static>>,
}

impl Decompressor {
    /// The records of the batch that was decompressed last.
    #[inline]
    pub(super) fn records(&self) -> &[u8] {
        &self.out
    }

    /// Decompresses the records of one batch. `codec`: its number in the batch's attributes, not 0.
    pub(super) fn decompress(&mut self, codec: u8, data: &[u8]) -> Result<(), Damage> {
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
        self.out.clear();
        let (name, result) = match codec {
            1 => ("gzip", self.drain(flate2::bufread::MultiGzDecoder::new(data))),
            2 => ("snappy", self.snappy(data)),
            3 => ("lz4", self.drain(lz4_flex::frame::FrameDecoder::new(data))),
            4 => ("zstd", self.zstd(data)),
            other => return Err(Damage::UnknownCompression(other)),
        };
        result.map_err(|reason| Damage::Compression { codec: name, reason })
    }

    fn drain(&mut self, from: impl Read) -> Result<(), String> {
        drain(from, &mut self.out)
    }

    fn zstd(&mut self, data: &[u8]) -> Result<(), String> {
        // Kept only if it comes to a good end: after an error it is in the middle of a frame.
        let mut context = self.zstd.take().unwrap_or_default();
        drain(zstd::stream::read::Decoder::with_context(data, &mut context), &mut self.out)?;
        self.zstd = Some(context);
        Ok(())
    }

    /// One bare block, or Java's framing: a head, then blocks with their lengths.
    fn snappy(&mut self, data: &[u8]) -> Result<(), String> {
        if !data.starts_with(SNAPPY_MAGIC) {
            return snappy_block(data, &mut self.out);
        }
        let mut rest = data.get(SNAPPY_HEAD_BYTES..).ok_or("its head is cut off")?;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or("the length of a block is cut off")?;
            let block = usize::try_from(i32::from_be_bytes(*length)).ok().and_then(|length| after.get(..length));
            let block = block.ok_or("a block is cut off")?;
            snappy_block(block, &mut self.out)?;
            rest = &after[block.len()..];
        }
        Ok(())
    }
}

fn drain(from: impl Read, out: &mut Vec<u8>) -> Result<(), String> {
    let most = BATCH_BYTES_MAX as u64 + 1;
    from.take(most).read_to_end(out).map_err(|e| e.to_string())?;
    bounded(out.len())
}

fn bounded(bytes: usize) -> Result<(), String> {
    if bytes > BATCH_BYTES_MAX { Err(format!("it grows beyond {BATCH_BYTES_MAX} bytes")) } else { Ok(()) }
}

fn snappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let before = out.len();
    let length = snap::raw::decompress_len(block).map_err(|e| e.to_string())?;
    bounded(before.saturating_add(length))?;
    // A block of this size cannot hold more: what claims more is refused before the memory is taken.
    if length > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err("a block claims more bytes than it can hold".to_owned());
    }
    out.resize(before + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[before..]).map_err(|e| e.to_string())?;
    out.truncate(before + written);
    Ok(())
}

/// A copy of 64 bytes takes three.
const SNAPPY_RATIO_MAX: usize = 64;

//! How a batch's records are compressed: Kafka's five ways.
//!
//! Owns: the codecs with their states and the framing that Kafka's other clients expect. Does not own: what is
//! compressed.

use std::io::{self, Write};

use crate::error::KafkaError;

/// Blocks of snappy-java's stream format, which Kafka uses.
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;
/// Magic, version 1, readable from version 1 on.
/// <https://github.com/xerial/snappy-java#compatibility-notes>
const SNAPPY_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_LENGTH_BYTES: usize = 4;
/// As the Java client's.
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// Compresses batch after batch.
pub(crate) enum Compressor {
    None,
    Gzip { level: u32 },
    Snappy(Box<snap::raw::Encoder>),
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// `name`: the value of Kafka's `compression.type`; `level`: for gzip and zstd.
    pub(crate) fn new(name: &str, level: Option<i32>) -> Result<Self, KafkaError> {
        let setting = |reason: String| KafkaError::Setting { name: "compression.type".to_owned(), reason };
        Ok(match name {
            "none" => Self::None,
            "gzip" => Self::Gzip { level: level.and_then(|l| u32::try_from(l).ok()).unwrap_or(GZIP_LEVEL).min(9) },
            "snappy" => Self::Snappy(Box::new(snap::raw::Encoder::new())),
            "lz4" => Self::Lz4,
            "zstd" => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                Self::Zstd(zstd::bulk::Compressor::new(level).map_err(|e| setting(e.to_string()))?)
            }
            other => return Err(setting(format!("'{other}' is none of none, gzip, snappy, lz4 and zstd"))),
        })
    }

    pub(crate) fn compresses(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The codec's number in a batch's attributes.
    pub(crate) fn attribute(&self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip { .. } => 1,
            Self::Snappy(_) => 2,
            Self::Lz4 => 3,
            Self::Zstd(_) => 4,
        }
    }

    /// Appends the compressed input.
    pub(crate) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(input),
            Self::Gzip { level } => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(*level));
                encoder.write_all(input)?;
                encoder.finish()?;
            }
            Self::Snappy(encoder) => snappy(encoder, input, out)?,
            Self::Lz4 => {
                // Kafka's readers refuse blocks that depend on one another.
                let frame = lz4_flex::frame::FrameInfo::new()
                    .block_mode(lz4_flex::frame::BlockMode::Independent)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(frame, out);
                encoder.write_all(input)?;
                encoder.finish().map_err(io::Error::other)?;
            }
            Self::Zstd(encoder) => {
                let before = out.len();
                out.resize(before + zstd::zstd_safe::compress_bound(input.len()), 0);
                let bytes = encoder.compress_to_buffer(input, &mut out[before..])?;
                out.truncate(before + bytes);
            }
        }
        Ok(())
    }
}

fn snappy(encoder: &mut snap::raw::Encoder, input: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(SNAPPY_HEADER);
    for block in input.chunks(SNAPPY_BLOCK_BYTES) {
        let before = out.len();
        let begin = before + SNAPPY_LENGTH_BYTES;
        out.resize(begin + snap::raw::max_compress_len(block.len()), 0);
        let bytes = encoder.compress(block, &mut out[begin..]).map_err(io::Error::other)?;
        out.truncate(begin + bytes);
        let length = u32::try_from(bytes).map_err(io::Error::other)?;
        out[before..begin].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

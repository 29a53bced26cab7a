//! Finds the end of a string: the one loop that sees every byte.
//!
//! SSE2 belongs to every x86-64, so no run-time choice is needed there; elsewhere eight bytes at a time in a u64. AVX2
//! was seen to save nothing on top and would need a second copy of the decoder compiled for it.

/// The least first byte of a UTF-8 sequence of four.
const BEYOND_BASIC_PLANE: u8 = 0xf0;

/// What a scan stopped at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Position of the byte that ended the scan.
    pub at: usize,
    /// Whether a byte above 0x7f was passed on the way.
    pub non_ascii: bool,
}

/// The first `"` or `\` at or behind `from`. Control characters pass: Flink's reader allows them unescaped.
#[inline(always)]
pub fn string_end(bytes: &[u8], from: usize) -> Option<Stop> {
    find::<false>(bytes, from)
}

/// The first byte at or behind `from` that is not written as it is: `"`, `\`, a control character, or the beginning of
/// a character beyond the basic plane.
#[inline(always)]
pub fn needs_escape(bytes: &[u8], from: usize) -> Option<usize> {
    find::<true>(bytes, from).map(|stop| stop.at)
}

#[inline(always)]
fn stops<const WRITE: bool>(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || (WRITE && !(0x20..BEYOND_BASIC_PLANE).contains(&byte))
}

#[inline(always)]
fn find<const WRITE: bool>(bytes: &[u8], from: usize) -> Option<Stop> {
    #[cfg(target_arch = "x86_64")]
    {
        sse2::find::<WRITE>(bytes, from)
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        portable::find::<WRITE>(bytes, from)
    }
}

#[cfg(target_arch = "x86_64")]
mod sse2 {
    use super::{BEYOND_BASIC_PLANE, Stop, stops};
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_max_epu8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set1_epi8,
    };

    const LANES: usize = 16;

    /// Bit i of the first: byte i stops the scan. Bit i of the second: byte i is not ASCII.
    #[inline(always)]
    fn masks<const WRITE: bool>(chunk: &[u8; LANES]) -> (u32, u32) {
        // SAFETY: SSE2 is part of x86-64; the load reads the 16 bytes of `chunk`.
        unsafe {
            let bytes = _mm_loadu_si128(chunk.as_ptr().cast::<__m128i>());
            let quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'"' as i8));
            let backslash = _mm_cmpeq_epi8(bytes, _mm_set1_epi8(b'\\' as i8));
            let mut stop = _mm_or_si128(quote, backslash);
            if WRITE {
                let control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
                let four = _mm_cmpeq_epi8(_mm_max_epu8(bytes, _mm_set1_epi8(BEYOND_BASIC_PLANE as i8)), bytes);
                stop = _mm_or_si128(stop, _mm_or_si128(control, four));
            }
            (_mm_movemask_epi8(stop) as u32, _mm_movemask_epi8(bytes) as u32)
        }
    }

    #[inline(always)]
    pub fn find<const WRITE: bool>(bytes: &[u8], from: usize) -> Option<Stop> {
        let rest = bytes.get(from..)?;
        let (chunks, _) = rest.as_chunks::<LANES>();
        let mut at = from;
        let mut high = 0u32;
        for chunk in chunks {
            let (stop, not_ascii) = masks::<WRITE>(chunk);
            if stop != 0 {
                let offset = stop.trailing_zeros();
                high |= not_ascii & ((1 << offset) - 1);
                return Some(Stop { at: at + offset as usize, non_ascii: high != 0 });
            }
            high |= not_ascii;
            at += LANES;
        }
        tail::<WRITE>(bytes, at, high)
    }

    /// The last bytes, fewer than a chunk: by a chunk that ends with them, where the record is long enough.
    #[inline(always)]
    fn tail<const WRITE: bool>(bytes: &[u8], at: usize, high: u32) -> Option<Stop> {
        let Some(chunk) = bytes.last_chunk::<LANES>() else {
            return bytewise::<WRITE>(bytes, at, high);
        };
        let seen = (at + LANES).checked_sub(bytes.len())?;
        if seen >= LANES {
            return None;
        }
        let (stop, not_ascii) = masks::<WRITE>(chunk);
        let (stop, not_ascii) = (stop >> seen, not_ascii >> seen);
        if stop == 0 {
            return None;
        }
        let offset = stop.trailing_zeros();
        let high = high | (not_ascii & ((1 << offset) - 1));
        Some(Stop { at: at + offset as usize, non_ascii: high != 0 })
    }

    #[cold]
    fn bytewise<const WRITE: bool>(bytes: &[u8], at: usize, high: u32) -> Option<Stop> {
        let rest = bytes.get(at..)?;
        let offset = rest.iter().position(|b| stops::<WRITE>(*b))?;
        Some(Stop { at: at + offset, non_ascii: high != 0 || !rest[..offset].is_ascii() })
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::{Stop, stops};

    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;

    /// Nonzero when some byte of the word may stop the scan; never zero when one does.
    #[inline(always)]
    fn candidates<const WRITE: bool>(word: u64) -> u64 {
        let zero_bytes = |x: u64| x.wrapping_sub(ONES) & !x & HIGHS;
        let mut found = zero_bytes(word ^ (ONES * b'"' as u64)) | zero_bytes(word ^ (ONES * b'\\' as u64));
        if WRITE {
            found |= word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            // The four high bits of a byte are set.
            found |= word & (word << 1) & (word << 2) & (word << 3) & HIGHS;
        }
        found
    }

    pub fn find<const WRITE: bool>(bytes: &[u8], from: usize) -> Option<Stop> {
        let mut at = from;
        let mut high = 0u64;
        while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            if candidates::<WRITE>(word) != 0 {
                break;
            }
            high |= word & HIGHS;
            at += 8;
        }
        for (offset, byte) in bytes.get(at..)?.iter().enumerate() {
            if stops::<WRITE>(*byte) {
                return Some(Stop { at: at + offset, non_ascii: high != 0 });
            }
            high |= u64::from(*byte & 0x80);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive<const WRITE: bool>(bytes: &[u8], from: usize) -> Option<Stop> {
        let offset = bytes.get(from..)?.iter().position(|b| stops::<WRITE>(*b))?;
        Some(Stop { at: from + offset, non_ascii: !bytes[from..from + offset].is_ascii() })
    }

    #[test]
    fn every_implementation_agrees_with_the_naive_one_at_every_offset() {
        let alphabet = [b'a', b'"', b'\\', 0x1f, 0x20, 0x80, 0xff, 0xf0, 0xef, 0x21, 0x5d, 0x7f, 0x00];
        let mut seed = 7u64;
        for round in 0..4_000usize {
            let bytes: Vec<u8> = (0..round % 70)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let pick = (seed >> 33) as usize;
                    // Mostly plain text, so that scans get far.
                    if pick.is_multiple_of(9) { alphabet[(pick / 9) % alphabet.len()] } else { b'x' }
                })
                .collect();
            for from in 0..=bytes.len() + 1 {
                assert_eq!(find::<false>(&bytes, from), naive::<false>(&bytes, from), "{bytes:?} from {from}");
                assert_eq!(find::<true>(&bytes, from), naive::<true>(&bytes, from), "{bytes:?} from {from}");
                assert_eq!(
                    portable::find::<false>(&bytes, from),
                    naive::<false>(&bytes, from),
                    "{bytes:?} from {from}"
                );
                assert_eq!(portable::find::<true>(&bytes, from), naive::<true>(&bytes, from), "{bytes:?} from {from}");
            }
        }
    }
}

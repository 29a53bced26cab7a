//! One record of a batch: varints, key and value, found without a copy. Headers are skipped by the record's length.

use super::Damage;

/// What follows from a batch for the time of a record.
pub(super) struct RawRecord<'a> {
    pub(super) time_delta_ms: i64,
    pub(super) offset_delta: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

/// The longest varint of 64 bits.
const VARINT_BYTES_MAX: u32 = 10;
const TRUNCATED: Damage = Damage::Malformed("a record ends too early");

/// A number in zigzag encoding at `at`, which moves behind it.
#[inline(always)]
pub(super) fn varint(bytes: &[u8], at: &mut usize) -> Result<i64, Damage> {
    match bytes.get(*at) {
        Some(&byte) if byte < 0x80 => {
            *at += 1;
            Ok(zigzag(u64::from(byte)))
        }
        Some(_) => long_varint(bytes, at),
        None => Err(TRUNCATED),
    }
}

#[inline]
fn long_varint(bytes: &[u8], at: &mut usize) -> Result<i64, Damage> {
    let mut number = 0u64;
    for place in 0..VARINT_BYTES_MAX {
        let Some(&byte) = bytes.get(*at) else { return Err(TRUNCATED) };
        *at += 1;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(zigzag(number));
        }
    }
    Err(Damage::Malformed("a number in a record has no end"))
}

#[inline(always)]
fn zigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// The record at `at`, which moves to the next one.
#[inline(always)]
pub(super) fn read<'a>(bytes: &'a [u8], at: &mut usize) -> Result<RawRecord<'a>, Damage> {
    let length = varint(bytes, at)?;
    let rest = &bytes[*at..];
    let record = usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(TRUNCATED)?;
    *at += record.len();
    // The first byte holds attributes that nobody uses yet.
    let mut inside = 1;
    let time_delta_ms = varint(record, &mut inside)?;
    let offset_delta = varint(record, &mut inside)?;
    let key = sized(record, &mut inside)?;
    let value = sized(record, &mut inside)?;
    Ok(RawRecord { time_delta_ms, offset_delta, key, value })
}

/// Bytes after their length; a negative length stands for none.
#[inline(always)]
fn sized<'a>(record: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, Damage> {
    let Ok(length) = usize::try_from(varint(record, at)?) else { return Ok(None) };
    let bytes = record[*at..].get(..length).ok_or(TRUNCATED)?;
    *at += length;
    Ok(Some(bytes))
}

//! The reader against batches that kafka-protocol's encoder wrote, and against damage.

#![allow(clippy::unwrap_used)]

use std::io::Write;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use proptest::prelude::*;

use super::*;

/// Offset, time, key, value.
type Owned = (i64, Option<i64>, Option<Vec<u8>>, Option<Vec<u8>>);

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    producer_id: i64,
    transactional: bool,
    control: bool,
}

fn record(offset: i64, key: Option<&[u8]>, value: Option<&[u8]>, kind: Kind) -> Record {
    let mut headers = Default::default();
    if offset % 3 == 0 {
        add_header(&mut headers);
    }
    Record {
        transactional: kind.transactional,
        control: kind.control,
        partition_leader_epoch: 3,
        producer_id: kind.producer_id,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: 1_000_000 + offset * 7,
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers,
    }
}

fn add_header<M: Extend<(StrBytes, Option<Bytes>)>>(headers: &mut M) {
    headers.extend([(StrBytes::from_static_str("h"), Some(Bytes::from_static(b"header")))]);
}

fn compressed(codec: Compression, plain: &[u8], framed: bool) -> Vec<u8> {
    match codec {
        Compression::None => plain.to_vec(),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Snappy if framed => {
            let mut out = vec![0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
            for chunk in plain.chunks(50) {
                let block = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
                out.extend_from_slice(&(block.len() as i32).to_be_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        Compression::Snappy => snap::raw::Encoder::new().compress_vec(plain).unwrap(),
        Compression::Lz4 => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd => zstd::stream::encode_all(plain, 3).unwrap(),
    }
}

/// One batch with these records.
fn batch(records: &[Record], codec: Compression, framed: bool) -> Vec<u8> {
    let mut out = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: codec };
    let compress = |plain: &mut BytesMut, out: &mut BytesMut, codec: Compression| {
        out.extend_from_slice(&compressed(codec, plain, framed));
        Ok(())
    };
    RecordBatchEncoder::encode_with_custom_compression(&mut out, records, &options, Some(compress)).unwrap();
    out.to_vec()
}

/// Everything from `position` on, `step` records at a time, and where the position ends.
fn read(
    set: &[u8],
    aborted: &[AbortedTransaction],
    position: i64,
    step: usize,
    check: bool,
) -> Result<(Vec<Owned>, i64), Damage> {
    let mut cursor = Cursor::new(aborted.to_vec(), check);
    let (mut decompressor, mut position, mut out) = (Decompressor::default(), position, Vec::new());
    loop {
        let before = out.len();
        let visited = cursor.read(set, &mut decompressor, &mut position, step, |r| {
            out.push((r.offset, r.timestamp_ms, r.key.map(<[u8]>::to_vec), r.value.map(<[u8]>::to_vec)));
        })?;
        assert_eq!(visited, out.len() - before);
        if visited < step {
            return Ok((out, position));
        }
    }
}

fn owned(record: &Record) -> Owned {
    let bytes = |b: &Option<Bytes>| b.as_ref().map(|b| b.to_vec());
    (record.offset, Some(record.timestamp), bytes(&record.key), bytes(&record.value))
}

fn payload() -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

/// Batches with gaps between and within them, as compaction leaves them.
fn batches() -> impl Strategy<Value = Vec<(usize, bool, Vec<Record>)>> {
    let one = (1i64..4, payload(), payload());
    let batch = (0..CODECS.len(), any::<bool>(), proptest::collection::vec(one, 1..30));
    proptest::collection::vec(batch, 1..6).prop_map(|batches| {
        let mut offset = 0;
        let mut record = |(gap, key, value): (i64, Option<Vec<u8>>, Option<Vec<u8>>)| {
            offset += gap;
            record(offset, key.as_deref(), value.as_deref(), Kind::default())
        };
        batches
            .into_iter()
            .map(|(codec, framed, records)| (codec, framed, records.into_iter().map(&mut record).collect()))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_another_writer_wrote_is_read(
        batches in batches(),
        from in 0i64..60,
        step in 1usize..40,
        cut in 1usize..60,
    ) {
        let mut set = Vec::new();
        for (codec, framed, records) in &batches {
            set.extend_from_slice(&batch(records, CODECS[*codec], *framed));
        }
        let whole = set.len();
        let records: Vec<&Record> = batches.iter().flat_map(|b| &b.2).collect();
        let next = records.last().unwrap().offset + 1;
        // The beginning of one more batch, as the end of an answer has it.
        let extra = batch(&[record(next, None, Some(b"cut off"), Kind::default())], Compression::None, false);
        set.extend_from_slice(&extra[..cut]);
        prop_assert_eq!(whole_batches(&set), (whole, Some(next)));
        let expected: Vec<Owned> = records.into_iter().filter(|r| r.offset >= from).map(owned).collect();
        let (found, position) = read(&set, &[], from, step, true).unwrap();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(position, next.max(from));
    }

    #[test]
    fn damage_is_found_and_never_panics(
        batches in batches(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 1u8..=255), 1..8),
        cut in any::<prop::sample::Index>(),
        check in any::<bool>(),
    ) {
        let mut set = Vec::new();
        for (codec, framed, records) in &batches {
            set.extend_from_slice(&batch(records, CODECS[*codec], *framed));
        }
        for (at, flip) in flips {
            let at = at.index(set.len());
            set[at] ^= flip;
        }
        set.truncate(cut.index(set.len()) + 1);
        let (whole, _) = whole_batches(&set);
        prop_assert!(whole <= set.len());
        let _ = read(&set[..whole], &[], 0, 10, check);
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        let _ = read(&bytes, &[], 0, 10, false);
        if bytes.len() > 16 {
            // A head that is taken seriously.
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            whole_batches(&bytes);
            let _ = read(&bytes, &[], 0, 10, false);
        }
    }
}

#[test]
fn a_single_flipped_bit_behind_the_checksum_is_found() {
    let records: Vec<Record> = (0..5).map(|o| record(o, None, Some(b"value"), Kind::default())).collect();
    for codec in CODECS {
        let good = batch(&records, codec, true);
        for at in 21..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(matches!(read(&bad, &[], 0, 10, true), Err(Damage::Checksum { .. })), "{codec:?}, byte {at}");
        }
    }
}

#[test]
fn aborted_transactions_and_markers_are_passed_over() {
    let of = |producer_id| Kind { producer_id, transactional: true, control: false };
    let marker = |producer_id, offset: i64, kind: u8| {
        let key: [u8; 4] = [0, 0, 0, kind];
        let control = Kind { producer_id, transactional: true, control: true };
        batch(&[record(offset, Some(&key), Some(&[0; 6]), control)], Compression::None, false)
    };
    let data = |producer_id, offset: i64| {
        let value = offset.to_string();
        batch(&[record(offset, None, Some(value.as_bytes()), of(producer_id))], Compression::Lz4, false)
    };
    let plain = batch(&[record(9, None, Some(b"9"), Kind::default())], Compression::None, false);
    // Producer 1 aborts its first transaction and commits its second one, producer 2 commits in between.
    let set = [
        data(1, 0),
        data(2, 1),
        data(1, 2),
        marker(1, 3, 0),
        data(1, 4),
        marker(2, 5, 1),
        marker(1, 6, 1),
        data(1, 7),
        marker(1, 8, 0),
        plain,
        marker(2, 10, 1),
    ]
    .concat();
    let aborted = [
        AbortedTransaction { producer_id: 1, first_offset: 7 },
        AbortedTransaction { producer_id: 1, first_offset: 0 },
    ];
    let offsets = |aborted: &[AbortedTransaction], from, step| {
        let (records, position) = read(&set, aborted, from, step, true).unwrap();
        assert_eq!(position, 11);
        records.into_iter().map(|r| r.0).collect::<Vec<_>>()
    };
    for step in [1, 2, 100] {
        assert_eq!(offsets(&aborted, 0, step), [1, 4, 9]);
        assert_eq!(offsets(&[], 0, step), [0, 1, 2, 4, 7, 9], "uncommitted");
        assert_eq!(offsets(&aborted, 2, step), [4, 9]);
    }
}

#[test]
fn the_brokers_time_is_that_of_the_batch_and_no_time_is_none() {
    let mut records = vec![record(0, None, Some(b"a"), Kind::default()), record(1, None, None, Kind::default())];
    let mut set = batch(&records, Compression::None, false);
    set[22] |= 0x08;
    let (read_back, _) = read(&set, &[], 0, 10, false).unwrap();
    assert_eq!(read_back.iter().map(|r| r.1).collect::<Vec<_>>(), [Some(1_000_007); 2]);
    records.iter_mut().for_each(|r| r.timestamp = -1);
    let (read_back, _) = read(&batch(&records, Compression::None, false), &[], 0, 10, true).unwrap();
    assert_eq!(read_back.iter().map(|r| r.1).collect::<Vec<_>>(), [None; 2]);
}

#[test]
fn old_formats_and_unknown_compressions_are_named() {
    let good = batch(&[record(0, None, Some(b"a"), Kind::default())], Compression::None, false);
    let mut old = good.clone();
    old[16] = 1;
    assert_eq!(read(&old, &[], 0, 10, true), Err(Damage::OldFormat { magic: 1 }));
    // It is not cut off as if it were incomplete.
    assert_eq!(whole_batches(&old).0, old.len());
    let mut unknown = good;
    unknown[22] |= 7;
    assert_eq!(read(&unknown, &[], 0, 10, false), Err(Damage::UnknownCompression(7)));
}

#[test]
fn an_empty_batch_moves_the_position() {
    // What compaction leaves of a producer's last batch.
    let mut empty = batch(&[record(41, None, None, Kind::default())], Compression::None, false);
    empty.truncate(61);
    empty[8..12].copy_from_slice(&49i32.to_be_bytes());
    empty[57..61].copy_from_slice(&0i32.to_be_bytes());
    assert_eq!(read(&empty, &[], 40, 10, false), Ok((Vec::new(), 42)));
}

#[test]
fn a_batch_that_claims_to_grow_without_bounds_is_refused() {
    let mut block = Vec::new();
    // A snappy block begins with the length of what it holds: here 4 GiB less one byte.
    block.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]);
    let error = Decompressor::default().decompress(2, &block).unwrap_err();
    assert!(matches!(error, Damage::Compression { codec: "snappy", .. }), "{error}");
}

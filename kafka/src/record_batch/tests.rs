#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kafka_protocol::records::{RecordBatchDecoder, TimestampType};
use proptest::prelude::*;

use super::*;

type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

fn batch(records: &[Pair]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in records {
        let value = value.as_ref().map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value));
        batch.append(key.as_deref(), value);
    }
    batch
}

fn stamp() -> Stamp {
    let identity = ProducerIdentity { producer_id: 4_711, producer_epoch: 3 };
    Stamp { identity, sequence: 17, transactional: true }
}

/// A field of unknown size around the limits at which a length takes one byte more.
fn part() -> impl Strategy<Value = Option<Vec<u8>>> {
    let sizes = prop_oneof![4 => 0usize..140, 1 => 8_150usize..8_250];
    proptest::option::weighted(0.8, sizes.prop_flat_map(|size| proptest::collection::vec(any::<u8>(), size)))
}

proptest! {
    #[test]
    fn another_decoder_reads_what_was_appended(records in proptest::collection::vec((part(), part()), 1..40)) {
        let mut batch = batch(&records);
        batch.close(1_234_567, &mut Compressor::None, &mut Vec::new()).unwrap();
        batch.stamp(Some(stamp()));
        let decoded = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(batch.bytes())).unwrap().records;
        prop_assert_eq!(decoded.len(), records.len());
        for (at, (record, (key, value))) in (0i32..).zip(decoded.iter().zip(&records)) {
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!((record.offset, record.sequence), (i64::from(at), 17 + at));
            prop_assert_eq!((record.timestamp, record.timestamp_type), (1_234_567, TimestampType::Creation));
            prop_assert_eq!((record.producer_id, record.producer_epoch), (4_711, 3));
            prop_assert!(record.transactional && !record.control && record.headers.is_empty());
        }
    }

    #[test]
    fn a_record_that_moves_on_leaves_no_trace(
        records in proptest::collection::vec((part(), part()), 0..5),
        last in (part(), part()),
    ) {
        let mut whole = batch(&records);
        let value = last.1.as_ref().map(|value| |out: &mut Vec<u8>| out.extend_from_slice(value));
        let appended = whole.append(last.0.as_deref(), value);
        let mut next = Batch::default();
        whole.move_last(appended, &mut next);
        let before = batch(&records);
        prop_assert_eq!(&whole.bytes[HEAD_BYTES..], before.bytes.get(HEAD_BYTES..).unwrap_or_default());
        prop_assert_eq!((whole.records, whole.payload_bytes), (before.records, before.payload_bytes));
        let alone = batch(&[last]);
        prop_assert_eq!((&next.bytes, next.records), (&alone.bytes, 1));
    }
}

#[test]
fn a_batch_can_be_stamped_again_and_without_an_identity() {
    let mut batch = batch(&[(None, Some(b"x".to_vec()))]);
    batch.close(1, &mut Compressor::None, &mut Vec::new()).unwrap();
    for (given, sequence) in [(Some(stamp()), 17), (Some(Stamp { sequence: 0, ..stamp() }), 0), (None, -1)] {
        batch.stamp(given);
        let decoded = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(batch.bytes())).unwrap().records;
        assert_eq!((decoded[0].sequence, decoded[0].transactional), (sequence, given.is_some()));
    }
}

#[test]
fn every_codec_keeps_its_number_and_can_be_undone() {
    use std::io::Read;
    let records: Vec<Pair> = (0..5_000).map(|i| (None, Some(format!("value {i}").into_bytes()))).collect();
    let plain = batch(&records);
    for (name, attribute) in [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)] {
        let mut batch = batch(&records);
        batch.close(1, &mut Compressor::new(name, None).unwrap(), &mut Vec::new()).unwrap();
        batch.stamp(None);
        assert_eq!(batch.bytes[field::ATTRIBUTES + 1], attribute);
        // What waits is counted by its bytes.
        assert!(attribute == 0 || batch.bytes.capacity() == batch.bytes.len());
        let packed = &batch.bytes[HEAD_BYTES..];
        let mut out = Vec::new();
        match name {
            "none" => out.extend_from_slice(packed),
            "gzip" => drop(flate2::read::GzDecoder::new(packed).read_to_end(&mut out).unwrap()),
            "snappy" => {
                let mut rest = &packed[16..];
                while let Some((length, more)) = rest.split_first_chunk::<4>() {
                    let (block, more) = more.split_at(u32::from_be_bytes(*length) as usize);
                    out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
                    rest = more;
                }
            }
            "lz4" => drop(lz4_flex::frame::FrameDecoder::new(packed).read_to_end(&mut out).unwrap()),
            _ => out = zstd::stream::decode_all(packed).unwrap(),
        }
        assert_eq!(out, plain.bytes[HEAD_BYTES..], "{name}");
    }
    assert!(Compressor::new("brotli", None).is_err());
}

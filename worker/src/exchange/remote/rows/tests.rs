//! Rows there and back, and what is no row.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, Int8Array, Int32Array, Int64Array, NullArray, StringArray};
use arrow_schema::{Field, Schema};

use super::super::cutter::Cutter;
use super::*;

/// A small generator of its own, so that a seed is all that a failure needs.
struct Random(u64);

impl Random {
    /// A seed from `MILLSTREAM_SHUFFLE_SEED`, or a new one; it is printed.
    fn seeded() -> Self {
        let given = std::env::var("MILLSTREAM_SHUFFLE_SEED").ok().and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| getrandom::u64().unwrap());
        println!("MILLSTREAM_SHUFFLE_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
    Arc::new(Schema::new(vec![
        field("b", DataType::Boolean, true),
        field("n", DataType::Int64, true),
        field("s", DataType::Utf8, true),
        field("d", DataType::Decimal128(20, 2), false),
        field("x", DataType::Binary, true),
        field("i", DataType::Int32, false),
        field("z", DataType::Null, true),
        field(ROW_KIND, DataType::Int8, false),
    ]))
}

/// Rows with what is hard: NULL, empty and long values, offsets that do not begin at 0.
fn rows(random: &mut Random, count: usize) -> RecordBatch {
    let extra = random.below(9);
    let total = count + extra;
    let mut maybe = |value: u64| (random.below(5) > 0).then_some(value);
    let numbers: Vec<Option<u64>> = (0..total as u64).map(&mut maybe).collect();
    let texts = numbers.iter().map(|n| n.map(|n| "ä".repeat(usize::try_from(n % 7).unwrap())));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers.iter().map(|n| n.map(|n| n % 3 == 0)).collect::<BooleanArray>()),
        Arc::new(numbers.iter().map(|n| n.map(u64::cast_signed)).collect::<Int64Array>()),
        Arc::new(texts.collect::<StringArray>()),
        Arc::new(
            Decimal128Array::from_iter_values((0..total as i128).map(|n| n * 1_000_000_007))
                .with_precision_and_scale(20, 2)
                .unwrap(),
        ),
        Arc::new(arrow_array::BinaryArray::from_iter(numbers.iter().map(|n| n.map(u64::to_le_bytes)))),
        Arc::new(Int32Array::from_iter_values(0..i32::try_from(total).unwrap())),
        Arc::new(NullArray::new(total)),
        Arc::new(Int8Array::from_iter_values((0..total).map(|n| i8::try_from(n % 4).unwrap()))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap().slice(extra, count)
}

fn encode(encoder: &mut RowsEncoder, batch: &RecordBatch) -> Vec<RowsFrame> {
    let mut frames = Vec::new();
    encoder.encode(batch, |frame| frames.push(frame)).unwrap();
    frames
}

fn cut(bytes: &Bytes) -> Frame {
    Cutter::default().take(&mut bytes.clone()).unwrap().unwrap()
}

#[test]
fn rows_survive_the_way_and_both_sides_count_the_same() {
    let mut random = Random::seeded();
    for compression in [Compression::None, Compression::Lz4] {
        let mut encoder = RowsEncoder::new(ChannelId(3), &schema(), compression).unwrap();
        let decoder = RowsDecoder::new(schema());
        for count in [1, 7, 8, 63, 1000, 8192] {
            let batch = rows(&mut random, count);
            for frame in encode(&mut encoder, &batch) {
                assert!(frame.bytes.len() <= FRAME_LIMIT);
                let decoded = decoder.decode(cut(&frame.bytes)).unwrap();
                assert_eq!(decoded.batch, batch);
                assert_eq!(decoded.credit_bytes, frame.credit_bytes);
                if compression == Compression::None {
                    assert_eq!(frame.credit_bytes + HEADER_BYTES, frame.bytes.len());
                }
            }
        }
    }
}

const FRAME_LIMIT: usize = super::super::FRAME_BYTES_MAX;

#[test]
fn arrays_point_into_the_frame() {
    let batch = rows(&mut Random(1), 1000);
    let mut encoder = RowsEncoder::new(ChannelId(3), &schema(), Compression::None).unwrap();
    let frame = cut(&encode(&mut encoder, &batch)[0].bytes);
    let payload = frame.payload.as_slice().as_ptr_range();
    let decoded = RowsDecoder::new(schema()).decode(frame).unwrap();
    for column in decoded.batch.columns() {
        for buffer in column.to_data().buffers() {
            assert!(buffer.is_empty() || payload.contains(&buffer.as_ptr()), "{} was copied", column.data_type());
        }
    }
}

#[test]
fn rows_without_columns_have_a_number() {
    let schema: SchemaRef = Arc::new(Schema::empty());
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(17));
    let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), Vec::new(), &options).unwrap();
    let mut encoder = RowsEncoder::new(ChannelId(3), &schema, Compression::None).unwrap();
    let frames = encode(&mut encoder, &batch);
    assert_eq!(RowsDecoder::new(schema).decode(cut(&frames[0].bytes)).unwrap().batch.num_rows(), 17);
}

fn texts(rows: usize, bytes: usize) -> (SchemaRef, RecordBatch) {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("s", DataType::Utf8, false),
        Field::new(ROW_KIND, DataType::Int8, false),
    ]));
    let text = "x".repeat(bytes);
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values((0..rows).map(|_| &text))),
        Arc::new(Int8Array::from_iter_values((0..rows).map(|n| 1 + i8::from(n % 2 == 1)))),
    ];
    (Arc::clone(&schema), RecordBatch::try_new(schema, columns).unwrap())
}

#[test]
fn a_batch_that_is_too_large_goes_in_pieces_that_keep_updates_together() {
    let (schema, batch) = texts(42, 1 << 20);
    let mut encoder = RowsEncoder::new(ChannelId(3), &schema, Compression::None).unwrap();
    let decoder = RowsDecoder::new(schema);
    let frames = encode(&mut encoder, &batch);
    assert!(frames.len() > 2);
    let mut seen = 0;
    for frame in frames {
        assert!(frame.bytes.len() <= FRAME_LIMIT);
        let piece = decoder.decode(cut(&frame.bytes)).unwrap().batch;
        assert_eq!(piece.num_rows() % 2, 0, "a -U without its +U");
        assert_eq!(piece, batch.slice(seen, piece.num_rows()));
        seen += piece.num_rows();
    }
    assert_eq!(seen, 42);
}

#[test]
fn a_row_that_is_too_large_is_one_clear_error() {
    let (schema, batch) = texts(1, FRAME_LIMIT);
    let mut encoder = RowsEncoder::new(ChannelId(3), &schema, Compression::None).unwrap();
    let error = encoder.encode(&batch, |_| panic!("it does not fit")).unwrap_err();
    assert!(matches!(error, ExchangeError::RowTooLarge { .. }), "{error}");
    // The next one is not touched by it.
    let (_, small) = texts(2, 10);
    assert_eq!(encode(&mut encoder, &small).len(), 1);
}

/// Frames that were changed in any way are refused, or are other rows; nothing panics, nothing else is read.
#[test]
fn changed_frames_never_panic() {
    let mut random = Random::seeded();
    let decoder = RowsDecoder::new(schema());
    for compression in [Compression::None, Compression::Lz4] {
        let mut encoder = RowsEncoder::new(ChannelId(3), &schema(), compression).unwrap();
        for _ in 0..20_000 {
            let count = 1 + random.below(20);
            let batch = rows(&mut random, count);
            let mut bytes = encode(&mut encoder, &batch)[0].bytes.to_vec();
            // Most of the structure is in the first bytes.
            let reach = if random.below(4) == 0 { bytes.len() } else { bytes.len().min(600) };
            for _ in 0..=random.below(3) {
                let at = HEADER_BYTES + random.below(reach - HEADER_BYTES);
                match random.below(4) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes[at] = 0xff,
                    2 => bytes[at] = 0,
                    _ => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                }
            }
            let frame = Frame {
                header: Header::read(bytes[..HEADER_BYTES].try_into().unwrap()).unwrap(),
                payload: Buffer::from(&bytes[HEADER_BYTES..]),
            };
            if let Ok(rows) = decoder.decode(frame) {
                assert!(rows.batch.num_rows() <= ROWS_MAX);
                // Whatever they are, they can be printed.
                let _ = format!("{:?}", rows.batch);
            }
        }
    }
}

/// Anything at all on a connection is cut into frames or refused, and takes no more memory than it has bytes.
#[test]
fn random_bytes_never_panic() {
    let mut random = Random::seeded();
    let decoder = RowsDecoder::new(schema());
    for _ in 0..20_000 {
        let length = random.below(200);
        let mut bytes: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        if length >= HEADER_BYTES && random.below(2) == 0 {
            let kinds =
                [Kind::Rows { lz4: false }, Kind::Rows { lz4: true }, Kind::Barrier, Kind::Consumed, Kind::Idle];
            let header =
                Header { kind: kinds[random.below(5)], channel: ChannelId(3), payload_bytes: random.below(17) };
            bytes[..HEADER_BYTES].copy_from_slice(&header.write());
        }
        let mut cutter = Cutter::default();
        let mut bytes = Bytes::from(bytes);
        while let Ok(Some(frame)) = cutter.take(&mut bytes) {
            let _ = match frame.header.kind {
                Kind::Rows { .. } => decoder.decode(frame).map(|_| ()),
                Kind::Consumed => frame.consumed().map(|_| ()),
                _ => frame.control().map(|_| ()),
            };
        }
        let _ = cutter.end();
    }
}

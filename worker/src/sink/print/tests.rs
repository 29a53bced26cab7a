//! Lines as Flink prints them, through the process's writer.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use arrow_array::types::Decimal128Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DurationMillisecondArray, Float64Array, Int8Array, Int32Array,
    Int64Array, PrimitiveArray, StringArray, Time32MillisecondArray, TimestampMicrosecondArray,
    TimestampMillisecondArray,
};
use millstream_api::graph::{Field, NotNullEnforcer, Schema, SinkConnector, SinkTransform, SqlType};
use millstream_api::ids::TransformUid;

use super::*;
use crate::sink::open::open;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Fails;

impl Write for Fails {
    fn write(&mut self, _buf: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn schema() -> Schema {
    Schema::new(vec![Field::new("id", SqlType::BigInt, true), Field::new("name", SqlType::STRING, true)])
}

/// A print sink whose slot is the calling thread: the receiver gets the wake-ups.
fn sink(
    schema: &Schema,
    changelog: ChangelogMode,
    options: PrintOptions,
) -> (Box<dyn Sink>, crossbeam_channel::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (wake, woken) = crossbeam_channel::unbounded();
    let cx = SinkContext {
        uid: TransformUid("out".to_owned()),
        job: "test".to_owned(),
        job_uid: "test".to_owned(),
        index: 1,
        parallelism: 2,
        schema: schema.clone(),
        changelog,
        transaction_pool: 3,
        restored_transactions: Vec::new(),
        waker: Arc::new(move || {
            let _ = wake.send(());
        }),
        io: runtime.handle().clone(),
    };
    let transform = SinkTransform {
        table: "out".to_owned(),
        connector: SinkConnector::Print(options),
        primary_key: Vec::new(),
        not_null_enforcer: NotNullEnforcer::Error,
    };
    (open(&transform, cx).unwrap(), woken)
}

/// Prepares and commits an epoch as a task does: polls when it is woken.
fn checkpoint(sink: &mut dyn Sink, woken: &crossbeam_channel::Receiver<()>, epoch: Epoch) -> Result<(), SinkError> {
    sink.prepare(epoch)?;
    while sink.poll_prepared(epoch)?.is_none() {
        woken.recv_timeout(std::time::Duration::from_secs(30)).expect("the writer wakes the slot");
    }
    sink.sealed(epoch)?;
    assert_eq!(sink.poll_committed()?, Some(epoch));
    Ok(())
}

fn batch(schema: &Schema, columns: Vec<ArrayRef>, kinds: Option<Vec<i8>>) -> RecordBatch {
    let Some(kinds) = kinds else { return RecordBatch::try_new(schema.arrow(), columns).unwrap() };
    let columns = columns.into_iter().chain([Arc::new(Int8Array::from(kinds)) as ArrayRef]).collect();
    RecordBatch::try_new(schema.arrow_with_row_kind(), columns).unwrap()
}

/// One test, because the writer is the process's.
#[test]
fn lines_are_out_when_the_epoch_is_prepared_and_a_stream_that_fails_fails_the_sink() {
    let captured = Captured::default();
    output::redirect(Stream::Error, Some(Box::new(captured.clone())));
    let schema = schema();
    let options = PrintOptions { identifier: Some("clicks".to_owned()), standard_error: true };
    let retract = ChangelogMode::Retract { upsert_keys: vec![0] };
    let (mut sink, woken) = sink(&schema, retract, options.clone());
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 1, 1])), Arc::new(StringArray::from(vec![Some("a"), Some("a"), None]))];
    sink.write(batch(&schema, columns, Some(vec![0, 1, 2]))).unwrap();
    checkpoint(sink.as_mut(), &woken, Epoch(1)).unwrap();
    assert_eq!(captured.text(), "clicks:2> +I[1, a]\nclicks:2> -U[1, a]\nclicks:2> +U[1, null]\n");
    assert!(sink.idle());

    many_rows(&captured, &options);

    one_fills_the_queue_and_another_waits(&options);

    output::redirect(Stream::Error, Some(Box::new(Fails)));
    sink.write(batch(
        &schema,
        vec![Arc::new(Int64Array::from(vec![1])), Arc::new(StringArray::from(vec!["a"]))],
        Some(vec![0]),
    ))
    .unwrap();
    let error = checkpoint(sink.as_mut(), &woken, Epoch(2)).unwrap_err().to_string();
    assert!(error.contains("failed to print"), "{error}");
    output::redirect(Stream::Error, None);
}

/// More text than the queue holds: the sink says that it is not ready, and goes on when it is woken.
fn many_rows(captured: &Captured, options: &PrintOptions) {
    captured.0.lock().unwrap().clear();
    let schema = Schema::new(vec![Field::new("name", SqlType::STRING, true)]);
    let (mut sink, woken) = sink(&schema, ChangelogMode::Append, options.clone());
    let name: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1000); 1000]));
    for _ in 0..10 {
        sink.write(batch(&schema, vec![name.clone()], None)).unwrap();
        while !sink.ready() {
            woken.recv_timeout(std::time::Duration::from_secs(30)).expect("the writer wakes the slot");
        }
    }
    checkpoint(sink.as_mut(), &woken, Epoch(1)).unwrap();
    assert_eq!(captured.text().lines().count(), 10_000);
}

/// Writes nothing until it is told to.
struct Gate(crossbeam_channel::Receiver<()>);

impl Write for Gate {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv_timeout(std::time::Duration::from_secs(30));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nothing in the queue is the second sink's, so none of its messages can wake it: room for them must.
fn one_fills_the_queue_and_another_waits(options: &PrintOptions) {
    let (open, gate) = crossbeam_channel::unbounded();
    output::redirect(Stream::Error, Some(Box::new(Gate(gate))));
    let schema = Schema::new(vec![Field::new("name", SqlType::STRING, true)]);
    let row = || batch(&schema, vec![Arc::new(StringArray::from(vec!["x"])) as ArrayRef], None);
    let (mut first, _woken) = sink(&schema, ChangelogMode::Append, options.clone());
    while first.ready() {
        first.write(row()).unwrap();
    }
    let (mut second, woken) = sink(&schema, ChangelogMode::Append, options.clone());
    second.write(row()).unwrap();
    assert!(!second.ready());
    drop(open);
    while !second.ready() {
        woken.recv_timeout(std::time::Duration::from_secs(30)).expect("room in the queue wakes the slot");
    }
    checkpoint(second.as_mut(), &woken, Epoch(1)).unwrap();
}

#[test]
fn the_prefix_is_the_identifier_and_the_task_that_counts_from_one() {
    assert_eq!(prefix(None, 0, 1), "");
    assert_eq!(prefix(None, 0, 2), "1> ");
    assert_eq!(prefix(Some("p"), 0, 1), "p> ");
    assert_eq!(prefix(Some("p"), 3, 4), "p:4> ");
    assert_eq!(prefix(Some(""), 0, 1), "");
}

#[test]
fn each_type_prints_as_its_java_form() {
    let decimal: PrimitiveArray<Decimal128Type> = [Some(-12_345)].into_iter().collect();
    let millis = 1_700_000_000_500_i64;
    let cases: Vec<(SqlType, ArrayRef, &str)> = vec![
        (SqlType::Boolean, Arc::new(BooleanArray::from(vec![true])), "true"),
        (SqlType::TinyInt, Arc::new(Int8Array::from(vec![-5])), "-5"),
        (SqlType::Double, Arc::new(Float64Array::from(vec![1e10])), "1.0E10"),
        (
            SqlType::Decimal { precision: 10, scale: 2 },
            Arc::new(decimal.with_precision_and_scale(10, 2).unwrap()),
            "-123.45",
        ),
        (SqlType::BYTES, Arc::new(BinaryArray::from(vec![&[1_u8, 255][..]])), "[1, -1]"),
        (SqlType::Date, Arc::new(Date32Array::from(vec![19_000])), "2022-01-08"),
        (SqlType::Time { precision: 0 }, Arc::new(Time32MillisecondArray::from(vec![3_600_000])), "01:00"),
        (SqlType::Time { precision: 3 }, Arc::new(Time32MillisecondArray::from(vec![61_020])), "00:01:01.020"),
        (
            SqlType::Timestamp { precision: 3 },
            Arc::new(TimestampMillisecondArray::from(vec![millis])),
            "2023-11-14T22:13:20.500",
        ),
        (SqlType::Timestamp { precision: 6 }, Arc::new(TimestampMicrosecondArray::from(vec![0])), "1970-01-01T00:00"),
        (
            SqlType::Timestamp { precision: 6 },
            Arc::new(TimestampMicrosecondArray::from(vec![-1])),
            "1969-12-31T23:59:59.999999",
        ),
        (
            SqlType::TimestampLtz { precision: 3 },
            Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC")),
            "1970-01-01T00:00:00Z",
        ),
        (SqlType::IntervalDayTime, Arc::new(DurationMillisecondArray::from(vec![90_061_500])), "PT25H1M1.5S"),
        (SqlType::IntervalDayTime, Arc::new(DurationMillisecondArray::from(vec![-500])), "PT-0.5S"),
        (SqlType::IntervalYearMonth, Arc::new(Int32Array::from(vec![14])), "P1Y2M"),
    ];
    for (ty, column, expected) in cases {
        let schema = Schema::new(vec![Field::new("v", ty.clone(), true)]);
        let batch = RecordBatch::try_new(schema.arrow(), vec![column]).unwrap();
        let mut line = Vec::new();
        row::RowText::new(&schema, false).write(&batch, 0, &mut line);
        assert_eq!(String::from_utf8(line).unwrap(), format!("+I[{expected}]"), "{ty}");
    }
}

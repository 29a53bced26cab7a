//! The harness of the tests of transforms: random rows, both phases of an aggregate in several tasks with a hash edge
//! between them, barriers with snapshots and restores at other parallelisms, and a reference without any of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Decimal128Type;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, PrimitiveArray, RecordBatch, StringArray,
    TimestampMillisecondArray, UInt32Array,
};
use arrow_select::take::take_record_batch;
use millstream_api::graph::{
    AggregateCall, AggregateFunction, ChangelogMode, Edge, EdgeKind, Field, GRAPH_VERSION, JobGraph, Schema, SqlType,
    Transform, TransformKind,
};
use millstream_api::ids::{Epoch, TransformId, TransformUid, key_group_range, owner_of};
use serde_json::Value;

use super::build::{BuildContext, build};
use super::{Collected, Emission, TransformContext, TransformError};
use crate::element::{WATERMARK_MIN, WatermarkMs};
use crate::keys::{hash_columns, key_groups};
use crate::sink::print::row::RowText;
use crate::state::{BackendConfig, ChangeBatch, State, StateConfig};

pub const MAX_PARALLELISM: u32 = 12;

/// A small generator; its seed is printed by the tests that use it.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    pub fn in_range(&mut self, range: Range<i64>) -> i64 {
        range.start + self.below((range.end - range.start) as u64) as i64
    }

    fn some<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.below(5) == 0 { None } else { Some(value(self)) }
    }
}

/// A row of the input.
#[derive(Clone, Debug)]
pub struct TestRow {
    pub k1: Option<i64>,
    pub k2: Option<String>,
    pub time: i64,
    pub int: Option<i32>,
    pub double: Option<f64>,
    pub text: Option<String>,
    /// Hundredths.
    pub money: Option<i128>,
    pub flag: Option<bool>,
}

pub const K1: usize = 0;
pub const K2: usize = 1;
pub const TIME: usize = 2;

pub fn row(random: &mut Random, time: i64) -> TestRow {
    TestRow {
        k1: random.some(|r| r.in_range(-3..4)),
        k2: random.some(|r| ["", "a", "b", "ä"][r.below(4) as usize].to_owned()),
        time,
        int: random.some(|r| r.in_range(-50..50) as i32 * 40_000_000),
        double: random.some(|r| if r.below(40) == 0 { f64::NAN } else { r.in_range(-20..20) as f64 / 2.0 }),
        text: random.some(|r| format!("{:x}", r.below(1 << 20))),
        money: random.some(|r| i128::from(r.in_range(-100_000..100_000))),
        flag: random.some(|r| r.below(2) == 0),
    }
}

pub fn input_schema() -> Schema {
    let field = |name: &str, ty, nullable| Field::new(name, ty, nullable);
    Schema::new(vec![
        field("k1", SqlType::BigInt, true),
        field("k2", SqlType::STRING, true),
        field("time", SqlType::Timestamp { precision: 3 }, true),
        field("int", SqlType::Int, true),
        field("double", SqlType::Double, true),
        field("text", SqlType::STRING, true),
        field("money", SqlType::Decimal { precision: 10, scale: 2 }, true),
        field("flag", SqlType::Boolean, true),
    ])
}

pub fn batch(rows: &[TestRow]) -> RecordBatch {
    let money: PrimitiveArray<Decimal128Type> = rows.iter().map(|r| r.money).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| r.k1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.k2.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| Some(r.time)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|r| r.int).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|r| r.double).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.text.clone()).collect::<StringArray>()),
        Arc::new(money.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(rows.iter().map(|r| r.flag).collect::<BooleanArray>()),
    ];
    RecordBatch::try_new(input_schema().arrow(), columns).unwrap()
}

/// The aggregates under test, and what they say about some rows.
pub fn calls() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    let call = |function, arg: Option<usize>, filter, ty: SqlType| AggregateCall {
        function,
        arg,
        arg_type: arg.map(|a| input_schema().fields[a].ty.clone()),
        filter,
        output: Field::new(format!("{function:?}{arg:?}{filter:?}"), ty, function != Count),
    };
    let decimal = |scale| SqlType::Decimal { precision: 38, scale };
    vec![
        call(Count, None, None, SqlType::BigInt),
        call(Count, Some(3), Some(7), SqlType::BigInt),
        call(Sum, Some(3), None, SqlType::Int),
        call(Avg, Some(3), None, SqlType::Int),
        call(Max, Some(3), Some(7), SqlType::Int),
        call(Sum, Some(4), None, SqlType::Double),
        call(Min, Some(4), None, SqlType::Double),
        call(Max, Some(4), None, SqlType::Double),
        call(Min, Some(5), None, SqlType::STRING),
        call(Max, Some(5), Some(7), SqlType::STRING),
        call(Sum, Some(6), None, decimal(2)),
        call(Avg, Some(6), Some(7), decimal(6)),
        call(Min, Some(2), None, SqlType::Timestamp { precision: 3 }),
        call(Max, Some(7), None, SqlType::Boolean),
    ]
}

/// What [`calls`] give over `rows`, as text; computed row by row.
pub fn reference_results(rows: &[&TestRow]) -> String {
    let flagged: Vec<&&TestRow> = rows.iter().filter(|r| r.flag == Some(true)).collect();
    let ints: Vec<i32> = rows.iter().filter_map(|r| r.int).collect();
    let sum = ints.iter().fold(0_i64, |sum, v| sum + i64::from(*v));
    let doubles: Vec<f64> = rows.iter().filter_map(|r| r.double).collect();
    let money: Vec<i128> = rows.iter().filter_map(|r| r.money).collect();
    let flagged_money: Vec<i128> = flagged.iter().filter_map(|r| r.money).collect();
    let by_java =
        |a: &f64, b: &f64| a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let values = [
        Some(rows.len().to_string()),
        Some(flagged.iter().filter(|r| r.int.is_some()).count().to_string()),
        (!ints.is_empty()).then(|| (sum as i32).to_string()),
        (!ints.is_empty()).then(|| (sum / ints.len() as i64).to_string()),
        flagged.iter().filter_map(|r| r.int).max().map(|v| v.to_string()),
        (!doubles.is_empty()).then(|| java(doubles.iter().sum())),
        doubles.iter().copied().min_by(by_java).map(java),
        doubles.iter().copied().max_by(by_java).map(java),
        rows.iter().filter_map(|r| r.text.clone()).min(),
        flagged.iter().filter_map(|r| r.text.clone()).max(),
        (!money.is_empty()).then(|| decimal(money.iter().sum(), 2)),
        (!flagged_money.is_empty()).then(|| {
            let (sum, count) = (flagged_money.iter().sum::<i128>() * 10_000, flagged_money.len() as i128);
            // Half up, away from zero.
            decimal((2 * sum.abs() + count) / (2 * count) * sum.signum(), 6)
        }),
        rows.iter().map(|r| r.time).min().map(timestamp),
        rows.iter().filter_map(|r| r.flag).max().map(|v| v.to_string()),
    ];
    values.map(|v| v.unwrap_or_else(|| "null".to_owned())).join(", ")
}

fn java(value: f64) -> String {
    use crate::format::text::number::JavaFloat;
    let mut out = Vec::new();
    value.write_java(&mut out);
    String::from_utf8(out).unwrap()
}

fn decimal(unscaled: i128, scale: usize) -> String {
    let digits = format!("{:0width$}", unscaled.abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let text = format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" });
    if unscaled == 0 && scale == 6 { "0.000000".to_owned() } else { text }
}

pub fn timestamp(ms: i64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms).unwrap();
    let text = time.format("%Y-%m-%dT%H:%M:%S%.f").to_string();
    text.strip_suffix(":00").map_or(text.clone(), str::to_owned)
}

/// The key columns of a row as text.
pub fn key_text(keys: &[usize], row: &TestRow) -> String {
    let text = keys.iter().map(|key| match *key {
        K1 => row.k1.map_or("null".to_owned(), |v| v.to_string()),
        K2 => row.k2.clone().unwrap_or_else(|| "null".to_owned()),
        _ => timestamp(row.time),
    });
    text.map(|t| t + ", ").collect()
}

/// Rows grouped by their keys' text.
pub fn by_key<'a>(keys: &[usize], rows: impl IntoIterator<Item = &'a TestRow>) -> BTreeMap<String, Vec<&'a TestRow>> {
    let mut groups: BTreeMap<String, Vec<&TestRow>> = BTreeMap::new();
    for row in rows {
        groups.entry(key_text(keys, row)).or_default().push(row);
    }
    groups
}

/// Lines as the print connector writes them.
pub fn lines(schema: &Schema, changelog: &ChangelogMode, batches: &[RecordBatch]) -> Vec<String> {
    let text = RowText::new(schema, !changelog.is_append());
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut line = Vec::new();
            text.write(batch, row, &mut line);
            lines.push(String::from_utf8(line).unwrap());
        }
    }
    lines
}

/// A transform of a test graph.
pub fn transform(id: u32, name: &str, kind: TransformKind, output: Schema, changelog: ChangelogMode) -> Transform {
    let uid = TransformUid(format!("test/{name}"));
    Transform { id: TransformId(id), uid, name: name.to_owned(), kind, output, changelog }
}

/// An input with `input_schema`, then `transforms`, each fed by the one before.
pub fn chain(transforms: Vec<Transform>) -> JobGraph {
    let mut all = vec![transform(0, "input", TransformKind::Union, input_schema(), ChangelogMode::Append)];
    all.extend(transforms);
    let edges = (1..all.len() as u32)
        .map(|to| Edge { from: TransformId(to - 1), to: TransformId(to), input: 0, kind: EdgeKind::Forward })
        .collect();
    JobGraph { version: GRAPH_VERSION, transforms: all, edges, compiled_from: None }
}

/// Where keyed state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Memory,
    Disk,
}

/// One task of one transform.
pub struct Task {
    transform: Box<dyn super::Transform>,
    pub state: State,
    /// Of the state, and so dropped after it.
    _scratch: Option<tempfile::TempDir>,
    pub watermark: WatermarkMs,
    pub now_ms: i64,
    out: Collected,
}

impl Task {
    /// A task with no keyed state to speak of.
    pub fn new(graph: &JobGraph, id: u32) -> Self {
        Self::keyed(graph, id, 0..0, Backend::Memory)
    }

    fn keyed(graph: &JobGraph, id: u32, groups: Range<u16>, backend: Backend) -> Self {
        let scratch = (backend == Backend::Disk).then(|| tempfile::tempdir().unwrap());
        let dir = scratch.as_ref().map(|s| s.path().join("state"));
        let backend = dir.map_or(BackendConfig::Memory, |dir| BackendConfig::Disk { dir });
        let config = StateConfig { owner: "t".into(), backend, bytes_max: 1 << 30, undo_bytes_max: 1 << 30 };
        let mut state = State::open(&config, groups).unwrap();
        let cx = BuildContext { graph, max_parallelism: MAX_PARALLELISM };
        let transform = build(graph.transform(TransformId(id)), &cx, &mut state).unwrap();
        Self { transform, state, _scratch: scratch, watermark: WATERMARK_MIN, now_ms: 0, out: Collected::default() }
    }

    /// Runs one call and what it left to be resumed.
    fn run(
        &mut self,
        call: impl FnOnce(
            &mut dyn super::Transform,
            &mut TransformContext<'_>,
            &mut Collected,
        ) -> Result<Emission, TransformError>,
    ) -> Result<Vec<RecordBatch>, TransformError> {
        let watermark = self.watermark;
        let mut cx = TransformContext { state: &mut self.state, processing_time_ms: self.now_ms, watermark };
        let mut emission = call(self.transform.as_mut(), &mut cx, &mut self.out)?;
        while emission == Emission::More {
            emission = self.transform.resume(&mut cx, &mut self.out)?;
        }
        Ok(std::mem::take(&mut self.out.batches))
    }

    pub fn rows(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, TransformError> {
        self.run(|transform, cx, out| transform.on_batch(0, batch, cx, out).map(|()| Emission::Done))
    }

    pub fn advance(&mut self, watermark: WatermarkMs) -> Vec<RecordBatch> {
        self.watermark = watermark;
        self.run(|transform, cx, out| transform.on_watermark(watermark, cx, out)).unwrap()
    }

    pub fn idle(&mut self) -> Vec<RecordBatch> {
        self.run(|transform, cx, out| transform.on_idle(cx, out)).unwrap()
    }

    pub fn barrier(&mut self, epoch: Epoch) -> Vec<RecordBatch> {
        self.run(|transform, cx, out| transform.on_barrier(epoch, cx, out)).unwrap()
    }

    pub fn timer(&mut self) -> Vec<RecordBatch> {
        self.run(|transform, cx, out| transform.on_timer(cx, out)).unwrap()
    }

    pub fn end(&mut self) -> Vec<RecordBatch> {
        self.run(|transform, cx, out| transform.on_end(cx, out)).unwrap()
    }

    pub fn next_timer_ms(&self) -> Option<i64> {
        self.transform.next_timer_ms()
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.transform.counters().into_iter().filter(|(n, _)| *n == name).map(|(_, v)| v).sum()
    }
}

/// A local phase (transform 1) and a global phase (transform 2) with a hash edge between them.
pub struct TwoPhases {
    graph: JobGraph,
    keys: usize,
    backend: Backend,
    locals: Vec<Task>,
    globals: Vec<Task>,
    epoch: Epoch,
    /// Everything ever snapshotted, oldest first.
    changes: Vec<ChangeBatch>,
    pub output: Vec<RecordBatch>,
}

impl TwoPhases {
    /// `keys`: how many columns of the local phase's output are the key.
    pub fn new(graph: JobGraph, keys: usize, parallelism: u32, backend: Backend) -> Self {
        let mut phases = Self {
            graph,
            keys,
            backend,
            locals: Vec::new(),
            globals: Vec::new(),
            epoch: Epoch(0),
            changes: Vec::new(),
            output: Vec::new(),
        };
        phases.deploy(parallelism);
        phases
    }

    fn deploy(&mut self, parallelism: u32) {
        self.locals = (0..parallelism).map(|_| Task::new(&self.graph, 1)).collect();
        let range = |index| key_group_range(index, parallelism, MAX_PARALLELISM);
        let global = |index| Task::keyed(&self.graph, 2, range(index), self.backend);
        self.globals = (0..parallelism).map(global).collect();
    }

    pub fn parallelism(&self) -> usize {
        self.locals.len()
    }

    /// Rows arrive at a local task.
    pub fn rows(&mut self, local: usize, batch: RecordBatch) {
        let partials = self.locals[local].rows(batch).unwrap();
        self.exchange(partials);
    }

    fn exchange(&mut self, batches: Vec<RecordBatch>) {
        for batch in batches {
            let (mut hashes, mut groups) = (Vec::new(), Vec::new());
            hash_columns(&batch.columns()[..self.keys], batch.num_rows(), &mut hashes);
            key_groups(&hashes, MAX_PARALLELISM, &mut groups);
            for index in 0..self.globals.len() {
                let owner = |group: u16| owner_of(group, self.globals.len() as u32, MAX_PARALLELISM);
                let own: UInt32Array =
                    (0..groups.len() as u32).filter(|row| owner(groups[*row as usize]) == index as u32).collect();
                if !own.is_empty() {
                    let rows = take_record_batch(&batch, &own).unwrap();
                    self.output.extend(self.globals[index].rows(rows).unwrap());
                }
            }
        }
    }

    /// All local tasks advance to the same watermark.
    pub fn advance(&mut self, watermark: WatermarkMs) {
        for index in 0..self.locals.len() {
            let partials = self.locals[index].advance(watermark);
            self.exchange(partials);
        }
        for global in &mut self.globals {
            self.output.extend(global.advance(watermark));
        }
    }

    /// A local task goes idle.
    pub fn idle(&mut self, local: usize) {
        let partials = self.locals[local].idle();
        self.exchange(partials);
    }

    /// Processing time passes.
    pub fn tick(&mut self, now_ms: i64) {
        for index in 0..self.locals.len() {
            let due = self.locals[index].next_timer_ms().is_some_and(|at| at <= now_ms);
            self.locals[index].now_ms = now_ms;
            if due {
                let partials = self.locals[index].timer();
                self.exchange(partials);
            }
        }
        for global in &mut self.globals {
            global.now_ms = now_ms;
            global.state.set_processing_time(now_ms);
            if global.next_timer_ms().is_some_and(|at| at <= now_ms) {
                self.output.extend(global.timer());
            }
        }
    }

    /// A barrier, a sealed snapshot, and new tasks that are restored from it.
    pub fn checkpoint_and_restore(&mut self, parallelism: u32) {
        self.epoch = self.epoch.next();
        for index in 0..self.locals.len() {
            let partials = self.locals[index].barrier(self.epoch);
            self.exchange(partials);
        }
        let mut states: Vec<Value> = Vec::new();
        for global in &mut self.globals {
            self.output.extend(global.barrier(self.epoch));
            states.extend(global.transform.snapshot());
            global.state.end_epoch(self.epoch).unwrap();
            while let Some(piece) = global.state.snapshot_piece(self.epoch, 100).unwrap() {
                self.changes.push(piece);
            }
        }
        let (watermark, now_ms) = (self.globals[0].watermark, self.globals[0].now_ms);
        self.deploy(parallelism);
        for task in self.locals.iter_mut().chain(&mut self.globals) {
            (task.watermark, task.now_ms) = (watermark, now_ms);
        }
        for global in &mut self.globals {
            global.state.set_processing_time(now_ms);
            for changes in &self.changes {
                global.state.load(changes).unwrap();
            }
            global.state.loaded(self.epoch).unwrap();
            global.transform.restore(&states).unwrap();
        }
    }

    /// The end of all input.
    pub fn end(&mut self) {
        self.advance(WatermarkMs::MAX);
        for index in 0..self.locals.len() {
            let partials = self.locals[index].end();
            self.exchange(partials);
        }
        for global in &mut self.globals {
            self.output.extend(global.end());
        }
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.globals.iter().map(|g| g.counter(name)).sum()
    }

    /// The output so far, as lines.
    pub fn lines(&self) -> Vec<String> {
        let last = self.graph.transform(TransformId(2));
        lines(&last.output, &last.changelog, &self.output)
    }
}

use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array};
use millstream_api::graph::TransformKind;
use millstream_api::ids::{TaskId, VertexId};

use super::super::{SplitProgress, SplitUnit};
use super::*;
use crate::metrics::TaskRole;

const SQL: &str = "
    CREATE TABLE t (
      n BIGINT, twice AS n * 2, ts AS TO_TIMESTAMP_LTZ(n, 3), WATERMARK FOR ts AS ts - INTERVAL '0.005' SECOND
    ) WITH ('connector' = 'datagen', 'scan.watermark.idle-timeout' = '1 s');
    CREATE TABLE b (n BIGINT, twice BIGINT, ts TIMESTAMP_LTZ(3)) WITH ('connector' = 'blackhole');
    INSERT INTO b SELECT n, twice, ts FROM t;";

/// What the next polls bring: rows per split (`None`: it ends).
type Script = Arc<Mutex<VecDeque<Vec<(usize, Option<Vec<i64>>)>>>>;

/// A reader of two splits that does what the test says.
struct Scripted {
    script: Script,
    finished: [bool; 2],
    backlog: Backlog,
}

/// By split: whether records wait.
type Backlog = Arc<Mutex<[Option<bool>; 2]>>;

impl SourceReader for Scripted {
    fn poll(&mut self, _max_rows: usize) -> Result<Polled, SourceError> {
        let Some(steps) = self.script.lock().expect("one thread").pop_front() else {
            return Ok(Polled { drained: true, ..Polled::default() });
        };
        let (mut rows, mut runs, mut finished) = (Vec::new(), Vec::new(), Vec::new());
        for (split, values) in steps {
            match values {
                Some(values) => {
                    runs.push(SplitRun { split, rows: values.len() });
                    rows.extend(values);
                }
                None => {
                    self.finished[split] = true;
                    finished.push(split);
                }
            }
        }
        let column: ArrayRef = Arc::new(Int64Array::from(rows));
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        Ok(Polled { batch: Some((batch, runs)), finished, drained: true, ..Polled::default() })
    }

    fn splits(&self) -> Vec<SplitState> {
        let split = |at: usize| SplitState {
            split: at.to_string(),
            position: serde_json::Value::Null,
            watermark: None,
            idle: false,
            finished: self.finished[at],
        };
        vec![split(0), split(1)]
    }

    fn finished(&self) -> bool {
        self.finished == [true; 2]
    }

    fn progress(&self, _split: usize) -> SplitProgress {
        SplitProgress { unit: SplitUnit::Records, position: 0, end: None }
    }

    fn backlog(&self, split: usize) -> Option<bool> {
        self.backlog.lock().expect("one thread")[split]
    }
}

struct Bench {
    head: SourceHead,
    script: Script,
    backlog: Backlog,
    metrics: TaskMetrics,
}

impl Bench {
    fn new(restored: &[SplitState], floor: WatermarkMs) -> Self {
        let compiled = millstream_sql::compile(SQL, &millstream_sql::CompileOptions::default());
        let graph = compiled.unwrap_or_else(|e| panic!("{e:#?}")).graph;
        let transform = &graph.transforms[0];
        let TransformKind::Source(source) = &transform.kind else { panic!("the first transform is the source") };
        let script = Script::default();
        let backlog = Arc::new(Mutex::new([Some(false); 2]));
        let reader = Scripted { script: Arc::clone(&script), finished: [false; 2], backlog: Arc::clone(&backlog) };
        let reader = Box::new(reader);
        let head = SourceHead::new(transform, source, reader, restored, floor).expect("the source opens");
        let task = TaskId { vertex: VertexId(0), index: 0 };
        Self { head, script, backlog, metrics: TaskMetrics::new(task, String::new(), TaskRole::default()) }
    }

    /// Everything that comes in one step.
    fn step(&mut self, now_ms: i64) -> Vec<String> {
        self.head.begin_step();
        let next = || self.head.next(now_ms, &self.metrics).expect("good rows");
        std::iter::from_fn(next)
            .map(|e| match e {
                Element::Batch(batch) => format!("{} rows of {} columns", batch.num_rows(), batch.num_columns()),
                Element::Watermark(WATERMARK_MAX) => "watermark MAX".to_owned(),
                Element::Watermark(w) => format!("watermark {w}"),
                Element::Barrier(b) => format!("barrier {}", b.epoch),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn brings(&self, steps: Vec<(usize, Option<Vec<i64>>)>) {
        self.script.lock().expect("one thread").push_back(steps);
    }
}

fn barrier(epoch: u64, mutation: Mutation) -> Barrier {
    Barrier { epoch: Epoch(epoch), mutation }
}

#[test]
fn the_watermark_is_the_least_of_the_splits_and_an_idle_split_does_not_hold_it() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.brings(vec![(0, Some(vec![100, 50])), (1, Some(vec![10]))]);
    assert!(bench.step(0).is_empty(), "nothing is read before the start");
    bench.head.start();
    assert_eq!(bench.step(0), ["3 rows of 3 columns", "watermark 5"]);
    bench.brings(vec![(0, Some(vec![200]))]);
    assert_eq!(bench.step(100), ["1 rows of 3 columns"]);
    assert_eq!(bench.head.next_timer_ms(), Some(1_100));
    bench.brings(vec![(0, Some(vec![201]))]);
    assert_eq!(bench.step(1_100), ["1 rows of 3 columns", "watermark 196"]);
    assert!(bench.head.splits().1[1].idle);
    // It comes back behind the others: the watermark stays.
    bench.brings(vec![(1, Some(vec![20]))]);
    assert_eq!(bench.step(1_200), ["1 rows of 3 columns"]);
    assert_eq!(bench.head.splits().1.iter().map(|s| s.watermark).collect::<Vec<_>>(), [Some(196), Some(15)]);
}

#[test]
fn a_split_whose_records_wait_behind_others_does_not_turn_idle() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    for backlog in [None, Some(true)] {
        bench.backlog.lock().expect("one thread")[1] = backlog;
        bench.brings(vec![(0, Some(vec![100]))]);
        bench.step(0);
        bench.brings(vec![(0, Some(vec![200]))]);
        assert_eq!(bench.step(60_000), ["1 rows of 3 columns"]);
        assert_eq!(bench.head.next_timer_ms(), None, "nothing turns idle by time alone");
    }
    bench.brings(vec![(1, Some(vec![20]))]);
    assert_eq!(bench.step(60_000), ["1 rows of 3 columns", "watermark 15"]);
    bench.backlog.lock().expect("one thread")[1] = Some(false);
    bench.brings(vec![(0, Some(vec![201]))]);
    assert_eq!(bench.step(60_001), ["1 rows of 3 columns"]);
    bench.brings(vec![(0, Some(vec![202]))]);
    assert_eq!(bench.step(61_001), ["1 rows of 3 columns", "watermark 197"]);
    // Records came that are not here yet: the split is no longer idle, and the watermark waits for them.
    bench.backlog.lock().expect("one thread")[1] = Some(true);
    bench.brings(vec![(0, Some(vec![300]))]);
    assert_eq!(bench.step(61_002), ["1 rows of 3 columns"]);
    assert!(!bench.head.splits().1[1].idle);
}

#[test]
fn the_clock_of_a_quiet_split_stands_still_while_nothing_may_be_read() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    bench.brings(vec![(0, Some(vec![100])), (1, Some(vec![10]))]);
    bench.step(0);
    bench.brings(vec![(0, Some(vec![200]))]);
    assert_eq!(bench.step(0), ["1 rows of 3 columns"]);
    // Without room from 100 to 5,000, paused from 5,100 to 10,100.
    bench.head.hold(100);
    bench.head.hold(3_000);
    bench.brings(vec![(0, Some(vec![201]))]);
    assert_eq!(bench.step(5_000), ["1 rows of 3 columns"]);
    bench.head.set_paused(true);
    assert!(bench.step(5_100).is_empty());
    bench.head.set_paused(false);
    bench.brings(vec![(0, Some(vec![202]))]);
    assert_eq!(bench.step(10_100), ["1 rows of 3 columns"]);
    assert_eq!(bench.head.next_timer_ms(), Some(10_900));
    bench.brings(vec![(0, Some(vec![203]))]);
    assert_eq!(bench.step(10_900), ["1 rows of 3 columns", "watermark 198"]);
}

#[test]
fn a_chain_that_is_slow_to_take_a_batch_gets_smaller_ones_until_it_is_fast_again() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    let mut now_ms = 0;
    let mut rows_after = |bench: &mut Bench, held_ms: i64| {
        bench.head.hold(now_ms);
        now_ms += held_ms;
        bench.brings(vec![(0, Some(vec![now_ms]))]);
        bench.step(now_ms);
        bench.head.poll_rows
    };
    assert_eq!(rows_after(&mut bench, 40), POLL_ROWS_MAX);
    assert_eq!(rows_after(&mut bench, 1_600), POLL_ROWS_MAX / 2);
    for _ in 0..10 {
        rows_after(&mut bench, 150);
    }
    assert_eq!(bench.head.poll_rows, POLL_ROWS_MIN);
    assert_eq!(rows_after(&mut bench, 40), POLL_ROWS_MIN * 2);
    assert_eq!(rows_after(&mut bench, 0), POLL_ROWS_MIN * 4);
}

#[test]
fn all_idle_is_said_and_taken_back() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    assert!(bench.step(0).is_empty());
    assert_eq!(bench.step(1_000), ["Idle(true)"]);
    bench.brings(vec![(0, Some(vec![7]))]);
    assert_eq!(bench.step(1_001), ["1 rows of 3 columns", "Idle(false)", "watermark 2"]);
}

#[test]
fn restored_watermarks_and_idleness_are_said_before_any_row() {
    let restored: Vec<SplitState> = [(Some(90), false), (Some(40), true)]
        .into_iter()
        .enumerate()
        .map(|(at, (watermark, idle))| SplitState {
            split: at.to_string(),
            position: serde_json::Value::Null,
            watermark,
            idle,
            finished: false,
        })
        .collect();
    let mut bench = Bench::new(&restored, 60);
    bench.head.trigger(barrier(4, Mutation::None));
    assert_eq!(bench.step(0), ["watermark 90", "barrier 4"]);
    assert_eq!(
        bench.head.splits().1.iter().map(|s| (s.watermark, s.idle)).collect::<Vec<_>>(),
        [(Some(90), false), (Some(40), true)]
    );
    // The task's own watermark of before rules where it was further.
    assert_eq!(Bench::new(&restored, 95).step(0), ["watermark 95"]);
}

#[test]
fn the_end_says_max_once_and_a_finished_split_holds_nothing_back() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    bench.brings(vec![(0, Some(vec![10])), (0, None)]);
    assert_eq!(bench.step(0), ["1 rows of 3 columns"]);
    bench.brings(vec![(1, Some(vec![30]))]);
    assert_eq!(bench.step(0), ["1 rows of 3 columns", "watermark 25"]);
    bench.brings(vec![(1, None)]);
    assert_eq!(bench.step(0), ["watermark MAX", "EndOfInput"]);
    bench.head.trigger(barrier(9, Mutation::None));
    assert_eq!(bench.step(0), ["barrier 9"]);
}

#[test]
fn nothing_follows_a_stopping_barrier_but_barriers() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    bench.brings(vec![(0, Some(vec![10]))]);
    bench.head.trigger(barrier(1, Mutation::Stop));
    assert_eq!(bench.step(0), ["barrier 1"]);
    bench.head.trigger(barrier(2, Mutation::Stop));
    bench.head.trigger(barrier(3, Mutation::Stop));
    bench.head.abandon(Epoch(2));
    assert_eq!(bench.step(0), ["barrier 3"]);
}

#[test]
fn a_draining_barrier_brings_the_end_of_input_once_and_an_aborted_one_that_was_not_emitted_nothing() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    bench.brings(vec![(0, Some(vec![10]))]);
    bench.head.trigger(barrier(1, Mutation::Drain));
    bench.head.abandon(Epoch(1));
    assert_eq!(bench.step(0), ["1 rows of 3 columns"]);
    bench.brings(vec![(0, Some(vec![20]))]);
    bench.head.trigger(barrier(2, Mutation::Drain));
    assert_eq!(bench.step(0), ["watermark MAX", "EndOfInput", "barrier 2"]);
    bench.head.trigger(barrier(3, Mutation::Drain));
    assert_eq!(bench.step(0), ["barrier 3"]);
}

#[test]
fn a_paused_source_passes_barriers_and_reads_nothing() {
    let mut bench = Bench::new(&[], WATERMARK_MIN);
    bench.head.start();
    bench.head.set_paused(true);
    bench.brings(vec![(0, Some(vec![10]))]);
    bench.head.trigger(barrier(1, Mutation::None));
    assert_eq!(bench.step(0), ["barrier 1"]);
    bench.head.set_paused(false);
    assert_eq!(bench.step(0), ["1 rows of 3 columns"]);
}

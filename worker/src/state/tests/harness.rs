//! Random operations with barriers, aborts, roll backs and restores, against a naive reference.
//!
//! Both backends, several tasks, two tables (fixed-width rows; strings, decimals and TTL), segments in a real local
//! store with merges, or just kept. After every step that restores or rolls back, and at the end, all contents are
//! compared.

use std::collections::BTreeMap;

use arrow_array::{Decimal128Array, StringArray};
use millstream_api::ids::key_group_range;
use millstream_api::log::TableManifest;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::checkpoints::Checkpoints;
use super::*;

const TTL_MS: u64 = 50;
/// No test comes near it.
const UNDO_BYTES: u64 = 1 << 30;

/// What is done to the row of a key.
#[derive(Clone, Debug)]
enum Action {
    Add(i64),
    Text(Option<String>),
    Delete,
    Look,
}

#[derive(Clone, Debug)]
enum Op {
    Update {
        table: usize,
        rows: Vec<(i64, i64, Action)>,
    },
    DropNamespace {
        table: usize,
        namespace: i64,
    },
    Advance {
        ms: i64,
    },
    /// Ends an epoch, unless one is in flight.
    Barrier,
    /// Reads some of the snapshot in flight.
    Read {
        pieces: usize,
        max_rows: usize,
    },
    Seal,
    Abort,
    RollBack,
    /// From the segments, at another parallelism.
    Restore {
        parallelism: u32,
    },
    /// Tasks of that parallelism read what is sealed, beside those that run.
    ReadAhead {
        parallelism: u32,
    },
    /// They take over, with what has changed since.
    Switch,
    /// Each task merges its segments from a position on; that enters with the next sealed epoch.
    Merge {
        first: usize,
    },
}

/// A row of the reference: count, text, last write.
pub(super) type Row = (i64, Option<String>, i64);
pub(super) type Contents = BTreeMap<(usize, i64, i64), Row>;

/// The system under test: the tasks of one transform.
struct Tasks {
    states: Vec<State>,
    parallelism: u32,
    disk: Option<tempfile::TempDir>,
    undo_bytes_max: u64,
    opened: usize,
}

/// The system, the reference, and what both did.
struct World {
    tasks: Tasks,
    now: Contents,
    sealed: Contents,
    sealed_epoch: Option<Epoch>,
    pending: Option<Pending>,
    checkpoints: Checkpoints,
    ahead: Option<Ahead>,
    next_epoch: u64,
    now_ms: i64,
}

/// Tasks that may follow.
struct Ahead {
    states: Vec<State>,
    parallelism: u32,
    /// What they have read.
    tables: Vec<TableManifest>,
}

struct Pending {
    epoch: Epoch,
    contents: Contents,
    /// With the index of the task.
    pieces: Vec<(usize, ChangeBatch)>,
}

pub(super) fn specs() -> Vec<TableSpec> {
    let text = TableSpec {
        name: "text".into(),
        key: Schema::new(vec![
            Field::new("k", SqlType::STRING, true),
            Field::new("d", SqlType::Decimal { precision: 20, scale: 2 }, false),
        ]),
        value: Schema::new(vec![
            Field::new("n", SqlType::BigInt, false),
            Field::new("s", SqlType::STRING, true),
            Field::new("b", SqlType::BYTES, true),
        ]),
        ttl_ms: Some(TTL_MS),
    };
    vec![counts("counts"), text]
}

/// The key columns of a key number.
fn key_columns(table: usize, keys: &[i64]) -> Vec<ArrayRef> {
    if table == 0 {
        return vec![Arc::new(Int64Array::from(keys.to_vec()))];
    }
    let names = keys.iter().map(|k| (*k % 7 != 0).then(|| "k".repeat(*k as usize % 40)));
    let decimals = Decimal128Array::from_iter_values(keys.iter().map(|k| i128::from(*k) * 10));
    vec![Arc::new(StringArray::from_iter(names)), Arc::new(decimals.with_precision_and_scale(20, 2).unwrap())]
}

/// The key number of decoded key columns.
pub(super) fn key_number(table: usize, columns: &[ArrayRef]) -> i64 {
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Decimal128Type, Int64Type};
    match table {
        0 => columns[0].as_primitive::<Int64Type>().value(0),
        _ => i64::try_from(columns[1].as_primitive::<Decimal128Type>().value(0) / 10).unwrap(),
    }
}

impl Tasks {
    fn open(parallelism: u32, disk: bool, undo_bytes_max: u64) -> Self {
        let disk = disk.then(|| tempfile::tempdir().unwrap());
        let mut tasks = Self { states: Vec::new(), parallelism, disk, undo_bytes_max, opened: 0 };
        tasks.reopen(parallelism);
        tasks
    }

    fn reopen(&mut self, parallelism: u32) {
        self.states.clear();
        self.states = self.opened(parallelism);
        self.parallelism = parallelism;
    }

    fn opened(&mut self, parallelism: u32) -> Vec<State> {
        let mut states = Vec::new();
        for index in 0..parallelism {
            self.opened += 1;
            let backend = match &self.disk {
                None => BackendConfig::Memory,
                Some(dir) => BackendConfig::Disk { dir: dir.path().join(self.opened.to_string()) },
            };
            let config = StateConfig { backend, undo_bytes_max: self.undo_bytes_max, ..memory_config() };
            let groups = key_group_range(index, parallelism, MAX_PARALLELISM);
            let mut state = State::open(&config, groups).unwrap();
            specs().into_iter().for_each(|spec| assert!(state.register(spec).is_ok()));
            states.push(state);
        }
        states
    }

    /// The rows of each task, with their keys.
    fn route(&self, table: usize, rows: &[i64]) -> Vec<(usize, Vec<usize>, KeyBatch)> {
        let encoder = KeyEncoder::new(&specs()[table].key.fields).unwrap();
        let all = encoder.encode(&key_columns(table, rows), rows.len(), MAX_PARALLELISM).unwrap();
        (0..self.states.len())
            .map(|task| {
                let range = key_group_range(task as u32, self.parallelism, MAX_PARALLELISM);
                let mine: Vec<usize> = (0..rows.len()).filter(|i| range.contains(&all.groups[*i])).collect();
                let numbers: Vec<i64> = mine.iter().map(|i| rows[*i]).collect();
                let keys = encoder.encode(&key_columns(table, &numbers), numbers.len(), MAX_PARALLELISM).unwrap();
                (task, mine, keys)
            })
            .collect()
    }

    /// Everything, by scans of a few rows each.
    fn contents(&self) -> Contents {
        let mut out = Contents::new();
        for state in &self.states {
            for table in 0..2 {
                let encoder = KeyEncoder::new(&specs()[table].key.fields).unwrap();
                let id = TableId(table as u32);
                let namespaces = state.namespaces_until(id, i64::MAX).unwrap();
                assert!(namespaces.is_sorted());
                for namespace in namespaces {
                    let mut cursor = ScanCursor::default();
                    let mut done = false;
                    while !done {
                        let mut shown = 0;
                        done = state
                            .scan::<StateError>(id, namespace, &mut cursor, 3, |key, row| {
                                shown += 1;
                                let number = key_number(table, &encoder.decode([key]).unwrap());
                                let text = (table == 1 && !row.is_null(1))
                                    .then(|| String::from_utf8(row.bytes(1).to_vec()).unwrap());
                                let written = if table == 1 { row.layout.written_ms(row.cells) } else { 0 };
                                let old = out.insert((table, namespace, number), (row.i64(0), text, written));
                                assert!(old.is_none(), "a row is shown once");
                                Ok(())
                            })
                            .unwrap();
                        assert!(shown <= 3);
                    }
                }
            }
        }
        out
    }
}

impl World {
    fn new(tasks: Tasks, checkpoints: Checkpoints) -> Self {
        let mut tasks = tasks;
        tasks.states.iter_mut().for_each(|state| state.set_processing_time(1_000));
        Self {
            tasks,
            now: Contents::new(),
            sealed: Contents::new(),
            sealed_epoch: None,
            pending: None,
            checkpoints,
            ahead: None,
            next_epoch: 1,
            now_ms: 1_000,
        }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Update { table, rows } => self.update(*table, rows),
            Op::DropNamespace { table, namespace } => {
                for state in &mut self.tasks.states {
                    state.drop_namespace(TableId(*table as u32), *namespace).unwrap();
                }
                self.now.retain(|(t, n, _), _| (*t, *n) != (*table, *namespace));
            }
            Op::Advance { ms } => {
                self.now_ms += ms;
                self.tasks.states.iter_mut().for_each(|state| state.set_processing_time(self.now_ms));
            }
            Op::Barrier if self.pending.is_none() => {
                let epoch = Epoch(self.next_epoch);
                self.next_epoch += 1;
                self.tasks.states.iter_mut().for_each(|state| state.end_epoch(epoch).unwrap());
                self.pending = Some(Pending { epoch, contents: self.now.clone(), pieces: Vec::new() });
            }
            Op::Barrier => {}
            Op::Read { pieces, max_rows } => self.read(*pieces, *max_rows),
            Op::Seal => self.seal(),
            Op::Abort => {
                if let Some(pending) = self.pending.take() {
                    self.tasks.states.iter_mut().for_each(|state| state.aborted(pending.epoch).unwrap());
                }
            }
            Op::RollBack => self.roll_back(),
            Op::Restore { parallelism } => self.restore(*parallelism),
            Op::ReadAhead { parallelism } => self.read_ahead(*parallelism),
            Op::Switch => self.switch(),
            Op::Merge { first } => self.checkpoints.merge(*first, self.tasks.parallelism, self.now_ms),
        }
    }

    fn update(&mut self, table: usize, rows: &[(i64, i64, Action)]) {
        // One row per entry in a batch: the order between tasks does not matter then, nor within one.
        let numbers: Vec<i64> = rows.iter().map(|(_, key, _)| *key).collect();
        for (task, mine, keys) in self.tasks.route(table, &numbers) {
            let namespaces: Vec<i64> = mine.iter().map(|i| rows[*i].0).collect();
            let id = TableId(table as u32);
            let (now, now_ms) = (&mut self.now, self.now_ms);
            let visit = |at: usize, row: &mut RowMut<'_>| {
                let (namespace, key, action) = &rows[mine[at]];
                let place = (table, *namespace, *key);
                let alive = now.get(&place).filter(|row| !expired(table, row, now_ms)).cloned();
                assert_eq!(row.existed(), alive.is_some(), "{place:?}");
                let mut expected = alive.clone().unwrap_or((0, None, 0));
                assert_eq!(row.i64(0), expected.0, "{place:?}");
                expected.2 = if table == 1 { now_ms } else { 0 };
                match action {
                    Action::Add(n) => {
                        expected.0 = expected.0.wrapping_add(*n);
                        row.set_i64(0, expected.0);
                    }
                    Action::Text(text) if table == 1 => {
                        match text {
                            Some(text) => row.set_bytes(1, text.as_bytes()),
                            None => row.set_null(1),
                        }
                        expected.1.clone_from(text);
                    }
                    Action::Text(_) => {}
                    Action::Delete => {
                        now.remove(&place);
                        return Ok::<_, StateError>(Change::Delete);
                    }
                    Action::Look => {
                        if alive.is_none() {
                            now.remove(&place);
                        }
                        return Ok(Change::Unchanged);
                    }
                }
                now.insert(place, expected);
                Ok(Change::Keep)
            };
            self.tasks.states[task].update(id, Namespaces::Each(&namespaces), &keys, visit).unwrap();
        }
    }

    fn read(&mut self, pieces: usize, max_rows: usize) {
        let Some(pending) = &mut self.pending else { return };
        for (task, state) in self.tasks.states.iter_mut().enumerate() {
            for _ in 0..pieces {
                match state.snapshot_piece(pending.epoch, max_rows).unwrap() {
                    Some(piece) => pending.pieces.push((task, piece)),
                    None => break,
                }
            }
        }
    }

    fn seal(&mut self) {
        self.read(usize::MAX, 5);
        let Some(pending) = self.pending.take() else { return };
        self.tasks.states.iter_mut().for_each(|state| state.sealed(pending.epoch).unwrap());
        self.sealed = pending.contents;
        self.sealed_epoch = Some(pending.epoch);
        self.checkpoints.add(pending.epoch, pending.pieces, self.tasks.parallelism);
    }

    fn roll_back(&mut self) {
        let Some(epoch) = self.sealed_epoch else { return };
        if !self.tasks.states.iter().all(|state| state.can_roll_back(epoch)) {
            assert!(self.tasks.undo_bytes_max < 1 << 20, "only the bound on undo ends this");
            self.restore(self.tasks.parallelism);
            return;
        }
        self.pending = None;
        for state in &mut self.tasks.states {
            state.roll_back(epoch).unwrap();
        }
        self.now.clone_from(&self.sealed);
        self.check();
    }

    fn restore(&mut self, parallelism: u32) {
        self.pending = None;
        self.tasks.reopen(parallelism);
        self.checkpoints.forget_merges();
        for (task, state) in self.tasks.states.iter_mut().enumerate() {
            state.set_processing_time(self.now_ms);
            self.checkpoints.load(state, key_group_range(task as u32, parallelism, MAX_PARALLELISM));
            if let Some(epoch) = self.sealed_epoch {
                state.loaded(epoch).unwrap();
            }
        }
        self.now.clone_from(&self.sealed);
        self.check();
        if let Some(seen) = self.checkpoints.seen_from_outside(self.now_ms) {
            assert_eq!(seen, self.alive());
        }
    }

    fn read_ahead(&mut self, parallelism: u32) {
        let Some(tables) = self.checkpoints.tables() else { return };
        let mut states = self.tasks.opened(parallelism);
        for (task, state) in states.iter_mut().enumerate() {
            state.set_processing_time(self.now_ms);
            self.checkpoints.load(state, key_group_range(task as u32, parallelism, MAX_PARALLELISM));
        }
        self.ahead = Some(Ahead { states, parallelism, tables });
    }

    fn switch(&mut self) {
        let (Some(Ahead { mut states, parallelism, tables }), Some(epoch)) = (self.ahead.take(), self.sealed_epoch)
        else {
            return;
        };
        self.pending = None;
        self.checkpoints.forget_merges();
        for (task, state) in states.iter_mut().enumerate() {
            state.set_processing_time(self.now_ms);
            let groups = key_group_range(task as u32, parallelism, MAX_PARALLELISM);
            self.checkpoints.catch_up(state, groups, &tables);
            state.loaded(epoch).unwrap();
        }
        (self.tasks.states, self.tasks.parallelism) = (states, parallelism);
        self.now.clone_from(&self.sealed);
        self.check();
    }

    /// What has not expired.
    fn alive(&self) -> Contents {
        let alive = self.now.iter().filter(|((table, ..), row)| !expired(*table, row, self.now_ms));
        alive.map(|(place, row)| (*place, row.clone())).collect()
    }

    fn check(&self) {
        let expected = self.alive();
        assert_eq!(self.tasks.contents(), expected);
        let rows: u64 = self.tasks.states.iter().map(|state| state.rows(TableId(0))).sum();
        assert_eq!(rows, expected.keys().filter(|(table, ..)| *table == 0).count() as u64);
    }
}

fn expired(table: usize, row: &Row, now_ms: i64) -> bool {
    table == 1 && row.2 + TTL_MS as i64 <= now_ms
}

/// What changes rows.
fn change() -> impl Strategy<Value = Op> {
    let action = prop_oneof![
        4 => (-3i64..100).prop_map(Action::Add),
        2 => proptest::option::of("[a-zäöü]{0,40}").prop_map(Action::Text),
        2 => Just(Action::Delete),
        1 => Just(Action::Look),
    ];
    let row = (0i64..3, 1i64..24, action);
    prop_oneof![
        10 => (0usize..2, proptest::collection::vec(row, 1..20)).prop_map(|(table, rows)| {
            let unique: BTreeMap<(i64, i64), Action> = rows.into_iter().map(|(n, k, a)| ((n, k), a)).collect();
            Op::Update { table, rows: unique.into_iter().map(|((n, k), a)| (n, k, a)).collect() }
        }),
        2 => (0usize..2, 0i64..3).prop_map(|(table, namespace)| Op::DropNamespace { table, namespace }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => change(),
        1 => (1i64..40).prop_map(|ms| Op::Advance { ms }),
        4 => Just(Op::Barrier),
        3 => (1usize..4, 1usize..6).prop_map(|(pieces, max_rows)| Op::Read { pieces, max_rows }),
        3 => Just(Op::Seal),
        1 => Just(Op::Abort),
        1 => Just(Op::RollBack),
        1 => (1u32..5).prop_map(|parallelism| Op::Restore { parallelism }),
        2 => (0usize..4).prop_map(|first| Op::Merge { first }),
        1 => (1u32..5).prop_map(|parallelism| Op::ReadAhead { parallelism }),
        1 => Just(Op::Switch),
    ]
}

/// Changes that are sealed, and perhaps a merge with them.
fn epoch() -> impl Strategy<Value = Vec<Op>> {
    (proptest::collection::vec(change(), 0..4), proptest::option::of(0usize..3)).prop_map(|(mut ops, merge)| {
        ops.extend(merge.map(|first| Op::Merge { first }));
        ops.extend([Op::Barrier, Op::Seal]);
        ops
    })
}

/// Some epochs, after which tasks of so many read what is sealed; some more, and they take over.
fn switch() -> impl Strategy<Value = Vec<Op>> {
    let epochs = || proptest::collection::vec(epoch(), 1..4).prop_map(|epochs| epochs.concat());
    (epochs(), 1u32..5, epochs()).prop_map(|(before, parallelism, between)| {
        [before, vec![Op::ReadAhead { parallelism }], between, vec![Op::Switch]].concat()
    })
}

/// `MILLSTREAM_SOAK=1`: twenty times as many.
fn cases(moderate: u32) -> u32 {
    moderate * if std::env::var_os("MILLSTREAM_SOAK").is_some() { 20 } else { 1 }
}

fn run(disk: bool, in_store: bool, undo_bytes_max: u64, cases: u32) {
    run_ops(disk, in_store, undo_bytes_max, cases, proptest::collection::vec(op(), 1..60));
}

fn run_switches(disk: bool, cases: u32) {
    let ops = proptest::collection::vec(switch(), 1..4).prop_map(|switches| switches.concat());
    run_ops(disk, true, UNDO_BYTES, cases, ops);
}

fn run_ops(disk: bool, in_store: bool, undo_bytes_max: u64, cases: u32, ops: impl Strategy<Value = Vec<Op>>) {
    // proptest prints the seed and the smallest failing sequence.
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    TestRunner::new(config)
        .run(&ops, |ops| {
            let checkpoints = if in_store { Checkpoints::in_store() } else { Checkpoints::Kept(Vec::new()) };
            let mut world = World::new(Tasks::open(2, disk, undo_bytes_max), checkpoints);
            ops.iter().for_each(|op| world.apply(op));
            world.check();
            world.seal();
            world.restore(3);
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn memory_state_equals_the_reference_through_barriers_roll_backs_and_restores() {
    run(false, false, UNDO_BYTES, cases(400));
}

#[test]
fn disk_state_equals_the_reference_through_barriers_roll_backs_and_restores() {
    run(true, false, UNDO_BYTES, cases(12));
}

#[test]
fn state_equals_the_reference_through_segments_in_a_store_and_their_merges() {
    run(false, true, UNDO_BYTES, cases(60));
}

#[test]
fn disk_state_equals_the_reference_through_segments_in_a_store_and_their_merges() {
    run(true, true, UNDO_BYTES, cases(12));
}

#[test]
fn memory_that_is_read_beforehand_has_all_of_what_is_sealed_at_the_switch() {
    run_switches(false, cases(60));
}

#[test]
fn disk_that_is_read_beforehand_has_all_of_what_is_sealed_at_the_switch() {
    run_switches(true, cases(8));
}

#[test]
fn state_equals_the_reference_when_undo_layers_are_given_up_again_and_again() {
    run(false, false, 1_500, cases(200));
}

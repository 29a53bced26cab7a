//! Budgets, misuse, and what leaves a trace in a snapshot.

use super::*;

#[test]
fn what_comes_and_goes_inside_an_interval_leaves_no_trace() {
    let (mut state, table) = open(counts("t"));
    add(&mut state, table, 1, [10]);
    add(&mut state, table, 2, [11]);
    state.drop_namespace(table, 2).unwrap();
    add(&mut state, table, 1, [12]);
    state
        .update::<StateError>(table, Namespaces::One(1), &keys([12]), |_, row| {
            assert!(row.existed());
            Ok(Change::Delete)
        })
        .unwrap();
    state
        .update::<StateError>(table, Namespaces::One(1), &keys([13]), |_, row| {
            assert!(!row.existed() && row.is_null(1) && !row.is_null(0));
            Ok(Change::Unchanged)
        })
        .unwrap();
    state.end_epoch(Epoch(1)).unwrap();
    let pieces = drain(&mut state, Epoch(1));
    assert_eq!(ops(&pieces), [ChangeOp::Put as i8]);
    state.sealed(Epoch(1)).unwrap();
    assert_eq!(state.rows(table), 1);

    state.end_epoch(Epoch(2)).unwrap();
    assert!(drain(&mut state, Epoch(2)).is_empty(), "nothing changed");
    state.sealed(Epoch(2)).unwrap();
    assert_eq!(state.undo_bytes(), 0);

    state.drop_namespace(table, 1).unwrap();
    state.end_epoch(Epoch(3)).unwrap();
    assert_eq!(ops(&drain(&mut state, Epoch(3))), [ChangeOp::DropNamespace as i8]);
}

#[test]
fn a_snapshot_shows_the_barrier_while_rows_change_on() {
    let (mut state, table) = open(counts("t"));
    add(&mut state, table, 0, 0..100);
    state.end_epoch(Epoch(1)).unwrap();
    let first = state.snapshot_piece(Epoch(1), 10).unwrap().unwrap();
    add(&mut state, table, 0, 0..200);
    state.drop_namespace(table, 0).unwrap();
    add(&mut state, table, 0, 50..60);
    let mut restored = open(counts("t")).0;
    restored.load(&first).unwrap();
    for piece in drain(&mut state, Epoch(1)) {
        restored.load(&piece).unwrap();
    }
    assert_eq!(restored.rows(table), 100);
    assert!((0..100).all(|key| count_of(&restored, table, 0, key) == Some(1)));
    assert!((50..60).all(|key| count_of(&state, table, 0, key) == Some(1)));
    assert_eq!(state.rows(table), 10);
}

#[test]
fn past_the_undo_bound_roll_back_goes_but_no_change_is_lost() {
    let config = StateConfig { undo_bytes_max: 4_000, ..memory_config() };
    let mut state = State::open(&config, 0..MAX_PARALLELISM as u16).unwrap();
    let table = state.register(counts("t")).unwrap();
    add(&mut state, table, 0, 0..20);
    add(&mut state, table, 1, 0..20);
    state.end_epoch(Epoch(1)).unwrap();
    // The snapshot of epoch 1 has not begun when the bound is passed.
    add(&mut state, table, 0, 0..300);
    state.drop_namespace(table, 1).unwrap();
    assert!(!state.can_roll_back(Epoch(1)));
    let mut restored = open(counts("t")).0;
    for piece in drain(&mut state, Epoch(1)) {
        restored.load(&piece).unwrap();
    }
    assert_eq!(restored.rows(table), 40);
    state.sealed(Epoch(1)).unwrap();
    assert!(state.roll_back(Epoch(1)).is_err());
    state.end_epoch(Epoch(2)).unwrap();
    assert!(state.can_roll_back(Epoch(2)), "new layers are complete again");
    for piece in drain(&mut state, Epoch(2)) {
        restored.load(&piece).unwrap();
    }
    assert_eq!(restored.rows(table), 300);
    assert_eq!(count_of(&restored, table, 0, 5), Some(2));
    assert_eq!(count_of(&restored, table, 1, 5), None);
}

#[test]
fn over_budget_is_an_error_that_names_the_tables_with_keys_and_bytes() {
    let config = StateConfig { bytes_max: 50_000, ..memory_config() };
    let mut state = State::open(&config, 0..MAX_PARALLELISM as u16).unwrap();
    let (few, many) = (state.register(counts("users")).unwrap(), state.register(counts("clicks")).unwrap());
    add(&mut state, few, 0, 0..1);
    let error = (0..100i64)
        .find_map(|i| {
            let keys = keys(i * 100..i * 100 + 100);
            let set = |_: usize, row: &mut RowMut<'_>| {
                row.set_i64(0, 1);
                Ok::<_, StateError>(Change::Keep)
            };
            state.update(many, Namespaces::One(0), &keys, set).err()
        })
        .unwrap();
    let StateError::Full(full) = &error else { panic!("{error}") };
    let expected: Vec<_> = [("clicks", many), ("users", few)]
        .map(|(table, id)| TableSize { table: table.to_owned(), rows: state.rows(id), bytes: state.bytes(id) })
        .into();
    assert_eq!(full.tables, expected);
    let text = error.to_string();
    assert!(text.starts_with("state of count/0 in task 1/0: "), "{text}");
    assert!(text.contains("% of its limit of 48.8 KiB; table clicks: "), "{text}");
    assert!(text.contains("; table users: 1 key, "), "{text}");
    assert!(text.ends_with("let state expire (table.exec.state.ttl)"), "{text}");
}

#[test]
fn a_row_of_three_bigints_takes_at_most_120_bytes() {
    let (mut state, table) = open(counts("t"));
    for from in (0..100_000).step_by(1000) {
        add(&mut state, table, 0, from..from + 1000);
    }
    let per_row = state.bytes(table) / state.rows(table);
    assert!(per_row <= 120, "{per_row} bytes");
}

#[test]
fn foreign_groups_wrong_order_and_late_loads_are_refused() {
    let mut state = State::open(&memory_config(), 0..1).unwrap();
    let table = state.register(counts("t")).unwrap();
    let keep = |_: usize, _: &mut RowMut<'_>| Ok::<_, StateError>(Change::Keep);
    let error = state.update(table, Namespaces::One(0), &keys(0..50), keep).unwrap_err();
    assert!(error.to_string().contains("is not in 0..1 of this task"), "{error}");
    state.end_epoch(Epoch(3)).unwrap();
    assert!(state.end_epoch(Epoch(3)).is_err());
    assert!(state.snapshot_piece(Epoch(9), 1).is_err());
    assert!(state.roll_back(Epoch(9)).is_err());
    assert!(state.loaded(Epoch(3)).is_err());
    assert!(state.register(counts("t")).is_err());
}

#[test]
fn a_table_of_other_columns_does_not_load() {
    let (mut state, table) = open(counts("t"));
    add(&mut state, table, 0, [1]);
    state.end_epoch(Epoch(1)).unwrap();
    let piece = drain(&mut state, Epoch(1)).remove(0);
    let mut spec = counts("t");
    spec.value.fields[1].ty = SqlType::Double;
    let error = open(spec).0.load(&piece).unwrap_err();
    assert!(error.to_string().starts_with("failed to restore table t: its columns are ($group UInt16"), "{error}");
}

#[test]
fn a_restored_epoch_can_be_rolled_back_to() {
    let (mut state, table) = open(counts("t"));
    add(&mut state, table, 0, 0..10);
    state.end_epoch(Epoch(4)).unwrap();
    let pieces = drain(&mut state, Epoch(4));
    let mut restored = open(counts("t")).0;
    pieces.iter().for_each(|piece| restored.load(piece).unwrap());
    restored.loaded(Epoch(4)).unwrap();
    assert!(restored.can_roll_back(Epoch(4)));
    add(&mut restored, table, 0, 5..15);
    restored.drop_namespace(table, 0).unwrap();
    restored.roll_back(Epoch(4)).unwrap();
    assert_eq!(restored.rows(table), 10);
    assert_eq!(count_of(&restored, table, 0, 7), Some(1));
    restored.end_epoch(Epoch(5)).unwrap();
    assert!(drain(&mut restored, Epoch(5)).is_empty());
}

#[test]
fn the_folder_of_the_disk_backend_is_scratch() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("scratch");
    std::fs::create_dir_all(at.join("rows")).unwrap();
    std::fs::write(at.join("rows/left-over"), b"x").unwrap();
    let config = StateConfig { backend: BackendConfig::Disk { dir: at.clone() }, ..memory_config() };
    let mut state = State::open(&config, 0..MAX_PARALLELISM as u16).unwrap();
    let table = state.register(counts("t")).unwrap();
    assert!(!at.join("rows/left-over").exists());
    add(&mut state, table, 0, 0..10);
    assert_eq!(count_of(&state, table, 0, 3), Some(1));
    drop(state);
    assert!(!at.exists());

    std::fs::write(&at, b"a file is in the way").unwrap();
    let error = State::open(&config, 0..1).unwrap_err();
    assert!(error.to_string().starts_with("failed to open keyed state:"), "{error}");
}

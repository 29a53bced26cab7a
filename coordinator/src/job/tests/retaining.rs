//! Which entries and objects go, and the fold of a log that was pruned.

use millstream_api::ids::{Epoch, Generation, TaskId, VertexId};
use millstream_api::log::{EntryKind, Manifest, Nonce, ObjectName};

use super::fixture::{config, entry_after, with_objects};
use crate::job::message::{LogTail, StoredObject};
use crate::job::retention::{ORPHAN_AGE_MIN_MS, orphans, superfluous};
use crate::job::view::LogView;

fn view(manifests: Vec<Manifest>) -> LogView {
    let config = config();
    let start = millstream_api::log::Start {
        owner: config.owner,
        address: config.address,
        restores: None,
        job_uid: String::new(),
    };
    let mut log = vec![entry_after(&[], EntryKind::Start(start.clone()))];
    for manifest in manifests {
        log.push(entry_after(&log, EntryKind::Manifest(Box::new(manifest))));
    }
    let stored = log.iter().map(|e| e.seq).collect();
    LogView::of(&LogTail { entries: log, start: Some(start), stored })
}

#[test]
fn only_what_no_kept_manifest_names_goes_and_the_term_s_start_stays() {
    let view = view(vec![
        with_objects(0, &["a"], vec![]),
        with_objects(1, &["a", "b"], vec![]),
        with_objects(2, &["b", "c"], vec![]),
    ]);
    let plan = superfluous(&view, 1, Some(Epoch(2)), None, Generation(0)).unwrap();
    assert_eq!(plan.entries.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(plan.objects, ["a"]);
}

#[test]
fn an_epoch_stays_until_the_next_one_s_commit_is_recorded() {
    let late = Manifest { committed_through: Some(Epoch(0)), ..with_objects(2, &["c"], vec![]) };
    let view = view(vec![with_objects(0, &["a"], vec![]), with_objects(1, &["b"], vec![]), late]);
    let plan = superfluous(&view, 1, Some(Epoch(0)), None, Generation(0)).unwrap();
    assert!(plan.entries.is_empty() && plan.objects.is_empty(), "{plan:?}");
    let plan = superfluous(&view, 1, Some(Epoch(1)), None, Generation(0)).unwrap();
    assert_eq!(plan.objects, ["a"]);
}

#[test]
fn orphans_go_only_when_old_of_an_older_term_and_named_by_nobody() {
    let name = |generation| {
        let task = TaskId { vertex: VertexId(1), index: 0 };
        let nonce = Nonce(format!("{generation:032x}"));
        ObjectName { generation: Generation(generation), epoch: Epoch(1), task, nonce }.path("parquet")
    };
    let view = view(vec![with_objects(0, &[&name(3)], vec![])]);
    let now = 10 * ORPHAN_AGE_MIN_MS;
    let object = |path: String, age: u64| StoredObject { path, modified_ms: (now - age) as i64 };
    let listed = [
        object(name(2), 2 * ORPHAN_AGE_MIN_MS),
        object(name(1), ORPHAN_AGE_MIN_MS - 1),
        object(name(3), 2 * ORPHAN_AGE_MIN_MS),
        object(name(5), 2 * ORPHAN_AGE_MIN_MS),
        object(name(4), 0),
        object("state/ab/notes.txt".to_owned(), 2 * ORPHAN_AGE_MIN_MS),
    ];
    assert_eq!(orphans(&view, &listed, Generation(5), 1_000), [name(2)]);
    // Only the store's clock counts: its newest object is not a day younger.
    assert!(orphans(&view, &listed[..2], Generation(5), 1_000).contains(&name(2)));
    assert!(orphans(&view, &listed[..1], Generation(5), 1_000).is_empty());
}

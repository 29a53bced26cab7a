//! What a log holds, what a start restores, what may go, and what is wrong with a log.

use std::sync::Arc;

use millstream_api::flinkjob::RestoreSpec;
use millstream_api::ids::{Epoch, Seq};
use millstream_api::log::{EntryKind, LogEntry, Manifest, Start, StopReason};
use millstream_store::{LocalStore, ObjectStore};

use super::*;
use crate::job::fixture::{config, entry_after, transaction, with_objects};
use crate::job::{LogTail, LogView, StartPoint};
use crate::log::{Log, encode, entry_path};
use crate::retained::release::plan as plan_release;

const JOB: &str = "default/job";

fn start() -> EntryKind {
    let config = config();
    EntryKind::Start(Start { owner: config.owner, address: config.address, restores: None, job_uid: "uid".to_owned() })
}

fn stopped() -> EntryKind {
    EntryKind::Stopped { reason: StopReason::Stopped, epoch: Some(Epoch(2)), committed_through: Some(Epoch(2)) }
}

/// Entries 0 to 3: a start, and the checkpoints 0, 1 and 2 of which each two neighbours share an object.
fn three_checkpoints(last: Option<EntryKind>) -> Vec<LogEntry> {
    let mut log = vec![entry_after(&[], start())];
    let manifests = [
        with_objects(0, &["state/a"], vec![]),
        with_objects(1, &["state/a", "state/b"], vec![]),
        with_objects(2, &["state/b", "state/c", "state/c"], vec![transaction(2, 0)]),
    ];
    let kinds = manifests.into_iter().map(|manifest| EntryKind::Manifest(Box::new(manifest)));
    for kind in kinds.chain(last) {
        log.push(entry_after(&log, kind));
    }
    log
}

fn view(log: Vec<LogEntry>) -> LogView {
    let EntryKind::Start(start) = log[0].kind.clone() else { unreachable!() };
    let stored = log.iter().map(|entry| entry.seq).collect();
    LogView::of(&LogTail { entries: log, start: Some(start), stored })
}

#[test]
fn an_object_of_several_checkpoints_counts_once_and_as_shared() {
    let running = view(three_checkpoints(None));
    let found = retained(&running);
    let bytes: Vec<(u64, u64)> = found.iter().map(|c| (c.own_bytes, c.shared_bytes)).collect();
    assert_eq!(bytes, [(0, 10), (0, 20), (10, 10)]);
    assert_eq!(stored_bytes(&running), 30);
    assert_eq!(found.iter().map(|c| c.committed).collect::<Vec<_>>(), [true, true, false]);
    let all_committed = retained(&view(three_checkpoints(Some(stopped()))));
    assert!(all_committed.iter().all(|c| c.committed));
}

fn restored(view: &LogView, named: Option<Seq>) -> Result<Option<Seq>, Seq> {
    view.restored_by_a_start(named).map(|sealed| sealed.map(|sealed| sealed.seq))
}

#[test]
fn a_named_checkpoint_is_restored_once_and_an_unknown_one_is_said() {
    let log = view(three_checkpoints(Some(stopped())));
    assert_eq!(restored(&log, None), Ok(Some(Seq(3))));
    assert_eq!(restored(&log, Some(Seq(2))), Ok(Some(Seq(2))));
    assert_eq!(restored(&log, Some(Seq(9))), Err(Seq(9)));
    let mut went_back = three_checkpoints(None);
    let descendant = Manifest { restored_from: Some(Seq(2)), ..with_objects(3, &["state/d"], vec![]) };
    went_back.push(entry_after(&went_back, EntryKind::Manifest(Box::new(descendant))));
    assert_eq!(restored(&view(went_back), Some(Seq(2))), Ok(Some(Seq(4))));
}

#[test]
fn a_named_savepoint_goes_before_a_named_checkpoint_until_the_log_descends_from_it() {
    let restore = RestoreSpec { from: Some(2), savepoint: Some("/backup/one/".to_owned()), ..RestoreSpec::default() };
    let mut log = three_checkpoints(None);
    assert!(matches!(view(log.clone()).start_point(&restore), StartPoint::Savepoint("/backup/one/")));
    let imported = Manifest { restored_savepoint: restore.savepoint_name(), ..with_objects(3, &["state/d"], vec![]) };
    log.push(entry_after(&log, EntryKind::Manifest(Box::new(imported))));
    let descendant = view(log);
    assert!(matches!(descendant.start_point(&restore), StartPoint::Missing(Seq(2))));
    let again = RestoreSpec { savepoint_nonce: Some(1), ..restore.clone() };
    assert!(matches!(descendant.start_point(&again), StartPoint::Savepoint(_)));
    let newest = RestoreSpec { from: None, ..restore };
    let found = descendant.start_point(&newest);
    assert!(matches!(found, StartPoint::Checkpoint(Some(sealed)) if sealed.seq == Seq(4)), "{found:?}");
}

#[test]
fn what_a_start_may_need_is_not_released() {
    let refused = |log: Vec<LogEntry>, seq: u64, older: bool, pinned: Option<u64>| {
        plan_release(&view(log), Seq(seq), older, pinned.map(Seq)).expect_err("it must stay")
    };
    let stopped_log = || three_checkpoints(Some(stopped()));
    let cases = [
        (three_checkpoints(None), 1, false, None, "its log is held by process 7 on here"),
        (stopped_log(), 3, true, None, "is the newest one"),
        (stopped_log(), 2, false, None, "release 1 first, or all up to 2 with --and-older"),
        (stopped_log(), 9, false, None, "no retained checkpoint of this job; there are: 1, 2, 3"),
        (stopped_log(), 2, true, Some(1), "checkpoint 1 stands in spec.restore.from"),
    ];
    for (log, seq, older, pinned, reason) in cases {
        let message = refused(log, seq, older, pinned);
        assert!(message.contains(reason), "{message}");
    }
    // The last one's commits are open: it may be given up, and then the one before it counts.
    let failed = EntryKind::Stopped { reason: StopReason::Failed, epoch: Some(Epoch(2)), committed_through: None };
    let message = refused(three_checkpoints(Some(failed)), 2, true, None);
    assert!(message.contains("commits of the checkpoints after it are not recorded"), "{message}");
    assert_eq!(plan_release(&view(stopped_log()), Seq(1), false, Some(Seq(3))), Ok(1));
    assert_eq!(plan_release(&view(stopped_log()), Seq(2), true, None), Ok(2));
}

async fn stored(entries: &[LogEntry]) -> (tempfile::TempDir, Arc<dyn ObjectStore>, Log) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(folder.path()).unwrap());
    for entry in entries {
        store.put(&entry_path(JOB, entry.seq), encode(entry).into()).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        store.put(&format!("{JOB}/state/{name}"), "0123456789".into()).await.unwrap();
    }
    let log = Log::new(Arc::clone(&store), JOB.to_owned());
    (folder, store, log)
}

#[tokio::test]
async fn a_release_takes_what_nobody_else_names_and_leaves_the_job_stopped() {
    let (_folder, store, log) = stored(&three_checkpoints(Some(stopped()))).await;
    let released = release(Arc::clone(&store), JOB, Seq(2), true, None, 5).await.unwrap();
    assert_eq!(released, Released { checkpoints: vec![Seq(1), Seq(2)], objects: 1, bytes: 10 });
    let paths: Vec<String> =
        store.list(&format!("{JOB}/state/"), None).await.unwrap().into_iter().map(|o| o.path).collect();
    assert_eq!(paths, [format!("{JOB}/state/b"), format!("{JOB}/state/c")]);
    let tail = log.read_tail().await.unwrap();
    let kinds: Vec<&EntryKind> = tail.entries.iter().map(|entry| &entry.kind).collect();
    assert!(matches!(kinds[..], [EntryKind::Manifest(_), EntryKind::Stopped { .. }, EntryKind::Start(_), _]));
    assert_eq!(*kinds[3], stopped());
    let view = LogView::of(&tail);
    assert_eq!(restored(&view, None), Ok(Some(Seq(3))));
    assert_eq!(view.stopped(), Some(StopReason::Stopped));
    let holder = view.holder().unwrap();
    assert_eq!((holder.owner.0.as_str(), holder.job_uid.as_str()), ("me", "uid"));
    let reading = LogReading::of(&log).await.unwrap();
    assert_eq!((reading.gaps(), reading.unread.len()), (vec![], 0));
}

#[tokio::test]
async fn a_job_that_starts_meanwhile_keeps_its_checkpoints() {
    let entries = three_checkpoints(Some(stopped()));
    let (_folder, store, log) = stored(&entries).await;
    let view = LogView::of(&log.read_tail().await.unwrap());
    log.append(&entry_after(&entries, start())).await;
    // What a release does after it has read the log.
    let claimed = crate::retained::release::Term::claim(&log, &view, 5).await;
    let message = claimed.err().expect("another entry is there").to_string();
    assert!(message.contains("the job was started meanwhile, by process 7 on here"), "{message}");
    assert_eq!(store.list(&format!("{JOB}/state/"), None).await.unwrap().len(), 3);
}

#[tokio::test]
async fn damaged_and_missing_entries_are_told_apart_from_pruned_ones() {
    let entries = three_checkpoints(Some(stopped()));
    let (_folder, store, log) = stored(&entries).await;
    let reading = LogReading::of(&log).await.unwrap();
    assert_eq!((reading.gaps(), reading.run().len()), (vec![], 5));

    // As collection leaves it: the oldest entry is a manifest, and the term's start lies below.
    store.delete(&[entry_path(JOB, Seq(1)), entry_path(JOB, Seq(2))]).await.unwrap();
    let reading = LogReading::of(&log).await.unwrap();
    assert_eq!((reading.gaps(), reading.run().len()), (vec![], 2));
    assert_eq!(LogView::of(&reading.tail()).sealed().len(), 1);

    // A process that ended in the middle of that: what came right before the manifest is there still.
    let mut longer = three_checkpoints(Some(stopped()));
    for kind in [start(), EntryKind::Manifest(Box::new(with_objects(3, &["state/c"], vec![])))] {
        longer.push(entry_after(&longer, kind));
    }
    let (_folder, store, log) = stored(&longer).await;
    store.delete(&[1, 2, 3].map(|seq| entry_path(JOB, Seq(seq)))).await.unwrap();
    let reading = LogReading::of(&log).await.unwrap();
    assert_eq!((reading.gaps(), reading.run().len()), (vec![], 3));

    // A hole between checkpoints.
    let (_folder, store, log) = stored(&entries).await;
    store.delete(&[entry_path(JOB, Seq(2))]).await.unwrap();
    let gaps = LogReading::of(&log).await.unwrap().gaps();
    let told = "entry 2 of the log is missing, or another one stands in its place; the checkpoints in entries 1 cannot be \
                reached";
    assert_eq!(gaps, [told]);

    // The last manifest is gone: what is left begins with something that is nothing to begin with.
    let (_folder, store, log) = stored(&entries).await;
    store.delete(&[entry_path(JOB, Seq(3))]).await.unwrap();
    assert!(LogReading::of(&log).await.unwrap().gaps()[0].starts_with("entry 3 of the log is missing"));

    // A flipped bit: the others can still be looked at.
    let (_folder, store, log) = stored(&entries).await;
    let mut bytes = encode(&entries[2]);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    store.delete(&[entry_path(JOB, Seq(2))]).await.unwrap();
    store.put(&entry_path(JOB, Seq(2)), bytes.into()).await.unwrap();
    let reading = LogReading::of(&log).await.unwrap();
    assert_eq!(reading.unread.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [Seq(2)]);
    assert!(reading.unread[0].reason.contains("checksum"), "{}", reading.unread[0].reason);
    let seqs: Vec<u64> = LogView::of(&reading.tail()).sealed().iter().map(|s| s.seq.0).collect();
    assert_eq!(seqs, [1, 3]);
    assert_eq!(reading.gaps(), Vec::<String>::new());
}

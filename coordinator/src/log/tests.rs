//! The log on a real local directory.

use std::sync::Arc;

use millstream_api::ids::{Epoch, Generation, Seq};
use millstream_api::log::{Address, EntryKind, LogEntry, Nonce, Owner, Start};
use millstream_store::{LocalStore, ObjectStore};

use super::{Log, decode, encode, entry_path, seq_of};
use crate::job::{AppendOutcome, StoreProblemKind};

const JOB: &str = "default/job";

fn entry(seq: u64, nonce: &str, previous: Option<&str>, kind: EntryKind) -> LogEntry {
    LogEntry {
        version: 1,
        seq: Seq(seq),
        generation: Generation(0),
        nonce: Nonce(nonce.to_owned()),
        previous: previous.map(|p| Nonce(p.to_owned())),
        written_at_ms: 5,
        kind,
    }
}

fn start() -> EntryKind {
    let address = Address { host: "h".to_owned(), listen: None, process_id: 3, process_start: 4 };
    EntryKind::Start(Start { owner: Owner("me".to_owned()), address, restores: None, job_uid: "u".to_owned() })
}

fn void(epoch: u64) -> EntryKind {
    EntryKind::Void { epoch: Epoch(epoch) }
}

fn log() -> (tempfile::TempDir, Arc<dyn ObjectStore>, Log) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalStore::open(folder.path()).unwrap());
    let log = Log::new(Arc::clone(&store), JOB.to_owned());
    (folder, store, log)
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_learns_who() {
    let (_folder, _, log) = log();
    assert_eq!(log.append(&entry(0, "a", None, start())).await, AppendOutcome::Won);
    // The same put again, as after a lost reply: it is recognised.
    assert_eq!(log.append(&entry(0, "a", None, start())).await, AppendOutcome::Won);
    let lost = log.append(&entry(0, "b", None, start())).await;
    assert!(matches!(lost, AppendOutcome::Lost { by: Some(by), stands: false } if by.owner.0 == "me"));
}

#[tokio::test]
async fn a_put_does_not_count_when_something_is_after_it() {
    let (_folder, store, log) = log();
    log.append(&entry(0, "a", None, start())).await;
    log.append(&entry(1, "b", Some("a"), void(1))).await;
    log.append(&entry(2, "c", Some("b"), void(2))).await;
    store.delete(&[entry_path(JOB, Seq(1))]).await.unwrap();
    // A stale writer fills the pruned key: it has lost, and no reader takes it for a part of the log.
    let stale = log.append(&entry(1, "x", Some("a"), void(9))).await;
    assert!(matches!(stale, AppendOutcome::Lost { stands: true, .. }), "{stale:?}");
    let tail = log.read_tail().await.unwrap();
    assert_eq!(tail.entries.iter().map(|e| e.seq.0).collect::<Vec<_>>(), [2]);
    assert_eq!(tail.start.unwrap().owner.0, "me");
    assert_eq!(tail.stored.len(), 3);
}

#[tokio::test]
async fn a_tail_is_the_run_that_ends_with_the_last_entry() {
    let (_folder, _, log) = log();
    assert!(log.read_tail().await.unwrap().entries.is_empty());
    for seq in 0..4u64 {
        let kind = if seq == 0 { start() } else { void(seq) };
        let previous = seq.checked_sub(1).map(|p| format!("n{p}"));
        log.append(&entry(seq, &format!("n{seq}"), previous.as_deref(), kind)).await;
    }
    let tail = log.read_tail().await.unwrap();
    assert_eq!(tail.entries.iter().map(|e| e.seq.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[tokio::test]
async fn a_damaged_entry_is_named_and_nothing_older_is_used() {
    let (folder, _, log) = log();
    log.append(&entry(0, "a", None, start())).await;
    log.append(&entry(1, "b", Some("a"), void(1))).await;
    let path = folder.path().join(entry_path(JOB, Seq(1)));
    let whole = std::fs::read(&path).unwrap();
    let mut altered = whole.clone();
    *altered.iter_mut().rev().nth(5).unwrap() ^= 1;
    for damaged in [&whole[..whole.len() - 9], &altered[..], &b""[..]] {
        std::fs::write(&path, damaged).unwrap();
        let problem = log.read_tail().await.unwrap_err();
        assert_eq!(problem.kind, StoreProblemKind::Corrupt);
        assert!(problem.message.contains(&entry_path(JOB, Seq(1))), "{}", problem.message);
    }
}

#[test]
fn an_entry_survives_its_bytes_and_a_newer_version_is_told() {
    let there = entry(7, "a", Some("b"), start());
    assert_eq!(decode(&encode(&there)).unwrap(), there);
    let newer = LogEntry { version: 99, ..there };
    assert!(decode(&encode(&newer)).unwrap_err().to_string().contains("newer"));
}

#[test]
fn keys_are_ordered_as_their_entries() {
    assert_eq!(entry_path(JOB, Seq(12)), "default/job/log/00000000000000000012");
    assert_eq!(seq_of(&entry_path(JOB, Seq(u64::MAX))), Some(Seq(u64::MAX)));
    assert_eq!(seq_of("default/job/log/notes"), None);
    assert!(entry_path(JOB, Seq(9)) < entry_path(JOB, Seq(10)));
}

//! The two LSM trees of a state on disk, and the thread that flushes and compacts them.
//!
//! Only the newest value of a key is ever read, so old versions go at once; what earlier epochs held is kept apart,
//! in the undo tree. Nothing here survives the process: there is no write-ahead log and the folder is scratch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree, Config, Guard, SeqNo, SequenceNumberCounter, Slice};

use super::super::StateError;

/// A memtable of this size is handed to the flush.
const MEMTABLE_BYTES: u64 = 16 << 20;
/// With so many memtables waiting for the flush, the writer flushes itself: memory is bounded.
const SEALED_MEMTABLES_MAX: usize = 4;
/// Compactions after one flush.
const COMPACTIONS_PER_FLUSH: usize = 8;
/// Longest key that lsm-tree takes.
pub(super) const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// Reads are of whatever is newest. Not of the counter's present number: between asking for that and reading, a flush and a
/// compaction on the other thread may take newer numbers, and let go of the last version of the tree below it.
const NEWEST: SeqNo = SeqNo::MAX;

/// One LSM tree.
#[derive(Clone)]
pub(super) struct Tree {
    tree: AnyTree,
    seqno: SequenceNumberCounter,
}

/// The trees of one state.
pub(super) struct Trees {
    /// Rows as they are.
    pub rows: Tree,
    /// Rows as they were, by version.
    pub undo: Tree,
    dir: PathBuf,
    upkeep: Arc<Upkeep>,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the state share.
#[derive(Debug, Default)]
struct Upkeep {
    /// Versions below this one are not needed any more.
    discard_below: AtomicU32,
    /// The first failure; every later access reports it.
    failure: Mutex<Option<Trouble>>,
}

/// What went wrong with the disk.
#[derive(Clone, Debug)]
struct Trouble {
    full: bool,
    reason: String,
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trees").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Tree {
    fn open(dir: &Path) -> Result<Self, StateError> {
        let seqno = SequenceNumberCounter::new(1);
        let tree = Config::new(dir, seqno.clone(), SequenceNumberCounter::new(1)).open().map_err(disk("open"))?;
        Ok(Self { tree, seqno })
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Slice>, StateError> {
        self.tree.get(key, NEWEST).map_err(disk("read"))
    }

    pub fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        self.tree.contains_key(key, NEWEST).map_err(disk("read"))
    }

    /// Entries from `from` (included) to `to` (not included). What is written or removed meanwhile may show or not, but for keys
    /// that were passed.
    pub fn range(&self, from: &[u8], to: &[u8]) -> impl Iterator<Item = Result<(Slice, Slice), StateError>> + use<> {
        let range = from.to_vec()..to.to_vec();
        self.tree.range(range, NEWEST, None).map(|entry| entry.into_inner().map_err(disk("read")))
    }

    fn full(&self, memtable_bytes: u64) -> bool {
        memtable_bytes > MEMTABLE_BYTES && self.tree.rotate_memtable().is_some()
    }

    fn flush(&self) -> lsm_tree::Result<()> {
        let lock = self.tree.get_flush_lock();
        self.tree.flush(&lock, self.seqno.get()).map(|_| ())
    }

    fn compact(&self) -> lsm_tree::Result<()> {
        for _ in 0..COMPACTIONS_PER_FLUSH {
            let tables = self.tree.table_count();
            self.tree.compact(Arc::new(Leveled::default()), self.seqno.get())?;
            if self.tree.table_count() == tables {
                break;
            }
        }
        Ok(())
    }
}

impl Trees {
    /// Opens empty trees in `dir`; what an earlier process left there is deleted.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let io =
            |e: std::io::Error| Trouble { full: is_full(&e), reason: format!("{}: {e}", dir.display()) }.on("open");
        if dir.exists() {
            fs::remove_dir_all(dir).map_err(io)?;
        }
        fs::create_dir_all(dir).map_err(io)?;
        let (rows, undo) = (Tree::open(&dir.join("rows"))?, Tree::open(&dir.join("undo"))?);
        let upkeep = Arc::new(Upkeep::default());
        let (wake, wakeups) = sync_channel(1);
        let thread = {
            let (rows, undo, upkeep) = (rows.clone(), undo.clone(), Arc::clone(&upkeep));
            thread::Builder::new()
                .name("state-upkeep".into())
                .spawn(move || upkeep.run(&wakeups, &rows, &undo))
                .map_err(io)?
        };
        Ok(Self { rows, undo, dir: dir.to_owned(), upkeep, wake: Some(wake), thread: Some(thread) })
    }

    pub fn put_row(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.written(&self.rows, self.rows.tree.insert(key, value, self.rows.seqno.next()).1)
    }

    pub fn remove_row(&self, key: &[u8]) -> Result<(), StateError> {
        self.written(&self.rows, self.rows.tree.remove(key, self.rows.seqno.next()).1)
    }

    pub fn put_undo(&self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        self.written(&self.undo, self.undo.tree.insert(key, value, self.undo.seqno.next()).1)
    }

    /// Undo of versions below this one is not needed any more.
    pub fn discard_undo_below(&self, version: u32) -> Result<(), StateError> {
        self.upkeep.discard_below.store(version, Ordering::Release);
        self.wake()
    }

    pub fn disk_bytes(&self) -> u64 {
        self.rows.tree.disk_space() + self.undo.tree.disk_space()
    }

    fn written(&self, tree: &Tree, memtable_bytes: u64) -> Result<(), StateError> {
        if tree.full(memtable_bytes) {
            if tree.tree.sealed_memtable_count() > SEALED_MEMTABLES_MAX {
                tree.flush().map_err(disk("write"))?;
            }
            self.wake()?;
        }
        Ok(())
    }

    fn wake(&self) -> Result<(), StateError> {
        if let Some(trouble) = self.upkeep.failure.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Err(trouble.on("write"));
        }
        match self.wake.as_ref().map(|wake| wake.try_send(())) {
            // Full: it is awake already, or about to be.
            Some(Ok(()) | Err(TrySendError::Full(()))) | None => Ok(()),
            Some(Err(TrySendError::Disconnected(()))) => {
                let reason = format!("the upkeep of {} ended early", self.dir.display());
                Err(StateError::Disk { verb: "write", reason })
            }
        }
    }
}

impl Drop for Trees {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // It ended by a panic: its message is on stderr, and the folder goes anyway.
            let _ = thread.join();
        }
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "failed to delete scratch state");
        }
    }
}

impl Upkeep {
    /// Flushes and compacts at each wake-up, until the state is dropped or something fails.
    fn run(&self, wakeups: &Receiver<()>, rows: &Tree, undo: &Tree) {
        let mut discarded = 0;
        while wakeups.recv().is_ok() {
            if let Err(error) = self.step(&mut discarded, rows, undo) {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Trouble::of(&error));
                // Later wake-ups only find the failure; the state reports it and is dropped.
                while wakeups.recv().is_ok() {}
            }
        }
    }

    fn step(&self, discarded: &mut u32, rows: &Tree, undo: &Tree) -> lsm_tree::Result<()> {
        rows.flush()?;
        rows.compact()?;
        undo.flush()?;
        let below = self.discard_below.load(Ordering::Acquire);
        if below > *discarded {
            let range: std::ops::RangeTo<[u8; 4]> = ..below.to_be_bytes();
            undo.tree.drop_range(range)?;
            *discarded = below;
        }
        undo.compact()
    }
}

fn disk(verb: &'static str) -> impl Fn(lsm_tree::Error) -> StateError {
    move |error| Trouble::of(&error).on(verb)
}

impl Trouble {
    fn of(error: &lsm_tree::Error) -> Self {
        match error {
            lsm_tree::Error::Io(error) => Self { full: is_full(error), reason: error.to_string() },
            other => Self { full: false, reason: format!("{other:?}") },
        }
    }

    fn on(self, verb: &'static str) -> StateError {
        let Self { full, reason } = self;
        if full { StateError::DiskFull { verb, reason } } else { StateError::Disk { verb, reason } }
    }
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    /// Writes, each in a memtable of its own, so that versions of the tree follow each other fast.
    const WRITES: u32 = 3_000;
    const READERS: usize = 8;

    #[test]
    fn rows_are_read_while_versions_of_the_tree_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::open(&folder.path().join("rows")).unwrap();
        let (other, ended) = (tree.clone(), Arc::new(AtomicBool::new(false)));
        let upkeep = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    other.flush().unwrap();
                    other.compact().unwrap();
                }
            })
        };
        // Readers beyond the one that there is, so that some are interrupted anywhere.
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (tree, ended) = (tree.clone(), Arc::clone(&ended));
                thread::spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        tree.get(&0u32.to_be_bytes()).unwrap();
                    }
                })
            })
            .collect();
        for number in 0..WRITES {
            let key = (number % 7).to_be_bytes();
            tree.tree.insert(key, number.to_be_bytes(), tree.seqno.next());
            tree.tree.rotate_memtable();
            assert_eq!(tree.get(&key).unwrap().as_deref(), Some(&number.to_be_bytes()[..]));
            assert!(tree.contains(&key).unwrap());
            let all = tree.range(&[0], &[255]).map(Result::unwrap).count();
            assert_eq!(all, 7.min(number as usize + 1));
        }
        ended.store(true, Ordering::Relaxed);
        upkeep.join().unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    }
}

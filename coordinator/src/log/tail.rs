//! Reading the newest part of the log.

use millstream_api::ids::Seq;
use millstream_api::log::{EntryKind, LogEntry, Start};

use super::{Log, folder, problem, seq_of};
use crate::job::{LogTail, StoreProblem, StoreProblemKind};

/// Listings tried when the last entry vanishes between listing and reading: the log's owner is pruning it.
const RELIST_MAX: u32 = 5;

/// What a read of the tail brings.
pub type Tail = Result<LogTail, StoreProblem>;

impl Log {
    /// The gapless run of entries that ends with the last one, each checked, and the `start` entry of its term.
    ///
    /// # Errors
    /// When the store does not answer, or an object of the run is missing or not what was written.
    pub async fn read_tail(&self) -> Tail {
        for _ in 0..RELIST_MAX {
            let stored = self.stored().await?;
            let Some(last) = stored.iter().max().copied() else { return Ok(LogTail::default()) };
            let Some(entries) = self.read_run(last, &stored).await? else { continue };
            let Some(start) = self.read_start(&entries).await? else { continue };
            return Ok(LogTail { entries, start: Some(start), stored });
        }
        let message = format!(
            "the log in {} cannot be read as a whole: entries are missing, or are being pruned all the time",
            self.name(&folder(&self.job_path))
        );
        Err(StoreProblem { message, kind: StoreProblemKind::Transient })
    }

    /// The numbers of all stored entries, ascending.
    pub(crate) async fn stored(&self) -> Result<Vec<Seq>, StoreProblem> {
        let listed = self.store.list(&folder(&self.job_path), None).await.map_err(|e| problem(&e))?;
        let mut stored: Vec<Seq> = listed.iter().filter_map(|object| seq_of(&object.path)).collect();
        stored.sort_unstable();
        Ok(stored)
    }

    /// From the last entry down, as long as each names the one before it. `None`: an entry was pruned meanwhile.
    async fn read_run(&self, last: Seq, stored: &[Seq]) -> Result<Option<Vec<LogEntry>>, StoreProblem> {
        let mut run: Vec<LogEntry> = Vec::new();
        let mut at = Some(last);
        while let Some(seq) = at.filter(|seq| stored.contains(seq)) {
            let Some(entry) = self.read_unless_pruned(seq).await? else { return Ok(None) };
            if run.last().is_some_and(|after| after.previous.as_ref() != Some(&entry.nonce)) {
                // A stale writer filled a pruned key right below the run.
                break;
            }
            at = seq.0.checked_sub(1).map(Seq);
            run.push(entry);
        }
        run.reverse();
        Ok(Some(run))
    }

    /// The entry that begins the term of the last one; it may be older than the run. `None`: it was pruned meanwhile.
    async fn read_start(&self, entries: &[LogEntry]) -> Result<Option<Start>, StoreProblem> {
        let Some(last) = entries.last() else { return Ok(None) };
        let term = Seq(last.generation.0);
        let entry = match entries.iter().find(|e| e.seq == term) {
            Some(entry) => Some(entry.clone()),
            None => self.read_unless_pruned(term).await?,
        };
        match entry.map(|e| e.kind) {
            None => Ok(None),
            Some(EntryKind::Start(start)) => Ok(Some(start)),
            Some(_) => {
                let path = super::entry_path(&self.job_path, term);
                Err(self.damaged(&path, "the entry that begins the last term is no start entry"))
            }
        }
    }

    /// An entry that was listed. `None`: it is not listed any more, so its writer has pruned it, and the log goes on.
    async fn read_unless_pruned(&self, seq: Seq) -> Result<Option<LogEntry>, StoreProblem> {
        match self.read(seq).await {
            Ok(entry) => Ok(Some(entry)),
            Err(unread) => {
                let seqs = self.stored().await?;
                // A term's start entry is pruned only when a later term has written.
                let later = seqs.iter().max() > Some(&seq);
                if !seqs.contains(&seq) && later { Ok(None) } else { Err(unread) }
            }
        }
    }
}

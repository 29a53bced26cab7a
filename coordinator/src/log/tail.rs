//! Reading the newest part of the log.

use millstream_api::ids::Seq;
use millstream_api::log::{EntryKind, LogEntry};

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
            let listed = self.store.list(&folder(&self.job_path), None).await.map_err(|e| problem(&e))?;
            let stored: Vec<Seq> = listed.iter().filter_map(|o| seq_of(&o.path)).collect();
            let Some(last) = stored.iter().max().copied() else { return Ok(LogTail::default()) };
            match self.read_run(last, &stored).await? {
                Some(entries) => return self.with_start(entries, stored).await,
                None => continue,
            }
        }
        let message = format!("the log in {} changes faster than it can be read", self.name(&folder(&self.job_path)));
        Err(StoreProblem { message, kind: StoreProblemKind::Transient })
    }

    /// From the last entry down, as long as each names the one before it. `None`: an entry was pruned meanwhile.
    async fn read_run(&self, last: Seq, stored: &[Seq]) -> Result<Option<Vec<LogEntry>>, StoreProblem> {
        let mut run: Vec<LogEntry> = Vec::new();
        let mut at = Some(last);
        while let Some(seq) = at.filter(|seq| stored.contains(seq)) {
            let entry = match self.read(seq).await {
                Ok(entry) => entry,
                Err(problem) => {
                    // Not listed any more: it went by pruning. Still listed: it is damaged or unreadable.
                    let again = self.store.list(&folder(&self.job_path), None).await.map_err(|e| super::problem(&e))?;
                    if again.iter().any(|o| seq_of(&o.path) == Some(seq)) {
                        return Err(problem);
                    }
                    return Ok(None);
                }
            };
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

    async fn with_start(&self, entries: Vec<LogEntry>, stored: Vec<Seq>) -> Tail {
        let Some(last) = entries.last() else { return Ok(LogTail::default()) };
        let term = Seq(last.generation.0);
        let in_run = entries.iter().find(|e| e.seq == term).cloned();
        let entry = match in_run {
            Some(entry) => entry,
            None => self.read(term).await?,
        };
        match entry.kind {
            EntryKind::Start(start) => Ok(LogTail { entries, start: Some(start), stored }),
            _ => {
                let path = super::entry_path(&self.job_path, term);
                Err(self.damaged(&path, "the entry that begins the last term is no start entry"))
            }
        }
    }
}

//! Every entry of a log, read one by one, and what is wrong with them.
//!
//! Owns: telling a damaged or missing entry from one that was pruned. Does not own: what a coordinator makes of a log, which
//! reads its newest part and stops at the first thing that is wrong (`log::Tail`).

use millstream_api::ids::Seq;
use millstream_api::log::{EntryKind, LogEntry};

use crate::job::{LogTail, StoreProblem};
use crate::log::Log;

/// A log as it was found.
#[derive(Debug, Default)]
pub struct LogReading {
    /// By seq, ascending: all that are stored and could be read.
    pub entries: Vec<LogEntry>,
    pub unread: Vec<UnreadEntry>,
    stored: Vec<Seq>,
}

/// An entry that is stored and is not what was written.
#[derive(Debug)]
pub struct UnreadEntry {
    pub seq: Seq,
    pub reason: String,
}

impl LogReading {
    /// Reads all entries. One that its owner prunes meanwhile does not count.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of(log: &Log) -> Result<Self, StoreProblem> {
        let mut reading = Self { stored: log.stored().await?, ..Self::default() };
        for seq in reading.stored.clone() {
            match log.read(seq).await {
                Ok(entry) => reading.entries.push(entry),
                Err(unread) if unread.kind == crate::job::StoreProblemKind::Corrupt => {
                    if log.stored().await?.contains(&seq) {
                        reading.unread.push(UnreadEntry { seq, reason: unread.message });
                    } else {
                        reading.stored.retain(|stored| *stored != seq);
                    }
                }
                Err(other) => return Err(other),
            }
        }
        // What was pruned since it was read must not look like the far side of a gap.
        let still = log.stored().await?;
        reading.entries.retain(|entry| still.contains(&entry.seq));
        reading.stored.retain(|seq| still.contains(seq));
        Ok(reading)
    }

    /// The entries that hang together up to the last one: each names the one before it.
    #[must_use]
    pub fn run(&self) -> &[LogEntry] {
        let follows =
            |pair: &[LogEntry]| pair[0].seq.next() == pair[1].seq && pair[1].previous.as_ref() == Some(&pair[0].nonce);
        let begin = self.entries.windows(2).rposition(|pair| !follows(pair)).map_or(0, |at| at + 1);
        &self.entries[begin..]
    }

    /// As a coordinator would read it, if it read over what is damaged.
    #[must_use]
    pub fn tail(&self) -> LogTail {
        let run = if self.unread.is_empty() { self.run() } else { &self.entries };
        let term = run.last().map(|last| Seq(last.generation.0));
        let start = self.entries.iter().find(|entry| Some(entry.seq) == term).and_then(|entry| match &entry.kind {
            EntryKind::Start(start) => Some(start.clone()),
            _ => None,
        });
        LogTail { entries: run.to_vec(), start, stored: self.stored.clone() }
    }

    /// What is wrong with the log beside entries that cannot be read, a line for each.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let run = self.run();
        let Some(first) = run.first().filter(|_| self.unread.is_empty()) else { return wrong };
        // Pruning takes the oldest entries first, and ends with the process: it leaves a manifest, maybe what came right before
        // it, and below that nothing but the `start` entry of the last term.
        let whole = first.seq.0 == 0 || run.iter().any(|entry| matches!(entry.kind, EntryKind::Manifest(_)));
        let is_manifest = |entry: &&LogEntry| matches!(entry.kind, EntryKind::Manifest(_)) && entry.seq < first.seq;
        let cut_off: Vec<String> = self.entries.iter().filter(is_manifest).map(|entry| entry.seq.to_string()).collect();
        if let Some(missing) = first.seq.0.checked_sub(1).filter(|_| !whole || !cut_off.is_empty()) {
            let lost = if cut_off.is_empty() {
                String::new()
            } else {
                format!("; the checkpoints in entries {} cannot be reached", cut_off.join(", "))
            };
            wrong.push(format!("entry {missing} of the log is missing, or another one stands in its place{lost}"));
        }
        if self.tail().start.is_none() {
            wrong.push(match run.last() {
                Some(entry) => format!("entry {}, which began the last term, is missing", entry.generation),
                None => "the log has no entry that can be read".to_owned(),
            });
        }
        wrong
    }
}

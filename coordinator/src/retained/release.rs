//! Letting go of a retained checkpoint of a job that does not run.
//!
//! A coordinator that rules decides from what it has in memory, so nobody else may take checkpoints from it. A release
//! therefore is a term of its own: a `start` entry, which shuts every coordinator out for as long as this process lives, the
//! deletions, and the `stopped` entry that was there before once more. It is for jobs whose log ends with `stopped`: of any
//! other it cannot be told from here whether workers still run.
//!
//! Owns: what may go, the order of the steps. Does not own: which objects then are superfluous (`job::retention`).

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_api::ids::{Generation, Seq};
use millstream_api::log::{EntryKind, LOG_VERSION, LogEntry, Nonce, Start};
use millstream_store::ObjectStore;
use thiserror::Error;

use super::committed_through;
use crate::job::retention::{Superfluous, below};
use crate::job::{AppendOutcome, LogView, Random, StoreProblem};
use crate::log::{Log, entry_path};
use crate::runtime::own_address;

/// What became of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// Checkpoints that are gone, oldest first.
    pub checkpoints: Vec<Seq>,
    pub objects: usize,
    pub bytes: u64,
}

/// Why nothing, or not all, was released.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// What was asked for must not be done, or not now.
    #[error("{0}")]
    Refused(String),
    #[error("{}", .0.message)]
    Store(StoreProblem),
    #[error("failed to write to the log: {0}; run it again")]
    Unwritten(String),
}

impl From<StoreProblem> for ReleaseError {
    fn from(problem: StoreProblem) -> Self {
        Self::Store(problem)
    }
}

/// Releases the checkpoint `seq`, and with `older` those before it. `pinned`: what the resource says to restore, which
/// stays. `now_ms`: wall clock, for the entries.
///
/// # Errors
/// When the job runs or may run, when the checkpoint is needed, or when the store fails; what is not deleted then is
/// collected by the job's next start.
pub async fn release(
    store: Arc<dyn ObjectStore>,
    job_path: &str,
    seq: Seq,
    older: bool,
    pinned: Option<Seq>,
    now_ms: i64,
) -> Result<Released, ReleaseError> {
    let log = Log::new(Arc::clone(&store), job_path.to_owned());
    let tail = log.read_tail().await?;
    let view = LogView::of(&tail);
    let stopped = tail.entries.last().map(|entry| entry.kind.clone());
    let kept_from = plan(&view, seq, older, pinned).map_err(ReleaseError::Refused)?;
    let mut term = Term::claim(&log, &view, now_ms).await?;
    let released = delete(&*store, job_path, &view, kept_from, term.generation).await;
    // Whether or not all is deleted, the term is over.
    let ended = term.append(stopped.expect("a log with a checkpoint has entries"), now_ms).await;
    let released = released?;
    ended.map(|()| released)
}

/// The position of the oldest checkpoint that stays.
pub(super) fn plan(view: &LogView, seq: Seq, older: bool, pinned: Option<Seq>) -> Result<usize, String> {
    let sealed = view.sealed();
    let known = || sealed.iter().map(|s| s.seq.to_string()).collect::<Vec<_>>().join(", ");
    if let Some(holder) = view.holder().filter(|_| view.stopped().is_none()) {
        let (process, host) = (holder.address.process_id, &holder.address.host);
        return Err(format!(
            "the job runs or was not stopped: its log is held by process {process} on {host}, which alone may drop its \
             checkpoints. Stop the job first (if it crashed, start it and stop it)"
        ));
    }
    let Some(at) = sealed.iter().position(|s| s.seq == seq) else {
        let known = if sealed.is_empty() { "none".to_owned() } else { known() };
        return Err(format!("{seq} is no retained checkpoint of this job; there are: {known}"));
    };
    if at + 1 == sealed.len() {
        return Err(format!("checkpoint {seq} is the newest one: a start goes on from it"));
    }
    if at > 0 && !older {
        return Err(format!(
            "checkpoint {seq} is not the oldest one, and a log has no holes: release {} first, or all up to {seq} with \
             --and-older",
            sealed[0].seq
        ));
    }
    if let Some(pinned) = pinned.filter(|pinned| sealed[..=at].iter().any(|s| s.seq == *pinned)) {
        return Err(format!(
            "checkpoint {pinned} stands in spec.restore.from of the manifest: a start may go back to it"
        ));
    }
    // An epoch whose commits are not recorded may yet be given up; then the one before it is what counts.
    let through = committed_through(view);
    let recorded = sealed.iter().rposition(|s| through.is_some_and(|through| s.manifest.epoch <= through));
    if recorded.is_none_or(|recorded| at >= recorded) {
        return Err(format!(
            "checkpoint {seq} may be needed: the commits of the checkpoints after it are not recorded. Start the job, \
             which finishes them"
        ));
    }
    Ok(at + 1)
}

/// The entries first: a manifest in the log always has its objects.
async fn delete(
    store: &dyn ObjectStore,
    job_path: &str,
    view: &LogView,
    kept_from: usize,
    generation: Generation,
) -> Result<Released, ReleaseError> {
    let Superfluous { entries, objects, .. } = below(view, kept_from, generation).unwrap_or_default();
    let gone = &view.sealed()[..kept_from];
    let named = gone.iter().chain(view.dropped()).flat_map(|s| s.manifest.objects());
    let sizes: BTreeMap<&str, u64> = named.map(|object| (object.path.as_str(), object.bytes)).collect();
    let bytes = objects.iter().filter_map(|path| sizes.get(path.as_str())).sum();
    let failed = |e| ReleaseError::Store(crate::log::problem(&e));
    let entries: Vec<String> = entries.iter().map(|seq| entry_path(job_path, *seq)).collect();
    store.delete(&entries).await.map_err(failed)?;
    let paths: Vec<String> = objects.iter().map(|object| format!("{job_path}/{object}")).collect();
    store.delete(&paths).await.map_err(failed)?;
    Ok(Released { checkpoints: gone.iter().map(|s| s.seq).collect(), objects: objects.len(), bytes })
}

/// The time in which this process alone may write to the log.
pub(super) struct Term<'a> {
    log: &'a Log,
    generation: Generation,
    last: (Seq, Nonce),
    random: Random,
}

impl<'a> Term<'a> {
    pub(super) async fn claim(log: &'a Log, view: &LogView, now_ms: i64) -> Result<Self, ReleaseError> {
        let random = |e| ReleaseError::Unwritten(format!("the system gives no random numbers: {e}"));
        let mut seed = [0u8; 8];
        getrandom::fill(&mut seed).map_err(random)?;
        let (last, holder) = view.last().zip(view.holder()).expect("a log with a checkpoint has a `start` entry");
        let start = Start { address: own_address(None), restores: view.tip().map(|tip| tip.seq), ..holder.clone() };
        let generation = Generation(last.0.next().0);
        let mut term = Self { log, generation, last: last.clone(), random: Random::new(u64::from_le_bytes(seed)) };
        term.append(EntryKind::Start(start), now_ms).await?;
        Ok(term)
    }

    async fn append(&mut self, kind: EntryKind, now_ms: i64) -> Result<(), ReleaseError> {
        let entry = LogEntry {
            version: LOG_VERSION,
            seq: self.last.0.next(),
            generation: self.generation,
            nonce: self.random.nonce(),
            previous: Some(self.last.1.clone()),
            written_at_ms: now_ms,
            kind,
        };
        match self.log.append(&entry).await {
            AppendOutcome::Won => {
                self.last = (entry.seq, entry.nonce);
                Ok(())
            }
            AppendOutcome::Lost { by, .. } => {
                let by = by.map_or_else(|| "another process".to_owned(), |start| crate::job::place(&start));
                Err(ReleaseError::Refused(format!("the job was started meanwhile, by {by}: stop it first")))
            }
            AppendOutcome::Unknown { reason } => Err(ReleaseError::Unwritten(reason)),
            AppendOutcome::Rejected { problem } => Err(ReleaseError::Store(problem)),
        }
    }
}

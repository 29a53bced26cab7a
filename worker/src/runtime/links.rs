//! The connections to other workers, as part of a deployment.
//!
//! They come up beside the building of the tasks, so that a worker which does not answer holds up no command. Owns: when a
//! deployment counts as connected, and what is said of a connection that is not. Does not own: the connections
//! (`exchange::remote`).

use std::collections::BTreeSet;

use millstream_api::control::{Attempt, Deployment, Failure, FailureKind, Report};
use millstream_api::ids::WorkerId;
use tokio::sync::mpsc;

use super::wiring::Wiring;
use crate::exchange::remote::{LinkNews, Links, Party, Shuffle};

/// News of the connections of a set of tasks. Unbounded: two for each connection.
pub(super) type NewsSender = mpsc::UnboundedSender<(u64, LinkNews)>;

/// The connections of what is deployed; none before.
#[derive(Debug, Default)]
pub(super) struct DeployedLinks {
    _links: Option<Links>,
    worker: WorkerId,
    /// Connections that are not up yet.
    awaited: BTreeSet<WorkerId>,
    built: bool,
    failed: bool,
}

impl DeployedLinks {
    /// Begins to connect. `number`: of this set of tasks, told with the news.
    pub(super) fn begin(
        shuffle: &Shuffle,
        deployment: &Deployment,
        attempt: Attempt,
        wiring: &mut Wiring,
        (number, news): (u64, &NewsSender),
    ) -> Self {
        let ends = wiring.take_links();
        let awaited = ends.keys().copied().collect();
        let party = Party { job: deployment.job.clone(), attempt, worker: deployment.worker };
        let news = news.clone();
        // Once the runtime has ended, nobody hears it.
        let tell = move |said| drop(news.send((number, said)));
        let links = shuffle.link_up(party, ends, &deployment.placement.addresses, tell);
        Self { _links: Some(links), worker: deployment.worker, awaited, built: false, failed: false }
    }

    /// Lets go of the connections. The other sides hear that they are closed.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }

    /// The tasks are on their slots. What is to be reported, if anything.
    pub(super) fn built(&mut self) -> Option<Report> {
        self.built = true;
        self.deployed()
    }

    /// What is to be reported, if anything.
    pub(super) fn on_news(&mut self, news: LinkNews) -> Option<Report> {
        match news {
            LinkNews::Up { peer } => {
                self.awaited.remove(&peer).then_some(())?;
                self.deployed()
            }
            // One failure is enough: the attempt ends with it.
            LinkNews::Down { .. } if self.failed => None,
            LinkNews::Down { peer, error } => {
                self.failed = true;
                let message = format!("connection of worker {} to worker {peer}: {error}", self.worker);
                tracing::warn!(message, "rows do not flow");
                Some(Report::CommandFailed { failure: Failure { kind: FailureKind::Transient, message } })
            }
        }
    }

    /// Every connection is up.
    pub(super) fn connected(&self) -> bool {
        self.awaited.is_empty() && !self.failed
    }

    fn deployed(&self) -> Option<Report> {
        (self.built && self.awaited.is_empty() && !self.failed).then_some(Report::Deployed)
    }
}

//! Puts the status together anew, when something has changed.

use std::sync::Arc;
use std::time::Duration;

use millstream_api::proto::operations::v1;
use tokio::sync::{mpsc, oneshot, watch};

use super::board::Board;
use super::picture::{JobFacts, Parts};
use super::rates::Tracks;
use crate::job::Status;
use crate::runtime::Clock;

/// How often the workers' counters are looked at: as often as they are told.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// At least so long between two statuses, however many events there are: four per second follow anything that people
/// look at.
const PAUSE: Duration = Duration::from_millis(250);

/// Questions for the status of this very moment that wait; those beyond wait for room.
const ASKED_MAX: usize = 16;

/// Where to ask for the status of this very moment.
pub(super) type Ask = mpsc::Sender<oneshot::Sender<Arc<v1::JobStatus>>>;

/// The newest status, and where to ask for one that is newer. It ends with `core`, whose last word it still says.
pub(super) fn publish(
    facts: JobFacts,
    mut core: watch::Receiver<Status>,
    board: Board,
    clock: Clock,
) -> (watch::Receiver<Arc<v1::JobStatus>>, Ask) {
    let mut tracks = Tracks::default();
    let mut put_together = move |status: &Status| {
        let (readings, now) = (board.read(), clock.now());
        tracks.take(now, &readings);
        Parts { facts: &facts, status, readings: &readings, tracks: &tracks, now }.status()
    };
    let first = put_together(&core.borrow_and_update());
    let (shown_in, shown) = watch::channel(Arc::new(first));
    let (ask, mut asked) = mpsc::channel::<oneshot::Sender<Arc<v1::JobStatus>>>(ASKED_MAX);
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Followers are told of a change after the pause; who asks gets what is so now.
        let mut quiet_until = tokio::time::Instant::now();
        let mut lives = true;
        while lives {
            let mut asker = None;
            tokio::select! {
                changed = core.changed(), if quiet_until <= tokio::time::Instant::now() => lives = changed.is_ok(),
                () = tokio::time::sleep_until(quiet_until), if quiet_until > tokio::time::Instant::now() => continue,
                Some(next) = asked.recv() => asker = Some(next),
                _ = looks.tick() => {}
            }
            let status = Arc::new(put_together(&core.borrow_and_update().clone()));
            shown_in.send_if_modified(|shown| {
                let changed = differ(shown, &status);
                if changed {
                    *shown = Arc::clone(&status);
                }
                changed
            });
            match asker {
                // One that has gone away hears nothing.
                Some(asker) => drop(asker.send(status)),
                None => quiet_until = tokio::time::Instant::now() + PAUSE,
            }
        }
    });
    (shown, ask)
}

/// But for the time of day.
fn differ(shown: &v1::JobStatus, status: &v1::JobStatus) -> bool {
    *shown != v1::JobStatus { at_ms: shown.at_ms, ..status.clone() }
}

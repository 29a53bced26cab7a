//! Puts the status together anew, when something has changed.

use std::sync::Arc;
use std::time::Duration;

use millstream_api::proto::operations::v1;
use tokio::sync::watch;

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

/// The newest status. It ends with `core`, whose last word it still says.
pub(super) fn publish(
    facts: JobFacts,
    mut core: watch::Receiver<Status>,
    board: Board,
    clock: Clock,
) -> watch::Receiver<Arc<v1::JobStatus>> {
    let mut tracks = Tracks::default();
    let mut put_together = move |status: &Status| {
        let (readings, now) = (board.read(), clock.now());
        tracks.take(now, &readings);
        Parts { facts: &facts, status, readings: &readings, tracks: &tracks, now }.status()
    };
    let first = put_together(&core.borrow_and_update());
    let (shown_in, shown) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut lives = true;
        while lives {
            tokio::select! {
                changed = core.changed() => lives = changed.is_ok(),
                _ = looks.tick() => {}
            }
            let mut status = put_together(&core.borrow_and_update().clone());
            shown_in.send_if_modified(|shown| {
                // But for the time of day.
                let now = std::mem::replace(&mut status.at_ms, shown.at_ms);
                let changed = **shown != status;
                status.at_ms = now;
                if changed {
                    *shown = Arc::new(status);
                }
                changed
            });
            if lives {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    shown
}

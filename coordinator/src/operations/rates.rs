//! Rates and shares of time, from totals that workers tell every second.
//!
//! A task's own accounts of time (busy, idle, held back) add up to the time between two readings, so no clock is compared
//! with another.

use std::collections::{BTreeMap, VecDeque};

use millstream_api::ids::{TaskId, WorkerId};
use millstream_api::readings::{Doing, TaskReadings};

use super::board::Readings;
use crate::job::Millis;

/// Rates are over so much time: long enough to be steady, short enough to follow.
const WINDOW_MS: u64 = 5_000;
/// A worker that has told nothing new for so long has no rates.
const STALE_AFTER_MS: Millis = 5_000;

/// Of one task, over the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) busy: f64,
    pub(super) idle: f64,
    pub(super) backpressured: f64,
    pub(super) records_in_per_second: f64,
    pub(super) records_out_per_second: f64,
}

/// What is remembered of all tasks.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    tasks: BTreeMap<TaskId, Track>,
    told: BTreeMap<WorkerId, (Readings, Millis)>,
}

#[derive(Debug)]
struct Track {
    worker: WorkerId,
    /// Oldest first; by their totals a window apart at most, and one before.
    samples: VecDeque<Sample>,
}

/// Totals of one reading. Times include what the task is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sample {
    busy_ms: u64,
    idle_ms: u64,
    backpressured_ms: u64,
    records_in: u64,
    records_out: u64,
}

impl Sample {
    fn of(readings: &TaskReadings) -> Self {
        let mut sample = Self {
            busy_ms: readings.busy_ms,
            idle_ms: readings.idle_ms,
            backpressured_ms: readings.backpressured_ms,
            records_in: readings.records_in,
            records_out: readings.records_out,
        };
        let account = match readings.doing {
            Doing::Busy => &mut sample.busy_ms,
            Doing::Idle => &mut sample.idle_ms,
            Doing::BackPressured => &mut sample.backpressured_ms,
        };
        *account = account.saturating_add(readings.doing_ms);
        sample
    }

    fn time_ms(&self) -> u64 {
        self.busy_ms.saturating_add(self.idle_ms).saturating_add(self.backpressured_ms)
    }
}

impl Tracks {
    /// Takes in what the workers told. What was told before is recognised.
    pub(super) fn take(&mut self, now: Millis, readings: &[(WorkerId, Readings)]) {
        self.told.retain(|worker, _| readings.iter().any(|(known, _)| known == worker));
        for (worker, tasks) in readings {
            if self.told.get(worker).is_some_and(|(before, _)| std::sync::Arc::ptr_eq(before, tasks)) {
                continue;
            }
            self.told.insert(*worker, (Readings::clone(tasks), now));
            for task in tasks.iter() {
                self.add(*worker, task);
            }
        }
        let told = &self.told;
        self.tasks.retain(|_, track| told.contains_key(&track.worker));
    }

    fn add(&mut self, worker: WorkerId, readings: &TaskReadings) {
        let sample = Sample::of(readings);
        let track = self.tasks.entry(readings.task).or_insert_with(|| Track { worker, samples: VecDeque::new() });
        // Another worker, or tasks built anew: their totals have nothing to do with those before.
        let goes_on = track.samples.back().is_none_or(|last| {
            sample.time_ms() >= last.time_ms()
                && sample.records_in >= last.records_in
                && sample.records_out >= last.records_out
        });
        if track.worker != worker || !goes_on {
            *track = Track { worker, samples: VecDeque::new() };
        }
        track.samples.push_back(sample);
        let window_began = sample.time_ms().saturating_sub(WINDOW_MS);
        while track.samples.get(1).is_some_and(|second| second.time_ms() <= window_began) {
            track.samples.pop_front();
        }
    }

    /// `None` before the second reading, and when the worker has fallen silent.
    pub(super) fn of(&self, now: Millis, task: TaskId) -> Option<Rates> {
        let track = self.tasks.get(&task)?;
        let (_, told_at) = self.told.get(&track.worker)?;
        if now.saturating_sub(*told_at) > STALE_AFTER_MS {
            return None;
        }
        let (first, last) = (track.samples.front()?, track.samples.back()?);
        let time_ms = last.time_ms().saturating_sub(first.time_ms());
        if time_ms == 0 {
            return None;
        }
        // A single account may fall by what was counted twice while a reading was taken.
        let share = |last: u64, first: u64| (last.saturating_sub(first) as f64 / time_ms as f64).min(1.0);
        let per_second = |last: u64, first: u64| last.saturating_sub(first) as f64 * 1_000.0 / time_ms as f64;
        Some(Rates {
            busy: share(last.busy_ms, first.busy_ms),
            idle: share(last.idle_ms, first.idle_ms),
            backpressured: share(last.backpressured_ms, first.backpressured_ms),
            records_in_per_second: per_second(last.records_in, first.records_in),
            records_out_per_second: per_second(last.records_out, first.records_out),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fixture::readings;
    use super::*;

    const WORKER: WorkerId = WorkerId(1);

    /// A reading of a task that was busy, idle and held back for so long.
    fn told(busy_ms: u64, idle_ms: u64, backpressured_ms: u64, records_in: u64) -> Vec<(WorkerId, Readings)> {
        let task = TaskReadings { busy_ms, idle_ms, backpressured_ms, records_in, ..readings(0, 0) };
        vec![(WORKER, Arc::new(vec![task]))]
    }

    #[test]
    fn shares_are_of_the_last_seconds_and_add_up() {
        let mut tracks = Tracks::default();
        let task = readings(0, 0).task;
        tracks.take(0, &told(100_000, 0, 0, 0));
        assert_eq!(tracks.of(0, task), None, "one reading says nothing about time");
        for second in 1..=10 {
            tracks.take(second * 1_000, &told(100_000 + second * 250, second * 500, second * 250, second * 2_000));
        }
        let rates = tracks.of(10_000, task).unwrap();
        assert_eq!((rates.busy, rates.idle, rates.backpressured), (0.25, 0.5, 0.25));
        assert_eq!(rates.records_in_per_second, 2_000.0);
        assert_eq!(tracks.tasks[&task].samples.len(), 6, "no more is kept than the window needs");
    }

    #[test]
    fn what_a_waiting_task_is_at_counts() {
        let mut tracks = Tracks::default();
        for second in 1..=3 {
            let doing_ms = second * 1_000;
            let task = TaskReadings { doing: Doing::BackPressured, doing_ms, ..readings(0, 0) };
            tracks.take(doing_ms, &[(WORKER, Arc::new(vec![task]))]);
        }
        assert_eq!(tracks.of(3_000, readings(0, 0).task).unwrap().backpressured, 1.0);
    }

    #[test]
    fn a_silent_worker_has_no_rates_and_a_task_built_anew_begins_anew() {
        let mut tracks = Tracks::default();
        let task = readings(0, 0).task;
        let last = told(2_000, 0, 0, 50);
        tracks.take(0, &told(1_000, 0, 0, 10));
        tracks.take(1_000, &last);
        assert!(tracks.of(1_000, task).is_some());
        tracks.take(7_000, &last);
        assert_eq!(tracks.of(7_000, task), None);
        tracks.take(8_000, &told(10, 0, 0, 0));
        assert_eq!(tracks.of(8_000, task), None);
        tracks.take(9_000, &[]);
        assert!(tracks.tasks.is_empty() && tracks.told.is_empty());
    }
}

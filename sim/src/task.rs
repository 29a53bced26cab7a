//! The tasks of the simulated job: sources and counts, with channels, alignment, state and its undo layers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use millstream_api::ids::Epoch;
use millstream_api::log::{SplitState, TableSnapshot};
use millstream_coordinator::job::Random;

use crate::broker::Output;
use crate::job::{group_of, key_of, number};
use crate::rules::Rules;
use crate::sink::Sink;

/// What flows between the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Record { number: u64, key: u32 },
    Watermark(i64),
    Barrier(Epoch),
    End,
}

/// A split's position, as its source keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub split: u32,
    pub next: u64,
    pub end: u64,
}

impl Position {
    #[must_use]
    pub fn stored(&self) -> SplitState {
        SplitState {
            split: format!("numbers/{}", self.split),
            position: serde_json::json!({ "split": self.split, "next": self.next, "end": self.end }),
            watermark: Some(self.watermark()),
            idle: false,
            finished: self.next == self.end,
        }
    }

    #[must_use]
    pub fn of(stored: &SplitState) -> Self {
        let field = |name| stored.position[name].as_u64().expect("written by `stored`");
        Self { split: field("split") as u32, next: field("next"), end: field("end") }
    }

    fn watermark(&self) -> i64 {
        if self.next == self.end { i64::MAX } else { self.next as i64 }
    }
}

/// Reads the splits that it owns.
#[derive(Debug)]
pub struct SourceTask {
    pub positions: Vec<Position>,
    pub ended: bool,
    pub stopped: bool,
    watermark: i64,
}

impl SourceTask {
    #[must_use]
    pub fn new(positions: Vec<Position>) -> Self {
        Self { positions, ended: false, stopped: false, watermark: i64::MIN }
    }

    #[must_use]
    pub fn watermark(&self) -> i64 {
        self.positions.iter().map(Position::watermark).min().unwrap_or(i64::MAX)
    }

    #[must_use]
    pub fn owns(&self, split: u32) -> bool {
        self.positions.iter().any(|p| p.split == split)
    }

    /// Reads a record, or finds that there is none any more. Elements for (count task, element).
    pub fn step(
        &mut self,
        random: &mut Random,
        keys: u32,
        max_parallelism: u32,
        owner: impl Fn(u16) -> usize,
        counts: usize,
    ) -> Vec<(usize, Element)> {
        if self.ended || self.stopped {
            return Vec::new();
        }
        let open = |p: &&mut Position| p.next < p.end;
        let choices = self.positions.iter_mut().filter(open).count();
        let to_all = |element| (0..counts).map(move |to| (to, element));
        let chosen = (random.next_u64() % choices.max(1) as u64) as usize;
        let Some(position) = self.positions.iter_mut().filter(open).nth(chosen) else {
            self.ended = true;
            return to_all(Element::Watermark(i64::MAX)).chain(to_all(Element::End)).collect();
        };
        let number = number(position.split, position.next);
        position.next += 1;
        let key = key_of(number, keys);
        let mut out = vec![(owner(group_of(key, max_parallelism)), Element::Record { number, key })];
        let watermark = self.watermark();
        if watermark > self.watermark && random.next_u64().is_multiple_of(3) {
            self.watermark = watermark;
            out.extend(to_all(Element::Watermark(watermark)));
        }
        out
    }
}

/// An input of a count task.
#[derive(Debug)]
pub struct Channel {
    pub queue: VecDeque<Element>,
    pub watermark: i64,
    pub ended: bool,
    /// The barrier that it has delivered and waits behind.
    pub barrier: Option<Epoch>,
}

/// A count as of a barrier.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    pub counts: BTreeMap<u32, u64>,
    pub watermark: i64,
    pub ended: bool,
}

/// A snapshot on its way to the store.
#[derive(Clone, Debug)]
pub struct Change {
    pub epoch: Epoch,
    pub counts: BTreeMap<u32, u64>,
    pub watermark: i64,
    pub processing_time_ms: i64,
    pub ended: bool,
    /// What the acknowledgement says of the state, once it is in the store.
    pub uploaded: Option<TableSnapshot>,
}

/// Counts the keys of its groups.
#[derive(Debug)]
pub struct CountTask {
    pub groups: Range<u16>,
    pub counts: BTreeMap<u32, u64>,
    /// Changed since the last sealed epoch, by the epoch in which it changed last.
    dirty: BTreeMap<u32, Epoch>,
    pub layers: BTreeMap<Epoch, Layer>,
    pub channels: Vec<Channel>,
    pub watermark: i64,
    /// The clock, as the last step read it; never less than it was.
    pub processing_time_ms: i64,
    rules: Rules,
    pub sink: Sink,
    /// The coordinator asked for it; needed when all inputs have ended.
    pub triggered: Option<Epoch>,
    /// Barriers up to here are of aborted epochs, or done.
    pub done_through: Option<Epoch>,
    /// The last epoch that came through here is neither sealed nor given up, as far as this task knows. The next barrier
    /// waits: it may come over another connection than the decision, and sooner.
    undecided: Option<Epoch>,
    pub ended: bool,
    /// The uploads that are under way or done, by epoch, until acknowledged.
    pub uploading: BTreeMap<Epoch, Change>,
}

impl CountTask {
    #[must_use]
    pub fn new(groups: Range<u16>, layer: Layer, ended_inputs: &[bool], sink: Sink, rules: Rules) -> Self {
        let channel = |ended: &bool| Channel {
            queue: VecDeque::new(),
            // After a restore a channel counts as minus infinity until its source has spoken.
            watermark: if *ended { i64::MAX } else { i64::MIN },
            ended: *ended,
            barrier: None,
        };
        Self {
            groups,
            counts: layer.counts,
            dirty: BTreeMap::new(),
            layers: BTreeMap::new(),
            channels: ended_inputs.iter().map(channel).collect(),
            watermark: layer.watermark,
            processing_time_ms: i64::MIN,
            rules,
            sink,
            triggered: None,
            done_through: None,
            undecided: None,
            ended: false,
            uploading: BTreeMap::new(),
        }
    }

    /// The wall clock is read, once per step.
    pub fn read_clock(&mut self, wall_ms: i64) {
        let kept = if self.rules.keep_processing_time { self.processing_time_ms } else { i64::MIN };
        self.processing_time_ms = kept.max(wall_ms);
    }

    /// Takes one element, if there is one, and says from which channel.
    pub fn step(&mut self, random: &mut Random, epoch_now: Epoch) -> Option<(usize, Element)> {
        let open = |(_, c): &(usize, &mut Channel)| c.barrier.is_none() && !c.queue.is_empty();
        let choices = self.channels.iter_mut().enumerate().filter(open).count();
        if choices == 0 || !self.sink.ready() {
            return None;
        }
        let chosen = (random.next_u64() % choices as u64) as usize;
        let (at, channel) = self.channels.iter_mut().enumerate().filter(open).nth(chosen)?;
        let element = channel.queue.pop_front()?;
        match element {
            Element::Record { number, key } => {
                let count = self.counts.entry(key).or_default();
                *count += 1;
                self.dirty.insert(key, epoch_now);
                self.sink.write(Output { number, key, count: *count });
            }
            Element::Watermark(watermark) => {
                channel.watermark = channel.watermark.max(watermark);
                self.raise_watermark();
            }
            Element::Barrier(epoch) if Some(epoch) <= self.done_through => {}
            Element::Barrier(epoch) => channel.barrier = Some(epoch),
            Element::End => {
                channel.ended = true;
                channel.watermark = i64::MAX;
                self.raise_watermark();
            }
        }
        self.ended = self.channels.iter().all(|c| c.ended);
        Some((at, element))
    }

    fn raise_watermark(&mut self) {
        let combined = self.channels.iter().map(|c| c.watermark).min().unwrap_or(i64::MAX);
        self.watermark = if self.rules.keep_watermark { self.watermark.max(combined) } else { combined };
    }

    /// The epoch whose barrier has come on every input, if there is one.
    #[must_use]
    pub fn aligned(&self) -> Option<Epoch> {
        if self.undecided.is_some() {
            return None;
        }
        let newest = self.channels.iter().filter_map(|c| c.barrier).chain(self.triggered).max()?;
        let through = self.channels.iter().all(|c| (c.ended && c.queue.is_empty()) || c.barrier == Some(newest));
        (through && Some(newest) > self.done_through).then_some(newest)
    }

    /// The barrier's moment: what changed is copied, processing goes on.
    pub fn snapshot(&mut self, epoch: Epoch) -> Change {
        for channel in &mut self.channels {
            channel.barrier = None;
        }
        self.done_through = Some(epoch);
        self.undecided = Some(epoch);
        self.triggered = None;
        let layer = Layer { counts: self.counts.clone(), watermark: self.watermark, ended: self.ended };
        self.layers.insert(epoch, layer);
        self.sink.prepare(epoch);
        let counts = self.dirty.keys().map(|key| (*key, self.counts[key])).collect();
        let change = Change {
            epoch,
            counts,
            watermark: self.watermark,
            processing_time_ms: self.processing_time_ms,
            ended: self.ended,
            uploaded: None,
        };
        self.uploading.insert(epoch, change.clone());
        change
    }

    /// False when it was known already.
    pub fn sealed(&mut self, epoch: Epoch) -> bool {
        if self.undecided.take_if(|undecided| *undecided == epoch).is_none() {
            return false;
        }
        self.layers.retain(|e, _| *e >= epoch);
        self.dirty.retain(|_, changed| *changed > epoch);
        self.uploading.retain(|e, _| *e > epoch);
        true
    }

    pub fn aborted(&mut self, epoch: Epoch, keep_dirty: bool) {
        self.done_through = self.done_through.max(Some(epoch));
        self.triggered = self.triggered.filter(|t| *t > epoch);
        for channel in &mut self.channels {
            channel.barrier = channel.barrier.filter(|b| *b > epoch);
        }
        if self.undecided.take_if(|undecided| *undecided == epoch).is_none() {
            // Its barrier never came through here.
            return;
        }
        self.sink.aborted(epoch);
        self.layers.remove(&epoch);
        self.uploading.remove(&epoch);
        if !keep_dirty {
            self.dirty.retain(|_, changed| *changed > epoch);
        }
    }

    /// The epoch in which a change now would fall.
    #[must_use]
    pub fn epoch_now(&self) -> Epoch {
        self.done_through.map_or(Epoch(0), Epoch::next)
    }
}

/// Splits by task: split s belongs to task s mod p.
#[must_use]
pub fn owned(positions: &[Position], index: u32, parallelism: u32) -> Vec<Position> {
    positions.iter().filter(|p| p.split % parallelism == index).cloned().collect()
}

/// Channels into count tasks that end before they begin: their source task had finished.
#[must_use]
pub fn ended_inputs(finished_sources: &BTreeSet<u32>, parallelism: u32) -> Vec<bool> {
    (0..parallelism).map(|index| finished_sources.contains(&index)).collect()
}

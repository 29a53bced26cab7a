//! The inbox of a task that reads channels: which element comes next.
//!
//! Watermarks are combined, barriers aligned: a channel that has delivered the barrier is not read until all others
//! have (Chandy-Lamport, aligned, as Flink's `CheckpointBarrierHandler`). Owns: the receiving ends and what was
//! heard on each. Does not own: what the chain does with the element.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use millstream_api::ids::Epoch;

use super::watermark::WatermarkMerge;
use crate::element::{Barrier, Element, WATERMARK_MAX, WatermarkMs};
use crate::exchange::Receiver;

/// The channels of a task.
#[derive(Debug)]
pub(crate) struct Inputs {
    channels: Vec<InputChannel>,
    watermarks: WatermarkMerge,
    alignment: Alignment,
    /// Barriers up to this epoch were given up: those still on the way are dropped.
    abandoned: Option<Epoch>,
    last_alignment: Duration,
    /// Where the next look begins, so that no channel starves another.
    next: usize,
    /// Control elements that one arrival caused, still to be handed out.
    ready: VecDeque<Element>,
}

#[derive(Debug)]
struct InputChannel {
    receiver: Receiver,
    /// Input number of the head transform.
    input: u32,
    /// Delivered the barrier that is being aligned.
    aligned: bool,
    ended: bool,
}

#[derive(Debug)]
enum Alignment {
    None,
    /// Some channels delivered this barrier.
    Aligning {
        barrier: Barrier,
        since: Instant,
    },
}

impl Inputs {
    /// `channels`: the receiving ends with the head's input number. `floor`: the restored watermark.
    ///
    /// No channels: every task before this one has ended in the restored manifest. Then the input is at its end, and
    /// barriers come by `trigger`.
    pub(crate) fn new(channels: Vec<(u32, Receiver)>, floor: WatermarkMs) -> Self {
        let watermarks = WatermarkMerge::new(channels.len(), floor);
        let ready = if channels.is_empty() {
            VecDeque::from([Element::Watermark(WATERMARK_MAX), Element::EndOfInput])
        } else {
            VecDeque::new()
        };
        let channels = channels
            .into_iter()
            .map(|(input, receiver)| InputChannel { receiver, input, aligned: false, ended: false })
            .collect();
        Self {
            channels,
            watermarks,
            alignment: Alignment::None,
            abandoned: None,
            last_alignment: Duration::ZERO,
            next: 0,
            ready,
        }
    }

    /// A barrier from the coordinator: with channels it comes over those.
    pub(crate) fn trigger(&mut self, barrier: Barrier) {
        if self.channels.is_empty() {
            self.ready.push_back(Element::Barrier(barrier));
        }
    }

    /// The next element and the head's input that it belongs to; `None`: nothing has arrived.
    pub(crate) fn next(&mut self) -> Option<(u32, Element)> {
        loop {
            if let Some(element) = self.ready.pop_front() {
                return Some((0, element));
            }
            let (at, element) = self.pop_any()?;
            match element {
                Element::Batch(batch) => return Some((self.channels[at].input, Element::Batch(batch))),
                Element::Watermark(watermark) => {
                    self.watermarks.advance(at, watermark);
                    self.combine();
                }
                Element::Idle(idle) => {
                    self.watermarks.set_idle(at, idle);
                    self.combine();
                }
                Element::Barrier(barrier) => self.barrier(at, barrier),
                Element::EndOfInput => self.ended(at),
            }
        }
    }

    /// How long the last complete alignment took.
    pub(crate) fn last_alignment(&self) -> Duration {
        self.last_alignment
    }

    /// The epoch was given up: channels that wait for its other barriers go on, late barriers of it are dropped.
    pub(crate) fn abandon(&mut self, epoch: Epoch) {
        self.abandoned = self.abandoned.max(Some(epoch));
        self.ready.retain(|e| !matches!(e, Element::Barrier(barrier) if barrier.epoch <= epoch));
        if let Alignment::Aligning { barrier, .. } = self.alignment
            && barrier.epoch <= epoch
        {
            self.unblock();
        }
    }

    fn pop_any(&mut self) -> Option<(usize, Element)> {
        let count = self.channels.len();
        for offset in 0..count {
            let at = (self.next + offset) % count;
            let channel = &mut self.channels[at];
            if channel.aligned {
                continue;
            }
            if let Some(element) = channel.receiver.pop() {
                self.next = (at + 1) % count;
                return Some((at, element));
            }
        }
        None
    }

    fn combine(&mut self) {
        let ready = &mut self.ready;
        self.watermarks.combine(|e| ready.push_back(e));
    }

    fn ended(&mut self, at: usize) {
        self.channels[at].ended = true;
        if self.channels.iter().all(|c| c.ended) {
            self.ready.push_back(Element::EndOfInput);
        }
    }

    fn barrier(&mut self, at: usize, barrier: Barrier) {
        if self.abandoned.is_some_and(|a| barrier.epoch <= a) {
            return;
        }
        let since = match self.alignment {
            // Aligning => Aligning the newer one: the older was given up, only nobody has told this task yet.
            Alignment::Aligning { barrier: current, .. } if current.epoch < barrier.epoch => {
                self.abandoned = Some(current.epoch);
                self.unblock();
                Instant::now()
            }
            Alignment::Aligning { barrier: current, .. } if current.epoch > barrier.epoch => return,
            Alignment::Aligning { since, .. } => since,
            // None => Aligning: the first barrier of its epoch.
            Alignment::None => Instant::now(),
        };
        self.channels[at].aligned = true;
        self.alignment = Alignment::Aligning { barrier, since };
        if self.channels.iter().all(|c| c.aligned) {
            // Aligning => None: the last channel delivered.
            self.last_alignment = since.elapsed();
            self.unblock();
            self.ready.push_back(Element::Barrier(barrier));
        }
    }

    fn unblock(&mut self) {
        self.alignment = Alignment::None;
        self.channels.iter_mut().for_each(|c| c.aligned = false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::{Mutation, WATERMARK_MIN};
    use crate::exchange::{Sender, channel};
    use crate::slot::Wake;

    fn inputs(count: u32) -> (Vec<Sender>, Inputs) {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| channel(Wake::default(), Wake::default())).unzip();
        (senders, Inputs::new((0..).zip(receivers).collect(), WATERMARK_MIN))
    }

    fn barrier(epoch: u64) -> Element {
        Element::Barrier(Barrier { epoch: Epoch(epoch), mutation: Mutation::None })
    }

    fn all(inputs: &mut Inputs) -> Vec<String> {
        std::iter::from_fn(|| inputs.next())
            .map(|(_, e)| match e {
                Element::Barrier(b) => format!("barrier {}", b.epoch),
                Element::Watermark(w) => format!("watermark {w}"),
                other => format!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_channel_is_not_read_past_its_barrier_until_all_have_delivered() {
        let (mut tx, mut inputs) = inputs(2);
        tx[0].push(Element::Watermark(5)).unwrap();
        tx[1].push(Element::Watermark(5)).unwrap();
        tx[0].push(barrier(1)).unwrap();
        tx[0].push(Element::Watermark(9)).unwrap();
        assert_eq!(all(&mut inputs), ["watermark 5"]);
        tx[1].push(Element::Watermark(8)).unwrap();
        assert_eq!(all(&mut inputs), Vec::<String>::new());
        tx[1].push(barrier(1)).unwrap();
        assert_eq!(all(&mut inputs), ["barrier 1", "watermark 8"]);
    }

    #[test]
    fn an_abandoned_epoch_unblocks_and_its_late_barriers_are_dropped() {
        let (mut tx, mut inputs) = inputs(2);
        tx[0].push(barrier(1)).unwrap();
        assert!(all(&mut inputs).is_empty());
        inputs.abandon(Epoch(1));
        tx[1].push(barrier(1)).unwrap();
        tx[0].push(barrier(2)).unwrap();
        tx[1].push(barrier(2)).unwrap();
        assert_eq!(all(&mut inputs), ["barrier 2"]);
    }

    #[test]
    fn a_newer_barrier_overtakes_the_news_that_the_older_was_given_up() {
        let (mut tx, mut inputs) = inputs(2);
        tx[0].push(barrier(1)).unwrap();
        tx[0].push(barrier(2)).unwrap();
        assert!(all(&mut inputs).is_empty());
        tx[1].push(barrier(2)).unwrap();
        assert_eq!(all(&mut inputs), ["barrier 2"]);
        inputs.abandon(Epoch(1));
        tx[0].push(barrier(3)).unwrap();
        tx[1].push(barrier(3)).unwrap();
        assert_eq!(all(&mut inputs), ["barrier 3"]);
    }

    #[test]
    fn without_channels_the_input_is_at_its_end_and_barriers_are_triggered() {
        let mut inputs = Inputs::new(Vec::new(), WATERMARK_MIN);
        inputs.trigger(Barrier { epoch: Epoch(3), mutation: Mutation::None });
        assert_eq!(all(&mut inputs), [&format!("watermark {WATERMARK_MAX}"), "EndOfInput", "barrier 3"]);
    }

    #[test]
    fn ended_channels_still_bring_barriers_and_the_end_comes_once() {
        let (mut tx, mut inputs) = inputs(2);
        for sender in &mut tx {
            sender.push(Element::Watermark(WATERMARK_MAX)).unwrap();
            sender.push(Element::EndOfInput).unwrap();
        }
        assert_eq!(all(&mut inputs), [format!("watermark {WATERMARK_MAX}"), "EndOfInput".to_owned()]);
        tx.iter_mut().for_each(|s| s.push(barrier(4)).unwrap());
        assert_eq!(all(&mut inputs), ["barrier 4"]);
    }
}

//! One edge as its sending task sees it: the channels to the tasks of the target, and how rows are spread over them.
//!
//! Pieces of a scattered batch are gathered per destination until they are worth a push, or until the task has
//! nothing more to do (`flush`). A watermark waits with them: told later it only makes fewer rows late. Every other
//! control element flushes first, so that it keeps its place.

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;

use super::ExchangeError;
use super::channel::Sender;
use super::scatter::Scatter;
use crate::element::{Element, WatermarkMs};

/// Gathered rows are pushed when there are so many: the fixed costs of a batch are small against them.
const GATHER_ROWS_MAX: usize = 2048;
/// Gathered pieces are pushed after so many pieces or watermarks, so that a busy task does not keep a rare key's rows.
const GATHER_PIECES_MAX: usize = 16;

/// How the rows of an edge are spread.
#[derive(Debug)]
pub enum Routing {
    /// One destination: a forward edge, or a target of parallelism 1.
    Single,
    /// By the key group of these columns.
    Hash { keys: Vec<usize>, max_parallelism: u32 },
    /// A batch to each destination in turn, beginning with this one.
    Rebalance { next: usize },
    /// Every batch to every destination.
    Broadcast,
}

/// The sending side of an edge, in one task.
#[derive(Debug)]
pub struct Output {
    senders: Vec<Sender>,
    spread: Spread,
}

#[derive(Debug)]
enum Spread {
    Single,
    Hash { scatter: Box<Scatter>, gathered: Vec<Gathered> },
    Rebalance { next: usize },
    Broadcast,
}

/// What waits for one destination.
#[derive(Debug, Default)]
struct Gathered {
    pieces: Vec<RecordBatch>,
    rows: usize,
    watermark: Option<WatermarkMs>,
    /// Pieces and watermarks taken since the last push.
    taken: usize,
}

impl Output {
    /// `senders`: to the tasks of the target, by index; for a forward edge the one.
    #[must_use]
    pub fn new(senders: Vec<Sender>, routing: Routing) -> Self {
        let count = u32::try_from(senders.len()).expect("parallelism is at most 32768");
        let spread = match routing {
            Routing::Hash { keys, max_parallelism } if count > 1 => Spread::Hash {
                scatter: Box::new(Scatter::new(keys, count, max_parallelism)),
                gathered: senders.iter().map(|_| Gathered::default()).collect(),
            },
            Routing::Rebalance { next } if count > 1 => Spread::Rebalance { next: next % senders.len() },
            Routing::Broadcast if count > 1 => Spread::Broadcast,
            _ => Spread::Single,
        };
        Self { senders, spread }
    }

    /// True when every destination has room for rows.
    #[must_use]
    pub fn has_room(&self) -> bool {
        match self.spread {
            // The others may be full: a slow one holds up its own share only, until its turn comes.
            Spread::Rebalance { next } => self.senders[next].has_room(),
            _ => self.senders.iter().all(Sender::has_room),
        }
    }

    /// Sends rows.
    pub fn push(&mut self, batch: RecordBatch) -> Result<(), ExchangeError> {
        match &mut self.spread {
            Spread::Single => self.senders[0].push(batch.into())?,
            Spread::Rebalance { next } => {
                self.senders[*next].push(batch.into())?;
                *next = (*next + 1) % self.senders.len();
            }
            Spread::Broadcast => self.senders.iter_mut().try_for_each(|s| s.push(batch.clone().into()))?,
            Spread::Hash { scatter, gathered } => {
                let senders = &mut self.senders;
                scatter.split(batch, |to, piece| gathered[to].take(piece, &mut senders[to]))?;
            }
        }
        Ok(())
    }

    /// Sends a control element to every destination, after all rows before it.
    pub fn control(&mut self, element: &Element) -> Result<(), ExchangeError> {
        if let (Element::Watermark(watermark), Spread::Hash { gathered, .. }) = (element, &mut self.spread) {
            for (gathered, sender) in gathered.iter_mut().zip(&mut self.senders) {
                gathered.take_watermark(*watermark, sender)?;
            }
            return Ok(());
        }
        self.flush()?;
        self.senders.iter_mut().try_for_each(|s| s.push(element.clone()))
    }

    /// Sends what waits to be gathered with more.
    pub fn flush(&mut self) -> Result<(), ExchangeError> {
        if let Spread::Hash { gathered, .. } = &mut self.spread {
            for (gathered, sender) in gathered.iter_mut().zip(&mut self.senders) {
                gathered.push(sender)?;
            }
        }
        Ok(())
    }
}

impl Gathered {
    fn take(&mut self, piece: RecordBatch, sender: &mut Sender) -> Result<(), ExchangeError> {
        self.rows += piece.num_rows();
        self.pieces.push(piece);
        self.taken += 1;
        self.push_if_worth_it(sender)
    }

    fn take_watermark(&mut self, watermark: WatermarkMs, sender: &mut Sender) -> Result<(), ExchangeError> {
        self.watermark = Some(watermark);
        self.taken += 1;
        self.push_if_worth_it(sender)
    }

    fn push_if_worth_it(&mut self, sender: &mut Sender) -> Result<(), ExchangeError> {
        if self.rows >= GATHER_ROWS_MAX || self.taken >= GATHER_PIECES_MAX { self.push(sender) } else { Ok(()) }
    }

    fn push(&mut self, sender: &mut Sender) -> Result<(), ExchangeError> {
        match &self.pieces[..] {
            [] => {}
            [only] => sender.push(only.clone().into())?,
            [first, ..] => sender.push(concat_batches(&first.schema(), &self.pieces)?.into())?,
        }
        self.pieces.clear();
        if let Some(watermark) = self.watermark.take() {
            sender.push(Element::Watermark(watermark))?;
        }
        (self.rows, self.taken) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::super::channel::{Receiver, channel};
    use super::*;
    use crate::element::Barrier;
    use crate::slot::Wake;

    fn numbers(values: std::ops::Range<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    fn output(destinations: usize, routing: Routing) -> (Output, Vec<Receiver>) {
        let (senders, receivers) =
            (0..destinations).map(|_| channel(Wake::default(), Wake::default())).unzip::<_, _, Vec<_>, Vec<_>>();
        (Output::new(senders, routing), receivers)
    }

    fn drain(receiver: &mut Receiver) -> Vec<Element> {
        std::iter::from_fn(|| receiver.pop()).collect()
    }

    fn row_count(elements: &[Element]) -> usize {
        elements.iter().map(|e| if let Element::Batch(b) = e { b.num_rows() } else { 0 }).sum()
    }

    #[test]
    fn small_pieces_wait_for_more_and_a_barrier_flushes_them_before_itself() {
        let (mut output, mut receivers) = output(2, Routing::Hash { keys: vec![0], max_parallelism: 720 });
        output.push(numbers(0..100)).expect("plain numbers");
        output.control(&Element::Watermark(5)).expect("plain numbers");
        output.push(numbers(100..200)).expect("plain numbers");
        assert!(receivers.iter_mut().all(|r| r.pop().is_none()));
        output.control(&Element::Barrier(Barrier::default())).expect("plain numbers");
        let seen: Vec<Vec<Element>> = receivers.iter_mut().map(drain).collect();
        assert_eq!(seen.iter().map(|s| row_count(s)).sum::<usize>(), 200);
        for seen in &seen {
            assert!(matches!(seen[..], [Element::Batch(_), Element::Watermark(5), Element::Barrier(_)]));
        }
    }

    #[test]
    fn many_rows_or_many_pieces_are_not_held_back() {
        let (mut output, mut receivers) = output(2, Routing::Hash { keys: vec![0], max_parallelism: 720 });
        output.push(numbers(0..10_000)).expect("plain numbers");
        assert_eq!(receivers.iter_mut().map(|r| row_count(&drain(r))).sum::<usize>(), 10_000);
        for watermark in 0..16 {
            output.control(&Element::Watermark(watermark)).expect("no rows");
        }
        assert!(receivers.iter_mut().all(|r| r.pop().is_some()));
    }

    #[test]
    fn rebalance_takes_turns_and_broadcast_reaches_all() {
        let (mut turns, mut receivers) = output(3, Routing::Rebalance { next: 2 });
        for _ in 0..3 {
            turns.push(numbers(0..10)).expect("plain numbers");
        }
        assert!(receivers.iter_mut().all(|r| row_count(&drain(r)) == 10));
        let (mut all, mut receivers) = output(3, Routing::Broadcast);
        all.push(numbers(0..10)).expect("plain numbers");
        assert!(receivers.iter_mut().all(|r| row_count(&drain(r)) == 10));
    }
}

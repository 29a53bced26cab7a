//! What is to come, in order of time; of two things at one time, the one that was arranged first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millstream_coordinator::job::Millis;

/// Items by time. They lie still while the heap orders their keys: an item is large, and there are hundreds of thousands.
#[derive(Debug)]
pub(super) struct Queue<T> {
    heap: BinaryHeap<Reverse<(Millis, u64, usize)>>,
    arranged: u64,
    items: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), arranged: 0, items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&mut self, at: Millis, item: T) {
        self.arranged += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.items[place] = Some(item);
                place
            }
            None => {
                self.items.push(Some(item));
                self.items.len() - 1
            }
        };
        self.heap.push(Reverse((at, self.arranged, place)));
    }

    pub(super) fn pop(&mut self) -> Option<(Millis, T)> {
        let Reverse((at, _, place)) = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.items[place].take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn earlier_comes_first_and_of_one_time_what_was_arranged_first() {
        let mut queue = Queue::default();
        for (at, item) in [(5, "c"), (1, "a"), (5, "d"), (3, "b")] {
            queue.push(at, item);
        }
        assert_eq!(queue.pop(), Some((1, "a")));
        queue.push(5, "e");
        let rest: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(rest, [(3, "b"), (5, "c"), (5, "d"), (5, "e")]);
    }
}

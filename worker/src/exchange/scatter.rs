//! Spreads the rows of a batch over destinations by key group: a counting scatter, no sort.

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::take::take;
use millstream_api::ids::owner_of;

use super::ExchangeError;
use crate::keys;

/// Routes rows to the task that owns their key's group. Buffers are kept from batch to batch.
#[derive(Debug)]
pub(super) struct Scatter {
    keys: Vec<usize>,
    max_parallelism: u32,
    /// Destination of each key group.
    owners: Vec<u32>,
    columns: Vec<ArrayRef>,
    hashes: Vec<u64>,
    groups: Vec<u16>,
    destinations: Vec<u32>,
    counts: Vec<usize>,
    next: Vec<usize>,
}

impl Scatter {
    pub(super) fn new(keys: Vec<usize>, destinations: u32, max_parallelism: u32) -> Self {
        let groups = 0..u16::try_from(max_parallelism).expect("maxParallelism is at most 32768");
        Self {
            keys,
            max_parallelism,
            owners: groups.map(|g| owner_of(g, destinations, max_parallelism)).collect(),
            columns: Vec::new(),
            hashes: Vec::new(),
            groups: Vec::new(),
            destinations: Vec::new(),
            counts: vec![0; destinations as usize],
            next: vec![0; destinations as usize],
        }
    }

    /// Hands each destination's rows, in their order, to `deliver`. A batch with one destination passes uncopied.
    pub(super) fn split(
        &mut self,
        batch: RecordBatch,
        mut deliver: impl FnMut(usize, RecordBatch) -> Result<(), ExchangeError>,
    ) -> Result<(), ExchangeError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        self.route(&batch);
        if let Some(only) = self.counts.iter().position(|c| *c == batch.num_rows()) {
            return deliver(only, batch);
        }
        let indices = self.indices();
        let mut start = 0;
        for (destination, count) in self.counts.iter().copied().enumerate().filter(|(_, count)| *count > 0) {
            deliver(destination, take_rows(&batch, &indices.slice(start, count))?)?;
            start += count;
        }
        Ok(())
    }

    /// Fills `destinations` by row and `counts` by destination.
    fn route(&mut self, batch: &RecordBatch) {
        self.columns.clear();
        self.columns.extend(self.keys.iter().map(|k| batch.column(*k).clone()));
        keys::hash_columns(&self.columns, batch.num_rows(), &mut self.hashes);
        keys::key_groups(&self.hashes, self.max_parallelism, &mut self.groups);
        self.columns.clear();
        self.destinations.clear();
        self.destinations.extend(self.groups.iter().map(|g| self.owners[*g as usize]));
        self.counts.fill(0);
        for destination in &self.destinations {
            self.counts[*destination as usize] += 1;
        }
    }

    /// Row numbers, those of destination 0 first, each destination's in order.
    fn indices(&mut self) -> UInt32Array {
        let mut start = 0;
        for (next, count) in self.next.iter_mut().zip(&self.counts) {
            *next = start;
            start += count;
        }
        let mut indices = vec![0u32; self.destinations.len()];
        for (row, destination) in (0u32..).zip(&self.destinations) {
            let next = &mut self.next[*destination as usize];
            indices[*next] = row;
            *next += 1;
        }
        UInt32Array::from(indices)
    }
}

fn take_rows(batch: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().map(|c| take(c.as_ref(), indices, None)).collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(indices.values().len()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;

    use super::*;

    fn numbers(values: Vec<i64>) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from(values));
        RecordBatch::try_from_iter([("n", column)]).expect("one column")
    }

    #[test]
    fn every_row_reaches_the_owner_of_its_group_once_and_in_order() {
        for parallelism in [1, 2, 3, 7] {
            let mut scatter = Scatter::new(vec![0], parallelism, 720);
            let mut seen: Vec<Vec<i64>> = vec![Vec::new(); parallelism as usize];
            let values: Vec<i64> = (0..1_000).map(|n| n % 37 * 1_000 + n / 37).collect();
            scatter
                .split(numbers(values.clone()), |to, batch| {
                    seen[to].extend(batch.column(0).as_primitive::<Int64Type>().values());
                    Ok(())
                })
                .expect("plain numbers");
            for (to, seen) in seen.iter().enumerate() {
                let expected: Vec<i64> = values.iter().copied().filter(|v| owner(*v, parallelism) == to).collect();
                assert_eq!(seen, &expected);
            }
        }
    }

    fn owner(value: i64, parallelism: u32) -> usize {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![value]));
        let (mut hashes, mut groups) = (Vec::new(), Vec::new());
        keys::hash_columns(&[column], 1, &mut hashes);
        keys::key_groups(&hashes, 720, &mut groups);
        owner_of(groups[0], parallelism, 720) as usize
    }

    #[test]
    fn no_key_columns_are_one_key() {
        let mut scatter = Scatter::new(Vec::new(), 4, 720);
        let mut deliveries = 0;
        scatter
            .split(numbers(vec![1, 2, 3]), |_, batch| {
                deliveries += batch.num_rows();
                Ok(())
            })
            .expect("plain numbers");
        assert_eq!(deliveries, 3);
    }
}

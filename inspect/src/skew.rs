//! Where the state of a table is heavier than elsewhere, and why.
//!
//! Owns: heavy keys, shares of tasks, the verdict. Does not own: traffic. State does not tell how often a key is written: a
//! key whose row is updated a thousand times a second weighs what any other does (`millstream status` shows busy tasks).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::UInt16Type;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use millstream_api::ids::key_group_range;
use millstream_worker::keys::KeyEncoder;

use crate::columns::without_zone;
use crate::survey::sum;
use crate::{GroupSize, InspectError, Stored, StoredTable};

/// A task that has so much more than its share is worth a word. Keys that are spread by a hash differ by some percent.
const UNEVEN_RATIO: f64 = 1.25;
/// A key group with so many times the bytes of the average one is a cause of its own.
const GROUP_STANDS_OUT: f64 = 2.0;
/// With fewer keys per task than this, chance alone makes shares uneven.
const KEYS_PER_TASK_MIN: u64 = 20;

/// Of a long key so much is shown.
const KEY_CHARS_MAX: usize = 100;

/// A key that weighs more than others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeavyKey {
    pub group: u16,
    /// Its columns with their names.
    pub key: String,
    pub size: GroupSize,
}

/// Where a table is heavy.
#[derive(Clone, Debug)]
pub struct TableSkew {
    pub table: StoredTable,
    pub total: GroupSize,
    pub keys: u64,
    pub groups: Vec<GroupSize>,
    /// The heaviest first.
    pub heavy: Vec<HeavyKey>,
}

/// Reads a table and finds its `top` heaviest keys.
///
/// # Errors
/// When it cannot be read or is damaged.
pub async fn skew(stored: &Stored, table: StoredTable, top: usize) -> Result<TableSkew, InspectError> {
    let encoder = KeyEncoder::new(&table.spec.key.fields).map_err(|e| InspectError::Asked(e.to_string()))?;
    let max_parallelism = stored.manifest.max_parallelism;
    let groups = vec![GroupSize::default(); max_parallelism as usize];
    let heaviest = BinaryHeap::new();
    let mut weighing = Weighing { table: &table, encoder, max_parallelism, top, keys: 0, groups, heaviest };
    let read =
        stored.segments.entries(&table.manifest, &table.spec, stored.now_ms(), |batch| weighing.add(&batch)).await;
    if let Err(error) = read {
        return Err(stored.explain(error).await);
    }
    let Weighing { groups, keys, heaviest, .. } = weighing;
    // Sorted by `Reverse`: the heaviest come first.
    let heavy = heaviest.into_sorted_vec().into_iter().map(|Reverse(ranked)| ranked.key).collect();
    Ok(TableSkew { total: sum(&groups), keys, groups, heavy, table })
}

/// A table on the scales.
struct Weighing<'a> {
    table: &'a StoredTable,
    encoder: KeyEncoder,
    max_parallelism: u32,
    top: usize,
    keys: u64,
    groups: Vec<GroupSize>,
    /// The lightest of the heaviest is on top.
    heaviest: BinaryHeap<Reverse<Ranked>>,
}

/// Ordered by weight.
#[derive(Debug, PartialEq, Eq)]
struct Ranked {
    weight: (u64, u64),
    key: HeavyKey,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // Of equals the one that a reader would expect first counts as heavier.
        self.weight.cmp(&other.weight).then_with(|| other.key.key.cmp(&self.key.key))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Weighing<'_> {
    /// A batch holds whole key groups, one after the other.
    fn add(&mut self, batch: &RecordBatch) -> Result<(), InspectError> {
        let failed = |e: String| InspectError::Asked(format!("failed to read keys of table {}: {e}", self.table.alias));
        let columns = self.table.keys(batch);
        let encoded = self.encoder.encode(columns, batch.num_rows(), self.max_parallelism);
        let encoded = encoded.map_err(|e| failed(e.to_string()))?;
        let bytes = self.table.row_bytes(batch);
        let groups = batch.column(0).as_primitive::<UInt16Type>().values().clone();
        let mut first = 0;
        for same in groups.chunk_by(|a, b| a == b) {
            let rows = first..first + same.len();
            let mut keys: HashMap<&[u8], (usize, GroupSize)> = HashMap::new();
            let mut total = GroupSize::default();
            for row in rows.clone() {
                let (_, size) = keys.entry(encoded.key(row)).or_insert((row, GroupSize::default()));
                for size in [size, &mut total] {
                    size.rows += 1;
                    size.bytes += bytes[row];
                }
            }
            self.note_group(same[0], total, keys.len())?;
            // In the order of the rows: of keys that weigh the same, the same are shown each time.
            let mut keys: Vec<(usize, GroupSize)> = keys.into_values().collect();
            keys.sort_unstable_by_key(|(row, _)| *row);
            for (row, size) in keys {
                self.rank(batch, row, same[0], size)?;
            }
            first = rows.end;
        }
        Ok(())
    }

    fn note_group(&mut self, group: u16, total: GroupSize, keys: usize) -> Result<(), InspectError> {
        let max = self.groups.len();
        let size = self.groups.get_mut(usize::from(group)).ok_or_else(|| {
            InspectError::Asked(format!("there is a row in key group {group} of {max}: run `checkpoints verify`"))
        })?;
        *size = sum(&[*size, total]);
        self.keys += keys as u64;
        Ok(())
    }

    /// Takes a key up if it is one of the heaviest so far.
    fn rank(&mut self, batch: &RecordBatch, row: usize, group: u16, size: GroupSize) -> Result<(), InspectError> {
        let weight = (size.bytes, size.rows);
        let full = self.heaviest.len() >= self.top;
        if full && self.heaviest.peek().is_none_or(|Reverse(lightest)| lightest.weight >= weight) {
            return Ok(());
        }
        let key = key_text(self.table, batch, row)?;
        self.heaviest.push(Reverse(Ranked { weight, key: HeavyKey { group, key, size } }));
        if self.heaviest.len() > self.top {
            self.heaviest.pop();
        }
        Ok(())
    }
}

/// `user=7, region=eu`.
fn key_text(table: &StoredTable, batch: &RecordBatch, row: usize) -> Result<String, InspectError> {
    let options = FormatOptions::default().with_null("NULL");
    let mut columns = Vec::new();
    for (field, column) in table.spec.key.fields.iter().zip(table.keys(batch)) {
        let failed = |e: String| InspectError::Asked(format!("failed to print column {}: {e}", field.name));
        let column = without_zone(column);
        let formatter = ArrayFormatter::try_new(&column, &options).map_err(|e| failed(e.to_string()))?;
        let value = formatter.value(row).try_to_string().map_err(|e| failed(e.to_string()))?;
        columns.push(format!("{}={value}", field.name));
    }
    let key = if columns.is_empty() { "(no key)".to_owned() } else { columns.join(", ") };
    Ok(match key.char_indices().nth(KEY_CHARS_MAX) {
        None => key,
        Some((at, _)) => format!("{}…", &key[..at]),
    })
}

/// What each task would have at this parallelism.
#[must_use]
pub fn task_shares(groups: &[GroupSize], parallelism: u32) -> Vec<GroupSize> {
    let max_parallelism = u32::try_from(groups.len()).expect("at most 32768 key groups");
    let range = |index| key_group_range(index, parallelism, max_parallelism);
    (0..parallelism).map(|index| sum(&groups[usize::from(range(index).start)..usize::from(range(index).end)])).collect()
}

/// Whether state is even, and if not, why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub cause: Cause,
    /// The task that has most.
    pub task: u32,
    /// Its share of all bytes, 0 to 1.
    pub share: f64,
    pub parallelism: u32,
}

/// Why a task has more than others.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    Empty,
    Even,
    /// One key outweighs the rest.
    Key {
        key: String,
        share: f64,
    },
    /// Several keys fell into one key group.
    Group {
        group: u16,
        share: f64,
    },
    /// Tasks have different numbers of key groups.
    Ranges {
        most: usize,
        least: usize,
    },
    FewKeys {
        keys: u64,
    },
    Chance,
}

/// Judges a table at a parallelism.
#[must_use]
pub fn verdict(skew: &TableSkew, parallelism: u32) -> Verdict {
    let shares = task_shares(&skew.groups, parallelism);
    let (task, largest) = (0..).zip(&shares).max_by_key(|(task, size)| (size.bytes, Reverse(*task))).expect("a task");
    let total = skew.total.bytes as f64;
    let share_of = |bytes: u64| if total > 0.0 { bytes as f64 / total } else { 0.0 };
    let fair = total / f64::from(parallelism);
    let allowed = fair * UNEVEN_RATIO;
    let without = |bytes: u64| (largest.bytes - bytes.min(largest.bytes)) as f64 <= allowed;
    let max_parallelism = u32::try_from(skew.groups.len()).expect("at most 32768 key groups");
    let range = |index| key_group_range(index, parallelism, max_parallelism);
    let mine = range(task);
    let few = skew.keys < KEYS_PER_TASK_MIN * u64::from(parallelism);
    // More than a fair share in one key cannot be made even; less of it explains much only where there are many keys.
    let explains = |bytes: u64| bytes as f64 > fair || (!few && without(bytes));
    let key = skew.heavy.first().filter(|key| mine.contains(&key.group) && explains(key.size.bytes));
    let group = mine.clone().max_by_key(|group| skew.groups[usize::from(*group)].bytes);
    let group = group.map(|group| (group, skew.groups[usize::from(group)].bytes)).filter(|(_, bytes)| {
        // Where groups are alike, it is their number that matters.
        let stands_out = *bytes as f64 > GROUP_STANDS_OUT * total / f64::from(max_parallelism);
        stands_out && (*bytes as f64 > fair || without(*bytes))
    });
    let most = (0..parallelism).map(|index| range(index).len()).max().unwrap_or_default();
    let least = (0..parallelism).map(|index| range(index).len()).min().unwrap_or_default();
    let cause = if skew.total.rows == 0 {
        Cause::Empty
    } else if largest.bytes as f64 <= allowed {
        Cause::Even
    } else if let Some(heavy) = key {
        Cause::Key { key: heavy.key.clone(), share: share_of(heavy.size.bytes) }
    } else if few {
        Cause::FewKeys { keys: skew.keys }
    } else if let Some((group, bytes)) = group {
        Cause::Group { group, share: share_of(bytes) }
    } else if most as f64 > UNEVEN_RATIO * f64::from(max_parallelism) / f64::from(parallelism) {
        Cause::Ranges { most, least }
    } else {
        Cause::Chance
    };
    Verdict { cause, task, share: share_of(largest.bytes), parallelism }
}

impl Verdict {
    #[must_use]
    pub fn is_skewed(&self) -> bool {
        !matches!(self.cause, Cause::Empty | Cause::Even)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, task, share, parallelism } = self;
        if *cause == Cause::Empty {
            return f.write_str("empty");
        }
        let percent = |share: &f64| format!("{:.0} %", share * 100.0);
        let fair = percent(&(1.0 / f64::from(*parallelism)));
        let what = if *cause == Cause::Even { "even" } else { "skewed" };
        write!(
            f,
            "{what}: task {task} of {parallelism} has {} of the bytes, {fair} is its fair share",
            percent(share)
        )?;
        match cause {
            Cause::Empty | Cause::Even => Ok(()),
            Cause::Key { key, share } => write!(
                f,
                "; the key {key} alone has {}: no parallelism divides a key, only another key in the SQL does",
                percent(share)
            ),
            Cause::Group { group, share } => write!(
                f,
                "; key group {group} alone has {}: several keys fell into it, and only another maxParallelism (with new state) \
                 parts them",
                percent(share)
            ),
            Cause::Ranges { most, least } => {
                write!(f, "; tasks own {least} to {most} key groups: a parallelism that divides maxParallelism is even")
            }
            Cause::FewKeys { keys } => write!(f, "; there are {keys} keys only: a lower parallelism would do"),
            Cause::Chance => f.write_str("; heavy keys fell together by chance: another parallelism may part them"),
        }
    }
}

#[cfg(test)]
mod tests;

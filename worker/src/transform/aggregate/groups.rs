//! Key columns -> dense group numbers, in order of first appearance.
//!
//! Three tables stand behind [`GroupTable`], chosen once per transform by the key's type: one integer-like column
//! (open addressing over 16-byte slots, the fast path), bytes (one string or binary column, or several columns as
//! arrow-row), and no key at all. Owns: the mapping. Does not own: what is accumulated per group.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BinaryArray, StringArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, DataType};
use hashbrown::HashTable;
use millstream_api::graph::Field;

use super::columns::{integer_array, with_integers};

/// A group number that no group has.
const EMPTY: u32 = u32::MAX;
/// Slots of a new integer table: 4 KiB, so that a slice with few keys stays small.
const INT_SLOTS_MIN: usize = 256;

/// The groups of an aggregation.
#[derive(Debug)]
pub enum GroupTable {
    Int(IntGroups),
    Bytes(BytesGroups),
    Rows(RowGroups),
    /// No key columns: every row is of one group.
    One {
        used: bool,
    },
}

impl GroupTable {
    /// A table for keys of these columns.
    pub fn new(keys: &[Field]) -> Result<Self, ArrowError> {
        let types: Vec<DataType> = keys.iter().map(|k| k.ty.arrow()).collect();
        Ok(match types.as_slice() {
            [] => Self::One { used: false },
            [ty] if is_integer_like(ty) => Self::Int(IntGroups::new(ty.clone())),
            [ty @ (DataType::Utf8 | DataType::Binary)] => {
                Self::Bytes(BytesGroups { utf8: *ty == DataType::Utf8, ..BytesGroups::default() })
            }
            _ => Self::Rows(RowGroups::new(types)?),
        })
    }

    /// Writes the group of each of the `rows` rows into `groups`, in place of what it held; new keys get new groups.
    pub fn assign(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), ArrowError> {
        groups.clear();
        match self {
            Self::Int(table) => table.assign(&keys[0], groups),
            Self::Bytes(table) => table.assign_column(&keys[0], groups),
            Self::Rows(table) => table.assign(keys, groups)?,
            Self::One { used } => {
                *used |= rows > 0;
                groups.resize(rows, 0);
            }
        }
        Ok(())
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Int(table) => table.keys.len(),
            Self::Bytes(table) => table.len(),
            Self::Rows(table) => table.bytes.len(),
            Self::One { used } => usize::from(*used),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory of the keys, about; capacity that is kept for reuse does not count.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const SLOTS_PER_GROUP: usize = 3 * size_of::<Slot>();
        match self {
            Self::Int(table) => table.keys.len() * (size_of::<i64>() + SLOTS_PER_GROUP),
            Self::Bytes(table) => table.bytes(),
            Self::Rows(table) => table.bytes.bytes(),
            Self::One { .. } => 0,
        }
    }

    /// The key columns of all groups, by group number. The table is empty afterwards.
    pub fn drain(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Self::Int(table) => Ok(vec![table.drain()]),
            Self::Bytes(table) => Ok(vec![table.drain()]),
            Self::Rows(table) => table.drain(),
            Self::One { used } => {
                *used = false;
                Ok(Vec::new())
            }
        }
    }
}

/// Types whose values are told apart by an i64.
fn is_integer_like(ty: &DataType) -> bool {
    matches!(
        ty,
        DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time32(_)
            | DataType::Timestamp(..)
            | DataType::Duration(_)
    )
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: i64,
    group: u32,
}

/// Groups by one integer-like column: linear probing, at most half full.
#[derive(Debug)]
pub struct IntGroups {
    ty: DataType,
    slots: Vec<Slot>,
    /// By group; 0 for the group of NULL.
    keys: Vec<i64>,
    null_group: Option<u32>,
    /// Seeded per process: keys come from outside, and a known hash could be made to collide.
    hasher: foldhash::fast::RandomState,
}

impl IntGroups {
    fn new(ty: DataType) -> Self {
        let slots = vec![Slot { key: 0, group: EMPTY }; INT_SLOTS_MIN];
        Self { ty, slots, keys: Vec::new(), null_group: None, hasher: foldhash::fast::RandomState::default() }
    }

    fn assign(&mut self, keys: &ArrayRef, groups: &mut Vec<u32>) {
        groups.reserve(keys.len());
        let nulls = keys.nulls().filter(|n| n.null_count() > 0);
        with_integers!(keys, |values| match nulls {
            None => groups.extend(values.map(|key| self.group_of(key))),
            Some(nulls) => groups.extend(
                values
                    .enumerate()
                    .map(|(row, key)| { if nulls.is_valid(row) { self.group_of(key) } else { self.group_of_null() } })
            ),
        });
    }

    #[inline]
    fn group_of(&mut self, key: i64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = hash_of(&self.hasher, key) & mask;
        loop {
            let slot = self.slots[at];
            if slot.group == EMPTY {
                return self.insert(at, key);
            }
            if slot.key == key {
                return slot.group;
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn insert(&mut self, at: usize, key: i64) -> u32 {
        let group = group_number(self.keys.len());
        self.slots[at] = Slot { key, group };
        self.keys.push(key);
        if self.keys.len() * 2 > self.slots.len() {
            self.grow();
        }
        group
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![Slot { key: 0, group: EMPTY }; mask + 1];
        for slot in self.slots.iter().filter(|s| s.group != EMPTY) {
            let mut at = hash_of(&self.hasher, slot.key) & mask;
            while slots[at].group != EMPTY {
                at = (at + 1) & mask;
            }
            slots[at] = *slot;
        }
        self.slots = slots;
    }

    fn group_of_null(&mut self) -> u32 {
        *self.null_group.get_or_insert_with(|| {
            self.keys.push(0);
            group_number(self.keys.len() - 1)
        })
    }

    fn drain(&mut self) -> ArrayRef {
        self.slots.fill(Slot { key: 0, group: EMPTY });
        let keys = std::mem::take(&mut self.keys);
        let nulls =
            self.null_group.take().map(|null| NullBuffer::from_iter((0..keys.len()).map(|g| g != null as usize)));
        integer_array(&self.ty, keys, nulls)
    }
}

#[inline]
fn hash_of(hasher: &foldhash::fast::RandomState, key: i64) -> usize {
    use std::hash::BuildHasher;
    // Truncation keeps the low bits, which is what the mask takes.
    hasher.hash_one(key) as usize
}

fn group_number(index: usize) -> u32 {
    u32::try_from(index)
        .ok()
        .filter(|g| *g != EMPTY)
        .expect("fewer than 2^32 - 1 groups: bounded by memory long before")
}

/// Byte strings, one after the other.
#[derive(Debug, Default)]
pub struct ByteStrings {
    data: Vec<u8>,
    /// End of each string in `data`.
    ends: Vec<usize>,
}

impl ByteStrings {
    pub fn push(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
        self.ends.push(self.data.len());
    }

    /// The string of this number.
    #[inline]
    #[must_use]
    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.data[start..self.ends[at]]
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }
}

/// Groups by byte strings.
#[derive(Debug, Default)]
pub struct BytesGroups {
    utf8: bool,
    table: HashTable<Entry>,
    /// By group; empty for the group of NULL.
    keys: ByteStrings,
    null_group: Option<u32>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    group: u32,
}

impl BytesGroups {
    /// The group of `key`, an old or a new one.
    #[inline]
    pub fn group_of(&mut self, key: &[u8]) -> u32 {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(key);
        let keys = &self.keys;
        let found = self.table.find(hash, |e| e.hash == hash && keys.get(e.group as usize) == key);
        match found {
            Some(entry) => entry.group,
            None => self.insert(hash, key),
        }
    }

    fn insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        let group = group_number(self.keys.len());
        self.keys.push(key);
        self.table.insert_unique(hash, Entry { hash, group }, |e| e.hash);
        group
    }

    /// Number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys by group.
    #[must_use]
    pub fn keys(&self) -> &ByteStrings {
        &self.keys
    }

    /// Memory of the keys, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.keys.data.len() + self.len() * (size_of::<usize>() + 2 * size_of::<Entry>())
    }

    /// Forgets all groups.
    pub fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
        self.null_group = None;
    }

    fn assign_column(&mut self, keys: &ArrayRef, groups: &mut Vec<u32>) {
        if self.utf8 {
            let keys = keys.as_string::<i32>();
            groups.extend(keys.iter().map(|key| self.group_of_nullable(key.map(str::as_bytes))));
        } else {
            groups.extend(keys.as_binary::<i32>().iter().map(|key| self.group_of_nullable(key)));
        }
    }

    fn group_of_nullable(&mut self, key: Option<&[u8]>) -> u32 {
        match (key, self.null_group) {
            (Some(key), _) => self.group_of(key),
            (None, Some(group)) => group,
            (None, None) => {
                let group = group_number(self.keys.len());
                self.keys.push(&[]);
                self.null_group = Some(group);
                group
            }
        }
    }

    fn drain(&mut self) -> ArrayRef {
        let lengths = (0..self.len()).map(|g| self.keys.get(g).len());
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
        let data = Buffer::from_vec(std::mem::take(&mut self.keys.data));
        let nulls = self.null_group.map(|null| NullBuffer::from_iter((0..self.len()).map(|g| g != null as usize)));
        self.clear();
        if self.utf8 {
            Arc::new(StringArray::new(offsets, data, nulls))
        } else {
            Arc::new(BinaryArray::new(offsets, data, nulls))
        }
    }
}

/// Groups by several columns, or by a type without a table of its own, as arrow-row bytes.
#[derive(Debug)]
pub struct RowGroups {
    converter: RowConverter,
    bytes: BytesGroups,
}

impl RowGroups {
    fn new(types: Vec<DataType>) -> Result<Self, ArrowError> {
        let fields = types.into_iter().map(SortField::new).collect();
        Ok(Self { converter: RowConverter::new(fields)?, bytes: BytesGroups::default() })
    }

    fn assign(&mut self, keys: &[ArrayRef], groups: &mut Vec<u32>) -> Result<(), ArrowError> {
        let rows = self.converter.convert_columns(keys)?;
        groups.extend(rows.iter().map(|row| self.bytes.group_of(row.data())));
        Ok(())
    }

    fn drain(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        let parser = self.converter.parser();
        let rows = (0..self.bytes.len()).map(|group| parser.parse(self.bytes.keys.get(group)));
        let columns = self.converter.convert_rows(rows)?;
        self.bytes.clear();
        Ok(columns)
    }
}

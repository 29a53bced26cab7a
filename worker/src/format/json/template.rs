//! What the keys of a record look like: learned from one record, expected of the next ones.
//!
//! Producers write the same keys in the same order with the same spacing, record after record. A slot holds the literal
//! bytes from the end of one value to the beginning of the next (`,"price":`), so that a key is recognised by one
//! comparison. Where a record differs the decoder reads that key the general way and takes the template up again behind
//! it: a surprise costs one key, not one record.

/// A record with a surprise adds this to the strikes, one without takes one away...
const STRIKE: u32 = 4;
/// ...and at this many strikes the template is learned anew. Records of several shapes therefore relearn now and then,
/// at the cost of one generally parsed record in eight at worst.
const STRIKES_MAX: u32 = 32;
/// Keys beyond this are not learned; bounds the memory that a hostile record can claim.
const SLOTS_MAX: usize = 1024;

/// A key that is expected next.
#[derive(Debug)]
pub struct Slot {
    /// From the end of the value before to the beginning of the value.
    literal: Box<[u8]>,
    /// The literal and which of its bits count, when it has at most 16 bytes.
    words: [u64; 2],
    masks: [u64; 2],
    /// The column that the value goes to; `None`: nobody reads it.
    pub column: Option<usize>,
    /// The key itself lies here in the literal.
    name: std::ops::Range<usize>,
}

impl Slot {
    fn new(literal: &[u8], name: std::ops::Range<usize>, column: Option<usize>) -> Self {
        let (mut bytes, mut masks) = ([0u8; 16], [0u8; 16]);
        if literal.len() <= 16 {
            bytes[..literal.len()].copy_from_slice(literal);
            masks[..literal.len()].fill(0xff);
        }
        Self { literal: literal.into(), words: words(&bytes), masks: words(&masks), column, name }
    }

    /// The length of the literal if the record goes on with it.
    #[inline(always)]
    pub fn matches(&self, record: &[u8], at: usize) -> Option<usize> {
        let rest = record.get(at..)?;
        let length = self.literal.len();
        let equal = match rest.first_chunk::<16>() {
            Some(chunk) if length <= 16 => {
                let found = words(chunk);
                (((found[0] ^ self.words[0]) & self.masks[0]) | ((found[1] ^ self.words[1]) & self.masks[1])) == 0
            }
            _ => rest.starts_with(&self.literal),
        };
        equal.then_some(length)
    }

    fn name(&self) -> &[u8] {
        &self.literal[self.name.clone()]
    }
}

#[inline(always)]
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let (low, high) = bytes.split_at(8);
    [low, high].map(|half| u64::from_ne_bytes(half.try_into().expect("half of sixteen")))
}

/// The keys of a record in order.
#[derive(Debug, Default)]
pub struct Template {
    slots: Vec<Slot>,
    strikes: u32,
    /// Slots of the record that is being learned.
    learning: Option<Vec<Slot>>,
}

impl Template {
    /// A record begins: decides whether it is learned.
    #[inline(always)]
    pub fn begin(&mut self) {
        if self.strikes >= STRIKES_MAX || self.slots.is_empty() {
            self.slots.clear();
            self.learning = Some(Vec::new());
        }
    }

    /// The slot with this number.
    #[inline(always)]
    pub fn slot(&self, number: usize) -> Option<&Slot> {
        self.slots.get(number)
    }

    /// A key was read the general way: from which slot on to go on. Never slot 0, whose literal opens the object.
    pub fn resume(&self, from: usize, name: &[u8]) -> usize {
        self.slots.iter().skip(from).position(|s| s.name() == name).map_or(from.max(1), |offset| from + offset + 1)
    }

    /// A key was read the general way: `literal` are the bytes up to its value. `name`: where in the literal the key
    /// stands; `None` when it has escapes, then the record is not learned.
    pub fn note(&mut self, literal: &[u8], name: Option<std::ops::Range<usize>>, column: Option<usize>) {
        match (&mut self.learning, name) {
            (Some(slots), Some(name)) if slots.len() < SLOTS_MAX => slots.push(Slot::new(literal, name, column)),
            (Some(slots), Some(_)) if slots.len() == SLOTS_MAX => {}
            _ => self.learning = None,
        }
    }

    /// A record was decoded. `surprised`: a key of it was not the expected one.
    #[inline(always)]
    pub fn end(&mut self, surprised: bool) {
        if !surprised {
            self.strikes = self.strikes.saturating_sub(1);
            return;
        }
        self.learn();
    }

    #[inline(never)]
    fn learn(&mut self) {
        match self.learning.take() {
            Some(slots) => {
                self.slots = slots;
                self.strikes = 0;
            }
            None => self.strikes += STRIKE,
        }
    }

    /// A record could not be decoded: nothing is learned from it.
    pub fn give_up(&mut self) {
        self.learning = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_matches_only_itself() {
        for text in [r#"{"a":"#, r#","0123456789": "#, r#","a_key_of_more_than_16_bytes":"#] {
            let slot = Slot::new(text.as_bytes(), 2..text.len() - 2, None);
            let record = format!("xx{text}1");
            assert_eq!(slot.matches(record.as_bytes(), 2), Some(text.len()));
            let longer = format!("xx{text}12345678901234567890");
            assert_eq!(slot.matches(longer.as_bytes(), 2), Some(text.len()));
            for at in 0..text.len() {
                let mut other = longer.clone().into_bytes();
                other[2 + at] ^= 1;
                assert_eq!(slot.matches(&other, 2), None);
            }
            assert_eq!(slot.matches(&record.as_bytes()[..text.len()], 2), None);
            assert_eq!(slot.matches(record.as_bytes(), 1000), None);
        }
    }
}

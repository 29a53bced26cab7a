//! What leads from the rows of an earlier manifest to those of a later one of the same line.
//!
//! Rows that were read ahead of time stay, and only what has changed is laid on them. Owns: which segments those are, and for
//! which key groups the rows have to be read anew. Does not own: reading (`read`), what a merge keeps (`merge`), nor whether
//! both manifests are of one line (`runtime`).
//!
//! For one key group, let `b1 … bk` be the segments that were read, `n1 … nm` those of the later manifest, oldest first, and
//! `n1 … nj` the longest beginning that both have. If there is one (or nothing was read), laying the rest, `n(j+1) … nm`, on the
//! rows gives what reading `n1 … nm` gives:
//! - An entry that the rest names (put, deleted, or with its whole namespace) is as its newest segment says, whatever was there.
//! - Any other entry must be as `b1 … bj` leave it, so none of `b(j+1) … bk` may name it. Each of these is either in the rest
//!   itself or was merged into a segment of the rest. A merge that leaves the oldest segment alone keeps deletes and drops, so
//!   it names all that its inputs name; and the oldest, `b1`, is in its place.
//!
//! Otherwise a merge took the oldest segment, and deleted entries are gone without a trace: the rows are read anew. A merge
//! takes that only when what lies above is about as large, so that large tables are seldom read twice.

use std::collections::BTreeSet;
use std::ops::Range;

use millstream_api::log::Segment;

use super::read::{Part, overlaps};

/// From the rows of earlier segments to those of a table's present ones.
#[derive(Debug, PartialEq)]
pub struct Difference<'a> {
    /// Key groups whose rows are no use.
    pub stale: Vec<Range<u16>>,
    /// What is to be read then, oldest first.
    pub newer: Vec<Part<'a>>,
}

/// What is to be done in these key groups to rows that were read from `before`, so that they are those of `now`.
#[must_use]
pub fn difference<'a>(before: &[Segment], now: &'a [Segment], groups: &Range<u16>) -> Difference<'a> {
    let mut stale = Vec::new();
    let mut wanted: Vec<Vec<Range<u16>>> = now.iter().map(|_| Vec::new()).collect();
    for piece in pieces(before.iter().chain(now), groups) {
        let was: Vec<&Segment> = before.iter().filter(|segment| overlaps(segment, &piece)).collect();
        let is: Vec<usize> = (0..now.len()).filter(|at| overlaps(&now[*at], &piece)).collect();
        let kept = was.iter().zip(&is).take_while(|(was, at)| same(was, &now[**at])).count();
        if kept == 0 && !was.is_empty() {
            extend(&mut stale, &piece);
        }
        for at in &is[kept..] {
            extend(&mut wanted[*at], &piece);
        }
    }
    let newer = now.iter().zip(wanted).filter(|(_, groups)| !groups.is_empty());
    Difference { stale, newer: newer.map(|(segment, groups)| Part { segment, groups }).collect() }
}

/// The key groups, cut wherever a segment begins or ends.
fn pieces<'a>(segments: impl Iterator<Item = &'a Segment>, groups: &Range<u16>) -> Vec<Range<u16>> {
    let ends = segments.flat_map(|segment| [segment.first_group, segment.end_group]);
    let mut cuts: BTreeSet<u16> = ends.filter(|cut| groups.contains(cut)).collect();
    cuts.extend([groups.start, groups.end]);
    let cuts: Vec<u16> = cuts.into_iter().collect();
    cuts.windows(2).map(|cut| cut[0]..cut[1]).collect()
}

/// The same rows; the range that counts may have shrunk since.
fn same(one: &Segment, other: &Segment) -> bool {
    one.epoch == other.epoch && one.content == other.content
}

fn extend(ranges: &mut Vec<Range<u16>>, piece: &Range<u16>) {
    match ranges.last_mut() {
        Some(last) if last.end == piece.start => last.end = piece.end,
        _ => ranges.push(piece.clone()),
    }
}

#[cfg(test)]
mod tests {
    use millstream_api::ids::Epoch;
    use millstream_api::log::{ObjectRef, SegmentContent};

    use super::*;

    fn segment(name: &str, epoch: u64, groups: Range<u16>) -> Segment {
        let content = SegmentContent::Object(ObjectRef { path: name.to_owned(), bytes: 1, crc32c: 0 });
        Segment { epoch: Epoch(epoch), first_group: groups.start, end_group: groups.end, rows: 1, content }
    }

    /// `stale; name: groups; …` of all 16 key groups.
    fn shown(before: &[Segment], now: &[Segment]) -> String {
        let Difference { stale, newer } = difference(before, now, &(0..16));
        let newer = newer.iter().map(|part| {
            let SegmentContent::Object(object) = &part.segment.content else { panic!("no object") };
            format!("{}: {:?}", object.path, part.groups)
        });
        let all: Vec<String> = std::iter::once(format!("{stale:?}")).chain(newer).collect();
        all.join("; ")
    }

    #[test]
    fn what_came_later_is_laid_on_what_was_read() {
        let before = [segment("a", 1, 0..16), segment("b", 2, 3..5)];
        assert_eq!(shown(&before, &before), "[]");
        let now = [&before[..], &[segment("c", 3, 4..9)]].concat();
        assert_eq!(shown(&before, &now), "[]; c: [4..9]");
        assert_eq!(shown(&[], &now), "[]; a: [0..16]; b: [3..5]; c: [4..9]");
    }

    #[test]
    fn a_merge_above_the_oldest_segment_is_laid_on_with_all_that_follows_it() {
        let before = [segment("a", 1, 0..16), segment("b", 2, 0..16), segment("c", 3, 0..16), segment("d", 4, 0..16)];
        // It was planned before d came, and entered after it: d has to be laid on it again.
        let now = [segment("a", 1, 0..16), segment("bc", 3, 0..16), segment("d", 4, 0..16)];
        assert_eq!(shown(&before, &now), "[]; bc: [0..16]; d: [0..16]");
    }

    #[test]
    fn a_merge_of_the_oldest_segment_ends_what_was_read() {
        let before = [segment("a", 1, 0..16), segment("b", 2, 0..16)];
        let now = [segment("ab", 2, 0..16), segment("c", 3, 0..16)];
        assert_eq!(shown(&before, &now), "[0..16]; ab: [0..16]; c: [0..16]");
        assert_eq!(shown(&before, &[]), "[0..16]", "nothing was left of it");
    }

    #[test]
    fn key_groups_are_looked_at_apart() {
        // One of two tasks that share a segment has merged its half.
        let before = [segment("a", 1, 0..16), segment("b", 2, 0..16)];
        let now = [segment("a", 1, 8..16), segment("ab", 2, 0..7), segment("b", 2, 8..16), segment("c", 3, 2..12)];
        assert_eq!(shown(&before, &now), "[0..8]; ab: [0..7]; c: [2..12]");
    }

    #[test]
    fn where_nothing_was_read_all_is_newer() {
        let before = [segment("a", 1, 0..4)];
        let now = [segment("a", 1, 0..4), segment("b", 2, 0..16)];
        assert_eq!(shown(&before, &now), "[]; b: [0..16]");
        let Difference { stale, newer } = difference(&before, &now, &(6..8));
        assert_eq!((stale.len(), newer.len()), (0, 1));
        assert_eq!((newer[0].segment, &newer[0].groups[0]), (&now[1], &(6..8)), "no more than what is asked for");
    }
}

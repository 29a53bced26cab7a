//! The combined watermark of several channels or splits.

use crate::element::{Element, WATERMARK_MAX, WATERMARK_MIN, WatermarkMs};

/// Combines watermarks by minimum over those that are not idle. The result never falls, also over a restore.
///
/// A member at [`WATERMARK_MAX`] has ended: it neither holds the others back nor counts as active, so an ended channel
/// beside an idle one does not end the event time of the idle one. No members are as good as idle ones.
#[derive(Debug)]
pub(crate) struct WatermarkMerge {
    members: Vec<Member>,
    current: WatermarkMs,
    idle: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    watermark: WatermarkMs,
    idle: bool,
}

impl WatermarkMerge {
    /// `floor`: what the task had reached when its epoch was sealed.
    pub(crate) fn new(members: usize, floor: WatermarkMs) -> Self {
        let member = Member { watermark: WATERMARK_MIN, idle: false };
        Self { members: vec![member; members], current: floor, idle: false }
    }

    /// Adds a member that holds the others back until it says where it is.
    pub(crate) fn add(&mut self) {
        self.members.push(Member { watermark: WATERMARK_MIN, idle: false });
    }

    /// A member's own watermark; it does not fall.
    pub(crate) fn advance(&mut self, member: usize, watermark: WatermarkMs) {
        let member = &mut self.members[member];
        member.watermark = member.watermark.max(watermark);
    }

    pub(crate) fn set_idle(&mut self, member: usize, idle: bool) {
        self.members[member].idle = idle;
    }

    pub(crate) fn is_idle(&self, member: usize) -> bool {
        self.members[member].idle
    }

    /// A member's own watermark, once it has one.
    pub(crate) fn of(&self, member: usize) -> Option<WatermarkMs> {
        Some(self.members[member].watermark).filter(|w| *w != WATERMARK_MIN)
    }

    /// Combines anew and says what changed, in the order in which it is to be sent.
    pub(crate) fn combine(&mut self, mut changed: impl FnMut(Element)) {
        let ended = |m: &Member| m.watermark == WATERMARK_MAX;
        let active = self.members.iter().filter(|m| !m.idle && !ended(m)).map(|m| m.watermark).min();
        let all_ended = !self.members.is_empty() && self.members.iter().all(ended);
        let idle = active.is_none() && !all_ended;
        if self.idle != idle {
            self.idle = idle;
            changed(Element::Idle(idle));
        }
        let combined = if all_ended { WATERMARK_MAX } else { active.unwrap_or(WATERMARK_MIN) };
        if combined > self.current {
            self.current = combined;
            changed(Element::Watermark(combined));
        }
    }

    /// What a new receiver must be told first: the watermark reached so far and whether there is none to come for now.
    pub(crate) fn announce(&mut self, mut say: impl FnMut(Element)) {
        let before = self.current;
        self.combine(|_| {});
        if before.max(self.current) != WATERMARK_MIN {
            say(Element::Watermark(self.current));
        }
        if self.idle {
            say(Element::Idle(true));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(merge: &mut WatermarkMerge) -> Vec<String> {
        let mut said = Vec::new();
        merge.combine(|e| said.push(format!("{e:?}")));
        said
    }

    #[test]
    fn the_slowest_active_member_rules_and_idle_ones_do_not_count() {
        let mut merge = WatermarkMerge::new(2, WATERMARK_MIN);
        merge.advance(0, 10);
        assert!(said(&mut merge).is_empty());
        merge.advance(1, 7);
        assert_eq!(said(&mut merge), ["Watermark(7)"]);
        merge.set_idle(1, true);
        assert_eq!(said(&mut merge), ["Watermark(10)"]);
        merge.set_idle(0, true);
        assert_eq!(said(&mut merge), ["Idle(true)"]);
        merge.set_idle(1, false);
        assert_eq!(said(&mut merge), ["Idle(false)"]);
        merge.advance(1, 9);
        assert!(said(&mut merge).is_empty(), "it never falls");
        merge.advance(1, 11);
        assert_eq!(said(&mut merge), ["Watermark(11)"]);
    }

    #[test]
    fn an_ended_member_beside_an_idle_one_does_not_end_its_time() {
        let mut merge = WatermarkMerge::new(2, WATERMARK_MIN);
        merge.advance(0, WATERMARK_MAX);
        merge.set_idle(1, true);
        assert_eq!(said(&mut merge), ["Idle(true)"]);
        merge.set_idle(1, false);
        merge.advance(1, 5);
        assert_eq!(said(&mut merge), ["Idle(false)", "Watermark(5)"]);
        merge.advance(1, WATERMARK_MAX);
        assert_eq!(said(&mut merge), [format!("Watermark({WATERMARK_MAX})")]);
    }

    #[test]
    fn nothing_to_read_is_idle_and_a_restored_watermark_is_announced() {
        let mut merge = WatermarkMerge::new(0, 42);
        let mut said = Vec::new();
        merge.announce(|e| said.push(format!("{e:?}")));
        assert_eq!(said, ["Watermark(42)", "Idle(true)"]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(steps in prop::collection::vec((0usize..3, -5i64..50, any::<bool>()), 1..60)) {
            let mut merge = WatermarkMerge::new(3, WATERMARK_MIN);
            let mut naive = [(WATERMARK_MIN, false); 3];
            let mut expected = WATERMARK_MIN;
            for (member, watermark, idle) in steps {
                merge.advance(member, watermark);
                merge.set_idle(member, idle);
                merge.combine(|_| {});
                naive[member] = (naive[member].0.max(watermark), idle);
                let active = naive.iter().filter(|(_, idle)| !idle).map(|(w, _)| *w).min();
                expected = expected.max(active.unwrap_or(expected));
                prop_assert_eq!(merge.current, expected);
            }
        }
    }
}

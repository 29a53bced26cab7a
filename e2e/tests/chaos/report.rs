//! What was done to the cluster, and how long its output stayed away.

use std::time::Duration;

use crate::faults::{Fault, Struck};

/// One fault and what came of it.
pub struct Cycle {
    pub number: usize,
    pub fault: Fault,
    pub struck: Struck,
    /// The longest time without new output, from the fault until all that was fed meanwhile is visible.
    pub gap: Duration,
}

#[derive(Default)]
pub struct Report {
    cycles: Vec<Cycle>,
}

impl Report {
    pub fn add(&mut self, cycle: Cycle) {
        let Cycle { number, fault, struck, gap } = &cycle;
        println!("cycle {number}: {fault:?} {}: no output for {gap:.1?}, allowed {:.1?}", struck.what, struck.allowed);
        self.cycles.push(cycle);
    }

    pub fn print(&self) {
        let kinds = Fault::ALL.map(|fault| (format!("{fault:?}"), self.gaps(|cycle| cycle.fault == fault)));
        let all = ("all".to_owned(), self.gaps(|_| true));
        println!("{:<18} {:>6} {:>10} {:>10}", "without output", "times", "median", "worst");
        for (name, gaps) in kinds.into_iter().chain([all]) {
            let median = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
            let worst = gaps.last().copied().unwrap_or_default();
            println!("{name:<18} {:>6} {:>10} {:>10}", gaps.len(), format!("{median:.1?}"), format!("{worst:.1?}"));
        }
    }

    /// Shortest first.
    fn gaps(&self, of: impl Fn(&Cycle) -> bool) -> Vec<Duration> {
        let mut gaps: Vec<Duration> = self.cycles.iter().filter(|cycle| of(cycle)).map(|cycle| cycle.gap).collect();
        gaps.sort_unstable();
        gaps
    }

    /// Each of these was met, and no reader waited too long.
    pub fn check(&self, faults: &[Fault]) {
        for fault in faults {
            assert!(self.cycles.iter().any(|cycle| cycle.fault == *fault), "{fault:?} was never met");
        }
        let late: Vec<usize> = self.cycles.iter().filter(|c| c.gap > c.struck.allowed).map(|c| c.number).collect();
        assert!(late.is_empty(), "output stayed away for too long in cycles {late:?}");
    }
}

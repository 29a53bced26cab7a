//! What came out of a run: a table of suites, and one line that sums it up.

use std::path::Path;
use std::time::Duration;

/// What came out of one suite or check.
pub(super) struct Outcome {
    name: String,
    elapsed: Duration,
    passed: usize,
    failed: usize,
    /// What was missing, one line each.
    skipped: Vec<String>,
    /// Why it failed, where the counts do not say it.
    note: Option<String>,
}

#[derive(Default)]
pub(super) struct Summary {
    outcomes: Vec<Outcome>,
}

impl Outcome {
    /// A check that passed.
    pub(super) fn check(name: &str, elapsed: Duration) -> Self {
        Self { name: name.to_owned(), elapsed, passed: 1, failed: 0, skipped: Vec::new(), note: None }
    }

    /// It failed as a whole.
    pub(super) fn fail(&mut self, note: String) {
        self.passed = 0;
        self.failed = 1;
        self.note = Some(note);
    }

    /// It could not run for want of something.
    pub(super) fn skip(&mut self, missing: String) {
        self.passed = 0;
        self.skipped.push(missing);
    }

    /// Counts what a test binary printed. `problem` is why it did not come to its end, or ended in disorder.
    pub(super) fn of_test_binary(name: &str, elapsed: Duration, log: &str, problem: Option<String>) -> Self {
        let mut outcome = Outcome::check(name, elapsed);
        outcome.passed = 0;
        for line in log.lines() {
            if let Some(counts) = line.strip_prefix("test result: ") {
                outcome.passed += count(counts, "passed");
                outcome.failed += count(counts, "failed");
                let ignored = count(counts, "ignored");
                outcome.skipped.extend((0..ignored).map(|_| format!("{name}: an ignored test")));
            } else if let Some(missing) = line.strip_prefix("SKIPPED ")
                && !outcome.skipped.iter().any(|known| known == missing)
            {
                // The test that printed it returned at once and was counted as passed.
                outcome.skipped.push(missing.to_owned());
                outcome.passed = outcome.passed.saturating_sub(1);
            }
        }
        // Lines of skipped tests may come before the counts.
        if let Some(problem) = problem {
            outcome.failed = outcome.failed.max(1);
            outcome.note = Some(problem);
        }
        outcome
    }

    pub(super) fn failed(&self) -> bool {
        self.failed > 0
    }
}

/// The number before `what` in `ok. 5 passed; 0 failed; ...`.
fn count(counts: &str, what: &str) -> usize {
    let mut words = counts.split([' ', ';']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        if words.peek() == Some(&what) {
            return word.parse().unwrap_or(0);
        }
    }
    0
}

impl Summary {
    pub(super) fn add(&mut self, outcome: Outcome) {
        eprintln!("{}", outcome.row());
        self.outcomes.push(outcome);
    }

    fn total(&self, part: impl Fn(&Outcome) -> usize) -> usize {
        self.outcomes.iter().map(part).sum()
    }

    /// In CI nothing may be skipped.
    pub(super) fn green(&self, ci: bool) -> bool {
        let ran = !self.outcomes.is_empty();
        ran && self.total(|o| o.failed) == 0 && (!ci || self.total(|o| o.skipped.len()) == 0)
    }

    pub(super) fn print(&self, logs: &Path) {
        println!("\n{:<32} {:>8} {:>8} {:>8} {:>8}", "suite", "passed", "failed", "skipped", "seconds");
        for outcome in &self.outcomes {
            println!("{}", outcome.row());
        }
        for outcome in &self.outcomes {
            outcome.skipped.iter().for_each(|missing| println!("SKIPPED {missing}"));
        }
        for outcome in self.outcomes.iter().filter(|outcome| outcome.failed()) {
            let note = outcome.note.as_deref().unwrap_or("tests failed");
            println!("FAILED {}: {note}; its log is in {}", outcome.name, logs.display());
        }
        println!(
            "{} passed, {} failed, {} skipped",
            self.total(|o| o.passed),
            self.total(|o| o.failed),
            self.total(|o| o.skipped.len())
        );
    }
}

impl Outcome {
    fn row(&self) -> String {
        format!(
            "{:<32} {:>8} {:>8} {:>8} {:>8.1}",
            self.name,
            self.passed,
            self.failed,
            self.skipped.len(),
            self.elapsed.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(log: &str, problem: Option<&str>) -> (usize, usize, usize) {
        let outcome = Outcome::of_test_binary("x", Duration::ZERO, log, problem.map(str::to_owned));
        (outcome.passed, outcome.failed, outcome.skipped.len())
    }

    #[test]
    fn counts_are_read_from_what_test_binaries_print() {
        let log =
            "test a ... ok\ntest result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished\n";
        assert_eq!(outcome(log, None), (5, 0, 1));
        let skipping = format!("{log}SKIPPED kafka: no broker\nSKIPPED kafka: no broker\nSKIPPED s3: no server\n");
        assert_eq!(outcome(&skipping, None), (3, 0, 3));
    }

    #[test]
    fn a_suite_without_a_result_has_failed() {
        assert_eq!(outcome("test a ... ok\n", Some("killed at its deadline")), (0, 1, 0));
        assert_eq!(outcome("", Some("signal 6")), (0, 1, 0));
    }
}

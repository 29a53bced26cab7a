//! How long tasks did not run, and what the time went to.

use super::Phase;
use super::message::Millis;

/// From the end of one run of the tasks, or the beginning of the term, to the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline {
    /// What goes on, and since when.
    under_way: Option<(&'static str, Millis)>,
    /// What is over, in the order in which each came first.
    steps: Vec<(&'static str, Millis)>,
}

impl Timeline {
    /// Takes in what the job does now. When tasks run again: what it took.
    pub(super) fn note(&mut self, now: Millis, phase: &Phase) -> Option<Vec<(&'static str, Millis)>> {
        let step = step_of(phase);
        if self.under_way.map(|(name, _)| name) == step {
            return None;
        }
        if let Some((name, since)) = self.under_way.take() {
            self.add(name, now.saturating_sub(since));
        }
        self.under_way = step.map(|name| (name, now));
        // Each name is there once, so it stays short however often a restart fails.
        (step.is_none() && *phase == Phase::Running && !self.steps.is_empty()).then(|| std::mem::take(&mut self.steps))
    }

    fn add(&mut self, name: &'static str, time: Millis) {
        match self.steps.iter_mut().find(|(known, _)| *known == name) {
            Some((_, sum)) => *sum += time,
            None => self.steps.push((name, time)),
        }
    }
}

/// What people call it; `None`: tasks run, or nothing of this term goes on.
fn step_of(phase: &Phase) -> Option<&'static str> {
    match phase {
        Phase::Reading { .. } => Some("log"),
        Phase::Returning | Phase::Claiming => Some("claim"),
        Phase::ReadingSavepoint { .. } | Phase::Importing => Some("savepoint"),
        Phase::Inspecting { .. } => Some("inspection"),
        Phase::AwaitingSlots { .. } => Some("slots"),
        Phase::Finishing { .. } => Some("commits"),
        Phase::GivingUp { .. } | Phase::Voiding => Some("lost commits"),
        Phase::Settling => Some("settling"),
        Phase::Fencing { .. } => Some("fencing"),
        Phase::Deploying { .. } => Some("deployment"),
        Phase::Anchoring => Some("first positions"),
        Phase::BackingOff { .. } => Some("back-off"),
        Phase::Idle
        | Phase::StandingBy(_)
        | Phase::Running
        | Phase::Committing { .. }
        | Phase::Closing { .. }
        | Phase::Ended => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_the_time_is_told_once_when_tasks_run_again() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.note(0, &Phase::Running), None);
        assert_eq!(timeline.note(5, &Phase::BackingOff { until: 15 }), None);
        assert_eq!(timeline.note(9, &Phase::BackingOff { until: 15 }), None);
        assert_eq!(timeline.note(15, &Phase::Fencing { deadline: 99 }), None);
        assert_eq!(timeline.note(20, &Phase::BackingOff { until: 40 }), None);
        assert_eq!(timeline.note(40, &Phase::Fencing { deadline: 99 }), None);
        assert_eq!(timeline.note(47, &Phase::Running), Some(vec![("back-off", 30), ("fencing", 12)]));
        assert_eq!(timeline.note(48, &Phase::Running), None);
    }
}

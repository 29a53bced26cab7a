//! The live line on a terminal: rate, rows, event-time lag, last checkpoint; progress and ETA for bounded input.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use millstream_coordinator::job::{JobState, Status};
use millstream_worker::metrics::TaskReadings;

/// How often the line is drawn anew.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// The line, with what a rate needs to remember.
pub struct LiveLine {
    bar: ProgressBar,
    bounded: bool,
    before: Option<(Instant, u64)>,
    rate: f64,
}

impl LiveLine {
    /// `bounded`: all sources end, so that what is left can be told.
    pub fn new(bounded: bool) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is well formed"));
        Self { bar, bounded, before: None, rate: 0.0 }
    }

    /// Draws the line as of now.
    pub fn draw(&mut self, status: &Status, tasks: &[TaskReadings]) {
        let rows: u64 = tasks.iter().filter(|t| t.role.has_source).map(|t| t.records_in).sum();
        let written: u64 = tasks.iter().map(|t| t.sink_records).sum();
        self.measure(rows);
        let mut parts =
            vec![state_text(status), format!("{}/s", count(self.rate as u64)), format!("{} rows in", count(rows))];
        parts.push(format!("{} out", count(written)));
        if let Some(lag) = event_time_lag(tasks) {
            parts.push(format!("event time {} behind", HumanDuration(lag)));
        }
        if let Some(checkpoint) = &status.last_checkpoint {
            parts.push(format!("checkpoint {} in {} ms", checkpoint.epoch, checkpoint.duration_ms));
        }
        if let Some(left) = self.time_left(tasks) {
            parts.push(format!("{} left", HumanDuration(left)));
        }
        self.bar.set_message(parts.join(" · "));
        self.bar.tick();
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A smoothed rate over the last calls.
    fn measure(&mut self, rows: u64) {
        let now = Instant::now();
        if let Some((then, rows_then)) = self.before {
            let seconds = now.duration_since(then).as_secs_f64().max(1e-3);
            let current = rows.saturating_sub(rows_then) as f64 / seconds;
            self.rate = if self.rate == 0.0 { current } else { 0.6 * self.rate + 0.4 * current };
        }
        self.before = Some((now, rows));
    }

    fn time_left(&self, tasks: &[TaskReadings]) -> Option<Duration> {
        let pending: u64 = tasks.iter().filter_map(|t| t.lag_records).sum();
        (self.bounded && self.rate > 1.0 && pending > 0).then(|| Duration::from_secs_f64(pending as f64 / self.rate))
    }
}

fn state_text(status: &Status) -> String {
    match (&status.state, status.restart_reasons.back()) {
        (JobState::Restarting, Some(last)) => format!("restarting: {}", last.reason),
        (state, _) => format!("{state:?}").to_lowercase(),
    }
}

/// How far the slowest task's watermark is behind the clock.
fn event_time_lag(tasks: &[TaskReadings]) -> Option<Duration> {
    let watermark = tasks.iter().filter_map(|t| t.watermark).filter(|w| *w != i64::MAX).min()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(Duration::from_millis(u64::try_from(watermark).ok()?)).map(|lag| Duration::from_secs(lag.as_secs()))
}

/// `12,345,678`
fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn digits_are_grouped() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(count(n), text);
        }
    }
}

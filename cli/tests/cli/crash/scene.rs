//! What may happen to the one process of a job of numbers.

use std::time::{Duration, Instant};

use millstream_e2e::kafka::Broker;
use millstream_e2e::numbers::{LIMIT, Numbers, READER_WAIT_MAX, START_MAX, Setting};
use millstream_e2e::process::Process;
use millstream_e2e::services::{self, Cluster};
use millstream_e2e::{CHECKPOINT_DONE, wait_for, wait_until};

/// Of a job that gives no output: what is shown of its log.
const LOG_LINES: usize = 400;

/// A job of numbers, and what is done to its process.
pub struct Scene {
    pub numbers: Numbers,
}

impl Scene {
    pub fn new(name: &'static str, setting: Setting) -> Option<Self> {
        Self::on(services::broker(name)?, name, setting)
    }

    pub fn on(broker: Broker, name: &'static str, setting: Setting) -> Option<Self> {
        Some(Self { numbers: Numbers::new(name, broker, setting)? })
    }

    fn start(&self, parallelism: u32, fault: Option<&str>) -> Process {
        self.numbers.write_manifest(parallelism);
        let run = self.numbers.with_credentials(self.numbers.job.run());
        match fault {
            Some(fault) => run.env("MILLSTREAM_FAULT", fault).start(),
            None => run.start(),
        }
    }

    pub fn run_until_fault(&mut self, point: &str, nth: u64, parallelism: u32) {
        let process = self.start(parallelism, Some(&format!("{point}@{nth}")));
        let ended = process.wait(LIMIT);
        assert_eq!(ended.code(), -libc::SIGKILL, "{}: {point} was not reached: {}", self.numbers.name, ended.stderr);
    }

    /// Waits until more than `before` is visible of both outputs.
    fn wait_beyond(&self, before: [usize; 2], process: &mut Process) {
        let ended = || process.ended().map(|s| format!("ended with {s}: {}", process.stderr()));
        if let Err(late) = self.numbers.wait_beyond(before, ended) {
            let log = process.stderr();
            let lines: Vec<_> = log.lines().collect();
            panic!("{late}the log's end:\n{}", lines[lines.len().saturating_sub(LOG_LINES)..].join("\n"));
        }
    }

    /// Kills the process this long after its outputs became visible, so that every cycle makes progress.
    pub fn run_and_kill_after(&mut self, delay: Duration, parallelism: u32) {
        let before = self.numbers.visible();
        let mut process = self.start(parallelism, None);
        self.wait_beyond(before, &mut process);
        let waited = process.started.elapsed();
        assert!(
            waited < READER_WAIT_MAX + START_MAX,
            "{}: visible only {waited:?} after the restart",
            self.numbers.name
        );
        wait_until(Instant::now() + delay);
        process.kill();
    }

    /// Kills the brokers that lead an output, one after the other, while the job runs; each comes back before the next.
    /// Returns which were killed.
    pub fn run_and_kill_brokers(&mut self, cluster: &Cluster, kills: usize) -> Vec<i32> {
        let before = self.numbers.visible();
        let mut process = self.start(2, None);
        self.wait_beyond(before, &mut process);
        let mut killed = Vec::new();
        for _ in 0..kills {
            let leader = self.numbers.broker.leader(self.numbers.output_topics()[0]);
            cluster.kill(leader);
            killed.push(leader);
            // The two that are left go on.
            let gone = Instant::now();
            self.wait_beyond(self.numbers.visible(), &mut process);
            let without = gone.elapsed();
            cluster.start(leader);
            let back = Instant::now();
            self.wait_beyond(self.numbers.visible(), &mut process);
            println!("broker {leader}: output {without:?} after its end, {:?} after its return", back.elapsed());
        }
        process.kill();
        killed
    }

    /// Holds back uploads until `epochs` were given up; kills the process before they arrive, or after output came.
    pub fn run_without_uploads_until_aborted(&mut self, epochs: usize, killed_while_away: bool) {
        let mut process = self.start(2, None);
        // What was only prepared may have become visible before: without the store no state would be restored.
        process.wait_for_log("tasks run after", LIMIT);
        self.wait_beyond(self.numbers.visible(), &mut process);
        self.numbers.store().hold("/state/");
        let end = Instant::now() + LIMIT;
        loop {
            let log = process.stderr();
            if aborted_in_a_row(&log) >= epochs {
                break;
            }
            let goes_on = process.ended().is_none() && Instant::now() < end;
            assert!(goes_on, "{}: {epochs} epochs in a row were not given up; the log:\n{log}", self.numbers.name);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let before = self.numbers.visible();
        if !killed_while_away {
            self.numbers.store().release();
            self.wait_beyond(before, &mut process);
        }
        process.kill();
        self.numbers.store().release();
    }

    /// Holds back everything for so long, then lets the job go on for a moment.
    pub fn run_without_store(&mut self, away: Duration) {
        let before = self.numbers.visible();
        let mut process = self.start(2, None);
        self.wait_beyond(before, &mut process);
        self.numbers.store().hold("");
        wait_until(Instant::now() + away);
        self.numbers.store().release();
        let before = self.numbers.visible();
        self.wait_beyond(before, &mut process);
        process.kill();
    }

    pub fn run_until_paused_then_replaced(&mut self, point: &str) {
        let before = self.numbers.job.fault_hits().len();
        let paused = self.start(2, Some(&format!("{point}@4:stop")));
        wait_for("the pause", LIMIT, || (self.numbers.job.fault_hits().len() > before).then_some(()));
        // On one host a stopped process still holds its job; a successor has to say that it takes over.
        let mut successor = self.start_taking_over();
        // What the readers see until then may still be of the stopped process.
        successor.wait_for_log("taken over from", LIMIT);
        self.wait_beyond(self.numbers.visible(), &mut successor);
        paused.signal(libc::SIGCONT);
        let ended = paused.wait(LIMIT);
        assert_ne!(ended.code(), 0, "the old process was fenced: {}", ended.stderr);
        self.wait_beyond(self.numbers.visible(), &mut successor);
        successor.kill();
    }

    fn start_taking_over(&self) -> Process {
        self.numbers.write_manifest(3);
        let owner = std::fs::read_to_string(self.numbers.job.folder.path().join("state/owner")).unwrap();
        let run = self.numbers.job.run().arg("--take-over").arg(owner.trim());
        self.numbers.with_credentials(run).start()
    }

    /// Stops the input, runs to the end, and compares with the reference.
    pub fn finish(mut self, parallelism: u32) {
        let expected = self.numbers.end_input();
        let process = self.start(parallelism, None);
        self.numbers.wait_for_all(&expected);
        let ended = process.stop(LIMIT);
        assert_eq!(ended.code(), 0, "{}: {}", self.numbers.name, ended.stderr);
        self.numbers.check(&expected);
    }
}

/// Epochs given up since the last one that was completed.
fn aborted_in_a_row(log: &str) -> usize {
    let since = log.rfind(CHECKPOINT_DONE).map_or(log, |at| &log[at..]);
    since.matches(" aborted: ").count()
}

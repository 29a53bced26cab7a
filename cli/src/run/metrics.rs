//! Metrics in OpenMetrics text, named as Flink's Prometheus reporter names them, so that its dashboards find them.
//!
//! <https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/metrics/>

use std::fmt::Write as _;

use millstream_coordinator::job::{JobState, Status};
use millstream_coordinator::transport::Refusals;
use millstream_net::RefusedConnections;
use millstream_worker::exchange::remote::FrameRule;
use millstream_worker::metrics::{ShuffleReadings, TaskReadings};
use millstream_worker::state::TableSize;

/// What a metric is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// A metric of a task: Flink's name, what it says, and how it is read. `None`: not known for this task.
struct TaskMetric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    read: fn(&TaskReadings) -> Option<f64>,
}

const fn counter(name: &'static str, help: &'static str, read: fn(&TaskReadings) -> Option<f64>) -> TaskMetric {
    TaskMetric { name, help, kind: Kind::Counter, read }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&TaskReadings) -> Option<f64>) -> TaskMetric {
    TaskMetric { name, help, kind: Kind::Gauge, read }
}

const TASK_METRICS: &[TaskMetric] = &[
    counter("numRecordsIn", "Records read by a source or received over channels", |t| Some(t.records_in as f64)),
    counter("numRecordsOut", "Records sent over channels and written to sinks", |t| Some(t.records_out as f64)),
    counter("numBytesIn", "Bytes received", |t| Some(t.bytes_in as f64)),
    counter("numBytesOut", "Bytes sent", |t| Some(t.bytes_out as f64)),
    counter("numRecordsSend", "Records written to sinks", |t| t.role.has_sink.then_some(t.sink_records as f64)),
    counter("numRecordsInErrors", "Records that could not be decoded and were skipped", |t| {
        t.role.has_source.then_some(t.skipped_records as f64)
    }),
    gauge("currentInputWatermark", "Watermark in milliseconds since the epoch", |t| t.watermark.map(|w| w as f64)),
    gauge("pendingRecords", "Records between the reader and the end of its splits", |t| {
        t.lag_records.map(|l| l as f64)
    }),
    counter("accumulateBusyTimeMs", "Milliseconds of work", |t| Some(t.busy_ms as f64)),
    counter("accumulateIdleTimeMs", "Milliseconds without anything to do", |t| Some(t.idle_ms as f64)),
    counter("accumulateBackPressuredTimeMs", "Milliseconds of waiting for room downstream", |t| {
        Some(t.backpressured_ms as f64)
    }),
    gauge("checkpointAlignmentTimeMs", "Duration of the last alignment of barriers", |t| Some(t.alignment_ms as f64)),
];

/// What a process has to show: what it runs, and what it knows of the job.
#[derive(Default)]
pub struct Shown<'a> {
    pub tasks: &'a [TaskReadings],
    pub status: Option<&'a Status>,
    pub refusals: Option<&'a Refusals>,
    pub unread_requests: Option<u64>,
    pub connections: Option<&'a RefusedConnections>,
    pub shuffle: Option<ShuffleReadings>,
}

/// The whole page.
pub fn render(job: &str, shown: &Shown<'_>) -> String {
    let tasks = shown.tasks;
    let mut page = String::new();
    for metric in TASK_METRICS {
        let name = format!("flink_taskmanager_job_task_{}", metric.name);
        let samples = tasks.iter().filter_map(|t| Some((task_labels(job, t), (metric.read)(t)?)));
        family(&mut page, &name, metric.help, metric.kind, samples);
    }
    transform_counters(&mut page, job, tasks);
    table_sizes(&mut page, job, tasks);
    if let Some(status) = shown.status {
        job_metrics(&mut page, job, status);
        change_metrics(&mut page, job, status);
    }
    if let Some(refusals) = shown.refusals {
        refusal_counters(&mut page, job, refusals);
    }
    if let Some(unread) = shown.unread_requests {
        let sample = (format!("job_name=\"{}\"", escaped(job)), unread as f64);
        let help = "Requests to the operations service that could not be read";
        let name = "millstream_operations_refused_messages";
        family(&mut page, name, help, Kind::Counter, std::iter::once(sample));
    }
    if let Some(connections) = shown.connections {
        refused_connections(&mut page, job, connections);
    }
    if let Some(readings) = &shown.shuffle {
        shuffle(&mut page, job, readings);
    }
    page.push_str("# EOF\n");
    page
}

/// Counters that transforms keep themselves, such as `numLateRecordsDropped`.
fn transform_counters(page: &mut String, job: &str, tasks: &[TaskReadings]) {
    let all = || {
        tasks.iter().flat_map(|t| {
            t.transforms.iter().flat_map(move |(uid, counters)| {
                counters.iter().map(move |(name, value)| (t, uid, name.as_str(), *value))
            })
        })
    };
    let mut names: Vec<&str> = all().map(|(_, _, name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let samples = all().filter(|(_, _, n, _)| *n == name).map(|(task, uid, _, value)| {
            (format!("{},operator_name=\"{}\"", task_labels(job, task), escaped(&uid.0)), value as f64)
        });
        family(
            page,
            &format!("flink_taskmanager_job_task_operator_{name}"),
            "Kept by the transform",
            Kind::Counter,
            samples,
        );
    }
}

fn refusal_counters(page: &mut String, job: &str, refusals: &Refusals) {
    let labels = || format!("job_name=\"{}\"", escaped(job));
    let rows = [
        ("registrations", "Workers and probes of another version or job", refusals.registrations()),
        ("messages", "Messages that could not be read; each closed its connection", refusals.messages()),
    ];
    for (name, help, value) in rows {
        let name = format!("millstream_coordinator_refused_{name}");
        family(page, &name, help, Kind::Counter, std::iter::once((labels(), value as f64)));
    }
}

fn refused_connections(page: &mut String, job: &str, connections: &RefusedConnections) {
    let samples = connections
        .read()
        .map(|(reason, count)| (format!("job_name=\"{}\",reason=\"{}\"", escaped(job), reason.name()), count as f64));
    let help = "Connections between processes of a job that one side refused";
    family(page, "millstream_refused_connections", help, Kind::Counter, samples);
}

/// Rows to and from other workers.
fn shuffle(page: &mut String, job: &str, readings: &ShuffleReadings) {
    let labels = format!("job_name=\"{}\"", escaped(job));
    let one = |value: u64| std::iter::once((labels.clone(), value as f64));
    let name = |name: &str| format!("millstream_shuffle_{name}");
    let rows = [
        ("connections", "Open connections to other workers", Kind::Gauge, readings.connections),
        ("sent_bytes", "Bytes sent to other workers, as compressed", Kind::Counter, readings.bytes_sent),
        ("received_bytes", "Bytes received from other workers, as compressed", Kind::Counter, readings.bytes_received),
        (
            "refused_connections",
            "Calls of another job, version or deployment, or of no worker",
            Kind::Counter,
            readings.connections_refused,
        ),
    ];
    for (metric, help, kind, value) in rows {
        family(page, &name(metric), help, kind, one(value));
    }
    let refused = FrameRule::ALL.iter().zip(readings.frames_refused);
    let samples = refused.map(|(rule, count)| (format!("{labels},reason=\"{}\"", rule.name()), count as f64));
    let help = "Frames that were not what they must be; each closed its connection";
    family(page, &name("refused_frames"), help, Kind::Counter, samples);
}

/// Keyed state by table, as of the last checkpoint: what a warning about its limit names, before it comes.
fn table_sizes(page: &mut String, job: &str, tasks: &[TaskReadings]) {
    let sizes: [(&str, &str, fn(&TableSize) -> u64); 2] = [
        ("stateTableRows", "Entries of a table of keyed state", |table| table.rows),
        ("stateTableBytes", "Bytes of a table of keyed state", |table| table.bytes),
    ];
    for (name, help, read) in sizes {
        let samples = tasks.iter().flat_map(|task| {
            task.tables.iter().flat_map(move |(uid, tables)| {
                tables.iter().map(move |table| {
                    let (labels, name) = (task_labels(job, task), escaped(&table.table));
                    let labels = format!("{labels},operator_name=\"{}\",table=\"{name}\"", escaped(&uid.0));
                    (labels, read(table) as f64)
                })
            })
        });
        family(page, &format!("flink_taskmanager_job_task_operator_{name}"), help, Kind::Gauge, samples);
    }
}

fn job_metrics(page: &mut String, job: &str, status: &Status) {
    let labels = format!("job_name=\"{}\"", escaped(job));
    let last = status.last_checkpoint.as_ref();
    let running = f64::from(u8::from(status.state == JobState::Running));
    let rows: [(&str, &str, Kind, Option<f64>); 8] = [
        ("runningState", "1 while the job runs", Kind::Gauge, Some(running)),
        ("numRestarts", "Restarts in this process", Kind::Gauge, Some(status.restarts as f64)),
        (
            "numberOfCompletedCheckpoints",
            "Completed checkpoints",
            Kind::Gauge,
            Some(status.checkpoints_completed as f64),
        ),
        ("numberOfFailedCheckpoints", "Failed checkpoints", Kind::Gauge, Some(status.checkpoints_failed as f64)),
        (
            "lastCheckpointDuration",
            "Milliseconds from trigger to sealed",
            Kind::Gauge,
            last.map(|c| c.duration_ms as f64),
        ),
        ("lastCheckpointSize", "Bytes written for the last checkpoint", Kind::Gauge, last.map(|c| c.bytes as f64)),
        ("lastCheckpointFullSize", "Bytes that a restore of it reads", Kind::Gauge, last.map(|c| c.state_bytes as f64)),
        ("lastCompletedCheckpointId", "Epoch of the last checkpoint", Kind::Gauge, last.map(|c| c.epoch as f64)),
    ];
    for (name, help, kind, value) in rows {
        let samples = value.into_iter().map(|v| (labels.clone(), v));
        family(page, &format!("flink_jobmanager_job_{name}"), help, kind, samples);
    }
}

/// Changes of the tasks while they run; Flink has none.
fn change_metrics(page: &mut String, job: &str, status: &Status) {
    let labels = format!("job_name=\"{}\"", escaped(job));
    let last = status.last_change;
    let rows: [(&str, &str, Kind, Option<u64>); 5] = [
        ("changes", "Changes of the tasks while they ran", Kind::Counter, Some(status.changes_completed)),
        (
            "last_change_prepare_ms",
            "Milliseconds that workers got ready beside what ran",
            Kind::Gauge,
            last.map(|cost| cost.prepare_ms),
        ),
        (
            "last_change_prepare_bytes",
            "Stored bytes that were read meanwhile",
            Kind::Gauge,
            last.map(|cost| cost.prepare_bytes),
        ),
        (
            "last_change_switch_ms",
            "Milliseconds from the checkpoint that decided until all tasks were there",
            Kind::Gauge,
            last.map(|cost| cost.switch_ms),
        ),
        (
            "last_change_switch_bytes",
            "Stored bytes that were read meanwhile",
            Kind::Gauge,
            last.map(|cost| cost.switch_bytes),
        ),
    ];
    for (name, help, kind, value) in rows {
        let samples = value.into_iter().map(|v| (labels.clone(), v as f64));
        family(page, &format!("millstream_job_{name}"), help, kind, samples);
    }
}

fn family(page: &mut String, name: &str, help: &str, kind: Kind, samples: impl Iterator<Item = (String, f64)>) {
    let mut samples = samples.peekable();
    if samples.peek().is_none() {
        return;
    }
    let (kind, suffix) = match kind {
        Kind::Counter => ("counter", "_total"),
        Kind::Gauge => ("gauge", ""),
    };
    let text =
        |page: &mut String, line: std::fmt::Arguments<'_>| page.write_fmt(line).expect("a string takes everything");
    text(page, format_args!("# HELP {name} {help}.\n# TYPE {name} {kind}\n"));
    for (labels, value) in samples {
        text(page, format_args!("{name}{suffix}{{{labels}}} {value}\n"));
    }
}

fn task_labels(job: &str, task: &TaskReadings) -> String {
    format!(
        "job_name=\"{}\",task_name=\"{}\",task_id=\"{}\",subtask_index=\"{}\"",
        escaped(job),
        escaped(&task.name),
        task.task.vertex,
        task.task.index
    )
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

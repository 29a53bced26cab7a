//! The two ends of the control plane against each other: real connections, a real worker, coordinators that say what the
//! test wants.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use millstream_api::control::{Attempt, Command, Report, WorkerCommand, WorkerReport, WorkerSettings};
use millstream_api::flinkjob::{CheckpointSpec, ShuffleSpec, StateSpec};
use millstream_api::ids::Generation;
use millstream_coordinator::runtime::{LinkReport, ToLink, WorkerLink};
use millstream_coordinator::transport::{self, TransportConfig, WorkerServer};
use millstream_net::Security;
use millstream_store::LocalStore;
use millstream_worker::attach::{self, AttachConfig, AttachError, Parting, ShuffleAddress};
use millstream_worker::exchange::remote::ShuffleConfig;
use millstream_worker::runtime::{StateBackend, Worker, WorkerConfig};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No step takes longer, also on a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
const VERSION: &str = "1.2.3";

/// A coordinator of `shop/orders`.
struct Coordinator {
    address: String,
    server: WorkerServer,
    workers: mpsc::Receiver<WorkerLink>,
    rules: watch::Sender<Option<Generation>>,
}

impl Coordinator {
    async fn new() -> Self {
        Self::at("127.0.0.1:0", VERSION, settings()).await
    }

    async fn at(address: &str, version: &str, settings: WorkerSettings) -> Self {
        let listener = WorkerServer::bind(address, &Security::plain()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (arrivals, workers) = mpsc::channel(4);
        let (rules, ruling) = watch::channel(None);
        let pace = transport::Pace::default();
        let config = TransportConfig { settings, version: version.to_owned(), pace };
        let server = WorkerServer::start(listener, config, ruling, arrivals, None, Security::plain());
        Self { address, server, workers, rules }
    }

    async fn registered(&mut self) -> WorkerLink {
        timeout(LIMIT, self.workers.recv()).await.expect("a worker registers").unwrap()
    }
}

fn settings() -> WorkerSettings {
    WorkerSettings {
        namespace: "shop".to_owned(),
        name: "orders".to_owned(),
        job_name: None,
        checkpoint: CheckpointSpec::default(),
        state: StateSpec::default(),
        shuffle: ShuffleSpec::default(),
        pause_after_ms: None,
    }
}

/// A worker's process, but for the process.
struct Attached {
    serving: JoinHandle<Result<Parting, AttachError>>,
    leave: watch::Sender<bool>,
    started: Arc<AtomicU32>,
    _folder: tempfile::TempDir,
}

impl Attached {
    fn to(coordinators: &[&str]) -> Self {
        let coordinators = coordinators.iter().map(|c| (*c).to_owned()).collect();
        Self::with(AttachConfig {
            security: Security::plain(),
            coordinators,
            job: "shop/orders".to_owned(),
            slots: 2,
            shuffle: Some(ShuffleAddress { host: None, port: 4_242 }),
            name: "one".to_owned(),
            version: VERSION.to_owned(),
            pace: attach::Pace::default(),
            drain_timeout: LIMIT,
        })
    }

    fn with(config: AttachConfig) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (leave, leaving) = watch::channel(false);
        let started = Arc::new(AtomicU32::new(0));
        let (path, count) = (folder.path().to_owned(), Arc::clone(&started));
        let start = async move |told: WorkerSettings| {
            assert_eq!(told.name, "orders");
            count.fetch_add(1, Ordering::Relaxed);
            Ok(spawn(&path))
        };
        Self { serving: tokio::spawn(attach::run(config, leaving, start)), leave, started, _folder: folder }
    }

    async fn end(self) -> Result<Parting, AttachError> {
        timeout(LIMIT, self.serving).await.expect("it ends").unwrap()
    }
}

fn spawn(folder: &Path) -> Worker {
    Worker::spawn(WorkerConfig {
        slots: 2,
        store: Arc::new(LocalStore::open(folder).unwrap()),
        job_path: "shop/orders".to_owned(),
        job_name: None,
        backend: StateBackend::Memory,
        state_bytes_max: 1 << 20,
        undo_bytes_max: 1 << 20,
        fetch_bytes_max: 1 << 20,
        io_threads: 1,
        shuffle: ShuffleConfig::default(),
    })
    .unwrap()
}

fn attempt(generation: u64) -> Attempt {
    Attempt { generation: Generation(generation), number: 1 }
}

async fn tell(link: &WorkerLink, generation: u64, command: Command) {
    let command = WorkerCommand { attempt: attempt(generation), command };
    link.commands.send(ToLink::Command(command)).await.unwrap();
}

/// The next message of a link that is no heartbeat.
async fn heard(link: &mut WorkerLink) -> LinkReport {
    loop {
        match timeout(LIMIT, link.reports.recv()).await.expect("something is said").unwrap() {
            LinkReport::Heard { .. } => {}
            other => return other,
        }
    }
}

async fn inspected(link: &mut WorkerLink, generation: u64) {
    tell(link, generation, Command::Inspect).await;
    let LinkReport::Report(report) = heard(link).await else { panic!("a report") };
    assert_eq!(report, WorkerReport { attempt: attempt(generation), report: Report::Inspected { running: None } });
}

#[tokio::test]
async fn a_worker_registers_answers_and_ends_with_the_job() {
    let mut coordinator = Coordinator::new().await;
    let worker = Attached::to(&[&coordinator.address]);
    let mut link = coordinator.registered().await;
    assert_eq!((link.offer.slots, link.offer.name.as_str()), (2, "one"));
    assert_eq!(
        link.offer.shuffle_address.as_deref(),
        Some("127.0.0.1:4242"),
        "the address on the way to the coordinator"
    );
    inspected(&mut link, 1).await;
    drop(link);
    coordinator.server.close(true).await;
    assert_eq!(worker.end().await.unwrap(), Parting::JobOver);
}

/// The last word and the end of the connection arrive together, and either may be looked at first.
#[tokio::test]
async fn each_of_many_workers_hears_the_last_word() {
    const WORKERS: usize = 8;
    let mut coordinator = Coordinator::new().await;
    let workers: Vec<Attached> = (0..WORKERS).map(|_| Attached::to(&[&coordinator.address])).collect();
    let mut links = Vec::new();
    for _ in &workers {
        let mut link = coordinator.registered().await;
        inspected(&mut link, 1).await;
        links.push(link);
    }
    drop(links);
    coordinator.server.close(true).await;
    for worker in workers {
        assert_eq!(worker.end().await.unwrap(), Parting::JobOver);
    }
}

#[tokio::test]
async fn a_worker_may_come_before_its_coordinator_and_comes_back_to_the_next_one() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let worker = Attached::to(&[&free]);
    for generation in 1..=3 {
        let mut coordinator = Coordinator::at(&free, VERSION, settings()).await;
        let mut link = coordinator.registered().await;
        inspected(&mut link, generation).await;
        drop(link);
        coordinator.server.close(generation == 3).await;
    }
    assert_eq!(worker.started.load(Ordering::Relaxed), 1, "its threads outlive the coordinators");
    assert_eq!(worker.end().await.unwrap(), Parting::JobOver);
}

#[tokio::test]
async fn with_two_coordinators_the_newest_generation_is_obeyed_heard_and_told() {
    let (mut old, mut new) = (Coordinator::new().await, Coordinator::new().await);
    let worker = Attached::to(&[&old.address, &new.address]);
    let (mut old_link, mut new_link) = (old.registered().await, new.registered().await);
    inspected(&mut old_link, 4).await;
    inspected(&mut new_link, 6).await;
    // The old one does not know yet.
    tell(&old_link, 4, Command::Inspect).await;
    inspected(&mut new_link, 6).await;
    let heard_of = loop {
        match timeout(LIMIT, old_link.reports.recv()).await.unwrap().unwrap() {
            LinkReport::Heard { generation: Generation(4), .. } => {}
            LinkReport::Heard { generation, age_ms } => break (generation, age_ms),
            other => panic!("the old one is answered: {other:?}"),
        }
    };
    assert_eq!(heard_of.0, Generation(6));
    assert!(heard_of.1 < 30_000, "heartbeats of the one that rules count: {heard_of:?}");
    // It has nothing to say about the end either.
    drop(old_link);
    old.server.close(true).await;
    inspected(&mut new_link, 6).await;
    drop(new_link);
    new.server.close(true).await;
    assert_eq!(worker.end().await.unwrap(), Parting::JobOver);
}

#[tokio::test]
async fn another_version_ends_the_worker_with_both_named() {
    let coordinator = Coordinator::at("127.0.0.1:0", "9.9.9", settings()).await;
    let worker = Attached::to(&["127.0.0.1:1", &coordinator.address]);
    let error = worker.end().await.unwrap_err().to_string();
    for word in ["1.2.3", "9.9.9", &coordinator.address] {
        assert!(error.contains(word), "{error}");
    }
}

#[tokio::test]
async fn a_worker_of_another_job_ends_when_every_coordinator_has_refused_it() {
    let other = || WorkerSettings { name: "bills".to_owned(), ..settings() };
    let first = Coordinator::at("127.0.0.1:0", VERSION, other()).await;
    let mut second = Coordinator::new().await;
    // One of the two wants it.
    let worker = Attached::to(&[&first.address, &second.address]);
    let mut link = second.registered().await;
    inspected(&mut link, 1).await;
    let address = second.address.clone();
    drop(link);
    second.server.close(false).await;
    let _third = Coordinator::at(&address, VERSION, other()).await;
    let error = worker.end().await.unwrap_err().to_string();
    assert!(error.contains("shop/orders") && error.contains("shop/bills"), "{error}");
    assert!(error.contains(&first.address) && error.contains(&address), "{error}");
}

#[tokio::test]
async fn a_worker_does_not_serve_by_settings_that_have_changed() {
    let mut coordinator = Coordinator::new().await;
    let address = coordinator.address.clone();
    let worker = Attached::to(&[&address]);
    drop(coordinator.registered().await);
    coordinator.server.close(false).await;
    let changed = WorkerSettings { pause_after_ms: Some(77), ..settings() };
    let _next = Coordinator::at(&address, VERSION, changed).await;
    let error = worker.end().await.unwrap_err().to_string();
    assert!(error.contains("start it anew"), "{error}");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_says_so_to_all_and_waits_for_the_release() {
    let (mut ruler, mut standby) = (Coordinator::new().await, Coordinator::new().await);
    let worker = Attached::to(&[&ruler.address, &standby.address]);
    let (mut link, mut other) = (ruler.registered().await, standby.registered().await);
    inspected(&mut link, 1).await;
    worker.leave.send_replace(true);
    for link in [&mut link, &mut other] {
        let LinkReport::Leaving { deadline_ms } = heard(link).await else { panic!("it leaves") };
        assert!(deadline_ms <= 60_000 && deadline_ms > 1_000, "{deadline_ms}");
    }
    // Not the standby's to decide, and the ruler still has work for it.
    other.commands.send(ToLink::Released).await.unwrap();
    inspected(&mut link, 1).await;
    link.commands.send(ToLink::Released).await.unwrap();
    assert_eq!(worker.end().await.unwrap(), Parting::Released);
}

#[tokio::test]
async fn a_worker_that_nobody_releases_goes_after_the_drain_timeout() {
    let mut coordinator = Coordinator::new().await;
    let config = AttachConfig {
        security: Security::plain(),
        coordinators: vec![coordinator.address.clone()],
        job: String::new(),
        slots: 1,
        shuffle: None,
        name: "one".to_owned(),
        version: VERSION.to_owned(),
        pace: attach::Pace::default(),
        drain_timeout: Duration::from_millis(300),
    };
    let worker = Attached::with(config);
    let mut link = coordinator.registered().await;
    assert_eq!(link.offer.shuffle_address, None);
    inspected(&mut link, 1).await;
    worker.leave.send_replace(true);
    assert!(matches!(heard(&mut link).await, LinkReport::Leaving { .. }));
    assert_eq!(worker.end().await.unwrap(), Parting::NotReleased);
    assert!(matches!(heard(&mut link).await, LinkReport::Lost(_)));
}

#[tokio::test]
async fn a_coordinator_that_falls_silent_is_connected_to_anew() {
    // Takes the connection and never answers: the next try comes all the same.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let worker = Attached::to(&[&address]);
    for _ in 0..2 {
        let taken = timeout(LIMIT, silent.accept()).await.expect("it tries again").unwrap();
        drop(taken);
    }
    worker.leave.send_replace(true);
    assert_eq!(worker.end().await.unwrap(), Parting::Released, "nothing was deployed: it goes at once");
}

#[tokio::test]
async fn a_worker_that_its_ruler_gave_up_registers_again_and_is_commanded_anew() {
    let mut coordinator = Coordinator::new().await;
    let worker = Attached::to(&[&coordinator.address]);
    let mut link = coordinator.registered().await;
    coordinator.rules.send_replace(Some(Generation(3)));
    inspected(&mut link, 3).await;
    drop(worker.started);
    // The job's loop gives the link up: the conversation ends without a farewell.
    let mut next = {
        drop(link);
        coordinator.server.close(false).await;
        let mut again = Coordinator::at(&coordinator.address, VERSION, settings()).await;
        again.rules.send_replace(Some(Generation(3)));
        let link = again.registered().await;
        (again, link)
    };
    inspected(&mut next.1, 3).await;
    drop(next.1);
    next.0.server.close(true).await;
    assert_eq!(timeout(LIMIT, worker.serving).await.unwrap().unwrap().unwrap(), Parting::JobOver);
}

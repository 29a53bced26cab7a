//! The server against a client that can say anything.

use std::time::Duration;

use millstream_api::control::{Attempt, Command, Report, WorkerCommand, WorkerReport, WorkerSettings};
use millstream_api::flinkjob::{CheckpointSpec, ShuffleSpec, StateSpec};
use millstream_api::graph::JobGraph;
use millstream_api::ids::{Epoch, Generation, TransformUid};
use millstream_api::log::PreparedTransaction;
use millstream_api::proto::control::v1 as proto;
use millstream_net::Security;
use proto::from_worker::Message as FromWorker;
use proto::to_worker::Message as ToWorker;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::calls::control_client::ControlClient;
use super::*;
use crate::runtime::{LinkReport, ToLink};

/// No step takes longer, also on a loaded machine.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// For clients that send no heartbeats.
pub(super) const PACE: Pace =
    Pace { heartbeat: Duration::from_millis(20), silence_max: Duration::from_secs(2 * LIMIT.as_secs()) };
/// For tests of silence: short, and longer than a loaded machine takes to run this process again.
const SHORT: Pace = Pace { silence_max: Duration::from_secs(2), ..PACE };

/// A server whose job is `shop/orders`.
pub(super) struct Scene {
    pub(super) address: String,
    pub(super) server: WorkerServer,
    pub(super) workers: mpsc::Receiver<WorkerLink>,
    rules: watch::Sender<Option<Generation>>,
}

impl Scene {
    pub(super) async fn new(pace: Pace) -> Self {
        let settings = WorkerSettings {
            namespace: "shop".to_owned(),
            name: "orders".to_owned(),
            job_name: None,
            checkpoint: CheckpointSpec::default(),
            state: StateSpec::default(),
            shuffle: ShuffleSpec::default(),
            pause_after_ms: None,
        };
        let listener = WorkerServer::bind("127.0.0.1:0", &Security::plain()).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (arrivals, workers) = mpsc::channel(4);
        let (rules, ruling) = watch::channel(None);
        let config = TransportConfig { settings, version: "1.2.3".to_owned(), pace };
        let server = WorkerServer::start(listener, config, ruling, arrivals, None, Security::plain());
        Self { address, server, workers, rules }
    }

    async fn client(&self) -> ControlClient<tonic::transport::Channel> {
        ControlClient::new(probe::connect(&self.address, &Security::plain()).await.unwrap())
    }

    /// What the server answers to a first message.
    async fn say_first(&self, first: FromWorker) -> Result<Peer, Status> {
        let (say, saying) = mpsc::channel(16);
        say.send(said(first)).await.unwrap();
        let mut client = self.client().await;
        let hear = timeout(LIMIT, client.attach(ReceiverStream::new(saying))).await.unwrap()?;
        Ok(Peer { say, hear: hear.into_inner() })
    }

    pub(super) async fn register(&mut self) -> (Peer, WorkerLink) {
        let mut peer = self.say_first(FromWorker::Register(worker())).await.unwrap();
        assert!(matches!(peer.next().await, Some(ToWorker::Registered(_))));
        (peer, timeout(LIMIT, self.workers.recv()).await.unwrap().unwrap())
    }
}

/// A worker that says what the test wants.
pub(super) struct Peer {
    say: mpsc::Sender<proto::FromWorker>,
    hear: Streaming<proto::ToWorker>,
}

impl Peer {
    /// The next message that is no heartbeat; `None`: the call has ended.
    async fn next(&mut self) -> Option<ToWorker> {
        loop {
            match timeout(LIMIT, self.hear.message()).await.unwrap().ok()??.message? {
                ToWorker::Heartbeat(_) => {}
                other => return Some(other),
            }
        }
    }

    pub(super) async fn say(&self, what: FromWorker) {
        self.say.send(said(what)).await.unwrap();
    }
}

pub(super) fn said(message: FromWorker) -> proto::FromWorker {
    proto::FromWorker { message: Some(message) }
}

pub(super) fn worker() -> proto::Register {
    proto::Register {
        version: "1.2.3".to_owned(),
        job: "shop/orders".to_owned(),
        slots: 2,
        shuffle_address: "here:1".to_owned(),
        name: "one".to_owned(),
        settings: bytes::Bytes::new(),
    }
}

async fn lost(link: &mut WorkerLink) -> String {
    loop {
        let next = timeout(LIMIT, link.reports.recv()).await.unwrap().expect("a reason comes first");
        if let LinkReport::Lost(reason) = next {
            return reason;
        }
    }
}

const ATTEMPT: Attempt = Attempt { generation: Generation(7), number: 3 };

#[tokio::test]
async fn commands_and_reports_pass_and_the_farewell_comes_after_all_commands() {
    let mut scene = Scene::new(PACE).await;
    let (mut peer, mut link) = scene.register().await;
    assert_eq!((link.offer.slots, link.offer.shuffle_address.as_deref()), (2, Some("here:1")));
    peer.say(FromWorker::Report(proto::Report {
        attempt: Some(proto::Attempt { generation: 7, number: 3 }),
        body: serde_json::to_vec(&Report::Deployed).unwrap().into(),
    }))
    .await;
    let LinkReport::Report(report) = timeout(LIMIT, link.reports.recv()).await.unwrap().unwrap() else { panic!() };
    assert_eq!(report, WorkerReport { attempt: ATTEMPT, report: Report::Deployed });
    for command in [Command::Start, Command::Cancel] {
        link.commands.send(ToLink::Command(WorkerCommand { attempt: ATTEMPT, command })).await.unwrap();
    }
    // The job ends: its links go, then the server.
    drop(link);
    let close = tokio::spawn(scene.server.close(true));
    for expected in [Command::Start, Command::Cancel] {
        let Some(ToWorker::Command(command)) = peer.next().await else { panic!("a command") };
        assert_eq!(serde_json::from_slice::<Command>(&command.body).unwrap(), expected);
    }
    assert!(matches!(peer.next().await, Some(ToWorker::Farewell(_))));
    assert!(peer.next().await.is_none());
    timeout(LIMIT, close).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_coordinator_that_goes_while_the_job_goes_on_says_no_farewell() {
    let mut scene = Scene::new(PACE).await;
    let (mut peer, link) = scene.register().await;
    drop(link);
    let close = tokio::spawn(scene.server.close(false));
    assert!(peer.next().await.is_none());
    timeout(LIMIT, close).await.unwrap().unwrap();
}

#[tokio::test]
async fn another_version_job_settings_and_impossible_offers_are_refused_by_name() {
    let scene = Scene::new(PACE).await;
    let refused = [
        (proto::Register { version: "1.2.4".to_owned(), ..worker() }, Code::FailedPrecondition, &["1.2.3", "1.2.4"]),
        (proto::Register { job: "shop/bills".to_owned(), ..worker() }, Code::NotFound, &["shop/bills", "shop/orders"]),
        (proto::Register { settings: "{}".into(), ..worker() }, Code::Aborted, &["shop/orders", "start it anew"]),
        (proto::Register { slots: 0, ..worker() }, Code::InvalidArgument, &["0 slots", "1 to 1024"]),
        (proto::Register { name: "x".repeat(9_999), ..worker() }, Code::InvalidArgument, &["bytes", "512"]),
    ];
    let count = refused.len() as u64;
    for (register, code, words) in refused {
        let Err(status) = scene.say_first(FromWorker::Register(register)).await else { panic!("taken in") };
        assert_eq!(status.code(), code);
        assert!(words.iter().all(|word| status.message().contains(word)), "{}", status.message());
    }
    assert_eq!(scene.server.refusals.registrations(), count);
    let Err(status) = scene.say_first(FromWorker::Leave(proto::Leave { deadline_ms: 1 })).await else { panic!() };
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(scene.server.refusals.messages(), 1);
}

#[tokio::test]
async fn silence_is_a_loss_and_heartbeats_are_none() {
    let mut scene = Scene::new(SHORT).await;
    let (peer, mut link) = scene.register().await;
    // Longer than silence may be.
    let heard = Some(proto::Heard { generation: 5, age_ms: 40 });
    let mut beat = tokio::time::interval(PACE.heartbeat);
    for _ in 0..150 {
        beat.tick().await;
        peer.say(FromWorker::Heartbeat(proto::Heartbeat { heard })).await;
    }
    let first = timeout(LIMIT, link.reports.recv()).await.unwrap();
    assert!(
        matches!(first, Some(LinkReport::Heard { generation: Generation(5), age_ms: 40 })),
        "what it heard is passed on: {first:?}"
    );
    let reason = lost(&mut link).await;
    assert!(reason.contains("said nothing for 2s"), "{reason}");
}

#[tokio::test]
async fn a_closed_connection_is_a_loss_at_once() {
    let mut scene = Scene::new(PACE).await;
    let (peer, mut link) = scene.register().await;
    drop(peer);
    let reason = lost(&mut link).await;
    assert!(reason.contains("connection"), "{reason}");
}

#[tokio::test]
async fn a_worker_that_takes_nothing_is_lost_by_its_silence_not_waited_for() {
    let mut scene = Scene::new(SHORT).await;
    let (_peer, mut link) = scene.register().await;
    // More than the connection's windows and queues hold; the peer reads none of it.
    let transaction = PreparedTransaction {
        epoch: Epoch(1),
        uid: TransformUid("sink".to_owned()),
        task: 0,
        transactional_id: "x".repeat(4 << 20),
        producer_id: 1,
        producer_epoch: 1,
        topic: "out".to_owned(),
    };
    let graph = Arc::new(JobGraph { version: 1, transforms: Vec::new(), edges: Vec::new(), compiled_from: None });
    let command = Command::AbortTransactions { graph, transactions: vec![transaction] };
    for _ in 0..8 {
        let command = WorkerCommand { attempt: ATTEMPT, command: command.clone() };
        link.commands.send(ToLink::Command(command)).await.unwrap();
    }
    assert!(lost(&mut link).await.contains("said nothing"));
}

#[tokio::test]
async fn leaving_is_told_and_the_release_answered() {
    let mut scene = Scene::new(PACE).await;
    let (mut peer, mut link) = scene.register().await;
    peer.say(FromWorker::Leave(proto::Leave { deadline_ms: 900 })).await;
    let report = timeout(LIMIT, link.reports.recv()).await.unwrap();
    assert!(matches!(report, Some(LinkReport::Leaving { deadline_ms: 900 })), "{report:?}");
    link.commands.send(ToLink::Released).await.unwrap();
    assert!(matches!(peer.next().await, Some(ToWorker::Released(_))));
}

#[tokio::test]
async fn what_cannot_be_read_closes_the_connection_and_is_counted() {
    let attempt = Some(proto::Attempt { generation: 7, number: 3 });
    let bad = [
        FromWorker::Report(proto::Report { attempt, body: "{\"Deployed".into() }),
        FromWorker::Report(proto::Report { attempt: None, body: "\"Deployed\"".into() }),
        FromWorker::Register(worker()),
    ];
    let mut scene = Scene::new(PACE).await;
    for (before, message) in (0..).zip(bad) {
        let (mut peer, mut link) = scene.register().await;
        assert_eq!(scene.server.refusals.messages(), before);
        peer.say(message).await;
        assert!(peer.next().await.is_none());
        let reason = lost(&mut link).await;
        assert!(reason.contains("it sent a report") || reason.contains("second time"), "{reason}");
        assert_eq!(scene.server.refusals.messages(), before + 1);
    }
}

#[tokio::test]
async fn garbage_on_the_port_is_hung_up_on_and_others_are_served() {
    let mut scene = Scene::new(PACE).await;
    for garbage in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[0xff; 4096], &[0; 64]] {
        let mut stream = TcpStream::connect(&scene.address).await.unwrap();
        // It may hang up before all is written.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it hangs up");
    }
    scene.register().await;
}

#[tokio::test]
async fn a_probe_tells_in_which_generation_the_process_rules() {
    let scene = Scene::new(PACE).await;
    assert_eq!(probe(&scene.address, "shop/orders", &Security::plain()).await.unwrap(), None);
    scene.rules.send_replace(Some(Generation(9)));
    assert_eq!(probe(&scene.address, "shop/orders", &Security::plain()).await.unwrap(), Some(Generation(9)));
    let other = probe(&scene.address, "shop/bills", &Security::plain()).await.unwrap_err();
    assert!(matches!(&other, ProbeError::Other { .. }) && other.to_string().contains("shop/orders"), "{other}");
    // One that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung = probe(&silent.local_addr().unwrap().to_string(), "shop/orders", &Security::plain()).await.unwrap_err();
    assert!(matches!(hung, ProbeError::Away { .. }), "{hung}");
    let address = silent.local_addr().unwrap().to_string();
    drop(silent);
    let gone = probe(&address, "shop/orders", &Security::plain()).await.unwrap_err();
    assert!(matches!(&gone, ProbeError::Away { reason, .. } if reason.contains("refused")), "{gone}");
}

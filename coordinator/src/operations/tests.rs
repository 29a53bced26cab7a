//! The operations over a real store, with a job master that the test plays, and over real connections.

use std::time::Duration;

use millstream_api::ids::WorkerId;
use millstream_api::log::StopReason;
use millstream_api::proto::operations::v1::{
    JobState as Shown, OperationState, PrepareRequest, RescaleRequest, StopRequest,
};
use millstream_net::Security;
use millstream_store::LocalStore;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;

use super::client::{CallError, Client};
use super::fixture::{address, facts, manifest};
use super::server::Serving;
use super::*;
use crate::job::{ChangeCost, CheckpointRef, Newest, Outcome, Rescale, RescaleEnd, StopMode, WorkerOffer};

const LIMIT: Duration = Duration::from_secs(30);

/// A coordinator's process, without its job master.
struct Bench {
    operations: Operations,
    status: watch::Sender<Status>,
    wishes: mpsc::Receiver<Wish>,
}

impl Bench {
    /// One that rules in `generation`; `before`: how the term before it ended.
    fn new(folder: &std::path::Path, generation: Option<u64>, before: Option<StopReason>) -> Self {
        let status = Status { state: JobState::Running, generation, before, ..Status::default() };
        let (status, shown) = watch::channel(status);
        let (wishes_in, wishes) = mpsc::channel(1);
        let operations = Operations::start(OperationsConfig {
            facts: facts(),
            store: Arc::new(LocalStore::open(folder).unwrap()),
            savepoints_folder: folder.join("savepoints").to_string_lossy().into_owned(),
            places: Places::default(),
            status: shown,
            board: Board::default(),
            wishes: wishes_in,
            compile: Arc::new(|manifest, _| Err(vec![format!("no compiler for {manifest}")])),
        });
        Self { operations, status, wishes }
    }

    async fn stop(&self, id: &str) -> Result<v1::Operation, Refusal> {
        self.operations.stop(request(id, false)).await
    }

    /// Begins a stop, and returns once the job master was told.
    async fn begin_stop(&mut self, id: &str) -> tokio::task::JoinHandle<Result<v1::Operation, Refusal>> {
        self.begin(request(id, false)).await
    }

    async fn begin(&mut self, request: StopRequest) -> tokio::task::JoinHandle<Result<v1::Operation, Refusal>> {
        let mode = if request.drain { StopMode::Drain } else { StopMode::Suspend };
        let operations = self.operations.clone();
        let asked = tokio::spawn(async move { operations.stop(request).await });
        assert_eq!(self.told().await, Wish::Stop(mode));
        asked
    }

    /// What the job master is told next.
    async fn told(&mut self) -> Wish {
        tokio::time::timeout(LIMIT, self.wishes.recv()).await.unwrap().unwrap()
    }

    fn told_nothing(&mut self) -> bool {
        self.wishes.try_recv().is_err()
    }
}

fn request(id: &str, drain: bool) -> StopRequest {
    StopRequest { operation_id: id.to_owned(), drain, ..StopRequest::default() }
}

fn stopped(epoch: u64) -> Outcome {
    let seq = millstream_api::ids::Seq(9);
    let checkpoint = CheckpointRef { epoch: millstream_api::ids::Epoch(epoch), seq, path: "log/9".to_owned() };
    Outcome::Stopped { checkpoint: Some(checkpoint), incomplete: None }
}

#[tokio::test]
async fn the_same_id_again_answers_the_stored_result_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Bench::new(folder.path(), Some(1), None);
    let asked = first.begin_stop("one").await;
    first.operations.conclude(&stopped(12)).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.state(), answer.epoch), (OperationState::Done, Some(12)));

    let mut next = Bench::new(folder.path(), Some(5), Some(StopReason::Stopped));
    assert_eq!(next.stop("one").await.unwrap(), answer);
    assert!(next.told_nothing());
}

#[tokio::test]
async fn a_stop_whose_coordinator_died_after_the_job_had_stopped_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Bench::new(folder.path(), Some(1), None);
    drop(first.begin_stop("one").await);
    drop(first);
    let mut next = Bench::new(folder.path(), Some(5), Some(StopReason::Stopped));
    let answer = next.stop("one").await.unwrap();
    assert_eq!(answer.state(), OperationState::Done, "{answer:?}");
    assert!(next.told_nothing());
}

fn finished(already: bool) -> Outcome {
    match stopped(7) {
        Outcome::Stopped { checkpoint, .. } => Outcome::Finished { checkpoint, already },
        other => other,
    }
}

#[tokio::test]
async fn a_drain_is_done_when_the_job_has_finished_and_has_failed_when_it_was_only_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), Some(1), None);
    let asked = bench.begin(request("one", true)).await;
    let other = bench.stop("one").await.unwrap_err();
    assert_eq!(other.kind, RefusalKind::IdUsed, "the same id without drain is another operation");
    bench.operations.conclude(&finished(false)).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!((answer.state(), answer.epoch), (OperationState::Done, Some(7)), "{answer:?}");
    assert!(answer.message.starts_with("drained"), "{answer:?}");

    let mut bench = Bench::new(folder.path(), Some(2), None);
    let asked = bench.begin(request("two", true)).await;
    // A stop without drain comes through while it is under way.
    drop(bench.begin_stop("three").await);
    bench.operations.conclude(&stopped(8)).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.state(), OperationState::Failed, "{answer:?}");

    let mut bench = Bench::new(folder.path(), Some(3), None);
    drop(bench.begin(request("four", true)).await);
    let next = Bench::new(folder.path(), Some(9), Some(StopReason::Stopped));
    let answer = next.operations.stop(request("four", true)).await.unwrap();
    assert_eq!(answer.state(), OperationState::Failed, "the log says that it was stopped: {answer:?}");
}

#[tokio::test]
async fn a_run_that_finds_the_job_finished_says_so_of_the_drain_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Bench::new(folder.path(), Some(1), None);
    drop(first.begin(request("one", true)).await);
    drop(first);
    // It does not rule: there is nothing to run.
    let next = Bench::new(folder.path(), None, Some(StopReason::Finished));
    next.operations.conclude(&finished(true)).await;
    let result = next.operations.inner.results.find("one").await.unwrap().unwrap().result.unwrap();
    assert_eq!(result.state(), OperationState::Done, "{result:?}");
}

#[tokio::test]
async fn a_stop_that_was_cut_short_goes_on_when_it_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Bench::new(folder.path(), Some(1), None);
    drop(first.begin_stop("one").await);
    drop(first);
    // The log does not say that the term ended.
    let mut next = Bench::new(folder.path(), Some(5), None);
    assert!(next.told_nothing());
    let asked = next.begin_stop("one").await;
    next.operations.conclude(&stopped(3)).await;
    assert_eq!(asked.await.unwrap().unwrap().epoch, Some(3));
}

#[tokio::test]
async fn a_job_that_fails_while_it_stops_and_one_that_another_took_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let failure = millstream_api::control::Failure {
        kind: millstream_api::control::FailureKind::User,
        message: "no such topic".to_owned(),
    };
    let mut first = Bench::new(folder.path(), Some(1), None);
    let asked = first.begin_stop("one").await;
    first.operations.conclude(&Outcome::Failed { failure, earlier: Vec::new(), checkpoint: None }).await;
    let answer = asked.await.unwrap().unwrap();
    assert_eq!(answer.state(), OperationState::Failed);
    assert!(answer.message.contains("no such topic"), "{answer:?}");

    let mut second = Bench::new(folder.path(), Some(2), None);
    let asked = second.begin_stop("two").await;
    second.operations.conclude(&Outcome::Fenced { by: None }).await;
    assert_eq!(asked.await.unwrap().unwrap_err().kind, RefusalKind::NotRuling);
    // Nothing is recorded: it is the other one's to do.
    assert_eq!(second.operations.inner.results.find("two").await.unwrap().unwrap().result, None);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), None, None);
    let kind = |refusal: Refusal| refusal.kind;
    assert_eq!(bench.stop("../x").await.map_err(kind), Err(RefusalKind::Invalid));
    assert_eq!(bench.stop("one").await.map_err(kind), Err(RefusalKind::Unavailable), "it does not rule yet");
    assert_eq!(bench.operations.status("default/other").await.map_err(kind), Err(RefusalKind::OtherJob));
    let long = PrepareRequest { manifest: "x".repeat(TEXT_BYTES_MAX + 1), ..PrepareRequest::default() };
    assert_eq!(bench.operations.prepare(long).await.map_err(kind), Err(RefusalKind::Invalid));
    let ruler = address(Some("there:1"));
    bench.status.send_modify(|status| {
        status.state = JobState::Fenced;
        status.holder = Some(Arc::new(ruler));
    });
    let refusal = bench.operations.status("").await.unwrap_err();
    assert_eq!((refusal.kind, refusal.coordinator.as_deref()), (RefusalKind::NotRuling, Some("there:1")));
    assert!(bench.told_nothing());

    // An id of another kind of operation.
    let used = results::Accepted { request: serde_json::json!({ "kind": "X" }), accepted_at_ms: 1, generation: 1 };
    bench.operations.inner.results.accept("used", used).await.unwrap();
    assert_eq!(bench.stop("used").await.map_err(kind), Err(RefusalKind::IdUsed));
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_and_readers_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), Some(1), None);
    let mut watchers: Vec<_> = (0..WATCHERS_MAX).map(|_| bench.operations.watch("").unwrap()).collect();
    assert_eq!(bench.operations.watch("").unwrap_err().kind, RefusalKind::Busy);
    let mut slow = watchers.pop().unwrap();
    let mut fast = watchers.pop().unwrap();
    // One is on its way to it from the beginning.
    let on_its_way = async {
        while slow.as_ref().is_empty() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(LIMIT, on_its_way).await.unwrap();
    for attempt in 1..=5 {
        bench.status.send_modify(|status| status.attempt = attempt);
        let seen = async { while fast.next().await.unwrap().attempt < attempt {} };
        tokio::time::timeout(LIMIT, seen).await.unwrap();
    }
    let first = slow.next().await.unwrap();
    let second = tokio::time::timeout(LIMIT, slow.next()).await.unwrap().unwrap();
    assert_eq!((first.attempt, second.attempt), (0, 5));
    drop((watchers, fast, slow));
    let free = async {
        while bench.operations.watch("").is_err() {
            tokio::task::yield_now().await
        }
    };
    tokio::time::timeout(LIMIT, free).await.expect("places are free again");
}

async fn served(bench: &Bench) -> (Serving, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (Serving::operations(listener, bench.operations.clone()), address)
}

#[tokio::test]
async fn a_client_asks_follows_and_stops_over_a_connection() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), Some(1), None);
    let (server, address) = served(&bench).await;
    let mut client = Client::connect(&address, &Security::plain()).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!((status.job.as_str(), status.state()), ("default/job", Shown::Running));
    let mut statuses = client.watch().await.unwrap();
    assert_eq!(statuses.next().await.unwrap().unwrap().state(), Shown::Running);
    bench.status.send_modify(|status| status.state = JobState::Stopping);
    let changed = tokio::time::timeout(LIMIT, statuses.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(changed.state(), Shown::Stopping);
    let refused = client.stop("a b", false).await.unwrap_err();
    assert!(matches!(&refused, CallError::Refused { message } if message.contains("operation id")), "{refused:?}");

    let asked = tokio::spawn(async move { client.stop("one", false).await });
    assert_eq!(bench.told().await, Wish::Stop(StopMode::Suspend));
    bench.operations.conclude(&stopped(4)).await;
    server.close().await;
    assert_eq!(asked.await.unwrap().unwrap().epoch, Some(4));
}

#[tokio::test]
async fn one_that_does_not_rule_names_the_one_that_does() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), None, None);
    let ruler = address(Some("there:1"));
    bench.status.send_modify(|status| {
        status.state = JobState::Fenced;
        status.holder = Some(Arc::new(ruler));
    });
    let (_server, address) = served(&bench).await;
    let mut client = Client::connect(&address, &Security::plain()).await.unwrap();
    let error = client.status().await.unwrap_err();
    assert!(
        matches!(&error, CallError::NotRuling { coordinator: Some(at), .. } if at == "there:1"),
        "{error:?}: {error}"
    );
    let nobody = Client::connect("127.0.0.1:1", &Security::plain()).await.unwrap_err();
    assert!(matches!(nobody, CallError::Unreachable { .. }), "{nobody:?}");
    for wrong in ["here", "here:x", ":1", "a b:1"] {
        assert!(
            matches!(Client::connect(wrong, &Security::plain()).await.unwrap_err(), CallError::Address { .. }),
            "{wrong}"
        );
    }
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_and_garbage_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), Some(1), None);
    let (_server, address) = served(&bench).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap();
    let mut calls = server::calls::operations_client::OperationsClient::new(channel);
    let manifest = "x".repeat(3 * TEXT_BYTES_MAX);
    let refused = calls.prepare(PrepareRequest { manifest, ..PrepareRequest::default() }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused:?}");
    assert_eq!(bench.operations.unread(), 1);

    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff", &[0; 4_096]]
    {
        let mut socket = tokio::net::TcpStream::connect(&address).await.unwrap();
        socket.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // Closed, whether by an end or by a reset.
        let _ = tokio::time::timeout(LIMIT, socket.read_to_end(&mut answer)).await.expect("the connection is closed");
    }
    calls.get_status(v1::GetStatusRequest::default()).await.unwrap();
    let other_job = calls.get_status(v1::GetStatusRequest { job: "default/other".to_owned() }).await.unwrap_err();
    assert_eq!(other_job.code(), tonic::Code::NotFound);
    assert_eq!(bench.operations.unread(), 1, "what was read and refused does not count");
}

#[tokio::test]
async fn a_manifest_that_does_not_compile_is_an_answer_and_not_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::new(folder.path(), Some(1), None);
    let request = PrepareRequest { manifest: "this".to_owned(), ..PrepareRequest::default() };
    let answer = bench.operations.prepare(request).await.unwrap();
    assert!(!answer.accepted);
    assert_eq!(answer.problems[0].message, "no compiler for this");
}

fn rescale_request(id: &str, parallelism: u32) -> RescaleRequest {
    RescaleRequest { operation_id: id.to_owned(), parallelism, ..RescaleRequest::default() }
}

#[tokio::test]
async fn another_parallelism_is_asked_for_once_and_what_became_of_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(folder.path(), Some(1), None);
    let operations = bench.operations.clone();
    let asked = tokio::spawn(async move { operations.rescale(rescale_request("more", 4)).await });
    let rescale = Rescale { id: "more".to_owned(), parallelism: 4 };
    assert_eq!(bench.told().await, Wish::Rescale(rescale.clone()));
    let ended = |rescale: Rescale, end| Arc::new(vec![(rescale, end)]);
    let cost = ChangeCost { switch_ms: 7, switch_bytes: 8, prepare_bytes: 9, ..ChangeCost::default() };
    bench.status.send_modify(|status| {
        status.parallelism = 4;
        let offer = |name: &str| WorkerOffer { slots: 4, shuffle_address: None, name: name.to_owned() };
        status.workers = Arc::new(vec![(WorkerId(0), offer("one")), (WorkerId(1), offer("two"))]);
        status.placement = Arc::new(vec![Some(WorkerId(0)); 4]);
        status.newest = Some(Newest(Arc::new(manifest(3))));
        status.rescale.ended = ended(rescale, RescaleEnd::Done { cost: Some(cost) });
    });
    let done = asked.await.unwrap().unwrap();
    assert_eq!((done.state(), done.kind()), (OperationState::Done, v1::OperationKind::Rescale));
    assert!(done.message.contains("the parallelism is 4") && done.message.contains("7 ms"), "{}", done.message);
    assert!(done.message.contains("; nothing runs on two; warning: ") && done.message.contains("has 1 splits"));
    assert_eq!(bench.operations.rescale(rescale_request("more", 4)).await.unwrap(), done);
    let other = bench.operations.rescale(rescale_request("more", 2)).await.unwrap_err();
    assert!(other.message.contains("was used for another operation"), "{}", other.message);
    assert!(bench.told_nothing());
    let none = bench.operations.rescale(rescale_request("none", 0)).await.unwrap_err();
    assert!(none.message.contains("parallelism is missing"), "{}", none.message);
    // The job ends first.
    let operations = bench.operations.clone();
    let asked = tokio::spawn(async move { operations.rescale(rescale_request("late", 2)).await });
    bench.told().await;
    bench.operations.conclude(&stopped(4)).await;
    let late = asked.await.unwrap().unwrap();
    assert_eq!(late.state(), OperationState::Failed);
    assert!(late.message.contains("ended before"), "{}", late.message);
}

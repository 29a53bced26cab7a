//! Messages of a registered worker that are nearly right.

use bytes::{Buf, BufMut, Bytes};
use millstream_api::control::Report;
use millstream_api::ids::{Epoch, TaskId, VertexId};
use millstream_api::proto::control::v1 as proto;
use millstream_e2e::Random;
use millstream_e2e::fuzz::mutated;
use prost::Message as _;
use proto::from_worker::Message as FromWorker;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status};

use super::tests::{LIMIT, PACE, Scene, said, worker};
use super::*;
use crate::runtime::{LinkReport, WorkerLink};

const ROUNDS: usize = 400;
const SOAK_ROUNDS: usize = 20_000;

/// Messages as bytes, whatever they are.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// One of each kind, as a worker says them.
fn messages() -> Vec<Vec<u8>> {
    let attempt = Some(proto::Attempt { generation: 7, number: 3 });
    let task = TaskId { vertex: VertexId(1), index: 0 };
    let report = |report: Report| {
        let body = serde_json::to_vec(&report).unwrap().into();
        FromWorker::Report(proto::Report { attempt, body })
    };
    let heard = Some(proto::Heard { generation: 7, age_ms: 3 });
    let all = [
        FromWorker::Register(worker()),
        FromWorker::Heartbeat(proto::Heartbeat { heard }),
        FromWorker::Leave(proto::Leave { deadline_ms: 900 }),
        FromWorker::Readings(proto::Readings { body: "[]".into() }),
        report(Report::Deployed),
        report(Report::Committed { task, epoch: Epoch(4) }),
        report(Report::EndOfInput { task }),
    ];
    all.into_iter().map(|message| said(message).encode_to_vec()).collect()
}

/// Registers, says the bytes, and hangs up.
async fn say_raw(scene: &mut Scene, bytes: Vec<u8>) -> WorkerLink {
    let channel = probe::connect(&scene.address, &Security::plain()).await.unwrap();
    let mut calls = tonic::client::Grpc::new(channel);
    calls.ready().await.unwrap();
    let (say, saying) = mpsc::channel(4);
    say.send(Bytes::from(said(FromWorker::Register(worker())).encode_to_vec())).await.unwrap();
    let path = "/millstream.control.v1.Control/Attach".parse().unwrap();
    let call = calls.streaming(Request::new(ReceiverStream::new(saying)), path, Raw);
    let mut heard = timeout(LIMIT, call).await.unwrap().unwrap().into_inner();
    let link = timeout(LIMIT, scene.workers.recv()).await.unwrap().unwrap();
    say.send(Bytes::from(bytes)).await.unwrap();
    drop(say);
    // The call ends, with a word or without.
    while let Ok(Some(_)) = timeout(LIMIT, heard.message()).await.expect("the call ends") {}
    link
}

/// Whatever a worker says: its link ends with a reason, what was refused is counted once, and nobody else notices.
#[tokio::test]
async fn messages_that_are_nearly_right_end_their_connection_and_no_other() {
    let mut random = Random::from_environment("control messages");
    let mut scene = Scene::new(PACE).await;
    let (steady, mut of_steady) = scene.register().await;
    let messages = messages();
    let mut refused = 0;
    for _ in 0..millstream_e2e::rounds(ROUNDS, SOAK_ROUNDS) {
        let at = usize::try_from(random.below(messages.len() as u64)).unwrap();
        let bytes = mutated(&messages[at], &mut random);
        let mut link = say_raw(&mut scene, bytes.clone()).await;
        let reason = loop {
            // What can be read is a message like any other, and comes before the reason.
            let next = timeout(LIMIT, link.reports.recv()).await.unwrap().expect("a reason comes first");
            if let LinkReport::Lost(reason) = next {
                break reason;
            }
        };
        // It is heard all the while.
        steady.say(FromWorker::Heartbeat(proto::Heartbeat { heard: None })).await;
        refused += u64::from(reason != "its connection closed");
        assert_eq!(scene.server.refusals.messages(), refused, "{reason}, after {bytes:02x?}");
    }
    assert!(refused > 0, "some are no messages");
    let attempt = Some(proto::Attempt { generation: 7, number: 3 });
    let body = serde_json::to_vec(&Report::Deployed).unwrap().into();
    steady.say(FromWorker::Report(proto::Report { attempt, body })).await;
    let next = timeout(LIMIT, of_steady.reports.recv()).await.unwrap();
    assert!(matches!(next, Some(LinkReport::Report(_))), "{next:?}");
}

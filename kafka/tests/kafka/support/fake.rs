//! A broker that answers as the test says: what a real one does too rarely to wait for.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A batch as it arrived.
#[derive(Clone, Debug)]
pub struct Arrived {
    pub partition: i32,
    pub bytes: Bytes,
    pub at: Instant,
}

/// What to do about a request with these batches.
pub enum Reply {
    /// An error code for each batch (0: none), and how long the client is to be quiet.
    Codes { codes: Vec<i16>, throttle_ms: i32 },
    /// The connection ends without an answer.
    Cut,
    /// The connection stays, and no answer comes.
    Silence,
}

impl Reply {
    pub fn codes(codes: impl IntoIterator<Item = i16>) -> Self {
        Self::Codes { codes: codes.into_iter().collect(), throttle_ms: 0 }
    }
}

type Script = Arc<Mutex<dyn FnMut(&[Arrived]) -> Reply + Send>>;

/// Listens until the process ends.
pub struct FakeBroker {
    pub address: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Of the nodes, from 1 on.
    ports: Vec<i32>,
    /// The node that leads every partition.
    leader: AtomicI32,
    partitions: i32,
    next_id: AtomicI64,
    script: Script,
}

impl FakeBroker {
    pub fn start(partitions: i32, script: impl FnMut(&[Arrived]) -> Reply + Send + 'static) -> Self {
        Self::start_nodes(1, partitions, script)
    }

    /// As many nodes, of which the first one leads, all with the same script.
    pub fn start_nodes(
        nodes: usize,
        partitions: i32,
        script: impl FnMut(&[Arrived]) -> Reply + Send + 'static,
    ) -> Self {
        let listeners: Vec<_> = (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports = listeners.iter().map(|l| i32::from(l.local_addr().unwrap().port())).collect();
        let address = listeners[0].local_addr().unwrap().to_string();
        let (leader, next_id) = (AtomicI32::new(1), AtomicI64::new(100));
        let shared = Arc::new(Shared { ports, leader, partitions, next_id, script: Arc::new(Mutex::new(script)) });
        for listener in listeners {
            let shared = shared.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let shared = shared.clone();
                    std::thread::spawn(move || serve(stream.unwrap(), &shared));
                }
            });
        }
        Self { address, shared }
    }

    /// From now on this node leads.
    pub fn lead(&self, node: i32) {
        self.shared.leader.store(node, Ordering::Relaxed);
    }
}

/// Until either side ends the connection.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut length = [0u8; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut request = vec![0u8; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).unwrap();
        let Some(answer) = shared.answer(Bytes::from(request)) else { return };
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

impl Shared {
    fn answer(&self, mut request: Bytes) -> Option<Bytes> {
        let key = i16::from_be_bytes([request[0], request[1]]);
        let version = i16::from_be_bytes([request[2], request[3]]);
        match key {
            ApiVersionsRequest::KEY => answered::<ApiVersionsRequest>(&mut request, version, |_| Some(versions())),
            MetadataRequest::KEY => answered::<MetadataRequest>(&mut request, version, |r| Some(self.metadata(r))),
            InitProducerIdRequest::KEY => answered::<InitProducerIdRequest>(&mut request, version, |_| {
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                Some(InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0))
            }),
            ProduceRequest::KEY => answered::<ProduceRequest>(&mut request, version, |r| self.produce(r)),
            other => panic!("request {other}"),
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let broker = |(node, port): (i32, &i32)| {
            let broker = MetadataResponseBroker::default().with_node_id(BrokerId(node)).with_port(*port);
            broker.with_host(StrBytes::from_static_str("127.0.0.1"))
        };
        let node = BrokerId(self.leader.load(Ordering::Relaxed));
        let leader = |p| MetadataResponsePartition::default().with_partition_index(p).with_leader_id(node);
        let name: Option<TopicName> = request.topics.as_ref().and_then(|topics| topics[0].name.clone());
        let topic = MetadataResponseTopic::default()
            .with_name(name)
            .with_partitions((0..self.partitions).map(leader).collect());
        MetadataResponse::default().with_brokers((1..).zip(&self.ports).map(broker).collect()).with_topics(vec![topic])
    }

    fn produce(&self, request: &ProduceRequest) -> Option<ProduceResponse> {
        let topic = &request.topic_data[0];
        let arrived: Vec<_> = topic
            .partition_data
            .iter()
            .map(|p| Arrived { partition: p.index, bytes: p.records.clone().unwrap(), at: Instant::now() })
            .collect();
        let reply = (self.script.lock().unwrap())(&arrived);
        let (codes, throttle_ms) = match reply {
            Reply::Codes { codes, throttle_ms } => (codes, throttle_ms),
            Reply::Cut => return None,
            Reply::Silence => loop {
                std::thread::park();
            },
        };
        let partitions = arrived.iter().zip(codes).map(|(arrived, code)| {
            PartitionProduceResponse::default().with_index(arrived.partition).with_error_code(code)
        });
        let topic = TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(partitions.collect());
        Some(ProduceResponse::default().with_responses(vec![topic]).with_throttle_time_ms(throttle_ms))
    }
}

fn versions() -> ApiVersionsResponse {
    let spoken = [(ProduceRequest::KEY, 3, 12), (MetadataRequest::KEY, 9, 12), (InitProducerIdRequest::KEY, 0, 5)];
    let spoken = spoken.into_iter().chain([(ApiVersionsRequest::KEY, 0, 3)]);
    let version =
        |(key, least, most)| ApiVersion::default().with_api_key(key).with_min_version(least).with_max_version(most);
    ApiVersionsResponse::default().with_api_keys(spoken.map(version).collect())
}

fn answered<R: Request>(
    request: &mut Bytes,
    version: i16,
    answer: impl FnOnce(&R) -> Option<R::Response>,
) -> Option<Bytes> {
    let header = RequestHeader::decode(request, R::header_version(version)).unwrap();
    let response = answer(&R::decode(request, version).unwrap())?;
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
    header.encode(&mut frame, R::Response::header_version(version)).unwrap();
    response.encode(&mut frame, version).unwrap();
    let bytes = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    Some(frame.freeze())
}

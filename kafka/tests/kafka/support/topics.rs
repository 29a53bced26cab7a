//! Makes and deletes topics for tests, over a plain connection and Kafka's own protocol.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// A topic that is deleted with this value.
pub struct TestTopic {
    bootstrap: String,
    pub name: String,
}

impl TestTopic {
    /// A topic with a name of its own.
    pub fn new(bootstrap: &str, test: &str, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let name = format!("{test}-{}", unique());
        create(bootstrap, &name, partitions, settings);
        Self { bootstrap: bootstrap.to_owned(), name }
    }

    /// Deletes the topic and makes it again under the same name.
    pub fn make_again(&self, partitions: i32) {
        delete(&self.bootstrap, &self.name);
        create(&self.bootstrap, &self.name, partitions, &[]);
    }

    #[allow(dead_code, reason = "the worker's scenarios, which share this file, only make them again")]
    pub fn delete(&self) {
        delete(&self.bootstrap, &self.name);
    }

    #[allow(dead_code, reason = "the worker's scenarios, which share this file, add partitions")]
    pub fn grow_to(&self, partitions: i32) {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(&self.name))
            .with_count(partitions)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let response = call(&self.bootstrap, &request, 2);
        assert_eq!(response.results[0].error_code, 0, "grow {}", self.name);
    }

    /// Deletes the records before `offset`, as retention does.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name(&self.name)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let response = call(&self.bootstrap, &request, 2);
        assert_eq!(response.topics[0].partitions[0].error_code, 0, "delete records of {}", self.name);
    }
}

impl Drop for TestTopic {
    fn drop(&mut self) {
        delete(&self.bootstrap, &self.name);
    }
}

/// Text that no other test process uses.
pub fn unique() -> String {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).expect("random numbers");
    random.iter().map(|b| format!("{b:02x}")).collect()
}

fn create(bootstrap: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let configs = settings
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value))));
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(-1)
        .with_configs(configs.collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = call(bootstrap, &request, 5);
    assert_eq!(response.topics[0].error_code, 0, "create {name}: {:?}", response.topics[0].error_message);
}

fn delete(bootstrap: &str, name: &str) {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(name)]).with_timeout_ms(10_000);
    call(bootstrap, &request, 4);
}

fn text(s: &str) -> StrBytes {
    StrBytes::from_string(s.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Asks the first broker.
pub fn call<R: Request>(bootstrap: &str, request: &R, version: i16) -> R::Response {
    let address = bootstrap.split(',').next().expect("a broker");
    let mut stream = TcpStream::connect(address).expect("the broker listens");
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(text("test")));
    header.encode(&mut frame, R::header_version(version)).expect("encodable");
    request.encode(&mut frame, version).expect("encodable");
    let bytes = u32::try_from(frame.len() - 4).expect("short");
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    stream.write_all(&frame).expect("sent");
    let mut length = [0u8; 4];
    stream.read_exact(&mut length).expect("answered");
    let mut answer = vec![0u8; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).expect("answered");
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, R::Response::header_version(version)).expect("a header");
    R::Response::decode(&mut answer, version).expect("an answer")
}

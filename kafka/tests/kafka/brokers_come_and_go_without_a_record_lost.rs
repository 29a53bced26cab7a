use std::collections::BTreeMap;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, BrokerId, ElectLeadersRequest};
use millstream_kafka::{Admin, ClientConfig, Consumer, Deadline, Waker};

use crate::support::topics::{TestTopic, call, topic_name};
use crate::support::{PATIENCE, TestProducer, broker, config, consumer, read_to, variable};

const PARTITIONS: i32 = 3;

/// Which broker leads each partition.
fn leaders(config: &ClientConfig, topic: &str) -> BTreeMap<i32, i32> {
    let mut admin = Admin::new(config.clone()).unwrap();
    admin.topics(&[topic.to_owned()], Deadline::after(PATIENCE)).unwrap()[0].leaders.clone()
}

/// Makes `node` the leader of a partition that all three brokers hold.
fn lead(config: &ClientConfig, topic: &str, partition: i32, node: i32) {
    let mut replicas = vec![node];
    replicas.extend((1..=3).filter(|other| *other != node));
    let replicas = replicas.into_iter().map(BrokerId).collect();
    let moved = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas));
    let moved = ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![moved]);
    let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(10_000).with_topics(vec![moved]);
    assert_eq!(call(&config.bootstrap_servers, &request, 0).error_code, 0);
    let deadline = Deadline::after(PATIENCE);
    while leaders(config, topic)[&partition] != node {
        assert!(!deadline.passed(), "broker {node} does not lead partition {partition}");
        let wanted = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default().with_timeout_ms(10_000).with_topic_partitions(Some(vec![wanted]));
        call(&config.bootstrap_servers, &request, 2);
    }
}

fn write(producer: &mut TestProducer, round: i64) {
    for partition in 0..PARTITIONS {
        let values: Vec<String> = (0..100).map(|i| (round * 100 + i).to_string()).collect();
        let records: Vec<_> = values.iter().map(|v| (None, Some(v.as_str()))).collect();
        producer.send(partition, &records).unwrap();
    }
    producer.flush().unwrap();
}

/// The next hundred records of each partition, each once and in order.
fn read_round(reader: &mut Consumer, woken: &Receiver<()>, round: i64) {
    let read = read_to(reader, woken, &[(round + 1) * 100; PARTITIONS as usize]).unwrap();
    for partition in 0..PARTITIONS as usize {
        let offsets: Vec<i64> = read.iter().filter(|r| r.0 == partition).map(|r| r.1).collect();
        assert_eq!(offsets, (round * 100..(round + 1) * 100).collect::<Vec<_>>(), "partition {partition}");
    }
    assert!(read.iter().all(|r| r.3.as_deref() == Some(r.1.to_string().as_str())));
}

#[test]
fn leaders_move_and_a_broker_is_killed_and_comes_back() {
    let test = "kafka::leaders_move_and_a_broker_is_killed";
    let Some(bootstrap) = variable(test, "MILLSTREAM_TEST_KAFKA3", "kafka3") else { return };
    let Some(control) = variable(test, "MILLSTREAM_TEST_KAFKA3_CONTROL", "kafka3") else { return };
    let control: Vec<String> = serde_json::from_str(&control).unwrap();
    let tell = |action: &str, node: i32| {
        let output = Command::new(&control[0]).args(&control[1..]).args([action, &node.to_string()]).output().unwrap();
        assert!(output.status.success(), "{action} {node}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let config = config(&bootstrap);
    let topic = TestTopic::new(&bootstrap, "moving", PARTITIONS, &[]);
    for partition in 0..PARTITIONS {
        lead(&config, &topic.name, partition, partition + 1);
    }
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    let (mut reader, woken) = consumer(&config, &topic.name, PARTITIONS, true);
    write(&mut producer, 0);
    read_round(&mut reader, &woken, 0);
    // All to one broker, and on to the next: from three threads to one.
    for (round, node) in [(1, 1), (2, 2)] {
        for partition in 0..PARTITIONS {
            lead(&config, &topic.name, partition, node);
        }
        write(&mut producer, round);
        read_round(&mut reader, &woken, round);
    }
    tell("kill", 2);
    write(&mut producer, 3);
    read_round(&mut reader, &woken, 3);
    tell("start", 2);
    lead(&config, &topic.name, 1, 2);
    write(&mut producer, 4);
    read_round(&mut reader, &woken, 4);
}

/// A waker, and whether anybody still has it.
fn watched() -> (Waker, Weak<dyn Fn() + Send + Sync>) {
    let waker: Waker = Arc::new(|| {});
    let watch = Arc::downgrade(&waker);
    (waker, watch)
}

/// A thread that still runs would have the waker.
fn wait_for_the_end(watch: &Weak<dyn Fn() + Send + Sync>) {
    let end = Instant::now() + PATIENCE;
    while watch.upgrade().is_some() {
        assert!(Instant::now() < end, "a thread outlives its consumer");
        std::thread::yield_now();
    }
}

#[test]
fn a_dropped_consumer_ends_its_threads_and_blocks_nobody() {
    let Some(bootstrap) = broker("kafka::a_dropped_consumer_ends_its_threads") else { return };
    let topic = TestTopic::new(&bootstrap, "dropped", 1, &[]);
    let mut config = config(&bootstrap);
    // The broker holds the answer back much longer than the test lasts.
    config.settings.insert("fetch.max.wait.ms".to_owned(), "600000".to_owned());
    let (waker, watch) = watched();
    let mut reader = Consumer::open(&config, waker).unwrap();
    reader.assign(&topic.name, None, 0, 0).unwrap();
    let end = Instant::now() + PATIENCE;
    while reader.backlog(0) != Some(false) {
        reader.poll(1, |_| {}).unwrap();
        assert!(Instant::now() < end, "the end of an empty partition");
        std::thread::yield_now();
    }
    let before = Instant::now();
    drop(reader);
    assert!(before.elapsed() < Duration::from_secs(1));
    wait_for_the_end(&watch);
}

#[test]
fn a_broker_that_never_answers_is_no_error_and_does_not_hold_up_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, connected) = mpsc::channel();
    // Takes the first request and keeps silent.
    let silent = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        accepted.send(()).unwrap();
        let mut request = Vec::new();
        let _ = stream.read_to_end(&mut request);
    });
    let (waker, watch) = watched();
    let mut reader = Consumer::open(&config(&address), waker).unwrap();
    reader.assign("t", None, 0, 0).unwrap();
    connected.recv_timeout(PATIENCE).unwrap();
    let taken = reader.poll(10, |_| panic!("there is nothing")).unwrap();
    assert_eq!((taken.records, taken.drained, reader.backlog(0)), (0, true, None));
    let before = Instant::now();
    drop(reader);
    assert!(before.elapsed() < Duration::from_secs(1));
    wait_for_the_end(&watch);
    silent.join().unwrap();
}

#[test]
fn a_cluster_that_is_away_is_no_error() {
    // Nothing listens on port 1 of this machine.
    let (mut reader, woken) = consumer(&config("127.0.0.1:1"), "t", 1, true);
    let end = Instant::now() + Duration::from_secs(2);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        let _ = woken.recv_timeout(left);
        assert_eq!(reader.poll(10, |_| {}).unwrap().records, 0);
    }
}

#[test]
fn a_cluster_that_hangs_up_at_first_is_asked_again() {
    let Some(bootstrap) = broker("kafka::a_cluster_that_hangs_up_at_first") else { return };
    let topic = TestTopic::new(&bootstrap, "hangs-up", 1, &[]);
    let mut producer = TestProducer::open(&config(&bootstrap), &topic.name, None, 60_000);
    producer.send(0, &[(None, Some("a"))]).unwrap();
    producer.flush().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming().skip(5) {
            let (from, to) = (stream.unwrap(), TcpStream::connect(&bootstrap).unwrap());
            let (mut back_from, mut back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let (mut from, mut to) = (from, to);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    let (mut reader, woken) = consumer(&config(&address), &topic.name, 1, true);
    assert_eq!(read_to(&mut reader, &woken, &[1]).unwrap().len(), 1);
}

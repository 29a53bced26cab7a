//! What needs no broker: the answer's layout against the codec's, and what the plan makes of answers.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction as WireAborted, FetchableTopicResponse, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchResponse, ProducerId, TopicName};
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;

use super::answer::{self, Asked, Part};
use super::options::FetchOptions;
use super::plan::{Link, Next, Partition, Plan};
use crate::admin::TopicId;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::records::AbortedTransaction;
use crate::wire::text;

fn options(pairs: &[(&str, &str)]) -> FetchOptions {
    let settings = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    FetchOptions::new(&ClientConfig { settings, ..ClientConfig::default() }).unwrap()
}

fn id(byte: u8) -> TopicId {
    TopicId::from_answer(&uuid::Uuid::from_bytes([byte; 16])).unwrap()
}

fn asked(index: usize, topic: &str, partition: i32, offset: i64) -> Asked {
    let id = Some(id(topic.as_bytes()[0]));
    Asked { index, topic: topic.into(), id, partition, offset, leader_epoch: 5 }
}

/// An answer as the codec writes it, after its length.
fn encoded(version: i16, topics: &[(&str, Vec<PartitionData>)]) -> Vec<u8> {
    let topics = topics.iter().map(|(topic, partitions)| {
        FetchableTopicResponse::default()
            .with_topic(TopicName(text(topic)))
            .with_topic_id(uuid::Uuid::from_bytes([topic.as_bytes()[0]; 16]))
            .with_partitions(partitions.clone())
    });
    let response = FetchResponse::default().with_responses(topics.collect());
    let mut out = BytesMut::new();
    out.extend_from_slice(&7i32.to_be_bytes());
    if version >= 12 {
        out.extend_from_slice(&[0]);
    }
    response.encode(&mut out, version).unwrap();
    out.to_vec()
}

fn data(partition: i32, records: &'static [u8]) -> PartitionData {
    let aborted = WireAborted::default().with_producer_id(ProducerId(9)).with_first_offset(40);
    PartitionData::default()
        .with_partition_index(partition)
        .with_high_watermark(100)
        .with_last_stable_offset(90)
        .with_aborted_transactions(Some(vec![aborted]))
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(Bytes::from_static(records)))
}

#[test]
fn an_answer_is_taken_apart_as_the_codec_wrote_it_in_each_version() {
    let asked = [asked(0, "a", 0, 5), asked(1, "a", 3, 6), asked(2, "b", 0, 7)];
    let topics = [("a", vec![data(3, b"three"), data(0, b"")]), ("b", vec![data(0, b"zero of b").with_error_code(6)])];
    for version in [11, 12, 13] {
        let answer = encoded(version, &topics);
        let parts = answer::parse(&answer, version, 7, &asked).unwrap();
        let seen: Vec<_> =
            parts.partitions.iter().map(|p| (p.asked, p.error_code, &answer[p.records.clone()])).collect();
        assert_eq!(seen, [(1, 0, &b"three"[..]), (0, 0, &b""[..]), (2, 6, &b"zero of b"[..])], "version {version}");
        let part = &parts.partitions[0];
        assert_eq!((part.high_watermark, part.last_stable_offset, part.preferred_replica), (100, 90, None));
        assert_eq!(part.aborted, [AbortedTransaction { producer_id: 9, first_offset: 40 }]);
        assert!(answer::parse(&answer, version, 8, &asked).is_err(), "the answer to another request");
        assert!(answer::parse(&answer, version, 7, &asked[..2]).is_err(), "a topic that was not asked for");
        for cut in 0..answer.len() {
            assert!(answer::parse(&answer[..cut], version, 7, &asked).is_err(), "version {version}, {cut} bytes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_answer_never_panics(
        version in 11i16..=13,
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let asked = [asked(0, "a", 0, 5), asked(1, "a", 3, 6)];
        let mut answer = encoded(version, &[("a", vec![data(3, b"three"), data(0, b"zero")])]);
        for (at, byte) in flips {
            let at = at.index(answer.len());
            answer[at] = byte;
        }
        if let Ok(parts) = answer::parse(&answer, version, 7, &asked) {
            for part in parts.partitions {
                prop_assert!(part.asked < 2 && part.records.end <= answer.len());
            }
        }
    }
}

/// Two partitions of one broker.
fn plan() -> Plan {
    let mut plan = Plan::default();
    for number in 0..2 {
        let mut partition = Partition::new("a".into(), Some(id(b'a')), number, 10);
        (partition.node, partition.leader, partition.leader_epoch) = (Some(1), Some(1), 5);
        plan.partitions.push(partition);
    }
    plan.brokers = [(1, "one:1".to_owned()), (2, "two:1".to_owned())].into();
    plan.links = [(1, Link::default()), (2, Link::default())].into();
    plan
}

fn part(asked: usize, error_code: i16) -> Part {
    Part {
        asked,
        error_code,
        high_watermark: 10,
        last_stable_offset: 10,
        aborted: Vec::new(),
        preferred_replica: None,
        records: 0..0,
    }
}

fn ask(plan: &mut Plan, node: i32, options: &FetchOptions) -> Option<Vec<Asked>> {
    match plan.next(node, options, Instant::now()) {
        Next::Ask(question) => {
            plan.give_back(node, question.buffer, options);
            Some(question.asked)
        }
        _ => None,
    }
}

#[test]
fn each_partition_comes_first_in_turn_and_two_answers_are_the_bound() {
    let (mut plan, options) = (plan(), options(&[]));
    let firsts: Vec<usize> = (0..4).map(|_| ask(&mut plan, 1, &options).unwrap()[0].index).collect();
    assert!(firsts == [0, 1, 0, 1] || firsts == [1, 0, 1, 0], "{firsts:?}");
    let mut held = Vec::new();
    while let Next::Ask(question) = plan.next(1, &options, Instant::now()) {
        held.push(question.buffer);
    }
    assert_eq!(held.len(), super::plan::ANSWERS_PER_BROKER);
    plan.give_back(1, held.pop().unwrap(), &options);
    assert!(ask(&mut plan, 1, &options).is_some());
}

#[test]
fn an_answer_is_shown_once_and_what_is_stopped_is_not() {
    let (mut plan, options) = (plan(), options(&[]));
    let now = Instant::now();
    let asked = ask(&mut plan, 1, &options).unwrap();
    let take_in = |plan: &mut Plan| plan.take_in(1, &asked, vec![part(0, 0)], &[], &options, now).0.len();
    assert_eq!(take_in(&mut plan), 1, "the end of the log is news");
    assert_eq!(take_in(&mut plan), 0);
    plan.partitions[asked[0].index].over = true;
    assert_eq!(ask(&mut plan, 1, &options).unwrap().len(), 1);
}

#[test]
fn a_leader_that_moved_is_looked_for_and_its_late_answer_does_not_count() {
    let (mut plan, options) = (plan(), options(&[]));
    let now = Instant::now();
    for (code, asks) in [(6, true), (74, true), (75, true), (3, true), (100, true), (-1, true), (1, false), (29, false)]
    {
        let mut plan = self::plan();
        let asked = ask(&mut plan, 1, &options).unwrap();
        let (shares, errors) = plan.take_in(1, &asked, vec![part(0, code)], &[], &options, now);
        assert_eq!((shares.len(), errors.is_empty(), plan.leaders_wanted), (0, asks, asks), "code {code}");
        assert_eq!(ask(&mut plan, 1, &options).unwrap().len(), 1, "code {code}: it rests, or is over");
    }
    let asked = ask(&mut plan, 1, &options).unwrap();
    plan.partitions[asked[0].index].node = Some(2);
    let (shares, _) = plan.take_in(1, &asked, vec![part(0, 0)], &[], &options, now);
    assert!(shares.is_empty());
    assert_eq!(ask(&mut plan, 2, &options).unwrap().len(), 1);
}

#[test]
fn a_replica_nearby_is_read_from_until_it_does_not_have_the_offset() {
    let (mut plan, options) = (plan(), options(&[("client.rack", "a")]));
    let now = Instant::now();
    let asked = ask(&mut plan, 1, &options).unwrap();
    let named = Part { preferred_replica: Some(2), ..part(0, 0) };
    plan.take_in(1, &asked, vec![named], &[], &options, now);
    let from_replica = ask(&mut plan, 2, &options).unwrap();
    assert_eq!(from_replica[0].index, asked[0].index);
    // Out of range there may be in range at the leader.
    let (_, errors) = plan.take_in(2, &from_replica, vec![part(0, 1)], &[], &options, now);
    assert!(errors.is_empty());
    let asked = ask(&mut plan, 1, &options).unwrap();
    assert_eq!(asked.len(), 2);
    let (_, errors) = plan.take_in(1, &asked, vec![part(1, 1)], &[], &options, now);
    assert!(matches!(errors[..], [KafkaError::OffsetOutOfRange { offset: 10, .. }]));
}

#[test]
fn short_memory_bounds_answers_also_those_that_the_user_wants_larger() {
    let asked = |settings: &[(&str, &str)], buffered_bytes_max: Option<usize>| {
        let options = FetchOptions { buffered_bytes_max, ..options(settings) };
        let Next::Ask(question) = plan().next(1, &options, Instant::now()) else { panic!("there is something to ask") };
        question.response_bytes as usize
    };
    let brokers = plan().links.len();
    let share = |of: usize| of / (brokers * super::plan::ANSWERS_PER_BROKER);
    let large = [("fetch.max.bytes", "50000000")];
    assert_eq!(asked(&large, None), 50_000_000);
    assert_eq!(asked(&large, Some(8 << 20)), share(8 << 20));
    assert_eq!(asked(&[], Some(2 << 20)), share(2 << 20).min(asked(&[], None)));
    assert_eq!(asked(&[], Some(1 << 40)), asked(&[], None), "plenty of memory changes nothing");
    assert_eq!(asked(&[("fetch.max.bytes", "1000")], Some(8 << 20)), 1_000);
    assert!(asked(&large, Some(1)) >= 128 << 10, "small answers cost more than they save");
}

#[test]
fn many_brokers_share_the_bound_and_a_huge_buffer_is_not_kept() {
    let (mut plan, options) = (plan(), options(&[]));
    let bytes = |plan: &mut Plan| match plan.next(1, &options, Instant::now()) {
        Next::Ask(question) => {
            plan.give_back(1, question.buffer, &options);
            question.response_bytes as usize
        }
        _ => panic!("there is something to ask"),
    };
    let few = bytes(&mut plan);
    plan.links.extend((3..50).map(|node| (node, Link::default())));
    let many = bytes(&mut plan);
    assert!(few > many && many * 49 * super::plan::ANSWERS_PER_BROKER <= super::plan::BUFFERED_BYTES_MAX, "{many}");
    let Next::Ask(question) = plan.next(1, &options, Instant::now()) else { panic!("there is something to ask") };
    drop(question);
    plan.give_back(1, vec![0; 64 << 20], &options);
    let Next::Ask(question) = plan.next(1, &options, Instant::now()) else { panic!("there is something to ask") };
    assert!(question.buffer.capacity() < 64 << 20);
}

#[test]
fn an_unknown_end_is_asked_for_without_waiting() {
    let (mut plan, options) = (plan(), options(&[]));
    let wait = |plan: &mut Plan| match plan.next(1, &options, Instant::now()) {
        Next::Ask(question) => {
            plan.give_back(1, question.buffer, &options);
            (question.wait, question.asked)
        }
        _ => panic!("there is something to ask"),
    };
    let (waits, asked) = wait(&mut plan);
    assert!(!waits);
    plan.take_in(1, &asked, vec![part(0, 0), part(1, 0)], &[], &options, Instant::now());
    assert!(wait(&mut plan).0);
    let request = answer::request(&asked, &options, 1000, false);
    assert_eq!((request.max_wait_ms, request.topics.len(), request.topics[0].partitions.len()), (0, 1, 2));
    assert_eq!(request.topics[0].partitions[0].current_leader_epoch, 5);
    let waiting = answer::request(&asked, &options, 1000, true);
    assert_eq!(Duration::from_millis(waiting.max_wait_ms as u64), options.max_wait);
}

#[test]
fn no_waker_is_called_twice_for_what_the_slot_has_not_taken() {
    let mut plan = plan();
    let failed = || super::plan::Delivery::Failed(KafkaError::UnknownTopic { topic: "a".to_owned() });
    assert!(plan.deliver(failed()));
    assert!(!plan.deliver(failed()));
    assert_eq!(plan.take_ready().len(), 2);
    assert!(plan.deliver(failed()));
}

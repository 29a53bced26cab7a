use millstream_kafka::{Admin, Deadline, Isolation, OffsetAt, TopicPartition};

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, broker, config, consumer, read_to};

#[test]
fn keys_values_tombstones_and_order_survive() {
    let Some(bootstrap) = broker("kafka::keys_values_tombstones_and_order_survive") else { return };
    let topic = TestTopic::new(&bootstrap, "order", 2, &[]);
    let config = config(&bootstrap);
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    producer.send(0, &[(Some("k"), Some("one")), (None, Some("")), (Some("k"), None)]).unwrap();
    let many: Vec<String> = (0..20_000).map(|i| format!("value-{i}")).collect();
    let many: Vec<_> = many.iter().map(|v| (None, Some(v.as_str()))).collect();
    producer.send(1, &many).unwrap();
    producer.flush().unwrap();

    let (mut consumer, woken) = consumer(&config, &topic.name, 2, true);
    let records = read_to(&mut consumer, &woken, &[3, 20_000]).unwrap();
    let text = |s: &str| Some(s.to_owned());
    let first: Vec<_> = records.iter().filter(|r| r.0 == 0).cloned().collect();
    assert_eq!(first, [(0, 0, text("k"), text("one")), (0, 1, None, text("")), (0, 2, text("k"), None)]);
    let second: Vec<_> = records.iter().filter(|r| r.0 == 1).collect();
    assert!(second.iter().zip(0..).all(|(r, i)| r.1 == i && r.3 == text(&format!("value-{i}"))));
    assert_eq!(second.len(), 20_000);
    assert_eq!(consumer.log_end(1), Some(consumer.position(1)));
}

#[test]
fn a_topic_written_in_transactions_ends_by_position_at_its_last_marker() {
    let Some(bootstrap) = broker("kafka::a_topic_written_in_transactions_ends_by_position") else { return };
    let topic = TestTopic::new(&bootstrap, "marker", 1, &[]);
    let config = config(&bootstrap);
    let id = format!("marker-{}", unique());
    let mut producer = TestProducer::transactional(&config, &topic.name, &id);
    for value in ["a", "b"] {
        producer.send(0, &[(None, Some(value))]).unwrap();
        producer.prepare().unwrap();
        producer.commit().unwrap();
        producer.producer.begin();
        producer.wait_for(|e| *e == millstream_kafka::ProducerEvent::Begun).unwrap();
    }
    // Two records and two markers. EndTxn answers before its markers are written: the last stable offset tells.
    let at = TopicPartition { topic: topic.name.clone(), partition: 0 };
    let mut admin = Admin::new(config.clone()).unwrap();
    let deadline = Deadline::after(PATIENCE);
    loop {
        let end = admin.offsets(std::slice::from_ref(&at), OffsetAt::End, Isolation::ReadCommitted, deadline).unwrap();
        if end[&at] == 4 {
            break;
        }
        assert!(!deadline.passed(), "the last stable offset stays at {end:?}");
        std::thread::yield_now();
    }
    let (mut consumer, woken) = consumer(&config, &topic.name, 1, true);
    let records = read_to(&mut consumer, &woken, &[4]).unwrap();
    assert_eq!(records.iter().map(|r| r.1).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn offsets_by_time_and_of_groups_are_found() {
    let Some(bootstrap) = broker("kafka::offsets_by_time_and_of_groups_are_found") else { return };
    let topic = TestTopic::new(&bootstrap, "offsets", 2, &[]);
    let config = config(&bootstrap);
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    producer.send(0, &[(None, Some("x"))]).unwrap();
    producer.flush().unwrap();
    let at = |partition| TopicPartition { topic: topic.name.clone(), partition };
    let both = [at(0), at(1)];
    let mut admin = Admin::new(config).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let mut offsets = |which| {
        let found = admin.offsets(&both, which, Isolation::ReadUncommitted, deadline).unwrap();
        (found[&at(0)], found[&at(1)])
    };
    assert_eq!(offsets(OffsetAt::Beginning), (0, 0));
    assert_eq!(offsets(OffsetAt::End), (1, 0));
    assert_eq!(offsets(OffsetAt::Timestamp { millis: 0 }), (0, 0));
    // Nothing is that new: the end.
    assert_eq!(offsets(OffsetAt::Timestamp { millis: i64::MAX / 2 }), (1, 0));

    let group = format!("group-{}", unique());
    assert!(admin.group_offsets(&group, &both, deadline).unwrap().is_empty());
    admin.commit_group_offsets(&group, &[(at(0), 1)].into(), deadline).unwrap();
    assert_eq!(admin.group_offsets(&group, &both, deadline).unwrap(), [(at(0), 1)].into());
}

use std::time::Duration;

use millstream_kafka::{Admin, Consumer, Deadline, ErrorKind, KafkaError};

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, broker, config, consumer, read_to, waker};

#[test]
fn a_topic_that_does_not_exist() {
    let Some(bootstrap) = broker("kafka::a_topic_that_does_not_exist") else { return };
    let missing = format!("missing-{}", unique());
    let mut admin = Admin::new(config(&bootstrap)).unwrap();
    let error = admin.topics(std::slice::from_ref(&missing), Deadline::after(PATIENCE)).unwrap_err();
    assert!(matches!(&error, KafkaError::UnknownTopic { topic } if *topic == missing), "{error}");
    // Asking must not have made it.
    let again = admin.topics(&[missing], Deadline::after(PATIENCE));
    assert!(again.is_err());
}

#[test]
fn a_broker_that_does_not_listen() {
    // Nothing listens on port 1 of this machine.
    let mut admin = Admin::new(config("127.0.0.1:1")).unwrap();
    let error = admin.topics(&["t".to_owned()], Deadline::after(Duration::from_millis(300))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn an_offset_that_was_deleted() {
    let Some(bootstrap) = broker("kafka::an_offset_that_was_deleted") else { return };
    let topic = TestTopic::new(&bootstrap, "gone", 1, &[]);
    let config = config(&bootstrap);
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    producer.send(0, &[(None, Some("a")), (None, Some("b"))]).unwrap();
    producer.flush().unwrap();
    topic.delete_before(0, 1);
    let (mut reader, woken) = consumer(&config, &topic.name, 1, false);
    let error = read_to(&mut reader, &woken, &[2]).unwrap_err();
    let KafkaError::OffsetOutOfRange { partition: 0, offset: 0, .. } = error else { panic!("{error}") };
    assert_eq!(error.kind(), ErrorKind::User);
}

#[test]
fn a_topic_that_is_deleted_or_made_again_while_it_is_read() {
    let Some(bootstrap) = broker("kafka::a_topic_that_is_deleted_or_made_again") else { return };
    let config = config(&bootstrap);
    for made_again in [false, true] {
        let topic = TestTopic::new(&bootstrap, "deleted", 1, &[]);
        let mut admin = Admin::new(config.clone()).unwrap();
        let described = admin.topics(std::slice::from_ref(&topic.name), Deadline::after(PATIENCE)).unwrap();
        let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
        producer.send(0, &[(None, Some("a"))]).unwrap();
        producer.flush().unwrap();
        drop(producer);
        let (waker, woken) = waker();
        let mut reader = Consumer::open(&config, waker).unwrap();
        reader.assign(&topic.name, described[0].id, 0, 0).unwrap();
        assert_eq!(read_to(&mut reader, &woken, &[1]).unwrap().len(), 1);
        if made_again {
            topic.make_again(1);
            let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
            producer.send(0, &[(None, Some("b")), (None, Some("c"))]).unwrap();
            producer.flush().unwrap();
        } else {
            topic.delete();
        }
        // By its id the new topic's records are never taken for the old one's.
        let error = read_to(&mut reader, &woken, &[2]).unwrap_err();
        match error {
            KafkaError::TopicMadeAgain { wanted, .. } if made_again => assert_eq!(Some(wanted), described[0].id),
            // For a moment there was no such topic.
            KafkaError::UnknownTopic { .. } => {}
            other => panic!("{other}"),
        }
        assert!(reader.poll(1, |_| {}).is_err(), "an error stays");
    }
}

#[test]
fn a_partition_that_does_not_exist() {
    let Some(bootstrap) = broker("kafka::a_partition_that_does_not_exist") else { return };
    let topic = TestTopic::new(&bootstrap, "one", 1, &[]);
    let (mut reader, woken) = consumer(&config(&bootstrap), &topic.name, 2, false);
    let error = read_to(&mut reader, &woken, &[1, 1]).unwrap_err();
    assert!(matches!(error, KafkaError::UnknownPartition { partition: 1, .. }), "{error}");
}

#[test]
fn a_topic_made_again_has_another_id() {
    let Some(bootstrap) = broker("kafka::a_topic_made_again_has_another_id") else { return };
    let topic = TestTopic::new(&bootstrap, "again", 1, &[]);
    let mut admin = Admin::new(config(&bootstrap)).unwrap();
    let mut id = || admin.topics(std::slice::from_ref(&topic.name), Deadline::after(PATIENCE)).unwrap()[0].id;
    let first = id();
    assert!(first.is_some());
    topic.make_again(1);
    assert_ne!(first, id());
}

use std::time::Duration;

use millstream_kafka::{Admin, Deadline, ErrorKind, KafkaError};

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, broker, config, consumer, read_to};

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

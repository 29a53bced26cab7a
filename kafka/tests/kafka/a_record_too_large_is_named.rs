use millstream_kafka::{ErrorKind, KafkaError};

use crate::support::topics::{TestTopic, unique};
use crate::support::{TestProducer, broker, config};

fn assert_names_it(error: &KafkaError, topic: &str, bytes: usize) {
    assert_eq!(error.kind(), ErrorKind::UserData, "{error}");
    let KafkaError::RecordTooLarge { record_bytes, .. } = error else { panic!("{error}") };
    assert_eq!(*record_bytes, bytes);
    assert!(error.to_string().contains(topic) && error.to_string().contains("max.request.size"), "{error}");
}

#[test]
fn by_the_clients_own_limit() {
    let Some(bootstrap) = broker("kafka::a_record_too_large_by_the_clients_limit") else { return };
    let topic = TestTopic::new(&bootstrap, "large", 1, &[]);
    let mut producer = TestProducer::open(&config(&bootstrap), &topic.name, None, 60_000);
    let large = "x".repeat(2_000_000);
    let error = producer.send(0, &[(None, Some("small")), (None, Some(&large))]).unwrap_err();
    assert_names_it(&error, &topic.name, 2_000_000);
}

#[test]
fn by_the_topics_limit_in_a_transaction() {
    let Some(bootstrap) = broker("kafka::a_record_too_large_by_the_topics_limit") else { return };
    let topic = TestTopic::new(&bootstrap, "large", 1, &[("max.message.bytes", "1000")]);
    let id = format!("large-{}", unique());
    let mut producer = TestProducer::transactional(&config(&bootstrap), &topic.name, &id);
    let large = "x".repeat(5_000);
    producer.send(0, &[(None, Some(&large))]).unwrap();
    let error = producer.prepare().unwrap_err();
    assert_names_it(&error, &topic.name, 5_000);
}

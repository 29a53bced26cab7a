use millstream_kafka::{
    Deadline, Ending, ErrorKind, KafkaError, ProducerEvent, StoredTransaction, TransactionOutcome, TransactionState,
    Transactions,
};

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, broker, config};

#[test]
fn a_producer_whose_id_was_taken_cannot_commit() {
    let Some(bootstrap) = broker("kafka::a_producer_whose_id_was_taken_cannot_commit") else { return };
    let topic = TestTopic::new(&bootstrap, "taken", 1, &[]);
    let config = config(&bootstrap);
    let id = format!("taken-{}", unique());
    let mut producer = TestProducer::transactional(&config, &topic.name, &id);
    producer.send(0, &[(None, Some("lost"))]).unwrap();
    producer.prepare().unwrap();
    Transactions::new(config).unwrap().fence(&id, Deadline::after(PATIENCE)).unwrap();
    let error = producer.commit().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    assert!(error.to_string().contains(&id), "{error}");
}

#[test]
fn a_transaction_that_timed_out_is_neither_committed_nor_passed_over() {
    let Some(bootstrap) = broker("kafka::a_transaction_that_timed_out") else { return };
    let topic = TestTopic::new(&bootstrap, "expired", 1, &[]);
    let config = config(&bootstrap);
    let id = format!("expired-{}", unique());
    let mut producer = TestProducer::open(&config, &topic.name, Some(&id), 1_000);
    producer.wait_for(|e| *e == ProducerEvent::Ready).unwrap();
    producer.send(0, &[(None, Some("late"))]).unwrap();
    let identity = producer.prepare().unwrap();
    let mut transactions = Transactions::new(config).unwrap();
    let deadline = Deadline::after(PATIENCE);
    loop {
        let state = transactions.describe(std::slice::from_ref(&id), deadline).unwrap()[0].state;
        if state == TransactionState::CompleteAbort {
            break;
        }
        assert!(!deadline.passed(), "the broker does not expire it: {state:?}");
        std::thread::yield_now();
    }
    let stored = StoredTransaction { transactional_id: id, identity };
    let outcome = transactions.end(&stored, Ending::Commit, deadline).unwrap();
    assert!(matches!(outcome, TransactionOutcome::Expired { .. }), "{outcome:?}");
    let error = producer.commit().unwrap_err();
    assert!(matches!(error, KafkaError::Fenced { .. }), "{error}");
}

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use millstream_kafka::{
    Deadline, Ending, ProducerIdentity, StoredTransaction, TransactionOutcome, TransactionState, Transactions,
};

use crate::support::topics::{TestTopic, unique};
use crate::support::{PATIENCE, TestProducer, broker, config, consumer, read_to};

const CHILD: &str = "MILLSTREAM_TEST_CHILD";

/// Not a scenario: what the other process of the scenarios below does. It prepares a transaction and waits to be killed.
#[test]
fn child() {
    let Ok(arguments) = std::env::var(CHILD) else { return };
    let [bootstrap, topic, id] = arguments.split(' ').collect::<Vec<_>>()[..] else { panic!("{arguments}") };
    let mut producer = TestProducer::transactional(&config(bootstrap), topic, id);
    producer.send(0, &[(None, Some("from the dead"))]).unwrap();
    let identity = producer.prepare().unwrap();
    println!("\nprepared {} {}", identity.producer_id, identity.producer_epoch);
    loop {
        std::thread::park();
    }
}

/// A transaction whose producer was killed with `kill -9`.
fn killed_after_prepare(bootstrap: &str, topic: &str, id: &str) -> StoredTransaction {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_dead_producers_transaction_can_be_finished::child", "--nocapture"])
        .env(CHILD, format!("{bootstrap} {topic} {id}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let line = output.lines().map_while(Result::ok).find(|l| l.starts_with("prepared ")).expect("it prepares");
    child.kill().unwrap();
    child.wait().unwrap();
    let numbers: Vec<i64> = line.split(' ').skip(1).map(|n| n.parse().unwrap()).collect();
    let identity = ProducerIdentity { producer_id: numbers[0], producer_epoch: numbers[1].try_into().unwrap() };
    StoredTransaction { transactional_id: id.to_owned(), identity }
}

#[test]
fn committing_by_stored_ids_makes_its_records_visible_and_may_be_repeated() {
    let Some(bootstrap) = broker("kafka::committing_by_stored_ids") else { return };
    let topic = TestTopic::new(&bootstrap, "dead", 1, &[]);
    let id = format!("dead-{}", unique());
    let stored = killed_after_prepare(&bootstrap, &topic.name, &id);
    let mut transactions = Transactions::new(config(&bootstrap)).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let describe = |t: &mut Transactions| t.describe(std::slice::from_ref(&id), deadline).unwrap().remove(0);

    let described = describe(&mut transactions);
    assert_eq!((described.state, described.identity), (TransactionState::Ongoing, stored.identity));
    for _ in 0..3 {
        let outcome = transactions.end(&stored, Ending::Commit, deadline).unwrap();
        assert_eq!(outcome, TransactionOutcome::Committed);
    }
    let (mut reader, woken) = consumer(&config(&bootstrap), &topic.name, 1, true);
    let records = read_to(&mut reader, &woken, &[1]).unwrap();
    assert_eq!(records[0].3.as_deref(), Some("from the dead"));

    // An abort comes too late, and says so.
    let outcome = transactions.end(&stored, Ending::Abort, deadline).unwrap();
    assert_eq!(outcome, TransactionOutcome::Committed);
    // Once the id was taken over, its past can no longer be told.
    transactions.fence(&id, deadline).unwrap();
    let outcome = transactions.end(&stored, Ending::Commit, deadline).unwrap();
    assert!(matches!(outcome, TransactionOutcome::Expired { .. }), "{outcome:?}");
}

#[test]
fn fencing_its_id_aborts_it_and_frees_the_readers() {
    let Some(bootstrap) = broker("kafka::fencing_its_id_aborts_it") else { return };
    let topic = TestTopic::new(&bootstrap, "fenced", 1, &[]);
    let id = format!("fenced-{}", unique());
    let stored = killed_after_prepare(&bootstrap, &topic.name, &id);
    let mut transactions = Transactions::new(config(&bootstrap)).unwrap();
    let deadline = Deadline::after(PATIENCE);
    let fresh = transactions.fence(&id, deadline).unwrap();
    assert_ne!(fresh, stored.identity);
    let outcome = transactions.end(&stored, Ending::Commit, deadline).unwrap();
    assert!(matches!(outcome, TransactionOutcome::Expired { .. }), "{outcome:?}");
    assert_eq!(transactions.end(&stored, Ending::Abort, deadline).unwrap(), TransactionOutcome::Aborted);

    // The next transaction's record is the first that a committed reader sees.
    let config = config(&bootstrap);
    let mut producer = TestProducer::transactional(&config, &topic.name, &id);
    producer.send(0, &[(None, Some("from the living"))]).unwrap();
    producer.prepare().unwrap();
    producer.commit().unwrap();
    let (mut reader, woken) = consumer(&config, &topic.name, 1, true);
    // The dead one's record, its abort marker, the new record.
    let records = read_to(&mut reader, &woken, &[3]).unwrap();
    assert_eq!(records.iter().map(|r| r.3.as_deref().unwrap()).collect::<Vec<_>>(), ["from the living"]);
}

#[test]
fn an_id_that_the_broker_never_saw_is_absent() {
    let Some(bootstrap) = broker("kafka::an_id_that_the_broker_never_saw") else { return };
    let id = format!("never-{}", unique());
    let mut transactions = Transactions::new(config(&bootstrap)).unwrap();
    let described = transactions.describe(&[id], Deadline::after(PATIENCE)).unwrap();
    assert_eq!(described[0].state, TransactionState::Absent);
}

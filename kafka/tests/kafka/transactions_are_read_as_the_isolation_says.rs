use std::sync::mpsc::Receiver;
use std::time::Instant;

use millstream_kafka::{Consumer, Deadline, ProducerEvent, finish_aborts};

use crate::support::topics::{TestTopic, unique};
use crate::support::{Owned, PATIENCE, TestProducer, broker, config, consumer, read_to};

fn values(records: &[Owned]) -> Vec<&str> {
    records.iter().filter_map(|r| r.3.as_deref()).collect()
}

/// Polls until `enough`, woken in between.
fn poll_until(reader: &mut Consumer, woken: &Receiver<()>, enough: impl Fn(&Consumer) -> bool) -> usize {
    let deadline = Instant::now() + PATIENCE;
    let mut records = 0;
    loop {
        let taken = reader.poll(100, |_| {}).unwrap();
        records += taken.records;
        if enough(reader) {
            return records;
        }
        if taken.drained {
            woken.recv_timeout(deadline.saturating_duration_since(Instant::now())).expect("woken in time");
        }
    }
}

#[test]
fn committed_aborted_and_open_ones() {
    let Some(bootstrap) = broker("kafka::committed_aborted_and_open_ones") else { return };
    let topic = TestTopic::new(&bootstrap, "txn", 1, &[]);
    let config = config(&bootstrap);
    let transactional = || TestProducer::transactional(&config, &topic.name, &format!("txn-{}", unique()));
    let send = |producer: &mut TestProducer, value: &str| {
        producer.send(0, &[(None, Some(value))]).unwrap();
        producer.prepare().unwrap();
    };
    // Offsets 0 and 1: a committed record and its marker.
    let mut committed = transactional();
    send(&mut committed, "committed");
    committed.commit().unwrap();
    // 2 and 3: an aborted one.
    let mut aborted = transactional();
    send(&mut aborted, "aborted");
    aborted.producer.abort();
    finish_aborts(Deadline::after(PATIENCE).remaining());
    let mut plain = TestProducer::open(&config, &topic.name, None, 60_000);
    plain.send(0, &[(None, Some("plain"))]).unwrap();
    plain.flush().unwrap();
    // 5: an open one, and 6 behind it.
    let mut open = transactional();
    send(&mut open, "open");
    plain.send(0, &[(None, Some("behind"))]).unwrap();
    plain.flush().unwrap();

    let (mut uncommitted_reader, uncommitted_woken) = consumer(&config, &topic.name, 1, false);
    let all = read_to(&mut uncommitted_reader, &uncommitted_woken, &[7]).unwrap();
    assert_eq!(values(&all), ["committed", "aborted", "plain", "open", "behind"]);

    let (mut reader, woken) = consumer(&config, &topic.name, 1, true);
    let read = read_to(&mut reader, &woken, &[5]).unwrap();
    assert_eq!(values(&read), ["committed", "plain"]);
    // Up to the open transaction, behind which nothing is added: quiet.
    assert_eq!(poll_until(&mut reader, &woken, |r| r.backlog(0) == Some(false)), 0);
    assert_eq!((reader.position(0), reader.log_end(0)), (5, Some(7)));
    // What comes behind it waits.
    plain.send(0, &[(None, Some("later"))]).unwrap();
    plain.flush().unwrap();
    assert_eq!(poll_until(&mut reader, &woken, |r| r.backlog(0) == Some(true)), 0);
    assert_eq!(reader.position(0), 5);
    open.commit().unwrap();
    let rest = read_to(&mut reader, &woken, &[9]).unwrap();
    assert_eq!(values(&rest), ["open", "behind", "later"]);
    assert_eq!(reader.backlog(0), Some(false));
    committed.producer.begin();
    committed.wait_for(|e| *e == ProducerEvent::Begun).unwrap();
}

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::records::{Record, RecordBatchDecoder};
use millstream_kafka::{Admin, ClientConfig, Deadline, ErrorKind, RecordBuffer, Sent};

use crate::support::fake::{Arrived, FakeBroker, Reply};
use crate::support::{TestProducer, config};

const OUT_OF_ORDER: i16 = 45;
const DUPLICATE: i16 = 46;

type Log = Arc<Mutex<Vec<Arrived>>>;

fn records(arrived: &Arrived) -> Vec<Record> {
    RecordBatchDecoder::decode(&mut arrived.bytes.clone()).unwrap().records
}

fn impatient(broker: &FakeBroker) -> ClientConfig {
    let mut config = config(&broker.address);
    for name in ["retry.backoff.ms", "retry.backoff.max.ms", "reconnect.backoff.ms", "reconnect.backoff.max.ms"] {
        config.settings.insert(name.to_owned(), "1".to_owned());
    }
    config
}

/// A producer, and what arrives; request number n gets reply n, and "no error" after the last.
fn scripted(replies: Vec<Reply>) -> (TestProducer, Log) {
    let log = Log::default();
    let (arrivals, mut replies) = (log.clone(), replies.into_iter());
    let broker = FakeBroker::start(1, move |arrived| {
        arrivals.lock().unwrap().extend_from_slice(arrived);
        replies.next().unwrap_or_else(|| Reply::codes([0]))
    });
    (TestProducer::open(&impatient(&broker), "t", None, 60_000), log)
}

#[test]
fn a_batch_is_repeated_as_it_was_until_the_broker_has_it() {
    let passing = [6, 5, 3, 7, 19, 20, 13, 56].map(|code| Reply::codes([code]));
    let replies = [Reply::Cut, Reply::Cut].into_iter().chain(passing).chain([Reply::codes([DUPLICATE])]);
    let (mut producer, log) = scripted(replies.collect());
    producer.send(0, &[(None, Some("once"))]).unwrap();
    producer.flush().unwrap();
    producer.send(0, &[(None, Some("next"))]).unwrap();
    producer.flush().unwrap();
    let log = log.lock().unwrap();
    let (repeated, next) = log.split_at(log.len() - 1);
    assert_eq!(repeated.len(), 11);
    assert!(repeated.iter().all(|arrived| arrived.bytes == repeated[0].bytes));
    assert_eq!(records(&next[0])[0].sequence, 1);
}

#[test]
fn a_broker_that_lost_count_gets_a_new_producer_that_counts_from_zero() {
    let (mut producer, log) = scripted(vec![Reply::codes([0]), Reply::codes([OUT_OF_ORDER])]);
    for value in ["a", "b"] {
        producer.send(0, &[(None, Some(value))]).unwrap();
        producer.flush().unwrap();
    }
    let log = log.lock().unwrap();
    let seen: Vec<_> = log.iter().map(|a| (records(a)[0].producer_id, records(a)[0].sequence)).collect();
    assert_eq!(seen, [(100, 0), (100, 1), (101, 0)]);
}

#[test]
fn what_no_repetition_heals_is_an_error() {
    for (code, kind) in
        [(10, ErrorKind::UserData), (29, ErrorKind::Refused), (87, ErrorKind::User), (-1, ErrorKind::Retry)]
    {
        let (mut producer, _log) = scripted(vec![Reply::codes([code])]);
        producer.send(0, &[(None, Some("refused"))]).unwrap();
        let error = producer.flush().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains("'t'"), "{error}");
    }
}

#[test]
fn a_broker_that_asks_for_quiet_gets_it() {
    let (mut producer, log) = scripted(vec![Reply::Codes { codes: vec![0], throttle_ms: 300 }]);
    for value in ["a", "b"] {
        producer.send(0, &[(None, Some(value))]).unwrap();
        producer.flush().unwrap();
    }
    let log = log.lock().unwrap();
    assert!(log[1].at - log[0].at >= Duration::from_millis(300));
}

/// A log that takes a batch only with the next sequence number, as brokers do.
#[derive(Default)]
struct Partition {
    next_sequence: i32,
    /// Where the last batch began.
    last_sequence: Option<i32>,
    values: Vec<String>,
}

impl Partition {
    fn append(&mut self, arrived: &Arrived) -> i16 {
        let records = records(arrived);
        if self.last_sequence == Some(records[0].sequence) {
            return DUPLICATE;
        }
        if records[0].sequence != self.next_sequence {
            return OUT_OF_ORDER;
        }
        self.last_sequence = Some(records[0].sequence);
        self.next_sequence += i32::try_from(records.len()).unwrap();
        self.values.extend(records.iter().map(|r| String::from_utf8(r.value.clone().unwrap().to_vec()).unwrap()));
        0
    }
}

#[test]
fn order_holds_and_nothing_is_lost_or_doubled_whatever_is_cut_or_refused() {
    const PARTITIONS: i32 = 4;
    let seed = std::env::var("MILLSTREAM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(random);
    println!("MILLSTREAM_SEED={seed}");
    let partitions = Arc::new(Mutex::new(BTreeMap::<i32, Partition>::new()));
    let (written, mut state) = (partitions.clone(), seed);
    let broker = FakeBroker::start(PARTITIONS, move |arrived| {
        let mut partitions = written.lock().unwrap();
        let mut append = |arrived: &Arrived| partitions.entry(arrived.partition).or_default().append(arrived);
        match next(&mut state) % 10 {
            0 => Reply::Cut,
            // It has them, and the client does not learn it.
            1 => {
                arrived.iter().for_each(|arrived| {
                    append(arrived);
                });
                Reply::Cut
            }
            2 => Reply::codes(arrived.iter().map(|_| 6)),
            3 => Reply::codes(arrived.iter().map(|a| if next(&mut state).is_multiple_of(2) { append(a) } else { 19 })),
            _ => Reply::codes(arrived.iter().map(append)),
        }
    });
    let mut producer = TestProducer::open(&impatient(&broker), "t", None, 60_000);
    let mut expected = BTreeMap::<i32, Vec<String>>::new();
    let mut state = seed ^ 1;
    for round in 0..200 {
        let partition = (next(&mut state) % 4) as i32;
        let values: Vec<_> = (0..=next(&mut state) % 20).map(|i| format!("{round}-{i}")).collect();
        let records: Vec<_> = values.iter().map(|v| (None, Some(v.as_str()))).collect();
        producer.send(partition, &records).unwrap();
        expected.entry(partition).or_default().extend(values);
    }
    producer.flush().unwrap();
    assert_eq!(producer.producer.unacknowledged(), 0);
    let partitions = partitions.lock().unwrap();
    let written: BTreeMap<_, _> = partitions.iter().map(|(at, p)| (*at, p.values.clone())).collect();
    assert_eq!(written, expected);
}

#[test]
fn a_leader_that_hangs_is_left_when_another_one_leads() {
    let log = Log::default();
    let arrivals = log.clone();
    let (hangs, hung) = std::sync::mpsc::channel();
    let broker = FakeBroker::start_nodes(2, 1, move |arrived| {
        let mut arrivals = arrivals.lock().unwrap();
        arrivals.extend_from_slice(arrived);
        if arrivals.len() > 1 {
            return Reply::codes([0]);
        }
        hangs.send(()).unwrap();
        Reply::Silence
    });
    let mut config = impatient(&broker);
    // The limit of an answer's time alone would end the batch.
    config.settings.insert("delivery.timeout.ms".to_owned(), "20000".to_owned());
    let mut producer = TestProducer::open(&config, "t", None, 60_000);
    producer.send(0, &[(None, Some("once"))]).unwrap();
    hung.recv().unwrap();
    broker.lead(2);
    producer.flush().unwrap();
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].bytes, log[1].bytes);
}

#[test]
fn a_broker_that_hangs_is_asked_last() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let broker = FakeBroker::start(1, |_| Reply::codes([0]));
    let mut config = config(&broker.address);
    config.bootstrap_servers = format!("{},{}", hanging.local_addr().unwrap(), broker.address);
    let mut admin = Admin::new(config).unwrap();
    let mut ask = |patience| admin.topics(&["t".to_owned()], Deadline::after(patience));
    let error = ask(Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Retry, "{error}");
    assert_eq!(ask(Duration::from_secs(60)).unwrap()[0].leaders.len(), 1);
}

#[test]
fn a_batch_grows_while_another_waits_and_memory_has_a_bound() {
    let (_release, released) = std::sync::mpsc::channel::<()>();
    let log = Log::default();
    let arrivals = log.clone();
    let broker = FakeBroker::start(1, move |arrived| {
        arrivals.lock().unwrap().extend_from_slice(arrived);
        // Until the test is over.
        let _ = released.recv();
        Reply::Cut
    });
    let mut config = config(&broker.address);
    config.settings.insert("buffer.memory".to_owned(), "10000".to_owned());
    let mut producer = TestProducer::open(&config, "t", None, 60_000);
    let mut buffer = RecordBuffer::new(1_000);
    let append = |buffer: &mut RecordBuffer, bytes| buffer.append(None, |out| out.resize(out.len() + bytes, b'x'));
    append(&mut buffer, 10);
    assert_eq!(producer.producer.send(0, &mut buffer).unwrap(), Sent::All);
    while log.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    append(&mut buffer, 10);
    assert_eq!(producer.producer.send(0, &mut buffer).unwrap(), Sent::All);
    append(&mut buffer, 10);
    assert_eq!(producer.producer.send(0, &mut buffer).unwrap(), Sent::QueueFull);
    assert_eq!((buffer.pending_records(), producer.producer.unacknowledged()), (1, 2));
    for _ in 0..1_000 {
        append(&mut buffer, 90);
    }
    assert_eq!(producer.producer.send(0, &mut buffer).unwrap(), Sent::QueueFull);
    let taken = 1_003 - buffer.pending_records();
    assert!((90..130).contains(&taken), "{taken}");
}

fn random() -> u64 {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// xorshift64*
fn next(state: &mut u64) -> u64 {
    *state |= 1;
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

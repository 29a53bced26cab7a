use crate::support::topics::TestTopic;
use crate::support::{TestProducer, broker, config, consumer, read_to};

#[test]
fn each_compression_of_another_client() {
    let Some(bootstrap) = broker("kafka::each_compression_of_another_client") else { return };
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let topic = TestTopic::new(&bootstrap, "codecs", 5, &[]);
    let values: Vec<String> = (0..3_000).map(|i| format!("value {i} that repeats itself, itself, itself")).collect();
    let records: Vec<_> = values.iter().map(|v| (Some("key"), Some(v.as_str()))).collect();
    for (partition, codec) in (0..).zip(codecs) {
        let mut config = config(&bootstrap);
        config.settings.insert("compression.type".to_owned(), codec.to_owned());
        let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
        producer.send(partition, &records).unwrap();
        producer.flush().unwrap();
    }
    let (mut reader, woken) = consumer(&config(&bootstrap), &topic.name, 5, true);
    let read = read_to(&mut reader, &woken, &[3_000; 5]).unwrap();
    for (partition, codec) in codecs.iter().enumerate() {
        let own: Vec<_> = read.iter().filter(|r| r.0 == partition).collect();
        assert_eq!(own.len(), values.len(), "{codec}");
        for (record, (offset, value)) in own.into_iter().zip((0..).zip(&values)) {
            assert_eq!((record.1, record.2.as_deref(), record.3.as_ref()), (offset, Some("key"), Some(value)));
        }
    }
}

#[test]
fn a_record_larger_than_an_answer_should_be() {
    let Some(bootstrap) = broker("kafka::a_record_larger_than_an_answer") else { return };
    let topic = TestTopic::new(&bootstrap, "huge", 2, &[("max.message.bytes", "20000000")]);
    let huge = "x".repeat(12_000_000);
    let mut config = config(&bootstrap);
    config.settings.insert("max.request.size".to_owned(), "20000000".to_owned());
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    for partition in 0..2 {
        producer.send(partition, &[(None, Some("before"))]).unwrap();
        producer.flush().unwrap();
        producer.send(partition, &[(None, Some(huge.as_str()))]).unwrap();
        producer.flush().unwrap();
        producer.send(partition, &[(None, Some("after"))]).unwrap();
        producer.flush().unwrap();
    }
    config.settings.clear();
    // Both partitions have one: each must come first in an answer at some time.
    config.settings.insert("fetch.max.bytes".to_owned(), "100000".to_owned());
    let (mut reader, woken) = consumer(&config, &topic.name, 2, false);
    let read = read_to(&mut reader, &woken, &[3, 3]).unwrap();
    for partition in 0..2 {
        let bytes: Vec<usize> =
            read.iter().filter(|r| r.0 == partition).map(|r| r.3.as_ref().map_or(0, String::len)).collect();
        assert_eq!(bytes, [6, 12_000_000, 5]);
    }
}

#[test]
fn a_poll_takes_no_more_than_it_may() {
    let Some(bootstrap) = broker("kafka::a_poll_takes_no_more_than_it_may") else { return };
    let topic = TestTopic::new(&bootstrap, "few", 1, &[]);
    let config = config(&bootstrap);
    let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
    let many = vec![(None, Some("v")); 1_000];
    producer.send(0, &many).unwrap();
    producer.flush().unwrap();
    let (mut reader, woken) = consumer(&config, &topic.name, 1, false);
    let mut offsets = Vec::new();
    while reader.position(0) < 1_000 {
        let before = offsets.len();
        let taken = reader.poll(7, |r| offsets.push(r.offset())).unwrap();
        assert_eq!(taken.records, offsets.len() - before);
        assert!(taken.records <= 7);
        // What was handed out is what the position says, at any place within a batch.
        assert_eq!(reader.position(0), offsets.last().map_or(0, |o| o + 1));
        if taken.drained && reader.position(0) < 1_000 {
            woken.recv_timeout(crate::support::PATIENCE).unwrap();
        }
    }
    assert_eq!(offsets, (0..1_000).collect::<Vec<_>>());
    reader.stop(0);
    producer.send(0, &many).unwrap();
    producer.flush().unwrap();
    assert_eq!(reader.poll(10, |_| panic!("it is stopped")).unwrap().records, 0);
}

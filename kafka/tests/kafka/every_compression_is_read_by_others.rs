use crate::support::topics::TestTopic;
use crate::support::{TestProducer, broker, config, consumer, read_to};

#[test]
fn none_gzip_snappy_lz4_and_zstd() {
    let Some(bootstrap) = broker("kafka::none_gzip_snappy_lz4_and_zstd") else { return };
    let values: Vec<String> = (0..30_000).map(|i| format!("value {i} of many")).collect();
    let records: Vec<_> = values.iter().map(|v| (Some("key"), Some(v.as_str()))).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = TestTopic::new(&bootstrap, codec, 1, &[]);
        let mut config = config(&bootstrap);
        let reader = config.clone();
        config.settings.insert("compression.type".to_owned(), codec.to_owned());
        let mut producer = TestProducer::open(&config, &topic.name, None, 60_000);
        producer.send(0, &records).unwrap();
        producer.flush().unwrap();
        let (mut consumer, woken) = consumer(&reader, &topic.name, 1, false);
        let read = read_to(&mut consumer, &woken, &[30_000]).unwrap();
        let read: Vec<_> = read.iter().map(|r| r.3.as_deref().unwrap()).collect();
        assert_eq!(read, values, "{codec}");
    }
}

//! Fills a topic.

use std::time::Instant;

use clap::Args;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::events::{Bids, EPOCH_MS};
use crate::topics;

#[derive(Debug, Args)]
pub struct FillArguments {
    #[arg(long, default_value = "bids")]
    pub topic: String,
    #[arg(long, default_value_t = 10_000_000)]
    pub events: u64,
    #[arg(long, default_value_t = 4)]
    pub partitions: i32,
    /// Events per second of event time.
    #[arg(long, default_value_t = 10_000)]
    pub event_rate: u64,
}

pub fn fill(bootstrap: &str, arguments: &FillArguments) -> anyhow::Result<()> {
    topics::create(bootstrap, &arguments.topic, arguments.partitions, &[("retention.ms", "-1")])?;
    let producer = producer(bootstrap, 20)?;
    let begin = Instant::now();
    let (mut bids, mut text, mut bytes) = (Bids::new(42), String::new(), 0);
    for number in 0..arguments.events {
        text.clear();
        let event_ms = EPOCH_MS + i64::try_from(number * 1_000 / arguments.event_rate)?;
        bids.append(number, event_ms, 0, &mut text);
        bytes += text.len();
        let partition = i32::try_from(number % u64::try_from(arguments.partitions)?)?;
        send(&producer, &arguments.topic, partition, &text)?;
    }
    producer.flush(topics::TIMEOUT)?;
    let line = serde_json::json!({
        "topic": arguments.topic, "events": arguments.events, "bytes_mean": bytes as f64 / arguments.events as f64,
        "seconds": begin.elapsed().as_secs_f64(),
    });
    println!("{line}");
    Ok(())
}

/// A producer for load: not idempotent, large batches.
pub fn producer(bootstrap: &str, linger_ms: u32) -> anyhow::Result<BaseProducer> {
    Ok(settings(bootstrap, linger_ms).create()?)
}

pub fn settings(bootstrap: &str, linger_ms: u32) -> ClientConfig {
    let mut config = topics::client(bootstrap);
    config
        .set("linger.ms", linger_ms.to_string())
        .set("acks", "1")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "20000")
        .set("queue.buffering.max.messages", "500000");
    config
}

/// Sends, and waits while the producer's queue is full.
pub fn send(producer: &BaseProducer, topic: &str, partition: i32, value: &str) -> anyhow::Result<()> {
    let mut record = BaseRecord::<(), str>::to(topic).partition(partition).payload(value);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((error, unsent)) if error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull) => {
                producer.poll(std::time::Duration::from_millis(5));
                record = unsent;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

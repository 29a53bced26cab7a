//! Kafka by the batch: a consumer and producers on a wire layer of our own.
//!
//! Owns: connections, security, records as borrowed bytes, transactions and their recovery by stored ids. Does not
//! own: formats, epochs, which task reads which partition; it knows nothing of Arrow and of jobs.
//!
//! Records are read by `consumer` and `records`, written by `producer`, over the wire layer (`wire`). `admin` and
//! `transactions` ask what else there is to know or to end: topic ids, offsets, the transaction of a producer that is dead.

mod admin;
mod backoff;
mod batch_layout;
mod compression;
mod config;
mod consumer;
mod error;
mod given;
mod partitioner;
mod producer;
mod record_batch;
mod record_buffer;
mod records;
mod transactions;
mod wire;

pub use admin::{Admin, Isolation, OffsetAt, TopicDescription, TopicId, TopicPartition};
pub use config::{ClientCertificate, ClientConfig, Pem, Sasl, SaslMechanism, Security, Tls};
pub use consumer::{Consumer, Record, Taken};
pub use error::{ErrorKind, KafkaError};
pub use partitioner::partition_of_key;
pub use producer::{Producer, ProducerEvent, ProducerOptions, Sent, Throttle, finish_aborts};
pub use record_buffer::RecordBuffer;
pub use transactions::{
    Ending, ProducerIdentity, StoredTransaction, TransactionDescription, TransactionOutcome, TransactionState,
    Transactions,
};
pub use wire::Deadline;

/// Called from any thread when there is something to poll. It must be cheap and must not call back into the client.
pub type Waker = std::sync::Arc<dyn Fn() + Send + Sync>;

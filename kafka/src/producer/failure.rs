//! What a producer and its I/O thread share: the client, and the first thing that went wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka_sys as ffi;
use rdkafka_sys::rd_kafka_resp_err_t as ErrorCode;

use super::ProducerOptions;
use crate::config::ClientConfig;
use crate::error::KafkaError;
use crate::native::{self, CallError, EventKind, Handle, Queue, Topic};

/// Dropped in this order: queue and topic before the client.
pub(super) struct Shared {
    events: Queue,
    topic: Topic,
    client: Handle,
    topic_name: String,
    transactional_id: Option<String>,
    brokers: String,
    failure: Mutex<Option<KafkaError>>,
    stopping: AtomicBool,
}

impl Shared {
    pub(super) fn new(
        events: Queue,
        topic: Topic,
        client: Handle,
        options: &ProducerOptions,
        config: &ClientConfig,
    ) -> Self {
        Self {
            events,
            topic,
            client,
            topic_name: options.topic.clone(),
            transactional_id: options.transactional_id.clone(),
            brokers: config.bootstrap_servers.clone(),
            failure: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn client(&self) -> *mut ffi::rd_kafka_t {
        self.client.as_ptr()
    }

    pub(super) fn topic(&self) -> *mut ffi::rd_kafka_topic_t {
        self.topic.as_ptr()
    }

    pub(super) fn transactional_id(&self) -> Option<&str> {
        self.transactional_id.as_deref()
    }

    /// The owner is gone: blocking calls end at their next look.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Messages that librdkafka still has.
    pub(super) fn unacknowledged(&self) -> usize {
        // SAFETY: valid client.
        usize::try_from(unsafe { ffi::rd_kafka_outq_len(self.client()) }).unwrap_or(0)
    }

    /// Takes in what librdkafka reports. The first failure stays: what follows it are its consequences.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        while let Some(event) = self.events.event() {
            match event.kind() {
                EventKind::Error { code, reason, fatal } => self.client_event(code, reason, fatal),
                EventKind::Undelivered(failed) => {
                    // A refused batch fails as a whole: the largest record is the one to name.
                    if let Some((code, bytes)) = failed.into_iter().max_by_key(|(_, bytes)| *bytes)
                        && !self.stopping()
                    {
                        self.fail(self.delivery_error(code, bytes));
                    }
                }
                EventKind::Other => {}
            }
        }
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(error) => Err(error.clone()),
        }
    }

    /// Notes a failure; returns the first one.
    pub(super) fn fail(&self, error: KafkaError) -> KafkaError {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error).clone()
    }

    fn client_event(&self, code: ErrorCode, reason: String, fatal: bool) {
        if fatal {
            let (code, reason) = self.fatal_reason().unwrap_or((code, reason));
            self.fail(self.call_error(&CallError { code, reason, retriable: false }, "write"));
            return;
        }
        let error = native::client_error(code, reason, &self.brokers);
        if error.kind() == crate::ErrorKind::User {
            self.fail(error);
        } else {
            tracing::warn!("{error}; trying again");
        }
    }

    /// What lies behind librdkafka's "fatal error".
    fn fatal_reason(&self) -> Option<(ErrorCode, String)> {
        let mut text = [0 as std::ffi::c_char; 512];
        // SAFETY: room for the text.
        let code = unsafe { ffi::rd_kafka_fatal_error(self.client(), text.as_mut_ptr(), text.len()) };
        (code != ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| (code, native::from_c(text.as_ptr())))
    }

    /// The error behind a message that was refused or not delivered.
    pub(super) fn delivery_error(&self, code: ErrorCode, record_bytes: usize) -> KafkaError {
        use ErrorCode as E;
        let topic = self.topic_name.clone();
        let reason = native::code_text(code);
        match code {
            E::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE => KafkaError::RecordTooLarge {
                topic,
                record_bytes,
                reason: format!(
                    "{reason}; raise 'properties.max.request.size' of this table and 'max.message.bytes' of the topic"
                ),
            },
            E::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE => KafkaError::RecordTooLarge {
                topic,
                record_bytes,
                reason: format!("{reason}; raise 'segment.bytes' of the topic or lower 'properties.batch.size'"),
            },
            E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                KafkaError::Authorization { action: format!("write to topic '{topic}'"), reason }
            }
            E::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART | E::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC => {
                // One broker's word, which after its restart is soon another one. Who asks the cluster learns for certain.
                KafkaError::Delivery {
                    topic,
                    reason: format!("{reason}; the cluster is asked whether it still exists"),
                }
            }
            E::RD_KAFKA_RESP_ERR_INVALID_RECORD => KafkaError::Broker {
                action: format!("write to topic '{topic}'"),
                reason: format!("{reason}; a compacted topic (cleanup.policy=compact) takes only records with a key"),
                retriable: false,
            },
            _ if is_fenced(code) => self.fenced(reason),
            _ => KafkaError::Delivery { topic, reason },
        }
    }

    /// The error behind a failed transactional call.
    pub(super) fn call_error(&self, error: &CallError, verb: &str) -> KafkaError {
        use ErrorCode as E;
        let id = self.transactional_id.as_deref().unwrap_or("-");
        match error.code {
            code if is_fenced(code) => self.fenced(error.reason.clone()),
            E::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT => KafkaError::Setting {
                name: "transaction.timeout.ms".to_owned(),
                reason: format!("{}; the brokers' 'transaction.max.timeout.ms' is smaller", error.reason),
            },
            E::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | E::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED => KafkaError::Authorization {
                action: format!("use the transactional id '{id}'"),
                reason: error.reason.clone(),
            },
            E::RD_KAFKA_RESP_ERR__AUTHENTICATION | E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => {
                KafkaError::Broker {
                    action: format!("authenticate with the brokers {}", self.brokers),
                    reason: error.reason.clone(),
                    retriable: true,
                }
            }
            _ => KafkaError::Broker {
                action: format!("{verb} a transaction of '{id}'"),
                reason: error.reason.clone(),
                retriable: true,
            },
        }
    }

    pub(super) fn fenced(&self, reason: String) -> KafkaError {
        let transactional_id = self.transactional_id.clone().unwrap_or_default();
        KafkaError::Fenced { transactional_id, reason }
    }
}

/// Whether the broker has given this producer's epoch or transaction to somebody else, or has aborted it.
fn is_fenced(code: ErrorCode) -> bool {
    use ErrorCode as E;
    matches!(
        code,
        E::RD_KAFKA_RESP_ERR__FENCED
            | E::RD_KAFKA_RESP_ERR_PRODUCER_FENCED
            | E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
            | E::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING
            | E::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE
    )
}

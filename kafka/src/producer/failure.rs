//! What a broker's answer to a batch means, and what the owner is told when it means the end.

use kafka_protocol::ResponseError;

use super::settings::Settings;
use crate::error::KafkaError;
use crate::transactions::gave_up;

/// What to do with a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The broker has it, now or since before.
    Written,
    /// The same again, later.
    Again {
        reason: String,
    },
    /// The broker has lost count of this producer's sequence: from the start, under another producer id.
    Renumber {
        reason: String,
    },
    Failed(KafkaError),
}

/// Judges one answer. `largest_record_bytes`: of the batch.
pub(super) fn judge(settings: &Settings, code: i16, message: Option<&str>, largest_record_bytes: usize) -> Verdict {
    use ResponseError as E;
    if code == 0 {
        return Verdict::Written;
    }
    let topic = settings.topic.clone();
    let Some(error) = ResponseError::try_from_code(code) else {
        return Verdict::Failed(KafkaError::Delivery { topic, reason: format!("unknown error code {code}") });
    };
    let reason = match message {
        Some(message) => format!("{message} ({error:?}, code {code})"),
        None => format!("{error} ({error:?}, code {code})"),
    };
    let too_large = |hint: &str| {
        let reason = format!("{reason}; {hint}");
        Verdict::Failed(KafkaError::RecordTooLarge { topic: topic.clone(), record_bytes: largest_record_bytes, reason })
    };
    match error {
        E::DuplicateSequenceNumber => Verdict::Written,
        _ if settings.transactional() && (gave_up(code) || error == E::TransactionAbortable) => {
            Verdict::Failed(fenced(settings, reason))
        }
        E::OutOfOrderSequenceNumber | E::UnknownProducerId | E::InvalidProducerEpoch | E::InvalidProducerIdMapping
            if settings.idempotent && !settings.transactional() =>
        {
            Verdict::Renumber { reason }
        }
        E::MessageTooLarge => too_large(RAISE_SIZES),
        E::RecordListTooLarge => too_large("raise 'segment.bytes' of the topic or lower 'properties.batch.size'"),
        E::TopicAuthorizationFailed | E::ClusterAuthorizationFailed | E::TransactionalIdAuthorizationFailed => {
            Verdict::Failed(KafkaError::Authorization { action: format!("write to topic '{topic}'"), reason })
        }
        E::InvalidRecord => Verdict::Failed(KafkaError::Broker {
            action: format!("write to topic '{topic}'"),
            reason: format!("{reason}; a compacted topic (cleanup.policy=compact) takes only records with a key"),
            retriable: false,
        }),
        // The markers of the transaction before are still being written.
        E::ConcurrentTransactions => Verdict::Again { reason },
        error if error.is_retriable() => Verdict::Again { reason },
        _ => Verdict::Failed(KafkaError::Delivery { topic, reason }),
    }
}

const RAISE_SIZES: &str = "raise 'properties.max.request.size' of this table and 'max.message.bytes' of the topic";

/// A record that this client's own limit does not let through.
pub(super) fn larger_than_a_request(settings: &Settings, record_bytes: usize) -> KafkaError {
    let reason = format!("a request takes {} bytes at most; {RAISE_SIZES}", settings.max_request_size);
    KafkaError::RecordTooLarge { topic: settings.topic.clone(), record_bytes, reason }
}

pub(super) fn fenced(settings: &Settings, reason: String) -> KafkaError {
    KafkaError::Fenced { transactional_id: settings.transactional_id.clone().unwrap_or_default(), reason }
}

/// A batch that was not acknowledged in time.
pub(super) fn timed_out(settings: &Settings, last: Option<&str>) -> KafkaError {
    let last = last.map(|reason| format!(": {reason}")).unwrap_or_default();
    let seconds = settings.delivery_timeout.as_secs_f64();
    KafkaError::Delivery {
        topic: settings.topic.clone(),
        reason: format!("not acknowledged within {seconds} s (properties.delivery.timeout.ms){last}"),
    }
}

/// One broker's word about a password or a topic is a reason to ask again: after its restart it is soon another one.
/// Who opens the sink anew asks the cluster, and learns for certain.
pub(super) fn one_brokers_word(settings: &Settings, error: KafkaError) -> KafkaError {
    match error {
        KafkaError::Authentication { reason, .. } => KafkaError::Broker {
            action: format!("authenticate with the brokers {}", settings.brokers),
            reason,
            retriable: true,
        },
        KafkaError::UnknownTopic { topic } => KafkaError::Delivery {
            topic,
            reason: "the brokers do not know the topic; the cluster is asked whether it still exists".to_owned(),
        },
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::ClientConfig;
    use crate::error::ErrorKind;
    use crate::producer::settings::testing;

    fn judged(transactional: bool, code: i16) -> Verdict {
        let options = testing::options(transactional);
        judge(&Settings::read(&ClientConfig::default(), &options).unwrap(), code, None, 99)
    }

    #[test]
    fn what_the_broker_has_already_counts_as_written() {
        for transactional in [false, true] {
            assert!(matches!(judged(transactional, 0), Verdict::Written));
            assert!(matches!(judged(transactional, 46), Verdict::Written));
        }
    }

    #[test]
    fn what_passes_is_sent_again() {
        for code in [2, 3, 5, 6, 7, 13, 14, 15, 16, 19, 20, 51, 56] {
            for transactional in [false, true] {
                assert!(matches!(judged(transactional, code), Verdict::Again { .. }), "{code}");
            }
        }
    }

    #[test]
    fn a_lost_sequence_ends_a_transaction_and_renumbers_without_one() {
        for code in [45, 59] {
            assert!(matches!(judged(true, code), Verdict::Failed(e) if e.kind() == ErrorKind::Retry), "{code}");
            assert!(matches!(judged(false, code), Verdict::Renumber { .. }), "{code}");
        }
        for code in [47, 48, 49, 90] {
            assert!(matches!(judged(true, code), Verdict::Failed(KafkaError::Fenced { .. })), "{code}");
        }
    }

    #[test]
    fn a_batch_that_is_too_large_names_its_largest_record() {
        let Verdict::Failed(error) = judged(true, 10) else { panic!("it passes") };
        assert!(matches!(error, KafkaError::RecordTooLarge { record_bytes: 99, .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::UserData);
    }
}

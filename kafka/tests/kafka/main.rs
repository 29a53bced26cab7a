//! The client against a real broker (`cargo xtask services up kafka kafka3 kafka-secure`), one scenario per file.

#![allow(clippy::unwrap_used)]

mod a_dead_producers_transaction_can_be_finished;
mod a_fenced_or_expired_producer_is_told_so;
mod a_record_too_large_is_named;
mod brokers_come_and_go_without_a_record_lost;
mod every_compression_and_size_is_read;
mod every_compression_is_read_by_others;
mod every_kind_of_secured_listener_works;
mod support;
mod transactions_are_read_as_the_isolation_says;
mod what_a_broker_answers_decides_what_is_sent_next;
mod what_is_missing_or_gone_is_named;
mod what_was_written_is_read_in_order;

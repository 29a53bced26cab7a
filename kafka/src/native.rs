//! librdkafka's handles as Rust values: made from settings, freed on drop; its log goes to `tracing`.
//!
//! Owns: what producers use of the C interface. Does not own: what they do with it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use rdkafka_sys as ffi;
use rdkafka_sys::{rd_kafka_conf_res_t as ConfResult, rd_kafka_resp_err_t as ErrorCode};

use crate::Waker;
use crate::error::KafkaError;

/// Room for the texts that librdkafka writes.
const TEXT_BYTES: usize = 512;

/// Syslog levels, as librdkafka uses them. Its "error" is about one connection and it goes on by itself.
const LOG_WARNING: c_int = 4;

/// A client of librdkafka: its threads run as long as this lives. Dropping it waits for them.
pub(crate) struct Handle {
    client: NonNull<ffi::rd_kafka_t>,
}

// SAFETY: librdkafka's handles may be used from any thread, also at once.
unsafe impl Send for Handle {}
unsafe impl Sync for Handle {}

impl Handle {
    /// Starts a producer. Errors and delivery reports come as events on its main queue.
    pub(crate) fn open(settings: &[(String, String)]) -> Result<Self, KafkaError> {
        let conf = Conf::new(settings)?;
        let events = ffi::RD_KAFKA_EVENT_ERROR | ffi::RD_KAFKA_EVENT_DR;
        let mut reason = [0 as c_char; TEXT_BYTES];
        // SAFETY: the configuration is valid; on success the client owns it, on failure it stays ours.
        let client = unsafe {
            ffi::rd_kafka_conf_set_events(conf.0, events);
            ffi::rd_kafka_conf_set_log_cb(conf.0, Some(log));
            ffi::rd_kafka_new(ffi::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf.0, reason.as_mut_ptr(), reason.len())
        };
        let Some(client) = NonNull::new(client) else {
            return Err(KafkaError::Setting { name: "properties.*".to_owned(), reason: from_buffer(&reason) });
        };
        std::mem::forget(conf);
        Ok(Self { client })
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_t {
        self.client.as_ptr()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the last use of the client; queues and topics hold their own references.
        unsafe { ffi::rd_kafka_destroy(self.client.as_ptr()) }
    }
}

/// Settings that no client owns yet.
struct Conf(*mut ffi::rd_kafka_conf_t);

impl Conf {
    fn new(settings: &[(String, String)]) -> Result<Self, KafkaError> {
        // SAFETY: a plain constructor.
        let conf = Self(unsafe { ffi::rd_kafka_conf_new() });
        for (name, value) in settings {
            let mut reason = [0 as c_char; TEXT_BYTES];
            let invalid = |reason: String| KafkaError::Setting { name: name.clone(), reason };
            let c_name = CString::new(name.as_str()).map_err(|e| invalid(e.to_string()))?;
            let c_value = CString::new(value.as_str()).map_err(|e| invalid(e.to_string()))?;
            // SAFETY: all pointers are valid for the call.
            let result = unsafe {
                ffi::rd_kafka_conf_set(conf.0, c_name.as_ptr(), c_value.as_ptr(), reason.as_mut_ptr(), reason.len())
            };
            if result != ConfResult::RD_KAFKA_CONF_OK {
                return Err(invalid(from_buffer(&reason)));
            }
        }
        Ok(conf)
    }
}

impl Drop for Conf {
    fn drop(&mut self) {
        // SAFETY: still ours, see `Handle::open`.
        unsafe { ffi::rd_kafka_conf_destroy(self.0) }
    }
}

/// A topic of a client.
pub(crate) struct Topic(NonNull<ffi::rd_kafka_topic_t>);

// SAFETY: as for `Handle`.
unsafe impl Send for Topic {}
unsafe impl Sync for Topic {}

impl Topic {
    pub(crate) fn open(client: &Handle, name: &str) -> Result<Self, KafkaError> {
        let invalid = |reason: String| KafkaError::Setting { name: "topic".to_owned(), reason };
        let c_name = CString::new(name).map_err(|e| invalid(e.to_string()))?;
        // SAFETY: valid client and name; no topic configuration of its own.
        let topic = unsafe { ffi::rd_kafka_topic_new(client.as_ptr(), c_name.as_ptr(), ptr::null_mut()) };
        NonNull::new(topic).map(Self).ok_or_else(|| invalid(format!("'{name}': {}", code_text(last_error()))))
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_topic_t {
        self.0.as_ptr()
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: ours until here.
        unsafe { ffi::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// A queue of a client, which may wake somebody when it is no longer empty.
pub(crate) struct Queue {
    queue: NonNull<ffi::rd_kafka_queue_t>,
    /// Boxed, so that its address can be given to librdkafka.
    _waker: Box<Waker>,
}

// SAFETY: as for `Handle`.
unsafe impl Send for Queue {}
unsafe impl Sync for Queue {}

impl Queue {
    /// The client's own queue, for its events.
    pub(crate) fn main(client: &Handle, waker: Waker) -> Self {
        // SAFETY: valid client.
        let queue = NonNull::new(unsafe { ffi::rd_kafka_queue_get_main(client.as_ptr()) });
        let queue = queue.expect("librdkafka ends the process when it has no memory");
        let waker = Box::new(waker);
        let opaque = ptr::from_ref::<Waker>(&waker).cast_mut().cast::<c_void>();
        // SAFETY: the box outlives the callback, which is removed on drop.
        unsafe { ffi::rd_kafka_queue_cb_event_enable(queue.as_ptr(), Some(wake), opaque) };
        Self { queue, _waker: waker }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::rd_kafka_queue_t {
        self.queue.as_ptr()
    }

    /// The next event, if there is one now.
    pub(crate) fn event(&self) -> Option<Event> {
        // SAFETY: valid queue.
        NonNull::new(unsafe { ffi::rd_kafka_queue_poll(self.as_ptr(), 0) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: after the first call librdkafka does not touch the waker any more: it changes under the queue's lock.
        unsafe {
            ffi::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            ffi::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

unsafe extern "C" fn wake(_client: *mut ffi::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: set by `Queue::with_waker`, valid as long as the queue.
    let waker = unsafe { &*opaque.cast::<Waker>() };
    waker();
}

/// An event of a client's main queue.
pub(crate) struct Event(NonNull<ffi::rd_kafka_event_t>);

/// What an event says.
pub(crate) enum EventKind {
    /// Something about the client as a whole. `fatal`: it is of no more use.
    Error {
        code: ErrorCode,
        reason: String,
        fatal: bool,
    },
    /// Messages that were not delivered: error and size of each.
    Undelivered(Vec<(ErrorCode, usize)>),
    Other,
}

impl Event {
    pub(crate) fn kind(&self) -> EventKind {
        let event = self.0.as_ptr();
        // SAFETY: the event is valid until dropped; texts and messages are copied out.
        unsafe {
            match ffi::rd_kafka_event_type(event) {
                ffi::RD_KAFKA_EVENT_ERROR => EventKind::Error {
                    code: ffi::rd_kafka_event_error(event),
                    reason: from_c(ffi::rd_kafka_event_error_string(event)),
                    fatal: ffi::rd_kafka_event_error_is_fatal(event) != 0,
                },
                ffi::RD_KAFKA_EVENT_DR => {
                    let mut failed = Vec::new();
                    while let Some(message) = ffi::rd_kafka_event_message_next(event).as_ref() {
                        if message.err != ErrorCode::RD_KAFKA_RESP_ERR_NO_ERROR {
                            failed.push((message.err, message.len + message.key_len));
                        }
                    }
                    EventKind::Undelivered(failed)
                }
                _ => EventKind::Other,
            }
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours until here.
        unsafe { ffi::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// An error object of librdkafka's transactional calls.
#[derive(Debug)]
pub(crate) struct CallError {
    pub(crate) code: ErrorCode,
    pub(crate) reason: String,
    pub(crate) retriable: bool,
}

/// Takes over the result of a call that returns an error object or null.
pub(crate) fn check(error: *mut ffi::rd_kafka_error_t) -> Result<(), CallError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a valid error object that the caller owns.
    unsafe {
        let result = CallError {
            code: ffi::rd_kafka_error_code(error),
            reason: from_c(ffi::rd_kafka_error_string(error)),
            retriable: ffi::rd_kafka_error_is_retriable(error) != 0,
        };
        ffi::rd_kafka_error_destroy(error);
        Err(result)
    }
}

/// Error of this thread's last call that returns -1 or null.
pub(crate) fn last_error() -> ErrorCode {
    // SAFETY: a plain getter.
    unsafe { ffi::rd_kafka_last_error() }
}

/// librdkafka's text for an error code.
pub(crate) fn code_text(code: ErrorCode) -> String {
    // SAFETY: returns a static text for every code.
    from_c(unsafe { ffi::rd_kafka_err2str(code) })
}

/// Copies a C text; null is empty.
pub(crate) fn from_c(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's texts end with a zero.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn from_buffer(buffer: &[c_char; TEXT_BYTES]) -> String {
    from_c(buffer.as_ptr())
}

unsafe extern "C" fn log(_client: *const ffi::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    let (facility, text) = (from_c(facility), from_c(text));
    if level <= LOG_WARNING {
        tracing::warn!(target: "librdkafka", facility, "{text}");
    } else {
        tracing::debug!(target: "librdkafka", facility, "{text}");
    }
}

/// The error behind one of librdkafka's codes that says something about the whole client.
pub(crate) fn client_error(code: ErrorCode, reason: String, brokers: &str) -> KafkaError {
    use ErrorCode as E;
    match code {
        E::RD_KAFKA_RESP_ERR__AUTHENTICATION
        | E::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | E::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | E::RD_KAFKA_RESP_ERR__SSL => KafkaError::Authentication { broker: brokers.to_owned(), reason },
        E::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | E::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | E::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | E::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
            KafkaError::Authorization { action: "use the cluster".to_owned(), reason }
        }
        _ => KafkaError::Unreachable { brokers: brokers.to_owned(), reason },
    }
}

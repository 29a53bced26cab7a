//! The threads on which all producers of this process do their I/O.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::KafkaError;

/// One of them writes several hundred MB/s, a third of that encrypted; slots need the other processors.
const PROCESSORS_PER_THREAD: usize = 4;
const THREADS_MAX: usize = 4;
/// Calls that block (opening a connection, asking a coordinator) wait for one another beyond this.
const BLOCKING_THREADS_MAX: usize = 32;

static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    Builder::new_multi_thread()
        .worker_threads((processors / PROCESSORS_PER_THREAD).clamp(1, THREADS_MAX))
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("kafka-producers")
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
});

/// Where producers run. It lives as long as the process.
pub(super) fn handle() -> Result<&'static Handle, KafkaError> {
    RUNTIME.as_ref().map(Runtime::handle).map_err(|reason| KafkaError::Broker {
        action: "start the producers' threads".to_owned(),
        reason: reason.clone(),
        retriable: true,
    })
}

/// Runs a call that blocks within bounds; what it returns is told to the producer.
pub(super) fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Option<T>> + Send {
    let running = tokio::task::spawn_blocking(call);
    // A call that panicked has told the log so.
    async { running.await.ok() }
}

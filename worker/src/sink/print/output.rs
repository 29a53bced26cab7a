//! Standard output and error of the process, written by one thread.
//!
//! A terminal or a pipe may stall for as long as its reader likes; only this thread waits for it. What draws on the
//! terminal (a live line) or looks at the output (a test) puts its own writer in place with [`redirect`].

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::source::SlotWaker;

/// Messages that wait for the writer: about 2 MiB of text.
const QUEUE_MESSAGES: usize = 32;

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Output,
    Error,
}

static PRINTER: OnceLock<Result<Printer, String>> = OnceLock::new();
/// In place of standard output and standard error.
static REDIRECTED: Mutex<[Option<Box<dyn Write + Send>>; 2]> = Mutex::new([None, None]);

/// Sends what is printed from now on to `writer`; `None`: back to the process's own stream.
pub fn redirect(stream: Stream, writer: Option<Box<dyn Write + Send>>) {
    let mut redirected = REDIRECTED.lock().unwrap_or_else(PoisonError::into_inner);
    redirected[stream as usize] = writer;
}

/// The writer thread's queue.
pub struct Printer {
    queue: Sender<Message>,
    /// Those who found the queue full. None of the messages in it need be theirs, so they are woken when there is room.
    refused: Arc<Mutex<Vec<SlotWaker>>>,
}

/// Text to be written.
pub(super) struct Message {
    pub stream: Stream,
    pub text: Vec<u8>,
    pub flush: bool,
    /// The sender's.
    pub progress: Progress,
    pub waker: SlotWaker,
}

/// How far the writer is with one sink's messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    handled: Arc<AtomicU64>,
    failure: Arc<OnceLock<String>>,
}

impl Progress {
    /// Messages written so far.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Acquire)
    }

    /// Why nothing more can be written.
    pub fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }
}

impl Printer {
    /// The one of this process; its thread starts with the first use.
    pub(super) fn of_process() -> Result<&'static Self, String> {
        let start = || {
            let (queue, messages) = bounded(QUEUE_MESSAGES);
            let refused = Arc::new(Mutex::new(Vec::new()));
            let to_wake = Arc::clone(&refused);
            let thread = std::thread::Builder::new().name("print".to_owned());
            let started = thread.spawn(move || write_all(&messages, &to_wake));
            started.map(|_| Self { queue, refused }).map_err(|e| format!("failed to start the thread that prints: {e}"))
        };
        PRINTER.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// Gives the message back when the queue is full; its waker is called when there is room again.
    pub(super) fn try_send(&self, message: Message) -> Result<(), Message> {
        let refused = |e: TrySendError<Message>| e.into_inner();
        let Err(message) = self.queue.try_send(message).map_err(refused) else { return Ok(()) };
        let mut waiting = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // Once per slot, however often it asks while the terminal stalls.
        if !waiting.iter().any(|waker| Arc::ptr_eq(waker, &message.waker)) {
            waiting.push(message.waker.clone());
        }
        drop(waiting);
        // Once more: the writer may have made room, and looked for whom to wake, in between.
        self.queue.try_send(message).map_err(refused)
    }
}

fn write_all(messages: &Receiver<Message>, refused: &Mutex<Vec<SlotWaker>>) {
    for message in messages {
        // Taking the message made room.
        let to_wake = std::mem::take(&mut *refused.lock().unwrap_or_else(PoisonError::into_inner));
        to_wake.iter().for_each(|waker| waker());
        if let Err(error) = write_one(&message) {
            // The first failure counts; a sink that was told is not told again.
            let _ = message.progress.failure.set(format!("failed to print: {error}"));
        }
        message.progress.handled.fetch_add(1, Ordering::Release);
        (message.waker)();
    }
}

fn write_one(message: &Message) -> io::Result<()> {
    let mut redirected = REDIRECTED.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut own_output, mut own_error);
    let writer: &mut dyn Write = match (&mut redirected[message.stream as usize], message.stream) {
        (Some(writer), _) => writer,
        (None, Stream::Output) => {
            own_output = io::stdout();
            &mut own_output
        }
        (None, Stream::Error) => {
            own_error = io::stderr();
            &mut own_error
        }
    };
    writer.write_all(&message.text)?;
    if message.flush { writer.flush() } else { Ok(()) }
}

//! Standard output and error of the process, written by one thread.
//!
//! A terminal or a pipe may stall for as long as its reader likes; only this thread waits for it. What draws on the
//! terminal (a live line) or looks at the output (a test) puts its own writer in place with [`redirect`].

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
#[derive(Debug)]
pub struct Printer {
    queue: Sender<Message>,
    refused: Arc<Refused>,
}

/// Sinks that found the queue full, to be woken when it no longer is: other sinks may have filled it, and then nothing
/// of their own is on its way that would wake them.
#[derive(Default)]
struct Refused {
    waiting: Mutex<Vec<(Progress, SlotWaker)>>,
}

impl std::fmt::Debug for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refused").finish_non_exhaustive()
    }
}

impl Refused {
    fn add(&self, message: &Message) {
        if !message.progress.waits.swap(true, Ordering::AcqRel) {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((message.progress.clone(), message.waker.clone()));
        }
    }

    fn wake_all(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        for (progress, waker) in waiting {
            progress.waits.store(false, Ordering::Release);
            waker();
        }
    }
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
    /// The sink is among those that wait for room.
    waits: Arc<AtomicBool>,
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
            let refused = Arc::new(Refused::default());
            let waiting = Arc::clone(&refused);
            let thread = std::thread::Builder::new().name("print".to_owned());
            let thread = thread.spawn(move || write_all(&messages, &waiting));
            thread.map(|_| Self { queue, refused }).map_err(|e| format!("failed to start the thread that prints: {e}"))
        };
        PRINTER.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// Gives the message back when the queue is full; its sink is woken when there is room.
    pub(super) fn try_send(&self, message: Message) -> Result<(), Message> {
        self.send(message).or_else(|message| {
            self.refused.add(&message);
            // Once more: the writer may have made room before it could know who waits.
            self.send(message)
        })
    }

    fn send(&self, message: Message) -> Result<(), Message> {
        self.queue.try_send(message).map_err(|e| match e {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })
    }
}

fn write_all(messages: &Receiver<Message>, refused: &Refused) {
    for message in messages {
        refused.wake_all();
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

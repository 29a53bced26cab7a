//! Calls of a process to the store and the broker: asked now, answered by the world when it likes.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::broker::{BrokerError, BrokerReply, BrokerRequest};
use crate::store::{StoreReply, StoreRequest};

/// A process, numbered in order of start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

#[derive(Clone, Debug)]
pub enum Request {
    Store(StoreRequest),
    Broker(BrokerRequest),
}

#[derive(Clone, Debug)]
pub enum Reply {
    Store(StoreReply),
    Broker(BrokerReply),
}

/// A call that the world has not taken up yet.
#[derive(Debug)]
pub struct Asked {
    pub call: u64,
    pub request: Request,
}

#[derive(Debug, Default)]
struct Line {
    next: u64,
    asked: Vec<Asked>,
    answers: BTreeMap<u64, Reply>,
}

/// The line of one process to the outside.
#[derive(Clone, Debug, Default)]
pub struct Client(Arc<Mutex<Line>>);

impl Client {
    fn line(&self) -> std::sync::MutexGuard<'_, Line> {
        self.0.lock().expect("one thread, no panic while held")
    }

    pub fn ask(&self, request: Request) -> Pending {
        let mut line = self.line();
        line.next += 1;
        let call = line.next;
        line.asked.push(Asked { call, request });
        Pending { call, client: self.clone() }
    }

    pub async fn broker(&self, request: BrokerRequest) -> BrokerReply {
        match self.ask(Request::Broker(request)).await {
            Reply::Broker(reply) => reply,
            Reply::Store(_) => Err(BrokerError::Unavailable),
        }
    }

    /// Calls since the last time.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.line().asked)
    }

    pub fn answer(&self, call: u64, reply: Reply) {
        self.line().answers.insert(call, reply);
    }
}

/// A call on its way.
#[derive(Debug)]
pub struct Pending {
    call: u64,
    client: Client,
}

impl Future for Pending {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Reply> {
        // The world polls everything of a process after each answer to it: no waker needed.
        match self.client.line().answers.remove(&self.call) {
            Some(reply) => Poll::Ready(reply),
            None => Poll::Pending,
        }
    }
}

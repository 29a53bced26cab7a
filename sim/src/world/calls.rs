//! Calls of processes to the store and the broker: when they arrive, whether they are answered.

use millstream_api::log::PreparedTransaction;
use millstream_coordinator::job::Millis;
use millstream_store::StoreErrorKind;

use crate::broker::{BrokerError, Identity};
use crate::calls::{ProcessId, Reply, Request};
use crate::clock::true_time;
use crate::network::Party;
use crate::process::Input;
use crate::store::{StoreReply, StoreRequest};

use super::{Fate, Item, World};

/// What was sent into a split arrives within this time of its end, if at all. Less than a producer rests between two
/// transactions: a commit that comes later than that ends a transaction that it is not meant for, and no rule of a client
/// helps against it (KIP-890 is the broker's).
const LATE_AFTER_SPLIT_MS: Millis = 20;

impl World {
    pub(super) fn dispatch(&mut self, process: ProcessId, call: u64, request: Request) -> Result<(), String> {
        let (there, back) = (self.below(4), self.below(4));
        let arrival = self.now + there;
        let answer_at = arrival + back;
        if matches!(request, Request::Broker(_)) && self.processes.get(&process).is_none_or(|p| p.worker.is_none()) {
            return Err(format!("{process:?}, a coordinator, asks the broker: {request:?}"));
        }
        let (own, service) = (Party::Process(process), service_of(&request));
        if let Some(until) = self.network.lost_until(self.now, own, service) {
            self.at(answer_at, answer(process, call, no_answer(&request)));
            if self.below(4) == 0 {
                self.coverage.hit("request carried out after a split");
                let late = until + self.below(LATE_AFTER_SPLIT_MS);
                self.at(late, Item::Execute { process, call, request, fate: Fate::Unheard });
            } else {
                self.coverage.hit("request lost by a split");
            }
            return Ok(());
        }
        if self.network.lost_until(self.now, service, own).is_some() {
            self.coverage.hit("request carried out, answer lost by a split");
            self.at(answer_at, answer(process, call, no_answer(&request)));
            self.at(arrival, Item::Execute { process, call, request, fate: Fate::Unheard });
            return Ok(());
        }
        if let Some(reply) = self.refusal(&request) {
            self.at(answer_at, answer(process, call, reply));
            return Ok(());
        }
        if is_put(&request) && self.rolls(self.plan.unknown_rate) {
            self.lose_put(process, call, request, answer_at);
            return Ok(());
        }
        let slow = if self.rolls(self.plan.late_rate) { self.below(300) } else { 0 };
        if self.rolls(self.plan.twice_rate) {
            self.coverage.hit("request carried out twice");
            let request = request.clone();
            self.at(arrival, Item::Execute { process, call, request, fate: Fate::Unheard });
        }
        self.at(arrival + slow, Item::Execute { process, call, request, fate: Fate::Normal });
        Ok(())
    }

    fn lose_put(&mut self, process: ProcessId, call: u64, request: Request, answer_at: Millis) {
        self.at(answer_at, answer(process, call, no_answer(&request)));
        match self.below(3) {
            0 => self.coverage.hit("put lost"),
            1 => {
                self.coverage.hit("put carried out, answer lost");
                self.at(self.now, Item::Execute { process, call, request, fate: Fate::Unheard });
            }
            _ => {
                self.coverage.hit("put carried out late");
                let late = answer_at + self.below(300);
                self.at(late, Item::Execute { process, call, request, fate: Fate::Unheard });
            }
        }
    }

    /// The answer of a service that is away.
    fn refusal(&mut self, request: &Request) -> Option<Reply> {
        let away = match request {
            Request::Store(StoreRequest::Put { .. }) if self.now < self.uploads_fail_until => true,
            Request::Store(_) => self.now < self.store_away_until || self.rolls(self.plan.unavailable_rate),
            Request::Broker(_) => self.now < self.broker.away_until || self.rolls(self.plan.unavailable_rate),
        };
        away.then(|| match request {
            Request::Store(_) => Reply::Store(StoreReply::Failed(StoreErrorKind::Unavailable)),
            Request::Broker(_) => Reply::Broker(Err(BrokerError::Unavailable)),
        })
    }

    pub(super) fn execute(
        &mut self,
        process: ProcessId,
        call: u64,
        request: &Request,
        fate: Fate,
    ) -> Result<(), String> {
        let reply = match request {
            Request::Store(request) => {
                Reply::Store(self.objects.execute(true_time(self.now), request, self.rules.put_if_absent)?)
            }
            Request::Broker(request) => {
                let (reply, visible) = self.broker.execute(self.now, request);
                if let Some(visible) = visible {
                    self.check_permit(&visible.who)?;
                }
                Reply::Broker(reply)
            }
        };
        if !self.processes.contains_key(&process) {
            self.coverage.hit("request of a dead process arrived");
        }
        if fate == Fate::Normal {
            // The answer may be lost as well; the caller is told that nobody is there.
            let lost = matches!(reply, Reply::Broker(_)) && self.rolls(self.plan.unknown_rate);
            if lost {
                self.coverage.hit("broker's answer lost");
            }
            let reply = if lost { Reply::Broker(Err(BrokerError::Unavailable)) } else { reply };
            let back = self.now + self.below(4);
            self.at(back, Item::Input { process, input: Input::Answer { call, reply } });
        }
        Ok(())
    }
}

fn service_of(request: &Request) -> Party {
    match request {
        Request::Store(_) => Party::Store,
        Request::Broker(_) => Party::Broker,
    }
}

fn is_put(request: &Request) -> bool {
    matches!(request, Request::Store(StoreRequest::Put { .. } | StoreRequest::PutIfAbsent { .. }))
}

/// What a client makes of silence: a put may have been carried out, for all that it knows.
fn no_answer(request: &Request) -> Reply {
    match request {
        Request::Store(_) if is_put(request) => Reply::Store(StoreReply::Failed(StoreErrorKind::Unknown)),
        Request::Store(_) => Reply::Store(StoreReply::Failed(StoreErrorKind::Unavailable)),
        Request::Broker(_) => Reply::Broker(Err(BrokerError::Unavailable)),
    }
}

fn answer(process: ProcessId, call: u64, reply: Reply) -> Item {
    Item::Input { process, input: Input::Answer { call, reply } }
}

pub(super) fn is_of(transaction: &PreparedTransaction, who: &Identity) -> bool {
    identity(transaction) == *who
}

pub(super) fn identity(transaction: &PreparedTransaction) -> Identity {
    Identity {
        id: transaction.transactional_id.clone(),
        producer_id: transaction.producer_id,
        producer_epoch: transaction.producer_epoch,
    }
}

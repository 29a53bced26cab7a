//! Calls of processes to the store and the broker: when they arrive, whether they are answered.

use millstream_api::log::PreparedTransaction;
use millstream_store::StoreErrorKind;

use crate::broker::{BrokerError, Identity};
use crate::calls::{ProcessId, Reply, Request};
use crate::network::Party;
use crate::process::Input;
use crate::store::{StoreReply, StoreRequest};

use super::{Fate, Item, World};

impl World {
    pub(super) fn dispatch(&mut self, process: ProcessId, call: u64, request: Request) {
        let (there, back) = (self.below(4), self.below(4));
        let arrival = self.now + there;
        let answer_at = arrival + back;
        let is_put = matches!(request, Request::Store(StoreRequest::Put { .. } | StoreRequest::PutIfAbsent { .. }));
        if let Some(reply) = self.refusal(process, &request) {
            return self.at(answer_at, Item::Input { process, input: Input::Answer { call, reply } });
        }
        if is_put && self.rolls(self.plan.unknown_rate) {
            let reply = Reply::Store(StoreReply::Failed(StoreErrorKind::Unknown));
            self.at(answer_at, Item::Input { process, input: Input::Answer { call, reply } });
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
            return;
        }
        let slow = if self.rolls(self.plan.late_rate) { self.below(300) } else { 0 };
        self.at(arrival + slow, Item::Execute { process, call, request, fate: Fate::Normal });
    }

    /// The answer of a service that is away.
    fn refusal(&mut self, process: ProcessId, request: &Request) -> Option<Reply> {
        let service = match request {
            Request::Store(_) => Party::Store,
            Request::Broker(_) => Party::Broker,
        };
        let split = self.network.is_split(self.now, Party::Process(process), service);
        let store = Some(Reply::Store(StoreReply::Failed(StoreErrorKind::Unavailable)));
        match request {
            // The request may have gone out, for all that the caller knows.
            Request::Store(StoreRequest::Put { .. } | StoreRequest::PutIfAbsent { .. }) if split => {
                Some(Reply::Store(StoreReply::Failed(StoreErrorKind::Unknown)))
            }
            Request::Store(StoreRequest::Put { .. }) if self.now < self.uploads_fail_until => store,
            Request::Store(_)
                if split || self.now < self.store_away_until || self.rolls(self.plan.unavailable_rate) =>
            {
                store
            }
            Request::Broker(_)
                if split || self.now < self.broker.away_until || self.rolls(self.plan.unavailable_rate) =>
            {
                Some(Reply::Broker(Err(BrokerError::Unavailable)))
            }
            _ => None,
        }
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
                Reply::Store(self.objects.execute(self.now, request, self.rules.put_if_absent)?)
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

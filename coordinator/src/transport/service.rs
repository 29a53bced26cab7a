//! The calls: who is taken in, and who is not.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_api::ids::Generation;
use millstream_api::proto::control::v1 as proto;
use proto::from_worker::Message as FromWorker;
use proto::to_worker::Message as ToWorker;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::calls::control_server::Control;
use super::conversation::{COMMANDS_MAX, Conversation, MESSAGES_MAX, message};
use super::{Ending, Pace, Refusals, TransportConfig};
use crate::job::WorkerOffer;
use crate::operations::Readings;
use crate::runtime::WorkerLink;

/// For the first message of a worker.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// More slots in one process are a mistake.
const SLOTS_MAX: u32 = 1_024;
/// Longest name and address that a worker may give: host names have 253 bytes at most.
const TEXT_BYTES_MAX: usize = 512;

pub(super) struct ControlService {
    job: String,
    version: String,
    settings: Bytes,
    pace: Pace,
    rules: watch::Receiver<Option<Generation>>,
    workers: mpsc::Sender<WorkerLink>,
    endings: watch::Receiver<Option<Ending>>,
    refusals: Arc<Refusals>,
}

impl ControlService {
    pub(super) fn new(
        config: TransportConfig,
        rules: watch::Receiver<Option<Generation>>,
        workers: mpsc::Sender<WorkerLink>,
        endings: watch::Receiver<Option<Ending>>,
        refusals: Arc<Refusals>,
    ) -> Self {
        let TransportConfig { settings, version, pace } = config;
        let job = format!("{}/{}", settings.namespace, settings.name);
        let settings = serde_json::to_vec(&settings).expect("settings are plain data").into();
        Self { job, version, settings, pace, rules, workers, endings, refusals }
    }

    /// What the worker brings, if it belongs here.
    fn check(&self, register: proto::Register) -> Result<WorkerOffer, Status> {
        let (own, job) = (&self.version, &self.job);
        let proto::Register { version, job: wanted, slots, shuffle_address, name, settings } = register;
        if version != *own {
            return Err(Status::failed_precondition(format!(
                "worker {name} is version {version}, the coordinator of job {job} is version {own}: they change together, by a \
                 stop"
            )));
        }
        if !wanted.is_empty() && wanted != *job {
            return Err(Status::not_found(format!(
                "worker {name} is for job {wanted}, and this is the coordinator of {job}"
            )));
        }
        if !settings.is_empty() && settings != self.settings {
            return Err(Status::aborted(format!(
                "worker {name} works by other settings of job {job} than these (storage, state, checkpoints or shuffle in the \
                 manifest have changed): start it anew"
            )));
        }
        if slots == 0 || slots > SLOTS_MAX {
            return Err(Status::invalid_argument(format!(
                "worker {name} offers {slots} slots: 1 to {SLOTS_MAX} are possible"
            )));
        }
        if name.len() > TEXT_BYTES_MAX || shuffle_address.len() > TEXT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a name or address has more than {TEXT_BYTES_MAX} bytes")));
        }
        let shuffle_address = Some(shuffle_address).filter(|address| !address.is_empty());
        Ok(WorkerOffer { slots, shuffle_address, name })
    }

    async fn registration(&self, said: &mut Streaming<proto::FromWorker>) -> Result<WorkerOffer, Status> {
        let first = timeout(REGISTER_TIMEOUT, said.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("nothing was said"))?;
        let first = first.inspect_err(|status| self.refusals.count_unreadable(status))?;
        let Some(FromWorker::Register(register)) = first.and_then(|m| m.message) else {
            self.refusals.count_message();
            return Err(Status::invalid_argument("the first message must be Register"));
        };
        self.check(register).inspect_err(|status| {
            self.refusals.count_registration();
            tracing::warn!("refused a worker: {}", status.message());
        })
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    type AttachStream = ReceiverStream<Result<proto::ToWorker, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<proto::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let mut said = request.into_inner();
        let offer = self.registration(&mut said).await?;
        let (commands_in, commands) = mpsc::channel(COMMANDS_MAX);
        let (reports_in, reports) = mpsc::channel(MESSAGES_MAX);
        let (say, saying) = mpsc::channel(MESSAGES_MAX);
        let generation = self.rules.borrow().map(|generation| generation.0);
        let registered = proto::Registered { settings: self.settings.clone(), generation };
        // The channel is new and has room.
        let _ = say.send(Ok(message(ToWorker::Registered(registered)))).await;
        let (readings_in, readings) = watch::channel(Readings::default());
        let link = WorkerLink { offer, commands: commands_in, reports, readings };
        self.workers.send(link).await.map_err(|_| Status::unavailable("the job is over"))?;
        let conversation = Conversation {
            said,
            say,
            commands,
            reports: reports_in,
            readings: readings_in,
            pace: self.pace,
            rules: self.rules.clone(),
            endings: self.endings.clone(),
            refusals: Arc::clone(&self.refusals),
        };
        tokio::spawn(conversation.run());
        Ok(Response::new(ReceiverStream::new(saying)))
    }

    async fn probe(&self, request: Request<proto::ProbeRequest>) -> Result<Response<proto::ProbeAnswer>, Status> {
        let wanted = request.into_inner().job;
        if wanted != self.job {
            self.refusals.count_registration();
            return Err(Status::not_found(format!(
                "asked for job {wanted}, and this is the coordinator of {}",
                self.job
            )));
        }
        Ok(Response::new(proto::ProbeAnswer { generation: self.rules.borrow().map(|generation| generation.0) }))
    }
}

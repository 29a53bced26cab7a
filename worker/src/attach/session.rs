//! One coordinator, connected to again and again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use millstream_api::control::{Attempt, WorkerCommand, WorkerReport};
use millstream_api::ids::Generation;
use millstream_api::proto::control::v1 as proto;
use millstream_net::{ConnectError, Roles, Security};
use proto::from_worker::Message as FromWorker;
use proto::to_worker::Message as ToWorker;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::AttachConfig;
use super::calls::control_client::ControlClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the answer to the registration: a coordinator answers from memory.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between tries to reach a coordinator.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// Messages between the hub and the connection.
const MESSAGES_MAX: usize = 64;
/// As the coordinator's: a deployment carries the graph and a manifest.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The ruling coordinator and when it was heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) generation: Generation,
    pub(super) at: Instant,
}

/// What a session tells the hub.
pub(super) enum FromSession {
    Registered {
        settings: Bytes,
        generation: Option<Generation>,
        say: mpsc::Sender<proto::FromWorker>,
        /// Dropped without an answer: the session is to end.
        accepted: oneshot::Sender<()>,
    },
    Command(WorkerCommand),
    /// It is there, and rules in this generation, if at all.
    Heartbeat(Option<Generation>),
    Farewell,
    Released,
    /// It was registered, and is no more.
    Lost(String),
    /// It is not reached.
    Away(String),
    Refused(Refusal),
}

/// A coordinator that does not want this worker.
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Another coordinator of the job would say the same.
    pub(super) of_all: bool,
}

/// Lives as long as the hub takes what it says.
pub(super) struct Session {
    pub(super) number: usize,
    pub(super) config: AttachConfig,
    pub(super) heard: watch::Receiver<Option<Heard>>,
    /// What the worker works by.
    pub(super) settings: watch::Receiver<Option<Bytes>>,
    pub(super) hub: mpsc::Sender<(usize, FromSession)>,
}

/// The hub has ended.
struct HubEnded;

enum OpenError {
    Refused(Refusal),
    Away(String),
}

struct Open {
    settings: Bytes,
    generation: Option<Generation>,
    say: mpsc::Sender<proto::FromWorker>,
    said: Streaming<proto::ToWorker>,
}

impl Session {
    pub(super) async fn run(self) {
        let mut pause = RETRY_FIRST;
        loop {
            let served = match self.open().await {
                Ok(open) => {
                    pause = RETRY_FIRST;
                    self.serve(open).await
                }
                Err(OpenError::Refused(refusal)) => self.tell(FromSession::Refused(refusal)).await,
                Err(OpenError::Away(reason)) => self.tell(FromSession::Away(reason)).await,
            };
            if served.is_err() {
                return;
            }
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(RETRY_MAX),
                () = self.hub.closed() => return,
            }
        }
    }

    async fn tell(&self, what: FromSession) -> Result<(), HubEnded> {
        self.hub.send((self.number, what)).await.map_err(|_| HubEnded)
    }

    /// Connects and registers.
    async fn open(&self) -> Result<Open, OpenError> {
        let address = &self.config.coordinators[self.number];
        let away = |reason: String| OpenError::Away(reason);
        // A certificate that is refused may be renewed, here or there: no reason to give up.
        let channel = connect(address, &self.config.security).await.map_err(|e| away(e.reason().to_owned()))?;
        let register = self.registration(address).await.map_err(|e| away(e.to_string()))?;
        let mut client = ControlClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let (say, saying) = mpsc::channel(MESSAGES_MAX);
        // The channel is new and has room.
        let _ = say.send(message(FromWorker::Register(register))).await;
        let answered = timeout(REGISTER_TIMEOUT, async {
            let mut said = client.attach(ReceiverStream::new(saying)).await?.into_inner();
            let first = said.message().await?;
            Ok::<_, Status>((said, first))
        });
        let (said, first) = answered.await.map_err(|_| away("it does not answer".to_owned()))??;
        let Some(ToWorker::Registered(registered)) = first.and_then(|m| m.message) else {
            return Err(away("its first word was not Registered".to_owned()));
        };
        let generation = registered.generation.map(Generation);
        Ok(Open { settings: registered.settings, generation, say, said })
    }

    async fn registration(&self, coordinator: &str) -> std::io::Result<proto::Register> {
        let config = &self.config;
        let shuffle_address = match &config.shuffle {
            None => String::new(),
            Some(shuffle) => match &shuffle.host {
                Some(host) => host_and_port(host, shuffle.port),
                None => SocketAddr::new(own_ip_towards(coordinator).await?, shuffle.port).to_string(),
            },
        };
        Ok(proto::Register {
            version: config.version.clone(),
            job: config.job.clone(),
            slots: config.slots,
            shuffle_address,
            name: config.name.clone(),
            settings: self.settings.borrow().clone().unwrap_or_default(),
        })
    }

    /// Takes in what the coordinator says until it ends.
    async fn serve(&self, open: Open) -> Result<(), HubEnded> {
        let Open { settings, generation, say, mut said } = open;
        let (accepted, mut acceptance) = oneshot::channel();
        let mut is_accepted = false;
        self.tell(FromSession::Registered { settings, generation, say: say.clone(), accepted }).await?;
        let pace = self.config.pace;
        let mut beat = interval(pace.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = Instant::now() + pace.silence_max;
        let lost = loop {
            tokio::select! {
                // What was said comes before the end of the connection: a coordinator's last word and that end arrive together.
                biased;
                message = timeout_at(silent_at, said.message()) => {
                    let what = match message {
                        Err(_) => break format!("it said nothing for {:?}", pace.silence_max),
                        Ok(Err(status)) => break status.message().to_owned(),
                        Ok(Ok(None)) => break "it closed the connection".to_owned(),
                        Ok(Ok(Some(message))) => match understand(message) {
                            Ok(what) => what,
                            Err(reason) => break reason,
                        },
                    };
                    self.tell(what).await?;
                    silent_at = Instant::now() + pace.silence_max;
                }
                _ = beat.tick() => {
                    let heard = self.heard.borrow().map(|heard| proto::Heard {
                        generation: heard.generation.0,
                        age_ms: u64::try_from(heard.at.elapsed().as_millis()).unwrap_or(u64::MAX),
                    });
                    // Where there is no room, something else is about to be heard.
                    let _ = say.try_send(message(FromWorker::Heartbeat(proto::Heartbeat { heard })));
                }
                accepted = &mut acceptance, if !is_accepted => match accepted {
                    Ok(()) => is_accepted = true,
                    Err(_) => break "its settings are not those of the others".to_owned(),
                },
                () = say.closed() => break "the connection closed".to_owned(),
                () = self.hub.closed() => return Err(HubEnded),
            }
        };
        self.tell(FromSession::Lost(lost)).await
    }
}

impl From<Status> for OpenError {
    fn from(status: Status) -> Self {
        let reason = status.message().to_owned();
        match status.code() {
            Code::FailedPrecondition => Self::Refused(Refusal { reason, of_all: true }),
            Code::NotFound | Code::Aborted | Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated => {
                Self::Refused(Refusal { reason, of_all: false })
            }
            _ => Self::Away(reason),
        }
    }
}

/// The one place where a coordinator is connected to.
async fn connect(address: &str, security: &Security) -> Result<Channel, ConnectError> {
    millstream_net::connect(address, security, Roles::COORDINATOR, CONNECT_TIMEOUT, |endpoint| endpoint).await
}

/// The address of this machine on the way to another one. Nothing is sent.
async fn own_ip_towards(address: &str) -> std::io::Result<IpAddr> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, format!("{address} has no address"));
    for target in tokio::net::lookup_host(address).await? {
        let any: IpAddr = match target {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let found = async {
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect(target).await?;
            Ok(socket.local_addr()?.ip())
        };
        match found.await {
            Ok(ip) => return Ok(ip),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn understand(message: proto::ToWorker) -> Result<FromSession, String> {
    match message.message {
        Some(ToWorker::Command(command)) => Ok(FromSession::Command(decode(&command)?)),
        Some(ToWorker::Heartbeat(beat)) => {
            Ok(FromSession::Heartbeat(beat.heard.map(|heard| Generation(heard.generation))))
        }
        Some(ToWorker::Farewell(_)) => Ok(FromSession::Farewell),
        Some(ToWorker::Released(_)) => Ok(FromSession::Released),
        Some(ToWorker::Registered(_)) => Err("it took the registration twice".to_owned()),
        None => Err("it sent a message of a kind that is not known".to_owned()),
    }
}

pub(super) fn message(message: FromWorker) -> proto::FromWorker {
    proto::FromWorker { message: Some(message) }
}

pub(super) fn encode(report: &WorkerReport) -> proto::FromWorker {
    let attempt = proto::Attempt { generation: report.attempt.generation.0, number: report.attempt.number };
    let body = serde_json::to_vec(&report.report).expect("reports are plain data").into();
    message(FromWorker::Report(proto::Report { attempt: Some(attempt), body }))
}

fn decode(command: &proto::Command) -> Result<WorkerCommand, String> {
    let attempt = command.attempt.ok_or("it sent a command without an attempt")?;
    let attempt = Attempt { generation: Generation(attempt.generation), number: attempt.number };
    let read = serde_json::from_slice(&command.body);
    Ok(WorkerCommand { attempt, command: read.map_err(|e| format!("it sent a command that cannot be read: {e}"))? })
}

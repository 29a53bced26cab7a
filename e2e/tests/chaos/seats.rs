//! Places of processes: a process that died is followed by another one at the same addresses.
//!
//! Each place has addresses of its own in 127.0.0.0/8: so a port that is free once stays free, and a worker can be reached
//! through a proxy at the same port of another address, which is all that it can advertise.

use std::net::TcpListener;
use std::process::ExitStatus;

use millstream_e2e::http;
use millstream_e2e::kafka::rand_id;
use millstream_e2e::numbers::{LIMIT, Numbers};
use millstream_e2e::process::Process;
use millstream_e2e::proxy::Proxy;
use millstream_e2e::wait_for;

/// Room for so many processes; proxies in front of them come after.
const SEATS_MAX: usize = 100;

/// Addresses that only this cluster uses.
pub struct Hosts {
    network: String,
    taken: usize,
}

/// A host, and the one by which its proxy is reached.
pub struct Hosted {
    host: String,
    front: String,
}

impl Hosts {
    pub fn draw() -> Self {
        let [a, b, ..] = rand_id().to_le_bytes();
        // Not the network of 127.0.0.1.
        Self { network: format!("127.{}.{b}", a.max(1)), taken: 0 }
    }

    pub fn next(&mut self) -> Hosted {
        let number = 1 + self.taken % SEATS_MAX;
        self.taken += 1;
        let at = |number: usize| format!("{}.{number}", self.network);
        Hosted { host: at(number), front: at(number + SEATS_MAX) }
    }
}

/// An address of this host that nobody listens on.
fn free_address(host: &str) -> String {
    TcpListener::bind((host, 0)).unwrap().local_addr().unwrap().to_string()
}

/// Where a coordinator runs.
pub struct CoordinatorSeat {
    pub name: String,
    pub process: Process,
    /// Where it listens.
    pub address: String,
    page: String,
    /// Between it and the other coordinators.
    pub peers: Proxy,
}

/// Where a worker runs.
pub struct WorkerSeat {
    pub name: String,
    pub process: Process,
    /// Between it and each coordinator.
    pub links: Vec<Proxy>,
    /// Between it and the workers that send it rows.
    pub shuffle: Proxy,
    shuffle_address: String,
    front: String,
    slots: u32,
}

impl CoordinatorSeat {
    pub fn take(numbers: &Numbers, hosted: &Hosted, name: String) -> Self {
        let (address, page) = (free_address(&hosted.host), free_address(&hosted.host));
        let peers = Proxy::listen(&format!("{}:0", hosted.front), &address);
        let process = Self::start(numbers, &name, &address, &page, &peers);
        Self { name, process, address, page, peers }
    }

    /// A process after the last one.
    pub fn start_again(&mut self, numbers: &Numbers) {
        self.process = Self::start(numbers, &self.name, &self.address, &self.page, &self.peers);
    }

    /// Each on a machine of its own, as far as it can tell.
    fn start(numbers: &Numbers, name: &str, address: &str, page: &str, peers: &Proxy) -> Process {
        let run = numbers.job.coordinator(address).env("MILLSTREAM_FAULT_HOST", name);
        let run = run.arg("--advertise").arg(&peers.address).arg("--http").arg(page);
        numbers.with_credentials(run).start()
    }

    /// What it says of the job; `None` while it does not answer.
    pub fn status(&self) -> Option<serde_json::Value> {
        http::json(&self.page, "/v1/status")
    }
}

impl WorkerSeat {
    pub fn take(
        numbers: &Numbers,
        hosted: &Hosted,
        name: String,
        coordinators: &[CoordinatorSeat],
        slots: u32,
    ) -> Self {
        let links: Vec<Proxy> = coordinators.iter().map(|seat| Proxy::start(&seat.address)).collect();
        let shuffle_address = free_address(&hosted.host);
        let (_, port) = shuffle_address.rsplit_once(':').expect("an address has a port");
        let shuffle = Proxy::listen(&format!("{}:{port}", hosted.front), &shuffle_address);
        let front = hosted.front.clone();
        let process = Self::start(numbers, &links, &shuffle_address, &front, slots);
        Self { name, process, links, shuffle, shuffle_address, front, slots }
    }

    /// A process after the last one.
    pub fn start_again(&mut self, numbers: &Numbers) {
        self.process = Self::start(numbers, &self.links, &self.shuffle_address, &self.front, self.slots);
    }

    fn start(numbers: &Numbers, links: &[Proxy], shuffle: &str, front: &str, slots: u32) -> Process {
        let coordinators: Vec<&str> = links.iter().map(|link| link.address.as_str()).collect();
        let run = numbers.job.worker(&coordinators.join(","), slots);
        numbers.with_credentials(run.arg("--shuffle-listen").arg(shuffle).arg("--advertise").arg(front)).start()
    }
}

/// `kill -9` of a process that was alive.
pub fn kill(name: &str, process: &mut Process) {
    assert_eq!(process.ended(), None, "{name} had ended before it was to be killed");
    process.signal(libc::SIGKILL);
    wait_until_ended(name, process);
}

pub fn wait_until_ended(name: &str, process: &mut Process) -> ExitStatus {
    wait_for(&format!("the end of {name}"), LIMIT, || process.ended())
}

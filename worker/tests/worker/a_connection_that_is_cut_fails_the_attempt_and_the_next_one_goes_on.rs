//! A proxy between the workers: cut while rows flow, and gone when a deployment connects.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use millstream_api::ids::WorkerId;
use millstream_worker::exchange::remote::Compression;

use crate::console;
use crate::coordinator::Coordinator;
use crate::jobs::{self, ROWS};

/// Passes connections on, until told not to.
struct Proxy {
    address: String,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    open: Vec<TcpStream>,
    refuses: bool,
}

impl Proxy {
    fn before(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let connections = Arc::new(Mutex::new(Connections::default()));
        let shared = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
                let mut connections = shared.lock().unwrap();
                if connections.refuses {
                    continue;
                }
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let mut bytes = vec![0; 64 * 1024];
                        while let Ok(1..) =
                            from.read(&mut bytes).map(|n| if to.write_all(&bytes[..n]).is_err() { 0 } else { n })
                        {
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                connections.open.extend([client, server]);
            }
        });
        Self { address, connections }
    }

    fn cut(&self) {
        for connection in self.connections.lock().unwrap().open.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn refuse(&self, refuses: bool) {
        self.connections.lock().unwrap().refuses = refuses;
    }
}

#[test]
fn a_connection_that_is_cut_fails_the_attempt_and_the_next_one_goes_on() {
    console::capture();
    for job in [jobs::tumbling("cut-tumbling"), jobs::running("cut-running")] {
        let dir = tempfile::tempdir().unwrap();
        let mut coordinator = Coordinator::with_workers(&job.graph, 3, 2, dir.path(), Compression::None);
        // Worker 1 dials worker 0.
        let proxy = Proxy::before(coordinator.addresses[&WorkerId(0)].clone());
        coordinator.addresses.insert(WorkerId(0), proxy.address.clone());
        coordinator.deploy(None);
        coordinator.wait_for_rows(ROWS as u64 / 10);
        coordinator.checkpoint();
        coordinator.wait_for_rows(ROWS as u64 / 5);
        proxy.cut();
        let failure = coordinator.wait_for_command_failure();
        assert!(failure.contains("worker 0") && failure.contains("worker 1"), "{failure}");
        coordinator.reset();
        coordinator.checkpoint();
        coordinator.finish();
        job.assert_printed();
    }
}

#[test]
fn a_worker_that_cannot_be_reached_fails_the_deployment_and_the_next_one_goes_on() {
    console::capture();
    let job = jobs::tumbling("unreached");
    let dir = tempfile::tempdir().unwrap();
    let mut coordinator = Coordinator::with_workers(&job.graph, 2, 2, dir.path(), Compression::None);
    let proxy = Proxy::before(coordinator.addresses[&WorkerId(0)].clone());
    coordinator.addresses.insert(WorkerId(0), proxy.address.clone());
    coordinator.deploy(None);
    coordinator.wait_for_rows(ROWS as u64 / 10);
    coordinator.checkpoint();
    proxy.refuse(true);
    let failure = coordinator.failed_reset();
    assert!(failure.contains("worker 0") && failure.contains("worker 1"), "{failure}");
    proxy.refuse(false);
    coordinator.reset();
    coordinator.finish();
    job.assert_printed();
}

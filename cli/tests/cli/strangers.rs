//! Whoever reaches the ports of a job and says something that is nearly right: nobody panics, the connection is closed and
//! counted, and the job beside it runs as if nothing were.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::cluster::{Copying, address_of, assert_exact, wait_until_seen};
use crate::tls::grouping;
use millstream_e2e::fuzz::{mutated, with_mutated_frames};
use millstream_e2e::http::get;
use millstream_e2e::process::{Process, binary};
use millstream_e2e::recorder::Recorder;
use millstream_e2e::{Random, rounds, wait_for};

const LIMIT: Duration = Duration::from_secs(60);
/// Between the last byte and the end, for an answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(50);
/// After the last byte: whoever waits for more hears that there is none.
const HANG_UP_LIMIT: Duration = Duration::from_secs(10);

fn page_of(process: &Process) -> String {
    process.wait_for_log(" on http://", LIMIT);
    let log = process.stderr();
    log.split(" on http://").nth(1).and_then(|r| r.split('/').next()).expect("it is in the log").to_owned()
}

/// The sum of a metric's samples.
fn count(page: &str, metric: &str) -> u64 {
    let metrics = get(page, "/metrics");
    let samples = metrics.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Says the bytes, listens until nothing more is answered, and hangs up; the other side must hang up, too.
fn say(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    // It may have heard enough before the end.
    let _ = stream.write_all(bytes);
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    let mut answer = Vec::new();
    // An end that comes with the last byte would be seen before what the bytes say.
    let _ = stream.read_to_end(&mut answer);
    let _ = stream.shutdown(Shutdown::Write);
    stream.set_read_timeout(Some(HANG_UP_LIMIT)).unwrap();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let waits = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        assert!(!waits, "{address} does not hang up after {} bytes: {bytes:02x?}", bytes.len());
    }
}

/// A job of two workers that send rows to each other, and what was said on its ports.
struct Scene {
    copying: Copying,
    coordinator: Process,
    workers: [Process; 2],
    address: String,
    /// Where the workers take rows, not through the recorder.
    shuffles: [String; 2],
    control_said: Vec<Vec<u8>>,
    shuffle_said: Vec<Vec<u8>>,
}

impl Scene {
    fn new() -> Option<Self> {
        let copying = Copying::new("strangers", false)?;
        copying.job.rewrite(&grouping(&copying.manifest(false, "")));
        let coordinator = copying.job.coordinator("127.0.0.1:0").arg("--http").arg("127.0.0.1:0").start();
        let address = address_of(&coordinator);
        // Another address of this machine with the same port: there workers find each other, and are recorded.
        let ports = [free_port(), free_port()];
        let shuffles = ports.map(|port| format!("127.0.0.1:{port}"));
        let recorders = ports.map(|port| Recorder::listen(&format!("127.0.0.2:{port}"), &format!("127.0.0.1:{port}")));
        let workers = [0, 1].map(|at: usize| {
            let run = copying.job.worker(&address, 1).arg("--http").arg("127.0.0.1:0");
            run.arg("--shuffle-listen").arg(&shuffles[at]).arg("--advertise").arg("127.0.0.2").start()
        });
        let control = Recorder::listen("127.0.0.1:0", &address);
        // What is recorded must be refused when it is said again, or it would be another worker of the job.
        let stranger = copying.job.worker(&control.address, 1).arg("--job").arg("default/other").finish(LIMIT);
        assert_eq!(stranger.code(), 4, "{}", stranger.stderr);
        let status = binary().args(["status", "--coordinator", &control.address]).output().unwrap();
        assert_eq!(status.status.code(), Some(0));
        copying.produce(0..1_000);
        wait_until_seen(&mut copying.reader(), 500);
        let shuffle_said: Vec<Vec<u8>> = recorders.iter().flat_map(Recorder::said).collect();
        let control_said = control.said();
        assert!(control_said.len() >= 2 && !shuffle_said.is_empty(), "both ports were heard");
        Some(Self { copying, coordinator, workers, address, shuffles, control_said, shuffle_said })
    }

    /// One stream, changed, to one of the ports.
    fn disturb(&self, random: &mut Random) {
        let to_control = random.below(2) == 0;
        let (said, address) = if to_control {
            (&self.control_said, self.address.as_str())
        } else {
            (&self.shuffle_said, self.shuffles[usize::from(random.below(2) == 0)].as_str())
        };
        let stream = &said[usize::try_from(random.below(said.len() as u64)).unwrap()];
        let bytes = if random.below(3) == 0 { mutated(stream, random) } else { with_mutated_frames(stream, random) };
        say(address, &bytes);
    }
}

#[test]
fn what_is_nearly_right_on_the_ports_of_a_job_does_it_no_harm() {
    let Some(scene) = Scene::new() else { return };
    let mut random = Random::from_environment("strangers");
    let mut reader = scene.copying.reader();
    let pages = [page_of(&scene.workers[0]), page_of(&scene.workers[1])];
    let restarts = || count(&page_of(&scene.coordinator), "flink_jobmanager_job_numRestarts");
    let before = restarts();
    let produced = 1_000;
    for _ in 0..rounds(200, 10_000) {
        scene.disturb(&mut random);
    }
    // As it was said: the call of a worker that is connected already, and a worker of another job.
    let refused = |page: &String| count(page, "millstream_shuffle_refused_connections_total");
    let of_shuffle = refused(&pages[0]) + refused(&pages[1]);
    say(&scene.shuffles[0], &scene.shuffle_said[0]);
    wait_for("the call to be counted", LIMIT, || (refused(&pages[0]) + refused(&pages[1]) > of_shuffle).then_some(()));
    let page = page_of(&scene.coordinator);
    let registrations = || count(&page, "millstream_coordinator_refused_registrations_total");
    let of_control = registrations();
    scene.control_said.iter().for_each(|stream| say(&scene.address, stream));
    wait_for("the registration to be counted", LIMIT, || (registrations() > of_control).then_some(()));

    scene.copying.produce(produced..2_000);
    reader.read_exactly(2_000, LIMIT);
    assert_exact(&reader, 2_000);
    assert_eq!(restarts(), before, "nothing of it reached the job: {}", scene.coordinator.stderr());
    for page in &pages {
        assert_eq!(count(page, "millstream_shuffle_connections"), 1);
        assert_eq!(count(page, "millstream_shuffle_refused_frames_total"), 0, "none of these connections was let in");
    }
    let Scene { coordinator, workers, .. } = scene;
    for process in [coordinator.stop(LIMIT)].into_iter().chain(workers.map(|worker| worker.wait(LIMIT))) {
        assert_eq!(process.code(), 0, "{}", process.stderr);
        assert!(!process.stderr.contains("panicked"), "{}", process.stderr);
    }
}

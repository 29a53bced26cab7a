//! Rows from one worker to another on this machine, through the code that the workers run: how many bytes per second, beside
//! what the machine's loopback carries without any of it, and how long one small batch takes when nothing else is under way.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use clap::Args;
use millstream_api::control::Attempt;
use millstream_api::ids::WorkerId;
use millstream_worker::element::Element;
use millstream_worker::exchange::remote::{
    ChannelId, Compression, LinkEnds, LinkNews, Links, Party, Shuffle, ShuffleConfig,
};
use millstream_worker::exchange::{Receiver, Sender};
use millstream_worker::slot::Wake;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::loopback;

#[derive(Debug, Args)]
pub struct ShuffleArguments {
    /// How long to send as fast as possible.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 64 * 1024)]
    pub batch_bytes: usize,
    /// Channels between the two workers; each has a sending and a receiving thread.
    #[arg(long, default_value_t = 1)]
    pub channels: u32,
    /// Small batches, one at a time.
    #[arg(long, default_value_t = 5_000)]
    pub pings: usize,
    #[arg(long)]
    pub lz4: bool,
}

/// Columns of a batch.
const COLUMNS: usize = 4;
/// Rows of a small batch.
const PING_ROWS: usize = 16;
/// Between two small batches, so that the threads are parked when one comes.
const PING_GAP: Duration = Duration::from_millis(1);
const UP_MAX: Duration = Duration::from_secs(10);
const IO_THREADS: usize = 2;

/// Two workers' sides; worker 1 sends.
struct Pair {
    channels: Vec<(Sender, Wake, Receiver, Wake)>,
    _links: [Links; 2],
    _io: [Runtime; 2],
}

pub fn run(arguments: &ShuffleArguments) -> anyhow::Result<()> {
    let bytes_per_second = throughput(arguments)?;
    let loopback = loopback::throughput(arguments.batch_bytes, Duration::from_secs(arguments.seconds))?;
    let mut latencies = latencies(arguments)?;
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() as f64 * share) as usize).min(latencies.len() - 1)];
    let micros = |duration: Duration| duration.as_micros();
    println!(
        "{}",
        json!({
            "bench": "shuffle",
            "batchBytes": arguments.batch_bytes,
            "channels": arguments.channels,
            "lz4": arguments.lz4,
            "gigabytesPerSecond": bytes_per_second / 1e9,
            "loopbackGigabytesPerSecond": loopback / 1e9,
            "pings": latencies.len(),
            "pingP50Us": micros(at(0.5)),
            "pingP99Us": micros(at(0.99)),
            "pingMaxUs": micros(at(1.0)),
        })
    );
    Ok(())
}

fn throughput(arguments: &ShuffleArguments) -> anyhow::Result<f64> {
    let pair = connect(arguments)?;
    let rows = arguments.batch_bytes / (8 * COLUMNS);
    let batch = batch(0, rows);
    let bytes = (rows * 8 * COLUMNS) as f64;
    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let mut received = 0u64;
    std::thread::scope(|scope| {
        let mut counters = Vec::new();
        for (sender, sender_wake, receiver, receiver_wake) in pair.channels {
            let (batch, stop) = (&batch, &stop);
            scope.spawn(move || send(sender, &sender_wake, batch, stop));
            counters.push(scope.spawn(move || receive(receiver, &receiver_wake)));
        }
        // This is how long it goes on, not a wait for something.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(Duration::from_secs(arguments.seconds));
        stop.store(true, Ordering::Relaxed);
        for counter in counters {
            received += counter.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))?;
        }
        anyhow::Ok(())
    })?;
    Ok(received as f64 * bytes / began.elapsed().as_secs_f64())
}

fn send(mut sender: Sender, wake: &Wake, batch: &RecordBatch, stop: &AtomicBool) {
    wake.bind_to_this_thread();
    while !stop.load(Ordering::Relaxed) {
        wake.begin_pass();
        while sender.has_room() {
            sender.push(batch.clone().into()).expect("numbers are sent");
        }
        wake.park(Some(Duration::from_millis(100)));
    }
    sender.push(Element::EndOfInput).expect("control elements are sent");
}

fn receive(mut receiver: Receiver, wake: &Wake) -> u64 {
    wake.bind_to_this_thread();
    let mut batches = 0;
    loop {
        wake.begin_pass();
        while let Some(element) = receiver.pop() {
            match element {
                Element::Batch(_) => batches += 1,
                Element::EndOfInput => return batches,
                _ => {}
            }
        }
        wake.park(None);
    }
}

/// Each batch says when it was sent.
fn latencies(arguments: &ShuffleArguments) -> anyhow::Result<Vec<Duration>> {
    let mut pair = connect(arguments)?;
    let (mut sender, _, mut receiver, receiver_wake) = pair.channels.remove(0);
    let (began, pings) = (Instant::now(), arguments.pings);
    let measuring = std::thread::spawn(move || {
        receiver_wake.bind_to_this_thread();
        let mut latencies = Vec::with_capacity(pings);
        while latencies.len() < pings {
            receiver_wake.begin_pass();
            while let Some(element) = receiver.pop() {
                let Element::Batch(batch) = element else { continue };
                let sent = batch.column(0).as_primitive::<Int64Type>().value(0);
                latencies.push(began.elapsed().saturating_sub(Duration::from_nanos(sent.unsigned_abs())));
            }
            receiver_wake.park(Some(Duration::from_millis(100)));
        }
        latencies
    });
    for _ in 0..pings {
        // The gap is what is measured: an idle connection.
        #[allow(clippy::disallowed_methods)]
        std::thread::sleep(PING_GAP);
        let now = i64::try_from(began.elapsed().as_nanos())?;
        sender.push(batch(now, PING_ROWS).into())?;
    }
    measuring.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))
}

fn batch(first: i64, rows: usize) -> RecordBatch {
    let numbers = (first..).take(rows);
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let names = ["a", "b", "c", "d"];
    RecordBatch::try_from_iter(names.map(|name| (name, Arc::clone(&column)))).expect("columns of one length")
}

fn connect(arguments: &ShuffleArguments) -> anyhow::Result<Pair> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let compression = if arguments.lz4 { Compression::Lz4 } else { Compression::None };
    let io = || tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build();
    let (to_io, from_io) = (io()?, io()?);
    let to = ShuffleConfig { listener: Some(Arc::new(listener)), compression, ..ShuffleConfig::default() };
    let to = Shuffle::start(&to, Arc::default(), to_io.handle())?;
    let from = Shuffle::start(
        &ShuffleConfig { listener: None, compression, ..ShuffleConfig::default() },
        Arc::default(),
        from_io.handle(),
    )?;
    let (mut to_ends, mut from_ends) = (to.ends(), from.ends());
    let schema = batch(0, 0).schema();
    let mut channels = Vec::new();
    for id in (0..arguments.channels.max(1)).map(ChannelId) {
        let (sender_wake, receiver_wake) = (Wake::default(), Wake::default());
        let sender = from_ends.sender(id, &schema, sender_wake.clone())?;
        let receiver = to_ends.receiver(id, Arc::clone(&schema), receiver_wake.clone());
        channels.push((sender, sender_wake, receiver, receiver_wake));
    }
    let addresses = BTreeMap::from([(WorkerId(0), address)]);
    let (tell, news) = mpsc::channel();
    let link = |shuffle: &Shuffle, worker, peer, ends: LinkEnds| {
        let party = Party { job: "bench".to_owned(), attempt: Attempt::default(), worker: WorkerId(worker) };
        let tell = tell.clone();
        let tell = move |said| drop(tell.send(said));
        shuffle.link_up(party, BTreeMap::from([(WorkerId(peer), ends)]), &addresses, tell)
    };
    let links = [link(&to, 0, 1, to_ends), link(&from, 1, 0, from_ends)];
    for _ in &links {
        if let LinkNews::Down { error, .. } = news.recv_timeout(UP_MAX).context("no connection")? {
            bail!("no connection: {error}");
        }
    }
    Ok(Pair { channels, _links: links, _io: [to_io, from_io] })
}

//! Two workers' sides of the shuffle over real connections.

use std::sync::mpsc::{Receiver as News, channel};
use std::time::Instant;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use millstream_api::control::Attempt;
use millstream_api::ids::{Epoch, Generation};
use millstream_net::Security;

use super::*;
use crate::element::{Barrier, Element, Mutation};
use crate::exchange::credit::{BUDGET_BYTES_MAX, BUDGET_BYTES_START, ELEMENTS_MAX};
use crate::exchange::{Receiver, Sender};
use crate::slot::Wake;

/// Nothing here takes longer, also on a loaded machine.
const STEP_TIME_MAX: Duration = Duration::from_secs(30);
const BATCH_ROWS: usize = 8 * 1024;
const BATCH_BYTES: usize = 8 * BATCH_ROWS;

fn batch(first: i64, rows: usize) -> RecordBatch {
    let numbers = first..first + i64::try_from(rows).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    RecordBatch::try_from_iter([("n", column)]).unwrap()
}

fn schema() -> SchemaRef {
    batch(0, 0).schema()
}

fn party(worker: u32, number: u32) -> Party {
    let attempt = Attempt { generation: Generation(7), number };
    Party { job: "ns/job".to_owned(), attempt, worker: WorkerId(worker) }
}

struct Side {
    shuffle: Shuffle,
    metrics: Arc<ShuffleMetrics>,
    address: String,
    wake: Wake,
}

impl Side {
    fn new(io: &Handle) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let config = ShuffleConfig {
            listener: Some(Arc::new(listener)),
            compression: Compression::None,
            security: Security::plain(),
        };
        let metrics = Arc::new(ShuffleMetrics::default());
        let shuffle = Shuffle::start(&config, Arc::clone(&metrics), io).unwrap();
        Self { shuffle, metrics, address, wake: Wake::default() }
    }

    fn link_up(&self, party: Party, peer: u32, ends: LinkEnds, address: &str) -> (Links, News<LinkNews>) {
        let (tell, news) = channel();
        let addresses = BTreeMap::from([(WorkerId(0), address.to_owned())]);
        let ends = BTreeMap::from([(WorkerId(peer), ends)]);
        let links = self.shuffle.link_up(party, ends, &addresses, move |said| drop(tell.send(said)));
        (links, news)
    }
}

/// Worker 1 sends to worker 0, over so many channels.
struct Pair {
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    to: (Side, Links, News<LinkNews>),
    from: (Side, Links, News<LinkNews>),
    _io: tokio::runtime::Runtime,
}

fn io() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

impl Pair {
    fn new(channels: u32) -> Self {
        let io = io();
        let (to, from) = (Side::new(io.handle()), Side::new(io.handle()));
        let (mut to_ends, mut from_ends) = (to.shuffle.ends(), from.shuffle.ends());
        let ids = (0..channels).map(ChannelId);
        let senders = ids.clone().map(|id| from_ends.sender(id, &schema(), from.wake.clone()).unwrap()).collect();
        let receivers = ids.map(|id| to_ends.receiver(id, schema(), to.wake.clone())).collect();
        let (from_links, from_news) = from.link_up(party(1, 3), 0, from_ends, &to.address);
        let (to_links, to_news) = to.link_up(party(0, 3), 1, to_ends, "");
        for news in [&from_news, &to_news] {
            assert!(matches!(news.recv_timeout(STEP_TIME_MAX), Ok(LinkNews::Up { .. })));
        }
        Self { senders, receivers, to: (to, to_links, to_news), from: (from, from_links, from_news), _io: io }
    }

    /// Waits for the next element of a channel as its slot would.
    fn pop(&mut self, channel: usize) -> Element {
        let (wake, receiver) = (&self.to.0.wake, &mut self.receivers[channel]);
        wait(wake, || receiver.pop())
    }

    /// Waits for room as a sender's slot would, and pushes.
    fn push(&mut self, channel: usize, element: Element) {
        let (wake, sender) = (&self.from.0.wake, &mut self.senders[channel]);
        wait(wake, || sender.has_room().then_some(()));
        sender.push(element).unwrap();
    }
}

fn wait<T>(wake: &Wake, mut look: impl FnMut() -> Option<T>) -> T {
    wake.bind_to_this_thread();
    let deadline = Instant::now() + STEP_TIME_MAX;
    loop {
        wake.begin_pass();
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "nothing came in time");
        wake.park(Some(STEP_TIME_MAX));
    }
}

fn down(news: &News<LinkNews>) -> LinkError {
    match news.recv_timeout(STEP_TIME_MAX).unwrap() {
        LinkNews::Down { error, .. } => error,
        up @ LinkNews::Up { .. } => panic!("{up:?}"),
    }
}

fn first_number(element: &Element) -> i64 {
    let Element::Batch(batch) = element else { panic!("no rows: {element:?}") };
    arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(batch.column(0)).value(0)
}

#[test]
fn elements_arrive_in_order() {
    let mut pair = Pair::new(1);
    let barrier = Element::Barrier(Barrier { epoch: Epoch(4), mutation: Mutation::Stop });
    for n in 0..100 {
        pair.push(0, batch(n, 10).into());
        pair.push(0, Element::Watermark(n));
    }
    pair.push(0, barrier);
    pair.push(0, Element::EndOfInput);
    for n in 0..100 {
        assert_eq!(first_number(&pair.pop(0)), n);
        assert!(matches!(pair.pop(0), Element::Watermark(w) if w == n));
    }
    assert!(matches!(pair.pop(0), Element::Barrier(Barrier { epoch: Epoch(4), mutation: Mutation::Stop })));
    assert!(matches!(pair.pop(0), Element::EndOfInput));
    let (sent, received) = (pair.from.0.metrics.read(), pair.to.0.metrics.read());
    assert!(sent.bytes_sent > 100 * 80 && received.bytes_received == sent.bytes_sent, "{sent:?} {received:?}");
}

#[test]
fn a_slow_receiver_bounds_what_is_in_flight() {
    let mut pair = Pair::new(1);
    let mut pushed = 0;
    while pair.senders[0].has_room() {
        pair.senders[0].push(batch(pushed, BATCH_ROWS).into()).unwrap();
        pushed += 1;
    }
    // The budget at the start, and the batch that crossed it.
    assert!(pushed <= i64::try_from(BUDGET_BYTES_START / BATCH_BYTES).unwrap() + 1, "{pushed} batches");
    let mut popped = 0;
    while popped < 400 {
        assert_eq!(first_number(&pair.pop(0)), popped);
        popped += 1;
        while pair.senders[0].has_room() || pushed == popped {
            pair.push(0, batch(pushed, BATCH_ROWS).into());
            pushed += 1;
        }
        let in_flight = usize::try_from(pushed - popped).unwrap() * BATCH_BYTES;
        assert!(in_flight <= BUDGET_BYTES_MAX + 2 * BATCH_BYTES, "{in_flight} bytes in flight");
    }
}

#[test]
fn a_blocked_channel_does_not_starve_another() {
    let mut pair = Pair::new(2);
    while pair.senders[0].has_room() {
        pair.push(0, batch(0, BATCH_ROWS).into());
    }
    for n in 0..500 {
        pair.push(1, batch(n, BATCH_ROWS).into());
        assert_eq!(first_number(&pair.pop(1)), n);
    }
    assert!(!pair.senders[0].has_room());
}

#[test]
fn what_one_call_emits_beyond_its_credit_waits_with_the_sender() {
    let mut pair = Pair::new(1);
    let count = 20 * i64::try_from(BUDGET_BYTES_MAX / BATCH_BYTES).unwrap();
    for n in 0..count {
        pair.senders[0].push(batch(n, BATCH_ROWS).into()).unwrap();
    }
    pair.senders[0].push(Element::EndOfInput).unwrap();
    for n in 0..count {
        assert_eq!(first_number(&pair.pop(0)), n);
    }
    assert!(matches!(pair.pop(0), Element::EndOfInput));
    assert_eq!(pair.to.0.metrics.read().frames_refused_in_all(), 0);
}

#[test]
fn watermarks_without_rows_are_bounded_too() {
    let mut pair = Pair::new(1);
    let mut pushed = 0;
    while pair.senders[0].has_room() {
        pair.senders[0].push(Element::Watermark(pushed)).unwrap();
        pushed += 1;
    }
    assert_eq!(pushed, i64::try_from(ELEMENTS_MAX).unwrap());
    for n in 0..pushed {
        assert!(matches!(pair.pop(0), Element::Watermark(w) if w == n));
    }
    let (wake, sender) = (pair.from.0.wake.clone(), &pair.senders[0]);
    wait(&wake, || sender.has_room().then_some(()));
}

#[test]
fn the_other_side_hears_that_a_deployment_ended() {
    let pair = Pair::new(1);
    drop(pair.to.1);
    let error = down(&pair.from.2);
    assert!(matches!(error, LinkError::Closed | LinkError::Broken { .. }), "{error}");
    assert_eq!(pair.from.0.metrics.read().frames_refused_in_all(), 0);
}

#[test]
fn a_worker_that_is_not_there_is_named() {
    let io = io();
    let side = Side::new(io.handle());
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (_links, news) = side.link_up(party(1, 3), 0, side.shuffle.ends(), &free);
    let error = down(&news).to_string();
    assert!(error.contains(&free) && error.contains("refused"), "{error}");
}

/// A worker 0 with one channel in each direction, and what comes of it when worker 1 sends these frames.
fn answer_to(frames: Vec<Bytes>) -> (LinkError, u64) {
    let io = io();
    let side = Side::new(io.handle());
    let mut ends = side.shuffle.ends();
    let _receiver = ends.receiver(ChannelId(0), schema(), Wake::default());
    let mut sender = ends.sender(ChannelId(1), &schema(), Wake::default()).unwrap();
    sender.push(Element::Watermark(1)).unwrap();
    let (_links, news) = side.link_up(party(0, 3), 1, ends, "");
    let (outbound, body) = outbound::outbound(Arc::default());
    let call =
        io.spawn(async move { dial::dial(&side.address, &party(1, 3), WorkerId(0), body, &Security::plain()).await });
    frames.into_iter().for_each(|frame| outbound.send(frame));
    let _client = io.block_on(call).unwrap().unwrap();
    assert!(matches!(news.recv_timeout(STEP_TIME_MAX), Ok(LinkNews::Up { .. })));
    let error = down(&news);
    (error, side.metrics.read().frames_refused_in_all())
}

#[test]
fn malformed_frames_close_the_connection_and_are_counted() {
    let rows = |channel, rows| {
        let mut encoder = rows::RowsEncoder::new(ChannelId(channel), &schema(), Compression::None).unwrap();
        let mut frames = Vec::new();
        encoder.encode(&batch(0, rows), |frame| frames.push(frame.bytes)).unwrap();
        frames.remove(0)
    };
    let mut wrong_rows = rows(0, 10).to_vec();
    wrong_rows.truncate(wrong_rows.len() - 8);
    let length = u32::try_from(wrong_rows.len() - 5).unwrap();
    wrong_rows[1..5].copy_from_slice(&length.to_be_bytes());
    let watermark = |channel| frame::control(ChannelId(channel), &Element::Watermark(1)).unwrap();
    let cases = [
        ("no header", vec![Bytes::from_static(b"GET / HTTP/1.1\r\nHost: millstream\r\n\r\n")]),
        ("an unknown channel", vec![watermark(2)]),
        ("the wrong direction", vec![watermark(1)]),
        ("a report for the wrong direction", vec![frame::consumed(ChannelId(0), 0)]),
        ("more consumed than was sent", vec![frame::consumed(ChannelId(1), 2)]),
        ("less consumed than before", vec![frame::consumed(ChannelId(1), 1), frame::consumed(ChannelId(1), 0)]),
        ("rows that are cut off", vec![Bytes::from(wrong_rows)]),
        ("no credit", vec![rows(0, 16 * BATCH_ROWS); 6]),
        ("too many elements", vec![watermark(0); 17 * ELEMENTS_MAX]),
    ];
    for (case, frames) in cases {
        let (error, refused) = answer_to(frames);
        assert!(matches!(error, LinkError::Frame(_)), "{case}: {error}");
        assert_eq!(refused, 1, "{case}");
    }
}

#[test]
fn a_connection_that_ends_within_a_frame_is_counted() {
    let io = io();
    let side = Side::new(io.handle());
    let mut ends = side.shuffle.ends();
    let _receiver = ends.receiver(ChannelId(0), schema(), Wake::default());
    let (_links, news) = side.link_up(party(0, 3), 1, ends, "");
    let (outbound, body) = outbound::outbound(Arc::default());
    outbound.send(frame::control(ChannelId(0), &Element::Watermark(1)).unwrap().slice(..10));
    outbound.end();
    let address = side.address.clone();
    let _client =
        io.block_on(async { dial::dial(&address, &party(1, 3), WorkerId(0), body, &Security::plain()).await.unwrap() });
    assert!(matches!(news.recv_timeout(STEP_TIME_MAX), Ok(LinkNews::Up { .. })));
    assert!(matches!(down(&news), LinkError::Frame(FrameError::Truncated)));
    assert_eq!(side.metrics.read().frames_refused_in_all(), 1);
}

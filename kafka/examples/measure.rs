use millstream_kafka::*;
use std::sync::{Arc, mpsc};
use std::time::Instant;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<f64> =
        s.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2).map(|x| x.parse().unwrap()).collect();
    (f[0] + f[1]) / 100.0
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let (tx, rx) = mpsc::channel();
    let config = ClientConfig { bootstrap_servers: a[1].clone(), ..Default::default() };
    let id = (a[3] == "txn").then(|| "measure".to_owned());
    let txn = id.is_some();
    let t = Instant::now();
    let mut p = Producer::open(
        &config,
        ProducerOptions {
            topic: a[2].clone(),
            transactional_id: id,
            transaction_timeout_ms: 60000,
            waker: Arc::new(move || {
                let _ = tx.send(());
            }),
        },
    )
    .unwrap();
    let wait = |p: &mut Producer, f: &dyn Fn(&ProducerEvent) -> bool| loop {
        match p.poll().unwrap() {
            Some(e) if f(&e) => return,
            Some(_) => {}
            None => {
                rx.recv().unwrap();
            }
        }
    };
    wait(&mut p, &|e| *e == ProducerEvent::Ready);
    println!("ready after {:?}", t.elapsed());
    let value = vec![b'x'; 284];
    let n: usize = a[4].parse().unwrap();
    let parts = 4;
    let mut bufs: Vec<_> = (0..parts).map(|_| RecordBuffer::default()).collect();
    let (c0, t0) = (cpu(), Instant::now());
    for i in 0..n {
        bufs[i % parts].append(None, |o| o.extend_from_slice(&value));
        if i % 2048 == 2047 && bufs.iter().map(|b| b.pending_bytes()).sum::<usize>() > 512 << 10 {
            for (k, b) in bufs.iter_mut().enumerate() {
                let _ = p.send(k as i32, b).unwrap();
            }
            while bufs.iter().map(|b| b.pending_bytes()).sum::<usize>() > 4 << 20 {
                wait(&mut p, &|e| *e == ProducerEvent::Room);
                for (k, b) in bufs.iter_mut().enumerate() {
                    let _ = p.send(k as i32, b).unwrap();
                }
            }
        }
    }
    for (k, b) in bufs.iter_mut().enumerate() {
        while p.send(k as i32, b).unwrap() == Sent::QueueFull {
            wait(&mut p, &|e| *e == ProducerEvent::Room);
        }
    }
    p.flush();
    if txn {
        wait(&mut p, &|e| matches!(e, ProducerEvent::Identified(_)));
        p.commit();
        wait(&mut p, &|e| *e == ProducerEvent::Committed);
    } else {
        wait(&mut p, &|e| *e == ProducerEvent::Flushed);
    }
    let (c, t) = (cpu() - c0, t0.elapsed().as_secs_f64());
    let rss = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter(|l| l.starts_with("VmHWM") || l.starts_with("Threads"))
        .collect::<Vec<_>>()
        .join(" ");
    println!("{n} records: {:.3} cpu-s per million, {:.0} k/s wall; {rss}", c / n as f64 * 1e6, n as f64 / t / 1e3);
}

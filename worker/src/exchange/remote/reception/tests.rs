//! Callers at the door.

use std::time::Duration;

use millstream_api::ids::Generation;
use tonic::Code;

use super::super::outbound::outbound;
use super::*;

fn party(number: u32) -> Party {
    Party { job: "ns/job".to_owned(), attempt: attempt(number), worker: WorkerId(0) }
}

fn attempt(number: u32) -> Attempt {
    Attempt { generation: Generation(2), number }
}

fn hello(number: u32) -> Hello {
    Hello::new(&Party { worker: WorkerId(1), ..party(number) }, WorkerId(0))
}

/// A reception where attempt 5 awaits worker 1.
fn reception() -> (Arc<Reception>, Arc<ShuffleMetrics>, Arrival) {
    let metrics = Arc::new(ShuffleMetrics::default());
    let reception = Arc::new(Reception::new(Duration::from_secs(30), Arc::clone(&metrics)));
    let arrival = open(&reception, 5);
    (reception, metrics, arrival)
}

fn open(reception: &Reception, number: u32) -> Arrival {
    let (expected, arrival) = awaited(outbound(Arc::default()).1);
    reception.open(party(number), BTreeMap::from([(WorkerId(1), expected)]));
    arrival
}

#[tokio::test]
async fn a_caller_of_the_deployment_is_admitted_once() {
    let (reception, metrics, arrival) = reception();
    assert!(reception.admit(&hello(5), Body::empty()).await.is_ok());
    assert!(arrival.await.is_ok());
    let again = reception.admit(&hello(5), Body::empty()).await.unwrap_err();
    assert!(again.message().contains("worker 1 is connected"), "{again}");
    assert_eq!(metrics.read().connections_refused, 1);
}

#[tokio::test]
async fn strangers_are_refused_by_name_and_counted() {
    let (reception, metrics, _arrival) = reception();
    let cases = [
        (Hello { version: "0.0.1".to_owned(), ..hello(5) }, "0.0.1"),
        (Hello { job: "ns/other".to_owned(), ..hello(5) }, "ns/other"),
        (Hello { to: WorkerId(9), ..hello(5) }, "worker 0, not 9"),
        (Hello { from: WorkerId(9), ..hello(5) }, "worker 9"),
        (hello(4), "attempt 5 of generation 2 is here, not 4 of generation 2"),
    ];
    for (hello, reason) in &cases {
        let status = reception.admit(hello, Body::empty()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(reason), "{status}");
    }
    assert_eq!(metrics.read().connections_refused, cases.len() as u64);
}

#[tokio::test]
async fn a_caller_that_is_ahead_waits_for_its_deployment() {
    let (reception, _, _arrival) = reception();
    let waiting = {
        let reception = Arc::clone(&reception);
        tokio::spawn(async move { reception.admit(&hello(6), Body::empty()).await.is_ok() })
    };
    tokio::task::yield_now().await;
    reception.close(&party(5));
    let _arrival = open(&reception, 6);
    assert!(waiting.await.unwrap());
    // What has ended does not begin again.
    let late = reception.admit(&hello(5), Body::empty()).await.unwrap_err();
    assert!(late.message().contains("has ended here"), "{late}");
}

#[tokio::test]
async fn a_caller_whose_deployment_never_comes_is_refused_in_time() {
    let metrics = Arc::new(ShuffleMetrics::default());
    let reception = Reception::new(Duration::from_millis(10), Arc::clone(&metrics));
    let status = reception.admit(&hello(6), Body::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(metrics.read().connections_refused, 1);
}

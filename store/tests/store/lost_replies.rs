//! What a store says when the network loses answers.

use crate::places;
use crate::proxy::{Fault, Proxy};
use bytes::Bytes;
use millstream_store::{ObjectStore, PutOutcome, StoreErrorKind, StoreOptions, probe};
use std::sync::Arc;
use std::time::Duration;
use xtask::endpoints::S3Endpoint;

/// Servers without TLS, which the proxy could not look into.
fn plain_servers(test: &str) -> Vec<S3Endpoint> {
    xtask::endpoints::s3(test).unwrap_or_default()
}

async fn through(proxy: &Proxy, server: &S3Endpoint, options: StoreOptions) -> Arc<dyn ObjectStore> {
    let options = StoreOptions { endpoint: Some(format!("http://{}", proxy.address)), ..options };
    millstream_store::open(&places::fresh_uri(server), &options).await.unwrap()
}

async fn proxy(server: &S3Endpoint, method: &'static str, fault: Fault, times: usize) -> Proxy {
    Proxy::start(server.endpoint.strip_prefix("http://").unwrap(), method, fault, times).await
}

fn impatient(server: &S3Endpoint) -> StoreOptions {
    StoreOptions {
        attempt_timeout: Duration::from_millis(300),
        call_timeout: Duration::from_secs(3),
        attempts_max: 3,
        ..places::options(server)
    }
}

#[tokio::test]
async fn after_one_lost_answer_the_retry_finds_its_own_object() {
    for server in plain_servers("store::lost_reply") {
        let proxy = proxy(&server, "PUT", Fault::LoseAnswer, 1).await;
        let store = through(&proxy, &server, places::options(&server)).await;
        let mine = Bytes::from_static(b"mine");
        assert_eq!(store.put_if_absent("log/1", mine.clone()).await.unwrap(), PutOutcome::Exists, "{}", server.name);
        assert_eq!(store.get("log/1").await.unwrap(), mine, "the caller reads back and knows that it won");
        assert_eq!(proxy.left(), 0);
    }
}

#[tokio::test]
async fn when_every_answer_is_lost_the_outcome_is_unknown_and_the_object_may_be_there() {
    for server in plain_servers("store::unknown") {
        let proxy = proxy(&server, "PUT", Fault::LoseAnswer, usize::MAX).await;
        let store = through(&proxy, &server, impatient(&server)).await;
        let error = store.put_if_absent("log/1", Bytes::from_static(b"mine")).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Unknown, "{} {error}", server.name);
        assert_eq!(store.get("log/1").await.unwrap(), Bytes::from_static(b"mine"), "{}", server.name);
    }
}

#[tokio::test]
async fn a_server_that_swallows_a_request_costs_one_time_out() {
    for server in plain_servers("store::swallowed") {
        let proxy = proxy(&server, "PUT", Fault::Swallow, 1).await;
        let store = through(&proxy, &server, impatient(&server)).await;
        let outcome = store.put_if_absent("log/1", Bytes::from_static(b"mine")).await.unwrap();
        assert_eq!(outcome, PutOutcome::Created, "{}", server.name);
    }
}

#[tokio::test]
async fn a_server_that_swallows_everything_is_unavailable_or_leaves_the_outcome_unknown() {
    for server in plain_servers("store::dead") {
        let proxy = proxy(&server, "", Fault::Swallow, usize::MAX).await;
        let store = through(&proxy, &server, impatient(&server)).await;
        let unknown = store.put_if_absent("log/1", Bytes::from_static(b"mine")).await.unwrap_err();
        assert_eq!(unknown.kind, StoreErrorKind::Unknown, "{} {unknown}", server.name);
        let unavailable = store.get("log/1").await.unwrap_err();
        assert_eq!(unavailable.kind, StoreErrorKind::Unavailable, "{} {unavailable}", server.name);
        assert!(unavailable.to_string().contains("does not answer"), "{unavailable}");
    }
}

#[tokio::test]
async fn a_read_that_breaks_off_goes_on_where_it_stopped() {
    for server in plain_servers("store::cut") {
        let proxy = proxy(&server, "GET", Fault::CutAnswer, 2).await;
        let store = through(&proxy, &server, places::options(&server)).await;
        let data: Bytes = (0..1_000_000_u32).map(|i| (i % 251) as u8).collect::<Vec<_>>().into();
        store.put("segments/1", data.clone()).await.unwrap();
        assert!(store.get("segments/1").await.unwrap() == data, "{}", server.name);
        assert_eq!(proxy.left(), 0);
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_end_of_a_multipart_upload_is_no_failure() {
    for server in plain_servers("store::lost_complete") {
        // The first POST begins the upload, the second ends it: both answers are lost once.
        let proxy = proxy(&server, "POST", Fault::LoseAnswer, 2).await;
        let store = through(&proxy, &server, places::options(&server)).await;
        let data = Bytes::from(vec![7; 17 * 1024 * 1024]);
        store.put("segments/1", data.clone()).await.unwrap();
        assert!(store.get("segments/1").await.unwrap() == data, "{}", server.name);
    }
}

#[tokio::test]
async fn a_server_that_ignores_the_condition_is_refused_by_the_probe() {
    for server in plain_servers("store::probe_refuses").into_iter().filter(|server| !server.checks_credentials) {
        let proxy = proxy(&server, "PUT", Fault::IgnoreCondition, usize::MAX).await;
        let store = through(&proxy, &server, places::options(&server)).await;
        let error = probe(store.as_ref()).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Configuration);
        assert!(error.to_string().contains("ignores conditional puts"), "{error}");
        assert!(store.list("", None).await.unwrap().is_empty(), "the probe cleans up");
    }
}

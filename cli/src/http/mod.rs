//! HTTP: `/metrics` for Prometheus, `/healthz`, and the operations API as JSON with its OpenAPI text.
//!
//! Owns: routes, status codes, bounds on bodies. Does not own: what is shown or done.

mod openapi;
mod operations;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use millstream_coordinator::operations::server::Serving;
use millstream_coordinator::operations::{Operations, TEXT_BYTES_MAX};

use crate::exit::Exit;
use crate::logging::Display;
use crate::run::words::{announce, refuse};

/// Two texts, escaped, and what is around them.
const BODY_BYTES_MAX: usize = 4 * TEXT_BYTES_MAX + (64 << 10);

/// What a process shows of itself, asked for at each request.
pub trait Page: Send + Sync + 'static {
    /// OpenMetrics text.
    fn metrics(&self) -> String;
    /// Whether the job runs or is on its way to.
    fn healthy(&self) -> bool;
}

/// Everything that is served. The router and the OpenAPI text are made of this one list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Metrics,
    Health,
    OpenApi,
    Status,
    WatchStatus,
    Prepare,
    Stop,
    Rescale,
    Savepoint,
}

impl Route {
    const ALL: [Self; 9] = [
        Self::Metrics,
        Self::Health,
        Self::OpenApi,
        Self::Status,
        Self::WatchStatus,
        Self::Prepare,
        Self::Stop,
        Self::Rescale,
        Self::Savepoint,
    ];

    fn path(self) -> &'static str {
        match self {
            Self::Metrics => "/metrics",
            Self::Health => "/healthz",
            Self::OpenApi => "/openapi.json",
            Self::Status => "/v1/status",
            Self::WatchStatus => "/v1/status/watch",
            Self::Prepare => "/v1/prepare",
            Self::Stop => "/v1/stop",
            Self::Rescale => "/v1/rescale",
            Self::Savepoint => "/v1/savepoint",
        }
    }

    /// Those that act, or take a body, are posted: a browser sends that to another site only with its consent.
    fn is_post(self) -> bool {
        matches!(self, Self::Prepare | Self::Stop | Self::Rescale | Self::Savepoint)
    }

    /// `None`: it is the page's.
    fn of_operations(self, operations: &Operations) -> Option<MethodRouter> {
        let operations = operations.clone();
        Some(match self {
            Self::Metrics | Self::Health => return None,
            Self::OpenApi => get(|| std::future::ready(axum::Json(openapi::document()))),
            Self::Status => get(move || operations::status(operations)),
            Self::WatchStatus => get(move || std::future::ready(operations::watch(&operations))),
            Self::Prepare => post(move |body| operations::prepare(operations, body)),
            Self::Stop => post(move |body| operations::stop(operations, body)),
            Self::Rescale => post(move |body| operations::rescale(operations, body)),
            Self::Savepoint => post(move |body| operations::savepoint(operations, body)),
        })
    }
}

/// Serves in the background when an address is given, and says where; or says why not. `operations`: where the job's master
/// runs.
pub async fn serve_if_asked(
    address: Option<SocketAddr>,
    page: Arc<dyn Page>,
    operations: Option<Operations>,
    display: Display,
) -> Result<Option<Serving>, Exit> {
    let Some(address) = address else { return Ok(None) };
    let what = if operations.is_some() { "metrics and operations" } else { "metrics" };
    match serve(address, &page, operations.as_ref()).await {
        Ok((bound, serving)) => {
            announce(display, &format!("serving {what} on http://{bound}/"));
            Ok(Some(serving))
        }
        Err(error) => Err(refuse(Exit::Environment, &format!("failed to listen on {address}: {error}"))),
    }
}

async fn serve(
    address: SocketAddr,
    page: &Arc<dyn Page>,
    operations: Option<&Operations>,
) -> std::io::Result<(SocketAddr, Serving)> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let mut router = Router::new()
        .route(Route::Metrics.path(), of_page(page, |page| metrics_answer(page).into_response()))
        .route(Route::Health.path(), of_page(page, |page| health_answer(page).into_response()));
    if let Some(operations) = operations {
        for route in Route::ALL {
            if let Some(handler) = route.of_operations(operations) {
                router = router.route(route.path(), handler);
            }
        }
    }
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let serving = Serving::start(|closing| async move {
        if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(closing).await {
            tracing::warn!(%error, "the HTTP page ended");
        }
    });
    Ok((bound, serving))
}

fn of_page(page: &Arc<dyn Page>, answer: fn(&dyn Page) -> Response) -> MethodRouter {
    let page = Arc::clone(page);
    get(move || std::future::ready(answer(&*page)))
}

fn metrics_answer(page: &dyn Page) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page.metrics())
}

fn health_answer(page: &dyn Page) -> impl IntoResponse + use<> {
    if page.healthy() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the job has failed\n") }
}

//! The HTTP page of a running job: `/metrics` for Prometheus, `/healthz`, `/status` as JSON.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::words::{announce, refuse};
use crate::exit::Exit;
use crate::logging::Display;

/// What the page shows, asked for at each request.
pub trait Page: Send + Sync + 'static {
    /// OpenMetrics text.
    fn metrics(&self) -> String;
    /// Whether the job runs or is on its way to.
    fn healthy(&self) -> bool;
    /// JSON.
    fn status(&self) -> serde_json::Value;
}

/// Serves in the background when an address is given, and says where; or says why not.
pub async fn serve_if_asked(address: Option<SocketAddr>, page: Arc<dyn Page>, display: Display) -> Result<(), Exit> {
    let Some(address) = address else { return Ok(()) };
    match serve(address, page).await {
        Ok(bound) => announce(display, &format!("serving metrics and status on http://{bound}/")),
        Err(error) => return Err(refuse(Exit::Environment, &format!("failed to listen on {address}: {error}"))),
    }
    Ok(())
}

/// Binds the address and serves in the background.
///
/// # Errors
/// When the address cannot be bound.
async fn serve(address: SocketAddr, page: Arc<dyn Page>) -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    let (metrics, health, status) = (Arc::clone(&page), Arc::clone(&page), page);
    let router = Router::new()
        .route("/metrics", get(move || std::future::ready(metrics_answer(&*metrics))))
        .route("/healthz", get(move || std::future::ready(health_answer(&*health))))
        .route("/status", get(move || std::future::ready(axum::Json(status.status()))));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::warn!(%error, "the HTTP page ended");
        }
    });
    Ok(bound)
}

fn metrics_answer(page: &dyn Page) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page.metrics())
}

fn health_answer(page: &dyn Page) -> impl IntoResponse + use<> {
    if page.healthy() { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the job has failed\n") }
}

//! The operations API as HTTP JSON.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::JsonRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_api::proto::operations::v1;
use millstream_coordinator::operations::{Operations, Refusal, RefusalKind};
use tokio_stream::StreamExt;

/// An answer to a request that is refused. Nothing was done.
#[derive(Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Problem {
    /// INVALID, OTHER_JOB, NOT_RULING, ID_USED, BUSY, UNAVAILABLE or DEFECT.
    code: String,
    /// One line for people: what, and what to do.
    message: String,
    /// With NOT_RULING: where the ruling coordinator listens, `host:port`, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    coordinator: Option<String>,
}

pub async fn status(operations: Operations) -> Response {
    match operations.status("").await {
        Ok(status) => Json(&*status).into_response(),
        Err(refusal) => refused(refusal),
    }
}

/// One status per line, for as long as the client reads.
pub fn watch(operations: &Operations) -> Response {
    match operations.watch("") {
        Ok(changes) => {
            let lines = changes.map(|status: Arc<v1::JobStatus>| {
                let mut line = serde_json::to_vec(&*status).expect("numbers and texts");
                line.push(b'\n');
                Ok::<_, Infallible>(line)
            });
            ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
        }
        Err(refusal) => refused(refusal),
    }
}

pub async fn prepare(operations: Operations, body: Result<Json<v1::PrepareRequest>, JsonRejection>) -> Response {
    match body {
        Ok(Json(request)) => answer(operations.prepare(request).await),
        Err(rejection) => rejected(&operations, &rejection),
    }
}

pub async fn stop(operations: Operations, body: Result<Json<v1::StopRequest>, JsonRejection>) -> Response {
    match body {
        Ok(Json(request)) => answer(operations.stop(request).await),
        Err(rejection) => rejected(&operations, &rejection),
    }
}

pub async fn rescale(operations: Operations, body: Result<Json<v1::RescaleRequest>, JsonRejection>) -> Response {
    match body {
        Ok(Json(request)) => answer(operations.rescale(request).await),
        Err(rejection) => rejected(&operations, &rejection),
    }
}

pub async fn savepoint(operations: Operations, body: Result<Json<v1::SavepointRequest>, JsonRejection>) -> Response {
    match body {
        Ok(Json(request)) => answer(operations.savepoint(request).await),
        Err(rejection) => rejected(&operations, &rejection),
    }
}

fn answer<T: serde::Serialize>(answer: Result<T, Refusal>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(refusal) => refused(refusal),
    }
}

fn refused(refusal: Refusal) -> Response {
    let status = match refusal.kind {
        RefusalKind::Invalid => StatusCode::BAD_REQUEST,
        RefusalKind::OtherJob => StatusCode::NOT_FOUND,
        RefusalKind::NotRuling => StatusCode::MISDIRECTED_REQUEST,
        RefusalKind::IdUsed => StatusCode::CONFLICT,
        RefusalKind::Busy => StatusCode::TOO_MANY_REQUESTS,
        RefusalKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        RefusalKind::Defect => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let Refusal { kind, message, coordinator } = refusal;
    (status, Json(Problem { code: kind.name().to_owned(), message, coordinator })).into_response()
}

/// The body is not what the call takes.
fn rejected(operations: &Operations, rejection: &JsonRejection) -> Response {
    operations.count_unread();
    let code = RefusalKind::Invalid.name().to_owned();
    (rejection.status(), Json(Problem { code, message: rejection.body_text(), coordinator: None })).into_response()
}

//! Requests that no call has seen: what they say cannot be read, or there is no such call.
//!
//! Owns: telling them by their answers, counting them. Does not own: the answers, nor connections that end before a request.

use std::task::{Context, Poll};

use tonic::Status;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::Operations;
use super::server::REFUSED_KEY;

/// Around the calls of gRPC.
#[derive(Clone)]
pub struct CountUnread<S> {
    calls: S,
    operations: Operations,
}

impl<S> CountUnread<S> {
    pub(super) fn new(calls: S, operations: Operations) -> Self {
        Self { calls, operations }
    }
}

impl<S: NamedService> NamedService for CountUnread<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, C> Service<http::Request<B>> for CountUnread<S>
where
    S: Service<http::Request<B>, Response = http::Response<C>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.calls.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let (answer, operations) = (self.calls.call(request), self.operations.clone());
        Box::pin(async move {
            let answer = answer.await?;
            if is_of_no_call(answer.headers()) {
                operations.count_unread();
            }
            Ok(answer)
        })
    }
}

/// An error that the job's own refusals are not.
fn is_of_no_call(headers: &http::HeaderMap) -> bool {
    let failed = Status::from_header_map(headers).is_some_and(|status| status.code() != tonic::Code::Ok);
    failed && !headers.contains_key(REFUSED_KEY)
}

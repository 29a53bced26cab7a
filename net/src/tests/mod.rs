//! Two processes, a port between them, and certificates made for the occasion.

mod certificates;
mod renewal;
mod trust;

use std::net::SocketAddr;
use std::time::Duration;

use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::{ConnectError, Listener, Peer, Reason, Roles, Security, connect};
pub(crate) use certificates::{Authority, Files};

/// Long enough for a loaded machine; nothing waits for it that succeeds.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server without services: its answers to connections are what matters here.
struct Server {
    address: SocketAddr,
    security: Security,
}

impl Server {
    /// `roles`: who may connect.
    async fn start(security: Security, roles: Roles) -> Self {
        let listener = Listener::bind("127.0.0.1:0", &security, roles).await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_routes(Routes::default());
        tokio::spawn(server.serve_with_incoming(listener.incoming()));
        Self { address, security }
    }

    async fn connect(&self, security: &Security, roles: Roles) -> Result<Channel, ConnectError> {
        connect(&self.address.to_string(), security, roles, DEADLINE, |endpoint| endpoint).await
    }

    /// The text of a refusal, which must be one.
    async fn refusal(&self, security: &Security, roles: Roles) -> String {
        match self.connect(security, roles).await {
            Err(ConnectError::Refused { reason, .. }) => reason,
            other => panic!("a refusal was due: {other:?}"),
        }
    }
}

/// The reasons that were counted, each with its count.
fn refused(security: &Security) -> Vec<(Reason, u64)> {
    security.refused().read().filter(|(_, count)| *count > 0).collect()
}

/// Waits until the server has counted as many: it does so after the client knows.
async fn refused_at_last(security: &Security, total: u64) -> Vec<(Reason, u64)> {
    let counted = async {
        while security.refused().total() < total {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, counted).await.expect("the refusals are counted");
    refused(security)
}

/// What an interceptor says to a caller.
fn call(security: &Security, roles: Roles, peer: Option<Peer>) -> Result<(), Status> {
    let mut request = Request::new(());
    if let Some(peer) = peer {
        request.extensions_mut().insert(peer);
    }
    tonic::service::Interceptor::call(&mut security.only(roles), request).map(drop)
}

//! The stores under test.

use millstream_store::{AccessKeys, Credentials, LocalStore, ObjectStore, StoreOptions};
use std::sync::Arc;
use xtask::endpoints::S3Endpoint;

pub struct Place {
    pub store: Arc<dyn ObjectStore>,
    /// Holds the folder of a local store.
    _folder: Option<tempfile::TempDir>,
}

/// A fresh local directory.
pub fn local() -> Place {
    let folder = tempfile::tempdir().unwrap();
    Place { store: Arc::new(LocalStore::open(folder.path()).unwrap()), _folder: Some(folder) }
}

/// Options that reach `server` with its own credentials.
pub fn options(server: &S3Endpoint) -> StoreOptions {
    StoreOptions {
        endpoint: Some(server.endpoint.clone()),
        region: Some(server.region.clone()),
        credentials: Credentials::Keys(AccessKeys {
            access_key_id: server.access_key_id.clone(),
            secret_access_key: server.secret_access_key.clone(),
            session_token: None,
        }),
        ca_file: server.ca_file.clone(),
        ..StoreOptions::default()
    }
}

/// A prefix of the server's bucket that no other test uses.
pub fn fresh_uri(server: &S3Endpoint) -> String {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
    format!("s3://{}/test/{name}-{}", server.bucket, std::process::id())
}

pub async fn s3(server: &S3Endpoint) -> Place {
    Place { store: millstream_store::open(&fresh_uri(server), &options(server)).await.unwrap(), _folder: None }
}

/// Every S3 server that runs, the one with TLS too.
pub fn servers(test: &str) -> Vec<S3Endpoint> {
    let mut servers = xtask::endpoints::s3(test).unwrap_or_default();
    servers.extend(xtask::endpoints::s3_tls(test));
    servers
}

/// A local directory and every S3 server that runs.
pub async fn all(test: &str) -> Vec<Place> {
    let mut places = vec![local()];
    for server in servers(test) {
        places.push(s3(&server).await);
    }
    places
}

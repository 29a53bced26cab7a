//! What a user may say about a store beside its URI.
//!
//! Owns: the settings and their defaults. Does not own: where they are read from (the manifest, flags).

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a TCP and TLS connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one try of a call may take: a part of a large object at 2 MiB/s passes.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a call with all its retries may take; then the caller decides.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Tries of one call, the first included.
const ATTEMPTS_MAX: u32 = 6;

/// Settings of a store. Those of S3 mean nothing to a local directory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Server other than AWS: `http://host:9000` or `https://...`.
    pub endpoint: Option<String>,
    /// Default: what the environment or the profile says, else `us-east-1`.
    pub region: Option<String>,
    /// `http://endpoint/bucket/key` and not `http://bucket.endpoint/key`. Default: true where `endpoint` is set.
    pub path_style: Option<bool>,
    pub credentials: Credentials,
    /// PEM file with the certificate authorities to trust in addition to the system's.
    pub ca_file: Option<PathBuf>,
    pub connect_timeout: Duration,
    pub attempt_timeout: Duration,
    pub call_timeout: Duration,
    pub attempts_max: u32,
}

/// Where the S3 credentials come from.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// The SDK's chain: environment (`AWS_ACCESS_KEY_ID`, ...), profile files, web identity, a credential process,
    /// the container's endpoint, the instance's metadata service.
    #[default]
    Chain,
    /// The values themselves.
    Keys(AccessKeys),
    /// A file in the format of `~/.aws/credentials`; the profile defaults to `default`.
    File { path: PathBuf, profile: Option<String> },
    /// Names of environment variables that hold the two keys, read when the store is opened.
    Variables { access_key_id: String, secret_access_key: String },
}

/// A pair of keys. Its debug form hides the secret.
#[derive(Clone)]
pub struct AccessKeys {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeys").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            credentials: Credentials::Chain,
            ca_file: None,
            connect_timeout: CONNECT_TIMEOUT,
            attempt_timeout: ATTEMPT_TIMEOUT,
            call_timeout: CALL_TIMEOUT,
            attempts_max: ATTEMPTS_MAX,
        }
    }
}

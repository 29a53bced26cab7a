//! An S3 client from the user's options.
//!
//! Owns: TLS roots, where credentials and region come from, time-outs and retries as the SDK wants them.

use super::{Limits, Place, S3Store};
use crate::{AccessKeys, Credentials, StoreError, StoreErrorKind, StoreOptions};
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::timeout::TimeoutConfig;
use std::path::Path;
use std::time::Duration;

/// AWS's own default; other servers mostly take any.
const DEFAULT_REGION: &str = "us-east-1";
/// The SDK waits a random part of 2^n times the first, at most the last.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(5);

pub(super) async fn open(bucket: String, prefix: String, options: &StoreOptions) -> Result<S3Store, StoreError> {
    let refused = |reason: String| StoreError {
        kind: StoreErrorKind::Configuration,
        verb: "open",
        object: format!("store `s3://{bucket}/{prefix}`"),
        reason,
    };
    let limits = Limits {
        connect: options.connect_timeout,
        attempt: options.attempt_timeout,
        call: options.call_timeout,
        attempts_max: options.attempts_max.max(1),
    };
    let http_client = http_client(options.ca_file.as_deref()).map_err(refused)?;
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client.clone())
        .timeout_config(limits.timeouts(0))
        .retry_config(retries(limits.attempts_max));
    let loader = with_place(loader, options).map_err(refused)?;
    let settings = with_credentials(loader, &options.credentials, http_client).map_err(refused)?.load().await;
    let server = match settings.endpoint_url() {
        Some(endpoint) => endpoint.to_owned(),
        None => format!("AWS in {}", region_of(&settings)),
    };
    let config = aws_sdk_s3::config::Builder::from(&settings)
        .region(Region::new(region_of(&settings)))
        .force_path_style(options.path_style.unwrap_or(settings.endpoint_url().is_some()))
        .build();
    Ok(S3Store { client: Client::from_conf(config), place: Place { bucket, prefix, server }, limits })
}

/// Overrides the time-outs of one call.
pub(super) fn with_timeouts(timeouts: TimeoutConfig) -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Builder::new().timeout_config(timeouts)
}

/// Overrides the time-outs of one call and leaves its retries to the caller.
pub(super) fn with_timeouts_once(timeouts: TimeoutConfig) -> aws_sdk_s3::config::Builder {
    with_timeouts(timeouts).retry_config(RetryConfig::disabled())
}

fn retries(attempts_max: u32) -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(attempts_max)
        .with_initial_backoff(BACKOFF_FIRST)
        .with_max_backoff(BACKOFF_LAST)
}

fn region_of(settings: &SdkConfig) -> String {
    settings.region().map_or(DEFAULT_REGION, Region::as_ref).to_owned()
}

fn with_place(loader: ConfigLoader, options: &StoreOptions) -> Result<ConfigLoader, String> {
    let Some(endpoint) = &options.endpoint else {
        return Ok(match &options.region {
            Some(region) => loader.region(Region::new(region.clone())),
            None => loader,
        });
    };
    let rest = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    if rest.is_none_or(|rest| rest.is_empty() || rest.starts_with('/')) {
        return Err(format!("the endpoint `{endpoint}` is not of the form `http://host:port` or `https://host:port`"));
    }
    // Not the chain: outside of AWS it would ask a metadata service that does not answer.
    let region = options.region.clone().or_else(|| std::env::var("AWS_REGION").ok());
    let region = region.unwrap_or_else(|| DEFAULT_REGION.to_owned());
    Ok(loader.endpoint_url(endpoint.trim_end_matches('/')).region(Region::new(region)))
}

fn with_credentials(
    loader: ConfigLoader,
    credentials: &Credentials,
    http_client: SharedHttpClient,
) -> Result<ConfigLoader, String> {
    Ok(match credentials {
        Credentials::Chain => loader,
        Credentials::Keys(keys) => loader.credentials_provider(fixed(keys.clone())),
        Credentials::Variables { access_key_id, secret_access_key } => {
            let keys = AccessKeys {
                access_key_id: variable(access_key_id)?,
                secret_access_key: variable(secret_access_key)?,
                session_token: None,
            };
            loader.credentials_provider(fixed(keys))
        }
        Credentials::File { path, profile } => {
            // The SDK would say only later, and less clearly, that it is not there.
            std::fs::File::open(path)
                .map_err(|error| format!("cannot read the credentials file {}: {error}", path.display()))?;
            let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
            // A profile may name a role to assume: that is a call of its own.
            let means = ProviderConfig::without_region().with_http_client(http_client);
            let provider = ProfileFileCredentialsProvider::builder().configure(&means).profile_files(files);
            loader.credentials_provider(provider.profile_name(profile.as_deref().unwrap_or("default")).build())
        }
    })
}

fn fixed(keys: AccessKeys) -> aws_credential_types::Credentials {
    aws_credential_types::Credentials::new(
        keys.access_key_id,
        keys.secret_access_key,
        keys.session_token,
        None,
        "millstream",
    )
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("the environment variable {name}, which holds credentials, is not set"))
}

fn http_client(ca_file: Option<&Path>) -> Result<SharedHttpClient, String> {
    let mut roots = TrustStore::empty();
    // An empty set of system roots is fine where a private authority or plain http is used.
    if !rustls_native_certs::load_native_certs().certs.is_empty() {
        roots = roots.with_native_roots(true);
    }
    if let Some(path) = ca_file {
        roots = roots.with_pem_certificate(read_authorities(path)?);
    }
    let context = TlsContext::builder().with_trust_store(roots).build();
    let context = context.map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let provider = Provider::Rustls(CryptoMode::Ring);
    Ok(aws_smithy_http_client::Builder::new().tls_provider(provider).tls_context(context).build_https())
}

/// The file's text once it is known that every certificate in it can be used: the HTTP client panics on others.
fn read_authorities(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let text = std::fs::read(path).map_err(|error| format!("cannot read the CA file {shown}: {error}"))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_pemfile::certs(&mut text.as_slice()) {
        let certificate = certificate.map_err(|error| format!("the CA file {shown} is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in the CA file {shown} is not usable: {error}"))?;
    }
    if roots.is_empty() {
        return Err(format!("the CA file {shown} holds no certificate in PEM form"));
    }
    Ok(text)
}

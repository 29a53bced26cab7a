//! Wrong settings: one clear message each.

use crate::places;
use millstream_store::{AccessKeys, Credentials, StoreError, StoreErrorKind, StoreOptions, probe};
use xtask::endpoints::S3Endpoint;

fn strict_servers(test: &str) -> Vec<S3Endpoint> {
    places::servers(test).into_iter().filter(|server| server.checks_credentials).collect()
}

async fn refused(uri: &str, options: &StoreOptions) -> StoreError {
    match millstream_store::open(uri, options).await {
        Ok(store) => probe(store.as_ref()).await.unwrap_err(),
        Err(error) => error,
    }
}

fn assert_says(error: &StoreError, kind: StoreErrorKind, parts: &[&str]) {
    assert_eq!(error.kind, kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is missing in: {error}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_named_as_such() {
    for server in strict_servers("store::credentials") {
        for (id, secret) in [("nobody", "x"), (server.access_key_id.as_str(), "wrong")] {
            let keys =
                AccessKeys { access_key_id: id.to_owned(), secret_access_key: secret.to_owned(), session_token: None };
            let options = StoreOptions { credentials: Credentials::Keys(keys), ..places::options(&server) };
            let error = refused(&places::fresh_uri(&server), &options).await;
            assert_says(&error, StoreErrorKind::Configuration, &["refuses the credentials", &server.endpoint]);
            assert!(!error.to_string().contains("wrong"), "the secret is not shown: {error}");
        }
    }
}

#[tokio::test]
async fn a_missing_bucket_is_named() {
    for server in places::servers("store::bucket") {
        let error = refused("s3://no-such-bucket-here/p", &places::options(&server)).await;
        let parts = ["the bucket `no-such-bucket-here` does not exist", server.endpoint.as_str()];
        assert_says(&error, StoreErrorKind::Configuration, &parts);
    }
}

#[tokio::test]
async fn an_endpoint_where_nothing_listens_is_named() {
    let options = StoreOptions {
        endpoint: Some("http://127.0.0.1:9".to_owned()),
        credentials: Credentials::Keys(AccessKeys {
            access_key_id: "a".to_owned(),
            secret_access_key: "b".to_owned(),
            session_token: None,
        }),
        attempts_max: 2,
        ..StoreOptions::default()
    };
    let error = refused("s3://b/p", &options).await;
    assert_says(&error, StoreErrorKind::Unavailable, &["http://127.0.0.1:9 does not answer", "refused"]);

    let options = StoreOptions { endpoint: Some("http://no-such-host.invalid:9000".to_owned()), ..options };
    let error = refused("s3://b/p", &options).await;
    assert_says(&error, StoreErrorKind::Unavailable, &["no-such-host.invalid", "cannot be resolved"]);

    let options = StoreOptions { endpoint: Some("127.0.0.1:9000".to_owned()), ..options };
    let error = refused("s3://b/p", &options).await;
    assert_says(&error, StoreErrorKind::Configuration, &["`127.0.0.1:9000`", "http://host:port"]);
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_a_bad_ca_file_is_named() {
    if let Some(server) = xtask::endpoints::s3_tls("store::ca") {
        let options = StoreOptions { ca_file: None, ..places::options(&server) };
        let error = refused(&places::fresh_uri(&server), &options).await;
        assert_says(&error, StoreErrorKind::Configuration, &["the TLS connection to", &server.endpoint, "CA file"]);

        let folder = tempfile::tempdir().unwrap();
        for (text, says) in
            [("nonsense", "no certificate"), ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", "CA file")]
        {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, text).unwrap();
            let options = StoreOptions { ca_file: Some(path), ..places::options(&server) };
            let error = refused(&places::fresh_uri(&server), &options).await;
            assert_says(&error, StoreErrorKind::Configuration, &[says, "ca.pem"]);
        }
    }
}

#[tokio::test]
async fn credentials_come_from_a_file_and_a_bad_file_is_named() {
    for server in strict_servers("store::credentials_file") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        let text = format!(
            "[default]\naws_access_key_id = nobody\naws_secret_access_key = x\n\n[job]\naws_access_key_id = {}\n\
             aws_secret_access_key = {}\n",
            server.access_key_id, server.secret_access_key
        );
        std::fs::write(&path, text).unwrap();
        let with = |path, profile: Option<&str>| StoreOptions {
            credentials: Credentials::File { path, profile: profile.map(str::to_owned) },
            ..places::options(&server)
        };
        let uri = places::fresh_uri(&server);
        let store = millstream_store::open(&uri, &with(path.clone(), Some("job"))).await.unwrap();
        probe(store.as_ref()).await.unwrap();

        let error = refused(&uri, &with(path.clone(), None)).await;
        assert_says(&error, StoreErrorKind::Configuration, &["refuses the credentials"]);
        let error = refused(&uri, &with(path.clone(), Some("other"))).await;
        assert_says(&error, StoreErrorKind::Configuration, &["no credentials for", "other"]);
        let error = refused(&uri, &with(folder.path().join("none"), None)).await;
        assert_says(&error, StoreErrorKind::Configuration, &["cannot read the credentials file"]);
    }
}

#[tokio::test]
async fn variables_that_hold_credentials_are_named_when_they_are_not_set() {
    let credentials = Credentials::Variables {
        access_key_id: "MILLSTREAM_TEST_NOT_SET".to_owned(),
        secret_access_key: "MILLSTREAM_TEST_NOT_SET".to_owned(),
    };
    let options =
        StoreOptions { credentials, endpoint: Some("http://127.0.0.1:9".to_owned()), ..StoreOptions::default() };
    let error = refused("s3://b/p", &options).await;
    assert_says(&error, StoreErrorKind::Configuration, &["MILLSTREAM_TEST_NOT_SET"]);
}

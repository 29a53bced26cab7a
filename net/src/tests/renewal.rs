//! Files that are replaced while the process runs.

use super::*;
use crate::{SecurityError, TlsFileError};

const COORDINATOR: &str = "millstream://shop/orders/coordinator";
const WORKER: &str = "millstream://shop/orders/worker";

/// Connects again and again until it is as expected: files are looked at now and then.
async fn until(server: &Server, security: &Security, expected: bool) {
    let tries = async {
        while server.connect(security, Roles::COORDINATOR).await.is_ok() != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, tries).await.expect("the files are looked at");
}

#[tokio::test]
async fn new_connections_use_new_certificates() {
    let (old, new) = (Authority::new(), Authority::new());
    let files = Files::new(&old.issue(&[COORDINATOR]), &old);
    let server = Server::start(files.security(), Roles::CONTROL).await;
    let (early, late) = (old.process(WORKER), new.process(WORKER));
    until(&server, &early, true).await;
    files.replace(&new.issue(&[COORDINATOR]), &new);
    until(&server, &late, true).await;
    assert!(server.connect(&early, Roles::COORDINATOR).await.is_err());
}

#[tokio::test]
async fn a_client_renews_its_certificate_too() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Server::start(new.process(COORDINATOR), Roles::CONTROL).await;
    let files = Files::new(&old.issue(&[WORKER]), &old);
    let worker = files.security();
    until(&server, &worker, false).await;
    files.replace(&new.issue(&[WORKER]), &new);
    until(&server, &worker, true).await;
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let files = Files::new(&authority.issue(&[WORKER]), &authority);
    let error = || match Security::mutual(files.tls.clone()).unwrap_err() {
        SecurityError::File(error) => error,
        SecurityError::NotOurs { .. } => panic!("no job was asked for"),
    };
    std::fs::write(&files.tls.ca, "").unwrap();
    assert_eq!(error().to_string(), format!("failed to use {}: it holds no certificate", files.tls.ca.display()));
    std::fs::write(&files.tls.key, authority.issue(&[WORKER]).key).unwrap();
    assert!(error().to_string().contains("not the key of"), "{}", error());
    std::fs::write(&files.tls.certificate, authority.issue(&[]).certificate).unwrap();
    assert!(matches!(error(), TlsFileError::Identity { .. }));
    std::fs::remove_file(&files.tls.certificate).unwrap();
    assert!(matches!(error(), TlsFileError::Read { .. }));
}

//! Who is let in, and what the others are told.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Code;

use super::*;
use crate::refusal::Refusal;
use crate::{Identity, IdentityError, Role, verify};

const COORDINATOR: &str = "millstream://shop/orders/coordinator";
const WORKER: &str = "millstream://shop/orders/worker";
const OPERATOR: &str = "millstream://shop/orders/operator";

/// A coordinator that workers and coordinators of its job may connect to.
async fn coordinator(authority: &Authority) -> Server {
    Server::start(authority.process(COORDINATOR), Roles::CONTROL).await
}

#[tokio::test]
async fn processes_of_a_job_connect() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    for uri in [WORKER, COORDINATOR] {
        server.connect(&authority.process(uri), Roles::COORDINATOR).await.unwrap();
    }
    assert_eq!(refused(&server.security), []);
}

#[tokio::test]
async fn without_certificates_anybody_connects() {
    let server = Server::start(Security::plain(), Roles::CONTROL).await;
    server.connect(&Security::plain(), Roles::COORDINATOR).await.unwrap();
    assert_eq!(refused(&server.security), []);
}

#[tokio::test]
async fn a_worker_of_another_job_is_refused_by_both_ends() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let stranger = authority.process("millstream://shop/returns/worker");
    let text = server.refusal(&stranger, Roles::COORDINATOR).await;
    assert_eq!(text, "its certificate is for millstream://shop/orders/coordinator, but the job here is shop/returns");
    assert_eq!(refused(&stranger), [(Reason::Identity, 1)]);
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::ByPeer, 1)]);
}

#[tokio::test]
async fn another_role_is_refused_by_the_server() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let operator = authority.process(OPERATOR);
    let text = server.refusal(&operator, Roles::COORDINATOR).await;
    assert_eq!(text, "it refused this process's certificate: it is another job's or role's (its log says which)");
    assert_eq!(refused(&operator), [(Reason::ByPeer, 1)]);
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::Identity, 1)]);
}

#[tokio::test]
async fn a_server_of_another_role_is_refused_by_the_client() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let text = server.refusal(&authority.process(WORKER), Roles::WORKER).await;
    assert_eq!(text, "its certificate is for millstream://shop/orders/coordinator, but only a worker may connect here");
}

#[tokio::test]
async fn the_certificate_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = coordinator(&authority).await;
    let text = server.refusal(&other.process(WORKER), Roles::COORDINATOR).await;
    assert_eq!(text, "its certificate is not signed by the authority that is trusted here");
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::ByPeer, 1)]);

    // It trusts the server's authority, but that does not trust its own.
    let files = Files::new(&other.issue(&[WORKER]), &authority);
    let text = server.refusal(&files.security(), Roles::COORDINATOR).await;
    assert_eq!(text, "it refused this process's certificate: another authority has signed it");
    assert_eq!(refused_at_last(&server.security, 2).await, [(Reason::Certificate, 1), (Reason::ByPeer, 1)]);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let files = Files::new(&authority.issue_expired(WORKER), &authority);
    let text = server.refusal(&files.security(), Roles::COORDINATOR).await;
    assert_eq!(text, "it refused this process's certificate: it has expired, or is not valid yet");
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::Certificate, 1)]);

    let files = Files::new(&authority.issue_expired(COORDINATOR), &authority);
    let server = Server::start(files.security(), Roles::CONTROL).await;
    let text = server.refusal(&authority.process(WORKER), Roles::COORDINATOR).await;
    assert!(text.starts_with("its certificate does not hold: certificate expired"), "{text}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let (credentials, provider) = authority.process(WORKER).keys().await.unwrap();
    let mut config = verify::client_config(&credentials, &provider, Roles::COORDINATOR).unwrap();
    config.client_auth_cert_resolver = Arc::new(NoCertificate);
    let name = "coordinator".try_into().unwrap();
    let stream = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let told = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(
        Refusal::of(&told).map(|r| r.text).unwrap(),
        "it refused this process's certificate: it asks for a certificate"
    );
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::Certificate, 1)]);
}

/// What a client has that was given none.
#[derive(Debug)]
struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn plain_and_tls_do_not_meet() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let text = server.refusal(&Security::plain(), Roles::COORDINATOR).await;
    assert!(text.contains("it may take TLS only, and this process has no certificates"), "{text}");
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::Plain, 1)]);

    let server = Server::start(Security::plain(), Roles::CONTROL).await;
    let text = server.refusal(&authority.process(WORKER), Roles::COORDINATOR).await;
    assert!(text.starts_with("it ended the TLS handshake: does it have certificates?"), "{text}");
    assert_eq!(refused_at_last(&server.security, 1).await, [(Reason::Plain, 1)]);
}

#[tokio::test]
async fn broken_and_silent_handshakes_hold_nobody_up() {
    let authority = Authority::new();
    let server = coordinator(&authority).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(&[0x16]).await.unwrap();
    let mut broken = TcpStream::connect(server.address).await.unwrap();
    broken.write_all(b"\x16\x03\x01\x00\x05hello").await.unwrap();
    drop(TcpStream::connect(server.address).await.unwrap());
    server.connect(&authority.process(WORKER), Roles::COORDINATOR).await.unwrap();
    // The server closes.
    tokio::time::timeout(DEADLINE, broken.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert_eq!(refused_at_last(&server.security, 2).await, [(Reason::Silent, 1), (Reason::Handshake, 1)]);
}

#[tokio::test]
async fn nobody_there_is_not_a_refusal() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hasty = Duration::from_millis(200);
    let silent = connect(&address, &Security::plain(), Roles::WORKER, hasty, |endpoint| endpoint).await.unwrap_err();
    assert_eq!(silent.to_string(), format!("failed to connect to {address}: it did not answer within 200ms"));
    drop(listener);
    let gone = connect(&address, &Security::plain(), Roles::WORKER, hasty, |endpoint| endpoint).await.unwrap_err();
    assert!(matches!(&gone, ConnectError::Away { reason, .. } if reason.contains("refused")), "{gone}");
    let nonsense =
        connect("no address", &Security::plain(), Roles::WORKER, hasty, |endpoint| endpoint).await.unwrap_err();
    assert!(matches!(nonsense, ConnectError::Address { .. }), "{nonsense}");
}

#[tokio::test]
async fn one_port_serves_services_for_different_roles() {
    let authority = Authority::new();
    let security = authority.process(COORDINATOR);
    let peer = |uri: &str| Some(Peer { address: ([127, 0, 0, 1], 1).into(), identity: uri.parse().ok() });
    assert!(call(&security, Roles::ANY, peer(OPERATOR)).is_ok());
    let refusal = call(&security, Roles::CONTROL, peer(OPERATOR)).unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied);
    assert_eq!(call(&security, Roles::CONTROL, None).unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(refused(&security), [(Reason::Identity, 2)]);
    assert!(call(&Security::plain(), Roles::CONTROL, None).is_ok());
}

#[test]
fn a_certificate_names_one_identity() {
    let authority = Authority::new();
    let of = |uris: &[&str]| {
        let pem = authority.issue(uris).certificate;
        Identity::of_certificate(&rustls_pemfile::certs(&mut pem.as_bytes()).next().unwrap().unwrap())
    };
    let expected = Identity { namespace: "shop".into(), job: "orders".into(), role: Role::Worker };
    assert_eq!(of(&["spiffe://mesh/ns/shop/sa/default", WORKER]), Ok(expected));
    assert_eq!(of(&["spiffe://mesh/ns/shop/sa/default"]), Err(IdentityError::Absent));
    assert_eq!(of(&[]), Err(IdentityError::Absent));
    assert!(matches!(of(&[WORKER, COORDINATOR]), Err(IdentityError::Ambiguous { .. })));
    assert!(matches!(of(&["millstream://shop/orders/boss"]), Err(IdentityError::Malformed { .. })));
}

#[test]
fn a_process_with_the_wrong_certificate_is_told_at_its_start() {
    let authority = Authority::new();
    let security = authority.process(WORKER);
    assert!(security.check_is("shop", "orders", Role::Worker).is_ok());
    assert!(Security::plain().check_is("shop", "orders", Role::Worker).is_ok());
    let error = security.check_is("shop", "orders", Role::Coordinator).unwrap_err().to_string();
    assert!(error.contains("is for millstream://shop/orders/worker, but this process is"), "{error}");
}

//! Whether a peer's certificate holds and who it is: the chain by webpki, the name by our own rule.
//!
//! Host names are not looked at: pods are reached by addresses that no certificate can name beforehand. Nor is a session ever
//! resumed: each connection is checked against the authority and the roles of its moment.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, OtherError, ServerConfig,
    SignatureScheme,
};

use crate::files::Credentials;
use crate::identity::{Identity, Roles};

/// What is spoken inside: HTTP/2, as gRPC wants it.
const PROTOCOL: &[u8] = b"h2";

/// The server's side of a handshake with a peer of one of these roles.
pub(crate) fn server_config(
    credentials: &Arc<Credentials>,
    provider: &Arc<CryptoProvider>,
    roles: Roles,
) -> Result<ServerConfig, Error> {
    let chain = WebPkiClientVerifier::builder_with_provider(credentials.roots.clone(), provider.clone())
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let verifier = ClientVerifier { chain, rule: Rule::new(credentials, roles) };
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The client's side.
pub(crate) fn client_config(
    credentials: &Arc<Credentials>,
    provider: &Arc<CryptoProvider>,
    roles: Roles,
) -> Result<ClientConfig, Error> {
    let verifier = ServerVerifier {
        credentials: credentials.clone(),
        provider: provider.clone(),
        rule: Rule::new(credentials, roles),
    };
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.key.clone())));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Who may be at the other end.
#[derive(Debug)]
struct Rule {
    own: Identity,
    roles: Roles,
}

impl Rule {
    fn new(credentials: &Credentials, roles: Roles) -> Self {
        Self { own: credentials.identity.clone(), roles }
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let checked = Identity::of_certificate(certificate).and_then(|peer| self.own.accepts(&peer, self.roles));
        checked.map_err(|e| CertificateError::Other(OtherError(Arc::new(e))).into())
    }
}

/// Checks the certificates of clients.
#[derive(Debug)]
struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    rule: Rule,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.rule.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Checks the certificates of servers. The verifier of rustls checks a host name with the chain, so only its parts are used.
#[derive(Debug)]
struct ServerVerifier {
    credentials: Arc<Credentials>,
    provider: Arc<CryptoProvider>,
    rule: Rule,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.credentials.roots, intermediates, now, algorithms)?;
        self.rule.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

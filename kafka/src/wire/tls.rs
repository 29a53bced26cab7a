//! TLS by rustls.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::config::{ClientCertificate, Pem, Tls};
use crate::error::KafkaError;

/// Builds the TLS settings once for all connections of a client.
pub(crate) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, KafkaError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots(tls.authority.as_ref())?);
    let setting = |reason: String| KafkaError::Setting { name: "ssl.*".to_owned(), reason };
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| setting(e.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|e| setting(format!("no usable trusted certificate: {e}")))?;
    let builder = if tls.verify_hostname {
        builder.with_webpki_verifier(verifier)
    } else {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyHostname(verifier)))
    };
    let config = match &tls.client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let (chain, key) = client_certificate(client)?;
            builder.with_client_auth_cert(chain, key).map_err(|e| setting(format!("client certificate: {e}")))?
        }
    };
    Ok(Arc::new(config))
}

fn roots(authority: Option<&Pem>) -> Result<RootCertStore, KafkaError> {
    const SETTING: &str = "ssl.ca";
    let mut roots = RootCertStore::empty();
    let setting = |reason: String| KafkaError::Setting { name: SETTING.to_owned(), reason };
    match authority {
        Some(pem) => {
            for certificate in certificates(pem, SETTING)? {
                roots.add(certificate).map_err(|e| setting(e.to_string()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                return Err(setting("this system has no trusted certificates; name the authority's file".to_owned()));
            }
        }
    }
    Ok(roots)
}

fn certificates(pem: &Pem, name: &str) -> Result<Vec<CertificateDer<'static>>, KafkaError> {
    let text = pem.read(name)?;
    let certificates: Vec<_> = rustls_pemfile::certs(&mut text.as_slice())
        .collect::<Result<_, _>>()
        .map_err(|e| KafkaError::Setting { name: name.to_owned(), reason: format!("not PEM: {e}") })?;
    if certificates.is_empty() {
        return Err(KafkaError::Setting { name: name.to_owned(), reason: "it holds no certificate".to_owned() });
    }
    Ok(certificates)
}

fn client_certificate(
    client: &ClientCertificate,
) -> Result<(Vec<CertificateDer<'static>>, rustls::pki_types::PrivateKeyDer<'static>), KafkaError> {
    const SETTING: &str = "ssl.key";
    let chain = certificates(&client.chain, "ssl.certificate")?;
    let text = client.key.read(SETTING)?;
    let setting = |reason: &str| KafkaError::Setting { name: SETTING.to_owned(), reason: reason.to_owned() };
    let key = rustls_pemfile::private_key(&mut text.as_slice())
        .map_err(|e| setting(&format!("not PEM: {e}")))?
        .ok_or_else(|| setting("it holds no unencrypted private key; decrypt it with 'openssl pkcs8'"))?;
    Ok((chain, key))
}

/// Checks the chain of certificates but not the host's name: `ssl.endpoint.identification.algorithm=` (empty).
#[derive(Debug)]
struct AnyHostname(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyHostname {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The name is the last thing that the inner verifier checks: this error means that all else is right.
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

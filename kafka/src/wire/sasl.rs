//! The SASL dialogue on a fresh connection: SaslHandshake, then SaslAuthenticate until both sides are satisfied.

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};

use super::connection::Connection;
use super::scram::Scram;
use super::text;
use crate::config::{Sasl, SaslMechanism};
use crate::error::KafkaError;

/// 24 characters of base64: 18 random bytes.
const NONCE_BYTES: usize = 18;

/// Proves this client to the broker.
pub(super) fn authenticate(connection: &mut Connection, sasl: &Sasl) -> Result<(), KafkaError> {
    handshake(connection, sasl.mechanism)?;
    match Scram::new(sasl.mechanism, &sasl.username, &sasl.password, nonce()?) {
        None => {
            let message = format!("\0{}\0{}", sasl.username, sasl.password);
            exchange(connection, message.into_bytes())?;
        }
        Some(scram) => {
            let server_first = exchange_text(connection, scram.first_message())?;
            let (message, signature) = scram.final_message(&server_first).map_err(|r| failed(connection, r))?;
            let server_final = exchange_text(connection, message)?;
            signature.verify(&server_final).map_err(|r| failed(connection, r))?;
        }
    }
    Ok(())
}

fn handshake(connection: &mut Connection, mechanism: SaslMechanism) -> Result<(), KafkaError> {
    let request = SaslHandshakeRequest::default().with_mechanism(text(mechanism.name()));
    let response = connection.call(&request, 1)?;
    if response.error_code == 0 {
        return Ok(());
    }
    let offered: Vec<&str> = response.mechanisms.iter().map(|m| m.as_str()).collect();
    let reason = format!("it does not offer {}; it offers {}", mechanism.name(), offered.join(", "));
    Err(failed(connection, reason))
}

fn exchange_text(connection: &mut Connection, message: String) -> Result<String, KafkaError> {
    let answer = exchange(connection, message.into_bytes())?;
    String::from_utf8(answer.to_vec()).map_err(|_| failed(connection, "its SASL answer is not UTF-8".to_owned()))
}

fn exchange(connection: &mut Connection, message: Vec<u8>) -> Result<Bytes, KafkaError> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let response = connection.call(&request, 2)?;
    if response.error_code == 0 {
        return Ok(response.auth_bytes);
    }
    let reason =
        response.error_message.map_or_else(|| format!("error code {}", response.error_code), |m| m.to_string());
    Err(failed(connection, reason))
}

fn failed(connection: &Connection, reason: String) -> KafkaError {
    KafkaError::Authentication { broker: connection.address().to_owned(), reason }
}

fn nonce() -> Result<String, KafkaError> {
    use base64::Engine as _;
    let mut random = [0u8; NONCE_BYTES];
    getrandom::fill(&mut random).map_err(|e| KafkaError::Broker {
        action: "draw a random number".to_owned(),
        reason: e.to_string(),
        retriable: true,
    })?;
    Ok(base64::engine::general_purpose::STANDARD_NO_PAD.encode(random))
}

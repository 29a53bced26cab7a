//! SCRAM, the client's side: RFC 5802, with SHA-256 (RFC 7677) or SHA-512. Pure: the nonce comes from outside.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use crate::config::SaslMechanism;

/// No channel binding, no other identity: Kafka uses neither.
const GS2_HEADER: &str = "n,,";
/// More would let a false server burn this client's CPU. Kafka's default is 4,096.
const ITERATIONS_MAX: u32 = 1_000_000;

/// The exchange after the first message was made.
pub(super) struct Scram {
    algorithm: Algorithm,
    password: String,
    nonce: String,
    first_bare: String,
}

/// What the server must prove at the end.
pub(super) struct ServerSignature(String);

#[derive(Clone, Copy)]
struct Algorithm {
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
    digest: &'static digest::Algorithm,
}

impl Scram {
    /// `None` for a mechanism that is not SCRAM.
    pub(super) fn new(mechanism: SaslMechanism, username: &str, password: &str, nonce: String) -> Option<Self> {
        let algorithm = match mechanism {
            SaslMechanism::Plain => return None,
            SaslMechanism::ScramSha256 => {
                Algorithm { hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256, digest: &digest::SHA256 }
            }
            SaslMechanism::ScramSha512 => {
                Algorithm { hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512, digest: &digest::SHA512 }
            }
        };
        let user = username.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        Some(Self { algorithm, password: password.to_owned(), nonce, first_bare })
    }

    pub(super) fn first_message(&self) -> String {
        format!("{GS2_HEADER}{}", self.first_bare)
    }

    /// The answer to the server's first message, and what the server must answer to that.
    pub(super) fn final_message(&self, server_first: &str) -> Result<(String, ServerSignature), String> {
        let attribute = |name: &str| {
            server_first
                .split(',')
                .find_map(|part| part.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')))
                .ok_or_else(|| format!("the server's SCRAM message has no '{name}'"))
        };
        let nonce = attribute("r")?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("the server's SCRAM nonce does not continue this client's".to_owned());
        }
        let salt = BASE64.decode(attribute("s")?).map_err(|e| format!("the server's SCRAM salt: {e}"))?;
        let iterations: u32 = attribute("i")?.parse().map_err(|e| format!("the server's SCRAM iterations: {e}"))?;
        let iterations = NonZeroU32::new(iterations)
            .filter(|n| n.get() <= ITERATIONS_MAX)
            .ok_or_else(|| format!("{iterations} SCRAM iterations are outside of 1 to {ITERATIONS_MAX}"))?;

        let Algorithm { hmac: hmac_algorithm, pbkdf2: pbkdf2_algorithm, digest: digest_algorithm } = self.algorithm;
        let mut salted = vec![0u8; digest_algorithm.output_len()];
        pbkdf2::derive(pbkdf2_algorithm, iterations, &salt, self.password.as_bytes(), &mut salted);
        let mac = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac_algorithm, key), data);

        let without_proof = format!("c={},r={nonce}", BASE64.encode(GS2_HEADER));
        let auth_message = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = mac(&salted, b"Client Key");
        let stored_key = digest::digest(digest_algorithm, client_key.as_ref());
        let signature = mac(stored_key.as_ref(), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = mac(&salted, b"Server Key");
        let server_signature = mac(server_key.as_ref(), auth_message.as_bytes());
        let message = format!("{without_proof},p={}", BASE64.encode(proof));
        Ok((message, ServerSignature(BASE64.encode(server_signature.as_ref()))))
    }
}

impl ServerSignature {
    /// Whether the server knows the password too.
    pub(super) fn verify(&self, server_final: &str) -> Result<(), String> {
        if let Some(error) = server_final.strip_prefix("e=") {
            return Err(format!("the server refused: {error}"));
        }
        match server_final.split(',').find_map(|part| part.strip_prefix("v=")) {
            Some(signature) if signature == self.0 => Ok(()),
            _ => Err("the server did not prove that it knows the password".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677, section 3.
    #[test]
    fn speaks_as_the_rfc_shows() {
        let scram =
            Scram::new(SaslMechanism::ScramSha256, "user", "pencil", "rOprNGfwEbeRWgbNEkqO".into()).expect("scram");
        assert_eq!(scram.first_message(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (message, signature) = scram.final_message(server_first).expect("valid");
        assert_eq!(
            message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        signature.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=").expect("the server's proof");
        assert!(signature.verify("v=AAAA").is_err());
        assert!(signature.verify("e=invalid-proof").is_err());
    }

    #[test]
    fn refuses_a_server_that_does_not_play_by_the_rules() {
        let scram = Scram::new(SaslMechanism::ScramSha512, "a=b,c", "x", "nonce".into()).expect("scram");
        assert_eq!(scram.first_message(), "n,,n=a=3Db=2Cc,r=nonce");
        for bad in [
            "",
            "r=other1,s=AAAA,i=4096",
            "r=nonce,s=AAAA,i=4096",
            "r=nonce1,s=!,i=1",
            "r=nonce1,s=AAAA,i=0",
            "r=nonce1,s=AAAA,i=4000000000",
        ] {
            assert!(scram.final_message(bad).is_err(), "{bad}");
        }
    }
}

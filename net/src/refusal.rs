//! Connections that did not come to be for want of trust: why, how many, and telling people without flooding the log.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustls::{AlertDescription, CertificateError};
use tokio::time::Instant;

use crate::identity::IdentityError;

/// At most one line in the log per so much time: a port that is scanned must not fill a disk.
const LOG_INTERVAL: Duration = Duration::from_secs(5);

/// What stood in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// One side speaks TLS and the other does not.
    Plain,
    /// The peer has no certificate, or one that does not hold: other authority, expired, not for this use.
    Certificate,
    /// The certificate holds, but is another job's or role's.
    Identity,
    /// The peer did not accept this process's certificate.
    ByPeer,
    /// The peer fell silent before the connection was made.
    Silent,
    /// What the peer sent is not TLS as it should be, or it went away in the middle.
    Handshake,
}

impl Reason {
    const ALL: [Self; 6] =
        [Self::Plain, Self::Certificate, Self::Identity, Self::ByPeer, Self::Silent, Self::Handshake];

    /// As it stands in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Certificate => "certificate",
            Self::Identity => "identity",
            Self::ByPeer => "by_peer",
            Self::Silent => "silent",
            Self::Handshake => "handshake",
        }
    }
}

/// A refusal, in words that read on from "the peer at ...:".
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) text: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into() }
    }

    /// What an error of the TLS layer means. `None`: it is the network's.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match tls {
            rustls::Error::NoCertificatesPresented => Self::new(Reason::Certificate, "it presented no certificate"),
            rustls::Error::InvalidCertificate(cause) => Self::of_certificate(cause),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            other => Self::new(Reason::Handshake, format!("the TLS handshake failed: {other}")),
        })
    }

    fn of_certificate(cause: &CertificateError) -> Self {
        let identity = match cause {
            CertificateError::Other(other) => other.0.downcast_ref::<IdentityError>(),
            _ => None,
        };
        match (identity, cause) {
            (Some(identity), _) => Self::new(Reason::Identity, format!("its certificate {identity}")),
            // A bad signature: the authorities have one name and two keys, as one that was made anew.
            (None, CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                Self::new(Reason::Certificate, "its certificate is not signed by the authority that is trusted here")
            }
            (None, cause) => Self::new(Reason::Certificate, format!("its certificate does not hold: {cause}")),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        let why = match alert {
            AlertDescription::CertificateRequired => "it asks for a certificate".to_owned(),
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "another authority has signed it".to_owned()
            }
            AlertDescription::CertificateExpired => "it has expired, or is not valid yet".to_owned(),
            AlertDescription::CertificateUnknown => "it is another job's or role's (its log says which)".to_owned(),
            other => format!("alert {other:?}"),
        };
        Self::new(Reason::ByPeer, format!("it refused this process's certificate: {why}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Refusal {}

/// How many connections this process and its peers refused, by reason.
#[derive(Debug, Default)]
pub struct RefusedConnections {
    counts: [AtomicU64; Reason::ALL.len()],
    log: Mutex<Log>,
}

/// The log's own bound.
#[derive(Debug, Default)]
struct Log {
    last: Option<Instant>,
    untold: u64,
}

impl RefusedConnections {
    /// The counts, for metrics.
    pub fn read(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL.into_iter().zip(&self.counts).map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.read().map(|(_, count)| count).sum()
    }

    pub(crate) fn count(&self, reason: Reason) {
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that came in, and says so unless one was told of just now.
    pub(crate) fn turned_away(&self, peer: SocketAddr, refusal: &Refusal) {
        self.count(refusal.reason);
        let Some(untold) = self.log.lock().unwrap_or_else(PoisonError::into_inner).line(Instant::now()) else {
            return;
        };
        let others = if untold == 0 { String::new() } else { format!(" (and {untold} before it)") };
        tracing::warn!(reason = refusal.reason.name(), "refused a connection from {peer}: {refusal}{others}");
    }
}

impl Log {
    /// Whether there is room for a line, and how many went without one since the last.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.duration_since(last) < LOG_INTERVAL) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_refusals_is_one_line_with_a_count() {
        let mut log = Log::default();
        let start = Instant::now();
        let lines: Vec<_> = (0..100).map(|i| log.line(start + LOG_INTERVAL * i / 50)).collect();
        assert_eq!(lines.iter().flatten().copied().collect::<Vec<_>>(), [0, 49]);
    }

    #[test]
    fn counts_are_kept_by_reason() {
        let refused = RefusedConnections::default();
        refused.count(Reason::Identity);
        refused.count(Reason::Handshake);
        refused.count(Reason::Handshake);
        let counts: Vec<_> = refused.read().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [(Reason::Identity, 1), (Reason::Handshake, 2)]);
        assert_eq!(refused.total(), 3);
    }
}

//! What all connections of a process share: its certificates, renewed when the files change, and the count of refusals.

use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::files::{Contents, Credentials, TlsFileError, TlsFiles};
use crate::identity::{Identity, Role, Roles};
use crate::listener::Peer;
use crate::refusal::{Reason, RefusedConnections};

/// The files are looked at when a connection begins, this often at most. Certificates live for hours at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How the connections of a process are secured. Clones are one and the same.
#[derive(Clone, Debug)]
pub struct Security {
    mutual: Option<Arc<Mutual>>,
    refused: Arc<RefusedConnections>,
}

/// Certificates that cannot be used.
#[derive(Debug, Error)]
pub enum SecurityError {
    #[error(transparent)]
    File(#[from] TlsFileError),
    #[error("the certificate in {file} is for {found}, but this process is {needed}")]
    NotOurs { file: String, found: String, needed: String },
}

#[derive(Debug)]
struct Mutual {
    files: TlsFiles,
    identity: Identity,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    credentials: Arc<Credentials>,
    /// What the files held at the last look, usable or not.
    seen: Contents,
    looked_at: Instant,
}

impl Default for Security {
    /// No certificates.
    fn default() -> Self {
        Self::plain()
    }
}

/// Credentials and the provider they are used with.
pub(crate) type Keys = (Arc<Credentials>, Arc<CryptoProvider>);

impl Security {
    /// No certificates: whoever reaches a port is heard.
    #[must_use]
    pub fn plain() -> Self {
        Self { mutual: None, refused: Arc::default() }
    }

    /// Mutual TLS with these files, which are read now, and again when they change.
    ///
    /// # Errors
    /// Names the file that cannot be read or used.
    pub fn mutual(files: TlsFiles) -> Result<Self, SecurityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = files.read();
        let credentials = Arc::new(files.credentials(&seen, &provider)?);
        let identity = credentials.identity.clone();
        let current = Mutex::new(Current { credentials, seen, looked_at: Instant::now() });
        let mutual = Mutual { files, identity, provider, current };
        Ok(Self { mutual: Some(Arc::new(mutual)), refused: Arc::default() })
    }

    /// Who this process is to its peers. `None`: it has no certificate.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.mutual.as_ref().map(|m| &m.identity)
    }

    /// Checks that the certificate, if there is one, is that of this role of this job: told at the start, not by every peer.
    ///
    /// # Errors
    /// When it is another one's.
    pub fn check_is(&self, namespace: &str, job: &str, role: Role) -> Result<(), SecurityError> {
        let needed = Identity { namespace: namespace.to_owned(), job: job.to_owned(), role };
        match &self.mutual {
            Some(mutual) if mutual.identity != needed => Err(mutual.not_ours(&mutual.identity, &needed)),
            _ => Ok(()),
        }
    }

    /// Connections that were refused, by either side.
    #[must_use]
    pub fn refused(&self) -> &RefusedConnections {
        &self.refused
    }

    /// Lets only peers of these roles call a service, where one port serves several. Without certificates, everybody.
    #[must_use]
    pub fn only(&self, roles: Roles) -> impl Interceptor + Clone + use<> {
        let security = self.clone();
        move |request: Request<()>| match security.check_caller(request.extensions().get(), roles) {
            Ok(()) => Ok(request),
            Err(status) => Err(status),
        }
    }

    fn check_caller(&self, peer: Option<&Peer>, roles: Roles) -> Result<(), Status> {
        let Some(own) = self.identity() else { return Ok(()) };
        let caller = peer.and_then(|p| p.identity.as_ref());
        let Some(caller) = caller else {
            self.refused.count(Reason::Identity);
            return Err(Status::unauthenticated("this call needs a certificate"));
        };
        own.accepts(caller, roles).map_err(|e| {
            self.refused.count(Reason::Identity);
            Status::permission_denied(format!("the caller's certificate {e}"))
        })
    }

    /// The credentials of now. `None`: plain. May wait for the disk.
    pub(crate) async fn keys(&self) -> Option<Keys> {
        let mutual = self.mutual.as_ref()?;
        Some((mutual.credentials().await, mutual.provider.clone()))
    }
}

impl Mutual {
    fn not_ours(&self, found: &Identity, needed: &Identity) -> SecurityError {
        let file = self.files.certificate.display().to_string();
        SecurityError::NotOurs { file, found: found.to_string(), needed: needed.to_string() }
    }

    async fn credentials(&self) -> Arc<Credentials> {
        let mut current = self.current.lock().await;
        if current.looked_at.elapsed() >= LOOK_INTERVAL {
            let files = self.files.clone();
            // A look that fails to run is made again with the next connection.
            if let Ok(contents) = tokio::task::spawn_blocking(move || files.read()).await {
                current.looked_at = Instant::now();
                self.take(&mut current, contents);
            }
        }
        current.credentials.clone()
    }

    /// Uses what the files hold now, if it is new and good. What is not good is told once.
    fn take(&self, current: &mut Current, contents: Contents) {
        if contents == current.seen {
            return;
        }
        let made = self.files.credentials(&contents, &self.provider).map_err(SecurityError::from).and_then(|new| {
            if new.identity == self.identity {
                return Ok(new);
            }
            Err(self.not_ours(&new.identity, &self.identity))
        });
        current.seen = contents;
        match made {
            Ok(new) => {
                current.credentials = Arc::new(new);
                tracing::info!("the certificates were renewed: new connections use them");
            }
            // Between the replacement of one file and the next they do not fit each other; that mends itself.
            Err(error) => tracing::warn!("the new certificates are not used, the old ones stay: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Authority, Files};

    const WORKER: &str = "millstream://shop/orders/worker";

    #[tokio::test]
    async fn broken_new_files_leave_the_old_ones_in_use() {
        let authority = Authority::new();
        let files = Files::new(&authority.issue(&[WORKER]), &authority);
        let security = files.security();
        let mutual = security.mutual.as_ref().unwrap();
        let mut current = mutual.current.lock().await;
        let first = current.credentials.clone();
        let breakages: [&dyn Fn(); 4] = [
            &|| std::fs::write(&files.tls.key, "no key").unwrap(),
            // Another certificate's key.
            &|| std::fs::write(&files.tls.key, authority.issue(&[WORKER]).key).unwrap(),
            &|| files.replace(&authority.issue(&["millstream://shop/returns/worker"]), &authority),
            &|| std::fs::remove_file(&files.tls.certificate).unwrap(),
        ];
        for break_them in breakages {
            break_them();
            mutual.take(&mut current, files.tls.read());
            assert!(Arc::ptr_eq(&first, &current.credentials));
            assert!(current.seen == files.tls.read(), "it is told of once");
        }
        files.replace(&authority.issue(&[WORKER]), &authority);
        mutual.take(&mut current, files.tls.read());
        assert!(!Arc::ptr_eq(&first, &current.credentials));
    }
}

//! Who a process is: the URI in its certificate, `millstream://<namespace>/<job>/<role>`.
//!
//! Owns: that form, and reading it from a certificate. Does not own: whether the certificate is genuine (`verify`).

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use thiserror::Error;

/// Our own scheme: the URI that a service mesh puts into a pod's certificate is never taken for it.
const SCHEME: &str = "millstream://";

/// The longest name that Kubernetes gives a namespace or a job.
const NAME_BYTES_MAX: usize = 63;

/// What a process does for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Coordinator,
    Worker,
    /// The Kubernetes operator, and people with the job's command line: they talk to its operations API alone.
    Operator,
}

impl Role {
    const ALL: [Self; 3] = [Self::Coordinator, Self::Worker, Self::Operator];

    fn name(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Operator => "operator",
        }
    }
}

/// Who may be at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(&'static [Role]);

impl Roles {
    pub const COORDINATOR: Self = Self(&[Role::Coordinator]);
    /// Rows between workers.
    pub const WORKER: Self = Self(&[Role::Worker]);
    /// The control plane: workers register, standbys ask who rules.
    pub const CONTROL: Self = Self(&[Role::Coordinator, Role::Worker]);
    /// The operations API.
    pub const ANY: Self = Self(&Role::ALL);

    #[must_use]
    pub fn contains(self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

/// A role in a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub namespace: String,
    pub job: String,
    pub role: Role,
}

impl Identity {
    /// The one identity that a certificate names. Other URIs in it do not matter.
    ///
    /// # Errors
    /// When it names none, two, or one that is not well formed.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let parsed = webpki::EndEntityCert::try_from(certificate).map_err(|_| IdentityError::Unreadable)?;
        let mut ours = parsed.valid_uri_names().filter(|uri| uri.starts_with(SCHEME));
        let uri = ours.next().ok_or(IdentityError::Absent)?;
        match ours.next() {
            None => uri.parse(),
            Some(second) => Err(IdentityError::Ambiguous { first: uri.to_owned(), second: second.to_owned() }),
        }
    }

    /// Whether a peer with the identity `other` may talk to this process as one of `roles`.
    pub(crate) fn accepts(&self, other: &Self, roles: Roles) -> Result<(), IdentityError> {
        if (&self.namespace, &self.job) != (&other.namespace, &other.job) {
            let job = format!("{}/{}", self.namespace, self.job);
            return Err(IdentityError::OtherJob { other: other.to_string(), job });
        }
        if !roles.contains(other.role) {
            return Err(IdentityError::OtherRole { other: other.to_string(), roles });
        }
        Ok(())
    }
}

/// Why an identity is not accepted. Each reads on from "its certificate ...".
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    #[error("cannot be read")]
    Unreadable,
    #[error("names no job: it needs the URI {SCHEME}<namespace>/<job>/<role> among its subject alternative names")]
    Absent,
    #[error("names two identities, {first} and {second}: one is needed")]
    Ambiguous { first: String, second: String },
    #[error("names {uri}, which is not {SCHEME}<namespace>/<job>/<coordinator, worker or operator>")]
    Malformed { uri: String },
    #[error("is for {other}, but the job here is {job}")]
    OtherJob { other: String, job: String },
    #[error("is for {other}, but only {roles} may connect here")]
    OtherRole { other: String, roles: Roles },
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed { uri: uri.to_owned() };
        let path = uri.strip_prefix(SCHEME).ok_or_else(malformed)?;
        let mut parts = path.split('/');
        let (Some(namespace), Some(job), Some(role), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed());
        };
        let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or_else(malformed)?;
        if !is_name(namespace) || !is_name(job) {
            return Err(malformed());
        }
        Ok(Self { namespace: namespace.to_owned(), job: job.to_owned(), role })
    }
}

/// The letters of a name in a manifest. Nothing that a URI would escape, so equal names are equal bytes.
fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.namespace, self.job, self.role)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, role) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { " or " };
            write!(f, "{separator}a {role}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_is_written() {
        for role in Role::ALL {
            let identity = Identity { namespace: "shop".into(), job: "orders-2".into(), role };
            assert_eq!(identity.to_string().parse::<Identity>(), Ok(identity));
        }
    }

    #[test]
    fn what_is_not_exactly_an_identity_is_refused() {
        for uri in [
            "",
            "millstream://",
            "millstream://shop/orders",
            "millstream://shop/orders/",
            "millstream://shop/orders/Worker",
            "millstream://shop/orders/worker/",
            "millstream://shop/orders/worker?x",
            "millstream:///orders/worker",
            "millstream://shop//worker",
            "millstream://Shop/orders/worker",
            "millstream://sh%6fp/orders/worker",
            "Millstream://shop/orders/worker",
            "spiffe://shop/orders/worker",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(IdentityError::Malformed { uri: uri.to_owned() }));
        }
        let long = format!("millstream://shop/{}/worker", "o".repeat(64));
        assert!(long.parse::<Identity>().is_err());
    }

    #[test]
    fn another_job_and_another_role_are_told_apart() {
        let own: Identity = "millstream://shop/orders/coordinator".parse().unwrap();
        let parse = |uri: &str| uri.parse::<Identity>().unwrap();
        assert_eq!(own.accepts(&parse("millstream://shop/orders/worker"), Roles::CONTROL), Ok(()));
        let refusal =
            |uri: &str, roles: Roles| own.accepts(&parse(uri), roles).expect_err("it may not connect").to_string();
        assert_eq!(
            refusal("millstream://test/orders/worker", Roles::CONTROL),
            "is for millstream://test/orders/worker, but the job here is shop/orders"
        );
        assert_eq!(
            refusal("millstream://shop/orders/operator", Roles::CONTROL),
            "is for millstream://shop/orders/operator, but only a coordinator or a worker may connect here"
        );
    }
}

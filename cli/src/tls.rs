//! From the command line to what secures the connections of a process.

use millstream_net::{Role, Security, SecurityError, TlsFiles};

use crate::args::TlsArguments;
use crate::exit::Exit;

/// Reads the certificates, if there are any.
pub fn security(arguments: &TlsArguments) -> Result<Security, (Exit, String)> {
    let TlsArguments { tls_cert, tls_key, tls_ca } = arguments;
    match (tls_cert.clone(), tls_key.clone(), tls_ca.clone()) {
        (None, None, None) => Ok(Security::plain()),
        (Some(certificate), Some(key), Some(ca)) => {
            Security::mutual(TlsFiles { certificate, key, ca }).map_err(unusable)
        }
        _ => Err((Exit::Usage, "give all of --tls-cert, --tls-key and --tls-ca, or none of them".to_owned())),
    }
}

/// Checks that the certificate is that of this role of this job.
pub fn check_is(security: &Security, namespace: &str, job: &str, role: Role) -> Result<(), (Exit, String)> {
    security.check_is(namespace, job, role).map_err(unusable)
}

/// The certificate of a worker names its job too; `job` is what the command line says, `<namespace>/<name>`, or nothing.
pub fn job_of_worker(security: &Security, job: Option<&str>) -> Result<String, (Exit, String)> {
    let Some(identity) = security.identity() else { return Ok(job.unwrap_or_default().to_owned()) };
    let own = format!("{}/{}", identity.namespace, identity.job);
    let job = job.map_or(own, str::to_owned);
    let (namespace, name) = job.split_once('/').unwrap_or(("", &job));
    check_is(security, namespace, name, Role::Worker)?;
    Ok(job)
}

fn unusable(error: SecurityError) -> (Exit, String) {
    (Exit::Environment, error.to_string())
}

//! What an error of the SDK or of the server means to the caller.
//!
//! Owns: the one message per cause: what, where, what to do. Does not own: retries.

use super::Place;
use crate::{StoreError, StoreErrorKind};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use std::error::Error;
use std::io::ErrorKind;

/// An error, and what a conditional put must know of it.
pub(super) struct Failure {
    pub(super) error: StoreError,
    /// The request did not reach the server, or the server refused it: nothing was written by it.
    pub(super) surely_without_effect: bool,
    /// HTTP status of the answer, if there was one.
    pub(super) status: Option<u16>,
}

pub(super) fn classify<E>(verb: &'static str, object: &str, place: &Place, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let (kind, reason, surely_without_effect) = match error {
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            let region = error.raw_response().and_then(|response| response.headers().get("x-amz-bucket-region"));
            let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
            let message = error.as_service_error().and_then(ProvideErrorMetadata::message).unwrap_or_default();
            let status = status.unwrap_or(500);
            let (kind, reason) = answer(status, code, message, region, place);
            (kind, reason, (400..500).contains(&status) && status != 408)
        }
        SdkError::TimeoutError(_) => (StoreErrorKind::Unavailable, no_answer(place, "no answer in time"), false),
        other => unsent(other, place),
    };
    let error = StoreError { kind, verb, object: object.to_owned(), reason };
    Failure { error, surely_without_effect, status }
}

/// An error that stands in the body of an answer, for one of many objects.
pub(super) fn from_code(verb: &'static str, object: &str, place: &Place, code: &str, message: &str) -> StoreError {
    let status = if matches!(code, "InternalError" | "SlowDown" | "ServiceUnavailable") { 503 } else { 400 };
    let (kind, reason) = answer(status, code, message, None, place);
    StoreError { kind, verb, object: object.to_owned(), reason }
}

/// The server answered.
fn answer(status: u16, code: &str, message: &str, region: Option<&str>, place: &Place) -> (StoreErrorKind, String) {
    let (server, bucket) = (&place.server, &place.bucket);
    let said = match (code, message) {
        ("", _) => format!("status {status}"),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {}", message.trim_end_matches('.')),
    };
    let person = StoreErrorKind::Configuration;
    match code {
        "NoSuchBucket" => {
            (person, format!("the bucket `{bucket}` does not exist on {server}: create it or correct the storage URI"))
        }
        "NoSuchKey" => (StoreErrorKind::NotFound, "there is no such object".to_owned()),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken" | "InvalidClientTokenId" => (
            person,
            format!("{server} refuses the credentials ({said}): check the access key id, the secret and their source"),
        ),
        "AccessDenied" | "AllAccessDisabled" | "Forbidden" => (
            person,
            format!("{server} denies access ({said}): these credentials need get, put, list and delete on `{bucket}`"),
        ),
        "RequestTimeTooSkewed" => (person, format!("{server} finds this machine's clock wrong ({said}): set the time")),
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            let region = region.map_or_else(|| "another region".to_owned(), |region| format!("region {region}"));
            (person, format!("the bucket `{bucket}` is in {region} ({said}): set the region of the storage"))
        }
        "InsufficientStorage" | "QuotaExceeded" | "XMinioStorageFull" | "StorageFull" => {
            (person, format!("{server} is full ({said}): free space there"))
        }
        "SlowDown" | "InternalError" | "ServiceUnavailable" | "RequestTimeout" | "OperationAborted" => {
            (StoreErrorKind::Unavailable, format!("{server} answers {said}"))
        }
        _ => match status {
            301 | 307 => {
                let region = region.unwrap_or("unknown");
                (
                    person,
                    format!("the bucket `{bucket}` is in another region ({region}): set the region of the storage"),
                )
            }
            401 | 403 => (
                person,
                format!("{server} denies access ({said}): check the credentials and their rights on `{bucket}`"),
            ),
            404 => (StoreErrorKind::NotFound, "there is no such object".to_owned()),
            507 => (person, format!("{server} is full ({said}): free space there")),
            408 | 409 | 412 | 429 | 500.. => (StoreErrorKind::Unavailable, format!("{server} answers {said}")),
            _ => (person, format!("{server} refuses the request ({said})")),
        },
    }
}

/// There was no answer at all.
fn unsent<E: Error + 'static>(error: &SdkError<E, HttpResponse>, place: &Place) -> (StoreErrorKind, String, bool) {
    let server = &place.server;
    let said = DisplayErrorContext(error).to_string();
    for cause in causes(error) {
        if let Some(credentials) = cause.downcast_ref::<CredentialsError>() {
            let detail = credentials.source().map_or_else(|| credentials.to_string(), ToString::to_string);
            let reason = format!(
                "no credentials for {server} ({detail}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile \
                 or the storage's credentials"
            );
            return (StoreErrorKind::Configuration, reason, true);
        }
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            let reason = format!(
                "the TLS connection to {server} failed ({tls}): is it the right address, does it speak TLS, and is \
                 the authority that signed its certificate in the system's or the storage's CA file?"
            );
            return (StoreErrorKind::Configuration, reason, true);
        }
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            match io.kind() {
                ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
                    return (StoreErrorKind::Unavailable, no_answer(place, &io.to_string()), true);
                }
                _ => {}
            }
        }
    }
    if said.contains("dns error") {
        return (StoreErrorKind::Unavailable, no_answer(place, "its name cannot be resolved"), true);
    }
    match error {
        SdkError::ConstructionFailure(_) => {
            (StoreErrorKind::Configuration, format!("the request cannot be built: {said}"), true)
        }
        _ => {
            let root = causes(error).last().map_or(said, |cause| cause.to_string());
            (StoreErrorKind::Unavailable, no_answer(place, &root), false)
        }
    }
}

fn no_answer(place: &Place, why: &str) -> String {
    format!("{} does not answer ({why}): is it running, and is the endpoint right?", place.server)
}

/// The error and all below it, also those that `io::Error` hides.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'e (dyn Error + 'static)| {
        let inner = error.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref());
        inner.map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { bucket: "b".to_owned(), prefix: String::new(), server: "http://s3:9000".to_owned() }
    }

    #[test]
    fn each_answer_tells_the_caller_what_to_do() {
        use StoreErrorKind::{Configuration, NotFound, Unavailable};
        for (status, code, kind, hint) in [
            (404, "NoSuchBucket", Configuration, "the bucket `b` does not exist on http://s3:9000"),
            (404, "NoSuchKey", NotFound, "no such object"),
            (403, "SignatureDoesNotMatch", Configuration, "refuses the credentials"),
            (403, "AccessDenied", Configuration, "need get, put, list and delete on `b`"),
            (403, "", Configuration, "denies access"),
            (301, "PermanentRedirect", Configuration, "set the region"),
            (400, "AuthorizationHeaderMalformed", Configuration, "set the region"),
            (503, "SlowDown", Unavailable, "SlowDown"),
            (500, "", Unavailable, "status 500"),
            (507, "", Configuration, "is full"),
            (400, "EntityTooLarge", Configuration, "EntityTooLarge"),
        ] {
            let (found, reason) = answer(status, code, "", None, &place());
            assert_eq!(found, kind, "{status} {code}");
            assert!(reason.contains(hint), "{status} {code}: {reason}");
        }
    }

    #[test]
    fn the_right_region_is_named_where_the_server_tells_it() {
        let (_, reason) = answer(301, "PermanentRedirect", "x", Some("eu-central-1"), &place());
        assert!(reason.contains("region eu-central-1"), "{reason}");
    }
}

//! What an error of the file system means to the caller.

use crate::{StoreError, StoreErrorKind};
use std::io::{Error, ErrorKind};
use std::path::Path;

/// Translates `error`; `root` is named where the remedy concerns the whole directory.
pub(super) fn classify(verb: &'static str, object: &str, root: &Path, error: &Error) -> StoreError {
    let root = root.display();
    let (kind, reason) = match error.kind() {
        ErrorKind::NotFound => (StoreErrorKind::NotFound, "there is no such file".to_owned()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            StoreErrorKind::Configuration,
            format!("the disk that holds {root} is full ({error}): free space there or move the storage elsewhere"),
        ),
        ErrorKind::PermissionDenied => (
            StoreErrorKind::Configuration,
            format!("no permission ({error}): let this user read and write {root} or use another directory"),
        ),
        ErrorKind::ReadOnlyFilesystem => {
            (StoreErrorKind::Configuration, format!("{root} is mounted read-only: use another directory"))
        }
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => (
            StoreErrorKind::Configuration,
            format!("a file stands where a folder is needed, or the reverse ({error}): look into {root}"),
        ),
        ErrorKind::InvalidFilename => (StoreErrorKind::Configuration, format!("the name is too long ({error})")),
        _ => (StoreErrorKind::Unavailable, error.to_string()),
    };
    StoreError { kind, verb, object: object.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_persons_business_and_names_the_directory() {
        for errno in [libc_enospc(), libc_edquot()] {
            let error = classify("write", "file:///data/a", Path::new("/data"), &Error::from_raw_os_error(errno));
            assert_eq!(error.kind, StoreErrorKind::Configuration);
            assert!(error.to_string().starts_with("failed to write file:///data/a: the disk that holds /data is full"));
        }
    }

    /// Linux's numbers; the crate has no other need for libc.
    fn libc_enospc() -> i32 {
        28
    }

    fn libc_edquot() -> i32 {
        122
    }
}

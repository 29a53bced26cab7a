//! Where a store lies: its URI read.
//!
//! Owns: the forms of a storage URI. Does not own: reaching the place.

use crate::{StoreError, StoreErrorKind};
use std::path::PathBuf;

/// A storage URI, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    Directory(PathBuf),
    /// `prefix` has no slash at its ends; empty means the whole bucket.
    S3 {
        bucket: String,
        prefix: String,
    },
}

impl Location {
    pub(crate) fn parse(uri: &str) -> Result<Self, StoreError> {
        match uri.split_once("://") {
            Some(("s3" | "s3a", rest)) => parse_s3(uri, rest),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Directory(PathBuf::from(path))),
            Some(("file", _)) => Err(refused(uri, "a file URI has three slashes: `file:///absolute/path`")),
            Some((scheme, _)) => Err(refused(
                uri,
                &format!("`{scheme}` is not supported; use `s3://bucket/prefix`, `file:///path` or a plain path"),
            )),
            None if uri.trim().is_empty() => Err(refused(uri, "it is empty")),
            None => match uri.strip_prefix("file:") {
                Some(path) => Ok(Self::Directory(PathBuf::from(path))),
                None => Ok(Self::Directory(PathBuf::from(uri))),
            },
        }
    }
}

fn parse_s3(uri: &str, rest: &str) -> Result<Location, StoreError> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(refused(uri, "the bucket is missing: `s3://bucket/prefix`"));
    }
    if let Some(c) = bucket.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))) {
        return Err(refused(uri, &format!("{c:?} is not allowed in the name of a bucket")));
    }
    let prefix = prefix.trim_end_matches('/');
    if !prefix.is_empty() {
        crate::object_path::check(prefix).map_err(|reason| refused(uri, &reason))?;
    }
    Ok(Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

fn refused(uri: &str, reason: &str) -> StoreError {
    StoreError {
        kind: StoreErrorKind::Configuration,
        verb: "open",
        object: format!("store `{uri}`"),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3(bucket: &str, prefix: &str) -> Location {
        Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() }
    }

    #[test]
    fn reads_each_form() {
        let directory = |path: &str| Location::Directory(PathBuf::from(path));
        for (uri, expected) in [
            ("s3://b/p/q/", s3("b", "p/q")),
            ("s3://b", s3("b", "")),
            ("s3a://b/p", s3("b", "p")),
            ("file:///x/y", directory("/x/y")),
            ("file:/x/y", directory("/x/y")),
            ("relative/dir", directory("relative/dir")),
            ("/x", directory("/x")),
        ] {
            assert_eq!(Location::parse(uri).expect(uri), expected, "{uri}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_is_right() {
        for (uri, hint) in [
            ("", "empty"),
            ("s3:///p", "bucket"),
            ("s3://b/../c", "not allowed"),
            ("s3://b@c/p", "not allowed"),
            ("gs://b/p", "s3://bucket/prefix"),
            ("file://host/p", "three slashes"),
        ] {
            let error = Location::parse(uri).expect_err(uri);
            assert_eq!(error.kind, StoreErrorKind::Configuration);
            assert!(error.to_string().contains(hint), "{error}");
        }
    }
}

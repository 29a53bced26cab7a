//! Which paths a store takes.
//!
//! Owns: the rule that keeps a path inside the store's root and equal on a local directory and on S3. Does not own:
//! what the paths mean.

/// S3's limit for a whole key; the root's own prefix counts there too, so a path gets half.
const PATH_BYTES_MAX: usize = 512;
/// The limit for a file's name on the usual file systems.
const COMPONENT_BYTES_MAX: usize = 255;

/// The name under which the local store keeps unfinished files; no object may use it.
pub(crate) const RESERVED_COMPONENT: &str = ".unfinished";

/// Says why `path` is refused, if it is.
pub(crate) fn check(path: &str) -> Result<(), String> {
    if path.is_empty() {
        return Err("the path is empty".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("the path has {} bytes, {PATH_BYTES_MAX} are allowed", path.len()));
    }
    path.split('/').try_for_each(check_component)
}

fn check_component(component: &str) -> Result<(), String> {
    if component.is_empty() {
        return Err("a component of the path is empty".to_owned());
    }
    if matches!(component, "." | ".." | RESERVED_COMPONENT) {
        return Err(format!("`{component}` is not allowed as a component of a path"));
    }
    if component.len() > COMPONENT_BYTES_MAX {
        return Err(format!("a component has {} bytes, {COMPONENT_BYTES_MAX} are allowed", component.len()));
    }
    match component.chars().find(|c| c.is_control()) {
        Some(c) => Err(format!("the control character {c:?} is not allowed in a path")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_jobs_write_and_odd_but_harmless_names() {
        for path in ["default/clicks/log/00000001", "a", "ü/b c+d%20&=?#", "a..b/...", "-", "a/.hidden"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn refuses_whatever_leaves_the_root_or_differs_between_stores() {
        let long = "x".repeat(256);
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b", "a\nb", ".unfinished/x", &long] {
            assert!(check(path).is_err(), "{path:?}");
        }
    }
}

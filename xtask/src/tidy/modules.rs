//! Files: their heads, names and sizes.

use super::{Findings, SourceFile, is_test};
use std::ffi::OsStr;
use std::path::Path;

const LINES_MEDIAN: usize = 150;
const LINES_P90: usize = 400;
/// Past it nobody reads a file as a whole.
const LINES_MAX: usize = 800;

/// Names that say nothing about what is inside.
const CATCH_ALLS: [&str; 10] =
    ["utils", "util", "common", "shared", "misc", "types", "helpers", "helper", "stuff", "base"];

/// Files whose name only looks like one.
const NAMED_FOR_A_REASON: [(&str, &str); 2] = [
    ("api/src/graph/types.rs", "SQL's types are its one concept"),
    ("sql/src/parser/types.rs", "it parses the names of SQL's types"),
];

/// Returns the sizes for the closing line.
pub(super) fn check(files: &[&SourceFile], findings: &mut Findings) -> String {
    let mut sizes = Vec::new();
    for file in files {
        check_name(&file.path, findings);
        // The name of a scenario's file is a sentence, and `foo/tests.rs` is about `foo`: no head is needed there.
        if !is_test(&file.path) && !opens_with_its_purpose(&file.text) {
            findings.broken(&file.path, 1, "does not open with `//!`: what it owns, and what it does not");
        }
        if is_test(&file.path) {
            continue;
        }
        let lines = lines_without_tests(&file.text);
        sizes.push(lines);
        if lines > LINES_MAX {
            findings.broken(&file.path, 1, &format!("has {lines} lines, {LINES_MAX} are allowed"));
        } else if lines > LINES_P90 {
            findings.over_budget(
                &file.path,
                1,
                &format!("has {lines} lines; nine of ten files shall have {LINES_P90}"),
            );
        }
    }
    sizes.sort_unstable();
    let at = |share: usize| sizes.get((sizes.len() * share / 100).min(sizes.len().saturating_sub(1))).copied();
    let (median, p90) = (at(50).unwrap_or(0), at(90).unwrap_or(0));
    for (name, value, budget) in [("median", median, LINES_MEDIAN), ("90th percentile", p90, LINES_P90)] {
        if value > budget {
            findings.over_budget.push(format!("files: their {name} is {value} lines, the budget {budget}"));
        }
    }
    format!("{} files, lines: median {median}, 90th percentile {p90}", sizes.len())
}

fn check_name(path: &Path, findings: &mut Findings) {
    if NAMED_FOR_A_REASON.iter().any(|(named, _reason)| Path::new(named) == path) {
        return;
    }
    let of_folder = path.parent().and_then(Path::file_name);
    let bad = |name: Option<&OsStr>| name.and_then(OsStr::to_str).is_some_and(|name| CATCH_ALLS.contains(&name));
    if bad(path.file_stem()) || bad(of_folder) {
        findings.broken(path, 1, "is a catch-all by its name: name the concept, or put the code where it is used");
    }
}

/// Attributes may stand before the head; code may not.
fn opens_with_its_purpose(text: &str) -> bool {
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("#!"))
        .is_some_and(|line| line.starts_with("//!"))
}

/// Lines before the file's test module, which by convention comes last.
fn lines_without_tests(text: &str) -> usize {
    let lines: Vec<_> = text.lines().collect();
    let tests = lines.windows(2).position(|pair| pair[0].starts_with("#[cfg(test)]") && pair[1].starts_with("mod "));
    tests.unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        let file = SourceFile { path: path.into(), text: text.to_owned() };
        let mut findings = Findings::default();
        check(&[&file], &mut findings);
        findings.broken
    }

    #[test]
    fn a_good_file_passes() {
        assert_eq!(broken("a/src/window.rs", "//! Windows.\n\nfn f() {}\n"), Vec::<String>::new());
        assert_eq!(broken("a/src/lib.rs", "#![allow(x)]\n\n//! Windows.\n"), Vec::<String>::new());
        assert_eq!(broken("api/src/graph/types.rs", "//! SQL types.\n"), Vec::<String>::new());
    }

    #[test]
    fn heads_names_and_sizes_are_checked() {
        assert_eq!(broken("a/src/window.rs", "fn f() {}\n//! late\n").len(), 1);
        assert_eq!(broken("a/src/utils.rs", "//! x\n").len(), 1);
        assert_eq!(broken("a/src/common/mod.rs", "//! x\n").len(), 1);
        let long = format!("//! x\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(broken("a/src/window.rs", &long).len(), 1);
        assert_eq!(broken("a/tests/a/window.rs", &long), Vec::<String>::new());
        let tested = format!("//! x\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(LINES_MAX));
        assert_eq!(broken("a/src/window.rs", &tested), Vec::<String>::new());
    }
}

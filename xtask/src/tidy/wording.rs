//! Words that do not belong into the repository.

use super::{Findings, SourceFile};
use std::path::Path;

/// Files that must name the words, or that no person writes.
const EXCEPTIONS: [&str; 3] = ["xtask/src/tidy/wording.rs", "Cargo.lock", "LICENSE"];

struct Rule {
    /// Any of these, with no letter or digit at its ends.
    words: &'static [&'static str],
    why: &'static str,
}

const RULES: [Rule; 4] = [
    Rule { words: &["TODO", "FIXME", "XXX", "HACK"], why: "finish it, or describe the limit in the documentation" },
    Rule {
        words: &["this issue", "the issue says", "worktree", "this session", "coding session", "the brief", "LLM"],
        why: "the repository speaks of the product, not of how it was written",
    },
    Rule { words: &["/root", "/home", "/work", "/Users"], why: "paths of one machine mean nothing on another" },
    Rule {
        words: &["index.crates.io", "proxy.golang.org", "repo1.maven.org", "files.pythonhosted.org"],
        why: "packages come by the registries' ordinary clients, which know the hosts",
    },
];

pub(super) fn check(files: &[SourceFile], findings: &mut Findings) {
    for file in files {
        if EXCEPTIONS.iter().any(|exception| Path::new(exception) == file.path) {
            continue;
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            for rule in &RULES {
                for word in rule.words.iter().filter(|word| contains(line, word)) {
                    findings.broken(&file.path, number, &format!("`{word}`: {}", rule.why));
                }
            }
        }
    }
}

fn contains(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        // A path begins where it begins: `src/work` and `${HOME}/work` are others.
        let begins =
            !before.is_some_and(|c| part_of_word(c) || (word.starts_with('/') && matches!(c, '}' | '.' | '/' | '-')));
        begins && !after.is_some_and(part_of_word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_and_parts_are_not() {
        assert!(contains("// TODO: later", "TODO"));
        assert!(contains("see /work/x", "/work"));
        for line in ["a TODOS list", "mastodon", "src/work/x", "{base}/work"] {
            assert!(!contains(line, "TODO") && !contains(line, "/work"), "{line}");
        }
    }
}

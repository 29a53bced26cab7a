//! Places in the text of a manifest: where a field stands, where its SQL begins.
//!
//! Owns: finding keys in block-style YAML. Does not own: reading it (`serde_yaml` has no positions of values).

/// 1-based position of the last key of `path` in block-style YAML; of the nearest parent where the key is not written.
#[must_use]
pub fn find_key(text: &str, path: &[&str]) -> Option<(usize, usize)> {
    let mut found = None;
    let mut wanted = path.iter();
    let mut key = wanted.next()?;
    // Indentation of the key's siblings; known once the first of them is met.
    let mut siblings = Some(0);
    let mut parent = 0;
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.len() - trimmed.len();
        if found.is_some() && indent <= parent {
            break;
        }
        if indent != *siblings.get_or_insert(indent) || !is_key(trimmed, key) {
            continue;
        }
        found = Some((number + 1, indent + 1));
        let Some(next) = wanted.next() else { break };
        (key, parent, siblings) = (next, indent, None);
    }
    found
}

/// Whether a line begins with `key:`, quoted or not.
fn is_key(line: &str, key: &str) -> bool {
    let line = line.strip_prefix(['"', '\'']).unwrap_or(line);
    let rest = line.strip_prefix(key).map(|rest| rest.strip_prefix(['"', '\'']).unwrap_or(rest));
    !key.is_empty() && rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
}

/// What turns a line and a column of `spec.sql` into those of the manifest: lines before it, and its indentation. `None`:
/// its lines are not the manifest's, as in a folded block or a quoted text of several lines.
#[must_use]
pub fn sql_offset(manifest: &str, sql: &str) -> Option<(u32, u32)> {
    let (key_line, _) = find_key(manifest, &["spec", "sql"])?;
    let lines: Vec<&str> = manifest.lines().collect();
    let head = lines.get(key_line - 1)?;
    let value = head.split_once("sql")?.1.split_once(':')?.1.trim();
    let (before, indent) = if value.starts_with('|') {
        let body = lines[key_line..].iter().find(|l| !l.trim().is_empty())?;
        let first = sql.lines().find(|l| !l.trim().is_empty())?;
        (key_line, body.len().checked_sub(first.len())?)
    } else {
        // One line, plain or quoted without escapes.
        let line = sql.trim_end_matches('\n');
        (key_line - 1, head.find(line).filter(|_| !line.is_empty() && !line.contains('\n'))?)
    };
    Some((u32::try_from(before).ok()?, u32::try_from(indent).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_among_its_siblings_only() {
        let text = "a: 1\nmetadata:\n  annotations:\n    name: no\n  name: x\nspec:\n  sql: |\n    options:\n  options:\n    # no\n    'a.b': 1\n    \"c\": 2\n";
        assert_eq!(find_key(text, &["metadata", "name"]), Some((5, 3)));
        assert_eq!(find_key(text, &["spec", "options"]), Some((9, 3)));
        assert_eq!(find_key(text, &["spec", "options", "a.b"]), Some((11, 5)));
        assert_eq!(find_key(text, &["spec", "options", "c"]), Some((12, 5)));
        assert_eq!(find_key(text, &["metadata", "namespace"]), Some((2, 1)));
        assert_eq!(find_key(text, &["nothing"]), None);
    }

    #[test]
    fn the_script_is_found_where_its_lines_are_the_manifests() {
        let offset = |field: &str, sql: &str| sql_offset(&format!("spec:\n  x: 1\n{field}"), sql);
        assert_eq!(offset("  sql: |\n\n    A\n    B\n", "\nA\nB\n"), Some((3, 4)));
        assert_eq!(offset("  sql: |4\n        A\n", "  A\n"), Some((3, 6)));
        assert_eq!(offset("  sql: SELECT 1\n", "SELECT 1"), Some((2, 7)));
        assert_eq!(offset("  sql: 'SELECT 1'\n", "SELECT 1"), Some((2, 8)));
        assert_eq!(offset("  sql: >\n    A\n    B\n", "A B\n"), None);
        assert_eq!(offset("  sql: \"A\\nB\"\n", "A\nB"), None);
    }
}

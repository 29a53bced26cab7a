//! What commands that look into state have in common in print: standard output that may be closed, CSV, ages.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_inspect::Stored;

use crate::ask::table::age;

/// Writes to standard output. False: nobody reads any more.
pub fn out(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// A line of CSV (RFC 4180).
pub fn csv_line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells.into_iter().map(csv_cell).collect();
    cells.join(",") + "\n"
}

fn csv_cell(cell: &str) -> String {
    let plain = !cell.contains(['"', ',', '\n', '\r']);
    if plain { cell.to_owned() } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
}

/// Epoch ms.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// `5 minutes ago`, by this machine's clock.
pub fn ago(at_ms: i64) -> String {
    let ms = u64::try_from(now_ms().saturating_sub(at_ms)).unwrap_or_default();
    format!("{} ago", age(ms))
}

/// One line: what is looked at.
pub fn head(stored: &Stored) -> String {
    let manifest = &stored.manifest;
    format!(
        "{}, {}, parallelism {}, maxParallelism {}\n",
        stored.title(),
        ago(stored.at_ms),
        manifest.parallelism,
        manifest.max_parallelism
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(csv_line(["a", "b c", "d,e", "f\"g", ""]), "a,b c,\"d,e\",\"f\"\"g\",\n");
    }
}

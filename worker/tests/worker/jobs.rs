//! The jobs of the scenarios, as SQL text, and what they must print, computed apart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use millstream_api::graph::JobGraph;

/// Rows that the generator makes: numbers from 0, 10 ms of event time apart.
pub const ROWS: i64 = 60_000;
/// Fast enough for the tests, slow enough for checkpoints in between.
const ROWS_PER_SECOND: i64 = 40_000;
/// So slow that the input does not end before a script wants it to, also where a step takes seconds.
const ROWS_PER_SECOND_SLOW: i64 = 10_000;
const KEYS: i64 = 23;
/// So many that the state does not fit into the manifest: it goes to the store.
const MANY_KEYS: i64 = 7_001;
const WINDOW_MS: i64 = 10_000;

/// A job and what its print table `identifier` must have shown in the end.
pub struct Job {
    pub graph: Arc<JobGraph>,
    pub identifier: String,
    expected: Expected,
}

enum Expected {
    /// These rows, each any number of times: print is at least once.
    Rows(BTreeSet<String>),
    /// The last row of each key.
    Last(BTreeMap<String, String>),
}

pub fn graph(sql: &str) -> Arc<JobGraph> {
    let compiled = millstream_sql::compile(sql, &millstream_sql::CompileOptions::default());
    Arc::new(compiled.unwrap_or_else(|errors| panic!("{errors:#?}")).graph)
}

fn source(keys: i64, rows_per_second: i64) -> String {
    format!(
        "CREATE TABLE numbers (
           n BIGINT,
           k AS MOD(n, {keys}),
           ts AS TO_TIMESTAMP_LTZ(n * 10, 3),
           WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
         ) WITH (
           'connector' = 'datagen', 'rows-per-second' = '{rows_per_second}', 'number-of-rows' = '{ROWS}',
           'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{}'
         );",
        ROWS - 1
    )
}

fn print_table(columns: &str, identifier: &str) -> String {
    format!("CREATE TABLE printed ({columns}) WITH ('connector' = 'print', 'print-identifier' = '{identifier}');")
}

/// COUNT and SUM per key and 10 s of event time.
pub fn tumbling(identifier: &str) -> Job {
    tumbling_at(identifier, ROWS_PER_SECOND)
}

fn tumbling_at(identifier: &str, rows_per_second: i64) -> Job {
    let sql = format!(
        "{} {}
         INSERT INTO printed
         SELECT k, COUNT(*), SUM(n)
         FROM TABLE(TUMBLE(TABLE numbers, DESCRIPTOR(ts), INTERVAL '10' SECOND))
         GROUP BY k, window_start, window_end;",
        source(KEYS, rows_per_second),
        print_table("k BIGINT, c BIGINT, s BIGINT", identifier)
    );
    let mut windows: BTreeMap<(i64, i64), (i64, i64)> = BTreeMap::new();
    for n in 0..ROWS {
        let (count, sum) = windows.entry((n * 10 / WINDOW_MS, n % KEYS)).or_default();
        *count += 1;
        *sum += n;
    }
    let rows = windows.into_iter().map(|((_, key), (count, sum))| format!("+I[{key}, {count}, {sum}]"));
    Job { graph: graph(&sql), identifier: identifier.to_owned(), expected: Expected::Rows(rows.collect()) }
}

/// A running COUNT and SUM per key, with a filter before.
pub fn running(identifier: &str) -> Job {
    running_at(identifier, ROWS_PER_SECOND)
}

fn running_at(identifier: &str, rows_per_second: i64) -> Job {
    let sql = format!(
        "{} {}
         INSERT INTO printed SELECT k, COUNT(*), SUM(n) FROM numbers WHERE MOD(n, 2) = 0 GROUP BY k;",
        source(MANY_KEYS, rows_per_second),
        print_table("k BIGINT, c BIGINT, s BIGINT", identifier)
    );
    let mut keys: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for n in (0..ROWS).filter(|n| n % 2 == 0) {
        let (count, sum) = keys.entry(n % MANY_KEYS).or_default();
        *count += 1;
        *sum += n;
    }
    let last = keys.into_iter().map(|(key, (count, sum))| (key.to_string(), format!("[{key}, {count}, {sum}]")));
    Job { graph: graph(&sql), identifier: identifier.to_owned(), expected: Expected::Last(last.collect()) }
}

/// Two readings of the generator, one filtered, in one stream.
pub fn union(identifier: &str) -> Job {
    let sql = format!(
        "{} {}
         INSERT INTO printed
         SELECT n, k FROM numbers WHERE n < 100 UNION ALL SELECT n + 1000000, k FROM numbers WHERE k = 7;",
        source(KEYS, ROWS_PER_SECOND),
        print_table("n BIGINT, k BIGINT", identifier)
    );
    let low = (0..100).map(|n| format!("+I[{n}, {}]", n % KEYS));
    let seventh = (0..ROWS).filter(|n| n % KEYS == 7).map(|n| format!("+I[{}, 7]", n + 1_000_000));
    let rows = low.chain(seventh).collect();
    Job { graph: graph(&sql), identifier: identifier.to_owned(), expected: Expected::Rows(rows) }
}

/// The generator beside a file that is soon read, in one stream.
pub fn short_beside_long(identifier: &str, file: &Path) -> Job {
    let sql = format!(
        "{} {}
         CREATE TABLE short (n BIGINT, k BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO printed SELECT n + 1000000, k FROM short UNION ALL SELECT n, k FROM numbers WHERE k = 3;",
        source(KEYS, ROWS_PER_SECOND),
        print_table("n BIGINT, k BIGINT", identifier),
        file.display()
    );
    let short = (0..10).map(|n| format!("+I[{}, {n}]", n + 1_000_000));
    let third = (0..ROWS).filter(|n| n % KEYS == 3).map(|n| format!("+I[{n}, 3]"));
    let rows = short.chain(third).collect();
    Job { graph: graph(&sql), identifier: identifier.to_owned(), expected: Expected::Rows(rows) }
}

/// All of them.
pub fn all(identifier: &str) -> Vec<Job> {
    let named = |kind: &str| format!("{identifier}-{kind}");
    vec![tumbling(&named("tumbling")), running(&named("running")), union(&named("union"))]
}

/// Those that keep state, with a slow input.
pub fn slow(identifier: &str) -> [Job; 2] {
    let named = |kind: &str| format!("{identifier}-{kind}");
    [tumbling_at(&named("tumbling"), ROWS_PER_SECOND_SLOW), running_at(&named("running"), ROWS_PER_SECOND_SLOW)]
}

impl Job {
    /// Fails unless the print table has shown what it must, and nothing else.
    pub fn assert_printed(&self) {
        let rows = super::console::rows(&self.identifier);
        match &self.expected {
            Expected::Rows(expected) => {
                let printed: BTreeSet<String> = rows.into_iter().collect();
                let missing: Vec<_> = expected.difference(&printed).take(5).collect();
                let wrong: Vec<_> = printed.difference(expected).take(5).collect();
                assert!(missing.is_empty() && wrong.is_empty(), "missing {missing:?}, wrong {wrong:?}");
            }
            Expected::Last(expected) => {
                let mut last: BTreeMap<String, String> = BTreeMap::new();
                for row in rows.iter().filter(|r| r.starts_with("+")) {
                    let values = &row[2..];
                    let key = values[1..].split(',').next().unwrap();
                    last.insert(key.to_owned(), values.to_owned());
                }
                assert_eq!(&last, expected);
            }
        }
    }
}

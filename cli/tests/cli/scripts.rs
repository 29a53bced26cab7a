//! Jobs that are a script over tables of their own: the manifest around it, and a topic for each table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use millstream_e2e::kafka::{Broker, rand_id};

pub const PARTITIONS: i32 = 3;

/// A manifest with this script. `more`: further lines of `spec`, which go on with those of `checkpoint`.
pub fn manifest(name: &str, backend: &str, parallelism: u32, more: &str, sql: &str) -> String {
    let mut text = format!(
        "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: {name}
spec:
  parallelism: {parallelism}
  state:
    backend: {backend}
  checkpoint:
    interval: 50 ms
{more}  sql: |
"
    );
    for line in sql.lines() {
        writeln!(text, "    {line}").unwrap();
    }
    text
}

/// Options that end a table after so many rows, where these are spread over the partitions one by one.
pub fn bounded(rows: usize) -> String {
    let partitions = usize::try_from(PARTITIONS).unwrap();
    let end = |p: usize| format!("partition:{p},offset:{}", (rows + partitions - 1 - p) / partitions);
    let ends: Vec<String> = (0..partitions).map(end).collect();
    format!("'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{}'", ends.join(";"))
}

/// The topics of a script's tables.
pub struct Topics {
    pub by_table: BTreeMap<String, String>,
    bootstrap: String,
    prefix: &'static str,
}

impl Topics {
    /// `prefix`: of the topics' names.
    pub fn create<'a>(broker: &Broker, prefix: &'static str, tables: impl IntoIterator<Item = &'a str>) -> Self {
        let topic =
            |table: &str| (table.to_owned(), broker.create_topic(&format!("{prefix}-{table}"), PARTITIONS, &[]));
        let by_table = tables.into_iter().map(topic).collect();
        Self { by_table, bootstrap: broker.bootstrap.clone(), prefix }
    }

    /// The script with the options of the tables' topics for `@in <table>`, `@out <table>` and `@upsert <table>`.
    pub fn fill(&self, sql: &str) -> String {
        let mut text = sql.to_owned();
        for table in self.by_table.keys() {
            let input = self.input(table);
            text = text
                .replace(&format!("@in {table})"), &format!("{input})"))
                .replace(&format!("@in {table},"), &format!("{input},"))
                .replace(&format!("@out {table})"), &format!("{})", self.output(table)))
                .replace(&format!("@upsert {table})"), &format!("{})", self.upsert(table)));
        }
        text
    }

    pub fn feed(&self, broker: &Broker, table: &str, rows: impl IntoIterator<Item = String>) {
        broker.produce(&self.by_table[table], PARTITIONS, rows);
    }

    /// Options of a table that is read from the beginning of its topic.
    pub fn input(&self, table: &str) -> String {
        let place = self.place(table);
        format!("'connector' = 'kafka', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset', {place}")
    }

    /// Options of a table that rows are written to, exactly once.
    pub fn output(&self, table: &str) -> String {
        format!("'connector' = 'kafka', 'format' = 'json', {}", self.exactly_once(table))
    }

    /// The same of one that is changed by key.
    pub fn upsert(&self, table: &str) -> String {
        let connector = "'connector' = 'upsert-kafka', 'key.format' = 'json', 'value.format' = 'json'";
        format!("{connector}, {}", self.exactly_once(table))
    }

    fn place(&self, table: &str) -> String {
        format!("'topic' = '{}', 'properties.bootstrap.servers' = '{}'", self.by_table[table], self.bootstrap)
    }

    fn exactly_once(&self, table: &str) -> String {
        format!(
            "{}, 'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{}-{:016x}'",
            self.place(table),
            self.prefix,
            rand_id()
        )
    }
}

//! What several measurements run: the columns of a bid, and a job that passes bids through.

pub const COLUMNS: &str = "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, dateTime TIMESTAMP(3), sentMs BIGINT, extra STRING";

/// A job that writes what it reads, without end.
pub struct PassThrough<'a> {
    /// Of the job; also its prefix of transactional ids.
    pub name: &'a str,
    pub bootstrap: &'a str,
    pub input: &'a str,
    pub output: &'a str,
    pub guarantee: &'a str,
    pub interval: &'a str,
}

impl PassThrough<'_> {
    pub fn manifest(&self) -> String {
        let Self { name, bootstrap, input, output, guarantee, interval } = self;
        format!(
            "apiVersion: millstream.dev/v1alpha1
kind: FlinkJob
metadata:
  name: {name}
spec:
  parallelism: 2
  checkpoint:
    interval: {interval}
  sql: |
    CREATE TABLE source ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = '{input}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'scan.startup.mode' = 'earliest-offset');
    CREATE TABLE target ({COLUMNS}) WITH ('connector' = 'kafka', 'topic' = '{output}', 'format' = 'json',
      'properties.bootstrap.servers' = '{bootstrap}', 'sink.delivery-guarantee' = '{guarantee}',
      'sink.transactional-id-prefix' = '{name}');
    INSERT INTO target SELECT * FROM source;
"
        )
    }
}

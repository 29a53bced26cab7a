//! x
use crate::support::*;
#[test]
fn show() {
    for q in [
        "CREATE TABLE dst (auction BIGINT, ws TIMESTAMP(3), we TIMESTAMP(3), cnt BIGINT, total BIGINT, sentMs BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT auction, window_start, window_end, COUNT(*), SUM(price), MAX(sentMs) FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end;",
        "CREATE TABLE dst (auction BIGINT, cnt BIGINT, total BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='$OUT','properties.bootstrap.servers'='$B','key.format'='json','value.format'='json','sink.delivery-guarantee'='exactly-once','sink.transactional-id-prefix'='$TX','properties.transaction.timeout.ms'='600000');
INSERT INTO dst SELECT auction, COUNT(*), SUM(price) FROM src GROUP BY auction;",
    ] {
        let text = format!("{SRC}{}", q.replace("$OUT", "out"));
        let g = graph(&text);
        println!("{}", millstream_sql::explain::text(&g));
    }
}

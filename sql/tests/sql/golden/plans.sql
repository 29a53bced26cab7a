-- bench: tumble
CREATE TABLE dst (auction BIGINT, ws TIMESTAMP(3), we TIMESTAMP(3), cnt BIGINT, total BIGINT, sentMs BIGINT) WITH ('connector'='kafka','topic'='out','properties.bootstrap.servers'='b:9092','format'='json','sink.delivery-guarantee'='exactly-once','sink.transactional-id-prefix'='tx','properties.transaction.timeout.ms'='600000');
INSERT INTO dst SELECT auction, window_start, window_end, COUNT(*), SUM(price), MAX(sentMs) FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end;
----
-- bench: count_upsert with mini-batch
SET 'table.exec.mini-batch.enabled'='true'; SET 'table.exec.mini-batch.allow-latency'='1 s'; SET 'table.exec.mini-batch.size'='20000';
CREATE TABLE dst (auction BIGINT, cnt BIGINT, total BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='out','properties.bootstrap.servers'='b:9092','key.format'='json','value.format'='json','sink.delivery-guarantee'='exactly-once','sink.transactional-id-prefix'='tx','properties.transaction.timeout.ms'='600000');
INSERT INTO dst SELECT auction, COUNT(*), SUM(price) FROM src GROUP BY auction;
----
-- bench: q0
CREATE TABLE dst (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, `dateTime` TIMESTAMP(3), sentMs BIGINT, extra STRING) WITH ('connector'='kafka','topic'='out','properties.bootstrap.servers'='b:9092','format'='json');
INSERT INTO dst SELECT auction,bidder,price,channel,url,`dateTime`,sentMs,extra FROM src;
----
-- hop: clicks per user in the last 5 minutes, with named arguments
CREATE TABLE dst (bidder BIGINT, from_time TIMESTAMP(3), to_time TIMESTAMP(3), clicks BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT bidder, window_start, window_end, COUNT(*) FROM TABLE(HOP(DATA => TABLE src, TIMECOL => DESCRIPTOR(`dateTime`), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE)) GROUP BY bidder, window_start, window_end;
----
-- filter and reshape in one Calc, through two views
CREATE VIEW cheap AS SELECT auction, UPPER(channel) AS channel, price FROM src WHERE price < 100;
CREATE TEMPORARY VIEW named (a, c, p) AS SELECT * FROM cheap WHERE channel <> 'X';
CREATE TABLE dst (a BIGINT, c STRING, p BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT a, c, p * 2 FROM named WHERE a > 5;
----
-- expressions over aggregates, FILTER, HAVING, grouping by an expression
CREATE TABLE dst (d DATE, share DOUBLE, n BIGINT) WITH ('connector'='blackhole');
INSERT INTO dst SELECT CAST(`dateTime` AS DATE), CAST(COUNT(*) FILTER (WHERE price > 10) AS DOUBLE) / COUNT(*), SUM(price + 1) FROM src GROUP BY CAST(`dateTime` AS DATE) HAVING COUNT(*) > 2;
----
-- a global aggregate
CREATE TABLE dst (k STRING, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='out','properties.bootstrap.servers'='b:9092','key.format'='json','value.format'='json');
INSERT INTO dst SELECT 'all', COUNT(*) FROM src;
----
-- SELECT DISTINCT
CREATE TABLE dst (c STRING, b BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT DISTINCT channel, bidder FROM src;
----
-- SELECT DISTINCT within windows
CREATE TABLE dst (c STRING, we TIMESTAMP(3)) WITH ('connector'='print');
INSERT INTO dst SELECT DISTINCT channel, window_end FROM (SELECT DISTINCT channel, window_start, window_end FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)));
----
-- UNION ALL with promotion
CREATE TABLE dst (x BIGINT, c STRING) WITH ('connector'='print');
INSERT INTO dst SELECT price, channel FROM src WHERE price > 1 UNION ALL SELECT 1, url FROM src UNION ALL SELECT i, s FROM t;
----
-- a window over a union that keeps the event-time attribute
CREATE TABLE dst (we TIMESTAMP(3), n BIGINT) WITH ('connector'='print');
INSERT INTO dst WITH u AS (SELECT `dateTime` AS rt, price FROM src WHERE price > 1 UNION ALL SELECT `dateTime`, bidder FROM src) SELECT window_end, SUM(price) FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(rt), INTERVAL '1' HOUR, INTERVAL '-8' HOUR)) GROUP BY window_start, window_end;
----
-- a window function without an aggregate
CREATE TABLE dst (a BIGINT, ws TIMESTAMP(3), wt TIMESTAMP(3)) WITH ('connector'='print');
INSERT INTO dst SELECT auction, window_start, window_time FROM TABLE(HOP(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE)) WHERE price > 3 AND window_start > TIMESTAMP '2026-01-01 00:00:00';
----
-- a filter below and above a window; the window is passed through a subquery
CREATE TABLE dst (a BIGINT, we TIMESTAMP(3), n BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT a, we, COUNT(*) FROM (SELECT auction AS a, window_start AS ws, window_end AS we FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) WHERE price > 3) GROUP BY a, ws, we;
----
-- cascading windows: minutes, then hours by window_time
CREATE TABLE dst (a BIGINT, we TIMESTAMP(3), n BIGINT) WITH ('connector'='print');
CREATE VIEW minutes AS SELECT auction, window_time AS rt, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY auction, window_start, window_end, window_time;
INSERT INTO dst SELECT auction, window_end, SUM(n) FROM TABLE(TUMBLE(TABLE minutes, DESCRIPTOR(rt), INTERVAL '1' HOUR)) GROUP BY auction, window_start, window_end;
----
-- a second aggregate in the same window (attached): the hottest auction's count per window
CREATE TABLE dst (ws TIMESTAMP(3), we TIMESTAMP(3), wt TIMESTAMP(3), most BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT window_start, window_end, window_time, MAX(n) FROM (SELECT auction, window_start, window_end, window_time, COUNT(*) AS n FROM TABLE(HOP(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY auction, window_start, window_end, window_time) GROUP BY window_start, window_end, window_time;
----
-- an aggregate that reads the window's own columns
CREATE TABLE dst (we TIMESTAMP(3), lag_ms BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT window_end, MAX(TIMESTAMPDIFF(SECOND, `dateTime`, window_end)) FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
----
-- grouping by one bound of the window only is an updating aggregate
CREATE TABLE dst (we TIMESTAMP(3), n BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_end;
----
-- two INSERTs share the source; a stream is spread by the key of upsert-kafka
CREATE TABLE a (auction BIGINT, price BIGINT, PRIMARY KEY (auction) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='out','properties.bootstrap.servers'='b:9092','key.format'='json','value.format'='json');
CREATE TABLE b (channel STRING, w TIMESTAMP(3), n BIGINT, PRIMARY KEY (channel) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='out','properties.bootstrap.servers'='b:9092','key.format'='json','value.format'='json');
EXECUTE STATEMENT SET BEGIN
INSERT INTO a SELECT auction, price FROM src;
INSERT INTO b SELECT channel, window_end, COUNT(*) FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY channel, window_start, window_end;
INSERT INTO a (price, auction) SELECT price, bidder FROM src WHERE price > 100;
END;
----
-- metadata, computed columns, processing time
CREATE TABLE k (`user` STRING, ms BIGINT, part INT METADATA FROM 'partition' VIRTUAL, `offset` BIGINT METADATA, at TIMESTAMP(3) METADATA FROM 'timestamp', rt AS TO_TIMESTAMP_LTZ(ms, 3), pt AS PROCTIME(), twice AS ms * 2, unread STRING, WATERMARK FOR rt AS rt - INTERVAL '5' SECOND) WITH ('connector'='kafka','topic'='k','properties.bootstrap.servers'='b:9092','properties.group.id'='g','format'='json','scan.watermark.idle-timeout'='30 s');
CREATE TABLE dst (u STRING, p INT, o BIGINT, at TIMESTAMP(3), pt TIMESTAMP_LTZ(3), x BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT `user`, part, `offset`, at, pt, twice FROM k;
----
-- a column list and implicit casts
CREATE TABLE dst (a DECIMAL(20, 2), b DOUBLE, c VARCHAR(5) NOT NULL, d TIMESTAMP(6), e STRING) WITH ('connector'='print');
INSERT INTO dst (d, c, b, a) SELECT ts, s, f, l FROM t;
----
-- HAVING over an updating result: a lone -U stays
CREATE TABLE dst (channel STRING, n BIGINT, PRIMARY KEY (channel) NOT ENFORCED) WITH ('connector'='upsert-kafka','topic'='out','properties.bootstrap.servers'='b:9092','key.format'='json','value.format'='json');
SET 'table.exec.state.ttl' = '1 h';
INSERT INTO dst SELECT channel, COUNT(*) FROM src GROUP BY channel HAVING COUNT(*) < 10;
----
-- COUNT(*) of a table of which nothing else is read
CREATE TABLE dst (n BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT COUNT(*) FROM t;
----
-- columns of a view that nobody reads are not computed, and unread aggregates neither
CREATE TABLE dst (channel STRING, n BIGINT) WITH ('connector'='print');
CREATE VIEW v AS SELECT channel, COUNT(*) AS n, SUM(price) AS s, AVG(bidder) AS av FROM src GROUP BY channel;
INSERT INTO dst SELECT channel, n FROM v WHERE n > 1;
----
-- COUNT(*) over a union of which nothing is read
CREATE TABLE dst (n BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT COUNT(*) FROM (SELECT price FROM src WHERE price > 1 UNION ALL SELECT l FROM t);
----
-- a hop twice over: each use of a view is its own window
CREATE VIEW h AS SELECT * FROM TABLE(HOP(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE));
CREATE TABLE dst (n BIGINT, we TIMESTAMP(3)) WITH ('connector'='print');
INSERT INTO dst SELECT price, window_end FROM h UNION ALL SELECT COUNT(*), window_end FROM h GROUP BY window_start, window_end;
----
-- window columns computed on, then filtered, then aggregated by another window
CREATE TABLE dst (n BIGINT, we TIMESTAMP(3)) WITH ('connector'='print');
INSERT INTO dst SELECT COUNT(*), window_end FROM TABLE(TUMBLE(TABLE (SELECT window_time AS wt, TIMESTAMPDIFF(SECOND, window_start, window_end) AS s FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND))), DESCRIPTOR(wt), INTERVAL '1' MINUTE)) WHERE s > 0 GROUP BY window_start, window_end;
----
-- UNION ALL of a result that is updated and one that is not
CREATE TABLE dst (c STRING, n BIGINT) WITH ('connector'='print');
INSERT INTO dst SELECT channel, COUNT(*) FROM src GROUP BY channel UNION ALL SELECT url, price FROM src;

-- A window over the union of two tables waits for the watermarks of both.
-- input t {"k":1,"ts":"2026-01-01 00:00:01"}
-- input t {"k":2,"ts":"2026-01-01 00:00:02"}
-- input u {"k":1,"ts":"2026-01-01 00:00:03"}
-- expect r {"k":1,"n":2}
-- expect r {"k":2,"n":1}
CREATE TABLE t (k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE u (k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (k INT, n BIGINT) WITH (@output);
CREATE VIEW both_tables AS SELECT k, ts FROM t UNION ALL SELECT k, ts FROM u;
INSERT INTO r SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE both_tables, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;

-- HAVING and expressions over aggregates.
-- input t {"k":"a","v":1,"ts":"2026-01-01 00:00:01"}
-- input t {"k":"a","v":2,"ts":"2026-01-01 00:00:02"}
-- input t {"k":"b","v":9,"ts":"2026-01-01 00:00:03"}
-- expect r {"k":"A","spread":1,"total":"sum 3"}
CREATE TABLE t (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (k STRING, spread INT, total STRING) WITH (@output);
INSERT INTO r SELECT UPPER(k), MAX(v) - MIN(v), 'sum ' || CAST(SUM(v) AS STRING)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end HAVING COUNT(*) > 1;

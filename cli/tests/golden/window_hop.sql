-- Hopping windows: a row counts in each window that covers it.
-- input t {"k":1,"ts":"2026-01-01 00:00:01"}
-- input t {"k":1,"ts":"2026-01-01 00:00:06"}
-- input t {"k":2,"ts":"2026-01-01 00:00:06"}
-- input t {"k":1,"ts":"2026-01-01 00:00:14"}
-- expect r {"k":1,"window_end":"2026-01-01 00:00:05","n":1}
-- expect r {"k":1,"window_end":"2026-01-01 00:00:10","n":2}
-- expect r {"k":2,"window_end":"2026-01-01 00:00:10","n":1}
-- expect r {"k":1,"window_end":"2026-01-01 00:00:15","n":2}
-- expect r {"k":2,"window_end":"2026-01-01 00:00:15","n":1}
-- expect r {"k":1,"window_end":"2026-01-01 00:00:20","n":1}
CREATE TABLE t (k INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (k INT, window_end TIMESTAMP(3), n BIGINT) WITH (@output);
INSERT INTO r SELECT k, window_end, COUNT(*) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)) GROUP BY k, window_start, window_end;

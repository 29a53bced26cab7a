-- A window function without an aggregate adds the window's columns to each row.
-- input t {"v":1,"ts":"2026-01-01 00:00:01"}
-- input t {"v":2,"ts":"2026-01-01 00:00:12"}
-- expect r {"v":1,"window_start":"2026-01-01 00:00:00","window_end":"2026-01-01 00:00:10","window_time":"2026-01-01 00:00:09.999"}
-- expect r {"v":2,"window_start":"2026-01-01 00:00:10","window_end":"2026-01-01 00:00:20","window_time":"2026-01-01 00:00:19.999"}
CREATE TABLE t (v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (v INT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), window_time TIMESTAMP(3)) WITH (@output);
INSERT INTO r SELECT v, window_start, window_end, window_time FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND));

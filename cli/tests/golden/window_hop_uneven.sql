-- A size that is no multiple of the slide: slices of their common divisor.
-- input t {"v":1,"ts":"2026-01-01 00:00:00"}
-- input t {"v":10,"ts":"2026-01-01 00:00:04"}
-- input t {"v":100,"ts":"2026-01-01 00:00:07"}
-- expect r {"window_start":"2025-12-31 23:59:56","s":1}
-- expect r {"window_start":"2026-01-01 00:00:00","s":11}
-- expect r {"window_start":"2026-01-01 00:00:04","s":110}
CREATE TABLE t (v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (window_start TIMESTAMP(3), s INT) WITH (@output);
INSERT INTO r SELECT window_start, SUM(v) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '4' SECOND, INTERVAL '6' SECOND)) GROUP BY window_start, window_end;

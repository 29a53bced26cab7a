-- Tumbling windows with every aggregate and FILTER; NULLs do not count.
-- input t {"k":"a","v":1,"ts":"2026-01-01 00:00:01"}
-- input t {"k":"a","v":4,"ts":"2026-01-01 00:00:09.999"}
-- input t {"k":"b","v":null,"ts":"2026-01-01 00:00:05"}
-- input t {"k":"a","v":null,"ts":"2026-01-01 00:00:03"}
-- input t {"k":"a","v":7,"ts":"2026-01-01 00:00:10"}
-- input t {"k":null,"v":9,"ts":"2026-01-01 00:00:12"}
-- input t {"k":"b","v":-5,"ts":"2026-01-01 00:00:19"}
-- input t {"k":"b","v":6,"ts":"2026-01-01 00:00:18"}
-- expect r {"k":"a","window_start":"2026-01-01 00:00:00","window_end":"2026-01-01 00:00:10","n":3,"nv":2,"s":5,"av":2,"lo":1,"hi":4,"big":1}
-- expect r {"k":"b","window_start":"2026-01-01 00:00:00","window_end":"2026-01-01 00:00:10","n":1,"nv":0,"s":null,"av":null,"lo":null,"hi":null,"big":0}
-- expect r {"k":"a","window_start":"2026-01-01 00:00:10","window_end":"2026-01-01 00:00:20","n":1,"nv":1,"s":7,"av":7,"lo":7,"hi":7,"big":1}
-- expect r {"k":null,"window_start":"2026-01-01 00:00:10","window_end":"2026-01-01 00:00:20","n":1,"nv":1,"s":9,"av":9,"lo":9,"hi":9,"big":1}
-- expect r {"k":"b","window_start":"2026-01-01 00:00:10","window_end":"2026-01-01 00:00:20","n":2,"nv":2,"s":1,"av":0,"lo":-5,"hi":6,"big":1}
CREATE TABLE t (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (k STRING, window_start TIMESTAMP(3), window_end TIMESTAMP(3), n BIGINT, nv BIGINT, s INT, av INT, lo INT, hi INT, big BIGINT) WITH (@output);
INSERT INTO r SELECT k, window_start, window_end, COUNT(*), COUNT(v), SUM(v), AVG(v), MIN(v), MAX(v), COUNT(*) FILTER (WHERE v > 3)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECONDS)) GROUP BY k, window_start, window_end;

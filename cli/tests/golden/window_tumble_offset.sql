-- An offset moves all windows; times before 1970 fall into the right one.
-- input t {"v":1,"ts":"1969-12-31 23:59:55"}
-- input t {"v":2,"ts":"1970-01-01 00:00:01.999"}
-- input t {"v":4,"ts":"1970-01-01 00:00:02"}
-- expect r {"window_start":"1969-12-31 23:59:52","s":3}
-- expect r {"window_start":"1970-01-01 00:00:02","s":4}
CREATE TABLE t (v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (window_start TIMESTAMP(3), s BIGINT) WITH (@output);
INSERT INTO r SELECT window_start, SUM(v) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND, INTERVAL '2' SECOND)) GROUP BY window_start, window_end;

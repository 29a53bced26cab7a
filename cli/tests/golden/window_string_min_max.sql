-- MIN and MAX of strings, decimals, doubles and timestamps.
-- input t {"s":"pear","d":1.10,"x":0.5,"ts":"2026-01-01 00:00:01"}
-- input t {"s":"apple","d":-2.20,"x":-0.5,"ts":"2026-01-01 00:00:03"}
-- input t {"s":null,"d":null,"x":null,"ts":"2026-01-01 00:00:02"}
-- expect r {"lo":"apple","hi":"pear","dlo":-2.2,"dsum":-1.1,"xhi":0.5,"xavg":0.0,"last":"2026-01-01 00:00:03"}
CREATE TABLE t (s STRING, d DECIMAL(6, 2), x DOUBLE, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' MINUTE) WITH (@input);
CREATE TABLE r (lo STRING, hi STRING, dlo DECIMAL(6, 2), dsum DECIMAL(38, 2), xhi DOUBLE, xavg DOUBLE, `last` TIMESTAMP(3)) WITH (@output);
INSERT INTO r SELECT MIN(s), MAX(s), MIN(d), SUM(d), MAX(x), AVG(x), MAX(ts)
FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;

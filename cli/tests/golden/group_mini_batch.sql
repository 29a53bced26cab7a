-- The same with mini-batches: fewer updates, the same table.
-- input t {"k":1,"v":1}
-- input t {"k":2,"v":2}
-- input t {"k":1,"v":3}
-- input t {"k":1,"v":5}
-- input t {"k":2,"v":7}
-- expect r {"k":1,"n":3,"av":3.0}
-- expect r {"k":2,"n":2,"av":4.5}
SET 'table.exec.mini-batch.enabled' = 'true';
SET 'table.exec.mini-batch.allow-latency' = '20 ms';
SET 'table.exec.mini-batch.size' = '3';
CREATE TABLE t (k BIGINT, v DOUBLE) WITH (@input);
CREATE TABLE r (k BIGINT, n BIGINT, av DOUBLE, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert);
INSERT INTO r SELECT k, COUNT(*), AVG(v) FROM t GROUP BY k;

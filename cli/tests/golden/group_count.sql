-- An updating result: the last value of each key counts.
-- input t {"k":"a","v":1}
-- input t {"k":"b","v":2}
-- input t {"k":"a","v":3}
-- input t {"k":"c","v":null}
-- input t {"k":"a","v":5}
-- input t {"k":"b","v":-2}
-- expect r {"k":"a","n":3,"total":9,"hi":5}
-- expect r {"k":"b","n":2,"total":0,"hi":2}
-- expect r {"k":"c","n":1,"total":null,"hi":null}
CREATE TABLE t (k STRING, v INT) WITH (@input);
CREATE TABLE r (k STRING, n BIGINT, total INT, hi INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert);
INSERT INTO r SELECT k, COUNT(*), SUM(v), MAX(v) FROM t GROUP BY k;

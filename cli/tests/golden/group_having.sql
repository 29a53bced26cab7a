-- A key whose row no longer satisfies HAVING is deleted from the result.
-- input t {"k":1,"v":5}
-- input t {"k":2,"v":50}
-- input t {"k":3,"v":7}
-- input t {"k":1,"v":1}
-- input t {"k":2,"v":60}
-- input t {"k":3,"v":1}
-- expect r {"k":1,"total":6}
-- expect r {"k":3,"total":8}
CREATE TABLE t (k INT, v INT) WITH (@input);
CREATE TABLE r (k INT, total INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert);
INSERT INTO r SELECT k, SUM(v) FROM t GROUP BY k HAVING SUM(v) < 100;

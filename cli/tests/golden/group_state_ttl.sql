-- A time to live that nothing outlives changes nothing.
SET 'table.exec.state.ttl' = '1 h';
CREATE TABLE src (k STRING, v INT) WITH (@input);
CREATE TABLE dst (k STRING, n BIGINT, total INT, PRIMARY KEY (k) NOT ENFORCED) WITH (@upsert);
INSERT INTO dst SELECT k, COUNT(*), SUM(v) FROM src GROUP BY k;
-- input src {"k":"a","v":1}
-- input src {"k":"b","v":2}
-- input src {"k":"a","v":3}
-- input src {"k":"a","v":4}
-- input src {"k":"b","v":5}
-- expect dst {"k":"a","n":3,"total":8}
-- expect dst {"k":"b","n":2,"total":7}

-- An append-only query into upsert-kafka: the last row of a key wins.
-- input t {"id":1,"v":"first"}
-- input t {"id":2,"v":"only"}
-- expect r {"id":1,"v":"FIRST"}
-- expect r {"id":2,"v":"ONLY"}
CREATE TABLE t (id INT, v STRING) WITH (@input);
CREATE TABLE r (id INT, v STRING, PRIMARY KEY (id) NOT ENFORCED) WITH (@upsert);
INSERT INTO r SELECT id, UPPER(v) FROM t;

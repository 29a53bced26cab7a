-- Rows of several inputs, doubles kept.
-- input t {"a":1}
-- input t {"a":2}
-- input u {"a":2}
-- input u {"a":3}
-- expect r {"a":1,"origin":"t"}
-- expect r {"a":2,"origin":"t"}
-- expect r {"a":2,"origin":"u"}
-- expect r {"a":3,"origin":"u"}
-- expect r {"a":20,"origin":"again"}
CREATE TABLE t (a INT) WITH (@input);
CREATE TABLE u (a INT) WITH (@input);
CREATE TABLE r (a INT, origin STRING) WITH (@output);
INSERT INTO r SELECT a, 't' FROM t UNION ALL SELECT a, 'u' FROM u UNION ALL SELECT a * 10, 'again' FROM t WHERE a = 2;

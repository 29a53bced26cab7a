-- Columns that an INSERT does not name are NULL; the others are found by name.
-- input t {"a":1,"b":"x"}
-- expect r {"p":"x","q":null,"s":1}
CREATE TABLE t (a INT, b STRING) WITH (@input);
CREATE TABLE r (p STRING, q DOUBLE, s BIGINT) WITH (@output);
INSERT INTO r (s, p) SELECT a, b FROM t;

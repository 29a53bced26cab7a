-- Rows for which the condition is FALSE or NULL are dropped.
-- input t {"a":1,"b":"x"}
-- input t {"a":2,"b":"y"}
-- input t {"a":null,"b":"z"}
-- input t {"a":4,"b":null}
-- input t {"b":"no a"}
-- expect r {"a":2,"b":"y"}
-- expect r {"a":4,"b":null}
CREATE TABLE t (a INT, b STRING) WITH (@input);
CREATE TABLE r (a INT, b STRING) WITH (@output);
INSERT INTO r SELECT a, b FROM t WHERE a > 1;

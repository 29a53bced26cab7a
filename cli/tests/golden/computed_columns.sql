-- Columns computed from others, used like any column.
-- input t {"price":3,"n":4}
-- input t {"price":5,"n":null}
-- expect r {"price":3,"total":12}
CREATE TABLE t (price INT, n INT, total AS price * n) WITH (@input);
CREATE TABLE r (price INT, total INT) WITH (@output);
INSERT INTO r SELECT price, total FROM t WHERE total > 10;

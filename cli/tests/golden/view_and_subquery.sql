-- A view over a table, a query over the view, a query in FROM.
-- input t {"a":1,"b":10}
-- input t {"a":2,"b":20}
-- input t {"a":3,"b":30}
-- expect r {"x":41}
-- expect r {"x":61}
CREATE TABLE t (a INT, b INT) WITH (@input);
CREATE TABLE r (x INT) WITH (@output);
CREATE TEMPORARY VIEW doubled AS SELECT a, b * 2 AS twice FROM t;
INSERT INTO r SELECT q.more FROM (SELECT a, twice + 1 AS more FROM doubled) AS q WHERE q.a >= 2;

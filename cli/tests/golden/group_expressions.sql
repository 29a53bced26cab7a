-- Several keys, expressions as keys, FILTER.
-- input t {"a":1,"b":"x","v":10}
-- input t {"a":3,"b":"X","v":20}
-- input t {"a":2,"b":"y","v":30}
-- input t {"a":null,"b":"y","v":40}
-- expect r {"odd":1,"b":"X","n":2,"high":1}
-- expect r {"odd":0,"b":"Y","n":1,"high":1}
-- expect r {"odd":-1,"b":"Y","n":1,"high":1}
CREATE TABLE t (a INT, b STRING, v INT) WITH (@input);
CREATE TABLE r (odd INT, b STRING, n BIGINT, high BIGINT, PRIMARY KEY (odd, b) NOT ENFORCED) WITH (@upsert);
INSERT INTO r SELECT COALESCE(MOD(a, 2), -1), UPPER(b), COUNT(*), COUNT(*) FILTER (WHERE v > 15)
FROM t GROUP BY COALESCE(MOD(a, 2), -1), UPPER(b);

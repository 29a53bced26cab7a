-- COALESCE, NULLIF, IF, IS NULL.
-- input t {"a":null,"b":2}
-- input t {"a":1,"b":1}
-- input t {"a":3,"b":null}
-- expect r {"first":2,"other":null,"word":"no","missing":true}
-- expect r {"first":1,"other":null,"word":"yes","missing":false}
-- expect r {"first":3,"other":3,"word":"no","missing":false}
CREATE TABLE t (a INT, b INT) WITH (@input);
CREATE TABLE r (`first` INT, other INT, word STRING, missing BOOLEAN) WITH (@output);
INSERT INTO r SELECT COALESCE(a, b), NULLIF(a, b), IF(a = b, 'yes', 'no'), a IS NULL FROM t;

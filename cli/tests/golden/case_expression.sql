-- Both forms of CASE; a branch that fails is not evaluated for rows that an earlier branch took.
-- input t {"a":0}
-- input t {"a":2}
-- input t {"a":5}
-- input t {"a":null}
-- expect r {"a":0,"size":"zero","share":-1,"word":null}
-- expect r {"a":2,"size":"small","share":5,"word":"two"}
-- expect r {"a":5,"size":"large","share":2,"word":null}
-- expect r {"a":null,"size":"large","share":null,"word":null}
CREATE TABLE t (a INT) WITH (@input);
CREATE TABLE r (a INT, size STRING, share INT, word STRING) WITH (@output);
INSERT INTO r SELECT a,
  CASE WHEN a = 0 THEN 'zero' WHEN a < 3 THEN 'small' ELSE 'large' END,
  CASE WHEN a = 0 THEN -1 ELSE 10 / a END,
  CASE a WHEN 2 THEN 'two' WHEN 3 THEN 'three' END
FROM t;

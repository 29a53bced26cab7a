-- LIKE with wildcards and ESCAPE, regular expressions.
-- input t {"s":"alpha"}
-- input t {"s":"100%"}
-- input t {"s":"beta-17"}
-- expect r {"s":"alpha","a":true,"percent":false,"digits":null}
-- expect r {"s":"100%","a":false,"percent":true,"digits":"100"}
-- expect r {"s":"beta-17","a":false,"percent":false,"digits":"17"}
CREATE TABLE t (s STRING) WITH (@input);
CREATE TABLE r (s STRING, a BOOLEAN, percent BOOLEAN, digits STRING) WITH (@output);
INSERT INTO r SELECT s, s LIKE 'a%_', s LIKE '%!%' ESCAPE '!', REGEXP_EXTRACT(s, '([0-9]+)', 1) FROM t;

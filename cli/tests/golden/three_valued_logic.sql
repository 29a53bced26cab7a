-- NULL is neither true nor false: AND, OR, NOT, IN, BETWEEN, IS [NOT] DISTINCT FROM.
-- input t {"id":1,"a":true,"b":null,"n":5}
-- input t {"id":2,"a":false,"b":null,"n":null}
-- input t {"id":3,"a":null,"b":null,"n":1}
-- expect r {"id":1,"a_and":null,"a_or":true,"n_in":true,"n_between":true,"same":false,"unknown":false}
-- expect r {"id":2,"a_and":false,"a_or":null,"n_in":null,"n_between":null,"same":false,"unknown":false}
-- expect r {"id":3,"a_and":null,"a_or":null,"n_in":false,"n_between":false,"same":true,"unknown":true}
CREATE TABLE t (id INT, a BOOLEAN, b BOOLEAN, n INT) WITH (@input);
CREATE TABLE r (id INT, a_and BOOLEAN, a_or BOOLEAN, n_in BOOLEAN, n_between BOOLEAN, same BOOLEAN, `unknown` BOOLEAN) WITH (@output);
INSERT INTO r SELECT id, a AND b, a OR b, n IN (4, 5), n BETWEEN 2 AND 6, a IS NOT DISTINCT FROM b, a IS UNKNOWN FROM t;

-- Integer division cuts, MOD keeps the dividend's sign, types widen.
-- input t {"a":7,"b":2,"x":0.5}
-- input t {"a":-7,"b":2,"x":1.5}
-- input t {"a":7,"b":null,"x":null}
-- expect r {"sum":9,"diff":5,"product":14,"quotient":3,"rest":1,"mixed":7.5,"neg":-7}
-- expect r {"sum":-5,"diff":-9,"product":-14,"quotient":-3,"rest":-1,"mixed":-5.5,"neg":7}
-- expect r {"sum":null,"diff":null,"product":null,"quotient":null,"rest":null,"mixed":null,"neg":-7}
CREATE TABLE t (a INT, b INT, x DOUBLE) WITH (@input);
CREATE TABLE r (`sum` INT, diff INT, product INT, quotient INT, `rest` INT, mixed DOUBLE, neg INT) WITH (@output);
INSERT INTO r SELECT a + b, a - b, a * b, a / b, MOD(a, b), a + x, -a FROM t;

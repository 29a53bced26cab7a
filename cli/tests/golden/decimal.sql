-- Exact arithmetic with the precision and scale of Flink's rules.
-- input t {"a":10.25,"b":3.333}
-- input t {"a":-0.01,"b":2.500}
-- expect r {"sum":13.583,"product":34.16325,"rounded":10.3}
-- expect r {"sum":2.490,"product":-0.02500,"rounded":0}
CREATE TABLE t (a DECIMAL(10, 2), b DECIMAL(10, 3)) WITH (@input);
CREATE TABLE r (`sum` DECIMAL(12, 3), product DECIMAL(20, 5), rounded DECIMAL(10, 1)) WITH (@output);
INSERT INTO r SELECT a + b, a * b, ROUND(a, 1) FROM t;

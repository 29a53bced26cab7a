-- Several INSERTs in one job share their source.
-- input t {"a":1}
-- input t {"a":2}
-- input t {"a":3}
-- expect odd {"a":1}
-- expect odd {"a":3}
-- expect squares {"a":1,"square":1}
-- expect squares {"a":2,"square":4}
-- expect squares {"a":3,"square":9}
CREATE TABLE t (a INT) WITH (@input);
CREATE TABLE odd (a INT) WITH (@output);
CREATE TABLE squares (a INT, square INT) WITH (@output);
EXECUTE STATEMENT SET BEGIN
  INSERT INTO odd SELECT a FROM t WHERE MOD(a, 2) = 1;
  INSERT INTO squares SELECT a, a * a FROM t;
END;

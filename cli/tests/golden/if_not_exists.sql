-- The second definition of each is left alone.
CREATE TABLE src (v INT) WITH (@input);
CREATE TABLE IF NOT EXISTS src (other STRING) WITH ('connector' = 'datagen');
CREATE TEMPORARY VIEW doubled AS SELECT v * 2 AS v FROM src;
CREATE TEMPORARY VIEW IF NOT EXISTS doubled AS SELECT v * 3 AS v FROM src;
CREATE TABLE dst (v INT) WITH (@output);
INSERT INTO dst SELECT v FROM doubled;
-- input src {"v":1}
-- input src {"v":2}
-- input src {"v":3}
-- expect dst {"v":2}
-- expect dst {"v":4}
-- expect dst {"v":6}

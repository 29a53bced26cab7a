CREATE TABLE src (v INT, seen AS PROCTIME()) WITH (@input);
CREATE TABLE dst (v INT, recent BOOLEAN) WITH (@output);
INSERT INTO dst SELECT v, seen > TO_TIMESTAMP_LTZ(1700000000000, 3) FROM src;
-- input src {"v":1}
-- input src {"v":2}
-- input src {"v":3}
-- expect dst {"v":1,"recent":true}
-- expect dst {"v":2,"recent":true}
-- expect dst {"v":3,"recent":true}

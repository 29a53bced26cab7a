-- DISTINCT is an updating result that never changes a row.
CREATE TABLE src (k STRING, v INT) WITH (@input);
CREATE TABLE dst (k STRING, v INT, PRIMARY KEY (k, v) NOT ENFORCED) WITH (@upsert);
INSERT INTO dst SELECT DISTINCT k, v FROM src;
-- input src {"k":"a","v":1}
-- input src {"k":"a","v":1}
-- input src {"k":"b","v":1}
-- input src {"k":"a","v":2}
-- input src {"k":"b","v":1}
-- input src {"k":"a","v":1}
-- expect dst {"k":"a","v":1}
-- expect dst {"k":"a","v":2}
-- expect dst {"k":"b","v":1}

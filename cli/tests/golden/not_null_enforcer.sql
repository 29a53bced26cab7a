SET 'table.exec.sink.not-null-enforcer' = 'DROP';
CREATE TABLE src (k STRING, v INT) WITH (@input);
CREATE TABLE dst (k STRING NOT NULL, v INT) WITH (@output);
INSERT INTO dst SELECT k, v FROM src;
-- input src {"k":"a","v":1}
-- input src {"k":null,"v":2}
-- input src {"v":3}
-- input src {"k":"b","v":null}
-- expect dst {"k":"a","v":1}
-- expect dst {"k":"b","v":null}

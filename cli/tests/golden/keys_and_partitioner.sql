-- The value comes without the key, so only the rest of a row is compared.
CREATE TABLE src (id INT, v STRING) WITH (@input);
CREATE TABLE dst (k_id INT, v STRING) WITH (@output, 'key.format' = 'json', 'key.fields' = 'k_id', 'key.fields-prefix' = 'k_', 'value.fields-include' = 'EXCEPT_KEY', 'sink.partitioner' = 'fixed');
INSERT INTO dst SELECT id, v FROM src;
-- input src {"id":1,"v":"a"}
-- input src {"id":2,"v":"b"}
-- input src {"id":3,"v":"c"}
-- expect dst {"v":"a"}
-- expect dst {"v":"b"}
-- expect dst {"v":"c"}

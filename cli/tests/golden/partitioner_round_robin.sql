CREATE TABLE src (v INT) WITH (@input);
CREATE TABLE dst (v INT) WITH (@output, 'sink.partitioner' = 'round-robin');
INSERT INTO dst SELECT v FROM src;
-- input src {"v":1}
-- input src {"v":2}
-- input src {"v":3}
-- input src {"v":4}
-- expect dst {"v":1}
-- expect dst {"v":2}
-- expect dst {"v":3}
-- expect dst {"v":4}

-- Row i of the input is in partition i modulo 3.
CREATE TABLE src (
  v INT,
  part INT METADATA FROM 'partition' VIRTUAL,
  `offset` BIGINT METADATA VIRTUAL,
  `timestamp` TIMESTAMP_LTZ(3) METADATA VIRTUAL
) WITH (@input);
CREATE TABLE dst (v INT, part INT, at BIGINT, stamped BOOLEAN) WITH (@output);
INSERT INTO dst SELECT v, part, `offset`, `timestamp` IS NOT NULL FROM src;
-- input src {"v":10}
-- input src {"v":11}
-- input src {"v":12}
-- input src {"v":13}
-- expect dst {"v":10,"part":0,"at":0,"stamped":true}
-- expect dst {"v":11,"part":1,"at":0,"stamped":true}
-- expect dst {"v":12,"part":2,"at":0,"stamped":true}
-- expect dst {"v":13,"part":0,"at":1,"stamped":true}

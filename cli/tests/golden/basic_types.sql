-- Every basic type through source and sink.
-- input t {"b":true,"i1":-128,"i2":-32768,"i4":-2147483648,"i8":-9223372036854775808,"f4":1.5,"f8":-2.25,"d":12345.678,"c":"abc","s":"ü\n\"","y":"AQID","dt":"2026-02-28","tm":"23:59:58","ts":"2026-01-01 00:00:00.001","tz":"2026-01-01 00:00:00.001Z"}
-- input t {}
-- expect r {"b":true,"i1":-128,"i2":-32768,"i4":-2147483648,"i8":-9223372036854775808,"f4":1.5,"f8":-2.25,"d":12345.678,"c":"abc","s":"ü\n\"","y":"AQID","dt":"2026-02-28","tm":"23:59:58","ts":"2026-01-01 00:00:00.001","tz":"2026-01-01 00:00:00.001Z"}
-- expect r {"b":null,"i1":null,"i2":null,"i4":null,"i8":null,"f4":null,"f8":null,"d":null,"c":null,"s":null,"y":null,"dt":null,"tm":null,"ts":null,"tz":null}
CREATE TABLE t (b BOOLEAN, i1 TINYINT, i2 SMALLINT, i4 INT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, d DECIMAL(10, 3), c CHAR(3), s STRING, y BYTES, dt DATE, tm TIME, ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3)) WITH (@input);
CREATE TABLE r (b BOOLEAN, i1 TINYINT, i2 SMALLINT, i4 INT, i8 BIGINT, f4 FLOAT, f8 DOUBLE, d DECIMAL(10, 3), c CHAR(3), s STRING, y BYTES, dt DATE, tm TIME, ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3)) WITH (@output);
INSERT INTO r SELECT * FROM t;

-- CAST between the basic types; TRY_CAST gives NULL where CAST would fail.
-- input t {"s":"42","d":3.99,"b":true,"ts":"2026-01-02 03:04:05.678"}
-- input t {"s":"x","d":-3.99,"b":false,"ts":"1969-12-31 23:59:59.999"}
-- expect r {"i":42,"l":3,"s":"TRUE","day":"2026-01-02","text":"2026-01-02 03:04:05.678","dec":3.99}
-- expect r {"i":null,"l":-3,"s":"FALSE","day":"1969-12-31","text":"1969-12-31 23:59:59.999","dec":-3.99}
CREATE TABLE t (s STRING, d DOUBLE, b BOOLEAN, ts TIMESTAMP(3)) WITH (@input);
CREATE TABLE r (i INT, l BIGINT, s STRING, `day` DATE, `text` STRING, `dec` DECIMAL(5, 2)) WITH (@output);
INSERT INTO r SELECT TRY_CAST(s AS INT), CAST(d AS BIGINT), CAST(b AS STRING), CAST(ts AS DATE), CAST(ts AS STRING), CAST(d AS DECIMAL(5, 2)) FROM t;

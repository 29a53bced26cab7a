-- Parts of a timestamp, formats, and arithmetic with intervals.
-- input t {"ts":"2026-03-01 00:30:15.250"}
-- expect r {"y":2026,"mon":3,"d":1,"h":0,"minute_floor":"2026-03-01 00:30:00","before":"2026-02-28 23:30:15.25","text":"01.03.2026 00:30","diff":30,"parsed":"2026-03-01 10:20:30"}
CREATE TABLE t (ts TIMESTAMP(3)) WITH (@input);
CREATE TABLE r (y BIGINT, mon BIGINT, d BIGINT, h BIGINT, minute_floor TIMESTAMP(3), `before` TIMESTAMP(3), `text` STRING, diff INT, parsed TIMESTAMP(3)) WITH (@output);
INSERT INTO r SELECT EXTRACT(YEAR FROM ts), EXTRACT(MONTH FROM ts), DAYOFMONTH(ts), HOUR(ts), FLOOR(ts TO MINUTE),
  ts - INTERVAL '1' HOUR, DATE_FORMAT(ts, 'dd.MM.yyyy HH:mm'), TIMESTAMPDIFF(MINUTE, TIMESTAMP '2026-03-01 00:00:00', ts),
  TO_TIMESTAMP('01/03/2026 10.20.30', 'dd/MM/yyyy HH.mm.ss') FROM t;

-- The common string functions, with characters outside ASCII.
-- input t {"s":"  Grüße  "}
-- input t {"s":"a,b,c"}
-- expect r {"up":"  GRÜSSE  ","trimmed":"Grüße","len":9,"part":" Gr","second":null,"joined":"  Grüße  !","replaced":"  Grxxe  "}
-- expect r {"up":"A,B,C","trimmed":"a,b,c","len":5,"part":",b,","second":"b","joined":"a,b,c!","replaced":"a,b,c"}
CREATE TABLE t (s STRING) WITH (@input);
CREATE TABLE r (up STRING, trimmed STRING, len INT, part STRING, `second` STRING, joined STRING, replaced STRING) WITH (@output);
INSERT INTO r SELECT UPPER(s), TRIM(s), CHAR_LENGTH(s), SUBSTRING(s FROM 2 FOR 3), SPLIT_INDEX(s, ',', 1), s || '!', REPLACE(s, 'üß', 'xx') FROM t;

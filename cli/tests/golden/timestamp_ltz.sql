CREATE TABLE src (at TIMESTAMP_LTZ(3), ms BIGINT) WITH (@input);
CREATE TABLE dst (plain STRING, y BIGINT, epoch TIMESTAMP_LTZ(3), same BOOLEAN) WITH (@output);
INSERT INTO dst SELECT DATE_FORMAT(at, 'yyyy-MM-dd HH:mm'), EXTRACT(YEAR FROM at), TO_TIMESTAMP_LTZ(ms, 3), at = TO_TIMESTAMP_LTZ(ms, 3) FROM src;
-- input src {"at":"2026-01-02 03:04:05.678Z","ms":1767323045678}
-- input src {"at":"1969-12-31 23:59:59.999Z","ms":-1}
-- input src {"at":null,"ms":0}
-- expect dst {"plain":"2026-01-02 03:04","y":2026,"epoch":"2026-01-02 03:04:05.678Z","same":true}
-- expect dst {"plain":"1969-12-31 23:59","y":1969,"epoch":"1969-12-31 23:59:59.999Z","same":true}
-- expect dst {"plain":null,"y":null,"epoch":"1970-01-01 00:00:00Z","same":null}

CREATE TABLE src (id INT, at TIMESTAMP(3), d DECIMAL(30, 2)) WITH (@input, 'json.ignore-parse-errors' = 'true', 'json.timestamp-format.standard' = 'ISO-8601');
CREATE TABLE dst (id INT, at TIMESTAMP(3), d DECIMAL(30, 2)) WITH (@output, 'json.timestamp-format.standard' = 'ISO-8601', 'json.encode.ignore-null-fields' = 'true', 'json.encode.decimal-as-plain-number' = 'true');
INSERT INTO dst SELECT id, at, d FROM src;
-- input src {"id":1,"at":"2026-01-02T03:04:05.678","d":1.50}
-- input src {"id":2,"at":"2026-01-02 03:04:05","d":"x"}
-- input src not json
-- input src {"id":4,"d":7}
-- expect dst {"id":1,"at":"2026-01-02T03:04:05.678","d":1.50}
-- expect dst {"id":2}
-- expect dst {"id":4,"d":7.00}

CREATE TABLE orders (
  order_id BIGINT,
  customer STRING,
  amount   DECIMAL(10, 2),
  currency STRING,
  status   STRING,
  created  TIMESTAMP(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'orders',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE large_orders (
  order_id BIGINT,
  customer STRING,
  amount   DECIMAL(10, 2),
  `size`   STRING,
  `day`    STRING
) WITH (
  'connector' = 'kafka',
  'topic' = 'large-orders',
  'properties.bootstrap.servers' = '${KAFKA_BOOTSTRAP_SERVERS}',
  'key.format' = 'json',
  'key.fields' = 'order_id',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'large-orders',
  'value.format' = 'json',
  'value.json.encode.decimal-as-plain-number' = 'true'
);

CREATE TEMPORARY VIEW paid AS
SELECT * FROM orders WHERE UPPER(status) = 'PAID';

INSERT INTO large_orders
SELECT
  order_id,
  UPPER(TRIM(customer)),
  amount,
  CASE WHEN amount >= 500 THEN 'huge' ELSE 'large' END,
  DATE_FORMAT(created, 'yyyy-MM-dd')
FROM paid
WHERE amount >= 100;

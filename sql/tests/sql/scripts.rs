//! Scripts as a whole: settings, statement sets, uids, options of connectors as the graph has them.

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::graph::{
    DatagenField, DeliveryGuarantee, EdgeKind, Format, KafkaEnd, KafkaPartitioner, KafkaStart, MiniBatch,
    NotNullEnforcer, SinkConnector, SourceConnector, TimestampFormat, TransformKind,
};
use millstream_sql::{CompileOptions, StatementInfoKind, compile};

use crate::support::{SRC, TYPES, by_uid, compiled, errors, graph, uids};

const COUNT: &str = "CREATE TABLE dst (auction BIGINT, n BIGINT) WITH ('connector'='print');\n\
INSERT INTO dst SELECT auction, COUNT(*) FROM src GROUP BY auction;\n";

#[test]
fn the_same_text_gives_the_same_graph() {
    let text = format!("{SRC}{COUNT}");
    assert_eq!(graph(&text), graph(&text));
    assert_eq!(graph(&text).hash(), graph(&text).hash());
    let spaced = text.replace(", ", "  ,\n-- note\n ");
    assert_eq!(graph(&text).hash(), graph(&spaced).hash());
}

#[test]
fn uids_survive_edits_of_other_statements() {
    let alone = graph(&format!("{SRC}{COUNT}"));
    let other = "CREATE TABLE o (c STRING, n BIGINT) WITH ('connector'='print');\n\
    INSERT INTO o SELECT channel, COUNT(*) FROM src WHERE price > 3 GROUP BY channel;\n";
    let both = graph(&format!("{SRC}{other}{COUNT}"));
    assert_eq!(uids(&alone), ["src", "dst/local-aggregate/0", "dst/aggregate/0", "dst/calc/0", "dst/sink/0"]);
    for uid in uids(&alone).into_iter().filter(|uid| *uid != "src") {
        assert_eq!(by_uid(&alone, uid).output, by_uid(&both, uid).output, "{uid}");
    }
    // A filter in the statement itself moves no state either.
    let filtered = graph(&format!("{SRC}{}", COUNT.replace("GROUP", "WHERE price > 3 GROUP")));
    assert_eq!(by_uid(&alone, "dst/aggregate/0").kind, by_uid(&filtered, "dst/aggregate/0").kind);
}

#[test]
fn a_source_reads_what_all_its_readers_need() {
    let text = format!(
        "{SRC}CREATE TABLE a (x BIGINT) WITH ('connector'='print');
         CREATE TABLE b (x STRING) WITH ('connector'='print');
         EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT price FROM src; INSERT INTO b SELECT url FROM src; END;"
    );
    let graph = graph(&text);
    let sources: Vec<_> = graph.transforms.iter().filter(|t| matches!(t.kind, TransformKind::Source(_))).collect();
    assert_eq!(sources.len(), 1);
    let names: Vec<&str> = sources[0].output.fields.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["price", "url", "dateTime"]);
}

#[test]
fn table_names_make_safe_uids() {
    let text = "CREATE TABLE `a/b#c` (x BIGINT) WITH ('connector'='datagen'); CREATE TABLE `é` (x BIGINT) WITH ('connector'='print');
        INSERT INTO `é` SELECT x FROM `a/b#c`";
    assert_eq!(uids(&graph(text)), ["a%2Fb%23c", "%C3%A9/sink/0"]);
}

#[test]
fn settings_reach_plan_and_caller() {
    let text = format!(
        "SET 'pipeline.name' = 'n'; SET 'parallelism.default' = '4'; SET 'execution.checkpointing.interval' = '250 ms';
         SET 'table.exec.mini-batch.enabled' = 'true'; SET 'table.exec.mini-batch.allow-latency' = '1 s';
         SET 'table.exec.mini-batch.size' = '5000'; SET 'table.exec.state.ttl' = '1 h'; SET 'table.exec.source.idle-timeout' = '10 s';
         SET 'table.exec.sink.not-null-enforcer' = 'DROP'; SET 'pipeline.object-reuse' = 'true';
         {SRC}{COUNT}"
    );
    let compiled = compiled(&text);
    assert_eq!(compiled.settings.name.as_deref(), Some("n"));
    assert_eq!((compiled.settings.parallelism, compiled.settings.checkpoint_interval_ms), (Some(4), Some(250)));
    let TransformKind::GlobalGroupAggregate { mini_batch, state_ttl_ms, .. } =
        &by_uid(&compiled.graph, "dst/aggregate/0").kind
    else {
        unreachable!()
    };
    assert_eq!((*mini_batch, *state_ttl_ms), (Some(MiniBatch { allow_latency_ms: 1000, size: 5000 }), Some(3_600_000)));
    let TransformKind::Source(source) = &by_uid(&compiled.graph, "src").kind else { unreachable!() };
    assert_eq!(source.watermark.as_ref().unwrap().idle_timeout_ms, Some(10_000));
    let TransformKind::Sink(sink) = &by_uid(&compiled.graph, "dst/sink/0").kind else { unreachable!() };
    assert_eq!(sink.not_null_enforcer, NotNullEnforcer::Drop);
    let sets = compiled.statements.iter().filter(|s| matches!(s.kind, StatementInfoKind::Set { .. })).count();
    assert_eq!((sets, compiled.statements.len()), (10, 13));
}

#[test]
fn set_overrides_the_manifest() {
    let options = CompileOptions {
        options: JobOptions { parallelism: Some(2), name: Some("m".to_owned()), ..JobOptions::default() },
    };
    let compiled = compile(&format!("SET 'parallelism.default' = '8';{SRC}{COUNT}"), &options).unwrap();
    assert_eq!((compiled.settings.parallelism, compiled.settings.name.as_deref()), (Some(8), Some("m")));
}

#[test]
fn statement_sets_come_in_two_forms() {
    let insert = COUNT.lines().nth(1).unwrap();
    let table = COUNT.lines().next().unwrap();
    let plain = graph(&format!("{SRC}{COUNT}"));
    for script in [
        format!("EXECUTE STATEMENT SET BEGIN {insert} END;"),
        format!("BEGIN STATEMENT SET; {insert} END;"),
        format!("EXECUTE STATEMENT SET BEGIN {insert} END"),
        format!("EXECUTE {insert}"),
    ] {
        assert_eq!(graph(&format!("{SRC}{table}{script}")).hash(), plain.hash(), "{script}");
    }
}

#[test]
fn a_kafka_table_keeps_its_options() {
    let text = "CREATE TABLE k (id BIGINT, k_a STRING, v STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (
        'connector' = 'kafka', 'topic' = 'a', 'properties.bootstrap.servers' = '${BROKERS}', 'properties.group.id' = 'g',
        'properties.sasl.jaas.config' = 'org.apache.kafka.common.security.plain.PlainLoginModule required username=\"u\" password=\"${P}\";',
        'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:0,offset:42;partition:1,offset:300',
        'scan.bounded.mode' = 'timestamp', 'scan.bounded.timestamp-millis' = '1000', 'key.format' = 'json', 'key.fields' = 'k_a',
        'key.fields-prefix' = 'k_', 'value.format' = 'json', 'value.json.ignore-parse-errors' = 'true',
        'value.json.timestamp-format.standard' = 'ISO-8601', 'value.fields-include' = 'EXCEPT_KEY', 'scan.watermark.idle-timeout' = '1 min');
        CREATE TABLE out (id BIGINT, v STRING) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='b', 'format'='json',
        'sink.partitioner'='fixed', 'sink.delivery-guarantee'='exactly-once', 'sink.transactional-id-prefix'='p',
        'properties.transaction.timeout.ms'='60000');
        INSERT INTO out SELECT id, v FROM k";
    let graph = graph(text);
    let TransformKind::Source(source) = &by_uid(&graph, "k").kind else { unreachable!() };
    let SourceConnector::Kafka(kafka) = &source.connector else { unreachable!() };
    assert_eq!(kafka.topics, ["a"]);
    assert_eq!(kafka.properties["bootstrap.servers"], "${BROKERS}");
    assert!(kafka.properties["sasl.jaas.config"].contains("${P}"));
    assert_eq!(kafka.startup, KafkaStart::SpecificOffsets { offsets: [(0, 42), (1, 300)].into() });
    assert_eq!(kafka.bounded, Some(KafkaEnd::Timestamp { millis: 1000 }));
    assert_eq!(kafka.discovery_interval_ms, None, "a bounded source discovers nothing");
    let key = kafka.key.as_ref().unwrap();
    assert_eq!(
        (&key.fields[..], key.prefix.as_str(), kafka.value_includes_key),
        (&["k_a".to_owned()][..], "k_", false)
    );
    let Format::Json(json) = &kafka.value_format;
    assert!(json.ignore_parse_errors && json.timestamp_format == TimestampFormat::Iso8601);
    assert_eq!(source.watermark.as_ref().unwrap().idle_timeout_ms, Some(60_000));
    let TransformKind::Sink(sink) = &by_uid(&graph, "out/sink/0").kind else { unreachable!() };
    let SinkConnector::Kafka(kafka) = &sink.connector else { unreachable!() };
    assert_eq!((kafka.partitioner, kafka.guarantee), (KafkaPartitioner::Fixed, DeliveryGuarantee::ExactlyOnce));
    assert_eq!(kafka.transactional_id_prefix.as_deref(), Some("p"));
}

#[test]
fn an_unbounded_kafka_table_discovers_partitions() {
    let text = format!(
        "{}CREATE TABLE o (x BIGINT) WITH ('connector'='blackhole'); INSERT INTO o SELECT price FROM src",
        SRC.replace("'scan.bounded.mode'='latest-offset',", "")
    );
    let graph = graph(&text);
    let TransformKind::Source(source) = &by_uid(&graph, "src").kind else { unreachable!() };
    let SourceConnector::Kafka(kafka) = &source.connector else { unreachable!() };
    assert_eq!((kafka.discovery_interval_ms, &kafka.bounded), (Some(300_000), &None));
}

#[test]
fn datagen_and_filesystem_tables_keep_their_options() {
    let text = "CREATE TABLE g (id BIGINT, name STRING, x DOUBLE, at TIMESTAMP(3)) WITH ('connector'='datagen', 'rows-per-second'='5',
        'number-of-rows'='10', 'fields.id.kind'='sequence', 'fields.id.start'='1', 'fields.id.end'='10', 'fields.name.length'='4',
        'fields.x.min'='0.5', 'fields.x.max'='1.5', 'fields.at.max-past'='1 min', 'fields.x.null-rate'='0.1');
        CREATE TABLE f (a INT) WITH ('connector'='filesystem', 'path'='file:///data', 'format'='json');
        CREATE TABLE o (a BIGINT) WITH ('connector'='print', 'print-identifier'='p', 'standard-error'='true');
        INSERT INTO o SELECT id FROM g UNION ALL SELECT a FROM f";
    let graph = graph(text);
    let TransformKind::Source(source) = &by_uid(&graph, "g").kind else { unreachable!() };
    let SourceConnector::Datagen(datagen) = &source.connector else { unreachable!() };
    assert_eq!((datagen.rows_per_second, datagen.number_of_rows), (5, Some(10)));
    assert_eq!(datagen.fields["id"], DatagenField::Sequence { start: 1, end: 10 });
    assert!(
        matches!(&datagen.fields["x"], DatagenField::Random { min: Some(min), null_rate, .. } if min == "0.5" && *null_rate == 0.1)
    );
    assert!(matches!(&datagen.fields["at"], DatagenField::Random { max_past_ms: Some(60_000), .. }));
    let TransformKind::Sink(sink) = &by_uid(&graph, "o/sink/0").kind else { unreachable!() };
    assert!(
        matches!(&sink.connector, SinkConnector::Print(p) if p.identifier.as_deref() == Some("p") && p.standard_error)
    );
}

#[test]
fn a_stream_into_upsert_kafka_is_spread_by_its_key_unless_it_is_already() {
    let upsert = |query: &str| {
        graph(&format!(
            "{SRC}CREATE TABLE u (a BIGINT, w TIMESTAMP(3), n BIGINT, PRIMARY KEY (a, w) NOT ENFORCED) WITH ('connector'='upsert-kafka',
             'topic'='o', 'properties.bootstrap.servers'='b', 'key.format'='json', 'value.format'='json'); INSERT INTO u {query}"
        ))
    };
    let edge = |graph: &millstream_api::graph::JobGraph| graph.inputs_of(by_uid(graph, "u/sink/0").id)[0].kind.clone();
    let window = "FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR(`dateTime`), INTERVAL '1' MINUTE)) GROUP BY";
    assert_eq!(edge(&upsert("SELECT auction, `dateTime`, price FROM src")), EdgeKind::Hash { keys: vec![0, 1] });
    let by_auction =
        upsert(&format!("SELECT auction, window_end, COUNT(*) {window} auction, window_start, window_end"));
    assert_eq!(edge(&by_auction), EdgeKind::Forward);
    let by_bidder =
        upsert(&format!("SELECT MAX(auction), window_end, COUNT(*) {window} bidder, window_start, window_end"));
    assert_eq!(edge(&by_bidder), EdgeKind::Hash { keys: vec![0, 1] });
}

#[test]
fn errors_of_all_statements_are_reported_and_none_twice() {
    let text = "CREATE TABLE a (x BIGNT) WITH ('connector'='print');\nCREATE TABLE b (x INT) WITH ('connector'='nope');\n\
        INSERT INTO b SELECT 1 FROM b;\nSELECT 1;";
    assert_eq!(
        errors(text),
        "1:19: unknown type BIGNT (did you mean 'BIGINT'?)\n4:1: a query outside INSERT INTO is not supported (write INSERT INTO <table> SELECT ...)"
    );
    let text = "CREATE TABLE b (x INT) WITH ('connector'='nope');\nCREATE VIEW v AS SELECT * FROM b;\nINSERT INTO b SELECT x FROM v;";
    assert_eq!(
        errors(text),
        "1:42: the connector 'nope' is not supported (the connectors are kafka, upsert-kafka, filesystem, datagen, print, blackhole)"
    );
}

#[test]
fn if_not_exists_keeps_the_first() {
    let text = format!("{SRC}CREATE TABLE IF NOT EXISTS src (x INT) WITH ('connector'='print');{COUNT}");
    assert_eq!(graph(&text).hash(), graph(&format!("{SRC}{COUNT}")).hash());
}

#[test]
fn state_is_named_by_the_statement_and_not_by_its_place() {
    let table = COUNT.lines().next().unwrap();
    let count = "SELECT auction, COUNT(*) FROM src GROUP BY auction;";
    let of = |script: &str| {
        let graph = graph(&format!("{SRC}{table}{script}"));
        let with_state = graph.transforms.iter().filter(|t| t.kind.state_table().is_some());
        with_state.map(|t| t.uid.0.clone()).collect::<Vec<_>>()
    };
    let plain = |n: usize| format!("INSERT INTO dst {count}").repeat(n);
    let labelled = format!("INSERT INTO dst /*+ LABEL('big_one') */ {count}");
    assert_eq!(of(&plain(2)), ["dst/aggregate/0", "dst#2/aggregate/0"]);
    assert_eq!(of(&format!("{labelled}{}", plain(1))), ["big_one/aggregate/0", "dst/aggregate/0"]);
    assert_eq!(of(&format!("{}{labelled}", plain(1))), ["dst/aggregate/0", "big_one/aggregate/0"]);
    // The names that they have by themselves can be given, too, and then they stay.
    let second = labelled.replace("big_one", "dst#2");
    assert_eq!(
        of(&format!("{second}{}", labelled.replace("big_one", "dst"))),
        ["dst#2/aggregate/0", "dst/aggregate/0"]
    );
}

#[test]
fn every_type_is_read_and_written() {
    let columns = TYPES.split_once('(').unwrap().1.rsplit_once(") WITH").unwrap().0;
    let text =
        format!("{TYPES}CREATE TABLE o ({columns}) WITH ('connector'='blackhole'); INSERT INTO o SELECT * FROM t");
    let graph = graph(&text);
    assert_eq!(uids(&graph), ["t", "o/sink/0"]);
    assert_eq!(by_uid(&graph, "t").output, by_uid(&graph, "o/sink/0").output);
}

//! `explain --against` tells before the start what the start then does: of the job's newest checkpoint, and of a savepoint.

use millstream_api::log::{SAVEPOINT_OBJECT, Savepoint};
use millstream_e2e::process::Job;
use serde_json::Value;

use super::{LIMIT, PLAIN, Settings, against, manifest, newest};

/// A job without a broker: a generator, and sinks that forget.
fn script(statements: &str) -> String {
    let source = "CREATE TABLE s (a INT, b INT, c VARCHAR(8), d DECIMAL(10, 2), ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH \
                  ('connector' = 'datagen', 'rows-per-second' = '2000', 'fields.a.min' = '0', 'fields.a.max' = '9', \
                  'fields.b.min' = '0', 'fields.b.max' = '9', 'fields.c.length' = '2');\n";
    let sink = "CREATE TABLE t (x BIGINT, y BIGINT, z BIGINT) WITH ('connector' = 'blackhole');\n\
                CREATE TABLE u (x STRING, y BIGINT) WITH ('connector' = 'blackhole');\n";
    format!("{source}{sink}{statements}")
}

const BEFORE: &str = "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);
";

/// An edit, what is said of it, and the exit code.
const EDITS: &[(&str, &str, &[&str], i32)] = &[
    ("nothing", BEFORE, &["kept     t/aggregate/0  ", "kept     u/aggregate/0  ", "accepted: the same graph"], 0),
    (
        "another expression behind the aggregate",
        "INSERT INTO t SELECT a + 1, SUM(b) * 2, MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["kept     t/aggregate/0  ", "accepted: another graph"],
        0,
    ),
    (
        "another WHERE, and another argument",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 3) FROM s WHERE a > 2 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &[
            "kept     t/aggregate/0  ",
            "max_expr: was MAX(b * 2), is MAX(b * 3)",
            "its rows: were where a > 1, are where a > 2",
        ],
        0,
    ),
    (
        "the aggregates in another order",
        "INSERT INTO t SELECT a, MAX(b * 2), SUM(b) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["migrated t/aggregate/0  ", "max_expr$value stands elsewhere", "accepted: another graph"],
        0,
    ),
    (
        "another key",
        "INSERT INTO t SELECT b, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY b;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "the key was (a INT), is (b INT)", "LABEL('name')"],
        6,
    ),
    (
        "another expression as the key",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT LOWER(c), COUNT(*) FROM s GROUP BY LOWER(c);",
        &["kept     t/aggregate/0  ", "refused  u/aggregate/0  ", "key key0: was UPPER(c), is LOWER(c)"],
        6,
    ),
    (
        "one aggregate more",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) + COUNT(*) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "count_all$count: was not there, is BIGINT NOT NULL"],
        6,
    ),
    (
        "one nullable aggregate more",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) + MIN(b) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "min_b$value: was not there, is INT, and cannot be made up"],
        6,
    ),
    (
        "one aggregate less",
        "INSERT INTO t SELECT a, SUM(b), 1 FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "max_expr$value: was INT, is not there"],
        6,
    ),
    (
        "a window around the aggregate",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM TABLE(TUMBLE(TABLE s, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
  WHERE a > 1 GROUP BY window_start, window_end, a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "it has state and is no longer in the job", "new      t/window-aggregate/0"],
        6,
    ),
    (
        "a label, so that the statement begins anew",
        "INSERT INTO t /*+ LABEL('by_b') */ SELECT b, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY b;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "new      by_b/aggregate/0", "allowNonRestoredState"],
        6,
    ),
    (
        "the label that it has by itself",
        "INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);
INSERT INTO t /*+ LABEL('t') */ SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;",
        &["kept     t/aggregate/0  ", "kept     u/aggregate/0  "],
        0,
    ),
    (
        "a second statement before one that writes to the same table",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 5 GROUP BY a;
INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(c), COUNT(*) FROM s GROUP BY UPPER(c);",
        &["refused  t/aggregate/0  ", "whose state it is cannot be told"],
        6,
    ),
    (
        "another kind of source",
        "INSERT INTO t SELECT a, SUM(b), MAX(b * 2) FROM s WHERE a > 1 GROUP BY a;
INSERT INTO u SELECT UPPER(CAST(d AS STRING)), COUNT(*) FROM s GROUP BY UPPER(CAST(d AS STRING));",
        &["kept     s  ", "refused  u/aggregate/0  ", "key key0: was UPPER(c), is UPPER(CAST(d AS STRING))"],
        6,
    ),
];

#[test]
fn explain_tells_what_becomes_of_the_state_of_the_newest_checkpoint_and_of_a_savepoint() {
    let job = Job::new(&manifest(PLAIN, &script(BEFORE)));
    let (code, told, errors) = against(&job, &[]);
    assert_eq!((code, told.as_str()), (0, "accepted: there is no checkpoint yet\n"), "{errors}");
    let process = job.run().start();
    process.wait_for_log("checkpoint 3 completed", LIMIT);
    assert_eq!(process.stop(LIMIT).code(), 0);
    let savepoint = job.folder.path().join("savepoint");
    std::fs::create_dir(&savepoint).unwrap();
    let taken = Savepoint::of("0".repeat(16), "default/edited".to_owned(), 0, &newest(&job));
    std::fs::write(savepoint.join(SAVEPOINT_OBJECT), serde_json::to_vec(&taken).unwrap()).unwrap();
    let (folder, uri) = (savepoint.display().to_string(), format!("file://{}", savepoint.display()));
    let own = job.manifest.display().to_string();
    for (edit, statements, lines, code) in EDITS {
        job.rewrite(&manifest(PLAIN, &script(statements)));
        let (found, told, errors) = against(&job, &[]);
        assert_eq!(found, *code, "{edit}: {told}{errors}");
        let said = format!("{told}{errors}");
        for line in *lines {
            assert!(said.contains(line), "{edit}: {line}: {said}");
        }
        for place in [&folder, &uri, &own] {
            let answer = against(&job, &[place.as_str()]);
            assert_eq!(answer, (found, told.clone(), errors.clone()), "{edit}: {place}");
        }
    }
    let touched: Vec<_> = std::fs::read_dir(&savepoint).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(touched, [SAVEPOINT_OBJECT], "nothing is written into it");
    // What is told is what happens.
    let (_, statements, ..) = EDITS.iter().find(|(edit, ..)| *edit == "another expression as the key").unwrap();
    job.rewrite(&manifest(PLAIN, &script(statements)));
    let (_, _, told) = against(&job, &[]);
    let refused = job.run().finish(LIMIT);
    assert_eq!(refused.code(), 6, "{}", refused.stderr);
    assert!(refused.stderr.contains(told.trim()), "{told}{}", refused.stderr);
}

#[test]
fn what_is_no_savepoint_is_named_and_json_is_the_apis() {
    let job = Job::new(&manifest(PLAIN, &script(BEFORE)));
    let nowhere = job.folder.path().join("nowhere").display().to_string();
    let (code, _, errors) = against(&job, &[&nowhere]);
    assert_eq!(code, 4, "{errors}");
    assert!(errors.contains("nowhere is no savepoint: it has no savepoint.json"), "{errors}");
    assert!(!std::path::Path::new(&nowhere).exists(), "nothing is touched");
    let broken = job.folder.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    for (content, told) in
        [("{\"version\": 99}", "format version 99"), ("nonsense", "cannot be read: it is not what was written")]
    {
        std::fs::write(broken.join(SAVEPOINT_OBJECT), content).unwrap();
        let (code, _, errors) = against(&job, &[&broken.display().to_string()]);
        assert!(code == 6 && errors.contains(told), "{code}: {errors}");
    }
    let (code, told, _) = against(&job, &["--output", "json"]);
    let answer: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, &answer["accepted"]), (0, &Value::from(true)), "{answer}");

    job.rewrite(&manifest(Settings { restore: "from: 7", ..PLAIN }, &script(BEFORE)));
    std::fs::create_dir_all(job.folder.path().join("state/checkpoints")).unwrap();
    let (code, _, errors) = against(&job, &[]);
    assert!(code == 6 && errors.contains("spec.restore.from: 7"), "{code}: {errors}");
}

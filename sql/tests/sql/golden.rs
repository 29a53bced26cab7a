//! Golden files: what is compiled, beside what comes out. `MILLSTREAM_BLESS=1 cargo test -p millstream-sql` writes them anew.

use std::path::PathBuf;

use millstream_sql::{compile, explain};

use crate::support::{SRC, TYPES, check, options, shown};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sql/golden").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

fn compare(name: &str, actual: &str) {
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(path(name), actual).unwrap();
        return;
    }
    let expected = read(name);
    for (number, (expected, actual)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(actual, expected, "{name}:{}", number + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count(), "{name}");
}

/// The tables in one line, so that the text of a case begins at line 2.
fn with_tables(text: &str) -> String {
    format!("{}{}\n{text}", SRC.replace('\n', " "), TYPES.replace('\n', " "))
}

#[test]
fn plans() {
    let mut out = String::new();
    for case in read("plans.sql").split("----\n") {
        let compiled =
            compile(&with_tables(case), &options()).unwrap_or_else(|errors| panic!("{case}\n{}", shown(&errors)));
        check(&compiled.graph);
        out.push_str(&format!("{}\n{}\n", case.lines().next().unwrap(), explain::text(&compiled.graph)));
    }
    compare("plans.txt", &out);
}

/// Each case is a line of SQL and the errors below it, each behind `=> `.
#[test]
fn errors() {
    let mut out = String::new();
    for line in read("errors.txt").lines().filter(|l| !l.is_empty() && !l.starts_with("=> ")) {
        if line.starts_with('#') {
            out.push_str(&format!("{line}\n\n"));
            continue;
        }
        out.push_str(&format!("{line}\n"));
        let sink = "CREATE TABLE out (x BIGINT, y STRING) WITH ('connector'='print');";
        let text = with_tables(line).replacen('\n', &format!("{sink}\n"), 1);
        match compile(&text, &options()) {
            Ok(_) => panic!("compiles: {line}"),
            Err(errors) => errors.iter().for_each(|e| out.push_str(&format!("=> {e}\n"))),
        }
        out.push('\n');
    }
    compare("errors.txt", &out);
}

#[test]
fn a_tumbling_window_is_explained_as_json_and_mermaid() {
    let text = read("plans.sql");
    let graph = compile(&with_tables(text.split("----\n").next().unwrap()), &options()).unwrap().graph;
    compare("tumble.json", &explain::json(&graph));
    compare("tumble.mmd", &explain::mermaid(&graph));
}

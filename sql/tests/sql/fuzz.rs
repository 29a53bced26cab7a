//! No text makes the compiler panic, run away or overflow its stack; what compiles is a sound graph.

use std::path::PathBuf;
use std::sync::LazyLock;

use millstream_sql::compile;
use proptest::prelude::*;

use crate::support::{SRC, TYPES, check, errors, options};

const TOKENS: &[&str] = &[
    "SELECT",
    "/*+ LABEL('a') */",
    "/*+",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "HAVING",
    "AS",
    "AND",
    "OR",
    "NOT",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST",
    "TRY_CAST",
    "BETWEEN",
    "IN",
    "LIKE",
    "IS",
    "NULL",
    "TRUE",
    "UNION",
    "ALL",
    "DISTINCT",
    "TABLE",
    "TUMBLE",
    "HOP",
    "DESCRIPTOR",
    "INTERVAL",
    "SECOND",
    "DAY",
    "TO",
    "INSERT",
    "INTO",
    "CREATE",
    "VIEW",
    "WITH",
    "SET",
    "EXECUTE",
    "STATEMENT",
    "BEGIN",
    "src",
    "t",
    "v",
    "i",
    "l",
    "dec",
    "s",
    "ts",
    "n",
    "price",
    "channel",
    "`dateTime`",
    "window_start",
    "window_end",
    "window_time",
    "COUNT",
    "SUM",
    "AVG",
    "MAX",
    "UPPER",
    "SUBSTRING",
    "EXTRACT",
    "YEAR",
    "FLOOR",
    "TRIM",
    "COALESCE",
    "IF",
    "NULLIF",
    "BIGINT",
    "DECIMAL",
    "TIMESTAMP",
    "STRING",
    "FILTER",
    "OVER",
    "JOIN",
    "ORDER",
    "METADATA",
    "WATERMARK",
    "FOR",
    "PRIMARY",
    "KEY",
    "ENFORCED",
    "'10'",
    "'a'",
    "''",
    "'connector'",
    "'print'",
    "'kafka'",
    "1",
    "2.5",
    "1e9",
    "99999999999999999999",
    "(",
    ")",
    "(",
    ")",
    ",",
    ",",
    ";",
    ".",
    "=",
    "<>",
    "<",
    "+",
    "-",
    "*",
    "/",
    "%",
    "||",
    "=>",
    "[",
    "::",
    "`",
    "'",
    "--",
    "/*",
    "\"",
    "X'0'",
    "é",
    "\u{0}",
];

fn tables() -> String {
    format!("{SRC}{TYPES}CREATE TABLE out (x BIGINT, y STRING) WITH ('connector'='print');\n")
}

fn compiles_or_refuses(text: &str) {
    match compile(text, &options()) {
        Ok(compiled) => check(&compiled.graph),
        Err(errors) => {
            let lines = u32::try_from(text.lines().count() + 1).unwrap();
            assert!(!errors.is_empty());
            assert!(errors.iter().all(|e| e.line >= 1 && e.line <= lines && e.column >= 1 && !e.message.is_empty()));
        }
    }
}

/// Words, numbers, strings and single symbols of real statements.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for c in text.chars() {
        let joins =
            |last: &String| last.chars().all(|l| l.is_alphanumeric() || l == '_') && (c.is_alphanumeric() || c == '_');
        match pieces.last_mut() {
            Some(last) if joins(last) => last.push(c),
            _ => pieces.push(c.to_string()),
        }
    }
    pieces
}

static CORPUS: LazyLock<Vec<Vec<String>>> = LazyLock::new(corpus);

/// Files of the corpus that is known to be there: with fewer the tests look at the wrong folder.
const CORPUS_FILES_MIN: usize = 15;

/// What the fuzz target `sql` starts from, and what it found: name and text of each file.
fn fuzz_corpus() -> Vec<(PathBuf, String)> {
    // At run time: the clone may have moved since it was built.
    let krate = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let folder = PathBuf::from(krate).join("../fuzz/corpus/sql");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= CORPUS_FILES_MIN, "{} files in {}", paths.len(), folder.display());
    // The target takes what is text, like this.
    paths
        .into_iter()
        .map(|path| (path.clone(), String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()))
        .collect()
}

fn corpus() -> Vec<Vec<String>> {
    let plans = include_str!("golden/plans.sql").split("----\n");
    let refused = include_str!("golden/errors.txt").lines().filter(|l| !l.starts_with("=> ") && !l.is_empty());
    let expressions =
        include_str!("../../src/bind/golden_expressions.txt").lines().map(|l| l.split(" => ").next().unwrap());
    let queries = expressions.map(|e| format!("INSERT INTO out SELECT 1, CAST({e} AS STRING) FROM t"));
    let fuzzed = fuzz_corpus().into_iter().map(|(_, text)| text);
    let texts = plans.map(str::to_owned).chain(refused.map(str::to_owned)).chain(queries).chain(fuzzed);
    texts.map(|text| pieces(&text)).collect()
}

#[derive(Clone, Debug)]
enum Mutation {
    Delete(prop::sample::Index),
    Double(prop::sample::Index),
    Swap(prop::sample::Index, prop::sample::Index),
    Put(prop::sample::Index, &'static str),
    Cut(prop::sample::Index),
    /// Copies a stretch to another place.
    Splice(prop::sample::Index, prop::sample::Index, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        at().prop_map(Mutation::Delete),
        at().prop_map(Mutation::Double),
        (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        (at(), prop::sample::select(TOKENS)).prop_map(|(a, t)| Mutation::Put(a, t)),
        at().prop_map(Mutation::Cut),
        (at(), at(), 1usize..30).prop_map(|(a, b, n)| Mutation::Splice(a, b, n)),
    ]
}

fn mutate(pieces: &mut Vec<String>, mutation: &Mutation) {
    if pieces.is_empty() {
        return;
    }
    let len = pieces.len();
    match mutation {
        Mutation::Delete(at) => {
            pieces.remove(at.index(len));
        }
        Mutation::Double(at) => {
            let piece = pieces[at.index(len)].clone();
            pieces.insert(at.index(len), piece);
        }
        Mutation::Swap(a, b) => pieces.swap(a.index(len), b.index(len)),
        Mutation::Put(at, token) => pieces.insert(at.index(len), format!(" {token} ")),
        Mutation::Cut(at) => pieces.truncate(at.index(len)),
        Mutation::Splice(from, to, n) => {
            let start = from.index(len);
            let copy: Vec<String> = pieces[start..len.min(start + n)].to_vec();
            let to = to.index(len);
            pieces.splice(to..to, copy);
        }
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_compiles_or_is_refused() {
    for (path, text) in fuzz_corpus() {
        println!("{}", path.display());
        compiles_or_refuses(&text);
        // Behind tables, which the text may use.
        compiles_or_refuses(&format!("{}{text}", tables()));
    }
}

/// Cases per property; a soak takes more.
const CASES: u32 = 600;
const SOAK_CASES: u32 = 60_000;

/// `MILLSTREAM_FUZZ_CASES` asks for another number; proptest prints the seed of a failure (`PROPTEST_RNG_SEED` sets it).
fn config() -> ProptestConfig {
    let usual = if std::env::var_os("MILLSTREAM_SOAK").is_some() { SOAK_CASES } else { CASES };
    let cases = std::env::var("MILLSTREAM_FUZZ_CASES").map_or(usual, |n| n.parse().expect("a number"));
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn token_soup(tokens in prop::collection::vec(prop::sample::select(TOKENS), 0..50), prefix in 0usize..4) {
        let head = ["", "INSERT INTO out SELECT ", "INSERT INTO out SELECT i, s FROM t WHERE ", "CREATE TABLE x ("][prefix];
        compiles_or_refuses(&format!("{}{head}{}", tables(), tokens.join(" ")));
    }

    #[test]
    fn mutated_statements(which in any::<prop::sample::Index>(), mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut pieces = which.get(&CORPUS).clone();
        mutations.iter().for_each(|m| mutate(&mut pieces, m));
        compiles_or_refuses(&format!("{}{}", tables(), pieces.concat()));
    }

    #[test]
    fn any_characters(text in ".{0,200}") {
        compiles_or_refuses(&text);
    }
}

#[test]
fn deep_nesting_is_refused_where_it_becomes_too_deep() {
    let deep = |open: &str, core: &str, close: &str| {
        format!("{}INSERT INTO out SELECT {}{core}{}, s FROM t", tables(), open.repeat(5000), close.repeat(5000))
    };
    for text in [
        deep("(", "i", ")"),
        deep("- ", "i", ""),
        deep("NOT ", "b", ""),
        deep("ABS(", "i", ")"),
        deep("CASE WHEN b THEN ", "i", " END"),
        deep("CAST(", "i", " AS INT)"),
        deep("i + (", "i", ")"),
        deep("i + ", "i", ""),
        deep("", "i", " IS NULL"),
        deep("", "i", " BETWEEN 1 AND 2"),
        deep("i = CASE i WHEN 1 THEN ", "i", " END"),
    ] {
        assert!(errors(&text).contains("nested more than 100 levels deep"), "{}", &text[text.len() - 60..]);
    }
    let queries = format!(
        "{}INSERT INTO out SELECT * FROM {}SELECT l, s FROM t{}",
        tables(),
        "(SELECT * FROM ".repeat(300),
        ")".repeat(300)
    );
    assert!(errors(&queries).contains("nested more than") || errors(&queries).contains("queries inside one another"));
}

#[test]
fn long_and_flat_is_fine() {
    let many = |part: &str, between: &str| vec![part; 900].join(between);
    for condition in [
        many("i = 1", " OR "),
        many("b", " AND "),
        format!("i IN ({})", many("7", ", ")),
        format!("{} = 'x'", many("s", " || ")),
    ] {
        let text = format!("{}INSERT INTO out SELECT l, s FROM t WHERE {condition}", tables());
        check(&compile(&text, &options()).unwrap().graph);
    }
}

#[test]
fn what_would_grow_without_bound_is_refused() {
    let mut views = String::from("CREATE VIEW v0 AS SELECT l, s FROM t;\n");
    for i in 1..40 {
        views.push_str(&format!("CREATE VIEW v{i} AS SELECT * FROM v{0} UNION ALL SELECT * FROM v{0};\n", i - 1));
    }
    assert!(errors(&format!("{}{views}", tables())).contains("the plan has more than 5000 steps"));

    let mut views = String::from("CREATE VIEW v0 AS SELECT l AS a, l AS b FROM t;\n");
    for i in 1..70 {
        views.push_str(&format!("CREATE VIEW v{i} AS SELECT a + b AS a, a - b AS b FROM v{};\n", i - 1));
    }
    let text = format!("{}{views}INSERT INTO out SELECT a, 'x' FROM v69", tables());
    check(&compile(&text, &options()).unwrap().graph);

    let case = "CASE ".repeat(40) + "i" + &" WHEN 1 THEN 2 WHEN 3 THEN 4 END".repeat(40);
    let text = format!("{}INSERT INTO out SELECT {case}, 'x' FROM t", tables());
    assert!(errors(&text).contains("the expression is too large to stand here"));

    let mut views = String::from("CREATE VIEW v0 AS SELECT l, s FROM t;\n");
    for i in 1..400 {
        views.push_str(&format!("CREATE VIEW v{i} AS SELECT * FROM v{};\n", i - 1));
    }
    assert!(errors(&format!("{}{views}", tables())).contains("150 on top of one another"));
}

//! What a script says, as a number: where it is the same, the graph that a binary made of it before is still the job's.
//!
//! Owns: what does not count: blanks, comments, and options that no graph depends on, wherever they are set. Does not own: what
//! a stored graph of the same number leads to (the coordinator).

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::graph::fingerprint;

use crate::ast::{Statement, StatementKind};
use crate::error::Position;
use crate::lexer::{self, TokenKind};

/// Of a script that was parsed, with the options that hold after its SET statements.
pub(crate) fn of(text: &str, statements: &[Statement], settings: &JobOptions) -> Option<u64> {
    let tokens = lexer::tokenize(text).ok()?;
    let is_set = |at: Position| {
        let behind = statements.partition_point(|s| s.position <= at);
        behind
            .checked_sub(1)
            .and_then(|i| statements.get(i))
            .is_some_and(|s| matches!(s.kind, StatementKind::Set { .. }))
    };
    let mut said = String::new();
    for token in tokens.iter().filter(|t| !is_set(t.position)) {
        said.push_str(&token_text(&token.kind));
        said.push('\n');
    }
    said.push_str(&settings_text(settings));
    Some(fingerprint(&said))
}

/// Kinds are told apart: a word is not the string of the same letters.
fn token_text(kind: &TokenKind) -> String {
    match kind {
        TokenKind::Word { text, quoted: false } => format!("w{text}"),
        TokenKind::Word { text, quoted: true } => format!("q{text}"),
        TokenKind::Number(text) => format!("n{text}"),
        TokenKind::String(text) => format!("s{}:{text}", text.len()),
        TokenKind::Bytes(bytes) => format!("b{bytes:?}"),
        TokenKind::Hint(text) => format!("h{text}"),
        TokenKind::Symbol(symbol) => (*symbol).to_owned(),
        TokenKind::End => String::new(),
    }
}

/// The options that are set and that a graph depends on. An option that a later version adds is no part of it until it is set.
fn settings_text(settings: &JobOptions) -> String {
    let of_the_plan = JobOptions {
        name: None,
        parallelism: None,
        max_parallelism: None,
        checkpoint_interval_ms: None,
        checkpoint_timeout_ms: None,
        checkpoint_min_pause_ms: None,
        checkpoint_tolerable_failures: None,
        checkpoints_retained: None,
        ..settings.clone()
    };
    let value = serde_json::to_value(of_the_plan).expect("options are plain data");
    let set = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    set.map(|(key, value)| format!("{key}={value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use crate::{CompileOptions, compile};

    const TABLES: &str = "CREATE TABLE s (a INT) WITH ('connector' = 'datagen');\n\
                          CREATE TABLE t (a INT) WITH ('connector' = 'blackhole');\n";

    fn of(text: &str) -> u64 {
        let compiled = compile(&format!("{TABLES}{text}"), &CompileOptions::default());
        compiled.unwrap_or_else(|e| panic!("{text}: {e:?}")).graph.compiled_from.unwrap()
    }

    #[test]
    fn blanks_comments_and_the_jobs_own_settings_say_nothing() {
        let plain = of("INSERT INTO t SELECT a FROM s;");
        for same in [
            "-- why\nINSERT INTO t\n  SELECT a /* the number */ FROM s;",
            "SET 'parallelism.default' = '4';\nINSERT INTO t SELECT a FROM s;",
            "SET 'pipeline.name' = 'n';\nINSERT INTO t SELECT a FROM s;",
        ] {
            assert_eq!(of(same), plain, "{same}");
        }
        for other in [
            "INSERT INTO t SELECT a FROM s WHERE a > 1;",
            "INSERT INTO t /*+ LABEL('x') */ SELECT a FROM s;",
            "SET 'table.exec.state.ttl' = '1 h';\nINSERT INTO t SELECT a FROM s;",
            "INSERT INTO t SELECT a FROM s; INSERT INTO t SELECT a FROM s;",
        ] {
            assert_ne!(of(other), plain, "{other}");
        }
        let mut options = CompileOptions::default();
        options.options.state_ttl_ms = Some(3_600_000);
        let set_elsewhere = compile(&format!("{TABLES}INSERT INTO t SELECT a FROM s"), &options).unwrap();
        let set_here = of("SET 'table.exec.state.ttl' = '1 h';\nINSERT INTO t SELECT a FROM s");
        assert_eq!(set_elsewhere.graph.compiled_from, Some(set_here));
    }
}

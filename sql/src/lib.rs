//! Flink SQL text to a job graph.
//!
//! Owns: lexing, parsing, binding and planning of a script. Pure: the same text and options give the same graph and the
//! same uids on every machine; no clock, no randomness, no I/O. Does not own: running anything.
//!
//! The steps: `lexer` and `parser` make statements, `bind` makes relations of typed expressions, `connector` reads WITH
//! options, `plan` makes transforms and edges. `explain` shows a graph to people.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod ast;
mod bind;
mod connector;
#[cfg(test)]
mod documented;
mod error;
pub mod explain;
mod fingerprint;
mod lexer;
mod parser;
mod plan;
mod rewrite;

use millstream_api::flinkjob::options::JobOptions;
use millstream_api::graph::JobGraph;

pub use error::{Position, SqlError};

use ast::{Statement, StatementKind};
use bind::{Binder, BoundInsert};

/// What holds before the script's first line.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// The manifest's options; SET in the script overrides them.
    pub options: JobOptions,
}

/// A script, compiled.
#[derive(Clone, Debug)]
pub struct Compiled {
    pub graph: JobGraph,
    /// The options after the script's SET statements.
    pub settings: JobOptions,
    pub statements: Vec<StatementInfo>,
}

/// A statement of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementInfo {
    pub position: Position,
    pub kind: StatementInfoKind,
}

/// What a statement does, and to what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatementInfoKind {
    CreateTable { table: String },
    CreateView { view: String },
    Insert { table: String },
    Set { key: String },
}

/// Compiles a script: all its INSERTs together are one job.
///
/// # Errors
/// Everything that is wrong, in the order of the text; a statement that refers to a refused table is not reported again.
pub fn compile(text: &str, options: &CompileOptions) -> Result<Compiled, Vec<SqlError>> {
    let (statements, mut errors) = parser::parse(text);
    let mut script = Script { binder: Binder::default(), settings: options.options.clone(), inserts: Vec::new() };
    if errors.is_empty() {
        for statement in &statements {
            if let Err(error) = script.run(statement) {
                if !error.follows {
                    errors.push(error);
                }
                if errors.len() >= parser::ERRORS_MAX {
                    break;
                }
            }
        }
    }
    if errors.is_empty() && script.inserts.is_empty() {
        let end = Position::START;
        errors.push(SqlError::at(end, "the script has no INSERT INTO: there is nothing to run"));
    }
    if errors.is_empty() {
        errors.extend(script.label_twice());
    }
    if !errors.is_empty() {
        errors.sort_by_key(SqlError::position);
        return Err(errors);
    }
    let mut graph = plan::plan(&script.inserts, plan::PlanOptions::new(&script.settings));
    graph.compiled_from = fingerprint::of(text, &statements, &script.settings);
    Ok(Compiled { graph, settings: script.settings, statements: statements.iter().map(info).collect() })
}

struct Script {
    binder: Binder,
    settings: JobOptions,
    inserts: Vec<BoundInsert>,
}

impl Script {
    fn run(&mut self, statement: &Statement) -> Result<(), SqlError> {
        match &statement.kind {
            StatementKind::CreateTable(def) => {
                let made = self.binder.create_table(def);
                self.note_refused(&def.name.text, made)
            }
            StatementKind::CreateView(def) => {
                let made = self.binder.create_view(def);
                self.note_refused(&def.name.text, made)
            }
            StatementKind::Insert(insert) => {
                let bound = self.binder.insert(insert)?;
                self.inserts.push(bound);
                Ok(())
            }
            StatementKind::Set { key, key_position, value, value_position } => {
                if !self.inserts.is_empty() {
                    return Err(SqlError::at(statement.position, "SET stands before the first INSERT INTO")
                        .hint("all INSERTs of a script are one job, with one set of options"));
                }
                self.settings.set(key, value).map_err(|error| {
                    let position = if error.concerns_value() { *value_position } else { *key_position };
                    SqlError::at(position, error.to_string())
                })
            }
        }
    }

    /// Two statements whose state would have one name.
    fn label_twice(&self) -> Option<SqlError> {
        let labels = plan::labels(&self.inserts);
        let of = |i: usize| self.inserts[i].label.as_ref().map_or(self.inserts[i].position, |label| label.position);
        let twice = (1..labels.len()).find_map(|i| Some((labels[..i].iter().position(|l| *l == labels[i])?, i)));
        let (first, second) = twice?;
        let message = format!("the label '{}' is also that of the INSERT INTO at {}", labels[second], of(first));
        Some(SqlError::at(of(second), message).hint("without a label a statement has its table's name"))
    }

    fn note_refused(&mut self, name: &str, made: Result<(), SqlError>) -> Result<(), SqlError> {
        made.inspect_err(|_| self.binder.catalog.refuse(name))
    }
}

fn info(statement: &Statement) -> StatementInfo {
    let kind = match &statement.kind {
        StatementKind::CreateTable(def) => StatementInfoKind::CreateTable { table: def.name.text.clone() },
        StatementKind::CreateView(def) => StatementInfoKind::CreateView { view: def.name.text.clone() },
        StatementKind::Insert(insert) => StatementInfoKind::Insert { table: insert.table.text.clone() },
        StatementKind::Set { key, .. } => StatementInfoKind::Set { key: key.clone() },
    };
    StatementInfo { position: statement.position, kind }
}

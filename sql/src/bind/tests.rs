//! Types of expressions, by a golden file: `MILLSTREAM_BLESS=1 cargo test -p millstream-sql` writes it anew.

use super::Binder;
use crate::ast::{Ident, StatementKind};
use crate::error::Position;
use crate::parser;

use super::relation::{Node, Relation};

const TABLE: &str = "CREATE TABLE t (b BOOLEAN, ti TINYINT, si SMALLINT, i INT, l BIGINT, f FLOAT, d DOUBLE, dec DECIMAL(10, 2), \
c CHAR(3), s STRING, v VARCHAR(20), bin BYTES, dt DATE, tm TIME, ts TIMESTAMP(3), tz TIMESTAMP_LTZ(3), n INT NOT NULL) \
WITH ('connector'='datagen');\n";

/// The type of `SELECT <text> FROM t`, and the expression as it is bound; or the error, its column within the expression.
fn bound(text: &str) -> String {
    let (statements, errors) = parser::parse(&format!("{TABLE}CREATE VIEW v AS SELECT\n{text}\nAS x FROM t"));
    let mut binder = Binder::default();
    let mut errors = errors.into_iter();
    for statement in statements {
        let done = match &statement.kind {
            StatementKind::CreateTable(def) => binder.create_table(def),
            StatementKind::CreateView(def) => binder.create_view(def),
            _ => unreachable!(),
        };
        if let Err(error) = done {
            return format!("error at {error}");
        }
    }
    if let Some(error) = errors.next() {
        return format!("error at {error}");
    }
    let name = Ident { text: "v".to_owned(), position: Position::START };
    let relation = binder.catalog.relation(&name).unwrap();
    let column = &relation.columns[0];
    let null = if column.nullable { "" } else { " NOT NULL" };
    format!("{}{null} | {}", column.ty, shown(&relation))
}

fn shown(relation: &Relation) -> String {
    let Node::Project { input, exprs } = &relation.node else { unreachable!() };
    let fields: Vec<_> = input.columns.iter().map(super::relation::Column::field).collect();
    exprs[0].text(&fields)
}

#[test]
fn expressions_have_flinks_types() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bind/golden_expressions.txt");
    let golden = std::fs::read_to_string(path).unwrap();
    let mut actual = String::new();
    for line in golden.lines() {
        let text = line.split(" => ").next().unwrap();
        actual.push_str(&format!("{text} => {}\n", bound(text)));
    }
    if std::env::var_os("MILLSTREAM_BLESS").is_some() {
        std::fs::write(path, &actual).unwrap();
        return;
    }
    for (expected, actual) in golden.lines().zip(actual.lines()) {
        assert_eq!(actual, expected);
    }
}

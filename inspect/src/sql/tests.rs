//! Statements over a savepoint.

use std::sync::{Arc, Mutex};

use super::*;
use crate::InspectErrorKind;
use crate::fixture::Fixture;

async fn ask(stored: &Stored, sql: &str) -> Result<Vec<Answer>, InspectError> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&answers);
    query(stored.clone(), sql.to_owned(), move |answer| {
        seen.lock().unwrap().push(answer);
        true
    })
    .await?;
    Ok(std::mem::take(&mut answers.lock().unwrap()))
}

async fn rows(stored: &Stored, sql: &str) -> Vec<Vec<Cell>> {
    let answers = ask(stored, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(matches!((answers.first(), answers.last()), (Some(Answer::Columns(_)), Some(Answer::End))));
    let row = |answer| if let Answer::Row(row) = answer { Some(row) } else { None };
    answers.into_iter().filter_map(row).collect()
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

async fn three_rows() -> Fixture {
    let first = vec![(1, Some("one")), (2, Some("two")), (3, Some("three"))];
    Fixture::new(&[first, vec![(2, None), (3, Some("drei")), (4, Some("four"))]]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_has_its_effective_rows_under_each_of_its_names() {
    let fixture = three_rows().await;
    let stored = &fixture.stored;
    let expected = vec![
        vec![Cell::Integer(1), text("one")],
        vec![Cell::Integer(3), text("drei")],
        vec![Cell::Integer(4), text("four")],
    ];
    for name in ["totals_groups", "\"totals/aggregate/0\".\"groups\""] {
        assert_eq!(rows(stored, &format!("SELECT k, text FROM {name} ORDER BY k")).await, expected);
    }
    let both = "SELECT COUNT(*), SUM(a.k_2) FROM totals_groups a JOIN totals_groups b ON a.k = b.k";
    assert_eq!(rows(stored, both).await, [[Cell::Integer(3), Cell::Integer(80)]]);
    assert_eq!(rows(stored, "SELECT k FROM totals_groups WHERE key_group > 99").await, Vec::<Vec<Cell>>::new());
    assert_eq!(rows(stored, "WITH t(a) AS (SELECT 1) SELECT a, NULL, 0.5 FROM t").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_statement_and_one_that_writes_are_refused() {
    let fixture = three_rows().await;
    for (sql, told) in [
        ("SELECT * FROM nowhere", "no such table: nowhere; there are: totals_groups"),
        ("SELECT nobody FROM totals_groups", "no such column: nobody; there are: totals_groups (key_group INT"),
        ("SELECT FROM", "syntax error"),
        ("SELEC 1", "the statement must be a SELECT"),
        ("ATTACH '/tmp/x' AS x", "the statement must be a SELECT"),
        ("CREATE TABLE x (a)", "the statement must be a SELECT"),
        ("DELETE FROM totals_groups", ""),
        ("", "the statement must be a SELECT"),
    ] {
        let error = ask(&fixture.stored, sql).await.expect_err(sql);
        assert_eq!(error.kind(), InspectErrorKind::Asked, "{sql}: {error}");
        assert!(error.to_string().contains(told), "{sql}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_is_named_and_one_that_is_not_asked_for_is_not_read() {
    let fixture = three_rows().await;
    std::fs::remove_dir_all(fixture.folder.path().join("state")).unwrap();
    assert_eq!(rows(&fixture.stored, "SELECT 1").await, [[Cell::Integer(1)]]);
    let error = ask(&fixture.stored, "SELECT COUNT(*) FROM totals_groups").await.unwrap_err();
    assert_eq!(error.kind(), InspectErrorKind::Damaged);
    assert!(error.to_string().ends_with("it is missing from the store"), "{error}");
}

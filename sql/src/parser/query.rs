//! Queries: SELECT, UNION ALL, WITH, and what stands in FROM.

use super::cursor::Cursor;
use crate::ast::{Expr, Ident, Query, QueryBody, Select, SelectItem, TableRef, TableRefKind, WindowCall, WindowKind};
use crate::error::{Position, Result, SqlError};

/// Inputs of one UNION ALL.
const UNION_INPUTS_MAX: usize = 1000;

impl Cursor {
    pub(super) fn query(&mut self) -> Result<Query> {
        self.nested(Self::query_here)
    }

    fn query_here(&mut self) -> Result<Query> {
        let position = self.position();
        let mut with = Vec::new();
        if self.take_word("WITH") {
            if self.is_word("RECURSIVE") {
                return Err(SqlError::unsupported(self.position(), "WITH RECURSIVE"));
            }
            loop {
                let name = self.ident("the name of a common table expression")?;
                let columns =
                    if self.is_symbol("(") { self.parenthesised(|c| c.ident("a column"))? } else { Vec::new() };
                self.expect_word("AS")?;
                self.expect_symbol("(")?;
                let query = self.query()?;
                self.expect_closing()?;
                with.push((name, columns, query));
                if !self.take_symbol(",") {
                    break;
                }
            }
        }
        let mut inputs = vec![self.query_term()?];
        while self.is_word("UNION") {
            let union = self.advance().position;
            if !self.take_word("ALL") {
                return Err(SqlError::unsupported(union, "UNION without ALL")
                    .hint("use UNION ALL, and SELECT DISTINCT above it where rows repeat"));
            }
            if inputs.len() >= UNION_INPUTS_MAX {
                return Err(SqlError::at(union, format!("a UNION ALL has at most {UNION_INPUTS_MAX} inputs")));
            }
            inputs.push(self.query_term()?);
        }
        if inputs.len() > 1 || with.is_empty() {
            if inputs.len() == 1 {
                return Ok(inputs.pop().expect("one input"));
            }
            return Ok(Query { position, with, body: QueryBody::UnionAll(inputs) });
        }
        let only = inputs.pop().expect("one input");
        if only.with.is_empty() {
            return Ok(Query { position, with, body: only.body });
        }
        Ok(Query { position, with, body: QueryBody::UnionAll(vec![only]) })
    }

    fn query_term(&mut self) -> Result<Query> {
        let position = self.position();
        if self.is_symbol("(") {
            self.advance();
            let query = self.query()?;
            self.expect_closing()?;
            return Ok(query);
        }
        match self.keyword().as_deref() {
            Some("SELECT") => {
                let select = self.select()?;
                Ok(Query { position, with: Vec::new(), body: QueryBody::Select(Box::new(select)) })
            }
            Some("VALUES") => Err(SqlError::unsupported(position, "VALUES")),
            Some("TABLE") => {
                Err(SqlError::unsupported(position, "TABLE as a query").hint("write SELECT * FROM <table>"))
            }
            _ => Err(self.expected("a query")),
        }
    }

    /// `)`, or the name of what stands there instead.
    fn expect_closing(&mut self) -> Result<()> {
        if self.take_symbol(")") {
            return Ok(());
        }
        Err(self.after_query().unwrap_or_else(|| self.expected("')'")))
    }

    /// The clause of Flink SQL behind a query that this version does not run, when one stands here.
    pub(super) fn after_query(&self) -> Option<SqlError> {
        let word = self.keyword()?;
        let construct = match word.as_str() {
            "ORDER" => "ORDER BY",
            "LIMIT" => "LIMIT",
            "OFFSET" => "OFFSET",
            "FETCH" => "FETCH",
            "INTERSECT" => "INTERSECT",
            "EXCEPT" | "MINUS" => "EXCEPT",
            "WINDOW" => "WINDOW",
            "QUALIFY" => "QUALIFY",
            "JOIN" | "INNER" | "LEFT" | "RIGHT" | "FULL" | "CROSS" | "NATURAL" => "JOIN",
            "MATCH_RECOGNIZE" => "MATCH_RECOGNIZE",
            "TABLESAMPLE" => "TABLESAMPLE",
            "PIVOT" | "UNPIVOT" => "PIVOT",
            "FOR" => "FOR SYSTEM_TIME AS OF",
            _ => return None,
        };
        Some(SqlError::unsupported(self.position(), construct))
    }

    fn select(&mut self) -> Result<Select> {
        self.expect_word("SELECT")?;
        if self.is_word("STREAM") && !self.is_symbol_nth(1, ",") && !self.is_word_nth(1, "FROM") {
            self.advance();
        }
        let distinct = self.take_word("DISTINCT");
        if !distinct {
            self.take_word("ALL");
        }
        let mut items = vec![self.select_item()?];
        while self.take_symbol(",") {
            items.push(self.select_item()?);
        }
        if !self.is_word("FROM") {
            let error = self.expected("FROM");
            return Err(if self.is_symbol(";") || self.is_symbol(")") || self.at_end() {
                SqlError::unsupported(self.position(), "SELECT without FROM")
            } else {
                error
            });
        }
        self.advance();
        let from = self.table_ref()?;
        if self.is_symbol(",") {
            return Err(SqlError::unsupported(self.position(), "a second table in FROM (a cross join)"));
        }
        if let Some(error) = self.after_query().filter(|_| !self.is_word("WINDOW")) {
            return Err(error);
        }
        let filter = if self.take_word("WHERE") { Some(self.expression()?) } else { None };
        let group_by = if self.take_words(&["GROUP", "BY"]) { Some(self.group_by()?) } else { None };
        let having = if self.take_word("HAVING") { Some(self.expression()?) } else { None };
        Ok(Select { distinct, items, from, filter, group_by, having })
    }

    fn group_by(&mut self) -> Result<Vec<Expr>> {
        if self.is_symbol("(") && self.is_symbol_nth(1, ")") {
            self.advance();
            self.advance();
            return Ok(Vec::new());
        }
        let mut keys = Vec::new();
        loop {
            for (word, construct) in [("GROUPING", "GROUPING SETS"), ("ROLLUP", "ROLLUP"), ("CUBE", "CUBE")] {
                if self.is_word(word) {
                    return Err(SqlError::unsupported(self.position(), construct));
                }
            }
            if self.is_word("DISTINCT") || self.is_word("ALL") {
                return Err(SqlError::unsupported(self.position(), "GROUP BY DISTINCT or ALL"));
            }
            keys.push(self.expression()?);
            if !self.take_symbol(",") {
                return Ok(keys);
            }
        }
    }

    fn select_item(&mut self) -> Result<SelectItem> {
        let position = self.position();
        if self.take_symbol("*") {
            return Ok(SelectItem::Wildcard { qualifier: None, position });
        }
        if self.is_symbol_nth(1, ".") && self.is_symbol_nth(2, "*") {
            let qualifier = self.ident("a table")?;
            self.advance();
            self.advance();
            return Ok(SelectItem::Wildcard { qualifier: Some(qualifier), position });
        }
        let expr = self.expression()?;
        let alias = self.alias()?;
        Ok(SelectItem::Expr { expr, alias })
    }

    /// `AS name`, or a name that is no keyword.
    fn alias(&mut self) -> Result<Option<Ident>> {
        if self.take_word("AS") {
            return self.ident("an alias").map(Some);
        }
        let is_word = matches!(self.peek().kind, crate::lexer::TokenKind::Word { .. });
        if is_word && !self.is_reserved() { self.ident("an alias").map(Some) } else { Ok(None) }
    }

    fn table_ref(&mut self) -> Result<TableRef> {
        let position = self.position();
        let kind = self.table_factor()?;
        if let Some(error) = self.after_query().filter(|_| self.is_word("MATCH_RECOGNIZE") || self.is_word("FOR")) {
            return Err(error);
        }
        let mut table = TableRef { position, kind, alias: self.alias()?, column_aliases: Vec::new() };
        if table.alias.is_some() && self.is_symbol("(") {
            table.column_aliases = self.parenthesised(|c| c.ident("a column alias"))?;
        }
        Ok(table)
    }

    fn table_factor(&mut self) -> Result<TableRefKind> {
        let position = self.position();
        if self.take_symbol("(") {
            let query = self.query()?;
            self.expect_closing()?;
            return Ok(TableRefKind::Query(Box::new(query)));
        }
        if self.is_word("TABLE") && self.is_symbol_nth(1, "(") {
            self.advance();
            self.advance();
            let call = self.nested(Self::window_call)?;
            self.expect_symbol(")")?;
            return Ok(TableRefKind::Window(Box::new(call)));
        }
        for (word, construct) in [("LATERAL", "LATERAL"), ("UNNEST", "UNNEST")] {
            if self.is_word(word) {
                return Err(SqlError::unsupported(position, construct));
            }
        }
        if self.keyword().is_some() && self.is_symbol_nth(1, "(") {
            return self.nested(Self::window_call).map(|call| TableRefKind::Window(Box::new(call)));
        }
        self.table_name("a table").map(TableRefKind::Named)
    }

    /// `TUMBLE(...)` or `HOP(...)`, arguments by place or by name.
    fn window_call(&mut self) -> Result<WindowCall> {
        let position = self.position();
        let name = self.ident("TUMBLE or HOP")?.text.to_uppercase();
        let (kind, names): (_, &[&str]) = match name.as_str() {
            "TUMBLE" => (WindowKind::Tumble, &["DATA", "TIMECOL", "SIZE", "OFFSET"]),
            "HOP" => (WindowKind::Hop, &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"]),
            "CUMULATE" | "SESSION" => {
                return Err(SqlError::unsupported(position, format!("the window function {name}")));
            }
            _ => {
                return Err(
                    SqlError::unsupported(position, format!("the table function {name}")).hint("TUMBLE and HOP are")
                );
            }
        };
        let mut args = WindowArguments::default();
        let mut place = 0;
        self.expect_symbol("(")?;
        loop {
            let at = self.position();
            let parameter = if self.is_symbol_nth(1, "=>") {
                let given = self.ident("a parameter")?.text.to_uppercase();
                self.advance();
                *names.iter().find(|n| **n == given).ok_or_else(|| {
                    SqlError::at(at, format!("{name} has no parameter {given}"))
                        .hint(format!("it has {}", names.join(", ")))
                })?
            } else {
                *names
                    .get(place)
                    .ok_or_else(|| SqlError::at(at, format!("{name} takes at most {} arguments", names.len())))?
            };
            place += 1;
            self.window_argument(&name, parameter, at, &mut args)?;
            if !self.take_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        args.finish(kind, &name, position)
    }

    fn window_argument(
        &mut self,
        function: &str,
        parameter: &str,
        at: Position,
        args: &mut WindowArguments,
    ) -> Result<()> {
        let twice = || SqlError::at(at, format!("{function} got {parameter} twice"));
        match parameter {
            "DATA" => {
                let input = self.window_input()?;
                if args.input.replace(input).is_some() {
                    return Err(twice());
                }
            }
            "TIMECOL" => {
                self.expect_word("DESCRIPTOR")?;
                let mut columns = self.parenthesised(|c| c.ident("the event-time column"))?;
                let column = columns.pop().filter(|_| columns.is_empty());
                let column =
                    column.ok_or_else(|| SqlError::at(at, format!("{function} takes one event-time column")))?;
                if args.time_column.replace(column).is_some() {
                    return Err(twice());
                }
            }
            other => {
                let expr = self.expression()?;
                let slot = match other {
                    "SIZE" => &mut args.size,
                    "SLIDE" => &mut args.slide,
                    _ => &mut args.offset,
                };
                if slot.replace(expr).is_some() {
                    return Err(twice());
                }
            }
        }
        Ok(())
    }

    /// `TABLE t`, `TABLE (query)` or `(query)`.
    fn window_input(&mut self) -> Result<TableRef> {
        let table = self.take_word("TABLE");
        let position = self.position();
        let kind = if self.take_symbol("(") {
            let query = self.query()?;
            self.expect_closing()?;
            TableRefKind::Query(Box::new(query))
        } else if table {
            TableRefKind::Named(self.table_name("a table")?)
        } else {
            return Err(self.expected("TABLE <name>"));
        };
        if self.is_word("PARTITION") || self.is_word("ORDER") {
            return Err(SqlError::unsupported(self.position(), "PARTITION BY or ORDER BY in a window function"));
        }
        Ok(TableRef { position, kind, alias: None, column_aliases: Vec::new() })
    }
}

#[derive(Default)]
struct WindowArguments {
    input: Option<TableRef>,
    time_column: Option<Ident>,
    size: Option<Expr>,
    slide: Option<Expr>,
    offset: Option<Expr>,
}

impl WindowArguments {
    fn finish(self, kind: WindowKind, name: &str, position: Position) -> Result<WindowCall> {
        let missing = |what: &str| SqlError::at(position, format!("{name} needs the argument {what}"));
        Ok(WindowCall {
            kind,
            position,
            input: self.input.ok_or_else(|| missing("DATA (TABLE <name>)"))?,
            time_column: self.time_column.ok_or_else(|| missing("TIMECOL (DESCRIPTOR(<column>))"))?,
            slide: match (kind, self.slide) {
                (WindowKind::Hop, None) => return Err(missing("SLIDE")),
                (_, slide) => slide,
            },
            size: self.size.ok_or_else(|| missing("SIZE"))?,
            offset: self.offset,
        })
    }
}

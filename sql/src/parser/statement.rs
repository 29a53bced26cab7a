//! Statements.

use super::cursor::Cursor;
use super::{ERRORS_MAX, Parser};
use crate::ast::{
    ColumnDef, ColumnKind, CreateTable, CreateView, Ident, Insert, OptionDef, PrimaryKeyDef, Statement, StatementKind,
    WatermarkDef,
};
use crate::error::{Position, Result, SqlError};
use crate::lexer::{self, TokenKind};

/// Labels become parts of object names and transactional ids.
const LABEL_BYTES_MAX: usize = 64;

impl Parser {
    pub(super) fn script(mut self) -> (Vec<Statement>, Vec<SqlError>) {
        let (mut statements, mut errors) = (Vec::new(), Vec::new());
        while errors.len() < ERRORS_MAX {
            while self.cursor.take_symbol(";") {}
            if self.cursor.at_end() {
                break;
            }
            match self.next_statement() {
                Ok(Some(statement)) => statements.push(statement),
                Ok(None) => {}
                Err(error) => {
                    errors.push(error);
                    self.cursor.skip_statement();
                }
            }
        }
        if let (Some(begin), true) = (self.statement_set, errors.is_empty()) {
            errors.push(SqlError::at(begin, "the statement set that begins here has no END"));
        }
        (statements, errors)
    }

    /// One statement, or `None` for the frame of a statement set.
    fn next_statement(&mut self) -> Result<Option<Statement>> {
        let position = self.cursor.position();
        let cursor = &mut self.cursor;
        if cursor.take_words(&["EXECUTE", "STATEMENT", "SET"]) {
            cursor.expect_word("BEGIN")?;
            return self.begin_set(position).map(|()| None);
        }
        if cursor.take_words(&["BEGIN", "STATEMENT", "SET"]) {
            self.end_of_statement()?;
            return self.begin_set(position).map(|()| None);
        }
        if cursor.is_word("END") && self.statement_set.is_some() {
            cursor.advance();
            self.statement_set = None;
            return self.end_of_statement().map(|()| None);
        }
        if cursor.is_words(&["EXECUTE", "INSERT"]) {
            cursor.advance();
        }
        let kind = cursor.statement()?;
        if self.statement_set.is_some() && !matches!(kind, StatementKind::Insert(_)) {
            return Err(SqlError::at(position, "a statement set holds INSERT INTO statements only"));
        }
        self.end_of_statement()?;
        Ok(Some(Statement { position, kind }))
    }

    fn begin_set(&mut self, position: Position) -> Result<()> {
        if self.statement_set.is_some() {
            return Err(SqlError::at(position, "a statement set cannot hold another one"));
        }
        self.statement_set = Some(position);
        Ok(())
    }

    fn end_of_statement(&mut self) -> Result<()> {
        if self.cursor.take_symbol(";") || self.cursor.at_end() {
            return Ok(());
        }
        if self.statement_set.is_some() && self.cursor.is_word("END") {
            return Ok(());
        }
        Err(self.cursor.after_query().unwrap_or_else(|| self.cursor.expected("';'")))
    }
}

impl Cursor {
    fn statement(&mut self) -> Result<StatementKind> {
        let position = self.position();
        match self.keyword().as_deref() {
            Some("CREATE") => self.create(position),
            Some("INSERT") => self.insert(position),
            Some("SET") => self.set(position),
            Some("SELECT" | "VALUES" | "WITH") => Err(SqlError::unsupported(position, "a query outside INSERT INTO")
                .hint("write INSERT INTO <table> SELECT ...")),
            Some(
                word @ ("DROP" | "ALTER" | "SHOW" | "DESCRIBE" | "DESC" | "EXPLAIN" | "USE" | "ANALYZE" | "DELETE"
                | "UPDATE" | "ADD" | "REMOVE" | "RESET" | "CALL" | "LOAD" | "UNLOAD" | "TRUNCATE" | "MERGE"
                | "STOP" | "QUIT" | "CLEAR" | "COMPILE" | "EXECUTE" | "BEGIN"),
            ) => {
                let second = self.keyword_nth(1).map(|w| format!(" {w}")).unwrap_or_default();
                Err(SqlError::unsupported(position, format!("{word}{second}")))
            }
            _ => {
                Err(self.expected("a statement (CREATE TABLE, CREATE VIEW, INSERT INTO, EXECUTE STATEMENT SET or SET)"))
            }
        }
    }

    fn set(&mut self, position: Position) -> Result<StatementKind> {
        self.advance();
        if self.is_symbol(";") || self.at_end() {
            return Err(SqlError::unsupported(position, "SET without a key"));
        }
        let (key, key_position) = self.string("a quoted key: SET 'key' = 'value'")?;
        self.expect_symbol("=")?;
        let (value, value_position) = self.string("a quoted value: SET 'key' = 'value'")?;
        Ok(StatementKind::Set { key, key_position, value, value_position })
    }

    fn create(&mut self, position: Position) -> Result<StatementKind> {
        self.advance();
        if self.is_words(&["OR", "REPLACE"]) {
            return Err(SqlError::unsupported(position, "CREATE OR REPLACE"));
        }
        self.take_word("TEMPORARY");
        match self.keyword().as_deref() {
            Some("TABLE") => {
                self.advance();
                self.create_table().map(StatementKind::CreateTable)
            }
            Some("VIEW") => {
                self.advance();
                self.create_view().map(StatementKind::CreateView)
            }
            Some(other) => Err(SqlError::unsupported(position, format!("CREATE {other}"))),
            None => Err(self.expected("TABLE or VIEW")),
        }
    }

    fn create_view(&mut self) -> Result<CreateView> {
        let if_not_exists = self.take_words(&["IF", "NOT", "EXISTS"]);
        let name = self.table_name("the view's name")?;
        let columns = if self.is_symbol("(") { self.parenthesised(|c| c.ident("a column"))? } else { Vec::new() };
        self.comment()?;
        self.expect_word("AS")?;
        Ok(CreateView { name, if_not_exists, columns, query: self.query()? })
    }

    fn insert(&mut self, position: Position) -> Result<StatementKind> {
        self.advance();
        if self.is_word("OVERWRITE") {
            return Err(SqlError::unsupported(position, "INSERT OVERWRITE"));
        }
        self.expect_word("INTO")?;
        let table = self.table_name("the table's name")?;
        if self.is_word("PARTITION") {
            return Err(SqlError::unsupported(self.position(), "INSERT INTO with PARTITION"));
        }
        let label = self.label()?;
        // `INSERT INTO t (SELECT ...)` has a query in parentheses, `INSERT INTO t (a, b) SELECT ...` a column list.
        let list = self.is_symbol("(")
            && !["SELECT", "WITH", "VALUES"].iter().any(|w| self.is_word_nth(1, w))
            && !self.is_symbol_nth(1, "(");
        let columns = if list { Some(self.parenthesised(|c| c.ident("a column"))?) } else { None };
        Ok(StatementKind::Insert(Insert { table, label, columns, query: self.query()? }))
    }

    /// `/*+ LABEL('name') */`: under which name the statement's state is kept, whatever else changes around it.
    fn label(&mut self) -> Result<Option<Ident>> {
        let position = self.position();
        let TokenKind::Hint(text) = self.peek().kind.clone() else { return Ok(None) };
        let tokens = lexer::tokenize(&text).map_err(|error| SqlError {
            line: position.line,
            column: position.column,
            ..error
        })?;
        let kinds: Vec<&TokenKind> = tokens.iter().map(|t| &t.kind).collect();
        let [
            TokenKind::Word { text: word, .. },
            TokenKind::Symbol("("),
            TokenKind::String(label),
            TokenKind::Symbol(")"),
            TokenKind::End,
        ] = &kinds[..]
        else {
            return Err(SqlError::unsupported(position, "a hint (/*+ ... */) other than LABEL('name')"));
        };
        if !word.eq_ignore_ascii_case("LABEL") {
            return Err(SqlError::unsupported(position, "a hint (/*+ ... */) other than LABEL('name')"));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '#' | '%');
        if label.is_empty() || label.len() > LABEL_BYTES_MAX || !label.chars().all(fits) {
            return Err(SqlError::at(
                position,
                format!("a label has 1 to {LABEL_BYTES_MAX} of the characters A-Z a-z 0-9 _ - . $ # %"),
            ));
        }
        self.advance();
        Ok(Some(Ident { text: label.clone(), position }))
    }

    fn comment(&mut self) -> Result<()> {
        if self.take_word("COMMENT") {
            self.string("the comment in quotes")?;
        }
        Ok(())
    }

    fn create_table(&mut self) -> Result<CreateTable> {
        let if_not_exists = self.take_words(&["IF", "NOT", "EXISTS"]);
        let name = self.table_name("the table's name")?;
        let mut table = CreateTable {
            options_position: name.position,
            name,
            if_not_exists,
            columns: Vec::new(),
            watermark: None,
            primary_key: None,
            options: Vec::new(),
        };
        if !self.is_symbol("(") {
            self.refuse_table_clause()?;
            return Err(self.expected("the columns in parentheses"));
        }
        self.parenthesised(|c| c.table_element(&mut table))?;
        self.comment()?;
        self.refuse_table_clause()?;
        if self.is_word("WITH") {
            table.options_position = self.advance().position;
            table.options = self.parenthesised(Cursor::option)?;
        }
        self.refuse_table_clause()?;
        Ok(table)
    }

    fn refuse_table_clause(&self) -> Result<()> {
        for (word, construct) in [
            ("PARTITIONED", "PARTITIONED BY"),
            ("DISTRIBUTED", "DISTRIBUTED BY"),
            ("LIKE", "CREATE TABLE ... LIKE"),
            ("AS", "CREATE TABLE ... AS SELECT"),
        ] {
            if self.is_word(word) {
                return Err(SqlError::unsupported(self.position(), construct));
            }
        }
        Ok(())
    }

    fn option(&mut self) -> Result<OptionDef> {
        let (key, position) = self.string("an option: 'key' = 'value'")?;
        self.expect_symbol("=")?;
        let (value, value_position) = self.string("the option's value in quotes")?;
        Ok(OptionDef { key, position, value, value_position })
    }

    fn table_element(&mut self, table: &mut CreateTable) -> Result<()> {
        let position = self.position();
        if self.is_words(&["WATERMARK", "FOR"]) {
            return self.watermark(table);
        }
        if self.take_word("CONSTRAINT") {
            self.ident("the constraint's name")?;
        }
        if self.is_words(&["PRIMARY", "KEY"]) {
            self.advance();
            self.advance();
            let columns = self.parenthesised(|c| c.ident("a column"))?;
            self.not_enforced(position)?;
            return set_primary_key(table, PrimaryKeyDef { position, columns });
        }
        if self.is_word("UNIQUE") {
            return Err(SqlError::unsupported(position, "UNIQUE"));
        }
        self.column_def(table)
    }

    fn watermark(&mut self, table: &mut CreateTable) -> Result<()> {
        let position = self.position();
        self.advance();
        self.advance();
        let column = self.ident("the event-time column")?;
        if self.is_symbol(".") {
            return Err(SqlError::unsupported(column.position, "a watermark on a nested field"));
        }
        self.expect_word("AS")?;
        let expr = self.expression()?;
        if table.watermark.is_some() {
            return Err(SqlError::at(position, "a table has at most one WATERMARK"));
        }
        table.watermark = Some(WatermarkDef { column, expr });
        Ok(())
    }

    fn not_enforced(&mut self, key: Position) -> Result<()> {
        if self.take_words(&["NOT", "ENFORCED"]) {
            return Ok(());
        }
        Err(SqlError::at(key, "a PRIMARY KEY must be NOT ENFORCED")
            .hint("keys are taken on trust, as in Flink: PRIMARY KEY (..) NOT ENFORCED"))
    }

    fn column_def(&mut self, table: &mut CreateTable) -> Result<()> {
        let name = self.ident("a column, WATERMARK or PRIMARY KEY")?;
        if self.take_word("AS") {
            let expr = self.expression()?;
            self.comment()?;
            table.columns.push(ColumnDef { name, kind: ColumnKind::Computed(expr) });
            return Ok(());
        }
        let ty = self.type_def()?;
        if self.take_word("METADATA") {
            let key = if self.take_word("FROM") {
                let (text, position) = self.string("the metadata key in quotes")?;
                Some(crate::ast::Ident { text, position })
            } else {
                None
            };
            let is_virtual = self.take_word("VIRTUAL");
            self.comment()?;
            table.columns.push(ColumnDef { name, kind: ColumnKind::Metadata { ty, key, is_virtual } });
            return Ok(());
        }
        let position = self.position();
        if self.take_words(&["PRIMARY", "KEY"]) {
            self.not_enforced(position)?;
            set_primary_key(table, PrimaryKeyDef { position, columns: vec![name.clone()] })?;
        }
        self.comment()?;
        table.columns.push(ColumnDef { name, kind: ColumnKind::Physical(ty) });
        Ok(())
    }
}

fn set_primary_key(table: &mut CreateTable, key: PrimaryKeyDef) -> Result<()> {
    if table.primary_key.is_some() {
        return Err(SqlError::at(key.position, "a table has at most one PRIMARY KEY"));
    }
    table.primary_key = Some(key);
    Ok(())
}

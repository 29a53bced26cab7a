//! Which columns a name can mean.

use super::relation::{Column, Relation};
use crate::ast::Ident;
use crate::error::{Result, SqlError, did_you_mean};

/// The columns of what stands in FROM, under the name that stands there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub columns: &'a [Column],
    /// The alias, or the table's name; `None`: a subquery without alias.
    pub alias: Option<&'a str>,
}

impl<'a> Scope<'a> {
    pub fn new(relation: &'a Relation, alias: Option<&'a str>) -> Self {
        Self { columns: &relation.columns, alias }
    }

    pub fn check_qualifier(&self, qualifier: &Ident) -> Result<()> {
        if self.alias == Some(qualifier.text.as_str()) {
            return Ok(());
        }
        Err(SqlError::at(qualifier.position, format!("no table in FROM is called '{}'", qualifier.text))
            .hint_opt(self.alias.map(|a| format!("it is called '{a}'"))))
    }

    /// Position of the column that `name` means.
    pub fn resolve(&self, qualifier: Option<&Ident>, name: &Ident) -> Result<usize> {
        if let Some(qualifier) = qualifier {
            self.check_qualifier(qualifier)?;
        }
        let mut found = self.columns.iter().enumerate().filter(|(_, c)| c.name == name.text);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => Err(SqlError::at(name.position, format!("the column '{}' is ambiguous", name.text))),
            (None, _) => {
                let at = self.alias.map(|a| format!(" in '{a}'")).unwrap_or_default();
                let same = self.columns.iter().find(|c| c.name.eq_ignore_ascii_case(&name.text));
                let hint = match same {
                    Some(c) => Some(format!("names are case-sensitive: did you mean '{}'?", c.name)),
                    None => did_you_mean(&name.text, self.columns.iter().map(|c| c.name.as_str())),
                };
                Err(SqlError::at(name.position, format!("the column '{}' does not exist{at}", name.text))
                    .hint_opt(hint))
            }
        }
    }
}

//! Named, typed columns.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::SqlType;

/// Name of the row-kind column, the last column of every edge on which updates can occur.
pub const ROW_KIND: &str = "$row_kind";

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub ty: SqlType,
    pub nullable: bool,
}

impl Field {
    #[must_use]
    pub fn new(name: impl Into<String>, ty: SqlType, nullable: bool) -> Self {
        Self { name: name.into(), ty, nullable }
    }
}

/// The columns of a stream, a table or a row of state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema {
    pub fields: Vec<Field>,
}

impl Schema {
    #[must_use]
    pub fn new(fields: Vec<Field>) -> Self {
        Self { fields }
    }

    /// Position of the column called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| f.name == name)
    }

    /// The Arrow schema of an append-only stream of these columns.
    #[must_use]
    pub fn arrow(&self) -> arrow_schema::SchemaRef {
        Arc::new(arrow_schema::Schema::new(self.arrow_fields()))
    }

    /// The Arrow schema of a changelog stream: these columns, then the row kind (Int8, not null).
    #[must_use]
    pub fn arrow_with_row_kind(&self) -> arrow_schema::SchemaRef {
        let mut fields = self.arrow_fields();
        fields.push(arrow_schema::Field::new(ROW_KIND, arrow_schema::DataType::Int8, false));
        Arc::new(arrow_schema::Schema::new(fields))
    }

    fn arrow_fields(&self) -> Vec<arrow_schema::Field> {
        self.fields.iter().map(|f| arrow_schema::Field::new(&f.name, f.ty.arrow(), f.nullable)).collect()
    }
}

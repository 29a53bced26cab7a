//! The keyed tables of a transform: their names and columns, and when stored rows can be read into other columns.
//!
//! Owns: what a table looks like under a graph, and which change of columns loses nothing. Does not own: reading the rows (the
//! worker), nor what becomes of a job whose columns do not fit (the coordinator).

use std::fmt;

use super::{AggregateCall, Field, Schema, SqlType, TransformKind};

/// A keyed table that a transform declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateTable {
    /// Unique within the transform; stands in the manifest.
    pub name: &'static str,
    pub key: Schema,
    pub value: Schema,
    /// An entry expires so long after its last write, in processing time.
    pub ttl_ms: Option<u64>,
}

impl TransformKind {
    /// The keyed table of the transform, if it has one.
    #[must_use]
    pub fn state_table(&self) -> Option<StateTable> {
        let accumulators =
            |calls: &[AggregateCall]| Schema::new(calls.iter().flat_map(AggregateCall::accumulator).collect());
        match self {
            TransformKind::GlobalWindowAggregate { keys, aggregates, .. } => Some(StateTable {
                name: "slices",
                key: Schema::new(keys.clone()),
                value: accumulators(aggregates),
                ttl_ms: None,
            }),
            TransformKind::GlobalGroupAggregate { keys, aggregates, state_ttl_ms, .. } => Some(StateTable {
                name: "groups",
                key: Schema::new(keys.clone()),
                value: accumulators(aggregates),
                ttl_ms: *state_ttl_ms,
            }),
            _ => None,
        }
    }
}

/// What is different about a column, such that stored rows can be read all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnChange {
    /// The column takes every value that the stored one could have.
    Widened { name: String, was: SqlType, is: SqlType },
    /// Stored rows have NULL there.
    Added { name: String, ty: SqlType },
    /// It stands at another place.
    Moved { name: String },
}

impl fmt::Display for ColumnChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Widened { name, was, is } => write!(f, "{name} {was} -> {is}"),
            Self::Added { name, ty } => write!(f, "{name} {ty} is new, NULL in stored rows"),
            Self::Moved { name } => write!(f, "{name} stands elsewhere"),
        }
    }
}

impl Schema {
    /// How rows of these columns are read as rows of `wanted`, where that loses nothing: columns are found by name; each may
    /// be wider than it was, and what is new must be nullable. Empty: they are the same.
    ///
    /// # Errors
    /// The columns in which they differ otherwise, each as it was and as it is.
    pub fn migration_to(&self, wanted: &Schema) -> Result<Vec<ColumnChange>, Vec<String>> {
        let (mut changes, mut refused) = (Vec::new(), Vec::new());
        for (place, is) in wanted.fields.iter().enumerate() {
            match self.index_of(&is.name) {
                None if is.nullable => changes.push(ColumnChange::Added { name: is.name.clone(), ty: is.ty.clone() }),
                None => refused.push(format!("{}: was not there, is {} NOT NULL", is.name, is.ty)),
                Some(stored) => match column_change(&self.fields[stored], is, stored != place) {
                    Ok(change) => changes.extend(change),
                    Err(difference) => refused.push(difference),
                },
            }
        }
        for was in self.fields.iter().filter(|was| wanted.index_of(&was.name).is_none()) {
            refused.push(format!("{}: was {}, is not there", was.name, was.ty));
        }
        if refused.is_empty() { Ok(changes) } else { Err(refused) }
    }

    /// In which columns they differ, by place: of a key every difference counts.
    #[must_use]
    pub fn differences(&self, wanted: &Schema) -> Vec<String> {
        let text = |field: Option<&Field>| field.map_or("not there".to_owned(), |f| format!("{} {}", f.name, f.ty));
        let places = self.fields.len().max(wanted.fields.len());
        let pairs = (0..places).map(|i| (self.fields.get(i), wanted.fields.get(i)));
        let same = |was: Option<&Field>, is: Option<&Field>| match (was, is) {
            (Some(was), Some(is)) => was.name == is.name && was.ty == is.ty,
            _ => false,
        };
        let differ = pairs.enumerate().filter(|(_, (was, is))| !same(*was, *is));
        differ.map(|(i, (was, is))| format!("column {}: was {}, is {}", i + 1, text(was), text(is))).collect()
    }
}

fn column_change(was: &Field, is: &Field, moved: bool) -> Result<Option<ColumnChange>, String> {
    if was.nullable && !is.nullable {
        return Err(format!("{}: was {}, is {} NOT NULL", is.name, was.ty, is.ty));
    }
    if was.ty == is.ty {
        return Ok(moved.then(|| ColumnChange::Moved { name: is.name.clone() }));
    }
    if was.ty.widens_to(&is.ty) {
        return Ok(Some(ColumnChange::Widened { name: is.name.clone(), was: was.ty.clone(), is: is.ty.clone() }));
    }
    Err(format!("{}: was {}, is {}", is.name, was.ty, is.ty))
}

impl SqlType {
    /// Whether every value of this type is the same value of `wider`: integers to longer ones, FLOAT to DOUBLE, DECIMAL to
    /// one with as many digits or more on either side of the point, strings and binary to longer ones of varying length.
    #[must_use]
    pub fn widens_to(&self, wider: &SqlType) -> bool {
        match (self, wider) {
            (SqlType::TinyInt, SqlType::SmallInt | SqlType::Int | SqlType::BigInt)
            | (SqlType::SmallInt, SqlType::Int | SqlType::BigInt)
            | (SqlType::Int, SqlType::BigInt)
            | (SqlType::Float, SqlType::Double) => true,
            (
                SqlType::Decimal { precision, scale },
                SqlType::Decimal { precision: wider_precision, scale: wider_scale },
            ) => {
                let (whole, wider_whole) = (precision - scale, wider_precision - wider_scale);
                scale <= wider_scale && whole <= wider_whole && (precision, scale) != (wider_precision, wider_scale)
            }
            (SqlType::VarChar { length }, SqlType::VarChar { length: wider })
            | (SqlType::VarBinary { length }, SqlType::VarBinary { length: wider }) => length < wider,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, SqlType, bool)]) -> Schema {
        Schema::new(fields.iter().map(|(name, ty, nullable)| Field::new(*name, ty.clone(), *nullable)).collect())
    }

    fn decimal(precision: u8, scale: u8) -> SqlType {
        SqlType::Decimal { precision, scale }
    }

    #[test]
    fn only_what_loses_nothing_is_wider() {
        let text = |length| SqlType::VarChar { length };
        for (narrow, wide) in [
            (SqlType::TinyInt, SqlType::SmallInt),
            (SqlType::Int, SqlType::BigInt),
            (SqlType::Float, SqlType::Double),
            (decimal(10, 2), decimal(12, 2)),
            (decimal(10, 2), decimal(12, 4)),
            (text(10), text(20)),
            (text(10), SqlType::STRING),
        ] {
            assert!(narrow.widens_to(&wide), "{narrow} -> {wide}");
            assert!(!wide.widens_to(&narrow), "{wide} -> {narrow}");
            assert!(!wide.widens_to(&wide), "{wide}");
        }
        for (a, b) in [
            (SqlType::Int, SqlType::Double),
            (SqlType::BigInt, decimal(38, 0)),
            (decimal(10, 2), decimal(11, 4)),
            (SqlType::Char { length: 3 }, text(5)),
            (SqlType::Timestamp { precision: 3 }, SqlType::Timestamp { precision: 6 }),
        ] {
            assert!(!a.widens_to(&b) && !b.widens_to(&a), "{a}, {b}");
        }
    }

    #[test]
    fn columns_are_found_by_name_and_differences_are_told_one_by_one() {
        let stored = schema(&[("n", SqlType::BigInt, false), ("m", SqlType::Int, true)]);
        let wanted =
            schema(&[("m", SqlType::BigInt, true), ("n", SqlType::BigInt, false), ("x", SqlType::STRING, true)]);
        let changes = stored.migration_to(&wanted).unwrap();
        let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["m INT -> BIGINT", "n stands elsewhere", "x STRING is new, NULL in stored rows"]);
        assert_eq!(stored.migration_to(&stored), Ok(Vec::new()));

        let refused = schema(&[("m", SqlType::Double, true), ("y", SqlType::BigInt, false)]);
        assert_eq!(
            stored.migration_to(&refused).unwrap_err(),
            ["m: was INT, is DOUBLE", "y: was not there, is BIGINT NOT NULL", "n: was BIGINT, is not there"]
        );
        assert_eq!(
            stored.differences(&refused),
            ["column 1: was n BIGINT, is m DOUBLE", "column 2: was m INT, is y BIGINT"]
        );
    }
}

//! The datagen connector.

use std::collections::BTreeMap;

use millstream_api::graph::{DatagenField, DatagenSource, SqlType};

use super::options::Options;
use crate::bind::{ColumnSource, TableColumn};
use crate::error::{Result, SqlError, did_you_mean};

const ROWS_PER_SECOND: u64 = 10_000;
const STRING_LENGTH_MAX: u32 = 1_000_000;

pub(super) fn parse(options: &mut Options<'_>, columns: &[TableColumn]) -> Result<DatagenSource> {
    let rows_per_second = options.number("rows-per-second", "rows per second, at least 1")?.unwrap_or(ROWS_PER_SECOND);
    if rows_per_second == 0 {
        return Err(SqlError::at(options.position(), "'rows-per-second' must be at least 1"));
    }
    let number_of_rows = options.number("number-of-rows", "a number of rows")?;
    let mut fields = BTreeMap::new();
    let physical: Vec<&TableColumn> = columns.iter().filter(|c| c.source == ColumnSource::Physical).collect();
    for column in &physical {
        if let Some(field) = field(options, column)? {
            fields.insert(column.name.clone(), field);
        }
    }
    if let Some((rest, option)) = options.take_prefix("fields.").into_iter().min_by_key(|(_, o)| o.position) {
        let name = rest.rsplit_once('.').map_or(rest, |(name, _)| name);
        if physical.iter().any(|c| c.name == name) {
            return Err(SqlError::at(
                option.position,
                format!("unknown option '{}' of the connector 'datagen'", option.key),
            ));
        }
        let hint = did_you_mean(name, physical.iter().map(|c| c.name.as_str()));
        return Err(
            SqlError::at(option.position, format!("'{}' names no column of the table", option.key)).hint_opt(hint)
        );
    }
    Ok(DatagenSource { rows_per_second, number_of_rows, fields })
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Random,
    Sequence,
}

fn field(options: &mut Options<'_>, column: &TableColumn) -> Result<Option<DatagenField>> {
    let key = |name: &str| format!("fields.{}.{name}", column.name);
    let before = options.left_len();
    let kind = options.choice(&key("kind"), &[("random", Kind::Random), ("sequence", Kind::Sequence)])?;
    let field =
        if kind == Some(Kind::Sequence) { sequence(options, column, &key)? } else { random(options, column, &key)? };
    Ok((options.left_len() < before).then_some(field))
}

fn sequence(options: &mut Options<'_>, column: &TableColumn, key: &dyn Fn(&str) -> String) -> Result<DatagenField> {
    let position = options.position();
    if !column.ty.is_integer() && !column.ty.is_string() {
        return Err(SqlError::unsupported(position, format!("a sequence of {} ('{}')", column.ty, key("kind"))));
    }
    let mut bound = |name: &str| -> Result<i64> {
        options.number(&key(name), "a whole number")?.ok_or_else(|| {
            SqlError::at(position, format!("the sequence of '{}' lacks the option '{}'", column.name, key(name)))
        })
    };
    let (start, end) = (bound("start")?, bound("end")?);
    if start > end {
        return Err(SqlError::at(position, format!("the sequence of '{}' ends before it starts", column.name)));
    }
    Ok(DatagenField::Sequence { start, end })
}

fn random(options: &mut Options<'_>, column: &TableColumn, key: &dyn Fn(&str) -> String) -> Result<DatagenField> {
    let ty = &column.ty;
    let mut bound = |name: &str| -> Result<Option<String>> {
        if !ty.is_numeric() {
            return Ok(None);
        }
        let parsed = options.typed(&key(name), &format!("a value of {ty}"), |text| {
            let fits = match ty {
                SqlType::TinyInt => text.parse::<i8>().is_ok(),
                SqlType::SmallInt => text.parse::<i16>().is_ok(),
                SqlType::Int => text.parse::<i32>().is_ok(),
                SqlType::BigInt => text.parse::<i64>().is_ok(),
                _ => text.parse::<f64>().is_ok_and(f64::is_finite),
            };
            fits.then(|| text.to_owned())
        })?;
        Ok(parsed)
    };
    let (min, max) = (bound("min")?, bound("max")?);
    let as_number = |text: &Option<String>| text.as_ref().and_then(|t| t.parse::<f64>().ok());
    if let (Some(least), Some(most)) = (as_number(&min), as_number(&max))
        && least > most
    {
        return Err(SqlError::at(options.position(), format!("'{}' is above '{}'", key("min"), key("max"))));
    }
    let length = if ty.is_string() || matches!(ty, SqlType::Binary { .. } | SqlType::VarBinary { .. }) {
        options.typed(&key("length"), "a length from 1 to 1000000", |text| {
            text.parse().ok().filter(|n| (1..=STRING_LENGTH_MAX).contains(n))
        })?
    } else {
        None
    };
    let max_past_ms = if ty.is_timestamp() { options.duration_ms(&key("max-past"))? } else { None };
    let null_rate = options
        .typed(&key("null-rate"), "a share from 0 to 1", |text| text.parse().ok().filter(|r| (0.0..=1.0).contains(r)))?
        .unwrap_or(0.0);
    Ok(DatagenField::Random { min, max, length, max_past_ms, null_rate })
}

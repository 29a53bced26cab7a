//! Times as text and as epoch numbers, and the functions of the clock. All in UTC.

use arrow_array::ArrayRef;
use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::pattern::{Dialect, Pattern};
use super::{ArgInfo, Binding, Call, Function};
use crate::expr::cast::{read_date, read_timestamp};
use crate::expr::operand::{Native, fixed_options, fixed_rows, text_rows};
use crate::expr::{EvalError, ExprError};
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::MILLIS_PER_DAY;
use crate::format::text::time::DayTime;

/// 0000-01-01 and 9999-12-31 23:59:59.999: what TO_TIMESTAMP_LTZ takes.
const EPOCH_MS_MIN: i64 = -62_167_219_200_000;
const EPOCH_MS_MAX: i64 = 253_402_300_799_999;

/// Default of UNIX_TIMESTAMP and FROM_UNIXTIME.
const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    if let Some(function) = clock(name, result) {
        return Ok(Some(function));
    }
    let data_type = result.arrow();
    Ok(Some(match name {
        "DATE_FORMAT" => {
            let per_second = ticks_per_second(&args[0].ty.arrow());
            let patterns = Patterns::of(args, Dialect::DateTimeFormatter, None)?;
            printed(patterns, move |value| DayTime::from_ticks(value, per_second))
        }
        "FROM_UNIXTIME" => {
            let patterns = Patterns::of(args, Dialect::SimpleDateFormat, Some(DEFAULT_PATTERN))?;
            printed(patterns, |seconds| DayTime::from_ticks(seconds, 1))
        }
        "TO_TIMESTAMP" => to_timestamp(args, data_type)?,
        "TO_TIMESTAMP_LTZ" if args[0].ty.is_string() => to_timestamp(args, data_type)?,
        "TO_TIMESTAMP_LTZ" => Function::partial(move |call| epoch_to_timestamp(call, &data_type)),
        "TO_DATE" if args.len() == 1 => Function::total(move |call| {
            let strings = call.args[0].text();
            Ok(fixed_options(call.rows, &data_type, |row| read_date(strings.get(row)?)))
        }),
        "TO_DATE" => {
            let patterns = Patterns::of(args, Dialect::SimpleDateFormat, None)?;
            read_text(patterns, data_type, |text, pattern| i32::try_from(pattern.read_lenient(text)?.days).ok())
        }
        "UNIX_TIMESTAMP" => {
            let patterns = Patterns::of(args, Dialect::SimpleDateFormat, Some(DEFAULT_PATTERN))?;
            read_text(patterns, data_type, |text, pattern| {
                // What cannot be read is Long.MIN_VALUE in Flink, not NULL.
                Some(pattern.read_lenient(text).and_then(|at| at.ticks(1)).unwrap_or(i64::MIN))
            })
        }
        _ => return Ok(None),
    }))
}

/// Functions of the step's processing time.
fn clock(name: &str, result: &SqlType) -> Option<Function> {
    let data_type = result.arrow();
    Some(match name {
        "CURRENT_TIMESTAMP" | "LOCALTIMESTAMP" | "PROCTIME" => now(data_type, |ms| ms),
        "CURRENT_UNIX_TIMESTAMP" => now(data_type, |ms| ms.div_euclid(1000)),
        "CURRENT_DATE" => now(data_type, |ms| ms.div_euclid(MILLIS_PER_DAY) as i32),
        "CURRENT_TIME" => now(data_type, |ms| (ms.rem_euclid(MILLIS_PER_DAY) / 1000 * 1000) as i32),
        _ => return None,
    })
}

fn now<N: Native>(data_type: DataType, f: fn(i64) -> N) -> Function {
    Function::total(move |call| Ok(N::array(vec![f(call.cx.processing_time_ms); call.rows], None, &data_type)))
}

/// The pattern of a call, its second argument: parsed when the call was compiled, or row by row.
enum Patterns {
    Constant(Pattern),
    PerRow(Dialect),
}

impl Patterns {
    fn of(args: &[ArgInfo<'_>], dialect: Dialect, default: Option<&str>) -> Result<Self, ExprError> {
        match args.get(1).map_or(default, ArgInfo::text) {
            Some(pattern) => Ok(Self::Constant(Pattern::parse(pattern, dialect).map_err(ExprError::new)?)),
            None => Ok(Self::PerRow(dialect)),
        }
    }

    fn is_constant(&self) -> bool {
        matches!(self, Self::Constant(_))
    }

    /// Calls `f` with the row's pattern; `None` where that is NULL.
    fn with<R>(&self, call: &Call<'_>, row: usize, f: impl FnOnce(&Pattern) -> R) -> Result<Option<R>, EvalError> {
        match self {
            Self::Constant(pattern) => Ok(Some(f(pattern))),
            Self::PerRow(dialect) => match call.args[1].text().get(row) {
                Some(text) => Ok(Some(f(&Pattern::parse(text, *dialect).map_err(EvalError::user)?))),
                None => Ok(None),
            },
        }
    }
}

fn function(
    total: bool,
    kernel: impl Fn(&Call<'_>) -> Result<ArrayRef, EvalError> + Send + Sync + 'static,
) -> Function {
    if total { Function::total(kernel) } else { Function::partial(kernel) }
}

/// The first argument, an i64 that `time` understands, as text.
fn printed(patterns: Patterns, time: impl Fn(i64) -> DayTime + Send + Sync + 'static) -> Function {
    function(patterns.is_constant(), move |call| {
        let values = call.args[0].fixed::<i64>();
        text_rows(call.rows, |row, out| {
            let Some(value) = values.get(row) else {
                return Ok(false);
            };
            Ok(patterns.with(call, row, |pattern| pattern.write(time(value), out))?.is_some())
        })
    })
}

/// The first argument, a text, as a number; `None` of `read` is NULL.
fn read_text<N: Native>(
    patterns: Patterns,
    data_type: DataType,
    read: impl Fn(&str, &Pattern) -> Option<N> + Send + Sync + 'static,
) -> Function {
    function(patterns.is_constant(), move |call| {
        let strings = call.args[0].text();
        fixed_rows(call.rows, &data_type, |row| {
            let Some(text) = strings.get(row) else {
                return Ok(None);
            };
            Ok(patterns.with(call, row, |pattern| read(text, pattern))?.flatten())
        })
    })
}

/// A text that the pattern does not fit is tried once more in the default form, as in Flink.
fn to_timestamp(args: &[ArgInfo<'_>], data_type: DataType) -> Result<Function, ExprError> {
    let per_second = ticks_per_second(&data_type);
    if args.len() == 1 {
        return Ok(Function::total(move |call| {
            let strings = call.args[0].text();
            Ok(fixed_options(call.rows, &data_type, |row| read_timestamp(strings.get(row)?)?.ticks(per_second)))
        }));
    }
    let patterns = Patterns::of(args, Dialect::DateTimeFormatter, None)?;
    Ok(read_text(patterns, data_type, move |text, pattern| {
        pattern.read_strict(text).or_else(|| read_timestamp(text.trim()))?.ticks(per_second)
    }))
}

/// TO_TIMESTAMP_LTZ of an epoch number in seconds (precision 0) or milliseconds (3).
fn epoch_to_timestamp(call: &Call<'_>, data_type: &DataType) -> Result<ArrayRef, EvalError> {
    let epochs = call.args[0].fixed::<i64>();
    fixed_rows(call.rows, data_type, |row| {
        let precision = call.args.get(1).map_or(Some(3), |p| p.fixed::<i32>().get(row));
        let (Some(epoch), Some(precision)) = (epochs.get(row), precision) else {
            return Ok(None);
        };
        let ms = match precision {
            0 => epoch.checked_mul(1000),
            3 => Some(epoch),
            other => {
                return Err(EvalError::user(format!(
                    "the precision of TO_TIMESTAMP_LTZ must be 0 or 3, it is {other}"
                )));
            }
        };
        Ok(ms.filter(|ms| (EPOCH_MS_MIN..=EPOCH_MS_MAX).contains(ms)))
    })
}

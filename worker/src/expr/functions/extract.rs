//! Units of time: EXTRACT, FLOOR(.. TO unit), CEIL(.. TO unit), TIMESTAMPADD, TIMESTAMPDIFF.

use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::arithmetic::add_months_to;
use super::{ArgInfo, Binding, Function};
use crate::expr::operand::{Native, Operand, fixed_options, fixed_rows};
use crate::expr::{EvalError, ExprError};
use crate::format::json::ticks_per_second;
use crate::format::text::calendar::{
    MILLIS_PER_DAY, NANOS_PER_DAY, NANOS_PER_SECOND, add_months, civil_from_days, day_of_year, days_from_civil,
    iso_day_of_week, iso_week,
};
use crate::format::text::time::DayTime;

/// A unit of time, or a field of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Epoch,
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

impl Unit {
    fn of(arg: &ArgInfo<'_>) -> Result<Self, ExprError> {
        let name = arg.text().ok_or_else(|| ExprError::new("the unit of time must be a literal"))?;
        Ok(match name.to_ascii_uppercase().as_str() {
            "EPOCH" => Unit::Epoch,
            "MILLENNIUM" => Unit::Millennium,
            "CENTURY" => Unit::Century,
            "DECADE" => Unit::Decade,
            "YEAR" => Unit::Year,
            "ISOYEAR" => Unit::IsoYear,
            "QUARTER" => Unit::Quarter,
            "MONTH" => Unit::Month,
            "WEEK" => Unit::Week,
            "DAY" => Unit::Day,
            "DOW" => Unit::DayOfWeek,
            "ISODOW" => Unit::IsoDayOfWeek,
            "DOY" => Unit::DayOfYear,
            "HOUR" => Unit::Hour,
            "MINUTE" => Unit::Minute,
            "SECOND" => Unit::Second,
            "MILLISECOND" => Unit::Millisecond,
            "MICROSECOND" => Unit::Microsecond,
            "NANOSECOND" => Unit::Nanosecond,
            other => return Err(ExprError::new(format!("there is no unit of time {other}"))),
        })
    }

    /// Calendar months in it.
    fn months(self) -> Option<i64> {
        Some(match self {
            Unit::Millennium => 12_000,
            Unit::Century => 1_200,
            Unit::Decade => 120,
            Unit::Year => 12,
            Unit::Quarter => 3,
            Unit::Month => 1,
            _ => return None,
        })
    }

    /// Nanoseconds in it, where it is always the same.
    fn nanos(self) -> Option<i64> {
        Some(match self {
            Unit::Week => 7 * NANOS_PER_DAY,
            Unit::Day => NANOS_PER_DAY,
            Unit::Hour => 3600 * NANOS_PER_SECOND,
            Unit::Minute => 60 * NANOS_PER_SECOND,
            Unit::Second => NANOS_PER_SECOND,
            Unit::Millisecond => 1_000_000,
            Unit::Microsecond => 1_000,
            Unit::Nanosecond => 1,
            _ => return None,
        })
    }
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    if !matches!(name, "EXTRACT" | "FLOOR_TO" | "CEIL_TO" | "TIMESTAMPADD" | "TIMESTAMPDIFF") {
        return Ok(None);
    }
    let unit = Unit::of(&args[0])?;
    let unusable = || ExprError::new(format!("{name} has no unit {unit:?} here"));
    Ok(Some(match name {
        "EXTRACT" => extract(unit, args[1].ty).ok_or_else(unusable)?,
        "FLOOR_TO" | "CEIL_TO" => {
            if unit.months().is_none() && unit.nanos().is_none() {
                return Err(unusable());
            }
            round(unit, name == "CEIL_TO", args[1].ty)
        }
        "TIMESTAMPADD" => add(unit, args[2].ty, result).ok_or_else(unusable)?,
        _ => difference(unit, args[1].ty).ok_or_else(unusable)?,
    }))
}

/// Times of any type as a day and a time of day.
#[derive(Clone, Copy)]
enum Reader {
    Date,
    Time,
    Ticks(i64),
}

impl Reader {
    fn of(ty: &SqlType) -> Self {
        match ty {
            SqlType::Date => Reader::Date,
            SqlType::Time { .. } => Reader::Time,
            other => Reader::Ticks(ticks_per_second(&other.arrow())),
        }
    }

    fn get(self, arg: &Operand, row: usize) -> Option<DayTime> {
        Some(match self {
            Reader::Date => DayTime { days: i64::from(arg.fixed::<i32>().get(row)?), nanos_of_day: 0 },
            Reader::Time => DayTime { days: 0, nanos_of_day: i64::from(arg.fixed::<i32>().get(row)?) * 1_000_000 },
            Reader::Ticks(per_second) => DayTime::from_ticks(arg.fixed::<i64>().get(row)?, per_second),
        })
    }
}

fn extract(unit: Unit, ty: &SqlType) -> Option<Function> {
    match ty {
        SqlType::IntervalDayTime => {
            interval_field(unit, 0)?;
            Some(Function::total(move |call| {
                let values = call.args[1].fixed::<i64>();
                Ok(fixed_options(call.rows, &DataType::Int64, |row| interval_field(unit, values.get(row)?)))
            }))
        }
        SqlType::IntervalYearMonth => {
            months_field(unit, 0)?;
            Some(Function::total(move |call| {
                let values = call.args[1].fixed::<i32>();
                Ok(fixed_options(call.rows, &DataType::Int64, |row| months_field(unit, i64::from(values.get(row)?))))
            }))
        }
        _ => {
            let reader = Reader::of(ty);
            Some(Function::total(move |call| {
                let times = &call.args[1];
                Ok(fixed_options(call.rows, &DataType::Int64, |row| Some(time_field(unit, reader.get(times, row)?))))
            }))
        }
    }
}

fn time_field(unit: Unit, at: DayTime) -> i64 {
    let date = civil_from_days(at.days);
    let (seconds, nanos) = (at.nanos_of_day / NANOS_PER_SECOND, at.nanos_of_day % NANOS_PER_SECOND);
    // The year 1 begins the first century and the first millennium.
    let period =
        |length: i64| if date.year > 0 { (date.year + length - 1) / length } else { (date.year - length + 1) / length };
    match unit {
        Unit::Epoch => at.days * 86_400 + seconds,
        Unit::Millennium => period(1000),
        Unit::Century => period(100),
        Unit::Decade => date.year / 10,
        Unit::Year => date.year,
        Unit::IsoYear => iso_week(at.days).0,
        Unit::Quarter => (date.month + 2) / 3,
        Unit::Month => date.month,
        Unit::Week => iso_week(at.days).1,
        Unit::Day => date.day,
        Unit::DayOfWeek => iso_day_of_week(at.days) % 7 + 1,
        Unit::IsoDayOfWeek => iso_day_of_week(at.days),
        Unit::DayOfYear => day_of_year(date),
        Unit::Hour => seconds / 3600,
        Unit::Minute => seconds / 60 % 60,
        Unit::Second => seconds % 60,
        // Flink counts these from the last full second.
        Unit::Millisecond => nanos / 1_000_000,
        Unit::Microsecond => nanos / 1_000,
        Unit::Nanosecond => nanos,
    }
}

fn interval_field(unit: Unit, ms: i64) -> Option<i64> {
    Some(match unit {
        Unit::Epoch => ms / 1000,
        Unit::Day => ms / MILLIS_PER_DAY,
        Unit::Hour => ms % MILLIS_PER_DAY / 3_600_000,
        Unit::Minute => ms % 3_600_000 / 60_000,
        Unit::Second => ms % 60_000 / 1000,
        Unit::Millisecond => ms % 1000,
        _ => return None,
    })
}

fn months_field(unit: Unit, months: i64) -> Option<i64> {
    Some(match unit {
        Unit::Year => months / 12,
        Unit::Quarter => months % 12 / 3 + 1,
        Unit::Month => months % 12,
        _ => return None,
    })
}

/// The start of the unit that `at` lies in.
fn floor(unit: Unit, at: DayTime) -> DayTime {
    let midnight = |days| DayTime { days, nanos_of_day: 0 };
    if let Some(months) = unit.months() {
        let date = civil_from_days(at.days);
        let year = match unit {
            Unit::Century | Unit::Millennium => (date.year - 1).div_euclid(months / 12) * (months / 12) + 1,
            Unit::Decade => date.year.div_euclid(10) * 10,
            _ => date.year,
        };
        let month = if months < 12 { (date.month - 1) / months * months + 1 } else { 1 };
        return midnight(days_from_civil(year, month, 1));
    }
    match unit {
        Unit::Week => midnight(at.days - iso_day_of_week(at.days) % 7),
        _ => {
            let nanos = unit.nanos().unwrap_or(1);
            DayTime { nanos_of_day: at.nanos_of_day / nanos * nanos, ..at }
        }
    }
}

/// The first start of a unit that is not before `at`.
fn ceil(unit: Unit, at: DayTime) -> DayTime {
    let start = floor(unit, at);
    if start == at {
        return at;
    }
    if let Some(months) = unit.months() {
        return DayTime { days: add_months(start.days, months), nanos_of_day: 0 };
    }
    let nanos = start.nanos_of_day + unit.nanos().unwrap_or(1);
    DayTime { days: start.days + nanos / NANOS_PER_DAY, nanos_of_day: nanos % NANOS_PER_DAY }
}

fn round(unit: Unit, up: bool, ty: &SqlType) -> Function {
    let (reader, data_type) = (Reader::of(ty), ty.arrow());
    let op = if up { ceil } else { floor };
    Function::total(move |call| {
        let times = &call.args[1];
        let rounded = |row: usize| Some(op(unit, reader.get(times, row)?));
        Ok(match reader {
            Reader::Date => fixed_options(call.rows, &data_type, |row| i32::try_from(rounded(row)?.days).ok()),
            // A time of day that is rounded up to midnight is 00:00.
            Reader::Time => {
                fixed_options(call.rows, &data_type, |row| Some((rounded(row)?.nanos_of_day / 1_000_000) as i32))
            }
            Reader::Ticks(per_second) => fixed_options(call.rows, &data_type, |row| rounded(row)?.ticks(per_second)),
        })
    })
}

fn add(unit: Unit, ty: &SqlType, result: &SqlType) -> Option<Function> {
    let (months, nanos) = (unit.months(), unit.nanos());
    months.or(nanos)?;
    let data_type = result.arrow();
    if *ty == SqlType::Date {
        if months.is_none() && nanos? % NANOS_PER_DAY != 0 {
            return None;
        }
        return Some(added::<i32>(data_type, move |days, count| {
            let moved = match months {
                Some(months) => add_months(i64::from(days), month_count(count, months)?),
                None => i64::from(days).checked_add(count.checked_mul(nanos? / NANOS_PER_DAY)?)?,
            };
            i32::try_from(moved).ok()
        }));
    }
    let per_second = ticks_per_second(&ty.arrow());
    let nanos_per_tick = NANOS_PER_SECOND / per_second;
    Some(added::<i64>(data_type, move |ticks, count| match months {
        Some(months) => add_months_to(ticks, per_second * 86_400, month_count(count, months)?),
        None if nanos? >= nanos_per_tick => ticks.checked_add(count.checked_mul(nanos? / nanos_per_tick)?),
        None => ticks.checked_add(count.checked_mul(nanos?)?.div_euclid(nanos_per_tick)),
    }))
}

/// Months in `count` units, as far as the calendar's arithmetic reaches: no type holds later years.
fn month_count(count: i64, months: i64) -> Option<i64> {
    count.checked_mul(months).filter(|m| m.unsigned_abs() < 1 << 40)
}

fn added<T: Native>(data_type: DataType, f: impl Fn(T, i64) -> Option<T> + Send + Sync + 'static) -> Function {
    Function::partial(move |call| {
        let (counts, times) = (call.args[1].fixed::<i64>(), call.args[2].fixed::<T>());
        fixed_rows(call.rows, &data_type, |row| match (times.get(row), counts.get(row)) {
            (Some(time), Some(count)) => f(time, count).map(Some).ok_or_else(|| {
                EvalError::user(format!("TIMESTAMPADD of {count} units is beyond the range of the type"))
            }),
            _ => Ok(None),
        })
    })
}

/// Whole units from the first time to the second, towards zero; an INT, whose low bits are kept as in Java.
fn difference(unit: Unit, ty: &SqlType) -> Option<Function> {
    let (months, nanos) = (unit.months(), unit.nanos());
    months.or(nanos)?;
    let reader = Reader::of(ty);
    Some(Function::total(move |call| {
        let (from, to) = (&call.args[1], &call.args[2]);
        Ok(fixed_options(call.rows, &DataType::Int32, |row| {
            let (from, to) = (reader.get(from, row)?, reader.get(to, row)?);
            Some(match months {
                Some(months) => (months_between(from, to) / months) as i32,
                None => {
                    let span =
                        |at: DayTime| i128::from(at.days) * i128::from(NANOS_PER_DAY) + i128::from(at.nanos_of_day);
                    ((span(to) - span(from)) / i128::from(nanos?)) as i32
                }
            })
        }))
    }))
}

/// Whole months, by the calendar: from the 31st of January to the 28th of February is one.
fn months_between(from: DayTime, to: DayTime) -> i64 {
    let key = |at: DayTime| (at.days, at.nanos_of_day);
    if key(to) < key(from) {
        return -months_between(to, from);
    }
    let number = |at: DayTime| {
        let date = civil_from_days(at.days);
        date.year * 12 + date.month
    };
    let months = number(to) - number(from);
    let reached = (add_months(from.days, months), from.nanos_of_day);
    if reached > key(to) { months - 1 } else { months }
}

//! Calls of functions and operators.

use millstream_api::graph::functions::{Arg, FUNCTIONS, ScalarFunction};
use millstream_api::graph::{AggregateFunction, Expr, ExprKind, Literal, SqlType};

use super::expression::{Located, case, condition};
use super::{convert, literal};
use crate::ast::TimeUnit;
use crate::error::{Position, Result, SqlError, did_you_mean};

/// The aggregate of this name.
pub(super) fn aggregate_function(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "COUNT" => AggregateFunction::Count,
        "SUM" => AggregateFunction::Sum,
        "AVG" => AggregateFunction::Avg,
        "MIN" => AggregateFunction::Min,
        "MAX" => AggregateFunction::Max,
        _ => return None,
    })
}

/// A call as the user wrote it: rewritten where the function list has it in another form.
pub(super) fn bind(name: &str, mut args: Vec<Located>, position: Position) -> Result<Expr> {
    match name {
        "IF" => return bind_if(args, position),
        "NULLIF" => return bind_nullif(args, position),
        "TRIM" | "LTRIM" | "RTRIM" if args.len() == 1 => args.push(Located::at(literal::string(" "), position)),
        "UNIX_TIMESTAMP" if args.is_empty() => return typed("CURRENT_UNIX_TIMESTAMP", args, position),
        "EXTRACT" | "FLOOR_TO" | "CEIL_TO" | "TIMESTAMPADD" | "TIMESTAMPDIFF" => check_unit(name, &args)?,
        "IS NULL" | "IS NOT NULL" if args.iter().any(|a| a.expr.ty == SqlType::Null) => {
            return Ok(literal::boolean(name == "IS NULL"));
        }
        _ => {}
    }
    if let Some(unit) = unit_function(name) {
        exactly(name, 1, &args, position)?;
        args.insert(0, Located::at(literal::string(unit.name()), position));
        return typed("EXTRACT", args, position);
    }
    typed(name, args, position)
}

/// Functions that are EXTRACT by another name.
fn unit_function(name: &str) -> Option<TimeUnit> {
    Some(match name {
        "YEAR" => TimeUnit::Year,
        "QUARTER" => TimeUnit::Quarter,
        "MONTH" => TimeUnit::Month,
        "WEEK" => TimeUnit::Week,
        "DAYOFYEAR" => TimeUnit::DayOfYear,
        "DAYOFMONTH" => TimeUnit::Day,
        "DAYOFWEEK" => TimeUnit::DayOfWeek,
        "HOUR" => TimeUnit::Hour,
        "MINUTE" => TimeUnit::Minute,
        "SECOND" => TimeUnit::Second,
        _ => return None,
    })
}

/// FLOOR, CEIL, TIMESTAMPADD and TIMESTAMPDIFF know fewer units than EXTRACT.
fn check_unit(name: &str, args: &[Located]) -> Result<()> {
    const UNITS: &[&str] = &["YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "HOUR", "MINUTE", "SECOND", "MILLISECOND"];
    let Some(Located { expr: Expr { kind: ExprKind::Literal { value: Literal::String(unit) }, .. }, position }) =
        args.first()
    else {
        return Ok(());
    };
    if name == "EXTRACT" || UNITS.contains(&unit.as_str()) {
        return Ok(());
    }
    let shown = name.strip_suffix("_TO").unwrap_or(name);
    Err(SqlError::at(*position, format!("{shown} does not know the unit {unit}"))
        .hint(format!("it knows {}", UNITS.join(", "))))
}

fn exactly(name: &str, count: usize, args: &[Located], position: Position) -> Result<()> {
    if args.len() == count {
        return Ok(());
    }
    Err(SqlError::at(
        position,
        format!("{name} takes {count} argument{}, {} given", if count == 1 { "" } else { "s" }, args.len()),
    ))
}

fn bind_if(mut args: Vec<Located>, position: Position) -> Result<Expr> {
    exactly("IF", 3, &args, position)?;
    let (otherwise, then) = (args.pop(), args.pop().expect("three arguments"));
    let test = args.pop().expect("three arguments");
    let test = condition(test.expr, test.position, "IF")?;
    case(position, vec![(test, then)], otherwise)
}

fn bind_nullif(mut args: Vec<Located>, position: Position) -> Result<Expr> {
    exactly("NULLIF", 2, &args, position)?;
    let other = args.pop().expect("two arguments");
    let value = args.pop().expect("two arguments");
    let same = typed("=", vec![value.copied()?, other], position)?;
    case(position, vec![(same, Located::at(literal::null(), position))], Some(value))
}

/// A call of the function list, arguments cast to what its rule wants.
pub(super) fn typed(name: &str, args: Vec<Located>, position: Position) -> Result<Expr> {
    let Some(function) = ScalarFunction::find(name) else { return Err(no_such_function(name, position)) };
    check_arity(name, function, &args, position)?;
    let args = if is_comparison(function.name) { type_string_constants(args)? } else { args };
    let described: Vec<Arg<'_>> = args
        .iter()
        .map(|a| Arg {
            ty: &a.expr.ty,
            nullable: a.expr.nullable,
            literal: match &a.expr.kind {
                ExprKind::Literal { value } => Some(value),
                _ => None,
            },
        })
        .collect();
    let Some(signature) = function.signature(&described) else { return Err(no_match(name, function, &args, position)) };
    let nullable = function.nullable(&described, &signature.result);
    // MOD of integers has the type of its second argument, which always holds the remainder.
    let narrowed = (function.name == "%" && signature.result.is_integer() && args[1].expr.ty.is_integer())
        .then(|| args[1].expr.ty.clone());
    let args = args.into_iter().zip(&signature.args).map(|(a, ty)| convert::coerce(a.expr, ty)).collect();
    let call =
        Expr { ty: signature.result, nullable, kind: ExprKind::Call { function: function.name.to_owned(), args } };
    Ok(match narrowed {
        Some(ty) if ty != call.ty => convert::cast(call, ty, false),
        _ => call,
    })
}

fn check_arity(name: &str, function: &ScalarFunction, args: &[Located], position: Position) -> Result<()> {
    let (least, most) = (function.args_min, function.args_max);
    if (least..=most).contains(&args.len()) {
        return Ok(());
    }
    let expected = match (least, most) {
        (0, 0) => "no arguments".to_owned(),
        (1, 1) => "1 argument".to_owned(),
        (a, b) if a == b => format!("{a} arguments"),
        (a, b) if b == a + 1 => format!("{a} or {b} arguments"),
        (a, b) => format!("{a} to {b} arguments"),
    };
    Err(SqlError::at(position, format!("{name} takes {expected}, {} given", args.len())).hint(function.usage))
}

fn is_comparison(name: &str) -> bool {
    matches!(name, "=" | "<>" | "<" | "<=" | ">" | ">=" | "IN" | "IS DISTINCT FROM" | "IS NOT DISTINCT FROM")
}

/// String constants beside a date, time or timestamp are read as such.
fn type_string_constants(args: Vec<Located>) -> Result<Vec<Located>> {
    let Some(ty) = args.iter().map(|a| &a.expr.ty).find(|t| !t.is_string() && **t != SqlType::Null).cloned() else {
        return Ok(args);
    };
    args.into_iter()
        .map(|a| Ok(Located::at(convert::string_constant_as(a.expr, &ty, a.position)?, a.position)))
        .collect()
}

fn no_match(name: &str, function: &ScalarFunction, args: &[Located], position: Position) -> SqlError {
    let unit = matches!(name, "EXTRACT" | "FLOOR_TO" | "CEIL_TO" | "TIMESTAMPADD" | "TIMESTAMPDIFF");
    let types: Vec<String> = args.iter().skip(usize::from(unit)).map(|a| a.expr.ty.to_string()).collect();
    let name = name.strip_suffix("_TO").unwrap_or(name);
    let any = |is: fn(&SqlType) -> bool| args.iter().any(|a| is(&a.expr.ty));
    let hint = if name == "-" && args.iter().all(|a| a.expr.ty.is_timestamp()) {
        "use TIMESTAMPDIFF(unit, from, to)".to_owned()
    } else if is_comparison(function.name) && any(SqlType::is_string) {
        "CAST one side".to_owned()
    } else if any(|t| matches!(t, SqlType::Timestamp { .. })) && any(|t| matches!(t, SqlType::TimestampLtz { .. })) {
        "CAST one of TIMESTAMP and TIMESTAMP_LTZ to the other".to_owned()
    } else {
        function.usage.to_owned()
    };
    SqlError::at(position, format!("{name} cannot be applied to ({})", types.join(", "))).hint(hint)
}

fn no_such_function(name: &str, position: Position) -> SqlError {
    const AGGREGATES: &[&str] = &[
        "LISTAGG",
        "FIRST_VALUE",
        "LAST_VALUE",
        "COLLECT",
        "ARRAY_AGG",
        "STDDEV_POP",
        "STDDEV_SAMP",
        "STDDEV",
        "VAR_POP",
        "VAR_SAMP",
        "VARIANCE",
        "APPROX_COUNT_DISTINCT",
        "ROW_NUMBER",
        "RANK",
        "DENSE_RANK",
        "LEAD",
        "LAG",
        "NTILE",
        "CUME_DIST",
        "PERCENT_RANK",
        "JSON_OBJECTAGG",
        "JSON_ARRAYAGG",
        "PERCENTILE",
    ];
    if AGGREGATES.contains(&name) {
        return SqlError::unsupported(position, format!("the aggregate {name}"));
    }
    const REWRITTEN: &[&str] = &[
        "IF",
        "NULLIF",
        "YEAR",
        "MONTH",
        "DAYOFMONTH",
        "HOUR",
        "MINUTE",
        "SECOND",
        "COUNT",
        "SUM",
        "AVG",
        "MIN",
        "MAX",
    ];
    let known = FUNCTIONS.iter().map(|f| f.name).chain(REWRITTEN.iter().copied());
    let hint = match name {
        "LENGTH" | "LEN" => Some("use CHAR_LENGTH".to_owned()),
        "NVL" => Some("use COALESCE".to_owned()),
        "DATEDIFF" => Some("use TIMESTAMPDIFF(DAY, from, to)".to_owned()),
        "TUMBLE" | "HOP" | "SESSION" | "TUMBLE_START" | "TUMBLE_END" | "TUMBLE_ROWTIME" | "HOP_START" | "HOP_END"
        | "HOP_ROWTIME" => {
            Some("use the table function: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(c), INTERVAL '10' SECOND))".to_owned())
        }
        _ => did_you_mean(name, known),
    };
    SqlError::unsupported(position, format!("the function {name}")).hint_opt(hint)
}

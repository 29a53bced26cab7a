//! Expressions as people write them.

use std::fmt::Write as _;

use super::{Expr, ExprKind, Field, Literal, SqlType};

/// What a column is called where an expression over it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operand {
    pub text: String,
    /// It is an operation of its own: inside another one it stands in parentheses.
    pub infix: bool,
}

impl Operand {
    /// A name, a constant or a call.
    #[must_use]
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), infix: false }
    }
}

impl Expr {
    /// The expression as SQL over named columns.
    #[must_use]
    pub fn text(&self, input: &[Field]) -> String {
        let column = |i: usize| input.get(i).map_or_else(|| format!("${i}"), |f| f.name.clone());
        self.operand(&|i| Operand::plain(column(i))).text
    }

    /// The expression as SQL over columns that may be expressions themselves.
    #[must_use]
    pub fn operand(&self, column: &dyn Fn(usize) -> Operand) -> Operand {
        let text = |expr: &Expr| expr.operand(column).text;
        match &self.kind {
            ExprKind::Column { index } => column(*index),
            ExprKind::Literal { value } => Operand::plain(literal(value, &self.ty)),
            ExprKind::Cast { arg, try_cast } => {
                let cast = if *try_cast { "TRY_CAST" } else { "CAST" };
                Operand::plain(format!("{cast}({} AS {})", text(arg), self.ty))
            }
            ExprKind::Case { branches, otherwise } => {
                let mut all = "CASE".to_owned();
                for (when, then) in branches {
                    let _ = write!(all, " WHEN {} THEN {}", text(when), text(then));
                }
                if let Some(otherwise) = otherwise {
                    let _ = write!(all, " ELSE {}", text(otherwise));
                }
                Operand::plain(all + " END")
            }
            ExprKind::Call { function, args } => {
                let args: Vec<String> = args.iter().map(|a| parenthesised(a.operand(column))).collect();
                Operand { text: call(function, &args), infix: is_infix(function) }
            }
        }
    }
}

/// An argument; infix operators inside operators stand in parentheses.
fn parenthesised(operand: Operand) -> String {
    if operand.infix { format!("({})", operand.text) } else { operand.text }
}

fn is_infix(function: &str) -> bool {
    matches!(
        function,
        "AND"
            | "OR"
            | "="
            | "<>"
            | "<"
            | "<="
            | ">"
            | ">="
            | "+"
            | "-"
            | "*"
            | "/"
            | "%"
            | "||"
            | "LIKE"
            | "IN"
            | "IS DISTINCT FROM"
            | "IS NOT DISTINCT FROM"
    )
}

fn call(function: &str, args: &[String]) -> String {
    match (function, args) {
        ("IN", [value, list @ ..]) => format!("{value} IN ({})", list.join(", ")),
        ("LIKE", [value, pattern, escape]) => format!("{value} LIKE {pattern} ESCAPE {escape}"),
        ("NOT", [arg]) => format!("NOT {arg}"),
        ("NEGATE", [arg]) => format!("-{arg}"),
        (f, [arg]) if f.starts_with("IS ") => format!("{arg} {f}"),
        (f, args) if is_infix(f) => args.join(&format!(" {f} ")),
        (f, args) => {
            let plain: Vec<&str> = args.iter().map(|a| unparenthesised(a)).collect();
            format!("{f}({})", plain.join(", "))
        }
    }
}

/// Between commas an operand needs no parentheses of its own.
fn unparenthesised(text: &str) -> &str {
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else { return text };
    let mut depth = 0i32;
    for c in inner.chars() {
        depth += i32::from(c == '(') - i32::from(c == ')');
        if depth < 0 {
            return text;
        }
    }
    inner
}

fn literal(value: &Literal, ty: &SqlType) -> String {
    match value {
        Literal::Null => "NULL".to_owned(),
        Literal::Boolean(b) => b.to_string().to_uppercase(),
        Literal::Int(n) => n.to_string(),
        Literal::FloatBits(bits) => format!("{:?}", f64::from_bits(*bits)),
        Literal::Decimal(unscaled) => match ty {
            SqlType::Decimal { scale, .. } if *scale > 0 => decimal(unscaled, usize::from(*scale)),
            _ => unscaled.clone(),
        },
        Literal::String(s) => format!("'{}'", s.replace('\'', "''")),
        Literal::Bytes(bytes) => format!("X'{}'", bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Literal::Date(days) => format!("DATE '{}'", date(i64::from(*days))),
        Literal::Time(millis) => format!("TIME '{}'", clock(i64::from(*millis), 1000)),
        Literal::Timestamp(value) => timestamp(*value, ty),
        Literal::IntervalMillis(millis) => format!("INTERVAL {}", duration_text(*millis)),
        Literal::IntervalMonths(months) => format!("INTERVAL {months} month(s)"),
    }
}

/// The date of a day since 1970, proleptic Gregorian (Hinnant's algorithm).
fn date(days: i64) -> String {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `HH:mm:ss[.fraction]` of a time in units of which a second has `per_second`.
fn clock(value: i64, per_second: i64) -> String {
    let (seconds, fraction) = (value / per_second, value % per_second);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 {
        return text;
    }
    let digits = per_second.to_string().len() - 1;
    format!("{text}.{}", format!("{fraction:0digits$}").trim_end_matches('0'))
}

fn timestamp(value: i64, ty: &SqlType) -> String {
    let (name, precision) = match ty {
        SqlType::TimestampLtz { precision } => ("TIMESTAMP_LTZ", *precision),
        SqlType::Timestamp { precision } => ("TIMESTAMP", *precision),
        _ => ("TIMESTAMP", 3),
    };
    let per_second = match precision {
        0..=3 => 1000,
        4..=6 => 1_000_000,
        _ => 1_000_000_000,
    };
    let per_day = 86_400 * per_second;
    format!("{name} '{} {}'", date(value.div_euclid(per_day)), clock(value.rem_euclid(per_day), per_second))
}

fn decimal(unscaled: &str, scale: usize) -> String {
    let (sign, digits) = unscaled.strip_prefix('-').map_or(("", unscaled), |d| ("-", d));
    let padded = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// Milliseconds in the largest unit that divides them.
#[must_use]
pub fn duration_text(millis: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let unit = units.iter().find(|(size, _)| millis % size == 0 && millis != 0);
    unit.map_or_else(|| format!("{millis} ms"), |(size, name)| format!("{} {name}", millis / size))
}

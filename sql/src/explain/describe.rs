//! Transforms and expressions in a line.

use std::fmt::Write as _;

use millstream_api::graph::{
    AggregateCall, AggregateFunction, ChangelogMode, EdgeKind, Expr, ExprKind, Field, JobGraph, Literal, SinkConnector,
    SourceConnector, SqlType, Transform, TransformKind, Window, WindowColumn,
};

/// Columns of a transform's (first) input.
pub(super) fn input_fields<'a>(graph: &'a JobGraph, transform: &Transform) -> &'a [Field] {
    graph.inputs_of(transform.id).first().map_or(&[], |edge| &graph.transform(edge.from).output.fields)
}

/// `Calc(select=[...], where=[...])`
pub(super) fn transform(graph: &JobGraph, transform: &Transform) -> String {
    let input = input_fields(graph, transform);
    let output = &transform.output.fields;
    let name = &transform.name;
    match &transform.kind {
        TransformKind::Source(source) => {
            let scan: Vec<Field> = source.scan.iter().map(|c| c.field.clone()).collect();
            let columns: Vec<String> =
                source.projection.iter().zip(output).map(|(e, f)| aliased(&expression(e, &scan), &f.name)).collect();
            let mut parts = vec![format!("connector={}", source_connector(&source.connector))];
            parts.push(format!("columns=[{}]", columns.join(", ")));
            if let Some(watermark) = &source.watermark {
                parts.push(format!("watermark={}", expression(&watermark.expr, output)));
            }
            format!("{name}({})", parts.join(", "))
        }
        TransformKind::Calc { filter, projection } => {
            let select: Vec<String> =
                projection.iter().zip(output).map(|(e, f)| aliased(&expression(e, input), &f.name)).collect();
            let filter = filter.as_ref().map(|f| format!(", where=[{}]", expression(f, input))).unwrap_or_default();
            format!("{name}(select=[{}]{filter})", select.join(", "))
        }
        TransformKind::Union => format!("{name}(columns=[{}])", names(output)),
        TransformKind::WindowAssign { window } => format!("{name}({})", window_text(window, input)),
        TransformKind::LocalWindowAggregate { window, keys, aggregates } => {
            let keys = keys.iter().filter_map(|k| input.get(*k)).map(|f| f.name.as_str()).collect::<Vec<_>>();
            format!(
                "{name}(keys=[{}], {}, aggregates=[{}])",
                keys.join(", "),
                window_text(window, input),
                calls(aggregates, input)
            )
        }
        TransformKind::GlobalWindowAggregate { window, keys, aggregates, window_columns } => {
            let columns: Vec<&str> = window_columns.iter().map(|c| window_column(*c)).collect();
            let results: Vec<&str> = aggregates.iter().map(|a| a.output.name.as_str()).collect();
            format!(
                "{name}(keys=[{}], {}, aggregates=[{}], window=[{}])",
                names(keys),
                window_shape(window),
                results.join(", "),
                columns.join(", ")
            )
        }
        TransformKind::LocalGroupAggregate { keys, aggregates, .. } => {
            let keys = keys.iter().filter_map(|k| input.get(*k)).map(|f| f.name.as_str()).collect::<Vec<_>>();
            format!("{name}(keys=[{}], aggregates=[{}])", keys.join(", "), calls(aggregates, input))
        }
        TransformKind::GlobalGroupAggregate { keys, aggregates, mini_batch, state_ttl_ms } => {
            let results: Vec<&str> = aggregates.iter().map(|a| a.output.name.as_str()).collect();
            let mut text = format!("{name}(keys=[{}], aggregates=[{}]", names(keys), results.join(", "));
            if let Some(mini_batch) = mini_batch {
                let _ = write!(text, ", mini-batch=[{} ms, {} rows]", mini_batch.allow_latency_ms, mini_batch.size);
            }
            if let Some(ttl) = state_ttl_ms {
                let _ = write!(text, ", ttl=[{ttl} ms]");
            }
            text + ")"
        }
        TransformKind::Sink(sink) => {
            let key: Vec<&str> =
                sink.primary_key.iter().filter_map(|i| output.get(*i)).map(|f| f.name.as_str()).collect();
            let key = if key.is_empty() { String::new() } else { format!(", key=[{}]", key.join(", ")) };
            format!("{name}(connector={}, columns=[{}]{key})", sink_connector(&sink.connector), names(output))
        }
    }
}

/// `append`, `retract by [k]`
pub(super) fn changelog(transform: &Transform) -> String {
    match &transform.changelog {
        ChangelogMode::Append => "append".to_owned(),
        ChangelogMode::Retract { upsert_keys } => {
            let keys = upsert_keys.iter().filter_map(|i| transform.output.fields.get(*i)).map(|f| f.name.as_str());
            let keys = keys.collect::<Vec<_>>().join(", ");
            if keys.is_empty() { "retract".to_owned() } else { format!("retract by [{keys}]") }
        }
    }
}

/// `forward`, `hash by [k]`
pub(super) fn edge(graph: &JobGraph, from: millstream_api::ids::TransformId, kind: &EdgeKind) -> String {
    match kind {
        EdgeKind::Forward => "forward".to_owned(),
        EdgeKind::Rebalance => "rebalance".to_owned(),
        EdgeKind::Broadcast => "broadcast".to_owned(),
        EdgeKind::Hash { keys } if keys.is_empty() => "to one task".to_owned(),
        EdgeKind::Hash { keys } => {
            let fields = &graph.transform(from).output.fields;
            let names: Vec<&str> = keys.iter().filter_map(|k| fields.get(*k)).map(|f| f.name.as_str()).collect();
            format!("hash by [{}]", names.join(", "))
        }
    }
}

fn names(fields: &[Field]) -> String {
    fields.iter().map(|f| f.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn aliased(text: &str, name: &str) -> String {
    if text == name { text.to_owned() } else { format!("{text} AS {name}") }
}

pub(super) fn source_connector(connector: &SourceConnector) -> &'static str {
    match connector {
        SourceConnector::Kafka(_) => "kafka",
        SourceConnector::Filesystem(_) => "filesystem",
        SourceConnector::Datagen(_) => "datagen",
    }
}

pub(super) fn sink_connector(connector: &SinkConnector) -> &'static str {
    match connector {
        SinkConnector::Kafka(_) => "kafka",
        SinkConnector::UpsertKafka(_) => "upsert-kafka",
        SinkConnector::Print(_) => "print",
        SinkConnector::Blackhole => "blackhole",
    }
}

fn window_column(column: WindowColumn) -> &'static str {
    match column {
        WindowColumn::Start => "window_start",
        WindowColumn::End => "window_end",
        WindowColumn::Time => "window_time",
    }
}

fn window_text(window: &Window, input: &[Field]) -> String {
    let time = input.get(window.time_column).map_or("?", |f| f.name.as_str());
    format!("time=[{time}], {}", window_shape(window))
}

fn window_shape(window: &Window) -> String {
    let offset = if window.offset_ms == 0 { String::new() } else { format!(", offset={}", duration(window.offset_ms)) };
    if window.slide_ms == window.size_ms {
        format!("TUMBLE(size={}{offset})", duration(window.size_ms))
    } else {
        format!("HOP(size={}, slide={}{offset})", duration(window.size_ms), duration(window.slide_ms))
    }
}

/// Milliseconds in the largest unit that divides them.
fn duration(millis: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    let unit = units.iter().find(|(size, _)| millis % size == 0 && millis != 0);
    unit.map_or_else(|| format!("{millis} ms"), |(size, name)| format!("{} {name}", millis / size))
}

fn calls(aggregates: &[AggregateCall], input: &[Field]) -> String {
    let column = |i: usize| input.get(i).map_or("?", |f| f.name.as_str());
    let call = |a: &AggregateCall| {
        let function = match a.function {
            AggregateFunction::Count => "COUNT",
            AggregateFunction::Sum => "SUM",
            AggregateFunction::Avg => "AVG",
            AggregateFunction::Min => "MIN",
            AggregateFunction::Max => "MAX",
        };
        let filter = a.filter.map(|f| format!(" FILTER {}", column(f))).unwrap_or_default();
        format!("{function}({}){filter} AS {}", a.arg.map_or("*", column), a.output.name)
    };
    aggregates.iter().map(call).collect::<Vec<_>>().join(", ")
}

/// An expression as SQL over named columns.
pub(crate) fn expression(expr: &Expr, input: &[Field]) -> String {
    match &expr.kind {
        ExprKind::Column { index } => input.get(*index).map_or_else(|| format!("${index}"), |f| f.name.clone()),
        ExprKind::Literal { value } => literal(value, &expr.ty),
        ExprKind::Cast { arg, try_cast } => {
            format!("{}({} AS {})", if *try_cast { "TRY_CAST" } else { "CAST" }, expression(arg, input), expr.ty)
        }
        ExprKind::Case { branches, otherwise } => {
            let mut text = "CASE".to_owned();
            for (when, then) in branches {
                let _ = write!(text, " WHEN {} THEN {}", expression(when, input), expression(then, input));
            }
            if let Some(otherwise) = otherwise {
                let _ = write!(text, " ELSE {}", expression(otherwise, input));
            }
            text + " END"
        }
        ExprKind::Call { function, args } => {
            call(function, &args.iter().map(|a| operand(a, input)).collect::<Vec<_>>())
        }
    }
}

/// An argument; infix operators inside operators stand in parentheses.
fn operand(expr: &Expr, input: &[Field]) -> String {
    let text = expression(expr, input);
    match &expr.kind {
        ExprKind::Call { function, .. } if is_infix(function) => format!("({text})"),
        _ => text,
    }
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
        Literal::IntervalMillis(millis) => format!("INTERVAL {}", duration(*millis)),
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

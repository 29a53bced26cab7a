//! Every function with known results of Flink, over constants and over columns; laziness; errors that name the value.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int8Array, RecordBatch};
use arrow_select::concat::concat;
use millstream_api::graph::functions::{Arg, FUNCTIONS, Nulls, ScalarFunction};
use millstream_api::graph::{Expr, ExprKind, Field, Literal, Schema, SqlType};

use super::{CompiledExpr, EvalContext, EvalError};
use crate::expr::cast::read_timestamp;

/// 2026-11-21 09:21:34.567
const NOW_MS: i64 = 1_795_252_894_567;
const CX: EvalContext = EvalContext { processing_time_ms: NOW_MS };
const TS3: SqlType = SqlType::Timestamp { precision: 3 };
const LTZ3: SqlType = SqlType::TimestampLtz { precision: 3 };

/// A typed constant.
#[derive(Clone, Debug)]
struct Value(SqlType, Literal);

fn s(text: &str) -> Value {
    Value(SqlType::STRING, Literal::String(text.to_owned()))
}
fn i(v: i64) -> Value {
    Value(SqlType::Int, Literal::Int(v))
}
fn l(v: i64) -> Value {
    Value(SqlType::BigInt, Literal::Int(v))
}
fn f(v: f64) -> Value {
    Value(SqlType::Double, Literal::FloatBits(v.to_bits()))
}
fn b(v: bool) -> Value {
    Value(SqlType::Boolean, Literal::Boolean(v))
}
/// A DECIMAL by its unscaled value.
fn d(unscaled: i128, precision: u8, scale: u8) -> Value {
    Value(SqlType::Decimal { precision, scale }, Literal::Decimal(unscaled.to_string()))
}
fn ms(text: &str) -> i64 {
    read_timestamp(text).unwrap().ticks(1000).unwrap()
}
fn ts(text: &str) -> Value {
    Value(TS3, Literal::Timestamp(ms(text)))
}
fn date(text: &str) -> Value {
    Value(SqlType::Date, Literal::Date((ms(text) / 86_400_000) as i32))
}
fn time(text: &str) -> Value {
    Value(SqlType::Time { precision: 3 }, Literal::Time(ms(&format!("1970-01-01 {text}")) as i32))
}
fn days(n: i64) -> Value {
    Value(SqlType::IntervalDayTime, Literal::IntervalMillis(n * 86_400_000))
}
fn months(n: i32) -> Value {
    Value(SqlType::IntervalYearMonth, Literal::IntervalMonths(n))
}
fn null(ty: SqlType) -> Value {
    Value(ty, Literal::Null)
}

fn literal(value: &Value) -> Expr {
    let Value(ty, literal) = value;
    Expr { ty: ty.clone(), nullable: *literal == Literal::Null, kind: ExprKind::Literal { value: literal.clone() } }
}

fn cast(arg: Expr, to: SqlType, try_cast: bool) -> Expr {
    if arg.ty == to {
        return arg;
    }
    Expr { ty: to, nullable: true, kind: ExprKind::Cast { arg: Box::new(arg), try_cast } }
}

/// A call as the planner makes it: typed by the table, arguments cast to the signature.
fn call(name: &str, args: Vec<Expr>) -> Expr {
    let function = ScalarFunction::find(name).unwrap_or_else(|| panic!("no function {name}"));
    let infos: Vec<Arg<'_>> = args
        .iter()
        .map(|a| Arg {
            ty: &a.ty,
            nullable: a.nullable,
            literal: match &a.kind {
                ExprKind::Literal { value } => Some(value),
                _ => None,
            },
        })
        .collect();
    let signature = function.signature(&infos).unwrap_or_else(|| panic!("{name} does not take {infos:?}"));
    let nullable = function.nullable(&infos, &signature.result);
    let args = args.into_iter().zip(signature.args).map(|(a, ty)| cast(a, ty, false)).collect();
    Expr { ty: signature.result, nullable, kind: ExprKind::Call { function: function.name.to_owned(), args } }
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let ty = branches[0].1.ty.clone();
    Expr { ty, nullable: true, kind: ExprKind::Case { branches, otherwise: otherwise.map(Box::new) } }
}

fn column(index: usize, ty: SqlType) -> Expr {
    Expr::column(index, ty, true)
}

/// A column of these values.
fn array(values: &[Value]) -> ArrayRef {
    let empty = RecordBatch::try_new_with_options(
        Arc::new(arrow_schema::Schema::empty()),
        vec![],
        &arrow_array::RecordBatchOptions::new().with_row_count(Some(1)),
    )
    .unwrap();
    let parts: Vec<ArrayRef> = values
        .iter()
        .map(|v| CompiledExpr::compile(&literal(v), &Schema::default()).unwrap().evaluate(&empty, &CX).unwrap())
        .collect();
    concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap()
}

/// A batch of columns, each with its values.
fn batch(columns: &[Vec<Value>]) -> (Schema, RecordBatch) {
    let fields = columns.iter().enumerate().map(|(at, c)| Field::new(format!("c{at}"), c[0].0.clone(), true)).collect();
    let schema = Schema::new(fields);
    let arrays = columns.iter().map(|c| array(c)).collect();
    let batch = RecordBatch::try_new(schema.arrow(), arrays).unwrap();
    (schema, batch)
}

/// The rows as Flink prints them.
fn texts(array: &ArrayRef, ty: &SqlType) -> Vec<String> {
    let text = super::cast::Cast::new(ty, &SqlType::STRING, false).unwrap().apply(array).unwrap();
    text.as_string::<i32>().iter().map(|t| t.unwrap_or("NULL").to_owned()).collect()
}

fn run(expr: &Expr, schema: &Schema, batch: &RecordBatch) -> Result<Vec<String>, String> {
    let compiled = CompiledExpr::compile(expr, schema).map_err(|e| e.to_string())?;
    let result = compiled.evaluate(batch, &CX).map_err(|e| e.to_string())?;
    assert_eq!(result.len(), batch.num_rows());
    assert_eq!(result.data_type(), &expr.ty.arrow());
    result.to_data().validate_full().unwrap();
    Ok(texts(&result, &expr.ty))
}

/// Which arguments of these functions are only ever constants.
fn constant_args(name: &str) -> &'static [usize] {
    match name {
        "EXTRACT" | "FLOOR_TO" | "CEIL_TO" | "TIMESTAMPADD" | "TIMESTAMPDIFF" => &[0],
        // The result's type depends on it.
        "ROUND" | "TRUNCATE" => &[1],
        _ => &[],
    }
}

/// The result of a call over constants, the same over columns, and over every mixture of one column and constants.
fn outcome(name: &str, args: &[Value]) -> String {
    let (nothing, one) = batch(&[vec![i(0), i(0), i(0)]]);
    let constant = run(&call(name, args.iter().map(literal).collect()), &nothing, &one);
    let expected = match &constant {
        Ok(rows) => {
            assert!(rows.iter().all(|r| *r == rows[0]));
            rows[0].clone()
        }
        Err(error) => format!("Err({error})"),
    };
    if args.is_empty() {
        return expected;
    }
    // Rows: the values, NULLs, the values.
    let columns: Vec<Vec<Value>> = args.iter().map(|v| vec![v.clone(), null(v.0.clone()), v.clone()]).collect();
    let (schema, rows) = batch(&columns);
    let only = (0..args.len()).map(|at| (0..args.len()).map(|other| other == at).collect::<Vec<_>>());
    for as_column in only.chain([vec![true; args.len()]]) {
        let mixed: Vec<Expr> =
            args.iter()
                .enumerate()
                .map(|(at, v)| {
                    if as_column[at] && !constant_args(name).contains(&at) {
                        column(at, v.0.clone())
                    } else {
                        literal(v)
                    }
                })
                .collect();
        let found = match run(&call(name, mixed), &schema, &rows) {
            Ok(found) => {
                assert_eq!(found[0], found[2]);
                found[0].clone()
            }
            Err(error) => format!("Err({error})"),
        };
        assert_eq!(found, expected, "{name} {args:?} as columns {as_column:?}");
    }
    expected
}

fn check(name: &str, cases: &[(&[Value], &str)]) {
    for (args, expected) in cases {
        let found = outcome(name, args);
        let matches = found == *expected
            || (expected.starts_with("Err") && found.starts_with("Err") && found.contains(&expected[3..]));
        assert!(matches, "{name} {args:?}: {found}, expected {expected}");
    }
}

#[test]
fn logic_is_three_valued() {
    let n = || null(SqlType::Boolean);
    check(
        "AND",
        &[
            (&[b(true), b(true)], "TRUE"),
            (&[b(true), n()], "NULL"),
            (&[n(), b(false)], "FALSE"),
            (&[b(true), b(true), b(false)], "FALSE"),
        ],
    );
    check("OR", &[(&[b(false), n()], "NULL"), (&[n(), b(true)], "TRUE"), (&[b(false), b(false)], "FALSE")]);
    check("NOT", &[(&[b(true)], "FALSE"), (&[n()], "NULL")]);
    check("IS TRUE", &[(&[b(true)], "TRUE"), (&[n()], "FALSE")]);
    check("IS NOT TRUE", &[(&[b(true)], "FALSE"), (&[n()], "TRUE")]);
    check("IS FALSE", &[(&[b(false)], "TRUE"), (&[n()], "FALSE")]);
    check("IS NOT FALSE", &[(&[b(false)], "FALSE"), (&[n()], "TRUE")]);
    check("IS NULL", &[(&[s("")], "FALSE"), (&[null(TS3)], "TRUE")]);
    check("IS NOT NULL", &[(&[i(1)], "TRUE"), (&[null(SqlType::Int)], "FALSE")]);
}

#[test]
fn comparison_is_javas() {
    check(
        "=",
        &[
            (&[i(1), l(1)], "TRUE"),
            (&[f(f64::NAN), f(f64::NAN)], "FALSE"),
            (&[f(0.0), f(-0.0)], "TRUE"),
            (&[s("a"), s("A")], "FALSE"),
            (&[d(150, 5, 2), d(15, 5, 1)], "TRUE"),
            (&[d(10i128.pow(37), 38, 0), d(10i128.pow(37), 38, 38)], "FALSE"),
            (&[i(1), null(SqlType::Int)], "NULL"),
            (&[ts("2026-01-01"), date("2026-01-01")], "TRUE"),
        ],
    );
    check("<>", &[(&[f(f64::NAN), f(f64::NAN)], "TRUE"), (&[i(1), i(2)], "TRUE")]);
    check(
        "<",
        &[
            (&[i(-1), i(0)], "TRUE"),
            (&[s("Z"), s("a")], "TRUE"),
            (&[s("\u{ffff}"), s("\u{10000}")], "TRUE"),
            (&[b(false), b(true)], "TRUE"),
            (&[d(1, 38, 38), d(1, 38, 0)], "TRUE"),
        ],
    );
    check("<=", &[(&[f(f64::NAN), f(1.0)], "FALSE"), (&[i(1), i(1)], "TRUE")]);
    check(">", &[(&[days(2), days(1)], "TRUE")]);
    check(">=", &[(&[time("10:00:00"), time("09:00:00")], "TRUE")]);
    check(
        "IS DISTINCT FROM",
        &[
            (&[i(1), null(SqlType::Int)], "TRUE"),
            (&[null(SqlType::Int), null(SqlType::Int)], "FALSE"),
            (&[i(1), i(1)], "FALSE"),
        ],
    );
    check("IS NOT DISTINCT FROM", &[(&[null(SqlType::Int), null(SqlType::Int)], "TRUE"), (&[s("a"), s("b")], "FALSE")]);
    check(
        "IN",
        &[(&[i(2), i(1), i(2)], "TRUE"), (&[i(3), i(1), null(SqlType::Int)], "NULL"), (&[i(3), i(1), i(2)], "FALSE")],
    );
    check(
        "GREATEST",
        &[
            (&[i(1), i(3), i(2)], "3"),
            (&[s("a"), s("b")], "b"),
            (&[i(1), null(SqlType::Int)], "NULL"),
            (&[null(SqlType::Int), i(1)], "NULL"),
            (&[d(15, 2, 1), i(2)], "2.0"),
        ],
    );
    check("LEAST", &[(&[ts("2026-01-02"), ts("2026-01-01")], "2026-01-01 00:00:00.000"), (&[f(1.5)], "1.5")]);
    check(
        "COALESCE",
        &[
            (&[null(SqlType::Int), i(2), i(3)], "2"),
            (&[null(SqlType::Int), null(SqlType::Int)], "NULL"),
            (&[s("x"), s("y")], "x"),
        ],
    );
}

#[test]
fn integers_wrap_and_division_by_zero_fails() {
    check(
        "+",
        &[
            (&[i(2_147_483_647), i(1)], "-2147483648"),
            (&[i(1), l(2)], "3"),
            (&[f(0.1), f(0.2)], "0.30000000000000004"),
            (&[i(1), null(SqlType::Int)], "NULL"),
        ],
    );
    check("-", &[(&[l(i64::MIN), l(1)], "9223372036854775807")]);
    check("*", &[(&[i(65_536), i(65_536)], "0")]);
    check(
        "/",
        &[
            (&[i(-7), i(2)], "-3"),
            (&[i(1), i(0)], "Errdivision by zero"),
            (&[null(SqlType::Int), i(0)], "NULL"),
            (&[i(i64::from(i32::MIN)), i(-1)], "-2147483648"),
            (&[f(1.0), f(0.0)], "Infinity"),
        ],
    );
    check(
        "%",
        &[
            (&[i(-7), i(3)], "-1"),
            (&[i(7), i(-3)], "1"),
            (&[i(7), i(0)], "Errdivision by zero"),
            (&[f(-7.5), f(2.0)], "-1.5"),
        ],
    );
    check("NEGATE", &[(&[i(i64::from(i32::MIN))], "-2147483648"), (&[f(0.0)], "-0.0"), (&[months(3)], "-0-03")]);
    check("ABS", &[(&[l(i64::MIN)], "-9223372036854775808"), (&[d(-15, 3, 1)], "1.5")]);
    check("SIGN", &[(&[i(-9)], "-1"), (&[f(-0.0)], "-0.0"), (&[d(-15, 3, 1)], "-1.0")]);
}

#[test]
fn decimals_are_exact_and_round_half_up() {
    check(
        "+",
        &[
            (&[d(1050, 10, 2), d(1_005, 5, 3)], "11.505"),
            (&[d(10i128.pow(38) - 1, 38, 0), d(1, 38, 0)], "NULL"),
            (&[i(1), d(15, 3, 1)], "2.5"),
        ],
    );
    check("-", &[(&[d(100, 3, 2), d(1, 3, 2)], "0.99")]);
    check(
        "*",
        &[
            (&[d(150, 5, 2), d(150, 5, 2)], "2.2500"),
            (&[d(10i128.pow(37), 38, 10), d(10i128.pow(37), 38, 10)], "NULL"),
            (&[d(123_456_789_012_345_678_901_234_567_890, 38, 10), d(2, 38, 10)], "2469135780.246914"),
        ],
    );
    check(
        "/",
        &[
            (&[d(100, 10, 2), d(300, 10, 2)], "0.3333333333333"),
            (&[d(200, 10, 2), d(300, 10, 2)], "0.6666666666667"),
            (&[d(-200, 10, 2), d(300, 10, 2)], "-0.6666666666667"),
            (&[d(1, 5, 2), d(0, 5, 2)], "Errdivision by zero"),
            (&[d(10i128.pow(37), 38, 0), d(1, 38, 38)], "NULL"),
        ],
    );
    check("%", &[(&[d(-750, 5, 2), d(2, 5, 0)], "-1.50"), (&[d(1, 5, 2), d(0, 5, 2)], "Errdivision by zero")]);
}

#[test]
fn rounding_keeps_to_the_digits() {
    check("CEIL", &[(&[f(-1.5)], "-1.0"), (&[d(151, 4, 2)], "2"), (&[d(-151, 4, 2)], "-1"), (&[i(3)], "3")]);
    check("FLOOR", &[(&[f(-1.5)], "-2.0"), (&[d(199, 4, 2)], "1"), (&[d(-101, 4, 2)], "-2")]);
    check(
        "ROUND",
        &[
            (&[f(2.675), i(2)], "2.68"),
            (&[f(-2.5)], "-3.0"),
            (&[d(12_345, 6, 3), i(2)], "12.35"),
            (&[d(12_345, 6, 3)], "12"),
            (&[i(1550), i(-2)], "1600"),
            (&[i(55), i(-5)], "0"),
            (&[f(f64::NAN), i(1)], "NaN"),
            (&[d(12_345, 6, 3), i(9)], "12.345"),
        ],
    );
    check(
        "TRUNCATE",
        &[
            (&[f(42.324), i(2)], "42.32"),
            (&[f(-42.329), i(2)], "-42.32"),
            (&[d(-1999, 5, 3), i(1)], "-1.9"),
            (&[i(1599), i(-2)], "1500"),
        ],
    );
    check("SQRT", &[(&[i(9)], "3.0"), (&[f(-1.0)], "NaN")]);
    check("POWER", &[(&[i(2), i(10)], "1024.0")]);
    check("EXP", &[(&[i(0)], "1.0")]);
    check("LN", &[(&[f(1.0)], "0.0"), (&[f(0.0)], "-Infinity")]);
    check("LOG10", &[(&[i(1000)], "3.0")]);
    check("LOG2", &[(&[i(8)], "3.0")]);
    check("LOG", &[(&[f(1.0)], "0.0"), (&[i(2), i(16)], "4.0")]);
}

#[test]
fn strings_count_characters() {
    check("UPPER", &[(&[s("straße é")], "STRASSE É"), (&[null(SqlType::STRING)], "NULL")]);
    check("LOWER", &[(&[s("ÀB")], "àb")]);
    check("INITCAP", &[(&[s("hello wORLD-x 1a")], "Hello World-X 1a")]);
    check("TRIM", &[(&[s("  a b "), s(" ")], "a b"), (&[s("xyaxy"), s("yx")], "a")]);
    check("LTRIM", &[(&[s("  a "), s(" ")], "a ")]);
    check("RTRIM", &[(&[s(" a  "), s(" ")], " a")]);
    check(
        "SUBSTRING",
        &[
            (&[s("héllo"), i(2), i(3)], "éll"),
            (&[s("hello"), i(-3), i(2)], "ll"),
            (&[s("hello"), i(0), i(2)], "he"),
            (&[s("hello"), i(6)], ""),
            (&[s("hello"), i(-6)], ""),
            (&[s("hello"), i(2)], "ello"),
            (&[s("hello"), i(2), i(-1)], "NULL"),
            (&[s("hello"), i(2), i(0)], ""),
        ],
    );
    check("LEFT", &[(&[s("日本語"), i(2)], "日本"), (&[s("a"), i(-1)], "")]);
    check("RIGHT", &[(&[s("日本語"), i(2)], "本語"), (&[s("a"), i(5)], "a")]);
    check("||", &[(&[s("a"), s("b")], "ab"), (&[s("a"), null(SqlType::STRING)], "NULL")]);
    check("CONCAT", &[(&[s("a"), s("b"), s("c")], "abc"), (&[s("a"), null(SqlType::STRING)], "NULL")]);
    check(
        "CONCAT_WS",
        &[(&[s("-"), s("a"), null(SqlType::STRING), s("b")], "a-b"), (&[null(SqlType::STRING), s("a")], "NULL")],
    );
    check("CHAR_LENGTH", &[(&[s("日本語")], "3"), (&[s("")], "0")]);
    check("REPLACE", &[(&[s("banana"), s("an"), s("x")], "bxxa"), (&[s("ab"), s(""), s("-")], "-a-b-")]);
    check("POSITION", &[(&[s("l"), s("héllo")], "3"), (&[s("z"), s("a")], "0"), (&[s(""), s("a")], "1")]);
    check(
        "LOCATE",
        &[
            (&[s("l"), s("hello"), i(4)], "4"),
            (&[s("h"), s("hello"), i(0)], "1"),
            (&[s(""), s("hello"), i(9)], "1"),
            (&[s("o"), s("hello")], "5"),
        ],
    );
    check("INSTR", &[(&[s("hello"), s("l")], "3")]);
    check(
        "LPAD",
        &[
            (&[s("hi"), i(5), s("ab")], "abahi"),
            (&[s("hello"), i(2), s("x")], "he"),
            (&[s("hi"), i(-1), s("x")], "NULL"),
            (&[s("hi"), i(5), s("")], "NULL"),
            (&[s("hi"), i(2_000_000_000), s("x")], "Err16 MiB"),
        ],
    );
    check("RPAD", &[(&[s("é"), i(3), s("ab")], "éab")]);
    check("REVERSE", &[(&[s("añb")], "bña")]);
    check("REPEAT", &[(&[s("ab"), i(2)], "abab"), (&[s("ab"), i(0)], ""), (&[s("ab"), i(2_000_000_000)], "Err16 MiB")]);
    check(
        "SPLIT_INDEX",
        &[
            (&[s("a,b,,c"), s(","), i(2)], ""),
            (&[s("a,b"), s(","), i(2)], "NULL"),
            (&[s("a,b"), s(","), i(-1)], "NULL"),
            (&[s(""), s(","), i(0)], "NULL"),
            (&[s("a||b"), s("||"), i(1)], "b"),
        ],
    );
    check("STARTSWITH", &[(&[s("abc"), s("ab")], "TRUE"), (&[s("abc"), s("")], "TRUE")]);
    check("ENDSWITH", &[(&[s("abc"), s("bc")], "TRUE"), (&[s("abc"), s("x")], "FALSE")]);
    check("ASCII", &[(&[s("abc")], "97"), (&[s("")], "0"), (&[s("é")], "-61")]);
    check("MD5", &[(&[s("abc")], "900150983cd24fb0d6963f7d28e17f72")]);
    check("SHA256", &[(&[s("")], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]);
}

#[test]
fn patterns_are_prepared_or_taken_from_the_row() {
    check(
        "LIKE",
        &[
            (&[s("abc"), s("a%")], "TRUE"),
            (&[s("abc"), s("_b_")], "TRUE"),
            (&[s("a%"), s("a!%"), s("!")], "TRUE"),
            (&[s("a"), null(SqlType::STRING)], "NULL"),
            (&[s("a"), s("a!"), s("!")], "Errinvalid escape sequence"),
        ],
    );
    check("REGEXP", &[(&[s("foobar"), s("o+b")], "TRUE"), (&[s("x"), s("")], "FALSE"), (&[s("x"), s("^y")], "FALSE")]);
    check(
        "REGEXP_EXTRACT",
        &[
            (&[s("foothebar"), s("foo(.*?)(bar)"), i(2)], "bar"),
            (&[s("foothebar"), s("foo(.*?)(bar)"), i(3)], "NULL"),
            (&[s("foothebar"), s("foo.*")], "foothebar"),
            (&[s("a"), s("b"), i(0)], "NULL"),
        ],
    );
    check(
        "REGEXP_REPLACE",
        &[(&[s("foobar"), s("oo|ar"), s("")], "fb"), (&[s("foobar"), s("oo|ar"), s("$1")], "f$1b$1")],
    );
    let bad = call("REGEXP", vec![column(0, SqlType::STRING), literal(&s("(?=x)"))]);
    let error = CompiledExpr::compile(&bad, &batch(&[vec![s("a")]]).0).unwrap_err();
    assert!(error.to_string().contains("'(?=x)' cannot be used"), "{error}");
    let (schema, rows) = batch(&[vec![s("a")], vec![s("(")]]);
    let from_row = call("REGEXP", vec![column(0, SqlType::STRING), column(1, SqlType::STRING)]);
    assert!(run(&from_row, &schema, &rows).unwrap_err().contains("'(' is not a regular expression"));
}

#[test]
fn times_have_fields() {
    let at = || ts("2026-11-21 09:21:34.567");
    let fields = [
        ("EPOCH", "1795252894"),
        ("MILLENNIUM", "3"),
        ("CENTURY", "21"),
        ("DECADE", "202"),
        ("YEAR", "2026"),
        ("ISOYEAR", "2026"),
        ("QUARTER", "4"),
        ("MONTH", "11"),
        ("WEEK", "47"),
        ("DAY", "21"),
        ("DOW", "7"),
        ("ISODOW", "6"),
        ("DOY", "325"),
        ("HOUR", "9"),
        ("MINUTE", "21"),
        ("SECOND", "34"),
        ("MILLISECOND", "567"),
        ("MICROSECOND", "567000"),
        ("NANOSECOND", "567000000"),
    ];
    for (unit, expected) in fields {
        check("EXTRACT", &[(&[s(unit), at()], expected)]);
    }
    check(
        "EXTRACT",
        &[
            (&[s("DAY"), date("2026-02-03")], "3"),
            (&[s("MINUTE"), time("10:20:30")], "20"),
            (&[s("HOUR"), Value(SqlType::IntervalDayTime, Literal::IntervalMillis(90_000_000))], "1"),
            (&[s("YEAR"), months(30)], "2"),
            (&[s("YEAR"), ts("1969-12-31 23:00:00")], "1969"),
            (&[s("DAY"), null(TS3)], "NULL"),
            (&[s("YEAR"), days(1)], "Errhas no unit"),
        ],
    );
}

#[test]
fn times_are_cut_and_moved() {
    let at = || ts("2026-11-18 09:21:34.567");
    for (unit, floor, ceil) in [
        ("YEAR", "2026-01-01 00:00:00.000", "2027-01-01 00:00:00.000"),
        ("QUARTER", "2026-10-01 00:00:00.000", "2027-01-01 00:00:00.000"),
        ("MONTH", "2026-11-01 00:00:00.000", "2026-12-01 00:00:00.000"),
        ("WEEK", "2026-11-15 00:00:00.000", "2026-11-22 00:00:00.000"),
        ("DAY", "2026-11-18 00:00:00.000", "2026-11-19 00:00:00.000"),
        ("HOUR", "2026-11-18 09:00:00.000", "2026-11-18 10:00:00.000"),
        ("MINUTE", "2026-11-18 09:21:00.000", "2026-11-18 09:22:00.000"),
        ("SECOND", "2026-11-18 09:21:34.000", "2026-11-18 09:21:35.000"),
        ("MILLISECOND", "2026-11-18 09:21:34.567", "2026-11-18 09:21:34.567"),
    ] {
        check("FLOOR_TO", &[(&[s(unit), at()], floor)]);
        check("CEIL_TO", &[(&[s(unit), at()], ceil)]);
    }
    check(
        "FLOOR_TO",
        &[(&[s("MONTH"), date("2026-11-18")], "2026-11-01"), (&[s("MINUTE"), time("10:20:30")], "10:20:00.0")],
    );
    check(
        "CEIL_TO",
        &[
            (&[s("HOUR"), time("23:20:30")], "00:00:00.0"),
            (&[s("YEAR"), ts("2026-01-01")], "2026-01-01 00:00:00.000"),
            (&[s("DAY"), ts("1969-12-31 12:00:00")], "1970-01-01 00:00:00.000"),
        ],
    );
    check(
        "TIMESTAMPADD",
        &[
            (&[s("MONTH"), i(1), ts("2026-01-31")], "2026-02-28 00:00:00.000"),
            (&[s("SECOND"), i(-1), ts("2026-01-01")], "2025-12-31 23:59:59.000"),
            (&[s("WEEK"), i(1), date("2026-01-01")], "2026-01-08"),
            (&[s("HOUR"), i(1), date("2026-01-01")], "2026-01-01 01:00:00.000"),
            (&[s("YEAR"), l(i64::MAX), ts("2026-01-01")], "Errbeyond the range"),
            (&[s("YEAR"), l(i64::MAX / 12), date("2026-01-01")], "Errbeyond the range"),
            (&[s("DAY"), l(i64::MIN), date("2026-01-01")], "Errbeyond the range"),
        ],
    );
    check(
        "TIMESTAMPDIFF",
        &[
            (&[s("MONTH"), ts("2026-01-31"), ts("2026-02-28")], "1"),
            (&[s("MONTH"), ts("2026-01-15 12:00:00"), ts("2026-02-15 11:59:59")], "0"),
            (&[s("YEAR"), ts("2026-01-01"), ts("2020-06-01")], "-5"),
            (&[s("DAY"), ts("2026-01-01 12:00:00"), ts("2026-01-03 11:00:00")], "1"),
            (&[s("SECOND"), date("2026-01-01"), ts("2025-12-31 23:59:00")], "-60"),
        ],
    );
    check(
        "+",
        &[
            (&[ts("2026-01-31"), months(1)], "2026-02-28 00:00:00.000"),
            (&[days(1), ts("2026-01-31")], "2026-02-01 00:00:00.000"),
            (&[date("2026-01-31"), days(1)], "2026-02-01"),
            (&[time("23:00:00"), Value(SqlType::IntervalDayTime, Literal::IntervalMillis(7_200_000))], "01:00:00.0"),
            (&[days(1), days(2)], "+3 00:00:00.000"),
        ],
    );
    check(
        "-",
        &[
            (&[ts("2026-03-31"), months(1)], "2026-02-28 00:00:00.000"),
            (
                &[ts("2026-01-01 00:00:04"), Value(SqlType::IntervalDayTime, Literal::IntervalMillis(4_000))],
                "2026-01-01 00:00:00.000",
            ),
            (&[date("2026-01-01"), months(12)], "2025-01-01"),
        ],
    );
    check("*", &[(&[days(2), l(3)], "+6 00:00:00.000"), (&[i(2), months(7)], "+1-02")]);
}

#[test]
fn times_are_read_and_written() {
    let at = || ts("2026-11-21 09:21:34.567");
    check(
        "DATE_FORMAT",
        &[
            (&[at(), s("yyyy-MM-dd'T'HH:mm:ss.SSS")], "2026-11-21T09:21:34.567"),
            (&[s("2026-11-21 09:21:34"), s("dd MMM yy")], "21 Nov 26"),
            (&[at(), s("yyyy ww")], "Err'w'"),
            (&[null(TS3), s("yyyy")], "NULL"),
        ],
    );
    check(
        "TO_TIMESTAMP",
        &[
            (&[s("2026-11-21 09:21:34.567")], "2026-11-21 09:21:34.567"),
            (&[s("2026-11-21")], "2026-11-21 00:00:00.000"),
            (&[s("nonsense")], "NULL"),
            (&[s(" 2026-11-21")], "NULL"),
            (&[s("2026-11-20 24:00:00")], "2026-11-21 00:00:00.000"),
            (&[s("21/11/2026 09"), s("dd/MM/yyyy HH")], "2026-11-21 09:00:00.000"),
            (&[s("1999-9-10 05:20:10"), s("yyyyMMdd")], "1999-09-10 05:20:10.000"),
        ],
    );
    check(
        "TO_TIMESTAMP_LTZ",
        &[
            (&[l(1), i(0)], "1970-01-01 00:00:01.000"),
            (&[l(1_500), i(3)], "1970-01-01 00:00:01.500"),
            (&[l(i64::MAX), i(0)], "NULL"),
            (&[l(253_402_300_800_000), i(3)], "NULL"),
            (&[l(1), i(6)], "Errmust be 0 or 3"),
            (&[s("1970-01-01 00:00:01")], "1970-01-01 00:00:01.000"),
        ],
    );
    check(
        "TO_DATE",
        &[(&[s("2026-11-21")], "2026-11-21"), (&[s("x")], "NULL"), (&[s("21.11.2026"), s("dd.MM.yyyy")], "2026-11-21")],
    );
    check(
        "UNIX_TIMESTAMP",
        &[
            (&[s("1970-01-01 00:01:00")], "60"),
            (&[s("x")], "-9223372036854775808"),
            (&[s("02-01-1970"), s("dd-MM-yyyy")], "86400"),
        ],
    );
    check("FROM_UNIXTIME", &[(&[l(60)], "1970-01-01 00:01:00"), (&[l(0), s("yyyy")], "1970")]);
    check("CURRENT_TIMESTAMP", &[(&[], "2026-11-21 09:21:34.567")]);
    check("LOCALTIMESTAMP", &[(&[], "2026-11-21 09:21:34.567")]);
    check("PROCTIME", &[(&[], "2026-11-21 09:21:34.567")]);
    check("CURRENT_DATE", &[(&[], "2026-11-21")]);
    check("CURRENT_TIME", &[(&[], "09:21:34")]);
    check("CURRENT_UNIX_TIMESTAMP", &[(&[], "1795252894")]);
}

/// `CAST(value AS to)` over a constant and over a column, then printed.
fn casted(value: &Value, to: &SqlType, try_cast: bool) -> String {
    let (schema, rows) = batch(&[vec![value.clone(), null(value.0.clone()), value.clone()]]);
    let show = |r: Result<Vec<String>, String>| match r {
        Ok(rows) => rows[0].clone(),
        Err(error) => format!("Err({error})"),
    };
    let constant = show(run(&cast(literal(value), to.clone(), try_cast), &schema, &rows));
    let over_column = show(run(&cast(column(0, value.0.clone()), to.clone(), try_cast), &schema, &rows));
    assert_eq!(constant, over_column);
    constant
}

#[test]
fn casts_have_flinks_results() {
    let dec = SqlType::Decimal { precision: 5, scale: 2 };
    let char3 = SqlType::Char { length: 3 };
    let varchar2 = SqlType::VarChar { length: 2 };
    for (value, to, expected) in [
        (b(true), SqlType::STRING, "TRUE"),
        (b(true), SqlType::Int, "1"),
        (b(false), dec.clone(), "0.00"),
        (i(0), SqlType::Boolean, "FALSE"),
        (d(1, 3, 2), SqlType::Boolean, "TRUE"),
        (f(1e10), SqlType::STRING, "1.0E10"),
        (d(1250, 5, 2), SqlType::STRING, "12.50"),
        (l(4_294_967_297), SqlType::Int, "1"),
        (f(3.99), SqlType::Int, "3"),
        (f(1e20), SqlType::Int, "2147483647"),
        (f(300.0), SqlType::TinyInt, "44"),
        (f(f64::NAN), SqlType::BigInt, "0"),
        (d(-1999, 5, 3), SqlType::Int, "-1"),
        (d(1999, 5, 3), dec.clone(), "2.00"),
        (i(123_456), dec.clone(), "NULL"),
        (f(2.675), dec.clone(), "2.68"),
        (f(f64::INFINITY), dec.clone(), "Err"),
        (d(15, 2, 1), SqlType::Double, "1.5"),
        (s(" 12 "), SqlType::Int, "12"),
        (s("12.9"), SqlType::BigInt, "12"),
        (s("abc"), SqlType::Int, "Err"),
        (s("99999999999"), SqlType::Int, "Err"),
        (s("1e2"), SqlType::Double, "100.0"),
        (s("1.005"), dec.clone(), "1.01"),
        (s("12345"), dec.clone(), "Err"),
        (s("x"), dec.clone(), "Err"),
        (s("Yes"), SqlType::Boolean, "TRUE"),
        (s("maybe"), SqlType::Boolean, "Err"),
        (s("2026-1-2"), SqlType::Date, "2026-01-02"),
        (s("10:20:30.25"), SqlType::Time { precision: 0 }, "10:20:30"),
        (s("2026-11-21 09:21:34.5678"), TS3, "2026-11-21 09:21:34.567"),
        (s("2026-11-21 09:21:34.5678"), SqlType::Timestamp { precision: 1 }, "2026-11-21 09:21:34.5"),
        (s("2026-11-21"), LTZ3, "2026-11-21 00:00:00.000"),
        (s("2026-11-21T00:00:00"), TS3, "Err"),
        (s("hello"), char3.clone(), "hel"),
        (s("h"), char3, "h  "),
        (i(12_345), varchar2.clone(), "12"),
        (s("日本語"), varchar2, "日本"),
        (s("hi"), SqlType::BYTES, "hi"),
        (s("hi"), SqlType::Binary { length: 1 }, "h"),
        (date("2026-11-21"), TS3, "2026-11-21 00:00:00.000"),
        (ts("1969-12-31 23:00:00"), SqlType::Date, "1969-12-31"),
        (ts("1969-12-31 23:00:00.5"), SqlType::Time { precision: 3 }, "23:00:00.5"),
        (time("10:00:00"), TS3, "1970-01-01 10:00:00.000"),
        (ts("2026-11-21 09:21:34.567"), SqlType::Timestamp { precision: 0 }, "2026-11-21 09:21:34"),
        (ts("2026-11-21 09:21:34.567"), SqlType::TimestampLtz { precision: 6 }, "2026-11-21 09:21:34.567000"),
        (ts("9999-11-21"), SqlType::Timestamp { precision: 9 }, "Err"),
        (days(-1), SqlType::STRING, "-1 00:00:00.000"),
    ] {
        let found = casted(&value, &to, false);
        let matches = found == expected || (expected == "Err" && found.starts_with("Err"));
        assert!(matches, "CAST({value:?} AS {to}) = {found}, expected {expected}");
        if expected == "Err" {
            assert_eq!(casted(&value, &to, true), "NULL");
        }
    }
    assert_eq!(casted(&s("abc"), &SqlType::Int, false), "Err(cannot cast 'abc' (STRING) to INT)");
}

#[test]
fn only_rows_that_ask_for_it_are_evaluated() {
    let (schema, rows) = batch(&[
        vec![i(10), i(10), i(10), i(10)],
        vec![i(2), i(0), null(SqlType::Int), i(5)],
        vec![s("1"), s("x"), s("3"), s("4")],
    ]);
    let (a, n, text) = (|| column(0, SqlType::Int), || column(1, SqlType::Int), || column(2, SqlType::STRING));
    let zero = || literal(&i(0));
    let quotient = || call("/", vec![a(), n()]);
    let nonzero = || call("<>", vec![n(), zero()]);
    let rows_of = |expr: Expr| run(&expr, &schema, &rows);

    assert!(rows_of(quotient()).unwrap_err().contains("division by zero"));
    let guarded = case(vec![(nonzero(), quotient())], Some(literal(&i(-1))));
    assert_eq!(rows_of(guarded).unwrap(), ["5", "-1", "-1", "2"]);
    let without_else = case(vec![(nonzero(), quotient())], None);
    assert_eq!(rows_of(without_else).unwrap(), ["5", "NULL", "NULL", "2"]);
    // The condition of a later branch, too.
    let second = case(
        vec![
            (call("=", vec![n(), zero()]), literal(&s("zero"))),
            (call(">", vec![quotient(), literal(&i(3))]), literal(&s("big"))),
        ],
        Some(literal(&s("small"))),
    );
    assert_eq!(rows_of(second).unwrap(), ["big", "zero", "small", "small"]);

    let both = call("AND", vec![nonzero(), call(">", vec![quotient(), literal(&i(3))])]);
    assert_eq!(rows_of(both).unwrap(), ["TRUE", "FALSE", "NULL", "FALSE"]);
    let either = call("OR", vec![call("=", vec![n(), zero()]), call(">", vec![quotient(), literal(&i(3))])]);
    assert_eq!(rows_of(either).unwrap(), ["TRUE", "TRUE", "NULL", "FALSE"]);
    let first = call(
        "COALESCE",
        vec![case(vec![(call("=", vec![n(), zero()]), a())], None), cast(text(), SqlType::Int, false)],
    );
    assert_eq!(rows_of(first).unwrap(), ["1", "10", "3", "4"]);

    // A constant that fails is no fault until a row needs it.
    let never = case(vec![(literal(&b(false)), call("/", vec![literal(&i(1)), zero()]))], Some(a()));
    assert_eq!(rows_of(never).unwrap(), ["10", "10", "10", "10"]);
    // Without anything that can fail: the same results by the other way.
    let safe = case(vec![(nonzero(), a()), (call("IS NULL", vec![n()]), literal(&i(7)))], None);
    assert_eq!(rows_of(safe).unwrap(), ["10", "NULL", "7", "10"]);
}

#[test]
fn filters_take_null_as_false_and_pass_the_row_kind_by() {
    let (schema, rows) = batch(&[vec![i(1), null(SqlType::Int), i(3)]]);
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int8Array::from(vec![0, 1, 2])));
    let rows = RecordBatch::try_new(schema.arrow_with_row_kind(), columns).unwrap();
    let filter = CompiledExpr::compile(&call(">", vec![column(0, SqlType::Int), literal(&i(1))]), &schema).unwrap();
    let mask = filter.evaluate_filter(&rows, &CX).unwrap();
    assert_eq!(mask.iter().collect::<Vec<_>>(), [Some(false), Some(false), Some(true)]);
    let plain = CompiledExpr::compile(&column(0, SqlType::Int), &schema).unwrap();
    assert_eq!(plain.as_column(), Some(0));
    assert!(Arc::ptr_eq(&plain.evaluate(&rows, &CX).unwrap(), rows.column(0)));
}

#[test]
fn errors_say_what_was_wrong() {
    let (schema, rows) = batch(&[vec![s("12x")]]);
    let compiled = CompiledExpr::compile(&cast(column(0, SqlType::STRING), SqlType::Int, false), &schema).unwrap();
    let error = compiled.evaluate(&rows, &CX).unwrap_err();
    assert!(matches!(error, EvalError::UserData(_)));
    assert_eq!(error.to_string(), "cannot cast '12x' (STRING) to INT");
    let unknown =
        Expr { ty: SqlType::Int, nullable: true, kind: ExprKind::Call { function: "FROBNICATE".into(), args: vec![] } };
    assert!(CompiledExpr::compile(&unknown, &schema).unwrap_err().to_string().contains("no function FROBNICATE"));
    let missing = column(3, SqlType::Int);
    assert!(CompiledExpr::compile(&missing, &schema).unwrap_err().to_string().contains("reads column 3"));
    let other = column(0, SqlType::Int);
    assert!(CompiledExpr::compile(&other, &schema).unwrap_err().to_string().contains("as INT"));
}

/// Sample arguments of every kind, to find what a function takes.
fn samples() -> Vec<Value> {
    vec![
        b(true),
        s("YEAR"),
        s("2026-11-21 09:21:34"),
        i(2),
        l(3),
        f(1.5),
        d(125, 5, 2),
        ts("2026-11-21 09:21:34"),
        date("2026-11-21"),
        time("09:21:34"),
        days(1),
        months(1),
        Value(LTZ3, Literal::Timestamp(NOW_MS)),
        Value(SqlType::TinyInt, Literal::Int(5)),
        Value(SqlType::SmallInt, Literal::Int(5)),
        Value(SqlType::Float, Literal::FloatBits(1.5f64.to_bits())),
        Value(SqlType::BYTES, Literal::Bytes(vec![1, 2])),
        Value(SqlType::Timestamp { precision: 6 }, Literal::Timestamp(1_000_000)),
        Value(SqlType::Timestamp { precision: 9 }, Literal::Timestamp(1_000_000_000)),
    ]
}

/// Every function of the table, with every combination of up to three sample types that its rule takes: it compiles, it
/// answers in its type over a batch with NULLs and over an empty one, and NULL arguments give NULL where the table says so.
#[test]
fn every_function_of_the_table_exists_for_all_types_it_takes() {
    for function in FUNCTIONS {
        let mut taken = 0;
        for count in function.args_min..=function.args_max.min(function.args_min.max(1) + 1).min(3) {
            for combination in combinations(count) {
                taken += usize::from(exercise(function, &combination));
            }
        }
        assert!(taken > 0, "no sample arguments for {}", function.name);
    }
}

fn combinations(count: usize) -> Vec<Vec<Value>> {
    (0..count).fold(vec![vec![]], |prefixes, _| {
        prefixes
            .iter()
            .flat_map(|prefix| samples().into_iter().map(move |v| prefix.iter().cloned().chain([v]).collect()))
            .collect()
    })
}

/// False where the function does not take such arguments.
fn exercise(function: &ScalarFunction, args: &[Value]) -> bool {
    let infos: Vec<Arg<'_>> = args.iter().map(|v| Arg { ty: &v.0, nullable: true, literal: Some(&v.1) }).collect();
    let Some(signature) = function.signature(&infos) else {
        return false;
    };
    let columns: Vec<Vec<Value>> = if args.is_empty() {
        vec![vec![i(0), i(0)]]
    } else {
        args.iter().map(|v| vec![v.clone(), null(v.0.clone())]).collect()
    };
    let (schema, rows) = batch(&columns);
    let exprs: Vec<Expr> = args
        .iter()
        .enumerate()
        .map(|(at, v)| if constant_args(function.name).contains(&at) { literal(v) } else { column(at, v.0.clone()) })
        .collect();
    let expr = call(function.name, exprs);
    assert!(constant_args(function.name).is_empty() || expr.ty.arrow() == signature.result.arrow() || !args.is_empty());
    let compiled = match CompiledExpr::compile(&expr, &schema) {
        Ok(compiled) => compiled,
        // A sample that is no unit of time, or one that the type does not have.
        Err(e) if e.to_string().contains("unit") => return false,
        Err(e) => panic!("{} of {args:?}: {e}", function.name),
    };
    compiled.evaluate(&rows.slice(0, 0), &CX).unwrap_or_else(|e| panic!("{} of no rows: {e}", function.name));
    let nulls = compiled.evaluate(&rows.slice(1, 1), &CX).unwrap_or_else(|e| panic!("{} of NULL: {e}", function.name));
    let any_null = !args.is_empty() && function.nulls != Nulls::Never;
    assert_eq!(nulls.is_null(0), any_null, "{} of NULL in {args:?}", function.name);
    match compiled.evaluate(&rows, &CX) {
        Ok(values) => assert_eq!(values.data_type(), &expr.ty.arrow()),
        Err(EvalError::UserData(_)) => {}
        Err(e) => panic!("{} of {args:?}: {e}", function.name),
    }
    true
}

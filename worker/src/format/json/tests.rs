//! The format as a whole: Flink's coercions, options, a slow reference decoder over serde_json, mutated input.
#![allow(clippy::unwrap_used)]

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use millstream_api::graph::{Field, JsonOptions, Schema, SqlType, TimestampFormat};
use proptest::prelude::*;

use super::{DecodeReason, JsonDecoder, JsonEncoder};

const TS3: SqlType = SqlType::Timestamp { precision: 3 };
const LTZ3: SqlType = SqlType::TimestampLtz { precision: 3 };
const DEC: SqlType = SqlType::Decimal { precision: 10, scale: 2 };

fn field(name: &str, ty: SqlType) -> Field {
    Field::new(name, ty, true)
}

fn show(array: &ArrayRef, row: usize) -> String {
    if array.is_null(row) {
        return "NULL".to_owned();
    }
    if let DataType::Timestamp(unit, Some(_)) = array.data_type() {
        let plain = arrow_cast::cast(array, &DataType::Timestamp(*unit, None)).unwrap();
        return show(&plain, row) + "Z";
    }
    ArrayFormatter::try_new(array, &FormatOptions::default()).unwrap().value(row).to_string()
}

/// One value of one column, as text; errors as `Err(...)`.
fn decoded(ty: &SqlType, json: &str, options: &JsonOptions) -> String {
    let mut decoder = JsonDecoder::new(&[field("v", ty.clone())], options.clone());
    match decoder.decode(format!("{{\"v\":{json}}}").as_bytes()) {
        Ok(()) => show(&decoder.finish()[0], 0),
        Err(error) => format!("Err({error})"),
    }
}

fn check(ty: &SqlType, cases: &[(&str, &str)]) {
    for (json, expected) in cases {
        let found = decoded(ty, json, &JsonOptions::default());
        assert!(found == *expected || (*expected == "Err" && found.starts_with("Err")), "{ty} {json}: {found}");
    }
}

#[test]
fn numbers_take_what_jackson_takes() {
    check(
        &SqlType::BigInt,
        &[
            ("1", "1"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "Err"),
            ("\" +12 \"", "12"),
            ("\"1.5\"", "Err"),
            ("1.9", "1"),
            ("-1.9", "-1"),
            ("1e3", "1000"),
            ("1e30", "Err"),
            ("true", "Err"),
            ("{}", "Err"),
            ("null", "NULL"),
            ("01", "Err"),
            ("1234567890123456", "1234567890123456"),
            ("12345678", "12345678"),
        ],
    );
    check(&SqlType::Int, &[("2147483647", "2147483647"), ("2147483648", "Err"), ("\"-5\"", "-5"), ("2.5", "2")]);
    check(&SqlType::SmallInt, &[("32767", "32767"), ("32768", "Err"), ("1.0", "Err")]);
    check(&SqlType::TinyInt, &[("-128", "-128"), ("200", "Err")]);
    check(
        &SqlType::Double,
        &[("1", "1.0"), ("1.5e3", "1500.0"), ("\"NaN\"", "NaN"), ("\"x\"", "Err"), ("true", "Err")],
    );
    check(&SqlType::Float, &[("0.1", "0.1"), ("\"0.5\"", "0.5")]);
    check(
        &DEC,
        &[
            ("12.345", "12.35"),
            ("\"1e2\"", "100.00"),
            ("123456789.01", "NULL"),
            ("-0.005", "-0.01"),
            ("true", "Err"),
            ("[]", "Err"),
        ],
    );
}

#[test]
fn texts_booleans_and_bytes_take_what_jackson_takes() {
    check(
        &SqlType::STRING,
        &[
            ("\"a\"", "a"),
            ("\"\"", ""),
            (r#""a\"\\\/\b\f\n\r\té\u00e9\ud83d\ude00""#, "a\"\\/\u{8}\u{c}\n\r\téé😀"),
            (r#""x\ud83dy""#, "x?y"),
            (r#""\ude00\ud83d\ud83d""#, "???"),
            ("12.50", "12.50"),
            ("true", "true"),
            ("null", "NULL"),
            (r#"{ "b" : [ 1, 2.50, null ] }"#, r#"{"b":[1,2.5,null]}"#),
            ("\"tab\there\"", "tab\there"),
            (r#""\x""#, "Err"),
            (r#""\u12""#, "Err"),
            ("\"", "Err"),
        ],
    );
    check(
        &SqlType::Boolean,
        &[
            ("true", "true"),
            ("false", "false"),
            ("\" TRUE \"", "true"),
            ("\"yes\"", "false"),
            ("1", "false"),
            ("{}", "false"),
        ],
    );
    check(
        &SqlType::BYTES,
        &[
            ("\"aGk=\"", "6869"),
            ("\"aGk\"", "Err"),
            (r#""aG\nk=""#, "Err"),
            (r#""aGkh\naGk=""#, "6869216869"),
            ("\"?\"", "Err"),
            ("1", "Err"),
            ("\"\"", ""),
        ],
    );
}

#[test]
fn times_follow_the_timestamp_format() {
    check(
        &TS3,
        &[
            ("\"2026-11-21 09:21:34\"", "2026-11-21T09:21:34"),
            ("\"2026-11-21 09:21:34.5\"", "2026-11-21T09:21:34.500"),
            ("\"2026-11-21 09:21:34.123456789\"", "2026-11-21T09:21:34.123"),
            ("\"1969-12-31 23:59:59.9999\"", "1969-12-31T23:59:59.999"),
            ("\"2026-11-21 09:21\"", "Err"),
            ("\"2026-11-21T09:21:34\"", "Err"),
            ("\"2026-11-21 09:21:34Z\"", "Err"),
            ("\"2026-02-29 09:21:34\"", "2026-02-28T09:21:34"),
            ("\"2026-02-32 09:21:34\"", "Err"),
            ("\"2026-11-20 24:00:00\"", "2026-11-21T00:00:00"),
            ("\"2026-11-20 24:00:01\"", "Err"),
            ("\"2026-11-21 0a:00:00\"", "Err"),
            ("\"2026-11-21 :0:00:00\"", "Err"),
            ("\"2026-11-21 09:21:34.1234567890\"", "Err"),
            ("1", "Err"),
            (r#""2026\u002d11-21 09:21:34""#, "2026-11-21T09:21:34"),
        ],
    );
    check(&LTZ3, &[("\"2026-11-21 09:21:34.5Z\"", "2026-11-21T09:21:34.500Z"), ("\"2026-11-21 09:21:34.5\"", "Err")]);
    check(
        &SqlType::Timestamp { precision: 9 },
        &[("\"2026-11-21 09:21:34.123456789\"", "2026-11-21T09:21:34.123456789"), ("\"9999-11-21 09:21:34\"", "Err")],
    );
    check(&SqlType::Timestamp { precision: 6 }, &[("\"9999-11-21 09:21:34.1234567\"", "9999-11-21T09:21:34.123456")]);
    check(&SqlType::Date, &[("\"2026-11-21\"", "2026-11-21"), ("\"2026-11-21 \"", "Err"), ("5", "Err")]);
    check(
        &SqlType::Time { precision: 0 },
        &[("\"09:21:34\"", "09:21:34"), ("\"09:21:34.250\"", "09:21:34"), ("\"24:00:00\"", "00:00:00")],
    );
    let iso = JsonOptions { timestamp_format: TimestampFormat::Iso8601, ..JsonOptions::default() };
    assert_eq!(decoded(&TS3, "\"2026-11-21T09:21:34.5\"", &iso), "2026-11-21T09:21:34.500");
    assert_eq!(decoded(&TS3, "\"2026-11-21t09:21\"", &iso), "2026-11-21T09:21:00");
    assert_eq!(decoded(&LTZ3, "\"2026-11-21T09:21:34.5Z\"", &iso), "2026-11-21T09:21:34.500Z");
    assert!(decoded(&TS3, "\"2026-11-21 09:21:34.5\"", &iso).starts_with("Err"));
    assert!(decoded(&TS3, "\"2026-02-29T09:21:34\"", &iso).starts_with("Err"));
    assert_eq!(decoded(&LTZ3, "\"2026-02-29T09:21:34Z\"", &iso), "2026-02-28T09:21:34Z");
    let time3 = SqlType::Time { precision: 3 };
    assert_eq!(decoded(&time3, "\"09:21:34.25\"", &JsonOptions::default()), "09:21:34.250");
}

#[test]
fn missing_null_repeated_and_foreign_fields() {
    let fields = [field("a", SqlType::BigInt), field("b", SqlType::STRING)];
    let mut decoder = JsonDecoder::new(&fields, JsonOptions::default());
    for record in [
        r#"{"a":1,"b":"x"}"#,
        r#"{"a":2}"#,
        r#"{"b":"y","a":3}"#,
        r#" { "z" : [ {"a":9} ] , "b" : null , "a" : 4 } "#,
        r#"{"a":5,"b":"p","a":6,"b":"longer"}"#,
        r#"{}"#,
        r#"{"\u0061":7,"b":"u"}"#,
        r#"{"z":1,"a":8,"b":"w"}"#,
    ] {
        decoder.decode(record.as_bytes()).unwrap_or_else(|e| panic!("{record}: {e}"));
    }
    assert_eq!(decoder.rows(), 8);
    let columns = decoder.finish();
    let rows: Vec<String> =
        (0..8).map(|row| format!("{}/{}", show(&columns[0], row), show(&columns[1], row))).collect();
    assert_eq!(rows, ["1/x", "2/NULL", "3/y", "4/NULL", "6/longer", "NULL/NULL", "7/u", "8/w"]);
    assert_eq!(decoder.rows(), 0);
    assert!(decoder.finish().iter().all(|c| c.is_empty()));
}

#[test]
fn malformed_records_leave_nothing_behind() {
    let fields = [field("a", SqlType::BigInt), field("b", SqlType::STRING)];
    let mut decoder = JsonDecoder::new(&fields, JsonOptions::default());
    decoder.decode(br#"{"a":1,"b":"x"}"#).unwrap();
    for bad in [
        &br#"{"a":2,"b":"y""#[..],
        br#"{"a":2,"b":"y"}}"#,
        br#"{"a":2,"b":"y"} x"#,
        br#"{"a":2"b":"y"}"#,
        br#"{"z":2{"a":2,"b":"y"}"#,
        br#"{"a":2,,"b":"y"}"#,
        br#"{"a":2,"b":"y",}"#,
        br#"{"a":2,"b":tru}"#,
        br#"{"a":2,"b":"\xff"}"#,
        b"{\"a\":2,\"b\":\"\xff\"}",
        b"{\"a\":2,\"\xc3\":\"\"}",
        b"{\"a\":2,\"z\":\"\xff\"}",
        b"[1]",
        b"null",
        b"",
        b"   ",
        b"}",
        b"{",
        b"\x00",
    ] {
        assert!(decoder.decode(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        assert_eq!(decoder.rows(), 1);
    }
    decoder.decode(br#"{"a":3,"b":"z"}"#).unwrap();
    let columns = decoder.finish();
    assert_eq!(columns[0].as_primitive::<Int64Type>().values(), &[1, 3]);
    assert_eq!(columns[1].as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["x", "z"]);
}

#[test]
fn options_decide_about_missing_and_bad_values() {
    let fields = [field("a", SqlType::BigInt), Field::new("k", SqlType::Int, false)];
    let strict = JsonOptions { fail_on_missing_field: true, ..JsonOptions::default() };
    let mut decoder = JsonDecoder::new(&fields, strict);
    let error = decoder.decode(br#"{"k":1}"#).unwrap_err();
    assert_eq!((error.column.as_deref(), &error.reason), (Some("a"), &DecodeReason::MissingField));
    decoder.decode(br#"{"a":null,"k":1}"#).unwrap();

    let mut decoder = JsonDecoder::new(&fields, JsonOptions::default());
    let error = decoder.decode(br#"{"a":"x","k":1}"#).unwrap_err();
    assert_eq!(error.to_string(), "column `a`: expected BIGINT, found the string \"x\"");
    for record in [&br#"{"a":1}"#[..], br#"{"a":1,"k":null}"#] {
        let error = decoder.decode(record).unwrap_err();
        assert_eq!((error.column.as_deref(), &error.reason), (Some("k"), &DecodeReason::MissingValue));
    }

    let lenient = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
    let mut decoder = JsonDecoder::new(&fields, lenient);
    decoder.decode(br#"{"a":{"x":[1]},"k":1}"#).unwrap();
    assert!(decoder.decode(br#"{"a":1,"k":"x"}"#).is_err());
    assert!(decoder.decode(br#"not json"#).is_err());
    assert_eq!((decoder.rows(), decoder.null_fields()), (1, 1));
    assert!(decoder.finish()[0].is_null(0));
}

#[test]
fn encodes_as_flink_does() {
    let schema = Schema::new(vec![
        field("s", SqlType::STRING),
        field("d", SqlType::Double),
        field("n", DEC),
        field("t", TS3),
        field("z", LTZ3),
        field("o", SqlType::Time { precision: 0 }),
        field("day", SqlType::Date),
        field("b", SqlType::BYTES),
        field("ok", SqlType::Boolean),
        field("i", SqlType::IntervalDayTime),
    ]);
    let text = concat!(
        r#"{"s":"a\"\\\u0001\n/é\uD83D\uDE00","d":1.0E10,"n":12.5,"t":"2026-11-21 09:21:34.5","z":"2026-11-21 09:21:34Z","#,
        r#""o":"09:21:34","day":"2026-11-21","b":"aGk=","ok":true,"i":1000}"#
    );
    let nulls = r#"{"s":null,"d":null,"n":null,"t":null,"z":null,"o":null,"day":null,"b":null,"ok":null,"i":null}"#;
    let mut decoder = JsonDecoder::new(&schema.fields, JsonOptions::default());
    decoder.decode(text.as_bytes()).unwrap();
    decoder.decode(nulls.as_bytes()).unwrap();
    let batch = RecordBatch::try_new(schema.arrow(), decoder.finish()).unwrap();
    let encoded = |encoder: &JsonEncoder, row| {
        let mut out = Vec::new();
        encoder.bind(&batch).encode(row, &mut out);
        String::from_utf8(out).unwrap()
    };
    let encoder = JsonEncoder::new(&schema, JsonOptions::default());
    assert_eq!(encoded(&encoder, 0), text);
    assert_eq!(encoded(&encoder, 1), nulls);
    let options =
        JsonOptions { ignore_null_fields: true, timestamp_format: TimestampFormat::Iso8601, ..JsonOptions::default() };
    let keys = [(4, "zone".to_owned()), (8, "a\"b".to_owned())];
    let encoder = JsonEncoder::with_columns(&schema, keys, options);
    assert_eq!(encoded(&encoder, 0), r#"{"zone":"2026-11-21T09:21:34Z","a\"b":true}"#);
    assert_eq!(encoded(&encoder, 1), "{}");
}

#[test]
fn decimals_and_floats_have_javas_forms() {
    let schema = Schema::new(vec![
        field("n", SqlType::Decimal { precision: 20, scale: 9 }),
        field("d", SqlType::Double),
        field("f", SqlType::Float),
    ]);
    let mut decoder = JsonDecoder::new(&schema.fields, JsonOptions::default());
    decoder.decode(br#"{"n":0.000000027,"d":"NaN","f":0.1}"#).unwrap();
    let batch = RecordBatch::try_new(schema.arrow(), decoder.finish()).unwrap();
    let encoded = |options: JsonOptions| {
        let mut out = Vec::new();
        JsonEncoder::new(&schema, options).bind(&batch).encode(0, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(encoded(JsonOptions::default()), r#"{"n":2.7E-8,"d":"NaN","f":0.1}"#);
    let plain = JsonOptions { decimal_as_plain_number: true, ..JsonOptions::default() };
    assert_eq!(encoded(plain), r#"{"n":0.000000027,"d":"NaN","f":0.1}"#);
}

/// The types that the properties run over.
fn any_type() -> impl Strategy<Value = SqlType> {
    prop_oneof![
        Just(SqlType::Boolean),
        Just(SqlType::TinyInt),
        Just(SqlType::SmallInt),
        Just(SqlType::Int),
        Just(SqlType::BigInt),
        Just(SqlType::Double),
        Just(DEC),
        Just(SqlType::STRING),
        Just(SqlType::BYTES),
        Just(SqlType::Date),
        Just(SqlType::Time { precision: 3 }),
        Just(TS3),
        Just(SqlType::Timestamp { precision: 6 }),
        Just(LTZ3),
    ]
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        any::<f64>().prop_map(|f| if f.is_finite() { json!(f) } else { json!(0.5) }),
        ".*".prop_map(Value::from),
        "[a-z]{0,40}".prop_map(Value::from),
        "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9][ T][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?Z?"
            .prop_map(Value::from),
        " ?[-+]?[0-9]{1,12}(\\.[0-9]{1,4})? ?".prop_map(Value::from),
        "(true|FALSE|aGk=|AAAA|[0-9]{4}-0[0-9]-1[0-9]|1[0-9]:0[0-9]:5[0-9])".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\é]{1,2}", inner, 0..3)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

/// What a value is in a column, by chrono and std instead of the decoder's own readers. `None`: it cannot be taken.
fn reference(ty: &SqlType, value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    let text = match value {
        Value::Null => return Some("NULL".to_owned()),
        Value::String(s) => s.clone(),
        Value::Array(_) => "[".to_owned(),
        Value::Object(_) => "{".to_owned(),
        scalar => scalar.to_string(),
    };
    let number = value.as_number().map(ToString::to_string);
    let float = number.as_deref().is_some_and(|n| n.contains(['.', 'e', 'E']));
    let trimmed = text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']);
    let timestamp = |zoned: bool, digits: usize| {
        let body = if zoned { text.strip_suffix('Z')? } else { text.as_str() };
        if body.len() < 19 || body.as_bytes().get(10) != Some(&b' ') || body.len() > 29 {
            return None;
        }
        let (main, fraction) = body.split_at_checked(19)?;
        let fraction = if fraction.is_empty() { fraction } else { fraction.strip_prefix('.')? };
        let part = |range: std::ops::Range<usize>| main.get(range)?.parse::<u32>().ok();
        let (day, hour) = (part(8..10)?, part(11..13)?);
        if day > 31 || !main[17..].starts_with(['0', '1', '2', '3', '4', '5']) {
            return None;
        }
        // Java's SMART resolver: the month's last day for a later one up to 31, and 24:00:00.
        let date = |day| chrono::NaiveDate::parse_from_str(&format!("{}{day:02}", &main[..8]), "%Y-%m-%d").ok();
        let date = date(day).or_else(|| (1..4).find_map(|less| date(day.checked_sub(less).filter(|d| *d > 27)?)))?;
        let at = if hour == 24 && main.ends_with("24:00:00") && fraction.bytes().all(|c| c == b'0') {
            date.succ_opt()?.and_hms_opt(0, 0, 0)?
        } else {
            date.and_time(chrono::NaiveTime::parse_from_str(&main[11..], "%H:%M:%S").ok()?)
        };
        if !fraction.bytes().all(|c| c.is_ascii_digit()) {
            return None;
        }
        let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
        Some(format!("{}.{kept}", at.format("%Y-%m-%dT%H:%M:%S")))
    };
    Some(match ty {
        SqlType::Boolean => trimmed.eq_ignore_ascii_case("true").to_string(),
        SqlType::TinyInt => trimmed.parse::<i8>().ok()?.to_string(),
        SqlType::SmallInt => trimmed.parse::<i16>().ok()?.to_string(),
        SqlType::Int | SqlType::BigInt => {
            let wide: i128 = if float { trimmed.parse::<f64>().ok()? as i128 } else { trimmed.parse().ok()? };
            let narrow = if *ty == SqlType::Int { i32::try_from(wide).is_ok() } else { i64::try_from(wide).is_ok() };
            narrow.then(|| wide.to_string())?
        }
        SqlType::Double => {
            let value: f64 = trimmed.parse().ok()?;
            if !trimmed.bytes().any(|c| c.is_ascii_digit()) {
                return None;
            }
            format!("{value:?}")
        }
        SqlType::VarChar { .. } => return None,
        SqlType::Date => {
            let date = chrono::NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?;
            (text.len() == 10).then(|| date.to_string())?
        }
        SqlType::Timestamp { precision: 3 } => timestamp(false, 3)?,
        SqlType::Timestamp { .. } => timestamp(false, 6)?,
        SqlType::TimestampLtz { .. } => timestamp(true, 3)? + "Z",
        _ => return None,
    })
}

/// The decoder's value in the reference's form.
fn normal(ty: &SqlType, array: &ArrayRef, row: usize) -> String {
    let text = show(array, row);
    let digits = match ty {
        SqlType::Timestamp { precision: 3 } | SqlType::TimestampLtz { .. } => 3,
        SqlType::Timestamp { .. } => 6,
        _ => return text,
    };
    if array.is_null(row) {
        return text;
    }
    let body = text.strip_suffix('Z').unwrap_or(&text);
    let (main, fraction) = body.split_once('.').unwrap_or((body, ""));
    let kept: String = fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
    format!("{main}.{kept}{}", if text.ends_with('Z') { "Z" } else { "" })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random objects into random schemas: the same values, or the same refusal, as the reference; NULL instead of a
    /// refusal when parse errors are ignored. Many records in one decoder, so that templates are learned and fail.
    #[test]
    fn agrees_with_a_slow_reference(
        types in prop::collection::vec(any_type(), 1..5),
        records in prop::collection::vec(
            prop::collection::vec((0usize..7, any_json()), 0..7), 1..12),
        pretty in any::<bool>(),
    ) {
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(i, ty)| field(&format!("k{i}"), ty.clone())).collect();
        let lenient = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
        let mut decoder = JsonDecoder::new(&fields, lenient);
        let mut strict = JsonDecoder::new(&fields, JsonOptions::default());
        let mut strict_rows = 0;
        for record in &records {
            let mut text = String::from("{");
            for (at, (key, value)) in record.iter().enumerate() {
                let body = if pretty { serde_json::to_string_pretty(value).unwrap() } else { value.to_string() };
                let (comma, blank) = (if at > 0 { "," } else { "" }, if pretty { " " } else { "" });
                text += &format!("{comma}{blank}\"k{key}\"{blank}:{blank}{body}");
            }
            text += "}";
            decoder.decode(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
            strict_rows += usize::from(strict.decode(text.as_bytes()).is_ok());
            prop_assert_eq!(strict.rows(), strict_rows);
        }
        let columns = decoder.finish();
        for (row, record) in records.iter().enumerate() {
            for (index, ty) in types.iter().enumerate() {
                prop_assert_eq!(columns[index].len(), records.len());
                let value = record.iter().rev().find(|(key, _)| *key == index).map(|(_, v)| v);
                let found = normal(ty, &columns[index], row);
                match value {
                    None => prop_assert_eq!(found, "NULL"),
                    Some(serde_json::Value::String(s)) if ty.is_string() => prop_assert_eq!(&found, s),
                    Some(_) if matches!(ty, SqlType::VarChar { .. } | SqlType::VarBinary { .. }
                        | SqlType::Decimal { .. } | SqlType::Time { .. }) => {}
                    Some(v) => {
                        let expected = reference(ty, v).unwrap_or_else(|| "NULL".to_owned());
                        prop_assert_eq!(found, expected, "{} {}", ty, v);
                    }
                }
            }
        }
    }

    /// Cut and changed bytes: no panic, no half row, and a later good record is not affected.
    #[test]
    fn survives_mutations(
        types in prop::collection::vec(any_type(), 1..4),
        values in prop::collection::vec(any_json(), 1..5),
        cut in 0usize..200,
        changes in prop::collection::vec((0usize..200, any::<u8>()), 0..4),
    ) {
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(i, ty)| field(&format!("k{i}"), ty.clone())).collect();
        let body: Vec<String> = values.iter().enumerate().map(|(i, v)| format!("\"k{i}\":{v}")).collect();
        let good = format!("{{{}}}", body.join(","));
        let lenient = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
        let mut decoder = JsonDecoder::new(&fields, lenient.clone());
        decoder.decode(good.as_bytes()).unwrap();
        let mut bad = good.clone().into_bytes();
        bad.truncate(cut.max(1));
        for (at, byte) in changes {
            let length = bad.len();
            bad[at % length] = byte;
        }
        let rows = 1 + usize::from(decoder.decode(&bad).is_ok());
        prop_assert_eq!(decoder.rows(), rows);
        decoder.decode(good.as_bytes()).unwrap();
        let columns = decoder.finish();
        for column in &columns {
            prop_assert_eq!(column.len(), rows + 1);
            column.to_data().validate_full().unwrap();
            prop_assert_eq!(&column.slice(0, 1), &column.slice(rows, 1));
        }
    }

    /// What the encoder writes the decoder reads back, value for value and byte for byte.
    #[test]
    fn encoded_rows_decode_to_themselves(
        types in prop::collection::vec(any_type(), 1..6),
        records in prop::collection::vec(prop::collection::vec(any_json(), 6), 1..6),
    ) {
        let fields: Vec<Field> =
            types.iter().enumerate().map(|(i, ty)| field(&format!("k{i}"), ty.clone())).collect();
        let schema = Schema::new(fields);
        let lenient = JsonOptions { ignore_parse_errors: true, ..JsonOptions::default() };
        let mut decoder = JsonDecoder::new(&schema.fields, lenient);
        for record in &records {
            let body: Vec<String> = record.iter().enumerate().map(|(i, v)| format!("\"k{i}\":{v}")).collect();
            decoder.decode(format!("{{{}}}", body.join(",")).as_bytes()).unwrap();
        }
        let first = RecordBatch::try_new(schema.arrow(), decoder.finish()).unwrap();
        let encode = |batch: &RecordBatch| -> Vec<Vec<u8>> {
            let encoder = JsonEncoder::new(&schema, JsonOptions::default());
            let bound = encoder.bind(batch);
            (0..batch.num_rows()).map(|row| { let mut out = Vec::new(); bound.encode(row, &mut out); out }).collect()
        };
        let texts = encode(&first);
        let mut decoder = JsonDecoder::new(&schema.fields, JsonOptions::default());
        for text in &texts {
            serde_json::from_slice::<serde_json::Value>(text).unwrap();
            decoder.decode(text).unwrap();
        }
        let second = RecordBatch::try_new(schema.arrow(), decoder.finish()).unwrap();
        prop_assert_eq!(encode(&second), texts);
        prop_assert_eq!(first, second);
    }
}

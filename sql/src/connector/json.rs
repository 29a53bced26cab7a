//! `format`, and the options of `json`.

use millstream_api::graph::{Format, JsonOptions, MapNullKey, TimestampFormat};

use super::options::{Options, bad_value};
use crate::error::{Result, SqlError};

/// The format that the option `key` names; its own options begin with `prefix` and the format's name.
pub(super) fn format(options: &mut Options<'_>, key: &str, prefix: &str) -> Result<Option<Format>> {
    let Some(named) = options.take(key) else { return Ok(None) };
    if named.value != "json" {
        return Err(bad_value(named, "json (the format supported)"));
    }
    json(options, &format!("{prefix}json.")).map(|json| Some(Format::Json(json)))
}

fn json(options: &mut Options<'_>, prefix: &str) -> Result<JsonOptions> {
    let key = |name: &str| format!("{prefix}{name}");
    let fail_on_missing_field = options.flag(&key("fail-on-missing-field"))?.unwrap_or(false);
    let ignore = options.take(&key("ignore-parse-errors"));
    let ignore_parse_errors = match ignore {
        Some(o) => {
            millstream_api::flinkjob::options::parse_flag(&o.value).ok_or_else(|| bad_value(o, "true or false"))?
        }
        None => false,
    };
    if let (true, true, Some(o)) = (fail_on_missing_field, ignore_parse_errors, ignore) {
        let message = format!("'{}' and '{}' cannot both be true", key("fail-on-missing-field"), o.key);
        return Err(SqlError::at(o.position, message));
    }
    let timestamps = [("SQL", TimestampFormat::Sql), ("ISO-8601", TimestampFormat::Iso8601)];
    let literal = options.text(&key("map-null-key.literal")).unwrap_or_else(|| "null".to_owned());
    let null_keys =
        [("FAIL", MapNullKey::Fail), ("DROP", MapNullKey::Drop), ("LITERAL", MapNullKey::Literal { key: literal })];
    // Which parser Flink decodes with; the result is the same.
    options.flag(&key("decode.json-parser.enabled"))?;
    Ok(JsonOptions {
        fail_on_missing_field,
        ignore_parse_errors,
        timestamp_format: options.choice(&key("timestamp-format.standard"), &timestamps)?.unwrap_or_default(),
        map_null_key: options.choice(&key("map-null-key.mode"), &null_keys)?.unwrap_or_default(),
        decimal_as_plain_number: options.flag(&key("encode.decimal-as-plain-number"))?.unwrap_or(false),
        ignore_null_fields: options.flag(&key("encode.ignore-null-fields"))?.unwrap_or(false),
    })
}

//! Functions of strings. Positions and lengths count characters (code points) from 1.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int32Array};
use arrow_schema::DataType;
use millstream_api::graph::SqlType;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::EvalError;
use crate::expr::operand::{boolean_rows, fixed_options, text_options, text_rows};

/// Longest string that REPEAT, LPAD and RPAD make: beyond it a row is refused instead of filling the memory.
const MADE_BYTES_MAX: usize = 16 << 20;

pub fn bind(name: &str, args: &[ArgInfo<'_>], result: &SqlType) -> Binding {
    if *result == SqlType::Boolean || *result == SqlType::Int {
        return Ok(to_scalar(name));
    }
    if args.iter().any(|a| matches!(a.ty, SqlType::Binary { .. } | SqlType::VarBinary { .. })) {
        return Ok(None);
    }
    Ok(to_text(name).or_else(|| pieces(name)).or_else(|| made(name)))
}

/// Strings in, BOOLEAN or INT out.
fn to_scalar(name: &str) -> Option<Function> {
    Some(match name {
        "STARTSWITH" => predicate(|s, prefix| s.starts_with(prefix)),
        "ENDSWITH" => predicate(|s, suffix| s.ends_with(suffix)),
        "CHAR_LENGTH" => Function::total(|call| Ok(Arc::new(char_lengths(call)))),
        "ASCII" => to_int(|call, row| {
            let text = call.args[0].text().get(row)?;
            // BinaryStringData.byteAt: a signed byte.
            Some(text.bytes().next().map_or(0, |byte| i32::from(byte as i8)))
        }),
        "POSITION" => to_int(|call, row| position(call.args[1].text().get(row)?, call.args[0].text().get(row)?, 1)),
        "INSTR" => to_int(|call, row| position(call.args[0].text().get(row)?, call.args[1].text().get(row)?, 1)),
        "LOCATE" => to_int(|call, row| {
            let from = call.args.get(2).map_or(Some(1), |from| from.fixed::<i32>().get(row))?;
            position(call.args[1].text().get(row)?, call.args[0].text().get(row)?, from)
        }),
        _ => return None,
    })
}

fn predicate(op: fn(&str, &str) -> bool) -> Function {
    Function::total(move |call| {
        let (a, b) = (call.args[0].text(), call.args[1].text());
        Ok(boolean_rows(call.rows, |row| Some(op(a.get(row)?, b.get(row)?))))
    })
}

fn to_int(op: fn(&Call<'_>, usize) -> Option<i32>) -> Function {
    Function::total(move |call| Ok(fixed_options(call.rows, &DataType::Int32, |row| op(call, row))))
}

fn char_lengths(call: &Call<'_>) -> Int32Array {
    let strings = call.args[0].array().as_string::<i32>();
    let lengths = (0..strings.len()).map(|row| strings.value(row).chars().count() as i32).collect::<Vec<_>>();
    Int32Array::new(lengths.into(), strings.nulls().cloned())
}

/// Position of the first `needle` at or behind the character `from`, or 0. An empty needle is at 1 wherever one looks.
fn position(text: &str, needle: &str, from: i32) -> Option<i32> {
    if needle.is_empty() {
        return Some(1);
    }
    let skip = usize::try_from(from).unwrap_or(0).saturating_sub(1);
    let Some(start) = byte_at(text, skip) else {
        return Some(0);
    };
    Some(text[start..].find(needle).map_or(0, |at| (text[..start + at].chars().count() + 1) as i32))
}

/// The byte at which the character number `index` (from 0) begins; the end for one behind the last.
fn byte_at(text: &str, index: usize) -> Option<usize> {
    text.char_indices().map(|(at, _)| at).chain([text.len()]).nth(index)
}

/// One string in, another out.
fn to_text(name: &str) -> Option<Function> {
    let op: fn(&str) -> String = match name {
        "UPPER" => str::to_uppercase,
        "LOWER" => str::to_lowercase,
        "INITCAP" => initcap,
        "REVERSE" => |s| s.chars().rev().collect(),
        _ => return None,
    };
    Some(Function::total(move |call| {
        let strings = call.args[0].text();
        text_options(call.rows, |row| strings.get(row).map(op))
    }))
}

/// Calcite's INITCAP, whose letters and digits are ASCII's only.
fn initcap(text: &str) -> String {
    let mut in_word = false;
    text.chars()
        .map(|c| {
            let mapped = if in_word { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            in_word = c.is_ascii_alphanumeric();
            mapped
        })
        .collect()
}

/// Results that are a piece of the first argument.
fn pieces(name: &str) -> Option<Function> {
    let op: for<'a> fn(&'a Call<'a>, usize) -> Option<&'a str> = match name {
        "TRIM" => |call, row| trim(call, row, true, true),
        "LTRIM" => |call, row| trim(call, row, true, false),
        "RTRIM" => |call, row| trim(call, row, false, true),
        "SUBSTRING" => |call, row| {
            let text = call.args[0].text().get(row)?;
            let start = call.args[1].fixed::<i32>().get(row)?;
            let length = call.args.get(2).map_or(Some(i32::MAX), |l| l.fixed::<i32>().get(row))?;
            substring(text, start, length)
        },
        "LEFT" => |call, row| {
            let text = call.args[0].text().get(row)?;
            let length = usize::try_from(call.args[1].fixed::<i32>().get(row)?).unwrap_or(0);
            Some(&text[..byte_at(text, length).unwrap_or(text.len())])
        },
        "RIGHT" => |call, row| {
            let text = call.args[0].text().get(row)?;
            let length = usize::try_from(call.args[1].fixed::<i32>().get(row)?).unwrap_or(0);
            let skip = text.chars().count().saturating_sub(length);
            Some(&text[byte_at(text, skip).unwrap_or(text.len())..])
        },
        "SPLIT_INDEX" => |call, row| {
            let text = call.args[0].text().get(row)?;
            let separator = call.args[1].text().get(row)?;
            let index = usize::try_from(call.args[2].fixed::<i32>().get(row)?).ok()?;
            split_index(text, separator, index)
        },
        _ => return None,
    };
    Some(Function::total(move |call| text_options(call.rows, |row| op(call, row))))
}

fn trim<'a>(call: &'a Call<'a>, row: usize, left: bool, right: bool) -> Option<&'a str> {
    let (mut text, set) = (call.args[0].text().get(row)?, call.args[1].text().get(row)?);
    if left {
        text = text.trim_start_matches(|c| set.contains(c));
    }
    if right {
        text = text.trim_end_matches(|c| set.contains(c));
    }
    Some(text)
}

fn substring(text: &str, start: i32, length: i32) -> Option<&str> {
    let length = usize::try_from(length).ok()?;
    let skip = match start {
        0 => 0,
        1.. => start as usize - 1,
        _ => match text.chars().count().checked_sub(start.unsigned_abs() as usize) {
            Some(skip) => skip,
            None => return Some(""),
        },
    };
    let Some(from) = byte_at(text, skip) else {
        return Some("");
    };
    let rest = &text[from..];
    Some(&rest[..byte_at(rest, length).unwrap_or(rest.len())])
}

/// Part number `index` from 0; blanks separate when the separator is empty, as in commons-lang's `split`.
fn split_index<'a>(text: &'a str, separator: &str, index: usize) -> Option<&'a str> {
    if text.is_empty() {
        return None;
    }
    if separator.is_empty() { text.split(char::is_whitespace).nth(index) } else { text.split(separator).nth(index) }
}

/// Results that are put together.
fn made(name: &str) -> Option<Function> {
    Some(match name {
        "CONCAT" | "||" => Function::total(|call| {
            text_rows(call.rows, |row, out| {
                for arg in call.args {
                    match arg.text().get(row) {
                        Some(text) => out.push_str(text),
                        None => return Ok(false),
                    }
                }
                Ok(true)
            })
        }),
        "CONCAT_WS" => Function::total(concat_ws),
        "REPLACE" => Function::total(|call| {
            let (text, from, to) = (call.args[0].text(), call.args[1].text(), call.args[2].text());
            // An empty search puts the replacement around every character, as String.replace does.
            text_options(call.rows, |row| Some(text.get(row)?.replace(from.get(row)?, to.get(row)?)))
        }),
        "REPEAT" => Function::partial(repeat),
        "LPAD" => Function::partial(|call| pad(call, true)),
        "RPAD" => Function::partial(|call| pad(call, false)),
        _ => return None,
    })
}

fn concat_ws(call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    text_rows(call.rows, |row, out| {
        let Some(separator) = call.args[0].text().get(row) else {
            return Ok(false);
        };
        let mut first = true;
        for text in call.args[1..].iter().filter_map(|arg| arg.text().get(row)) {
            if !first {
                out.push_str(separator);
            }
            first = false;
            out.push_str(text);
        }
        Ok(true)
    })
}

fn too_long(function: &str) -> EvalError {
    EvalError::user(format!("{function} would make a string of more than 16 MiB"))
}

fn repeat(call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let (strings, times) = (call.args[0].text(), call.args[1].fixed::<i32>());
    text_rows(call.rows, |row, out| {
        let (Some(text), Some(times)) = (strings.get(row), times.get(row)) else {
            return Ok(false);
        };
        let times = usize::try_from(times).unwrap_or(0);
        if text.len().saturating_mul(times) > MADE_BYTES_MAX {
            return Err(too_long("REPEAT"));
        }
        (0..times).for_each(|_| out.push_str(text));
        Ok(true)
    })
}

/// LPAD and RPAD; an empty pad gives NULL even where nothing is missing, as in Flink.
fn pad(call: &Call<'_>, left: bool) -> Result<ArrayRef, EvalError> {
    let (strings, lengths, pads) = (call.args[0].text(), call.args[1].fixed::<i32>(), call.args[2].text());
    text_rows(call.rows, |row, out| {
        let (Some(text), Some(length), Some(pad)) = (strings.get(row), lengths.get(row), pads.get(row)) else {
            return Ok(false);
        };
        let Ok(length) = usize::try_from(length) else {
            return Ok(false);
        };
        if pad.is_empty() {
            return Ok(false);
        }
        if length > MADE_BYTES_MAX {
            return Err(too_long(if left { "LPAD" } else { "RPAD" }));
        }
        let kept = &text[..byte_at(text, length).unwrap_or(text.len())];
        let missing = length - kept.chars().count();
        let padding = pad.chars().cycle().take(missing);
        if left {
            out.extend(padding);
            out.push_str(kept);
        } else {
            out.push_str(kept);
            out.extend(padding);
        }
        Ok(true)
    })
}

//! REGEXP, REGEXP_EXTRACT, REGEXP_REPLACE. Patterns are those of the `regex` crate: Java's without look-around and
//! back-references, in return in linear time. A constant pattern is compiled once.

use std::cell::RefCell;
use std::rc::Rc;

use arrow_array::ArrayRef;
use hashbrown::HashMap;
use millstream_api::graph::SqlType;
use regex::Regex;

use super::{ArgInfo, Binding, Call, Function};
use crate::expr::operand::{boolean_rows, text_options};
use crate::expr::{EvalError, ExprError};

/// Compiled patterns that a thread keeps for patterns that are not constant.
const CACHE_MAX: usize = 64;

thread_local! {
    static CACHE: RefCell<HashMap<String, Option<Rc<Regex>>>> = RefCell::new(HashMap::new());
}

/// A pattern that was compiled when the call was, or one for each row.
enum Source {
    Constant(Regex),
    PerRow,
}

impl Source {
    fn of(args: &[ArgInfo<'_>]) -> Result<Self, ExprError> {
        match args[1].text() {
            Some(pattern) => Regex::new(pattern).map(Source::Constant).map_err(|e| ExprError::new(bad(pattern, &e))),
            None => Ok(Source::PerRow),
        }
    }

    /// Calls `f` with the row's pattern: `Err` with the pattern when it is none, `None` when it is NULL.
    fn with<R>(&self, call: &Call<'_>, row: usize, f: impl FnOnce(Result<&Regex, &str>) -> R) -> Option<R> {
        match self {
            Source::Constant(regex) => Some(f(Ok(regex))),
            Source::PerRow => {
                let pattern = call.args[1].text().get(row)?;
                Some(match cached(pattern) {
                    Some(regex) => f(Ok(&regex)),
                    None => f(Err(pattern)),
                })
            }
        }
    }
}

fn cached(pattern: &str) -> Option<Rc<Regex>> {
    CACHE.with_borrow_mut(|cache| {
        if let Some(regex) = cache.get(pattern) {
            return regex.clone();
        }
        if cache.len() >= CACHE_MAX {
            cache.clear();
        }
        let regex = Regex::new(pattern).ok().map(Rc::new);
        cache.insert(pattern.to_owned(), regex.clone());
        regex
    })
}

fn bad(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    format!("the regular expression '{pattern}' cannot be used: {reason}")
}

pub fn bind(name: &str, args: &[ArgInfo<'_>], _result: &SqlType) -> Binding {
    let function = match name {
        "REGEXP" => {
            let source = Source::of(args)?;
            let constant = matches!(source, Source::Constant(_));
            let kernel = move |call: &Call<'_>| find(&source, call);
            if constant { Function::total(kernel) } else { Function::partial(kernel) }
        }
        "REGEXP_EXTRACT" => {
            let source = Source::of(args)?;
            Function::total(move |call| extract(&source, call))
        }
        "REGEXP_REPLACE" => {
            let source = Source::of(args)?;
            Function::total(move |call| replace(&source, call))
        }
        _ => return Ok(None),
    };
    Ok(Some(function))
}

fn find(source: &Source, call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let (strings, patterns) = (call.args[0].text(), call.args[1].text());
    let mut failure = None;
    let result = boolean_rows(call.rows, |row| {
        let (text, pattern) = (strings.get(row)?, patterns.get(row)?);
        if pattern.is_empty() {
            return Some(false);
        }
        source.with(call, row, |regex| match regex {
            Ok(regex) => regex.is_match(text),
            Err(pattern) => {
                failure = Some(format!("'{pattern}' is not a regular expression"));
                false
            }
        })
    });
    failure.map_or(Ok(result), |reason| Err(EvalError::user(reason)))
}

/// NULL without a match, for a group that is not there, and for a bad pattern that is not constant.
fn extract(source: &Source, call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let strings = call.args[0].text();
    text_options(call.rows, |row| {
        let text = strings.get(row)?;
        let group = call.args.get(2).map_or(Some(0), |group| group.fixed::<i32>().get(row))?;
        let group = usize::try_from(group).ok()?;
        source.with(call, row, |regex| Some(regex.ok()?.captures(text)?.get(group)?.as_str()))?
    })
}

/// The replacement is taken as it is: Flink quotes it, so `$1` is no group.
fn replace(source: &Source, call: &Call<'_>) -> Result<ArrayRef, EvalError> {
    let (strings, replacements) = (call.args[0].text(), call.args[2].text());
    text_options(call.rows, |row| {
        let (text, replacement) = (strings.get(row)?, replacements.get(row)?);
        source
            .with(call, row, |regex| Some(regex.ok()?.replace_all(text, regex::NoExpand(replacement)).into_owned()))?
    })
}

//! The one list of scalar functions and operators: the planner types calls by it, the evaluator implements it.
//!
//! A call in the graph carries a `name` of this list, and its arguments already have the types that the rule gives.
//! "string" stands for CHAR and VARCHAR of any length (Utf8). Unless a line says otherwise a function answers NULL
//! where an argument is NULL, and NULL is never an error. Units of time are upper-case string literals.
//! What is rewritten by the planner is not here: BETWEEN, NOT IN, NOT LIKE, NULLIF, IF, simple CASE, `x IS UNKNOWN`,
//! YEAR(x) .. SECOND(x).

mod rules;

use super::{Literal, SqlType};

/// An argument as the planner found it, before coercion.
#[derive(Clone, Copy, Debug)]
pub struct Arg<'a> {
    pub ty: &'a SqlType,
    pub nullable: bool,
    /// The value, where the argument is a constant.
    pub literal: Option<&'a Literal>,
}

/// The types that the arguments are cast to, and the result's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub args: Vec<SqlType>,
    pub result: SqlType,
}

/// When a function's result can be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// When an argument can be NULL. (And DECIMAL arithmetic, which answers NULL on overflow.)
    Propagate,
    /// Also on arguments that are not NULL: not found, cannot be parsed, overflow.
    Always,
    Never,
    /// When every argument can be NULL: COALESCE.
    AllArguments,
}

/// A function or operator of the list.
#[derive(Clone, Copy, Debug)]
pub struct ScalarFunction {
    /// As it stands in `ExprKind::Call`.
    pub name: &'static str,
    pub args_min: usize,
    pub args_max: usize,
    pub nulls: Nulls,
    /// Whether the result depends on nothing but the arguments.
    pub deterministic: bool,
    /// How it is written, for messages and documentation.
    pub usage: &'static str,
    /// What it answers, in a line.
    pub meaning: &'static str,
    rule: fn(&[Arg<'_>]) -> Option<Signature>,
}

/// As many arguments as one likes; the bound keeps plans finite.
pub const ARGS_ANY: usize = 1000;

impl ScalarFunction {
    /// The function with this name or alias, in upper case.
    #[must_use]
    pub fn find(name: &str) -> Option<&'static ScalarFunction> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, canonical)| canonical);
        FUNCTIONS.iter().find(|f| f.name == name)
    }

    /// The types of a call with these arguments; `None`: it does not take them.
    #[must_use]
    pub fn signature(&self, args: &[Arg<'_>]) -> Option<Signature> {
        if args.len() < self.args_min || args.len() > self.args_max {
            return None;
        }
        (self.rule)(args)
    }

    /// Whether a call with these arguments and this result can be NULL.
    #[must_use]
    pub fn nullable(&self, args: &[Arg<'_>], result: &SqlType) -> bool {
        match self.nulls {
            Nulls::Propagate => {
                let overflows = matches!(self.name, "+" | "-" | "*" | "/" | "%" | "ROUND")
                    && matches!(result, SqlType::Decimal { .. });
                overflows || args.iter().any(|a| a.nullable)
            }
            Nulls::Always => true,
            Nulls::Never => false,
            Nulls::AllArguments => args.iter().all(|a| a.nullable),
        }
    }
}

/// Other spellings.
pub const ALIASES: &[(&str, &str)] = &[
    ("CHARACTER_LENGTH", "CHAR_LENGTH"),
    ("SUBSTR", "SUBSTRING"),
    ("CEILING", "CEIL"),
    ("MOD", "%"),
    ("IFNULL", "COALESCE"),
    ("NOW", "CURRENT_TIMESTAMP"),
    ("CURRENT_ROW_TIMESTAMP", "CURRENT_TIMESTAMP"),
    ("LOCALTIME", "CURRENT_TIME"),
];

const fn f(
    name: &'static str,
    (args_min, args_max): (usize, usize),
    rule: fn(&[Arg<'_>]) -> Option<Signature>,
    nulls: Nulls,
    usage: &'static str,
    meaning: &'static str,
) -> ScalarFunction {
    ScalarFunction { name, args_min, args_max, nulls, deterministic: true, usage, meaning, rule }
}

/// A function of the time at which it is evaluated (the step's processing time).
const fn now(
    name: &'static str,
    rule: fn(&[Arg<'_>]) -> Option<Signature>,
    usage: &'static str,
    meaning: &'static str,
) -> ScalarFunction {
    ScalarFunction { name, args_min: 0, args_max: 0, nulls: Nulls::Never, deterministic: false, usage, meaning, rule }
}

use Nulls::{AllArguments, Always, Never, Propagate};

/// Every function and operator that a graph can call.
#[rustfmt::skip]
pub const FUNCTIONS: &[ScalarFunction] = &[
    // Logic, three-valued.
    f("AND", (2, ARGS_ANY), rules::booleans, Propagate, "a AND b", "FALSE if any argument is FALSE, else NULL if any is NULL, else TRUE; two or more arguments; rows where an argument is FALSE are not given to the arguments behind it (b <> 0 AND a / b > 1 does not fail)"),
    f("OR", (2, ARGS_ANY), rules::booleans, Propagate, "a OR b", "TRUE if any argument is TRUE, else NULL if any is NULL, else FALSE; two or more arguments; rows where an argument is TRUE are not given to the arguments behind it"),
    f("NOT", (1, 1), rules::booleans, Propagate, "NOT a", "NULL for NULL"),
    f("IS TRUE", (1, 1), rules::booleans, Never, "a IS TRUE", "FALSE for NULL"),
    f("IS NOT TRUE", (1, 1), rules::booleans, Never, "a IS NOT TRUE", "TRUE for NULL"),
    f("IS FALSE", (1, 1), rules::booleans, Never, "a IS FALSE", "FALSE for NULL"),
    f("IS NOT FALSE", (1, 1), rules::booleans, Never, "a IS NOT FALSE", "TRUE for NULL"),
    f("IS NULL", (1, 1), rules::any_to_boolean, Never, "a IS NULL", "any type"),
    f("IS NOT NULL", (1, 1), rules::any_to_boolean, Never, "a IS NOT NULL", "any type"),
    // Comparison: arguments of one type; DECIMALs may differ in scale where no DECIMAL(38, s) holds both, and compare by value.
    f("=", (2, 2), rules::comparison, Propagate, "a = b", "floating point: NaN = NaN is FALSE (Java's ==)"),
    f("<>", (2, 2), rules::comparison, Propagate, "a <> b", "not equal"),
    f("<", (2, 2), rules::comparison, Propagate, "a < b", "strings and bytes compare by unsigned bytes; FALSE < TRUE"),
    f("<=", (2, 2), rules::comparison, Propagate, "a <= b", "less or equal"),
    f(">", (2, 2), rules::comparison, Propagate, "a > b", "greater"),
    f(">=", (2, 2), rules::comparison, Propagate, "a >= b", "greater or equal"),
    f("IS DISTINCT FROM", (2, 2), rules::comparison, Never, "a IS DISTINCT FROM b", "like <>, but two NULLs are equal"),
    f("IS NOT DISTINCT FROM", (2, 2), rules::comparison, Never, "a IS NOT DISTINCT FROM b", "like =, but two NULLs are equal"),
    f("IN", (2, ARGS_ANY), rules::comparison, Propagate, "a IN (b, c)", "first argument equals one of the others; NULL if none does and any argument is NULL"),
    f("LIKE", (2, 3), rules::strings_to_boolean, Propagate, "s LIKE pattern [ESCAPE c]", "% any characters (newlines too), _ one character; no escape character unless given"),
    // Arithmetic. Integers wrap around on overflow (Java), division truncates; x / 0 of integers and DECIMALs is a user-data error, of
    // floating point infinity or NaN. DECIMAL results are rounded half up to the result's scale; NULL where they do not fit.
    f("+", (2, 2), rules::add, Propagate, "a + b", "numbers of one type (DECIMALs: any two); date, time, timestamp or interval + interval (or interval first); TIME wraps at a day; month end is clamped"),
    f("-", (2, 2), rules::subtract, Propagate, "a - b", "like +"),
    f("*", (2, 2), rules::multiply, Propagate, "a * b", "numbers; interval * BIGINT either way round"),
    f("/", (2, 2), rules::divide, Propagate, "a / b", "numbers"),
    f("%", (2, 2), rules::modulo, Propagate, "a % b, MOD(a, b)", "remainder with the sign of a"),
    f("NEGATE", (1, 1), rules::same_number, Propagate, "-a", "number or interval"),
    f("ABS", (1, 1), rules::same_number, Propagate, "ABS(number)", "absolute value; the least integer stays itself (Java)"),
    f("SIGN", (1, 1), rules::same_number, Propagate, "SIGN(number)", "-1, 0 or 1 in the argument's type"),
    f("CEIL", (1, 1), rules::whole_number, Propagate, "CEIL(number)", "least whole number not below; DECIMAL(p, s) gives DECIMAL(p, 0)"),
    f("FLOOR", (1, 1), rules::whole_number, Propagate, "FLOOR(number)", "greatest whole number not above; DECIMAL(p, s) gives DECIMAL(p, 0)"),
    f("ROUND", (1, 2), rules::round, Propagate, "ROUND(number[, digits])", "half up (away from zero), DECIMAL to the result's scale; negative digits round left of the point"),
    f("TRUNCATE", (1, 2), rules::round, Propagate, "TRUNCATE(number[, digits])", "towards zero"),
    f("POWER", (2, 2), rules::doubles, Propagate, "POWER(base, exponent)", "DOUBLE"),
    f("SQRT", (1, 1), rules::doubles, Propagate, "SQRT(number)", "DOUBLE; NaN below zero"),
    f("EXP", (1, 1), rules::doubles, Propagate, "EXP(number)", "DOUBLE"),
    f("LN", (1, 1), rules::doubles, Propagate, "LN(number)", "DOUBLE"),
    f("LOG10", (1, 1), rules::doubles, Propagate, "LOG10(number)", "DOUBLE"),
    f("LOG2", (1, 1), rules::doubles, Propagate, "LOG2(number)", "DOUBLE"),
    f("LOG", (1, 2), rules::doubles, Propagate, "LOG(number), LOG(base, number)", "DOUBLE; natural with one argument"),
    f("GREATEST", (1, ARGS_ANY), rules::common_of_all, Propagate, "GREATEST(a, ...)", "largest of the arguments, of one type"),
    f("LEAST", (1, ARGS_ANY), rules::common_of_all, Propagate, "LEAST(a, ...)", "smallest of the arguments, of one type"),
    f("COALESCE", (1, ARGS_ANY), rules::common_of_all, AllArguments, "COALESCE(a, ...)", "first argument that is not NULL; all of one type"),
    // Strings. Positions and lengths count characters (code points), from 1.
    f("UPPER", (1, 1), rules::strings, Propagate, "UPPER(string)", "upper case"),
    f("LOWER", (1, 1), rules::strings, Propagate, "LOWER(string)", "lower case"),
    f("INITCAP", (1, 1), rules::strings, Propagate, "INITCAP(string)", "first letter of each word (run of letters and digits) upper case, the others lower case"),
    f("TRIM", (2, 2), rules::strings, Propagate, "TRIM([BOTH] [chars FROM] string)", "first argument without the characters of the second on both sides (the planner gives ' ')"),
    f("LTRIM", (2, 2), rules::strings, Propagate, "LTRIM(string[, chars])", "on the left; the planner gives ' '"),
    f("RTRIM", (2, 2), rules::strings, Propagate, "RTRIM(string[, chars])", "on the right; the planner gives ' '"),
    f("SUBSTRING", (2, 3), rules::string_ints, Always, "SUBSTRING(string, start[, length])", "start > 0 from the left, < 0 from the right (before the first character: ''), 0 is 1; past the end ''; NULL for a negative length"),
    f("LEFT", (2, 2), rules::string_ints, Propagate, "LEFT(string, length)", "leftmost characters; '' for a negative length"),
    f("RIGHT", (2, 2), rules::string_ints, Propagate, "RIGHT(string, length)", "rightmost characters; '' for a negative length"),
    f("||", (2, ARGS_ANY), rules::concat_operator, Propagate, "a || b", "two or more strings one after the other"),
    f("CONCAT", (1, ARGS_ANY), rules::strings, Propagate, "CONCAT(string, ...)", "NULL if any is NULL"),
    f("CONCAT_WS", (1, ARGS_ANY), rules::strings, Propagate, "CONCAT_WS(separator, string, ...)", "skips NULL strings; NULL for a NULL separator"),
    f("CHAR_LENGTH", (1, 1), rules::strings_to_int, Propagate, "CHAR_LENGTH(string)", "INT characters"),
    f("REPLACE", (3, 3), rules::strings, Propagate, "REPLACE(string, search, replacement)", "all occurrences; an empty search puts the replacement around every character (Java)"),
    f("POSITION", (2, 2), rules::strings_to_int, Propagate, "POSITION(needle IN string)", "arguments needle, string; first position or 0; an empty needle is at 1"),
    f("LOCATE", (2, 3), rules::two_strings_ints_to_int, Propagate, "LOCATE(needle, string[, start])", "like POSITION, searching from start; a start < 1 is 1"),
    f("INSTR", (2, 2), rules::strings_to_int, Propagate, "INSTR(string, needle)", "POSITION with the arguments the other way round"),
    f("LPAD", (3, 3), rules::pad, Always, "LPAD(string, length, pad)", "padded on the left or cut on the right to length; NULL for a negative length or an empty pad"),
    f("RPAD", (3, 3), rules::pad, Always, "RPAD(string, length, pad)", "like LPAD, padded on the right"),
    f("REVERSE", (1, 1), rules::strings, Propagate, "REVERSE(string)", "characters backwards"),
    f("REPEAT", (2, 2), rules::string_ints, Propagate, "REPEAT(string, times)", "'' for times < 1; a result beyond 16 MiB is a user-data error"),
    f("SPLIT_INDEX", (3, 3), rules::two_strings_ints, Always, "SPLIT_INDEX(string, separator, index)", "part number index from 0 of the string split at the separator; NULL when there is none or index < 0; an empty string has no parts"),
    f("STARTSWITH", (2, 2), rules::strings_to_boolean, Propagate, "STARTSWITH(string, prefix)", "TRUE for an empty prefix"),
    f("ENDSWITH", (2, 2), rules::strings_to_boolean, Propagate, "ENDSWITH(string, suffix)", "TRUE for an empty suffix"),
    f("REGEXP", (2, 2), rules::strings_to_boolean, Propagate, "REGEXP(string, pattern)", "whether a part of the string matches (find, not full match); FALSE for an empty pattern; a bad pattern is a user error, at compile time where it is a literal"),
    f("REGEXP_EXTRACT", (2, 3), rules::two_strings_ints, Always, "REGEXP_EXTRACT(string, pattern[, group])", "the group (default 0: all) of the first match; NULL without a match or for a group that is not there"),
    f("REGEXP_REPLACE", (3, 3), rules::strings, Always, "REGEXP_REPLACE(string, pattern, replacement)", "all matches; the replacement is taken as it is, $1 is no group; NULL for a bad pattern that is not a literal"),
    f("ASCII", (1, 1), rules::strings_to_int, Propagate, "ASCII(string)", "INT first byte of the UTF-8 form as a signed byte (Java); 0 for ''"),
    f("MD5", (1, 1), rules::strings, Propagate, "MD5(string)", "32 lower-case hexadecimal digits of the UTF-8 form"),
    f("SHA256", (1, 1), rules::strings, Propagate, "SHA256(string)", "64 lower-case hexadecimal digits of the UTF-8 form"),
    // Time, UTC. Patterns are Java's SimpleDateFormat / DateTimeFormatter letters (y M d H h m s S a E, quotes).
    f("EXTRACT", (2, 2), rules::extract, Propagate, "EXTRACT(unit FROM time)", "BIGINT; arguments unit, time; units EPOCH MILLENNIUM CENTURY DECADE YEAR ISOYEAR QUARTER MONTH WEEK (ISO) DAY DOW (Sunday 1) ISODOW (Monday 1) DOY HOUR MINUTE SECOND (whole) MILLISECOND MICROSECOND NANOSECOND (since the last full second)"),
    f("FLOOR_TO", (2, 2), rules::round_time, Propagate, "FLOOR(time TO unit)", "arguments unit, time; units YEAR QUARTER MONTH WEEK (from Sunday) DAY HOUR MINUTE SECOND MILLISECOND"),
    f("CEIL_TO", (2, 2), rules::round_time, Propagate, "CEIL(time TO unit)", "like FLOOR_TO, upwards; a time on the unit stays"),
    f("TIMESTAMPADD", (3, 3), rules::timestamp_add, Propagate, "TIMESTAMPADD(unit, count, time)", "arguments unit, BIGINT, DATE or timestamp; units YEAR QUARTER MONTH WEEK DAY HOUR MINUTE SECOND MILLISECOND; month end is clamped"),
    f("TIMESTAMPDIFF", (3, 3), rules::timestamp_diff, Propagate, "TIMESTAMPDIFF(unit, from, to)", "INT whole units from `from` to `to`, towards zero; months by calendar; two timestamps of one type"),
    f("DATE_FORMAT", (2, 2), rules::date_format, Always, "DATE_FORMAT(timestamp, pattern)", "TIMESTAMP or TIMESTAMP_LTZ as text; a pattern with other letters is a user error"),
    f("TO_TIMESTAMP", (1, 2), rules::strings_to_timestamp, Always, "TO_TIMESTAMP(string[, pattern])", "TIMESTAMP(3); default yyyy-MM-dd HH:mm:ss with an optional fraction, or the date alone; NULL when it cannot be parsed"),
    f("TO_TIMESTAMP_LTZ", (1, 2), rules::to_timestamp_ltz, Always, "TO_TIMESTAMP_LTZ(epoch[, precision]), TO_TIMESTAMP_LTZ(string[, pattern])", "TIMESTAMP_LTZ(3); BIGINT in seconds (precision 0) or milliseconds (3, the default), NULL when out of range; strings as TO_TIMESTAMP, in UTC"),
    f("TO_DATE", (1, 2), rules::strings_to_date, Always, "TO_DATE(string[, pattern])", "DATE; default yyyy-MM-dd; NULL when it cannot be parsed"),
    f("UNIX_TIMESTAMP", (1, 2), rules::strings_to_bigint, Propagate, "UNIX_TIMESTAMP(string[, pattern])", "BIGINT seconds; default yyyy-MM-dd HH:mm:ss; Long.MIN_VALUE when it cannot be parsed (Flink)"),
    f("FROM_UNIXTIME", (1, 2), rules::from_unixtime, Always, "FROM_UNIXTIME(seconds[, pattern])", "BIGINT as text; default yyyy-MM-dd HH:mm:ss"),
    now("CURRENT_TIMESTAMP", rules::now_ltz, "CURRENT_TIMESTAMP", "TIMESTAMP_LTZ(3)"),
    now("LOCALTIMESTAMP", rules::now_local, "LOCALTIMESTAMP", "TIMESTAMP(3), UTC"),
    now("CURRENT_DATE", rules::now_date, "CURRENT_DATE", "DATE, UTC"),
    now("CURRENT_TIME", rules::now_time, "CURRENT_TIME", "TIME(0), UTC"),
    now("CURRENT_UNIX_TIMESTAMP", rules::now_seconds, "UNIX_TIMESTAMP()", "BIGINT seconds"),
    now("PROCTIME", rules::now_ltz, "PROCTIME()", "TIMESTAMP_LTZ(3)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_aliases_lead_somewhere() {
        for (i, function) in FUNCTIONS.iter().enumerate() {
            assert!(FUNCTIONS[..i].iter().all(|f| f.name != function.name), "{} twice", function.name);
            assert!(function.args_min <= function.args_max);
        }
        for (alias, canonical) in ALIASES {
            assert_eq!(ScalarFunction::find(alias).unwrap().name, *canonical);
        }
    }

    #[test]
    fn a_null_literal_takes_the_type_that_is_wanted() {
        let null = Arg { ty: &SqlType::Null, nullable: true, literal: Some(&Literal::Null) };
        let upper = ScalarFunction::find("UPPER").unwrap();
        assert_eq!(upper.signature(&[null]).unwrap().args, [SqlType::STRING]);
        assert!(upper.nullable(&[null], &SqlType::STRING));
    }
}

//! Reading of a WITH clause: each option once, by its type; what nobody asked for is unknown.

use std::collections::BTreeMap;

use millstream_api::flinkjob::options::parse_flag;
use millstream_api::flinkjob::{DURATION_EXPECTED, parse_duration_ms};

use crate::ast::{CreateTable, OptionDef};
use crate::error::{Position, Result, SqlError, did_you_mean};

pub(super) struct Options<'a> {
    def: &'a CreateTable,
    /// Not yet taken.
    left: BTreeMap<&'a str, &'a OptionDef>,
    /// Keys that were asked for: what a slip of the keyboard may have meant.
    known: Vec<String>,
    /// The connector's name, for messages.
    pub connector: String,
}

impl<'a> Options<'a> {
    pub fn new(def: &'a CreateTable) -> Result<Self> {
        let mut left = BTreeMap::new();
        for option in &def.options {
            if left.insert(option.key.as_str(), option).is_some() {
                return Err(SqlError::at(option.position, format!("the option '{}' is given twice", option.key)));
            }
        }
        Ok(Self { def, left, known: Vec::new(), connector: String::new() })
    }

    pub fn position(&self) -> Position {
        self.def.options_position
    }

    /// Options not yet taken.
    pub fn left_len(&self) -> usize {
        self.left.len()
    }

    /// The option, when it is given.
    pub fn take(&mut self, key: &str) -> Option<&'a OptionDef> {
        self.known.push(key.to_owned());
        self.left.remove(key)
    }

    /// The option, when nobody has taken it.
    pub fn take_left(&mut self, key: &str) -> Option<&'a OptionDef> {
        self.left.remove(key)
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        self.take(key).map(|o| o.value.clone())
    }

    /// The options whose keys begin with `prefix`, without it.
    pub fn take_prefix(&mut self, prefix: &str) -> Vec<(&'a str, &'a OptionDef)> {
        let found: Vec<_> =
            self.left.iter().filter_map(|(key, option)| key.strip_prefix(prefix).map(|rest| (rest, *option))).collect();
        for (_, option) in &found {
            self.left.remove(option.key.as_str());
        }
        found
    }

    /// Fails when one of these is missing, and names all that are. A group stands for any one of its keys.
    pub fn require(&self, groups: &[&[&str]]) -> Result<()> {
        let lacks = |keys: &&&[&str]| !keys.iter().any(|key| self.left.contains_key(*key));
        let either = |keys: &&[&str]| keys.iter().map(|k| format!("'{k}'")).collect::<Vec<_>>().join(" or ");
        let missing: Vec<String> = groups.iter().filter(lacks).map(either).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let message = format!(
            "the table '{}' (connector '{}') lacks the option{} {}",
            self.def.name.text,
            self.connector,
            if missing.len() == 1 { "" } else { "s" },
            missing.join(", ")
        );
        let nearest = groups
            .iter()
            .flat_map(|g| g.iter())
            .find_map(|wanted| crate::error::nearest(wanted, self.left.keys().copied()).map(|given| (given, *wanted)));
        Err(SqlError::at(self.position(), message)
            .hint_opt(nearest.map(|(given, wanted)| format!("is '{given}' meant to be '{wanted}'?"))))
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", parse_flag)
    }

    pub fn duration_ms(&mut self, key: &str) -> Result<Option<u64>> {
        self.typed(key, DURATION_EXPECTED, parse_duration_ms)
    }

    pub fn number<T: std::str::FromStr>(&mut self, key: &str, expected: &str) -> Result<Option<T>> {
        self.typed(key, expected, |text| text.trim().parse().ok())
    }

    /// Where the option stands, or else the WITH clause.
    pub fn position_of(&self, key: &str) -> Position {
        self.def.options.iter().find(|o| o.key == key).map_or(self.position(), |o| o.position)
    }

    /// One of the named values, without regard to case.
    pub fn choice<T: Clone>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>> {
        let expected = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        self.typed(key, &expected, |text| {
            choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim())).map(|(_, value)| value.clone())
        })
    }

    /// The value as `parse` reads it.
    pub fn typed<T>(&mut self, key: &str, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(option) = self.take(key) else { return Ok(None) };
        match parse(&option.value) {
            Some(value) => Ok(Some(value)),
            None if option.value.contains("${") => {
                Err(SqlError::at(option.value_position, format!("the option '{key}' cannot be a placeholder"))
                    .hint(format!("expected {expected}")))
            }
            None => Err(bad_value(option, expected)),
        }
    }

    /// An option of Flink's that does nothing like it here.
    pub fn refuse(&mut self, key: &str, instead: &str) -> Result<()> {
        match self.left.remove(key) {
            Some(option) => Err(SqlError::unsupported(option.position, format!("the option '{key}'")).hint(instead)),
            None => Ok(()),
        }
    }

    /// Fails for options that nobody took.
    pub fn finish(self) -> Result<()> {
        let Some(option) = self.left.values().min_by_key(|o| o.position) else { return Ok(()) };
        let message = format!("unknown option '{}' of the connector '{}'", option.key, self.connector);
        let hint = did_you_mean(&option.key, self.known.iter().map(String::as_str));
        Err(SqlError::at(option.position, message).hint_opt(hint))
    }
}

pub(super) fn bad_value(option: &OptionDef, expected: &str) -> SqlError {
    SqlError::at(
        option.value_position,
        format!("'{}' is no value of '{}': expected {expected}", option.value, option.key),
    )
}

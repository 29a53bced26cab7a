//! Secrets: `${NAME}` in an option's value stands for the variable NAME of the worker's environment.
//!
//! Owns: finding and filling in the placeholders. Does not own: which options may hold one. Filled-in values live only
//! where they are used: never in the graph, a manifest, a log line or an error.

use std::collections::BTreeMap;

use thiserror::Error;

/// A placeholder that cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecretError {
    #[error(
        "option '{option}' takes ${{{name}}}, but the environment has no variable {name}; set it (or mount the Secret)"
    )]
    Missing { option: String, name: String },
    #[error("option '{option}' has a malformed placeholder '{found}': expected ${{NAME}} with letters, digits and _")]
    Malformed { option: String, found: String },
}

/// One option's value with every placeholder filled in from this process's environment.
pub fn resolve_value(option: &str, value: &str) -> Result<String, SecretError> {
    fill_in(option, value, &|name| std::env::var(name).ok())
}

/// The options with every placeholder filled in from this process's environment.
pub fn resolve(options: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, SecretError> {
    resolve_from(options, |name| std::env::var(name).ok())
}

fn resolve_from(
    options: &BTreeMap<String, String>,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, SecretError> {
    options.iter().map(|(option, value)| Ok((option.clone(), fill_in(option, value, &lookup)?))).collect()
}

/// What a variable holds is taken as it is: a placeholder inside it is not filled in again.
fn fill_in(option: &str, value: &str, lookup: &impl Fn(&str) -> Option<String>) -> Result<String, SecretError> {
    let mut filled = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        filled.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let malformed = |found: &str| SecretError::Malformed { option: option.to_owned(), found: found.to_owned() };
        let end = inner.find('}').ok_or_else(|| malformed(&rest[at..]))?;
        let name = &inner[..end];
        if !is_variable_name(name) {
            return Err(malformed(&rest[at..=at + 2 + end]));
        }
        let secret =
            lookup(name).ok_or_else(|| SecretError::Missing { option: option.to_owned(), name: name.to_owned() })?;
        filled.push_str(&secret);
        rest = &inner[end + 1..];
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resolved(value: &str) -> Result<String, SecretError> {
        let options = BTreeMap::from([("properties.x".to_owned(), value.to_owned())]);
        let lookup = |name: &str| match name {
            "PASSWORD" => Some("p$w{${USER}".to_owned()),
            "USER_1" => Some("me".to_owned()),
            _ => None,
        };
        resolve_from(&options, lookup).map(|mut o| o.remove("properties.x").unwrap_or_default())
    }

    #[test]
    fn fills_in_every_placeholder_once() {
        assert_eq!(resolved("a ${USER_1}=\"${PASSWORD}\";").as_deref(), Ok("a me=\"p$w{${USER}\";"));
        assert_eq!(resolved("costs $5 {x} $").as_deref(), Ok("costs $5 {x} $"));
    }

    #[test]
    fn says_what_is_missing_without_the_rest_of_the_value() {
        let error = resolved("secret-prefix ${NOPE}").unwrap_err().to_string();
        assert!(
            error.contains("properties.x") && error.contains("NOPE") && !error.contains("secret-prefix"),
            "{error}"
        );
        for bad in ["${", "${}", "${a b}", "${1x}", "${file:/x}"] {
            assert!(matches!(resolved(bad), Err(SecretError::Malformed { .. })), "{bad}");
        }
    }
}

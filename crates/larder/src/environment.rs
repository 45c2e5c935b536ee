//! The process's environment: read once, here and nowhere else, and handed on as a value.
//!
//! Tests make one from pairs instead.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// Environment variables, as they were when the process began.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
        }
    }

    /// An environment of the given pairs.
    pub fn of_pairs<const N: usize>(pairs: [(&str, &str); N]) -> Self {
        Self {
            variables: pairs.iter().map(|(k, v)| (k.into(), v.into())).collect(),
        }
    }

    /// A variable that holds text; absent if it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(OsString::from(name).as_os_str())?;
        value.to_str().filter(|text| !text.is_empty())
    }

    /// A variable that holds a path; absent if it is empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(OsString::from(name).as_os_str())?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// All variables whose names begin with `prefix`: what follows it, and the value.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.variables.iter().filter_map(move |(name, value)| {
            let name = name.to_str()?.strip_prefix(prefix)?;
            Some((name, value.to_str()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_absent() {
        let environment = Environment::of_pairs([("A", ""), ("B", "b")]);
        assert_eq!(environment.text("A"), None);
        assert_eq!(environment.path("A"), None);
        assert_eq!(environment.text("B"), Some("b"));
    }

    #[test]
    fn a_prefix_is_taken_off() {
        let environment = Environment::of_pairs([("LARDER__A", "1"), ("LARDER_B", "2")]);
        let found: Vec<_> = environment.with_prefix("LARDER__").collect();
        assert_eq!(found, [("A", "1")]);
    }
}

//! Names that clients give to files: where they may lead.
//!
//! matchbox takes `a/b` as a file in a sub-directory and cuts `..` off silently, so that two names
//! mean one file. Here sub-directories work and everything else is an error that says why.

use std::path::PathBuf;

use crate::error::Error;

/// The relative path of `name` with `suffix`, beneath its directory.
pub(super) fn file(kind: &'static str, name: &str, suffix: &str) -> Result<PathBuf, Error> {
    let refused = |why| {
        Err(Error::Name {
            kind,
            name: name.chars().take(80).collect(),
            why,
        })
    };
    if name.is_empty() {
        return refused("is empty");
    }
    if name.len() + suffix.len() > 1024 {
        return refused("is too long");
    }
    if name.chars().any(char::is_control) {
        return refused("holds a control character");
    }
    if name.split('/').any(|part| part == "..") {
        return refused("leaves its directory");
    }
    if name.split('/').any(|part| matches!(part, "" | ".")) {
        return refused("has an empty part");
    }
    Ok(PathBuf::from(format!("{name}{suffix}")))
}

/// As [`file`], for one that is to be written. What begins with a dot is read where it is named, as matchbox
/// does, and is nobody's to list: editors and the writing itself leave such files.
pub(super) fn new_file(kind: &'static str, name: &str, suffix: &str) -> Result<PathBuf, Error> {
    let path = file(kind, name, suffix)?;
    if name.split('/').any(|part| part.starts_with('.')) {
        return Err(Error::Name {
            kind,
            name: name.chars().take(80).collect(),
            why: "begins a part with a dot: such files are not listed",
        });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_beneath_their_directory() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../../x",
            "/etc/passwd",
            "a//b",
            "a/",
            "a\0b",
            "a\nb",
        ] {
            assert!(file("group", bad, ".json").is_err(), "{bad:?}");
            assert!(new_file("group", bad, ".json").is_err(), "{bad:?}");
        }
        for hidden in [".hidden", "a/.hid/b"] {
            assert!(file("group", hidden, ".json").is_ok(), "{hidden:?}");
            assert!(new_file("group", hidden, ".json").is_err(), "{hidden:?}");
        }
        assert!(file("group", &"a".repeat(1025), "").is_err());
        assert_eq!(
            file("group", "a/b..c", ".json").unwrap(),
            PathBuf::from("a/b..c.json")
        );
    }
}

//! What an exported folder or tar file says of itself, so that it can be taken in again as it was:
//! a line of JSON for each object in `larder-manifest.jsonl` at its top.

use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The manifest's name.
pub(super) const NAME: &str = "larder-manifest.jsonl";
/// A manifest may have this many bytes.
const LENGTH_MAX: u64 = 4 << 30;
/// A name in a file system may have this many bytes.
const NAME_MAX: usize = 255;

/// One object.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Entry {
    /// Where its bytes are, below the top.
    pub(super) path: String,
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
    pub(super) url: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) status: u16,
    /// Unix seconds at which it came from its origin.
    pub(super) fetched: i64,
    pub(super) head: Vec<(String, String)>,
}

impl Entry {
    /// The path, if it stays below the top whoever wrote it.
    pub(super) fn path_below(&self) -> Option<PathBuf> {
        below(Path::new(&self.path))
    }
}

/// Reads the objects that a manifest names. A line that is none is told with its number.
pub(super) fn read(from: impl Read) -> io::Result<Vec<Entry>> {
    let mut text = String::new();
    from.take(LENGTH_MAX).read_to_string(&mut text)?;
    let lines = text.lines().enumerate();
    lines
        .map(|(at, line)| {
            serde_json::from_str(line)
                .map_err(|error| io::Error::other(format!("{NAME}, line {}: {error}", at + 1)))
        })
        .collect()
}

/// A path without anything that leads out of the folder that it is joined to.
pub(super) fn below(path: &Path) -> Option<PathBuf> {
    let plain = path
        .components()
        .filter(|part| !matches!(part, Component::CurDir));
    let parts: Vec<Component<'_>> = plain.collect();
    let all_below = parts
        .iter()
        .all(|part| matches!(part, Component::Normal(_)));
    (all_below && !parts.is_empty()).then(|| parts.into_iter().collect())
}

/// Where a URL's bytes lie in a tree: `http/host/path`, so that a web server over the tree, or
/// `file://`, serves as a mirror. `None`: no file can have this name.
pub(super) fn path_of(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let rest = rest
        .strip_suffix('/')
        .map_or_else(|| rest.to_owned(), |folder| format!("{folder}/index.html"));
    let path = format!("{scheme}/{rest}");
    let fits = path
        .split('/')
        .all(|name| !name.is_empty() && name.len() <= NAME_MAX && name != "." && name != "..");
    (fits && path.contains('/') && path != NAME).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_becomes_a_path_below_the_top_or_none() {
        assert_eq!(
            path_of("http://h/a/b.rpm").as_deref(),
            Some("http/h/a/b.rpm")
        );
        assert_eq!(
            path_of("http://h:81/").as_deref(),
            Some("http/h:81/index.html")
        );
        assert_eq!(path_of("http://h/a?x=1").as_deref(), Some("http/h/a?x=1"));
        for none in ["http://h/a//b", "http://h/../b", "nothing"] {
            assert_eq!(path_of(none), None, "{none}");
        }
        assert_eq!(path_of(&format!("http://h/{}", "a".repeat(300))), None);
    }

    #[test]
    fn a_line_that_names_nothing_is_told_by_its_number() {
        let good = r#"{"path":"a","key":"url:http://h/a","url":"http://h/a","bytes":1,"sha256":"ab","status":200,"fetched":1,"head":[]}"#;
        let text = format!("{good}\n{}", &good[..40]);
        let error = read(text.as_bytes()).expect_err("cut off");
        assert!(
            error
                .to_string()
                .starts_with("larder-manifest.jsonl, line 2: "),
            "{error}"
        );
        assert_eq!(read(good.as_bytes()).expect("whole").len(), 1);
    }

    #[test]
    fn a_manifest_that_leads_out_of_its_folder_is_not_followed() {
        assert_eq!(below(Path::new("./a/b")), Some(PathBuf::from("a/b")));
        for bad in ["../a", "/etc/passwd", "a/../../b", "", "."] {
            assert_eq!(below(Path::new(bad)), None, "{bad}");
        }
    }
}

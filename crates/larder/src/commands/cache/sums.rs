//! What `SHA256SUMS` files announce: in a file's own folder, and in any folder above it.
//!
//! Such a file is there so that what it names is compared: one that cannot be read or understood
//! ends the import, and two that contradict each other let nothing in.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// Its name.
pub(super) const NAME: &str = "SHA256SUMS";

/// Paths below a folder and the digests that they are to have.
type Announced = HashMap<PathBuf, String>;

/// What is announced, by the folder that announces it.
#[derive(Debug, Default)]
pub(super) struct Sums(HashMap<PathBuf, Announced>);

/// What is announced of one file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Digest(String),
    /// Two folders say different things.
    Contradiction,
}

impl Sums {
    /// What is announced of a file below `top`; folders are read once.
    pub(super) fn of(&mut self, top: &Path, relative: &Path) -> io::Result<Said> {
        for folder in relative.ancestors().skip(1) {
            if !self.0.contains_key(folder) {
                let path = top.join(folder).join(NAME);
                let announced = match fs::read(&path) {
                    Ok(text) => parsed(&text, &path)?,
                    Err(error) if error.kind() == ErrorKind::NotFound => Announced::new(),
                    Err(error) => return Err(named(&path, &error)),
                };
                self.0.insert(folder.to_owned(), announced);
            }
        }
        Ok(self.known(relative))
    }

    /// Takes in a file that an archive has.
    pub(super) fn take(&mut self, path: &Path, text: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.0.insert(folder, parsed(text, path)?);
        Ok(())
    }

    /// What is announced by the folders that were taken in.
    pub(super) fn known(&self, relative: &Path) -> Said {
        let mut said = Said::Nothing;
        for folder in relative.ancestors().skip(1) {
            let below = relative.strip_prefix(folder).unwrap_or(relative);
            let Some(digest) = self.0.get(folder).and_then(|sums| sums.get(below)) else {
                continue;
            };
            said = match said {
                Said::Nothing => Said::Digest(digest.clone()),
                Said::Digest(other) if other == *digest => Said::Digest(other),
                Said::Digest(_) | Said::Contradiction => return Said::Contradiction,
            };
        }
        said
    }
}

fn named(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

fn parsed(text: &[u8], path: &Path) -> io::Result<Announced> {
    let mut announced = Announced::new();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some((name, digest)) = of_line(line) {
            announced.insert(name, digest);
        } else if has_digest(line) {
            let line = String::from_utf8_lossy(line);
            return Err(named(
                path,
                &format!("this line cannot be understood: {line}"),
            ));
        }
    }
    Ok(announced)
}

/// `DIGEST  NAME` or `DIGEST *NAME`, as sha256sum writes it (a backslash before it if the name has
/// one within, or a line feed), or `SHA256 (NAME) = DIGEST`. Names are octets in any encoding.
fn of_line(line: &[u8]) -> Option<(PathBuf, String)> {
    if let Some(rest) = line.strip_prefix(b"SHA256 (") {
        let at = rest.windows(4).rposition(|part| part == b") = ")?;
        let (name, digest) = rest.split_at_checked(at)?;
        return Some((path(name.to_vec()), hex(digest.get(4..)?)?));
    }
    let escaped = line.strip_prefix(b"\\");
    let (digest, rest) = escaped.unwrap_or(line).split_at_checked(64)?;
    let name = rest
        .strip_prefix(b"  ")
        .or_else(|| rest.strip_prefix(b" *"))?;
    let name = match escaped {
        Some(_) => unescaped(name)?,
        None => name.to_vec(),
    };
    (!name.is_empty()).then_some(())?;
    Some((path(name), hex(digest)?))
}

fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        plain.push(match byte {
            b'\\' => match rest.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(plain)
}

fn path(name: Vec<u8>) -> PathBuf {
    let path = PathBuf::from(std::ffi::OsString::from_vec(name));
    let plain = path.strip_prefix(".").map(Path::to_owned);
    plain.unwrap_or(path)
}

fn hex(digest: &[u8]) -> Option<String> {
    let good = digest.len() == 64 && digest.iter().all(u8::is_ascii_hexdigit);
    let text = std::ffi::OsStr::from_bytes(digest).to_str()?;
    good.then(|| text.to_ascii_lowercase())
}

/// True for a line that means to announce something.
fn has_digest(line: &[u8]) -> bool {
    line.split(|byte| !byte.is_ascii_hexdigit())
        .any(|run| run.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_in_all_forms_and_what_means_to_announce_is_not_passed_over() {
        let digest = "ab".repeat(32);
        let lines = [
            format!("{digest}  a.iso").into_bytes(),
            format!("{digest} *./a.iso").into_bytes(),
            format!("SHA256 (a.iso) = {}", digest.to_uppercase()).into_bytes(),
        ];
        for line in &lines {
            assert_eq!(
                of_line(line),
                Some((PathBuf::from("a.iso"), digest.clone()))
            );
        }
        let mut odd = format!("\\{digest}  a\\nb\\\\").into_bytes();
        odd.push(0xe9);
        let name = std::ffi::OsString::from_vec(b"a\nb\\\xe9".to_vec());
        assert_eq!(of_line(&odd), Some((PathBuf::from(name), digest.clone())));
        assert!(
            parsed(b"Hash: SHA256\n\n", Path::new("x"))
                .expect("nothing said")
                .is_empty()
        );
        let garbled = format!("a.iso {digest}");
        assert!(parsed(garbled.as_bytes(), Path::new("x")).is_err());
    }

    #[test]
    fn a_folder_above_speaks_too_and_a_contradiction_is_one() {
        let (one, other) = ("ab".repeat(32), "cd".repeat(32));
        let mut sums = Sums::default();
        let mut take = |folder: &str, text: String| {
            sums.take(&Path::new(folder).join(NAME), text.as_bytes())
                .expect("good");
        };
        take("", format!("{one}  sub/a.rpm\n{one}  sub/b.rpm\n"));
        take("sub", format!("{one}  a.rpm\n{other}  b.rpm\n"));
        let of = |path: &str| sums.known(Path::new(path));
        assert_eq!(of("sub/a.rpm"), Said::Digest(one));
        assert_eq!(of("sub/b.rpm"), Said::Contradiction);
        assert_eq!(of("sub/c.rpm"), Said::Nothing);
    }

    #[test]
    fn one_that_cannot_be_read_lets_nothing_in() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(NAME)).expect("made");
        let mut sums = Sums::default();
        assert!(sums.of(folder.path(), Path::new("a.rpm")).is_err());
    }
}

//! `larder cache import`: objects from a folder or a tar file into the cache, under the keys that
//! clients ask for.
//!
//! What an export has written comes back as it was: its manifest says key, head and digest, and
//! what does not have its digest is refused. Any other folder (a mounted DVD, a copied repository)
//! is taken as what lies below a URL; what a `SHA256SUMS` beside it or above it names must agree.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use larder_policy::url::Url;
use larder_store::Digest;
use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};

use super::manifest::{self, Entry};
use super::sums::{self, Said, Sums};
use super::tell::{Progress, text};
use super::{Session, show};
use crate::output::{self, Failure};

/// Octets of a file's name that stand for themselves in a URL's path (RFC 3986 §3.3).
const PLAIN: &[u8] = b"-._~!$&'()*+,;=:@";

/// The words of `larder cache import`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Folders, or files whose names end in .tar
    #[arg(required = true)]
    from: Vec<PathBuf>,
    /// The URL below which clients will ask for what has no manifest
    #[arg(long = "as", value_name = "BASE-URL")]
    base: Option<String>,
}

/// What became of files.
#[derive(Debug, Default)]
struct Sum {
    stored: u64,
    held: u64,
    refused: u64,
    /// What was stored, as [`name_of`] has it.
    names: HashSet<u64>,
}

/// A number for key and variant.
fn name_of(key: &str, variant: Option<&str>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, variant).hash(&mut hasher);
    hasher.finish()
}

/// How many of the stored have left again to make room for the others.
fn left_again(session: &Session, mut names: HashSet<u64>) -> Result<u64, Failure> {
    let mut progress = Progress::of("reading");
    session.lines("/api/v1/objects", None, |line| {
        if !progress.takes(&line) {
            names.remove(&name_of(text(&line, "key"), line["variant"].as_str()));
        }
        true
    })?;
    Ok(names.len() as u64)
}

fn evictions(session: &Session) -> Result<Value, Failure> {
    Ok(session.get("/api/v1/status")?["cache"]["evictions"].take())
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let base = match &args.base {
        Some(base) => {
            let mut base = base.clone();
            if base.contains(['?', '#']) {
                let why = "what lies below a URL has neither its query nor its fragment";
                return Err(Failure::Usage(format!("{base}: {why}")));
            }
            if !base.ends_with('/') {
                base.push('/');
            }
            Url::parse(&base).map_err(|error| Failure::Usage(format!("{base}: {error}")))?;
            Some(base)
        }
        None => None,
    };
    let mut sum = Sum::default();
    let evicted = evictions(session)?;
    for from in &args.from {
        let is_tar = from.extension().is_some_and(|end| end == "tar") && from.is_file();
        if !is_tar && from.is_file() {
            return Err(Failure::Usage(format!(
                "{} is neither a folder nor a file whose name ends in .tar: unpack what is compressed, and name the folder of packages",
                from.display()
            )));
        }
        let taken = if is_tar {
            tar_file(session, from, base.as_deref(), &mut sum)
        } else {
            folder(session, from, base.as_deref(), &mut sum)
        };
        taken.map_err(|error| match error {
            Wrong::Io(error) => Failure::step(format!("cannot read {}", from.display()), error),
            Wrong::NoBase => Failure::Usage(format!(
                "{} has no manifest: say with --as which URL it stands for",
                from.display()
            )),
            Wrong::Cacache => Failure::Usage(format!(
                "{} is a cacache cache, which says of no file under which URL it was: export a folder or a tar file and import that",
                from.display()
            )),
            Wrong::Failed(failure) => failure,
        })?;
    }
    let Sum {
        stored,
        held,
        refused,
        names,
    } = sum;
    let left = if evictions(session)? == evicted {
        0
    } else {
        left_again(session, names)?
    };
    if json {
        let sum = json!({"stored": stored, "held": held, "refused": refused, "left": left});
        output::text(&format!("{sum}\n"))?;
    } else {
        output::text(&format!(
            "{stored} objects stored, {held} held already, {refused} refused\n"
        ))?;
    }
    if left > 0 {
        output::notice(&format!(
            "{left} of them have left again: max-size is too small for all\n"
        ));
    }
    Ok(ExitCode::from(u8::from(refused + left > 0)))
}

enum Wrong {
    Io(io::Error),
    NoBase,
    Cacache,
    Failed(Failure),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn folder(session: &Session, top: &Path, base: Option<&str>, sum: &mut Sum) -> Result<(), Wrong> {
    let mut progress = Progress::of("importing");
    let of_manifest = top.join(manifest::NAME);
    if of_manifest.exists() && base.is_none() {
        let entries = manifest::read(File::open(of_manifest)?)?;
        for (at, entry) in entries.iter().enumerate() {
            progress.show(at as u64 + 1, entries.len() as u64);
            let opened = entry.path_below().map(|path| open_below(top, &path));
            match opened {
                Some(Ok(file)) => take_named(session, entry, file, sum)?,
                Some(Err(error)) => refuse(sum, &entry.path, &error.to_string()),
                None => refuse(sum, &entry.path, "this path leads out of the folder"),
            }
        }
        return Ok(());
    }
    if is_cacache(top) {
        return Err(Wrong::Cacache);
    }
    let base = base.ok_or(Wrong::NoBase)?;
    let mut files = Vec::new();
    list(top, &mut files)?;
    files.sort();
    let mut sums = Sums::default();
    for (at, path) in files.iter().enumerate() {
        progress.show(at as u64 + 1, files.len() as u64);
        let relative = path.strip_prefix(top).unwrap_or(path);
        let file = File::open(path)?;
        let data = file.metadata()?;
        let wanted = announced(sums.of(top, relative)?);
        match made_up(session, base, relative, &data, wanted) {
            Some(entry) => take(session, &entry, file, sum)?,
            None => refuse(
                sum,
                &relative.display().to_string(),
                "no URL can be made of this name",
            ),
        }
    }
    Ok(())
}

/// True for a cache itself, another program's or larder's: its files are no packages.
fn is_cacache(top: &Path) -> bool {
    let has = |name: &str| top.join(name).exists();
    has("content-v2") && (has("index-v5") || has("index.redb"))
}

/// What is announced of a file; where folders contradict each other, nothing has such a digest.
fn announced(said: Said) -> Option<String> {
    match said {
        Said::Nothing => None,
        Said::Digest(digest) => Some(digest),
        Said::Contradiction => Some("two SHA256SUMS say different things of it".to_owned()),
    }
}

/// Opens a regular file below a folder; no part of its path may be a link, which could lead
/// anywhere.
fn open_below(top: &Path, relative: &Path) -> io::Result<File> {
    let common = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let folder = common | OFlags::DIRECTORY;
    let mut at = rustix::fs::open(top, folder, Mode::empty())?;
    let mut parts = relative.components().peekable();
    while let Some(part) = parts.next() {
        let how = if parts.peek().is_some() {
            folder
        } else {
            common
        };
        at = rustix::fs::openat(&at, part.as_os_str(), how | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let file = File::from(at);
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "this is no regular file",
    ))
}

/// What a manifest and `SHA256SUMS` files say, wherever they are in a tar file.
fn described_in(from: &Path) -> io::Result<(HashMap<Option<PathBuf>, Entry>, Sums)> {
    let mut known = HashMap::new();
    let mut sums = Sums::default();
    for entry in tar::Archive::new(File::open(from)?).entries_with_seek()? {
        let mut entry = entry?;
        let path = plain(&entry.path()?);
        if path.as_os_str() == manifest::NAME {
            for entry in manifest::read(entry)? {
                known.insert(entry.path_below(), entry);
            }
        } else if path.file_name().is_some_and(|name| name == sums::NAME) {
            if !entry.header().entry_type().is_file() {
                // What it announces is elsewhere, and would go uncompared.
                let what = format!("{} is no regular file", path.display());
                return Err(io::Error::other(what));
            }
            let mut text = Vec::new();
            entry.read_to_end(&mut text)?;
            sums.take(&manifest::below(&path).unwrap_or(path), &text)?;
        }
    }
    Ok((known, sums))
}

/// A tar file is read twice: its manifest is at its end.
fn tar_file(
    session: &Session,
    from: &Path,
    base: Option<&str>,
    sum: &mut Sum,
) -> Result<(), Wrong> {
    let (known, sums) = described_in(from)?;
    if known.is_empty() && base.is_none() {
        return Err(Wrong::NoBase);
    }
    let mut progress = Progress::of("importing");
    let mut archive = tar::Archive::new(File::open(from)?);
    for (at, entry) in archive.entries_with_seek()?.enumerate() {
        let mut file = entry?;
        progress.show(at as u64 + 1, known.len().max(at + 1) as u64);
        let path = plain(&file.path()?);
        if !file.header().entry_type().is_file() || path.as_os_str() == manifest::NAME {
            continue;
        }
        let below = manifest::below(&path);
        let from_manifest = below
            .as_ref()
            .and_then(|path| known.get(&Some(path.clone())));
        // The archive lends its entries one by one; a body goes its way before the next.
        match (from_manifest, base) {
            (Some(entry), None) => take_named(session, entry, spooled(&mut file)?, sum)?,
            (_, Some(base)) => {
                let relative = below.unwrap_or_else(|| path.clone());
                let wanted = announced(sums.known(&relative));
                let time = i64::try_from(file.header().mtime().unwrap_or(0)).unwrap_or(0);
                match url_below(base, &path) {
                    Some(url) => {
                        let entry = described(session, &url, file.size(), time, wanted);
                        take(session, &entry, spooled(&mut file)?, sum)?;
                    }
                    None => refuse(
                        sum,
                        &path.display().to_string(),
                        "no URL can be made of this name",
                    ),
                }
            }
            (None, None) => refuse(
                sum,
                &path.display().to_string(),
                "the manifest does not name it",
            ),
        }
    }
    Ok(())
}

/// A name in a tar file, without the `./` that `tar -C FOLDER .` puts before it.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

/// A file of its own, without a name, that holds what `from` reads.
fn spooled(from: &mut impl Read) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    io::copy(from, &mut file)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

fn refuse(sum: &mut Sum, what: &str, why: &str) {
    sum.refused += 1;
    output::notice(&format!("refused: {what}: {why}\n"));
}

/// Takes what a manifest names, which has to say the digest.
fn take_named(session: &Session, entry: &Entry, file: File, sum: &mut Sum) -> Result<(), Wrong> {
    if Digest::from_hex(&entry.sha256).is_none() {
        refuse(sum, &entry.path, "the manifest says no SHA-256 of it");
        return Ok(());
    }
    take(session, entry, file, sum)
}

fn take(session: &Session, entry: &Entry, file: File, sum: &mut Sum) -> Result<(), Wrong> {
    let head = json!({
        "key": entry.key,
        "variant": entry.variant,
        "url": entry.url,
        "bytes": entry.bytes,
        "sha256": (!entry.sha256.is_empty()).then_some(&entry.sha256),
        "status": entry.status,
        "fetched": entry.fetched,
        "head": entry.head,
    });
    match session.wait(session.client.import(&head, file)) {
        Ok(answer) if text(&answer, "became") == "held" => sum.held += 1,
        Ok(_stored) => {
            sum.stored += 1;
            sum.names
                .insert(name_of(&entry.key, entry.variant.as_deref()));
        }
        Err(larder_admin::ClientError::Refused { why, .. }) => refuse(sum, &entry.url, &why),
        Err(error) => return Err(Wrong::Failed(super::failed(error))),
    }
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// What is said of a file that no manifest names.
fn made_up(
    session: &Session,
    base: &str,
    relative: &Path,
    data: &fs::Metadata,
    sha256: Option<String>,
) -> Option<Entry> {
    let modified = data.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let modified = i64::try_from(modified.as_secs()).ok()?;
    let url = url_below(base, relative)?;
    Some(described(session, &url, data.len(), modified, sha256))
}

fn described(
    session: &Session,
    url: &Url,
    bytes: u64,
    modified: i64,
    sha256: Option<String>,
) -> Entry {
    let now = SystemTime::now();
    let at = |seconds: i64| {
        UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    };
    let fetched = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let field = |name: &str, value: String| (name.to_owned(), value);
    Entry {
        path: url.path().to_owned(),
        key: show::name(&session.settings.policy(), url).to_string(),
        variant: None,
        url: url.as_str().to_owned(),
        bytes,
        sha256: sha256.unwrap_or_default(),
        status: 200,
        fetched: i64::try_from(fetched).unwrap_or(0),
        head: vec![
            field("date", httpdate::fmt_http_date(now)),
            field("last-modified", httpdate::fmt_http_date(at(modified))),
            field("content-length", bytes.to_string()),
            field("content-type", content_type(url.path()).to_owned()),
        ],
    }
}

/// The URL of a file below a base.
fn url_below(base: &str, relative: &Path) -> Option<Url> {
    let mut text = base.to_owned();
    for (at, part) in manifest::below(relative)?.iter().enumerate() {
        if at > 0 {
            text.push('/');
        }
        for &byte in part.as_encoded_bytes() {
            if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
                text.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    Url::parse(&text).ok()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next() {
        Some("rpm" | "drpm") => "application/x-rpm",
        Some("deb" | "udeb") => "application/vnd.debian.binary-package",
        Some("xml") => "text/xml",
        Some("gz") => "application/gzip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_is_written_as_a_url_has_it() {
        let of = |path: &str| {
            url_below("http://h/7/", Path::new(path)).map(|url| url.as_str().to_owned())
        };
        assert_eq!(
            of("a/libstdc++-1.rpm").as_deref(),
            Some("http://h/7/a/libstdc++-1.rpm")
        );
        assert_eq!(of("a b%.rpm").as_deref(), Some("http://h/7/a%20b%25.rpm"));
        assert_eq!(of("../a"), None);
    }

    #[test]
    fn a_link_on_the_way_is_not_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path();
        fs::create_dir(top.join("sub")).expect("made");
        fs::write(top.join("sub/file"), "x").expect("written");
        std::os::unix::fs::symlink("/etc", top.join("http")).expect("made");
        std::os::unix::fs::symlink("file", top.join("sub/link")).expect("made");
        assert!(open_below(top, Path::new("sub/file")).is_ok());
        for bad in ["http/passwd", "sub/link", "sub"] {
            assert!(open_below(top, Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn sums_that_are_a_link_in_an_archive_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.tar");
        let mut archive = tar::Builder::new(File::create(&path).expect("made"));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Link);
        header.set_size(0);
        let link = archive.append_link(&mut header, "parts/SHA256SUMS", "elsewhere");
        link.and_then(|()| archive.finish()).expect("written");
        let refused = described_in(&path).map(|_| ()).expect_err("a link");
        assert!(
            refused.to_string().contains("parts/SHA256SUMS"),
            "{refused}"
        );
    }
}

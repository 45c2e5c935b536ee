//! `larder cache export`: objects as a folder by URL, as a tar file of it, or as a cacache cache.
//!
//! Each body is written beside its place first, compared with its digest, and only then put there:
//! a copy for a site without a network is right or absent.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use larder_admin::parameter;
use larder_store::Digest;
use larder_store::export::{Cacache, Noted};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::manifest::{self, Entry};
use super::tell::{Progress, number, text};
use super::{Session, failed};
use crate::config::units::show_size;
use crate::output::{self, Failure};

/// The words of `larder cache export`.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// A folder, or a file whose name ends in .tar
    to: PathBuf,
    /// What is written there
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
    /// Only these: a URL or store ID with `*`, `?` or `[…]`, or a part of one
    #[arg(long)]
    pattern: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// scheme/host/path, and a manifest
    Tree,
    /// A complete cacache cache, index included
    Cacache,
}

/// Where bodies go.
enum Target {
    Tree(PathBuf),
    Tar(Box<tar::Builder<BufWriter<File>>>),
    Cacache(Cacache),
}

pub(super) fn run(session: &Session, args: &Args, json: bool) -> Result<ExitCode, Failure> {
    let failed_at = |path: &Path| {
        let step = format!("cannot write {}", path.display());
        move |error: io::Error| Failure::step(step, error)
    };
    let is_tar = args.to.extension().is_some_and(|end| end == "tar") && args.format == Format::Tree;
    let name = args.to.to_string_lossy();
    if name.contains(".tar.") || name.ends_with(".tgz") || name.ends_with(".zip") {
        return Err(Failure::Usage(format!(
            "{name}: nothing is compressed here: name a folder or a file that ends in .tar, and compress that"
        )));
    }
    session.mind_interrupts()?;
    if !is_tar && fs::read_dir(&args.to).is_ok_and(|mut there| there.next().is_some()) {
        let to = args.to.display();
        output::notice(&format!(
            "{to} is not empty: what is there stays beside what is written\n"
        ));
    }
    // A name that no other run has, beside what is written.
    let spare = args
        .to
        .with_added_extension(format!("part-{}", std::process::id()));
    let part = spare.with_added_extension("body");
    let mut target = match (args.format, is_tar) {
        (Format::Cacache, _) => Cacache::create(&args.to).map(Target::Cacache),
        (Format::Tree, true) => File::create(&spare)
            .map(|file| Target::Tar(Box::new(tar::Builder::new(BufWriter::new(file))))),
        (Format::Tree, false) => {
            fs::create_dir_all(&args.to).map(|()| Target::Tree(args.to.clone()))
        }
    }
    .map_err(failed_at(&args.to))?;
    let written = listed(session, args)
        .and_then(|(entries, of)| write_all(session, (entries, of), &mut target, &part));
    // Gone already, unless something failed.
    let _gone = fs::remove_file(&part);
    let ended = match (written, target) {
        (Ok(done), Target::Tar(mut builder)) => builder
            .finish()
            .and_then(|()| builder.into_inner())
            .and_then(|mut file| file.flush())
            .and_then(|()| fs::rename(&spare, &args.to))
            .map(|()| done)
            .map_err(failed_at(&args.to)),
        (Err(failure), Target::Tar(_)) => {
            let _gone = fs::remove_file(&spare);
            Err(failure)
        }
        (written, _) => written,
    };
    let (objects, bytes, missing) = ended?;
    if json {
        let done = json!({"objects": objects, "bytes": bytes, "missing": missing});
        output::text(&format!("{done}\n"))?;
    } else {
        let to = args.to.display();
        output::text(&format!(
            "{objects} objects, {} to {to}\n",
            show_size(bytes)
        ))?;
        if missing > 0 {
            output::notice(&format!(
                "{missing} objects were damaged or left meanwhile: not written\n"
            ));
        }
    }
    Ok(ExitCode::from(u8::from(missing > 0 || objects == 0)))
}

/// What is to be written, each with a path of its own: a line each, in a file without a name,
/// because there may be more than memory should hold.
fn listed(session: &Session, args: &Args) -> Result<(File, u64), Failure> {
    let mut query = vec![parameter("sort", "key"), parameter("head", "1")];
    query.extend(
        args.pattern
            .iter()
            .map(|pattern| parameter("pattern", pattern)),
    );
    let failed = |error| Failure::step("cannot write the list of objects", error);
    let mut progress = Progress::of("reading");
    let mut paths = HashSet::new();
    let (mut of, mut wrong) = (0, None);
    let mut list = BufWriter::new(tempfile::tempfile().map_err(failed)?);
    session.lines(
        &format!("/api/v1/objects?{}", query.join("&")),
        None,
        |line| {
            // What is not whole is nothing to hand over.
            if progress.takes(&line) || text(&line, "state") == "partial" {
                return !session.is_interrupted();
            }
            of += 1;
            let written = write_line(&mut list, &entry(&line, &mut paths));
            wrong = written.err();
            wrong.is_none() && !session.is_interrupted()
        },
    )?;
    if let Some(error) = wrong {
        return Err(failed(error));
    }
    if session.is_interrupted() {
        return Err(failed(io::ErrorKind::Interrupted.into()));
    }
    let mut list = list
        .into_inner()
        .map_err(|error| failed(error.into_error()))?;
    io::Seek::rewind(&mut list).map_err(failed)?;
    Ok((list, of))
}

fn write_line(to: &mut impl io::Write, entry: &Entry) -> io::Result<()> {
    serde_json::to_writer(&mut *to, entry)?;
    to.write_all(b"\n")
}

fn entry(object: &Value, paths: &mut HashSet<String>) -> Entry {
    let sha256 = text(object, "sha256").to_owned();
    let url = text(object, "url").to_owned();
    let free = |path: &String| {
        // Neither taken, nor within what is a file, nor a folder of what is there.
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        !paths.contains(path)
            && !paths.contains(&format!("{path}/"))
            && !above.any(|folder| paths.contains(folder))
    };
    // A web server over the tree would give out anything else as the thing itself.
    let encoded = |pair: &Value| pair[0].as_str() == Some("content-encoding");
    let heads = object["head"].as_array().into_iter().flatten();
    let is_plain = number(object, "status") == 200
        && object["variant"].is_null()
        && !heads.into_iter().any(encoded);
    let path = manifest::path_of(&url).filter(|path| is_plain && free(path));
    let path = path.unwrap_or_else(|| format!("by-sha256/{sha256}"));
    for (at, _) in path.match_indices('/') {
        paths.insert(format!("{}/", &path[..at]));
    }
    paths.insert(path.clone());
    let pairs = object["head"].as_array().into_iter().flatten();
    Entry {
        path,
        key: text(object, "key").to_owned(),
        variant: object["variant"].as_str().map(str::to_owned),
        url,
        bytes: number(object, "bytes"),
        sha256,
        status: u16::try_from(number(object, "status")).unwrap_or(200),
        fetched: object["fetched"].as_i64().unwrap_or(0),
        head: pairs
            .filter_map(|pair| {
                Some((
                    pair.get(0)?.as_str()?.to_owned(),
                    pair.get(1)?.as_str()?.to_owned(),
                ))
            })
            .collect(),
    }
}

/// Writes them, and the manifest as it goes. Returns objects and bytes written, and objects that
/// could not be had whole. A folder's manifest goes on naming what was there before, and names what
/// is there by now however this ends.
fn write_all(
    session: &Session,
    (list, of): (File, u64),
    target: &mut Target,
    part: &Path,
) -> Result<(u64, u64, u64), Failure> {
    let named = |error| Failure::step(format!("cannot write {}", manifest::NAME), error);
    if let Target::Tree(folder) = target {
        let place = folder.join(manifest::NAME);
        let mut manifest = Manifest::beside(place).map_err(named)?;
        let written = write_each(session, (list, of), target, part, |entry| {
            manifest.name(entry)
        });
        let kept = manifest.put_in_place(written.is_ok()).map_err(named);
        return written.and_then(|done| kept.map(|()| done));
    }
    let mut manifest = BufWriter::new(tempfile::tempfile().map_err(named)?);
    let done = write_each(session, (list, of), target, part, |entry| {
        write_line(&mut manifest, entry)
    })?;
    let mut manifest = manifest
        .into_inner()
        .map_err(|error| named(error.into_error()))?;
    if let Target::Tar(builder) = target {
        let appended = io::Seek::stream_position(&mut manifest).and_then(|len| {
            io::Seek::rewind(&mut manifest)?;
            builder.append_data(&mut tar_header(len, 0), manifest::NAME, manifest)
        });
        appended.map_err(named)?;
    }
    Ok(done)
}

fn write_each(
    session: &Session,
    (list, of): (File, u64),
    target: &mut Target,
    part: &Path,
    mut name: impl FnMut(&Entry) -> io::Result<()>,
) -> Result<(u64, u64, u64), Failure> {
    let named = |error| Failure::step(format!("cannot write {}", manifest::NAME), error);
    let mut progress = Progress::of("exporting");
    let (mut objects, mut bytes, mut missing) = (0, 0, 0);
    for (at, line) in BufReader::new(list).lines().enumerate() {
        progress.show(at as u64 + 1, of);
        let line = line.map_err(named)?;
        let entry = serde_json::from_str(&line).map_err(|error| named(error.into()))?;
        if put(session, &entry, target, part)? {
            objects += 1;
            bytes += entry.bytes;
            name(&entry).map_err(named)?;
        } else {
            missing += 1;
        }
    }
    Ok((objects, bytes, missing))
}

/// A folder's manifest, written beside its place and put there at the end.
struct Manifest {
    place: PathBuf,
    new: PathBuf,
    file: BufWriter<File>,
    before: Vec<Entry>,
    /// The digest of what lies by now where.
    written: HashMap<String, String>,
    names: HashSet<(String, Option<String>)>,
}

impl Manifest {
    fn beside(place: PathBuf) -> io::Result<Self> {
        let before = match File::open(&place) {
            Ok(file) => manifest::read(file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let new = place.with_added_extension(format!("part-{}", std::process::id()));
        Ok(Self {
            file: BufWriter::new(File::create(&new)?),
            place,
            new,
            before,
            written: HashMap::new(),
            names: HashSet::new(),
        })
    }

    fn name(&mut self, entry: &Entry) -> io::Result<()> {
        self.written
            .insert(entry.path.clone(), entry.sha256.clone());
        self.names
            .insert((entry.key.clone(), entry.variant.clone()));
        write_line(&mut self.file, entry)
    }

    /// Goes on naming what was there before and has not been written anew. A run that has ended
    /// with nothing leaves what there was.
    fn put_in_place(mut self, is_good: bool) -> io::Result<()> {
        let mut put = || {
            if !is_good && self.written.is_empty() {
                return fs::remove_file(&self.new);
            }
            for entry in &self.before {
                let other = self.written.get(&entry.path);
                let is_there = other.is_none_or(|sha256| *sha256 == entry.sha256);
                let name = (entry.key.clone(), entry.variant.clone());
                if is_there && !self.names.contains(&name) {
                    write_line(&mut self.file, entry)?;
                }
            }
            self.file.flush()?;
            fs::rename(&self.new, &self.place)
        };
        put().inspect_err(|_| {
            // It names nothing that anybody could rely on.
            let _gone = fs::remove_file(&self.new);
        })
    }
}

/// Writes one object. False: it could not be had whole.
fn put(
    session: &Session,
    entry: &Entry,
    target: &mut Target,
    part: &Path,
) -> Result<bool, Failure> {
    let failed_at = |error| Failure::step(format!("cannot write {}", entry.path), error);
    let Some(digest) = Digest::from_hex(&entry.sha256) else {
        return Ok(false);
    };
    if let Target::Cacache(cache) = target
        && cache.has(&digest)
    {
        name(cache, entry, digest).map_err(failed_at)?;
        return Ok(true);
    }
    if !bring(session, entry, digest, part)? {
        return Ok(false);
    }
    let placed = match target {
        Target::Tree(folder) => {
            let path = folder.join(&entry.path);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all);
            made.and_then(|()| fs::rename(part, path))
        }
        Target::Tar(builder) => {
            let mut header = tar_header(entry.bytes, entry.fetched);
            File::open(part).and_then(|file| builder.append_data(&mut header, &entry.path, file))
        }
        Target::Cacache(cache) => cache
            .place(part, &digest)
            .and_then(|()| name(cache, entry, digest)),
    };
    placed.map_err(failed_at)?;
    Ok(true)
}

/// Writes a body to `part`. False: it is not there any more, or not what it should be.
fn bring(session: &Session, entry: &Entry, digest: Digest, part: &Path) -> Result<bool, Failure> {
    let failed_at = |error| Failure::step(format!("cannot write {}", part.display()), error);
    let mut file = File::create(part).map_err(failed_at)?;
    let (mut hasher, mut wrong) = (Sha256::new(), None);
    let path = format!("/api/v1/bodies/{}", entry.sha256);
    let read = session.wait(session.client.bytes(&path, |bytes| {
        hasher.update(bytes);
        let interrupted = session.is_interrupted();
        let go_on = (!interrupted)
            .then_some(())
            .ok_or(io::Error::from(io::ErrorKind::Interrupted));
        go_on
            .and_then(|()| file.write_all(bytes))
            .inspect_err(|error| {
                wrong = Some(io::Error::from(error.kind()));
            })
    }));
    if let Some(error) = wrong {
        return Err(failed_at(error));
    }
    match read {
        Err(larder_admin::ClientError::Refused { .. }) => Ok(false),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(Digest(hasher.finalize().into()) == digest),
    }
}

fn name(cache: &Cacache, entry: &Entry, digest: Digest) -> io::Result<()> {
    let key = match &entry.variant {
        Some(variant) => format!("{}\n{variant}", entry.key),
        None => entry.key.clone(),
    };
    cache.name(&Noted {
        key: &key,
        digest,
        len: entry.bytes,
        time: u64::try_from(entry.fetched).unwrap_or(0),
        metadata: json!({"url": entry.url, "status": entry.status, "head": entry.head}),
    })
}

fn tar_header(bytes: u64, time: i64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_mtime(u64::try_from(time).unwrap_or(0));
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_export_goes_on_naming_what_is_there_and_an_interrupted_one_ruins_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join(manifest::NAME);
        let entry = |path: &str, key: &str, sha256: &str| Entry {
            path: path.to_owned(),
            key: key.to_owned(),
            variant: None,
            url: String::new(),
            bytes: 1,
            sha256: sha256.to_owned(),
            status: 200,
            fetched: 1,
            head: Vec::new(),
        };
        let export = |entries: &[Entry], is_good| {
            let mut manifest = Manifest::beside(place.clone()).expect("made");
            for entry in entries {
                manifest.name(entry).expect("written");
            }
            manifest.put_in_place(is_good).expect("in place");
            let read = manifest::read(File::open(&place).expect("there")).expect("whole");
            let mut read: Vec<_> = read
                .into_iter()
                .map(|entry| format!("{} {} {}", entry.path, entry.key, entry.sha256))
                .collect();
            read.sort();
            read
        };
        let first = export(&[entry("a", "1", "x"), entry("s", "2", "y")], true);
        assert_eq!(first, ["a 1 x", "s 2 y"]);
        assert_eq!(export(&[], false), first, "cut short before its first body");
        let second = export(&[entry("a", "1", "new"), entry("s", "3", "y")], false);
        assert_eq!(second, ["a 1 new", "s 2 y", "s 3 y"]);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn only_the_thing_itself_lies_under_its_own_name() {
        let object = |status: u16, head: Value, variant: Value| {
            let mut object = json!({"key": "url:http://h/a.rpm", "url": "http://h/a.rpm",
                "sha256": "ab", "bytes": 1, "fetched": 0});
            object["status"] = json!(status);
            object["head"] = head;
            object["variant"] = variant;
            entry(&object, &mut HashSet::new()).path
        };
        let plain = json!([["content-type", "application/x-rpm"]]);
        assert_eq!(object(200, plain.clone(), Value::Null), "http/h/a.rpm");
        for path in [
            object(404, plain.clone(), Value::Null),
            object(200, json!([["content-encoding", "gzip"]]), Value::Null),
            object(200, plain, json!("accept-encoding=gzip&")),
        ] {
            assert_eq!(path, "by-sha256/ab");
        }
    }
}

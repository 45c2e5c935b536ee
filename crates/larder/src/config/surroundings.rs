//! What a configuration names on this machine, looked at before anything is opened: what `serve`
//! would meet later is said by `check` too.
//!
//! A file that must be read and cannot is an error. A folder that cannot be written is a warning:
//! whoever checks may be another user, or on another machine, than whoever serves.

use std::io;
use std::path::Path;

use super::problem::{Problem, Problems};
use super::settings::{AccessLogPlace, Settings};
use super::sources::read_bytes;

/// How each certificate of a PEM file begins (RFC 7468 §5.1).
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Adds what does not fit this machine.
pub(super) fn review(settings: &Settings, problems: &mut Problems) {
    if let Some(path) = &settings.upstream.ca_file {
        authorities(path, problems);
    }
    if let AccessLogPlace::File(path) = &settings.log.access.place {
        written("the access log", path, problems);
    }
    if let Some(path) = &settings.pid_file {
        written("the pid file", path, problems);
    }
}

fn authorities(path: &Path, problems: &mut Problems) {
    let shown = path.display();
    let problem = match read_bytes(path) {
        Ok(bytes) if String::from_utf8_lossy(&bytes).contains(CERTIFICATE) => return,
        Ok(_) => Problem::error(format!("ca-file {shown} holds no certificate"))
            .mend("name a file with certificates in PEM"),
        Err(error) => Problem::error(format!("ca-file {shown} cannot be read: {error}"))
            .mend("name a file that can be read"),
    };
    problems.push(problem);
}

fn written(what: &str, path: &Path, problems: &mut Problems) {
    let shown = path.display();
    if let Err(error) = writable(path) {
        let problem = Problem::warning(format!("{what} {shown} cannot be written: {error}"));
        let mend = "larder does not start without it: make the folder, or let larder's user write \
                    there";
        problems.push(problem.mend(mend));
    }
}

/// Whether a file can be written or made; nothing is touched.
fn writable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    if path.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if path.exists() {
        return access(path, Access::WRITE_OK).map_err(Into::into);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    access(folder, Access::WRITE_OK | Access::EXEC_OK).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(settings: &Settings) -> Vec<String> {
        let mut problems = Problems::default();
        review(settings, &mut problems);
        let said = problems.iter();
        said.map(|problem| format!("{}: {problem}", problem.severity.as_str()))
            .collect()
    }

    #[test]
    fn a_file_with_authorities_is_there_and_holds_some() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let mut settings = Settings::default();
        settings.upstream.ca_file = Some(file.clone());
        assert!(said(&settings)[0].starts_with("error: ca-file"), "missing");
        std::fs::write(&file, "no certificate").unwrap();
        assert!(
            said(&settings)[0].ends_with("holds no certificate"),
            "empty"
        );
        std::fs::write(&file, format!("{CERTIFICATE}\n")).unwrap();
        assert!(said(&settings).is_empty());
    }

    #[test]
    fn files_that_are_written_lie_in_folders_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            pid_file: Some(folder.path().join("gone/larder.pid")),
            ..Settings::default()
        };
        settings.log.access.place = AccessLogPlace::File(folder.path().to_owned());
        let both = said(&settings);
        assert_eq!(both.len(), 2, "{both:?}");
        assert!(both[0].starts_with("warning: the access log"), "{both:?}");
        assert!(both[1].contains("No such file"), "{both:?}");
        settings.pid_file = Some(folder.path().join("larder.pid"));
        settings.log.access.place = AccessLogPlace::File("access.log".into());
        assert!(said(&settings).is_empty());
    }
}

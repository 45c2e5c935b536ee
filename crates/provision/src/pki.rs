//! `provision pki init`: the authority, server and client certificates of the RPC port.
//!
//! Go's clients look at subject alternative names only, and rustls wants extended key usages that
//! fit; hand-written scripts miss the one or the other. The files have the names that matchbox and
//! terraform's provider expect. Existing files are never touched: a new authority would lock every
//! client out.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::NamedTempFile;

use crate::error::Error;

/// What `pki init` writes, in this order.
const FILES: [(&str, u32); 6] = [
    ("ca.key", 0o600),
    ("ca.crt", 0o644),
    ("server.key", 0o600),
    ("server.crt", 0o644),
    ("client.key", 0o600),
    ("client.crt", 0o644),
];

/// Makes an authority and, signed by it, a server certificate for `names` (DNS names or IP
/// addresses) and a client certificate; gives the files that it wrote in `directory`.
///
/// `year` is the current one; everything is valid from its start for ten years.
///
/// # Errors
///
/// [`Error::PkiExists`] when one of the files is there: then nothing is written.
pub fn init(directory: &Path, names: &[String], year: i32) -> Result<Vec<PathBuf>, Error> {
    let paths: Vec<PathBuf> = FILES.iter().map(|(name, _)| directory.join(name)).collect();
    if let Some(taken) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Error::PkiExists(taken.clone()));
    }
    if let Some((name, why)) = names.iter().find_map(|name| Some((name, unfit(name)?))) {
        return Err(Error::San(name.clone(), why));
    }
    let texts = make(names, year)?;
    fs::create_dir_all(directory).map_err(|error| Error::Write(directory.to_owned(), error))?;
    // All are on the disk before the first has its name.
    let mut written = Vec::new();
    for ((path, text), (_, mode)) in paths.iter().zip(&texts).zip(FILES) {
        written.push((path, write_beside(path, text, mode)?));
    }
    place(written)?;
    Ok(paths)
}

/// Gives the files their names: all of them, or none.
fn place(written: Vec<(&PathBuf, NamedTempFile)>) -> Result<(), Error> {
    let mut placed: Vec<&Path> = Vec::new();
    for (path, file) in written {
        if let Err(error) = file.persist_noclobber(path) {
            for path in placed {
                // Half of it would be in the way of the next try.
                let _left_behind = fs::remove_file(path);
            }
            return Err(Error::Write(path.clone(), error.error));
        }
        placed.push(path);
    }
    Ok(())
}

/// Why no client can reach a server by this name, if that is so.
fn unfit(name: &str) -> Option<&'static str> {
    if name.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    if name.is_empty() {
        return Some("is empty");
    }
    if name.len() > 253 {
        return Some("is longer than a name can be");
    }
    let labels = name.strip_prefix("*.").unwrap_or(name).split('.');
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    for label in labels {
        if label.is_empty() || label.len() > 63 {
            return Some("has an empty or too long part between its dots");
        }
        if !label.chars().all(is_letter) || label.starts_with('-') || label.ends_with('-') {
            return Some(
                "is neither a host name (international ones in their xn-- form) nor an address",
            );
        }
    }
    // The last part of no host name is a number (RFC 3696 §2): this is an address with a typing error.
    let last = name.rsplit('.').next().unwrap_or_default();
    last.chars()
        .all(|c| c.is_ascii_digit())
        .then_some("looks like an address and is none")
}

/// The six PEM texts, in the order of [`FILES`].
fn make(names: &[String], year: i32) -> Result<[String; 6], Error> {
    let failed = |what| move |error| Error::PkiMake(what, error);
    let ca_key = KeyPair::generate().map_err(failed("ca"))?;
    let mut ca = params(&[], "larder provisioning CA", year).map_err(failed("ca"))?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca.self_signed(&ca_key).map_err(failed("ca"))?;
    let issuer = Issuer::from_params(&ca, &ca_key);

    let leaf = |what, names: &[String], name: &str, usage| {
        let key = KeyPair::generate().map_err(failed(what))?;
        let mut params = params(names, name, year).map_err(failed(what))?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &issuer).map_err(failed(what))?;
        Ok::<_, Error>((key.serialize_pem(), certificate.pem()))
    };
    let server_name = names.first().map_or("larder", String::as_str);
    let server = leaf(
        "server",
        names,
        server_name,
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    let client = leaf(
        "client",
        &[],
        "larder client",
        ExtendedKeyUsagePurpose::ClientAuth,
    )?;
    Ok([
        ca_key.serialize_pem(),
        ca_certificate.pem(),
        server.0,
        server.1,
        client.0,
        client.1,
    ])
}

fn params(names: &[String], name: &str, year: i32) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(year, 1, 1);
    params.not_after = date_time_ymd(year.saturating_add(10), 1, 1);
    Ok(params)
}

/// Writes the text of a file beside it, readable as `mode` says from its first byte on.
fn write_beside(path: &Path, text: &str, mode: u32) -> Result<NamedTempFile, Error> {
    let failed = |error| Error::Write(path.to_owned(), error);
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".new")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_private_and_nothing_is_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["larder.example".to_owned(), "10.0.0.2".to_owned()];
        let paths = init(directory.path(), &names, 2026).unwrap();
        assert_eq!(paths.len(), 6);
        let mode = fs::metadata(&paths[0]).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&paths[1]).unwrap();
        fs::remove_file(&paths[5]).unwrap();
        assert!(matches!(
            init(directory.path(), &names, 2026),
            Err(Error::PkiExists(_))
        ));
        assert_eq!(fs::read(&paths[1]).unwrap(), before);
        assert!(
            !paths[5].exists(),
            "nothing is written beside existing files"
        );
    }

    #[test]
    fn names_by_which_nobody_reaches_a_server_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let pki = directory.path().join("pki");
        for bad in [
            "",
            "a b",
            "a..b",
            "-a",
            "http://a",
            "a/b",
            "a:8081",
            "b\u{fc}cher.example",
            "*",
            "a.*.b",
            "10.0.0.0/8",
            "10.0.0.300",
            "10.0.0",
            "10",
        ] {
            let refused = init(&pki, &["good.example".to_owned(), bad.to_owned()], 2026);
            assert!(matches!(refused, Err(Error::San(..))), "{bad:?}");
            assert!(!pki.exists(), "nothing is written");
        }
        for good in [
            "a",
            "a.example",
            "*.example",
            "10.0.0.2",
            "fd00::1",
            "a_b.example",
            "10.example",
            "a1",
        ] {
            assert_eq!(unfit(good), None, "{good}");
        }
    }

    #[test]
    fn what_fails_halfway_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let paths = ["ca.key", "ca.crt", "server.key"].map(|name| directory.path().join(name));
        let mut written = Vec::new();
        for path in &paths {
            written.push((path, write_beside(path, "x", 0o600).unwrap()));
        }
        // Taken since it was looked at.
        fs::write(&paths[1], "another's").unwrap();
        place(written).unwrap_err();
        let left: Vec<_> = fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(&paths[1]).unwrap(), "another's");
    }
}

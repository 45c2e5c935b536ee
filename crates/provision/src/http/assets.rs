//! `/assets/…`: files beneath one directory, as Go's `http.FileServer` serves them.
//!
//! Directories are listed, or answered by their `index.html`; a name that is written the other way
//! (a directory without its slash, a file with one) is redirected to the right one. Only regular
//! files are opened. Symbolic links are followed: who may write to the directory decides.

use std::{
    ffi::OsStr,
    fmt::Write,
    fs::{self, Metadata},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use http::{HeaderMap, Method, Response};
use tokio::fs::File;

use super::{
    content::{self, Content, Source},
    reply::{self, Body},
};
use crate::reason::Reason;

/// Types by extension, as Go has them built in.
const TYPES: [(&str, &str); 16] = [
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("gif", "image/gif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("wasm", "application/wasm"),
    ("webp", "image/webp"),
    ("xml", "text/xml; charset=utf-8"),
];

/// Answers for `path`, decoded, clean and without the leading `/assets/`.
pub(crate) async fn answer(
    root: &Path,
    path: &[u8],
    (method, headers, query): (&Method, &HeaderMap, &str),
) -> Result<Response<Body>, Reason> {
    if path == b"index.html" || path.ends_with(b"/index.html") {
        return Ok(reply::moved_file("./", query));
    }
    let missing = || Reason::NoFile(format!("no asset {:?}", String::from_utf8_lossy(path)));
    if path.contains(&0) {
        return Err(missing());
    }
    let wants_directory = path.is_empty() || path.ends_with(b"/");
    let bare = path.strip_suffix(b"/").unwrap_or(path);
    let file = root.join(OsStr::from_bytes(bare));
    let refused = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Reason::Unreadable(format!("asset {:?}", String::from_utf8_lossy(path)))
        }
        _ => missing(),
    };
    let metadata = metadata_of(file.clone()).await.map_err(refused)?;
    let last = bare.rsplit(|byte| *byte == b'/').next().unwrap_or(bare);
    if metadata.is_file() {
        if wants_directory {
            return Ok(reply::moved_file(
                &format!("../{}", escape_path(last)),
                query,
            ));
        }
        return serve(&file, &metadata, method, headers)
            .await
            .map_err(refused);
    }
    if !metadata.is_dir() {
        return Err(missing());
    }
    if !wants_directory {
        return Ok(reply::moved_file(&format!("{}/", escape_path(last)), query));
    }
    let index = file.join("index.html");
    match metadata_of(index.clone())
        .await
        .ok()
        .filter(Metadata::is_file)
    {
        Some(metadata) => serve(&index, &metadata, method, headers)
            .await
            .map_err(refused),
        None => listing(file).await.map_err(refused),
    }
}

/// Looks at a file away from the threads that answer.
async fn metadata_of(path: PathBuf) -> io::Result<Metadata> {
    tokio::fs::metadata(path).await
}

async fn serve(
    path: &Path,
    metadata: &Metadata,
    method: &Method,
    headers: &HeaderMap,
) -> io::Result<Response<Body>> {
    let mut file = File::open(path).await?;
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let by_name = TYPES
        .iter()
        .find(|(known, _)| extension.eq_ignore_ascii_case(known));
    let media_type = match by_name {
        Some((_, media_type)) => media_type,
        None => sniff(&mut file).await?,
    };
    let content = Content {
        source: Source::File(file),
        bytes: metadata.len(),
        media_type,
        modified: metadata.modified().ok(),
    };
    Ok(content::serve(method, headers, content))
}

async fn sniff(file: &mut File) -> io::Result<&'static str> {
    use tokio::io::AsyncReadExt;

    let mut start = Vec::with_capacity(512);
    file.take(512).read_to_end(&mut start).await?;
    Ok(super::sniff::content_type(&start))
}

/// A directory's names as links, directories with a slash.
async fn listing(directory: PathBuf) -> io::Result<Response<Body>> {
    let names = tokio::task::spawn_blocking(move || {
        let mut names: Vec<Vec<u8>> = fs::read_dir(directory)?
            .flatten()
            .map(|entry| {
                let mut name = entry.file_name().as_bytes().to_vec();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    name.push(b'/');
                }
                name
            })
            .collect();
        names.sort_unstable_by(|a, b| {
            a.strip_suffix(b"/")
                .unwrap_or(a)
                .cmp(b.strip_suffix(b"/").unwrap_or(b))
        });
        Ok::<_, io::Error>(names)
    });
    let mut page = String::from("<pre>\n");
    for name in names.await.map_err(io::Error::other)?? {
        let text = reply::escape_html(&String::from_utf8_lossy(&name));
        writeln!(page, "<a href=\"{}\">{text}</a>", relative_url(&name))
            .expect("text grows in memory");
    }
    page.push_str("</pre>\n");
    Ok(reply::whole(
        http::StatusCode::OK,
        "text/html; charset=utf-8",
        page,
    ))
}

/// A name as a relative URL: a colon in it must not look like a scheme's.
fn relative_url(name: &[u8]) -> String {
    let escaped = escape_path(name);
    if escaped.contains(':') {
        format!("./{escaped}")
    } else {
        escaped
    }
}

/// Escapes a path as Go's `url.URL` does.
pub(super) fn escape_path(path: &[u8]) -> String {
    let mut escaped = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'a'..=b'z'
            | b'A'..=b'Z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'$'
            | b'&'
            | b'+'
            | b','
            | b'/'
            | b':'
            | b';'
            | b'='
            | b'@' => escaped.push(char::from(*byte)),
            other => write!(escaped, "%{other:02X}").expect("text grows in memory"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_escape_what_urls_cannot_hold() {
        assert_eq!(relative_url(b"a b?.img"), "a%20b%3F.img");
        assert_eq!(relative_url(b"a:b"), "./a:b");
        assert_eq!(relative_url("ä/".as_bytes()), "%C3%A4/");
    }
}

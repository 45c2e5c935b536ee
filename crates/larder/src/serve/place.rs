//! Where the cache lives where nobody says so, and the name by which this proxy goes.

use std::path::{Path, PathBuf};

use larder_store::Digest;

use crate::environment::Environment;

/// Where objects are kept where nothing is said.
pub const DIRECTORY: &str = "/var/cache/larder";

/// The cache directory: as configured, else /var/cache/larder, or the user's own cache folder
/// where that cannot be written.
pub fn cache_directory(configured: Option<&Path>, environment: &Environment) -> PathBuf {
    if let Some(directory) = configured {
        return directory.to_owned();
    }
    let of_system = Path::new(DIRECTORY);
    if can_write(of_system) {
        return of_system.to_owned();
    }
    let of_user = environment
        .path("XDG_CACHE_HOME")
        .or_else(|| environment.path("HOME").map(|home| home.join(".cache")));
    of_user.map_or_else(|| of_system.to_owned(), |folder| folder.join("larder"))
}

/// Where the unix socket is looked for and made, the first that can be had. `root`: the store's
/// own folder.
pub fn sockets(environment: &Environment, root: &Path) -> Vec<PathBuf> {
    let of_user = environment.path("XDG_RUNTIME_DIR");
    let mut places = vec![PathBuf::from("/run/larder/larder.sock")];
    places.extend(of_user.map(|folder| folder.join("larder.sock")));
    places.push(root.join("larder.sock"));
    places
}

/// True if the directory can be written, or made by whoever asks.
fn can_write(directory: &Path) -> bool {
    let nearest = directory.ancestors().find(|folder| folder.exists());
    nearest.is_some_and(|folder| {
        rustix::fs::access(
            folder,
            rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK,
        )
        .is_ok()
    })
}

/// The name in Via: the configured one, else the host's name and six hex digits that stand for the
/// cache directory, so that two caches on one host are told apart.
pub fn proxy_name(configured: Option<&str>, directory: &Path) -> String {
    if let Some(name) = configured {
        return name.to_owned();
    }
    let mark = Digest::of(directory.as_os_str().as_encoded_bytes()).to_string();
    format!("{}-{}", host_name(), mark.get(..6).unwrap_or_default())
}

fn host_name() -> String {
    let names = rustix::system::uname();
    let name = names.nodename().to_string_lossy();
    // Via takes a token (RFC 9110 §7.6.3); host names are one unless they were made in jest.
    let token: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .collect();
    if token.is_empty() {
        "larder".to_owned()
    } else {
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_cache_directories_have_two_names() {
        let one = proxy_name(None, Path::new("/a"));
        assert_ne!(one, proxy_name(None, Path::new("/b")));
        assert_eq!(one, proxy_name(None, Path::new("/a")));
        assert_eq!(
            proxy_name(Some("cache.example.org"), Path::new("/a")),
            "cache.example.org"
        );
    }

    #[test]
    fn what_is_configured_is_taken() {
        let environment = Environment::of_pairs([("XDG_CACHE_HOME", "/x")]);
        assert_eq!(
            cache_directory(Some(Path::new("/c")), &environment),
            Path::new("/c")
        );
    }
}

//! Which endpoint a path means, as Go's `http.ServeMux` routes matchbox's, and larder's own.

use http::Uri;

use super::assets::escape_path;
use crate::{Provision, labels, machines::Step, rewrite, sign::Form};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Home,
    Bootstrap,
    Ipxe,
    Grub,
    Ignition,
    Cloud,
    Generic,
    Metadata,
    /// Beneath `/assets/`, decoded.
    Asset(Vec<u8>),
    /// `/kickstart`, `/preseed`, `/autoinstall`, with the labels that the path carries.
    Kickstart {
        path: &'static str,
        file: SeedFile,
        path_labels: Vec<(String, String)>,
    },
    Script(String),
    Done,
    Menu,
    /// A URL through the cache.
    Fetch(String),
    Unknown(String),
}

/// Which of an installer's files is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SeedFile {
    /// The profile's generic template.
    Template,
    /// cloud-init's `meta-data`: who the instance is.
    MetaData,
    /// cloud-init's `vendor-data`: nothing.
    VendorData,
}

impl Endpoint {
    /// Its name in logs and timelines.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Home => "/".to_owned(),
            Self::Bootstrap => "boot.ipxe".to_owned(),
            Self::Ipxe => "ipxe".to_owned(),
            Self::Grub => "grub".to_owned(),
            Self::Ignition => "ignition".to_owned(),
            Self::Cloud => "cloud".to_owned(),
            Self::Generic => "generic".to_owned(),
            Self::Metadata => "metadata".to_owned(),
            Self::Asset(path) => format!("assets/{}", String::from_utf8_lossy(path)),
            Self::Kickstart { path, .. } => (*path).to_owned(),
            Self::Script(name) => format!("script/{name}"),
            Self::Done => "done".to_owned(),
            Self::Menu => "m".to_owned(),
            Self::Fetch(url) => url.clone(),
            Self::Unknown(path) => path.clone(),
        }
    }

    /// What a machine that asks for it has reached; `None` where the endpoint says so itself.
    pub(super) fn step(&self) -> Option<Step> {
        match self {
            Self::Bootstrap | Self::Script(_) | Self::Menu => Some(Step::Script),
            Self::Ignition | Self::Cloud | Self::Generic | Self::Metadata => Some(Step::Config),
            Self::Asset(_) | Self::Fetch(_) => Some(Step::Kernel),
            Self::Kickstart { .. } => Some(Step::Kickstart),
            Self::Done => Some(Step::Done),
            Self::Ipxe | Self::Grub | Self::Home | Self::Unknown(_) => None,
        }
    }

    /// Whether `.sig` and `.asc` of it exist.
    fn is_signed(&self) -> bool {
        matches!(
            self,
            Self::Bootstrap
                | Self::Ipxe
                | Self::Grub
                | Self::Ignition
                | Self::Cloud
                | Self::Generic
                | Self::Metadata
        )
    }
}

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    To(Endpoint),
    Signed(Endpoint, Form),
    /// Written unclean: the clean way, with the query.
    Moved(String),
}

/// Routes a request.
pub(super) fn route(uri: &Uri, provision: &Provision) -> Route {
    let unknown = || Route::To(Endpoint::Unknown(uri.path().to_owned()));
    // The path of a URL through the cache is the origin's business, `//` and `..` in it too.
    if let Some(url) = uri
        .path_and_query()
        .and_then(|path| rewrite::origin_url(path.as_str()))
    {
        return match provision.fetch {
            Some(_) => Route::To(Endpoint::Fetch(url)),
            None => unknown(),
        };
    }
    let Some(path) = labels::percent_decode(uri.path()) else {
        return unknown();
    };
    let clean = clean(&path);
    if clean != path {
        return Route::Moved(with_query(&clean, uri));
    }
    if let Some(asset) = clean.strip_prefix(b"/assets/".as_slice()) {
        return match provision.config.assets {
            Some(_) => Route::To(Endpoint::Asset(asset.to_vec())),
            None => unknown(),
        };
    }
    if clean == b"/assets" && provision.config.assets.is_some() {
        return Route::Moved(with_query(b"/assets/", uri));
    }
    let Ok(path) = str::from_utf8(&clean) else {
        return unknown();
    };
    if let Some(endpoint) = endpoint(path) {
        return Route::To(endpoint);
    }
    for (suffix, form) in [(".sig", Form::Binary), (".asc", Form::Armoured)] {
        let plain = path.strip_suffix(suffix).and_then(endpoint);
        if let Some(endpoint) = plain.filter(Endpoint::is_signed)
            && provision.signer.is_some()
        {
            return Route::Signed(endpoint, form);
        }
    }
    unknown()
}

fn endpoint(path: &str) -> Option<Endpoint> {
    Some(match path {
        "/" => Endpoint::Home,
        "/boot.ipxe" | "/boot.ipxe.0" => Endpoint::Bootstrap,
        "/ipxe" => Endpoint::Ipxe,
        "/grub" => Endpoint::Grub,
        "/ignition" => Endpoint::Ignition,
        "/cloud" => Endpoint::Cloud,
        "/generic" => Endpoint::Generic,
        "/metadata" => Endpoint::Metadata,
        "/done" => Endpoint::Done,
        "/m" => Endpoint::Menu,
        _ => match path.strip_prefix("/script/") {
            Some(name) => Endpoint::Script(name.to_owned()),
            None => return installer(path),
        },
    })
}

/// `/kickstart`, `/preseed` and `/autoinstall`, the last also as cloud-init's seed directory, with
/// labels as path segments since nothing can follow a seed's file names:
/// `/autoinstall/mac=52-54-00-12-34-56/user-data`.
fn installer(path: &str) -> Option<Endpoint> {
    let (path, rest) = ["kickstart", "preseed", "autoinstall"]
        .into_iter()
        .find_map(|name| {
            let rest = path.strip_prefix('/')?.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('/')).then_some((name, rest))
        })?;
    let mut path_labels = Vec::new();
    let mut file = SeedFile::Template;
    for segment in rest.split('/').filter(|segment| !segment.is_empty()) {
        match (segment, segment.split_once('=')) {
            (_, Some((name, value))) => path_labels.push((name.to_owned(), value.to_owned())),
            ("user-data", None) => file = SeedFile::Template,
            ("meta-data", None) => file = SeedFile::MetaData,
            ("vendor-data" | "network-config", None) => file = SeedFile::VendorData,
            _ => return None,
        }
    }
    Some(Endpoint::Kickstart {
        path,
        file,
        path_labels,
    })
}

/// A path without `//`, `.` and `..`, its final slash kept, as Go's mux wants it.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut clean = Vec::with_capacity(path.len());
    for part in &parts {
        clean.push(b'/');
        clean.extend_from_slice(part);
    }
    if clean.is_empty() || path.ends_with(b"/") {
        clean.push(b'/');
    }
    clean
}

fn with_query(path: &[u8], uri: &Uri) -> String {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("{}{query}", escape_path(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cleaned_as_go_cleans_them() {
        for (path, wanted) in [
            ("/a/../b", "/b"),
            ("//ipxe", "/ipxe"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("/assets/./x/", "/assets/x/"),
            ("", "/"),
            ("/a/..", "/"),
        ] {
            assert_eq!(clean(path.as_bytes()), wanted.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_seed_directory_carries_labels_in_its_path() {
        let Some(Endpoint::Kickstart {
            path,
            file,
            path_labels,
        }) = endpoint("/autoinstall/mac=52-54-00-12-34-56/meta-data")
        else {
            unreachable!("the path is an installer's");
        };
        assert_eq!((path, file), ("autoinstall", SeedFile::MetaData));
        assert_eq!(
            path_labels,
            [("mac".to_owned(), "52-54-00-12-34-56".to_owned())]
        );
        assert_eq!(endpoint("/kickstarter"), None);
        assert_eq!(endpoint("/kickstart/other"), None);
    }
}

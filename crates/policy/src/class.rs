//! What kind of file a URL names, seen from its path alone: how long it may be kept and whether
//! mirrors may share it follow from that where no rule of the operator says otherwise.
//!
//! *Immutable* files carry their version or checksum in the name; *root* files say what a
//! repository holds now and are asked anew at each use; the rest lies between.

/// The kinds of files that package mirrors serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Package with a version in its name, checksum-named metadata, by-hash.
    Immutable,
    /// repomd.xml, InRelease, Release, .treeinfo, *.db, APKINDEX, metalink, mirrorlist.
    Root,
    /// Other repository metadata.
    Volatile,
    /// Boot and disk images.
    Image,
    /// Anything else.
    Other,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Immutable,
        Self::Root,
        Self::Volatile,
        Self::Image,
        Self::Other,
    ];

    /// The word for logs, `explain` and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Immutable => "immutable",
            Self::Root => "root",
            Self::Volatile => "volatile",
            Self::Image => "image",
            Self::Other => "other",
        }
    }

    /// True for the classes whose files are the same bytes for every client, whatever a Vary on
    /// Accept-Encoding says.
    pub fn is_package(self) -> bool {
        matches!(self, Self::Immutable | Self::Image)
    }
}

const PACKAGE_ENDINGS: [&str; 8] = [
    ".rpm", ".drpm", ".deb", ".udeb", ".ddeb", ".apk", ".whl", ".crate",
];
const ROOT_NAMES: [&str; 15] = [
    "repomd.xml",
    "repomd.xml.asc",
    "repomd.xml.key",
    "inrelease",
    "release",
    "release.gpg",
    ".treeinfo",
    "treeinfo",
    "apkindex.tar.gz",
    "metalink",
    "mirrorlist",
    "content",
    "media",
    "directory.yast",
    "media.1",
];
const IMAGE_ENDINGS: [&str; 6] = [".iso", ".img", ".qcow2", ".squashfs", ".efi", ".raw.xz"];
const IMAGE_NAMES: [&str; 6] = [
    "vmlinuz",
    "linux",
    "initrd",
    "initrd.gz",
    "bzimage",
    "initramfs",
];
const VOLATILE_ENDINGS: [&str; 12] = [
    ".xml",
    ".xml.gz",
    ".xml.xz",
    ".xml.zst",
    ".xml.zck",
    ".xml.bz2",
    ".sqlite.bz2",
    ".sqlite.xz",
    ".sqlite.gz",
    ".files",
    ".yaml",
    ".json",
];

/// Tells the class of a URL from its path (normal form, without query).
pub fn class(path: &str) -> Class {
    let path = path.to_ascii_lowercase();
    let name = path.rsplit('/').next().unwrap_or_default();
    if is_root(&path, name) {
        Class::Root
    } else if is_immutable(&path, name) {
        Class::Immutable
    } else if IMAGE_NAMES.contains(&name)
        || name.starts_with("vmlinuz-")
        || ends_in(name, &IMAGE_ENDINGS)
    {
        Class::Image
    } else if is_volatile(&path, name) {
        Class::Volatile
    } else {
        Class::Other
    }
}

/// Files that installers and package managers ask every mirror for and mostly do not find: a 404 is
/// worth remembering for a while.
pub fn is_often_missing(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    matches!(
        name,
        "updates.img" | "product.img" | "InRelease" | "Release.gpg"
    ) || ends_in(name, &[".sig", ".asc", ".key"])
}

const ROOT_ENDINGS: [&str; 5] = [".metalink", ".meta4", ".db", ".db.sig", ".db.tar.gz"];
const SOURCE_ENDINGS: [&str; 3] = [".tgz", ".dsc", ".txz"];

fn ends_in(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|end| name.ends_with(end))
}

fn is_root(path: &str, name: &str) -> bool {
    ROOT_NAMES.contains(&name)
        || (ends_in(name, &ROOT_ENDINGS) && !path.contains("/by-hash/"))
        || path == "/metalink"
        || path.ends_with("/mirrorlist")
}

fn is_immutable(path: &str, name: &str) -> bool {
    if path.contains("/by-hash/") || has_checksum_prefix(name) {
        return true;
    }
    let source = ends_in(name, &SOURCE_ENDINGS)
        || name.contains(".orig.tar")
        || name.contains(".debian.tar");
    let packaged = ends_in(name, &PACKAGE_ENDINGS)
        || name.contains(".pkg.tar")
        || (source && path.contains("/pool/"));
    packaged && has_version(name)
}

fn is_volatile(path: &str, name: &str) -> bool {
    ends_in(name, &VOLATILE_ENDINGS)
        || path.contains("/repodata/")
        || path.contains("/dists/")
        || name == "packages.gz"
        || name == "packages.xz"
}

/// A hexadecimal checksum of 32 digits or more before the first `-` or as the whole stem: the form
/// that createrepo gives to metadata, and by-hash names.
fn has_checksum_prefix(name: &str) -> bool {
    let stem = name.split(['-', '.']).next().unwrap_or_default();
    matches!(stem.len(), 32 | 40 | 56 | 64 | 96 | 128)
        && stem.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A digit that follows `-` or `_`, as in `bash-5.1-2.rpm` and `bash_5.1-2_amd64.deb`.
fn has_version(name: &str) -> bool {
    name.as_bytes()
        .windows(2)
        .any(|pair| matches!(pair, [b'-' | b'_', digit] if digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_real_mirrors_have_the_expected_class() {
        for (path, wanted) in [
            (
                "/centos/7/os/x86_64/Packages/bash-4.2.46-34.el7.x86_64.rpm",
                Class::Immutable,
            ),
            (
                "/7/drpms/bash-4.2.46-33_34.el7.x86_64.drpm",
                Class::Immutable,
            ),
            (
                "/debian/pool/main/b/bash/bash_5.2.15-2+b2_amd64.deb",
                Class::Immutable,
            ),
            (
                "/debian/pool/main/b/bash/bash_5.2.15.orig.tar.xz",
                Class::Immutable,
            ),
            (
                "/debian/dists/bookworm/main/binary-amd64/by-hash/SHA256/aa",
                Class::Immutable,
            ),
            (
                "/r/repodata/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-primary.xml.gz",
                Class::Immutable,
            ),
            (
                "/arch/core/os/x86_64/zlib-1:1.3.1-2-x86_64.pkg.tar.zst",
                Class::Immutable,
            ),
            (
                "/alpine/v3.20/main/x86_64/busybox-1.36.1-r29.apk",
                Class::Immutable,
            ),
            ("/r/repodata/repomd.xml", Class::Root),
            ("/debian/dists/bookworm/InRelease", Class::Root),
            ("/debian/dists/bookworm/Release.gpg", Class::Root),
            ("/f/os/.treeinfo", Class::Root),
            ("/arch/core/os/x86_64/core.db", Class::Root),
            ("/alpine/v3.20/main/x86_64/APKINDEX.tar.gz", Class::Root),
            ("/metalink", Class::Root),
            ("/r/repodata/primary.xml.gz", Class::Volatile),
            (
                "/debian/dists/bookworm/main/binary-amd64/Packages.xz",
                Class::Volatile,
            ),
            ("/f/os/images/pxeboot/vmlinuz", Class::Image),
            ("/f/os/images/pxeboot/initrd.img", Class::Image),
            ("/f/os/images/install.img", Class::Image),
            ("/iso/x-9.iso", Class::Image),
            ("/latest.rpm", Class::Other),
            ("/index.html", Class::Other),
            ("/", Class::Other),
        ] {
            assert_eq!(class(path), wanted, "{path}");
        }
    }
}

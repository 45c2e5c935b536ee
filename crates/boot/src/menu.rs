//! Menu entries: what the operator lists, and the built-in install menus of `config/boot/`.
//!
//! Mirrors are reached through larder's cache, since iPXE and installers know no proxy: a URL
//! `http://HOST/PATH` becomes `http://LARDER:3128/http/HOST/PATH`, so that kernel, initrd, installer image
//! and packages all come from the same cache.

use serde::Deserialize;

use crate::error::Error;
use crate::ipxe_text;

/// Longest that a menu waits, in seconds: a day. iPXE counts milliseconds in 32 bits.
pub const SECONDS_MAX: u32 = 86_400;

/// The built-in menus, by the name of their file.
pub const INSTALL_MENUS: [(&str, &str); 4] = [
    ("el.toml", include_str!("../../../config/boot/el.toml")),
    (
        "fedora.toml",
        include_str!("../../../config/boot/fedora.toml"),
    ),
    (
        "debian.toml",
        include_str!("../../../config/boot/debian.toml"),
    ),
    (
        "opensuse.toml",
        include_str!("../../../config/boot/opensuse.toml"),
    ),
];

/// How an entry is written in iPXE's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Arguments on the kernel's line, with `initrd=` for UEFI.
    #[default]
    Usual,
    /// As one types it at a prompt: `imgfree`, `kernel`, `initrd`, `imgargs`, `boot`.
    Typed,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Entry {
    /// What the menu shows.
    pub title: String,
    /// Base URL that `${repo}` stands for.
    #[serde(default)]
    pub repo: String,
    /// Kernel: a URL, `${repo}/…`, or a file of the boot root.
    #[serde(default)]
    pub kernel: String,
    /// Initrds, likewise.
    #[serde(default)]
    pub initrd: Vec<String>,
    /// Kernel arguments.
    #[serde(default)]
    pub args: String,
    /// A script to chain to instead of a kernel.
    #[serde(default)]
    pub chain: String,
    /// Serial console of this entry, `off` for none; the general one if it says nothing.
    #[serde(default)]
    pub console: Option<String>,
    /// The way it is written.
    #[serde(default)]
    pub form: Form,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    menu: Vec<Entry>,
}

/// Reads a menu file.
///
/// # Errors
/// What is wrong with it, with line and column.
pub fn read(name: &str, content: &str) -> Result<Vec<Entry>, Error> {
    let wrong = |reason: String| Error::Menu {
        name: name.to_owned(),
        reason,
    };
    let file: File = toml::from_str(content).map_err(|error| wrong(error.to_string()))?;
    for entry in &file.menu {
        check(entry)?;
    }
    Ok(file.menu)
}

/// Checks that an entry can be booted and stays within its line of the script.
///
/// # Errors
/// What is wrong.
pub fn check(entry: &Entry) -> Result<(), Error> {
    let wrong = |reason: String| Error::Menu {
        name: entry.title.escape_debug().to_string(),
        reason,
    };
    if entry.title.trim().is_empty() {
        return Err(wrong("has an empty title".to_owned()));
    }
    if entry.kernel.is_empty() == entry.chain.is_empty() {
        return Err(wrong("needs a kernel, or a chain in its place".to_owned()));
    }
    let named = [("title", &entry.title), ("args", &entry.args)];
    let words = named.map(|(what, text)| (what, ipxe_text::words(text)));
    let named = [
        ("repo", &entry.repo),
        ("kernel", &entry.kernel),
        ("chain", &entry.chain),
    ];
    let locations = named
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .chain(entry.initrd.iter().map(|initrd| ("initrd", initrd)))
        .map(|(what, text)| (what, ipxe_text::location(text)));
    let own = entry.console.as_deref().filter(|console| *console != "off");
    let console = own.map(|console| ("console", ipxe_text::console(console)));
    for (what, judged) in words.into_iter().chain(locations).chain(console) {
        judged.map_err(|unfit| wrong(format!("{what} {unfit}: {}", unfit.mend())))?;
    }
    Ok(())
}

/// All built-in entries.
///
/// # Errors
/// A file of `config/boot/` is wrong, which a test excludes.
pub fn install_menus() -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for (name, content) in INSTALL_MENUS {
        entries.extend(read(name, content)?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_menu_is_read() {
        let entries = install_menus().unwrap();
        for name in ["CentOS", "Rocky", "Alma", "Fedora", "Debian", "openSUSE"] {
            assert!(
                entries.iter().any(|entry| entry.title.contains(name)),
                "{name}"
            );
        }
    }

    #[test]
    fn installers_are_told_their_repository_as_they_understand_it() {
        for entry in install_menus().unwrap() {
            let is_old = entry.title.contains(" 6") || entry.form == Form::Typed;
            assert_eq!(
                is_old,
                entry.args.split(' ').any(|arg| arg.starts_with("method=")),
                "{}",
                entry.title
            );
        }
    }

    #[test]
    fn unusable_entries_are_refused() {
        let reason = |text: &str| read("f.toml", text).unwrap_err().to_string();
        assert!(reason("[[menu]]\ntitle = 'x'").contains("needs a kernel"));
        assert!(
            reason("[[menu]]\ntitle = 'x'\nkernel = 'k'\nchain = 'c'").contains("needs a kernel")
        );
        assert!(reason("[[menu]]\ntitle = \"x\\ny\"\nkernel = 'k'").contains("line break"));
        assert!(reason("[[menu]]\ntitle = ' '\nkernel = 'k'").contains("empty title"));
        for wrong in [
            "title = 'a && b'\nkernel = 'k'",
            "title = 'a'\nkernel = 'http://h/vm linuz'",
            "title = 'a'\nkernel = 'k'\ninitrd = ['a', 'b || c']",
            "title = 'a'\nkernel = 'k'\nargs = 'quiet ; reboot'",
            "title = 'a'\nkernel = 'k'\nargs = 'quiet # more'",
            "title = 'a'\nkernel = 'k'\nrepo = '${x'",
            "title = 'a'\nchain = 'c\\'",
            "title = 'a'\nkernel = 'k'\nconsole = 'ttyS0 reboot'",
        ] {
            let told = reason(&format!("[[menu]]\n{wrong}"));
            assert!(
                told.contains("iPXE") || told.contains("${x") || told.contains("console"),
                "{told}"
            );
        }
        assert!(reason("[[menu]]\ntitle = 'x'\nkernle = 'k'").contains("kernle"));
    }
}

//! `[admin]`, `[log]`, `[boot]` and `[provision]`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::listen;
use crate::config::problem::Problem;
use crate::config::settings::{
    AccessFormat, AccessLogPlace, Admin, Boot, Log, LogFormat, Machine, MenuEntry, Provision,
};
use crate::config::tree::{Node, Section};
use crate::config::values;

/// Reads `[admin]`.
pub(super) fn admin(section: &mut Section<'_>, folder: &Path, admin: &mut Admin) {
    section.set("address", &mut admin.address, optional_address);
    section.set("socket", &mut admin.socket, |node| {
        Ok(
            values::optional_text(node)?.map(|text| match text.as_str() {
                "off" => text,
                path => folder.join(path).display().to_string(),
            }),
        )
    });
    section.set("token", &mut admin.token, values::optional_text);
}

/// Reads `[log]`.
pub(super) fn log(section: &mut Section<'_>, folder: &Path, log: &mut Log) {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let access_formats = [
        ("larder", AccessFormat::Larder),
        ("squid", AccessFormat::Squid),
        ("combined", AccessFormat::Combined),
        ("json", AccessFormat::Json),
    ];
    section.set("level", &mut log.level, values::one_of(&levels));
    section.set("format", &mut log.format, values::one_of(&formats));
    section.table("access", |section| {
        section.set("path", &mut log.access.place, |node| {
            Ok(match values::text(node)?.as_str() {
                "" => AccessLogPlace::Off,
                "-" => AccessLogPlace::Stdout,
                path => AccessLogPlace::File(folder.join(path)),
            })
        });
        section.set(
            "format",
            &mut log.access.format,
            values::one_of(&access_formats),
        );
    });
}

/// Reads `[boot]`.
pub(super) fn boot(section: &mut Section<'_>, folder: &Path, boot: &mut Boot) {
    section.set("enabled", &mut boot.enabled, values::truth);
    section.set(
        "interfaces",
        &mut boot.interfaces,
        values::list(values::text),
    );
    section.set("root", &mut boot.root, values::optional_path(folder));
    section.set("http", &mut boot.http, listen::address);
    section.set("next", &mut boot.next, values::optional_text);
    let sockets = [("udp", false), ("packet", true)];
    section.set("socket", &mut boot.packet_socket, values::one_of(&sockets));
    section.set("serial", &mut boot.serial, values::optional_text);
    let chains = [("", false), ("shim", true)];
    section.set(
        "secure-boot",
        &mut boot.secure_boot,
        values::one_of(&chains),
    );
    if let Some(seconds) = section.value("menu-seconds", values::count(0)) {
        boot.menu_seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
    }
    section.set("install-menus", &mut boot.install_menus, values::truth);
    menu(section, &mut boot.menu);
    if let Some(machines) = section.tables("machine", |entry, place| {
        let mac = entry.value("mac", values::text);
        let offer_style = entry.value("offer-style", values::optional_text).flatten();
        if mac.is_none() {
            let problem = Problem::error("this machine has no hardware address");
            entry.problem(problem.at(place).mend("add mac = \"52:54:00:12:34:56\""));
        }
        Some(Machine {
            mac: mac?,
            offer_style,
        })
    }) {
        boot.machines = machines;
    }
    files(section, &mut boot.files);
}

/// Reads `[[boot.menu]]`.
fn menu(section: &mut Section<'_>, menu: &mut Vec<MenuEntry>) {
    let read = section.tables("menu", |entry, place| {
        let title = entry.value("title", values::text);
        let mut text = |key| entry.value(key, values::text).unwrap_or_default();
        let (repo, kernel, chain) = (text("repo"), text("kernel"), text("chain"));
        let mut list = |key| {
            let list = entry.value(key, values::list(values::text));
            list.unwrap_or_default()
        };
        let (initrd, args) = (list("initrd"), list("args"));
        if title.is_none() || kernel.is_empty() == chain.is_empty() {
            let problem = Problem::error("a menu entry has a title, and a kernel or a chain");
            entry.problem(
                problem
                    .at(place)
                    .mend("add title = \"…\" and kernel = \"http://…\""),
            );
        }
        Some(MenuEntry {
            title: title?,
            repo,
            kernel,
            initrd,
            args,
            chain,
        })
    });
    if let Some(entries) = read {
        *menu = entries;
    }
}

/// Reads `[[boot.file]]`.
fn files(section: &mut Section<'_>, files: &mut BTreeMap<String, String>) {
    if let Some(named) = section.tables("file", |entry, place| {
        let name = entry.value("name", values::text);
        let url = entry.value("url", values::text);
        if name.is_none() || url.is_none() {
            let problem = Problem::error("a file has a name and a url");
            entry.problem(
                problem
                    .at(place)
                    .mend("add name = \"…\" and url = \"http://…\""),
            );
        }
        Some((name?, url?))
    }) {
        *files = named.into_iter().collect();
    }
}

/// Reads `[provision]`.
pub(super) fn provision(section: &mut Section<'_>, folder: &Path, provision: &mut Provision) {
    section.set("enabled", &mut provision.enabled, values::truth);
    section.set("data", &mut provision.data, values::path(folder));
    section.set(
        "assets",
        &mut provision.assets,
        values::optional_path(folder),
    );
    section.set("http", &mut provision.http, listen::address);
    section.set("grpc", &mut provision.grpc, optional_address);
    let files: [(&'static str, &mut PathBuf); 3] = [
        ("cert-file", &mut provision.cert_file),
        ("key-file", &mut provision.key_file),
        ("ca-file", &mut provision.ca_file),
    ];
    for (key, file) in files {
        section.set(key, file, values::path(folder));
    }
    let releases = [("0.7", "0.7"), ("0.11", "0.11")];
    if let Some(compat) = section.value("compat", values::one_of(&releases)) {
        compat.clone_into(&mut provision.compat);
    }
    let switches: [(&'static str, &mut bool); 3] = [
        ("install-once", &mut provision.install_once),
        ("initrd-args", &mut provision.initrd_args),
        ("rewrite", &mut provision.rewrite),
    ];
    for (key, switch) in switches {
        section.set(key, switch, values::truth);
    }
}

fn optional_address(node: &Node) -> Result<Option<SocketAddr>, Problem> {
    match values::text(node)?.as_str() {
        "" | "off" => Ok(None),
        _ => listen::address(node).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use crate::args;
    use crate::config::Sources;
    use crate::environment::Environment;

    /// What a larder.toml with this text says, or what is wrong with it.
    fn read(text: &str) -> Result<crate::config::Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("larder.toml");
        std::fs::write(&file, text).unwrap();
        let source = args::Source {
            config: Some(file),
            squid_conf: None,
        };
        let environment = Environment::of_pairs([("", ""); 0]);
        let loaded = Sources::new(&source, &environment).load();
        loaded
            .map(|loaded| loaded.settings)
            .map_err(|problems| problems.render(false))
    }

    #[test]
    fn menu_entries_have_a_kernel_or_a_chain() {
        let boot = |text: &str| read(&format!("[boot]\n{text}")).map(|settings| settings.boot);
        let menu = "menu-seconds = 5\ninstall-menus = false\n\
            [[boot.menu]]\ntitle = 'a'\nrepo = 'http://h/os'\nkernel = '${repo}/vmlinuz'\n\
            [[boot.menu]]\ntitle = 'b'\nchain = 'http://h/b.ipxe'\n";
        let read = boot(menu).unwrap();
        assert_eq!((read.menu_seconds, read.install_menus), (5, false));
        assert_eq!(read.menu[0].repo, "http://h/os");
        assert_eq!(read.menu[1].chain, "http://h/b.ipxe");
        for wrong in ["", "kernel = 'k'\nchain = 'c'"] {
            let told = boot(&format!("[[boot.menu]]\ntitle = 'a'\n{wrong}\n")).unwrap_err();
            assert!(told.contains("a kernel or a chain"), "{told}");
        }
    }

    #[test]
    fn files_have_a_name_and_a_url() {
        let file = "[[boot.file]]\nname = 'm.efi'\nurl = 'http://h/m'\n";
        assert_eq!(read(file).unwrap().boot.files["m.efi"], "http://h/m");
        let told = read("[[boot.file]]\nname = 'm.efi'\n").unwrap_err();
        assert!(told.contains("a name and a url"), "{told}");
    }
}

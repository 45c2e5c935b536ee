//! `[boot]`. What ends up in iPXE scripts is judged here by iPXE's own grammar, so that no value can say
//! more than one thing there, and what names a part of this machine is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use larder_boot::ipxe_text::{self, Unfit};
use larder_boot::loaders::{self, SecureBoot};
use larder_boot::look::Looks;
use larder_boot::menu::SECONDS_MAX;
use larder_boot::net::interfaces;
use larder_boot::packet::hardware::HardwareAddress;
use larder_boot::tftp;

use super::listen;
use crate::config::problem::{Place, Problem, Severity};
use crate::config::settings::{Boot, Machine, MenuEntry};
use crate::config::tree::{Node, Section};
use crate::config::values;

/// Reads `[boot]`.
pub(super) fn read(section: &mut Section<'_>, folder: &Path, boot: &mut Boot) {
    section.set("enabled", &mut boot.enabled, values::truth);
    let enabled = boot.enabled;
    section.set(
        "interfaces",
        &mut boot.interfaces,
        values::list(values::text),
    );
    interfaces_here(section);
    let looks = Looks::default();
    section.set("root", &mut boot.root, values::optional_path(folder));
    root_here(section, boot.root.as_deref(), enabled, &looks);
    section.set("http", &mut boot.http, listen::address);
    section.set("next", &mut boot.next, optional(ipxe_text::script_url));
    let sockets = [("udp", false), ("packet", true)];
    section.set("socket", &mut boot.packet_socket, values::one_of(&sockets));
    section.set("serial", &mut boot.serial, optional(ipxe_text::console));
    let chains = [("", false), ("shim", true)];
    section.set(
        "secure-boot",
        &mut boot.secure_boot,
        values::one_of(&chains),
    );
    section.set("menu-seconds", &mut boot.menu_seconds, |node| {
        let seconds = u32::try_from(values::count(0)(node)?).ok();
        let seconds = seconds.filter(|seconds| *seconds <= SECONDS_MAX);
        let mend = "write 0 to wait for ever, or up to 86400";
        seconds.ok_or_else(|| values::bad(node, &"this is longer than a day", mend))
    });
    section.set("install-menus", &mut boot.install_menus, values::truth);
    if let Some(entries) = section.tables("menu", menu_entry) {
        boot.menu = entries;
    }
    files_here(section, boot, &looks);
    if let Some(machines) = section.tables("machine", machine) {
        boot.machines = distinct(section, machines);
    }
    files(section, &mut boot.files);
}

/// How a text is judged before it goes into a script.
type Judge = fn(&str) -> Result<(), Unfit>;

fn unfit(node: &Node, unfit: &Unfit) -> Problem {
    Problem::error(format!("this {unfit}"))
        .at(&node.place)
        .mend(unfit.mend())
}

/// A text that can stand in a script.
fn fit(judge: Judge) -> impl Fn(&Node) -> Result<String, Problem> {
    move |node| {
        let text = values::text(node)?;
        judge(&text).map_err(|error| unfit(node, &error))?;
        Ok(text)
    }
}

/// The same, or nothing.
fn optional(judge: Judge) -> impl Fn(&Node) -> Result<Option<String>, Problem> {
    move |node| match values::optional_text(node)? {
        None => Ok(None),
        Some(_) => fit(judge)(node).map(Some),
    }
}

/// Says which of the named interfaces cannot be served here. These are warnings: whoever checks may sit
/// at another machine than the one that will serve.
fn interfaces_here(section: &mut Section<'_>) {
    let named = section.get("interfaces");
    let (Some(node), Ok(all)) = (named, interfaces::list()) else {
        return;
    };
    let judged = values::list(|item: &Node| {
        let name = values::text(item)?;
        let found = all.iter().find(|found| found.interface.name == name);
        let known: Vec<&str> = all.iter().map(|f| f.interface.name.as_str()).collect();
        let problem = match found {
            None => Problem::warning(format!("no interface `{name}` is up on this machine")).mend(
                format!(
                    "larder does not start without it; there are: {}",
                    known.join(", ")
                ),
            ),
            Some(found) if found.interface.address.is_unspecified() => {
                Problem::warning(format!("interface `{name}` has no IPv4 address"))
                    .mend(format!("set it up (ip link set {name} up), and give it one if it has none: larder does not start without"))
            }
            Some(found) if found.is_loopback => Problem::note(format!(
                "no machine can boot from `{name}`, this host's loopback"
            ))
            .mend("name the interface that the machines are connected to"),
            Some(_) => return Ok(None),
        };
        Ok(Some(problem.at(&item.place)))
    });
    // What is no list of texts was told when it was read.
    for problem in judged(node).unwrap_or_default().into_iter().flatten() {
        section.problem(problem);
    }
}

/// Says that the root cannot be served; an error where `serve` would end with it.
fn root_here(section: &mut Section<'_>, root: Option<&Path>, enabled: bool, looks: &Looks) {
    let (Some(node), Some(root)) = (section.get("root"), root) else {
        return;
    };
    let shown = root.display();
    let error = match looks.at(root, |root| root.read_dir().map(drop)) {
        Some(Ok(())) => return,
        Some(Err(error)) => error,
        None => {
            let problem = Problem::warning(format!("the boot root {shown} does not answer"));
            let mend = "see to its disk or server; larder starts, and serves its files once they can be read";
            section.problem(problem.at(&node.place).mend(mend));
            return;
        }
    };
    let severity = if enabled {
        Severity::Error
    } else {
        Severity::Warning
    };
    let problem = Problem {
        severity,
        ..Problem::error(format!("the boot root {shown} cannot be read: {error}"))
    };
    let mend = "name a folder that is there, or \"\" to serve the distribution's iPXE alone";
    section.problem(problem.at(&node.place).mend(mend));
}

/// Reads `[[boot.menu]]`.
fn menu_entry(entry: &mut Section<'_>, place: &Place) -> Option<MenuEntry> {
    let is_given = |entry: &mut Section<'_>, key| {
        let text = entry.get(key).map(values::text);
        text.is_some_and(|text| text.is_ok_and(|text| !text.trim().is_empty()))
    };
    let (has_title, has_kernel, has_chain) = (
        is_given(entry, "title"),
        is_given(entry, "kernel"),
        is_given(entry, "chain"),
    );
    if !has_title || has_kernel == has_chain {
        let problem = Problem::error("a menu entry has a title, and a kernel or a chain");
        entry.problem(
            problem
                .at(place)
                .mend("add title = \"…\" and kernel = \"http://…\""),
        );
    }
    let title = entry.value("title", fit(ipxe_text::words));
    let mut location = |key| {
        let read = entry.value(key, optional(ipxe_text::location));
        read.flatten().unwrap_or_default()
    };
    let (repo, kernel, chain) = (location("repo"), location("kernel"), location("chain"));
    let mut list = |key, judge| {
        let list = entry.value(key, values::list(fit(judge)));
        list.unwrap_or_default()
    };
    let initrd = list("initrd", ipxe_text::location);
    let args = list("args", ipxe_text::words);
    Some(MenuEntry {
        title: title?,
        repo,
        kernel,
        initrd,
        args,
        chain,
    })
}

/// Reads `[[boot.machine]]`.
fn machine(entry: &mut Section<'_>, place: &Place) -> Option<(HardwareAddress, Place, Machine)> {
    let mac = entry.value("mac", |node| {
        let text = values::text(node)?;
        let mend = "write it as \"52:54:00:12:34:56\"";
        let parsed: Result<HardwareAddress, _> = text.parse();
        let parsed = parsed.map_err(|error| values::bad(node, &error, mend))?;
        Ok((parsed, node.place.clone(), text))
    });
    let styles = ["", "auto", "direct", "4011", "menu"].map(|style| (style, style));
    let offer_style = entry.value("offer-style", values::one_of(&styles));
    if entry.get("mac").is_none() {
        let problem = Problem::error("this machine has no hardware address");
        entry.problem(problem.at(place).mend("add mac = \"52:54:00:12:34:56\""));
    }
    let (mac, place, text) = mac?;
    let offer_style = offer_style.filter(|style| !style.is_empty());
    let machine = Machine {
        mac: text,
        offer_style: offer_style.map(str::to_owned),
    };
    Some((mac, place, machine))
}

/// The machines, of which each may be listed once, however its address is written.
fn distinct(
    section: &mut Section<'_>,
    machines: Vec<(HardwareAddress, Place, Machine)>,
) -> Vec<Machine> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for (mac, place, machine) in machines {
        if seen.insert(mac) {
            kept.push(machine);
        } else {
            let problem = Problem::error(format!("the machine {mac} is listed twice"));
            section.problem(problem.at(&place).mend("leave one of the two"));
        }
    }
    kept
}

/// Says which files of menu entries are not there to be fetched. A warning: they may come later.
fn files_here(section: &mut Section<'_>, boot: &Boot, looks: &Looks) {
    let chain = if boot.secure_boot {
        SecureBoot::Shim
    } else {
        SecureBoot::default()
    };
    let programs = loaders::find(boot.root.as_deref(), chain, looks).paths;
    let is_here = |name: &str| {
        let there = boot.root.as_ref().map(|root| root.join(name));
        // Of a file that does not answer nobody knows.
        programs.contains_key(name)
            || there.is_some_and(|path| looks.at(&path, Path::is_file).unwrap_or(true))
    };
    let files = |entry: &mut Section<'_>, _: &Place| {
        let mut missing = Vec::new();
        for key in ["kernel", "initrd", "chain"] {
            let Some(node) = entry.get(key) else { continue };
            let located = values::list(|item| Ok((values::text(item)?, item.place.clone())))(node);
            missing.extend(located.unwrap_or_default().into_iter().filter(|(text, _)| {
                let name = text.trim_start_matches('/').split(['?', '#']).next();
                let is_file = !text.contains("://") && !text.contains("${");
                is_file && name.is_some_and(|name| !name.is_empty() && !is_here(name))
            }));
        }
        Some(missing)
    };
    for (text, place) in section.again("menu", files).into_iter().flatten() {
        let problem = Problem::warning(format!(
            "`{text}` is no URL, and there is no such file in boot.root"
        ));
        section.problem(
            problem
                .at(&place)
                .mend("write http://HOST/PATH, or put the file there"),
        );
    }
}

/// Reads `[[boot.file]]`.
fn files(section: &mut Section<'_>, files: &mut BTreeMap<String, String>) {
    let named = section.tables("file", |entry, place| {
        let name = entry.value("name", file_name);
        let named_at = entry.get("name").map_or(place, |node| &node.place).clone();
        let url = entry.value("url", |node| {
            let url = values::text(node)?;
            let is_http = url.starts_with("http://") || url.starts_with("https://");
            match ipxe_text::script_url(&url) {
                Ok(()) if is_http => Ok(url),
                Ok(()) => Err(unfit(node, &Unfit::NoUrl)),
                Err(error) => Err(unfit(node, &error)),
            }
        });
        if entry.get("name").is_none() || entry.get("url").is_none() {
            let problem = Problem::error("a file has a name and a url");
            entry.problem(
                problem
                    .at(place)
                    .mend("add name = \"…\" and url = \"http://…\""),
            );
        }
        Some((name?, named_at, url?))
    });
    for (name, place, url) in named.into_iter().flatten() {
        if let Some(_before) = files.insert(name.clone(), url) {
            let problem = Problem::error(format!("a second file is called `{name}`"));
            section.problem(problem.at(&place).mend("give it a name of its own"));
        }
    }
}

/// A name under which machines ask for a file, as it is looked up.
fn file_name(node: &Node) -> Result<String, Problem> {
    let text = values::text(node)?;
    match tftp::files::clean(text.as_bytes()) {
        Ok(name) if name.machine.is_none() => Ok(name.path),
        Ok(_) => Err(values::bad(
            node,
            &"a hardware address in front of a name says who asks, and is no part of it",
            "leave it out: the file is for all machines",
        )),
        Err(error) => Err(values::bad(
            node,
            &format!("no machine can ask for this: {error}"),
            "write a name such as \"memtest.efi\" or \"tools/memtest.efi\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::args;
    use crate::config::{Problems, Sources};
    use crate::environment::Environment;

    /// What a larder.toml with this text says, with what is worth knowing, or what is wrong with it.
    fn loaded(text: &str) -> Result<(crate::config::Settings, Problems), Problems> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("larder.toml");
        std::fs::write(&file, text).unwrap();
        let source = args::Source {
            config: Some(file),
            squid_conf: None,
        };
        let environment = Environment::of_pairs([("", ""); 0]);
        let loaded = Sources::new(&source, &environment).load();
        loaded.map(|loaded| (loaded.settings, loaded.notes))
    }

    fn read(text: &str) -> Result<crate::config::Settings, String> {
        let settings = loaded(text).map(|(settings, _)| settings);
        settings.map_err(|problems| problems.render(false))
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
        for wrong in ["", "kernel = 'k'\nchain = 'c'", "kernel = ''"] {
            let told = boot(&format!("[[boot.menu]]\ntitle = 'a'\n{wrong}\n")).unwrap_err();
            assert!(told.contains("a kernel or a chain"), "{told}");
        }
    }

    #[test]
    fn no_text_of_a_script_says_more_than_one_thing() {
        let entry = |line: &str| format!("[boot]\n[[boot.menu]]\n{line}\n");
        let wrong = [
            (
                entry("title = 'Rocky && Alma'\nkernel = 'k'"),
                "another command",
                3,
            ),
            (
                entry("title = 'a'\nkernel = 'http://h/vm linuz'"),
                "holds a blank",
                4,
            ),
            (
                entry("title = 'a'\nkernel = 'k'\ninitrd = ['a', '${b']"),
                "not closed",
                5,
            ),
            (
                entry("title = 'a'\nkernel = 'k'\nargs = ['quiet', '# x']"),
                "comment",
                5,
            ),
            (
                entry("title = 'a'\nchain = \"c\\nreboot\""),
                "line break",
                4,
            ),
            (
                entry("title = 'a'\nkernel = 'k'\nrepo = 'x\\'"),
                "backslash",
                5,
            ),
            (
                "[boot]\nserial = \"a b\\nreboot\"\n".to_owned(),
                "serial console",
                2,
            ),
            ("[boot]\nnext = 'nohost'\n".to_owned(), "tftp URL", 2),
            ("[boot]\nnext = 'ftp://h/x'\n".to_owned(), "tftp URL", 2),
            (
                "[boot]\nnext = 'http://h/a b'\n".to_owned(),
                "holds a blank",
                2,
            ),
            (
                "[[boot.file]]\nname = 'x'\nurl = 'tftp://h/x'\n".to_owned(),
                "tftp URL",
                3,
            ),
            (
                "[[boot.machine]]\nmac = 'x'\n".to_owned(),
                "hardware address",
                2,
            ),
        ];
        for (text, told, line) in wrong {
            let problems = loaded(&text).unwrap_err();
            let problem = problems.iter().next().unwrap();
            let place = problem.place.as_ref().unwrap();
            assert!(
                problem.message.contains(told),
                "{text}: {}",
                problem.message
            );
            assert_eq!(place.line_column().0, line, "{text}");
            assert!(problem.mend.is_some(), "{text}");
        }
    }

    #[test]
    fn what_is_not_on_this_machine_is_told_with_its_line() {
        let (_, notes) = loaded("[boot]\ninterfaces = ['nope0', 'lo']\nroot = '/nope'\n").unwrap();
        let told: Vec<String> = notes
            .iter()
            .filter_map(|problem| Some((problem, problem.place.as_ref()?.line_column().0)))
            .map(|(problem, line)| format!("{line} {} {problem}", problem.severity.as_str()))
            .collect();
        assert!(
            told.iter()
                .any(|t| t.starts_with("2 warning no interface `nope0`")),
            "{told:?}"
        );
        assert!(
            told.iter()
                .any(|t| t.starts_with("3 warning the boot root /nope")),
            "{told:?}"
        );
        let wrong = read("[boot]\nenabled = true\nroot = '/nope'\n").unwrap_err();
        assert!(
            wrong.contains("the boot root /nope cannot be read"),
            "{wrong}"
        );
    }

    #[test]
    fn what_is_said_twice_or_can_never_come_is_refused() {
        let machines = "[[boot.machine]]\nmac = '52:54:00:77:00:20'\n\
                        [[boot.machine]]\nmac = '52-54-00-77-00-20'\n";
        let file = |name: &str| format!("[[boot.file]]\nname = '{name}'\nurl = 'http://h/m'\n");
        for (text, told, line) in [
            (machines.to_owned(), "52:54:00:77:00:20 is listed twice", 4),
            (
                file("m.efi") + &file("/m.efi"),
                "a second file is called `m.efi`",
                5,
            ),
            (file("a/../b"), "no machine can ask for this", 2),
            (file("52:54:00:77:00:20/b"), "says who asks", 2),
            (
                "[boot]\nmenu-seconds = 86401\n".to_owned(),
                "longer than a day",
                2,
            ),
            (
                "[boot]\nnext = 'http://h:99999/'\n".to_owned(),
                "port `99999`",
                2,
            ),
            (
                "[[boot.menu]]\ntitle = 'a'\nkernel = 'file:///vmlinuz'\n".to_owned(),
                "no URL that iPXE fetches from",
                3,
            ),
        ] {
            let problems = loaded(&text).unwrap_err();
            let problem = problems.iter().next().unwrap();
            let place = problem.place.as_ref().unwrap();
            assert!(
                problem.message.contains(told),
                "{text}: {}",
                problem.message
            );
            assert_eq!(place.line_column().0, line, "{text}");
        }
        assert_eq!(
            read("[boot]\nmenu-seconds = 86400\n")
                .unwrap()
                .boot
                .menu_seconds,
            86_400
        );
    }

    #[test]
    fn a_menus_file_that_is_not_there_is_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("vmlinuz"), "x").unwrap();
        let text = format!(
            "[boot]\nroot = '{}'\n[[boot.menu]]\ntitle = 'a'\nkernel = '/vmlinuz'\n\
             initrd = ['vmlinuz?x', 'initrd', '${{repo}}/i', 'http://h/i']\n\
             [[boot.menu]]\ntitle = 'b'\nchain = 'nohost'\n",
            root.path().display()
        );
        let (_, notes) = loaded(&text).unwrap();
        let told: Vec<String> = notes.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["initrd", "nohost"]
                .map(|name| format!("`{name}` is no URL, and there is no such file in boot.root"))
        );
    }

    #[test]
    fn files_have_a_name_and_a_url() {
        let file = "[[boot.file]]\nname = 'm.efi'\nurl = 'http://h/m'\n";
        assert_eq!(read(file).unwrap().boot.files["m.efi"], "http://h/m");
        let told = read("[[boot.file]]\nname = 'm.efi'\n").unwrap_err();
        assert!(told.contains("a name and a url"), "{told}");
    }
}

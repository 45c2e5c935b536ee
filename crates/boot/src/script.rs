//! The scripts that iPXE runs: where to go on, the menu, and what to say when something failed.
//!
//! Only commands that every build has are used (a distribution's build of 2019 lacks `poweroff`), and no
//! line can end a script by surprise: each that may fail says where to go on. A failure stays on the
//! screen with a way out, instead of the dead prompt that an unanswered `chain` leaves.

use std::fmt::Write as _;

use crate::menu::{Entry, Form};

/// Where scripts are served, as their reader reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Base URL of larder's scripts, without trailing slash.
    pub scripts: String,
    /// Base URL of larder's cache, without trailing slash; none to leave mirrors' URLs as they are.
    pub cache: Option<String>,
}

impl Here {
    /// The URL under which a client fetches `location`: a mirror's through the cache, a file of the boot
    /// root by larder's own endpoint.
    fn reach(&self, location: &str) -> String {
        if location.starts_with("${") {
            return location.to_owned();
        }
        match (location.split_once("://"), &self.cache) {
            (Some((scheme @ ("http" | "https"), rest)), Some(cache)) => {
                format!("{cache}/{scheme}/{rest}")
            }
            (Some(_), _) => location.to_owned(),
            (None, _) => format!("{}/boot/{}", self.scripts, location.trim_start_matches('/')),
        }
    }
}

/// What a machine tells of itself in the URLs of its scripts.
pub const LABELS: &str = "mac=${mac:hexhyp}&uuid=${uuid}&serial=${serial:uristring}\
                          &arch=${buildarch:uristring}&platform=${platform:uristring}";

/// The first script: goes on to `next` if there is one, else to larder's menu.
pub fn first(here: &Here, next: Option<&str>) -> String {
    let target = match next {
        Some(next) => next.to_owned(),
        None => format!("{}/menu.ipxe?{LABELS}", here.scripts),
    };
    let shown = next.unwrap_or("the menu of larder");
    format!(
        "#!ipxe\n\
         :start\n\
         echo larder: loading {shown}\n\
         chain --autofree {target} || goto failed\n\
         exit\n\
         {}",
        failed(&format!("{shown} did not load or did not run"), "start")
    )
}

/// What `autoexec.ipxe` is: newer iPXE asks for it by TFTP before it asks anything else.
pub fn autoexec(target: &str) -> String {
    format!("#!ipxe\ndhcp ||\nchain --autofree {target} || shell\n")
}

/// The part that every failure goes to: says what failed, offers a shell, tries again.
fn failed(what: &str, again: &str) -> String {
    format!(
        ":failed\n\
         echo\n\
         echo larder: {what}\n\
         echo larder: the line above tells why; trying again in 10 seconds\n\
         prompt --key s --timeout 10000 Press s for the iPXE shell... && shell ||\n\
         imgfree\n\
         goto {again}\n"
    )
}

/// What the menu says of a general kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look<'a> {
    /// Seconds until the local disk boots; 0 waits for ever.
    pub seconds: u32,
    /// Serial console for kernel command lines.
    pub serial: Option<&'a str>,
}

/// The menu as one script. What boots by itself is the local disk: every machine that boots from its network
/// gets this menu, and an installer that nobody chose would write over it.
pub fn menu(here: &Here, entries: &[Entry], look: &Look<'_>) -> String {
    let mut script = String::from("#!ipxe\n:start\nmenu larder: what should this machine boot?\n");
    for (number, entry) in entries.iter().enumerate() {
        let _infallible = writeln!(script, "item entry{number} {}", entry.title);
    }
    script.push_str("item disk Boot from the local disk\nitem shell iPXE shell\n");
    let timeout = match look.seconds {
        0 => String::new(),
        seconds => format!("--timeout {} ", u64::from(seconds) * 1000),
    };
    let _infallible = write!(
        script,
        "choose --default disk {timeout}picked && goto ${{picked}} || goto disk\n\n\
         :shell\nshell\ngoto start\n\n:disk\necho larder: booting from the local disk\nexit\n\n"
    );
    for (number, entry) in entries.iter().enumerate() {
        let _infallible = write!(
            script,
            ":entry{number}\n{}\n",
            boot(here, entry, look.serial)
        );
    }
    script.push_str(&failed("that entry did not boot", "start"));
    script
}

/// The lines that boot one entry.
pub fn boot(here: &Here, entry: &Entry, serial: Option<&str>) -> String {
    if !entry.chain.is_empty() {
        return format!(
            "chain --autofree {} || goto failed\ngoto start\n",
            here.reach(&entry.chain)
        );
    }
    let mut lines = String::from("imgfree\n");
    if !entry.repo.is_empty() {
        let repo = here.reach(entry.repo.trim_end_matches('/'));
        let _infallible = writeln!(lines, "set repo {repo}");
    }
    let kernel = here.reach(&entry.kernel);
    let initrds: Vec<String> = entry
        .initrd
        .iter()
        .map(|initrd| here.reach(initrd))
        .collect();
    let console = match entry.console.as_deref() {
        Some("off") => None,
        Some(own) => Some(own),
        None => serial,
    };
    let mut args: Vec<String> = Vec::new();
    if entry.form == Form::Usual {
        // Kernels under UEFI find their initrds by name only; on BIOS the argument does no harm.
        args.extend(
            initrds
                .iter()
                .map(|initrd| format!("initrd={}", base_name(initrd))),
        );
    }
    args.extend(Some(entry.args.clone()).filter(|args| !args.is_empty()));
    args.extend(console.map(|console| format!("console={console}")));
    let args = args.join(" ");
    match entry.form {
        Form::Usual => {
            let _infallible = writeln!(lines, "kernel {kernel} {args} || goto failed");
            for initrd in &initrds {
                let _infallible = writeln!(lines, "initrd {initrd} || goto failed");
            }
            lines.push_str("boot || goto failed\n");
        }
        Form::Typed => {
            let _infallible = writeln!(lines, "kernel {kernel}");
            for initrd in &initrds {
                let _infallible = writeln!(lines, "initrd {initrd}");
            }
            let _infallible = write!(lines, "imgargs {} {args}\nboot\n", base_name(&kernel));
        }
    }
    lines
}

fn base_name(location: &str) -> &str {
    let path = location.split(['?', '#']).next().unwrap_or(location);
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(cache: Option<&str>) -> Here {
        Here {
            scripts: "http://10.0.0.2:8080".into(),
            cache: cache.map(str::to_owned),
        }
    }

    fn entry(form: Form) -> Entry {
        Entry {
            title: "x".into(),
            repo: "http://mirror.23media.de/centos/7/os/x86_64/".into(),
            kernel: "${repo}/images/pxeboot/vmlinuz".into(),
            initrd: vec!["${repo}/images/pxeboot/initrd.img".into()],
            args: "ramdisk_size=8192 console=ttyS0,115200 text method=${repo}/".into(),
            chain: String::new(),
            console: Some("off".into()),
            form,
        }
    }

    #[test]
    fn the_seeds_entry_is_written_as_one_types_it() {
        let expected = "imgfree\n\
            set repo http://mirror.23media.de/centos/7/os/x86_64\n\
            kernel ${repo}/images/pxeboot/vmlinuz\n\
            initrd ${repo}/images/pxeboot/initrd.img\n\
            imgargs vmlinuz ramdisk_size=8192 console=ttyS0,115200 text method=${repo}/\n\
            boot\n";
        assert_eq!(
            boot(&here(None), &entry(Form::Typed), Some("ttyS1,9600")),
            expected
        );
        let built_in = crate::menu::install_menus().unwrap();
        let typed = built_in
            .iter()
            .find(|entry| entry.form == Form::Typed)
            .unwrap();
        assert_eq!(boot(&here(None), typed, Some("ttyS1,9600")), expected);
    }

    #[test]
    fn mirrors_are_reached_through_the_cache() {
        let script = boot(
            &here(Some("http://10.0.0.2:3128")),
            &entry(Form::Usual),
            None,
        );
        assert!(
            script.contains(
                "set repo http://10.0.0.2:3128/http/mirror.23media.de/centos/7/os/x86_64\n"
            )
        );
        assert!(
            script.contains("kernel ${repo}/images/pxeboot/vmlinuz initrd=initrd.img ramdisk_size")
        );
    }

    #[test]
    fn files_of_the_root_are_fetched_from_larder() {
        let own = Entry {
            kernel: "vmlinuz".into(),
            initrd: vec!["/sub/init.cpio".into()],
            ..entry(Form::Usual)
        };
        let script = boot(&here(None), &own, None);
        assert!(script.contains("kernel http://10.0.0.2:8080/boot/vmlinuz initrd=init.cpio"));
        assert!(script.contains("initrd http://10.0.0.2:8080/boot/sub/init.cpio"));
    }

    #[test]
    fn one_serial_setting_reaches_every_entry() {
        let plain = Entry {
            console: None,
            ..entry(Form::Usual)
        };
        assert!(boot(&here(None), &plain, Some("ttyS1,9600")).contains(" console=ttyS1,9600 ||"));
        assert!(!boot(&here(None), &plain, None).contains("ttyS1"));
    }

    #[test]
    fn nothing_but_the_local_disk_boots_by_itself() {
        let entries = [entry(Form::Usual), entry(Form::Typed)];
        let look = |seconds| Look {
            seconds,
            serial: None,
        };
        let script = menu(&here(None), &entries, &look(30));
        assert!(
            script.contains("choose --default disk --timeout 30000 picked && goto ${picked}"),
            "{script}"
        );
        assert!(script.contains(":disk\necho larder: booting from the local disk\nexit\n"));
        assert!(!menu(&here(None), &entries, &look(0)).contains("--timeout 0"));
    }

    #[test]
    fn a_failure_leads_back_to_a_try_and_never_to_a_dead_prompt() {
        for script in [
            first(&here(None), Some("http://matchbox/boot.ipxe")),
            first(&here(None), None),
            menu(&here(None), &[entry(Form::Usual)], &Look::default()),
        ] {
            assert!(script.starts_with("#!ipxe\n"));
            assert!(
                script.contains(":failed\n") && script.contains("goto start\n"),
                "{script}"
            );
        }
    }
}

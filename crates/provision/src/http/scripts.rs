//! The texts of the boot scripts: pure, byte for byte matchbox's where matchbox has them.

use std::fmt::Write;

use crate::{
    config::Compat,
    model::{Boot, Profile},
};

/// What becomes of a profile's boot section on its way into a script.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Dress<'a> {
    /// Adds the `initrd=NAME` arguments that UEFI kernels need.
    pub(crate) initrd_args: bool,
    /// Turns URLs towards the cache.
    pub(crate) rewrite: Option<&'a crate::config::Rewrite>,
}

impl Dress<'_> {
    /// The boot section as the script shall carry it.
    pub(crate) fn apply(self, boot: &Boot) -> Boot {
        let mut dressed = boot.clone();
        if let Some(rewrite) = self.rewrite {
            dressed.kernel = rewrite.location(&boot.kernel);
            dressed.initrd = boot
                .initrd
                .iter()
                .map(|text| rewrite.location(text))
                .collect();
            dressed.args = boot
                .args
                .iter()
                .map(|text| rewrite.argument(text))
                .collect();
        }
        let named = boot
            .args
            .iter()
            .any(|argument| argument.starts_with("initrd="));
        if self.initrd_args && !named {
            dressed.args.extend(
                boot.initrd
                    .iter()
                    .map(|text| format!("initrd={}", name_of(text))),
            );
        }
        dressed
    }
}

/// What iPXE calls an image: the name it is given, else the last part of its URL.
fn name_of(initrd: &str) -> &str {
    let mut words = initrd.split_whitespace();
    let mut location = "";
    while let Some(word) = words.next() {
        match word {
            "--name" | "-n" => return words.next().unwrap_or_default(),
            _ => location = word,
        }
    }
    let path = location.split(['?', '#']).next().unwrap_or(location);
    path.rsplit('/').next().unwrap_or(path)
}

/// `/boot.ipxe`: iPXE says who it is and asks on.
pub(crate) fn bootstrap(compat: Compat) -> String {
    let arch = match compat {
        Compat::V0_7 => "",
        Compat::V0_11 => "&arch=${buildarch:uristring}",
    };
    format!(
        "#!ipxe\nchain ipxe?uuid=${{uuid}}&mac=${{mac:hexhyp}}&domain=${{domain}}\
         &hostname=${{hostname}}&serial=${{serial}}{arch}\n"
    )
}

/// `/ipxe`: kernel, initrds, boot.
pub(crate) fn ipxe(boot: &Boot) -> String {
    format!("#!ipxe\n{}", load(boot, ""))
}

/// The lines that load and start a kernel, each with what follows if it fails.
fn load(boot: &Boot, or_else: &str) -> String {
    let mut script = format!("kernel {}", boot.kernel);
    for argument in &boot.args {
        script.push(' ');
        script.push_str(argument);
    }
    script.push_str(or_else);
    for initrd in &boot.initrd {
        script.push_str("\ninitrd ");
        script.push_str(initrd);
        script.push_str(or_else);
    }
    script.push_str("\nboot");
    script.push_str(or_else);
    script.push('\n');
    script
}

/// `/grub`: one entry for each firmware.
pub(crate) fn grub(boot: &Boot) -> String {
    let args = boot
        .args
        .iter()
        .fold(String::new(), |text, argument| text + " " + argument);
    let initrds = boot
        .initrd
        .iter()
        .fold(String::new(), |text, initrd| text + " \"" + initrd + "\"");
    let entry = |firmware: &str, linux: &str, initrd: &str| {
        format!(
            "menuentry \"CoreOS ({firmware})\" {{\necho \"Loading kernel\"\n\
             {linux} \"{kernel}\"{args}\necho \"Loading initrd\"\n{initrd} {initrds}\n}}\n",
            kernel = boot.kernel,
        )
    };
    format!(
        "default=0\nfallback=1\ntimeout=1\n{}{}",
        entry("EFI", "linuxefi", "initrdefi"),
        entry("BIOS", "linux", "initrd"),
    )
}

/// What an installed machine gets instead of its installer.
///
/// `exit` goes back to the firmware, which tries its next boot device; UEFI firmware does that
/// well. BIOSes often do not, so there the first disk is booted outright.
pub(crate) fn local_boot(mac: &str) -> String {
    format!(
        "#!ipxe\necho larder: {mac} is installed, booting from its disk\n\
         iseq ${{platform}} efi && exit ||\n\
         sanboot --no-describe --drive 0x80 || exit\n"
    )
}

/// The same for GRUB.
pub(crate) const LOCAL_BOOT_GRUB: &str =
    "default=0\ntimeout=1\nmenuentry \"Installed\" {\nexit\n}\n";

/// `/m`: every profile that boots, to choose from at the machine.
pub(crate) fn menu(profiles: &[Profile], dress: Dress<'_>) -> String {
    let bootable: Vec<(usize, &Profile, Boot)> = profiles
        .iter()
        .enumerate()
        .filter_map(|(number, profile)| {
            Some((number, profile, dress.apply(profile.boot.as_ref()?)))
        })
        .collect();
    let mut script = String::from("#!ipxe\n:top\nmenu larder: boot this machine into\n");
    for (number, profile, _) in &bootable {
        let name = if profile.name.is_empty() {
            &profile.id
        } else {
            &profile.name
        };
        writeln!(script, "item p{number} {}", one_line(name)).expect("text grows in memory");
    }
    script.push_str("item local its own disk\nitem shell the iPXE shell\n");
    script.push_str(
        "choose --default local --timeout 60000 target && goto ${target} || goto local\n",
    );
    for (number, _, boot) in &bootable {
        let boot = load(boot, " || goto failed");
        write!(script, ":p{number}\nimgfree\n{boot}").expect("text grows in memory");
    }
    script.push_str(
        ":failed\necho larder: that did not load or start (${errno}); back to the menu in 10 s\n\
         sleep 10 ||\ngoto top\n",
    );
    script.push_str(":shell\nshell\ngoto top\n:local\niseq ${platform} efi && exit ||\n");
    script.push_str("sanboot --no-describe --drive 0x80 || exit\n");
    script
}

/// A name that cannot begin a new command.
fn one_line(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() || c == '$' { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initrd_arguments_use_the_names_that_ipxe_gives() {
        let boot = Boot {
            kernel: "/k".into(),
            initrd: vec![
                "http://h/a/initrd.img?x=1".into(),
                "--name main /b/other".into(),
            ],
            args: vec!["quiet".into()],
            ..Boot::default()
        };
        let dress = Dress {
            initrd_args: true,
            rewrite: None,
        };
        assert_eq!(
            dress.apply(&boot).args,
            ["quiet", "initrd=initrd.img", "initrd=main"]
        );
        let named = Boot {
            args: vec!["initrd=mine".into()],
            ..boot
        };
        assert_eq!(dress.apply(&named).args, ["initrd=mine"]);
    }

    #[test]
    fn a_menu_offers_profiles_that_boot_and_the_disk() {
        let profile = Profile {
            id: "c9".into(),
            name: "CentOS ${9}\nshell".into(),
            boot: Some(Boot {
                kernel: "/k/reboot".into(),
                initrd: vec!["/i/boot".into()],
                args: vec!["quiet".into()],
                ..Boot::default()
            }),
            ..Profile::default()
        };
        let script = menu(&[profile, Profile::default()], Dress::default());
        assert!(script.contains("item p0 CentOS  {9} shell\n"), "{script}");
        let lines = ":p0\nimgfree\nkernel /k/reboot quiet || goto failed\n\
                     initrd /i/boot || goto failed\nboot || goto failed\n";
        assert!(script.contains(lines), "{script}");
        let back = script.split(":failed\n").nth(1).unwrap();
        assert!(back.starts_with("echo larder: ") && back.contains("\ngoto top\n"));
        assert!(!script.contains("item p1") && script.contains("item local"));
    }
}

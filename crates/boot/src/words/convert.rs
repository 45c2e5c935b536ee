//! Words written as larder.toml, with a list of what has no counterpart there.

use std::fmt::Write as _;

use super::rules::Rules;
use crate::config::Config;
use crate::here;
use crate::ipxe_text;

/// A converted configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The `[boot]` part of a larder.toml.
    pub toml: String,
    /// What has no counterpart, and why it is not needed or how to keep it.
    pub left: Vec<String>,
}

/// Writes the rules as larder.toml.
///
/// Architectures need no lines there: larder finds the right program for each by itself. A script that the
/// words give to iPXE becomes `next`.
pub fn to_toml(rules: &Rules) -> Converted {
    let mut toml = String::from("[boot]\nenabled = true\n");
    let mut left = Vec::new();
    if !rules.interfaces.is_empty() {
        let names: Vec<String> = rules.interfaces.iter().map(|name| quoted(name)).collect();
        let _infallible = writeln!(toml, "interfaces = [{}]", names.join(", "));
    }
    if let Some(root) = &rules.tftp.root {
        let _infallible = writeln!(toml, "root = {}", quoted(&root.display().to_string()));
    }
    let scripts = || {
        let services = rules
            .services
            .iter()
            .filter_map(|service| service.file.as_deref());
        let boots = rules.boots.iter().map(|boot| boot.file.as_str());
        services.chain(boots).filter(|file| file.contains("://"))
    };
    let (fit, unfit): (Vec<&str>, Vec<&str>) =
        scripts().partition(|script| ipxe_text::script_url(script).is_ok());
    left.extend(
        unfit
            .iter()
            .map(|script| format!("{script}: is no URL that a script can go on to")),
    );
    if let Some(script) = fit.first() {
        let _infallible = writeln!(toml, "next = {}", quoted(script));
        left.extend(shares_a_port(script));
    }
    for service in &rules.services {
        let Some(file) = service.file.as_deref().filter(|file| !file.contains("://")) else {
            continue;
        };
        left.push(format!(
            "pxe-service {}: {file} is not named; larder picks the boot program of each architecture, from root first",
            service.text
        ));
    }
    for other in fit.iter().skip(1) {
        left.push(format!(
            "{other}: there is one next; let that script choose by architecture"
        ));
    }
    for boot in rules.boots.iter().filter(|boot| !boot.file.contains("://")) {
        left.push(format!(
            "dhcp-boot {}: larder picks the boot program by itself",
            boot.file
        ));
    }
    if !rules.tag_rules.is_empty() || !rules.tag_ifs.is_empty() {
        left.push("tags: larder tells architectures and iPXE apart by itself".to_owned());
    }
    left.extend(without_key(rules));
    left.extend(rules.notes.iter().map(ToString::to_string));
    Converted { toml, left }
}

/// Says that a script's server has the port that larder takes where nothing else is said.
fn shares_a_port(script: &str) -> Option<String> {
    let taken = Config::default().http?.port();
    let (port, _) = here::part(script, &|_| true)?;
    (port == taken).then(|| {
        format!(
            "{script}: if its server runs on this very host, add http = \":{}\" to [boot], since larder's own scripts would be on port {taken} too",
            taken + 2
        )
    })
}

/// Words about TFTP that larder applies and larder.toml has no key for.
fn without_key(rules: &Rules) -> impl Iterator<Item = String> {
    let tftp = &rules.tftp;
    let words = [
        ("tftp-unique-root", tftp.unique_root.is_some()),
        ("tftp-single-port", tftp.is_single_port),
        ("tftp-secure", tftp.is_secure),
        ("tftp-lowercase", tftp.is_lowercase),
        ("tftp-no-blocksize", tftp.has_no_blocksize),
        ("tftp-mtu", tftp.mtu.is_some()),
        ("tftp-max", tftp.transfers_max.is_some()),
        ("tftp-port-range", tftp.port_range.is_some()),
    ];
    words
        .into_iter()
        .filter(|(_, is_said)| *is_said)
        .map(|(word, _)| {
            format!(
                "{word}: has no key in larder.toml; larder boot serve --dnsmasq-conf applies it"
            )
        })
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_words_become_four_lines() {
        let words = [
            "--dhcp-range=172.26.63.1,proxy,255.255.255.0",
            "--enable-tftp",
            "--tftp-root=/var/lib/tftpboot",
            "--dhcp-userclass=set:ipxe,iPXE",
            "--pxe-service=tag:#ipxe,x86PC,PXE chainload to iPXE,undionly.kpxe",
            "--pxe-service=tag:ipxe,x86PC,iPXE,http://172.26.63.242:8080/boot.ipxe",
            "--port=0",
        ];
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let none = |_: &std::path::Path| Ok(Vec::new());
        let converted = to_toml(&crate::words::read::command_line(&words, &none).unwrap());
        let expected = "[boot]\nenabled = true\nroot = \"/var/lib/tftpboot\"\n\
                        next = \"http://172.26.63.242:8080/boot.ipxe\"\n";
        assert_eq!(converted.toml, expected);
        assert_eq!(converted.left.len(), 3);
        let told = &converted.left[0];
        assert!(told.contains("add http = \":8082\" to [boot]"), "{told}");
    }

    fn converted(words: &[&str]) -> Converted {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        to_toml(&crate::words::read::command_line(&words, &|_| Ok(Vec::new())).unwrap())
    }

    #[test]
    fn what_has_no_key_is_left_out_and_told() {
        let left = converted(&["--port=0", "--tftp-single-port", "--tftp-mtu=1400"]).left;
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            left.iter()
                .all(|line| line.contains("no key in larder.toml")),
            "{left:?}"
        );
    }

    #[test]
    fn what_no_script_can_go_on_to_is_left_out_and_told() {
        let words = [
            "--port=0",
            "--dhcp-boot=http://h/a b",
            "--dhcp-boot=http://h/c",
        ];
        let converted = converted(&words);
        assert!(
            converted.toml.ends_with("next = \"http://h/c\"\n"),
            "{}",
            converted.toml
        );
        assert_eq!(converted.left.len(), 1, "{:?}", converted.left);
        assert!(
            converted.left[0].contains("http://h/a b"),
            "{:?}",
            converted.left
        );
    }
}

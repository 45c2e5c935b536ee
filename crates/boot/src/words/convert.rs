//! Words written as larder.toml, with a list of what has no counterpart there.

use std::fmt::Write as _;

use super::rules::{Boot, Rules, Service};
use super::table::{self, Meaning};
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
    left.extend(rules.services.iter().filter_map(service));
    for other in fit.iter().skip(1) {
        left.push(format!(
            "{other}: there is one next; let that script choose by architecture"
        ));
    }
    left.extend(rules.boots.iter().filter_map(boot));
    left.extend(untold(rules));
    left.extend(rules.notes.iter().map(ToString::to_string));
    Converted { toml, left }
}

/// What is left out of a menu line.
fn service(service: &Service) -> Option<String> {
    let text = &service.text;
    match (service.file.as_deref(), &service.server) {
        (Some(file), _) if file.contains("://") => None,
        (Some(file), None) => Some(format!(
            "pxe-service {text}: {file} is not named; larder picks the boot program of each architecture, from root first"
        )),
        (Some(file), Some(_)) => Some(format!(
            "pxe-service {text}: {file} of another server is not named; larder serves files itself, from root first"
        )),
        (None, _) if service.kind == 0 => Some(format!(
            "pxe-service {text}: larder's own menu boots the local disk where nobody chooses"
        )),
        (None, _) => Some(format!(
            "pxe-service {text}: {NO_KEY} (boot servers of type {})",
            service.kind
        )),
    }
}

/// What is left out of a boot line.
fn boot(boot: &Boot) -> Option<String> {
    let file = &boot.file;
    let told = match &boot.server {
        _ if file.contains("://") => return None,
        None => "larder picks the boot program by itself",
        Some(_) => "larder serves files itself, and not those of another server; put it into root",
    };
    Some(format!("dhcp-boot {file}: {told}"))
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

/// What is said of a word that larder applies and larder.toml has no key for.
const NO_KEY: &str = "has no key in larder.toml; larder boot serve --dnsmasq-conf applies it";

/// All words that neither became a line, nor are told of by what they say, nor have a note.
fn untold(rules: &Rules) -> impl Iterator<Item = String> {
    let is_noted = |word: &str| rules.notes.iter().any(|note| note.word == word);
    let words = rules.said.iter().filter(move |word| !is_noted(word));
    let told = words.filter_map(|word| Some(format!("{word}: {}", reason(word, rules)?)));
    let no_tftp = "enable-tftp: is not said, but larder.toml always serves boot programs by TFTP";
    let no_tftp = (!rules.tftp.is_enabled).then(|| no_tftp.to_owned());
    // An option inside option 43 has an effect, beside others that have notes.
    let mut vendor_options = rules.vendor_options.iter();
    let in_vendor = vendor_options.any(|option| option.vendor.is_some());
    let in_vendor =
        in_vendor.then(|| format!("dhcp-option and dhcp-option-force of a vendor: {NO_KEY}"));
    told.chain(no_tftp).chain(in_vendor)
}

/// Why a word has no line in larder.toml; none for those that have one, or are told of by what they say.
fn reason(word: &str, rules: &Rules) -> Option<&'static str> {
    Some(match word {
        "interface" | "pxe-service" | "dhcp-boot" | "dhcp-option" | "dhcp-option-force"
        | "conf-file" | "conf-dir" => return None,
        "tftp-root" if rules.tftp.roots_by_link.is_empty() => return None,
        "enable-tftp" if rules.tftp.interfaces.is_empty() => return None,
        "dhcp-range" => "is not needed: larder answers on every interface that it serves",
        "dhcp-match" | "dhcp-vendorclass" | "dhcp-userclass" | "tag-if" => {
            "is not needed where it tells architectures and iPXE apart: larder does so by itself"
        }
        "dhcp-host" | "dhcp-hostsfile" | "dhcp-hostsdir" | "dhcp-mac" | "dhcp-name-match" => {
            "has no key in larder.toml; groups of a matchbox directory ([provision]) tell machines apart, or larder boot serve --dnsmasq-conf applies it"
        }
        "dhcp-ignore" => {
            "has no key in larder.toml, with which every machine is answered that boots from its network; larder boot serve --dnsmasq-conf applies it"
        }
        "log-dhcp" | "quiet-dhcp" | "quiet-tftp" => {
            "is not needed: larder machines lists what each machine did"
        }
        "port" => "is not needed: larder serves no DNS",
        _ if table::long(word).is_some_and(|known| known.meaning == Meaning::Start) => {
            "is not needed: it is about how dnsmasq runs"
        }
        _ => NO_KEY,
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
        assert_eq!(converted.left.len(), 5, "{:?}", converted.left);
        let told = &converted.left[0];
        assert!(told.contains("add http = \":8082\" to [boot]"), "{told}");
    }

    fn converted(words: &[&str]) -> Converted {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        to_toml(&crate::words::read::command_line(&words, &|_| Ok(Vec::new())).unwrap())
    }

    #[test]
    fn what_has_no_key_is_left_out_and_told() {
        let left = converted(&["--enable-tftp", "--tftp-single-port", "--tftp-mtu=1400"]).left;
        let left: Vec<&String> = left
            .iter()
            .filter(|line| !line.contains("port is not 0"))
            .collect();
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
            "--enable-tftp",
            "--dhcp-boot=http://h/a b",
            "--dhcp-boot=http://h/c",
        ];
        let converted = converted(&words);
        assert!(
            converted.toml.ends_with("next = \"http://h/c\"\n"),
            "{}",
            converted.toml
        );
        assert_eq!(converted.left.len(), 2, "{:?}", converted.left);
        assert!(
            converted.left[0].contains("http://h/a b"),
            "{:?}",
            converted.left
        );
    }

    /// A value that each word takes.
    fn value(word: &str) -> &'static str {
        match word {
            "dhcp-range" => "10.0.0.0,proxy",
            "dhcp-option" | "dhcp-option-force" => "vendor:PXEClient,1,0.0.0.0",
            "dhcp-option-pxe" => "3,10.0.0.1",
            "dhcp-host" => "52:54:00:00:00:01,set:lab",
            "dhcp-mac" => "set:lab,52:54:00:*:*:*",
            "dhcp-match" => "set:efi,option:client-arch,7",
            "dhcp-vendorclass" | "dhcp-userclass" | "dhcp-name-match" | "dhcp-circuitid"
            | "dhcp-remoteid" | "dhcp-subscrid" => "set:t,text",
            "tag-if" => "set:a,tag:b",
            "pxe-service" => "x86PC,Boot,pxelinux,10.0.0.3",
            "pxe-prompt" => "Choose,5",
            "dhcp-boot" => "pxelinux.0,,10.0.0.3",
            "listen-address" => "10.0.0.1",
            "tftp-root" => "/srv/tftp,eth1",
            "enable-tftp" => "eth1",
            "tftp-port-range" => "4000,5000",
            "tftp-unique-root" => "mac",
            "tftp-max" | "tftp-mtu" => "1400",
            "port" => "0",
            "log-facility" => "local0",
            _ => "1",
        }
    }

    #[test]
    fn of_all_words_none_is_left_out_in_silence() {
        let meanings = [
            Meaning::Boot,
            Meaning::Start,
            Meaning::Dns,
            Meaning::Lease,
            Meaning::V6,
        ];
        for word in meanings.into_iter().flat_map(table::named) {
            let takes = table::long(word).unwrap().takes;
            let said = match takes {
                table::Takes::Nothing => format!("--{word}"),
                _ => format!("--{word}={}", value(word)),
            };
            let converted = converted(&[&said]);
            let is_line = word == "interface";
            let is_include = matches!(word, "conf-file" | "conf-dir");
            let mut left = converted.left.iter();
            let is_told = left.any(|line| line.contains(word) && !line.contains("is not said"));
            assert!(
                is_told || is_line || is_include,
                "{word}: {:?}",
                converted.left
            );
        }
    }

    #[test]
    fn a_file_of_another_server_and_a_local_boot_are_told() {
        let words = [
            "--pxe-service=x86PC,Local,0",
            "--pxe-service=x86PC,Other,32770",
            "--dhcp-boot=pxelinux.0,boothost,10.0.0.3",
        ];
        let left = converted(&words).left.join("\n");
        for told in [
            "pxe-service Local: larder's own menu",
            "of type 32770",
            "another server",
        ] {
            assert!(left.contains(told), "{told}: {left}");
        }
    }
}

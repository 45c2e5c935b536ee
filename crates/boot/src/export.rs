//! Lines for a main DHCP server that must carry the boot data itself, for firmware that ignores every
//! proxy.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::decide::OwnRules;
use crate::packet::architecture::Cpu;

/// Whose configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// ISC dhcpd.
    Isc,
    /// Kea.
    Kea,
    /// dnsmasq as the main server.
    Dnsmasq,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "isc" => Ok(Self::Isc),
            "kea" => Ok(Self::Kea),
            "dnsmasq" => Ok(Self::Dnsmasq),
            _ => Err(format!("{text:?} is none of isc, kea and dnsmasq")),
        }
    }
}

/// What a client that matches is to load.
struct Case {
    name: &'static str,
    architectures: &'static [u16],
    /// A name on the TFTP server, or a URL.
    file: String,
    /// Whether the firmware loads by HTTP: it takes only answers that name its own vendor class.
    is_http: bool,
}

/// Writes the lines for machines that reach larder at `here`.
pub fn export(format: Format, rules: &OwnRules, here: Ipv4Addr) -> String {
    let script = rules.script_url(here).unwrap_or_default();
    let kinds: [(&str, &[u16], Cpu, bool); 7] = [
        ("bios", &[0], Cpu::Bios, false),
        ("uefi-ia32", &[6], Cpu::Ia32, false),
        ("uefi-x64", &[7, 9], Cpu::X64, false),
        ("uefi-arm64", &[11], Cpu::Arm64, false),
        ("http-ia32", &[15], Cpu::Ia32, true),
        ("http-x64", &[16, 17], Cpu::X64, true),
        ("http-arm64", &[19], Cpu::Arm64, true),
    ];
    let cases: Vec<Case> = kinds
        .into_iter()
        .filter_map(|(name, architectures, cpu, is_http)| {
            let program = rules.programs.by_cpu.get(&cpu)?;
            let file = if is_http {
                rules.url(here, &format!("boot/{program}"))?
            } else {
                program.clone()
            };
            Some(Case {
                name,
                architectures,
                file,
                is_http,
            })
        })
        .collect();
    match format {
        Format::Isc => isc(&cases, &script, here),
        Format::Kea => kea(&cases, &script, here),
        Format::Dnsmasq => dnsmasq(&cases, &script, here),
    }
}

fn isc(cases: &[Case], script: &str, here: Ipv4Addr) -> String {
    let mut text = format!(
        "# For dhcpd.conf, outside of every subnet.\n\
         option client-arch code 93 = unsigned integer 16;\n\
         next-server {here};\n\
         if exists user-class and option user-class = \"iPXE\" {{\n  filename \"{script}\";\n}}"
    );
    for case in cases {
        let tests: Vec<String> = case
            .architectures
            .iter()
            .map(|code| format!("option client-arch = {code}"))
            .collect();
        let class = if case.is_http {
            "  option vendor-class-identifier \"HTTPClient\";\n"
        } else {
            ""
        };
        let _infallible = write!(
            text,
            " elsif {} {{\n{class}  filename \"{}\";\n}}",
            tests.join(" or "),
            case.file
        );
    }
    text.push('\n');
    text
}

fn kea(cases: &[Case], script: &str, here: Ipv4Addr) -> String {
    let class = |name: &str, test: &str, file: &str| {
        serde_json::json!({
            "name": name, "test": test, "next-server": here.to_string(), "boot-file-name": file
        })
    };
    let mut classes = vec![class("larder-ipxe", "option[77].text == 'iPXE'", script)];
    for case in cases {
        let tests: Vec<String> = case
            .architectures
            .iter()
            .map(|code| format!("option[93].hex == 0x{code:04x}"))
            .collect();
        let test = format!("not member('larder-ipxe') and ({})", tests.join(" or "));
        let mut class = class(&format!("larder-{}", case.name), &test, &case.file);
        if case.is_http
            && let Some(class) = class.as_object_mut()
        {
            let option =
                serde_json::json!({ "name": "vendor-class-identifier", "data": "HTTPClient" });
            class.insert("option-data".to_owned(), serde_json::json!([option]));
        }
        classes.push(class);
    }
    let text = serde_json::json!({ "Dhcp4": { "client-classes": classes } });
    format!("{text:#}\n")
}

fn dnsmasq(cases: &[Case], script: &str, here: Ipv4Addr) -> String {
    let mut text =
        String::from("# For the dnsmasq that gives the addresses.\ndhcp-userclass=set:ipxe,iPXE\n");
    for case in cases {
        for code in case.architectures {
            let _infallible = writeln!(
                text,
                "dhcp-match=set:{},option:client-arch,{code}",
                case.name
            );
        }
        if case.is_http {
            let _infallible = writeln!(
                text,
                "dhcp-option-force=tag:{},option:vendor-class,HTTPClient",
                case.name
            );
        }
        let _infallible = writeln!(
            text,
            "dhcp-boot=tag:!ipxe,tag:{},{},,{here}",
            case.name, case.file
        );
    }
    let _infallible = writeln!(text, "dhcp-boot=tag:ipxe,{script},,{here}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> OwnRules {
        let mut rules = OwnRules {
            http_port: Some(8080),
            ..OwnRules::default()
        };
        rules
            .programs
            .by_cpu
            .insert(Cpu::Bios, "undionly.kpxe".into());
        rules.programs.by_cpu.insert(Cpu::X64, "snponly.efi".into());
        rules
    }

    #[test]
    fn every_format_names_server_programs_and_script() {
        for format in ["isc", "kea", "dnsmasq"] {
            let text = export(
                format.parse().unwrap(),
                &rules(),
                Ipv4Addr::new(10, 0, 0, 2),
            );
            for part in [
                "10.0.0.2",
                "undionly.kpxe",
                "snponly.efi",
                "http://10.0.0.2:8080/boot.ipxe",
                "http://10.0.0.2:8080/boot/snponly.efi",
                "HTTPClient",
            ] {
                assert!(text.contains(part), "{format}: {part}");
            }
        }
        assert!("bind".parse::<Format>().is_err());
    }

    #[test]
    fn what_is_exported_for_kea_is_json() {
        let text = export(Format::Kea, &rules(), Ipv4Addr::new(10, 0, 0, 2));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json["Dhcp4"]["client-classes"].as_array().map(Vec::len),
            Some(4)
        );
    }

    #[test]
    fn firmware_that_boots_by_http_is_told_so_and_no_other() {
        let here = Ipv4Addr::new(10, 0, 0, 2);
        let text = export(Format::Dnsmasq, &rules(), here);
        assert!(
            text.contains("dhcp-match=set:http-x64,option:client-arch,16\n"),
            "{text}"
        );
        assert_eq!(text.matches("dhcp-option-force").count(), 1, "{text}");
        let text = export(Format::Isc, &rules(), here);
        assert_eq!(text.matches("vendor-class-identifier").count(), 1, "{text}");
        let without = OwnRules {
            http_port: None,
            ..rules()
        };
        assert!(!export(Format::Kea, &without, here).contains("HTTPClient"));
    }
}

//! Turns dnsmasq's words into [`Rules`].
//!
//! Files that words name (`conf-file`, `conf-dir`, `dhcp-hostsfile`, …) are read through a function that
//! the caller gives, so that this stays free of I/O.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::parts::{
    condition, conditions, is_facility, is_host_name, is_wanted, mask, matching, relay_bytes,
    server, split, without_prefix,
};
use super::rules::{
    Boot, Condition, HardwarePattern, Host, Range, Rules, SentOption, Service, TagIf, TagRule,
    Tagging,
};
use super::table::Meaning;
use super::text::{self, Word, fields, shown};
use super::{Note, WordError, tftp, value};
use crate::packet::architecture::Architecture;

/// Reads a file, or all files of a folder in order of their names, as (name, content).
pub type Files<'a> = dyn Fn(&Path) -> std::io::Result<Vec<(String, String)>> + 'a;

/// Files within files beyond this depth are taken for a circle.
const DEPTH_MAX: usize = 10;

/// Item type of the first `pxe-service` line that names a file.
const FIRST_ITEM: u16 = 0x8000;

/// Reads the words of a command line.
///
/// # Errors
/// The first word that cannot be taken.
pub fn command_line(arguments: &[String], files: &Files<'_>) -> Result<Rules, WordError> {
    rules(text::command_line(arguments)?, files)
}

/// Reads a configuration file's content.
///
/// # Errors
/// The first word that cannot be taken.
pub fn file(name: &str, content: &str, files: &Files<'_>) -> Result<Rules, WordError> {
    rules(text::file(name, content)?, files)
}

pub(super) fn rules(words: Vec<Word>, files: &Files<'_>) -> Result<Rules, WordError> {
    let mut reader = Reader {
        rules: Rules::default(),
        files,
        next_item: FIRST_ITEM,
        depth: 0,
        dns: true,
    };
    reader.take_all(words)?;
    let Reader { mut rules, dns, .. } = reader;
    if dns {
        let position = super::Position::Words;
        let text = "is not 0, but larder serves no DNS; say port=0 to have this unsaid".to_owned();
        rules.notes.insert(
            0,
            Note {
                position,
                word: "port".to_owned(),
                text,
            },
        );
    }
    Ok(rules)
}

struct Reader<'a> {
    rules: Rules,
    files: &'a Files<'a>,
    next_item: u16,
    depth: usize,
    dns: bool,
}

type Taken = Result<(), String>;

impl Reader<'_> {
    fn take_all(&mut self, words: Vec<Word>) -> Result<(), WordError> {
        for word in words {
            self.rules.said.insert(word.known.name);
            match word.known.name {
                "conf-file" | "conf-dir" => self.include(&word)?,
                _ => self.take(&word).map_err(|reason| WordError {
                    position: word.position.clone(),
                    reason: format!("{}: {reason}", word.known.name),
                })?,
            }
        }
        Ok(())
    }

    fn take(&mut self, word: &Word) -> Taken {
        let value = word.value.as_deref().unwrap_or_default();
        match word.known.meaning {
            Meaning::Boot => {}
            Meaning::Start => {
                return self.start(word.known.name, value);
            }
            Meaning::Dns => return self.note(word, "is about DNS, which larder does not serve"),
            Meaning::Lease => {
                return self.note(word, "is about leases, which the main DHCP server gives");
            }
            Meaning::V6 => return self.note(word, "is about IPv6; PXE over IPv6 is not served"),
        }
        match word.known.name {
            "dhcp-range" => self.range(value),
            "pxe-service" => self.service(value),
            "pxe-prompt" => self.prompt(value),
            "dhcp-boot" => self.boot(value),
            "dhcp-option" | "dhcp-option-force" | "dhcp-option-pxe" => self.option(word, value),
            "dhcp-pxe-vendor" => {
                // An empty one would stand in front of every class.
                let vendors = fields(value).into_iter().map(shown);
                let vendors = vendors.filter(|vendor| !vendor.is_empty());
                self.rules.pxe_vendors.extend(vendors);
                Ok(())
            }
            "dhcp-host" => self.host(value),
            "dhcp-ignore" => {
                let list = fields(value)
                    .into_iter()
                    .map(|field| condition(without_prefix(field)));
                self.rules.ignored.push(list.collect());
                Ok(())
            }
            "tag-if" => self.tag_if(value),
            "dhcp-hostsfile" | "dhcp-hostsdir" => {
                self.hosts(value);
                Ok(())
            }
            "dhcp-optsfile" | "dhcp-optsdir" => {
                self.note(word, "holds ordinary options, which a proxy does not send")
            }
            name if name.starts_with("tftp") || name == "enable-tftp" => {
                tftp::take(&mut self.rules.tftp, name, word.value.as_deref())
            }
            name if name.ends_with("interface") || name == "listen-address" => {
                self.place(name, value)
            }
            "log-dhcp" | "quiet-dhcp" | "quiet-tftp" => Ok(()),
            "dhcp-reply-delay" => {
                let (_, delay) = conditions(value);
                let delay = delay.first().filter(|_| delay.len() == 1);
                let seconds = delay.and_then(|delay| value::decimal(delay));
                seconds.ok_or_else(|| format!("{:?} is no time", shown(value)))?;
                self.note(word, "is not needed: answers are sent at once")
            }
            name => self.tag_rule(name, value),
        }
    }

    /// The words by which scripts start dnsmasq; `port` is the only one with a say.
    fn start(&mut self, name: &str, value: &str) -> Taken {
        if name == "port" {
            let port = value::decimal(value).filter(|port| (0..=0xffff).contains(port));
            let port = port.ok_or_else(|| format!("{:?} is no port", shown(value)))?;
            self.dns = port != 0;
        } else if name == "log-facility" && !is_facility(&shown(value)) {
            return Err(format!(
                "{:?} is neither a file nor a facility",
                shown(value)
            ));
        }
        self.rules.binds_at_once |= name == "bind-interfaces";
        Ok(())
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "callers end with a note where others end with an error"
    )]
    fn note(&mut self, word: &Word, text: &str) -> Taken {
        self.rules.notes.push(Note {
            position: word.position.clone(),
            word: word.known.name.to_owned(),
            text: text.to_owned(),
        });
        Ok(())
    }

    fn include(&mut self, word: &Word) -> Result<(), WordError> {
        let wrong = |reason: String| WordError {
            position: word.position.clone(),
            reason,
        };
        let Some(value) = word
            .value
            .as_deref()
            .filter(|value| !value.is_empty() && *value != "/dev/null")
        else {
            return Ok(());
        };
        if self.depth >= DEPTH_MAX {
            return Err(wrong(format!("{value} is included in a circle")));
        }
        let fields: Vec<String> = fields(value).into_iter().map(shown).collect();
        let (path, ends) = fields
            .split_first()
            .ok_or_else(|| wrong("names no file".into()))?;
        let mut contents = (self.files)(Path::new(path))
            .map_err(|error| wrong(format!("cannot read {path}: {error}")))?;
        if word.known.name == "conf-dir" {
            contents.retain(|(name, _)| is_wanted(name, ends));
        }
        self.depth += 1;
        for (name, content) in contents {
            self.take_all(text::file(&name, &content)?)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Files of hosts. What is wrong in them is no reason to end: scripts write them while dnsmasq runs.
    fn hosts(&mut self, value: &str) {
        let path = shown(value);
        let note = |position, text| Note {
            position,
            word: "dhcp-hostsfile".to_owned(),
            text,
        };
        let contents = match (self.files)(Path::new(&path)) {
            Ok(contents) => contents,
            Err(error) => {
                let text = format!("has no effect: cannot read {path}: {error}");
                self.rules.notes.push(note(super::Position::Words, text));
                return;
            }
        };
        for (name, content) in contents {
            for (position, line) in text::lines(&name, &content) {
                let taken = line.and_then(|line| self.host(&line));
                if let Err(reason) = taken {
                    let text = format!("has a line without effect: {reason}");
                    self.rules.notes.push(note(position, text));
                }
            }
        }
    }

    /// `dhcp-range=[set:TAG,][tag:TAG,]NETWORK,proxy[,MASK[,BROADCAST]]`.
    fn range(&mut self, value: &str) -> Taken {
        let mut range = Range {
            network: Ipv4Addr::UNSPECIFIED,
            mask: None,
            sets: None,
            conditions: Vec::new(),
        };
        let mut rest = Vec::new();
        let mut old_spelling = false;
        let fields = fields(value);
        for (place, field) in fields.iter().copied().enumerate() {
            // The last field is no tag.
            let is_last = place + 1 == fields.len();
            if !rest.is_empty() || is_last || may_be_address(field) {
                rest.push(field);
            } else if without_prefix(field) != field {
                range.conditions.push(condition(without_prefix(field)));
                old_spelling |= field.starts_with("net:");
            } else if range.sets.is_some() {
                return Err("sets more than one tag".into());
            } else {
                range.sets = Some(shown(field.strip_prefix("set:").unwrap_or(field)));
            }
        }
        let first = rest.first().copied().unwrap_or_default();
        if first.contains(':') && rest.get(1) != Some(&"proxy") {
            let text = format!("{first} is an IPv6 range; PXE over IPv6 is not served");
            let position = super::Position::Words;
            self.rules.notes.push(Note {
                position,
                word: "dhcp-range".into(),
                text,
            });
            return Ok(());
        }
        range.network = first
            .parse()
            .map_err(|_not| format!("{:?} is no IPv4 address", shown(first)))?;
        match rest.get(1) {
            Some(&"proxy") => {}
            _ => {
                return Err(format!(
                    "larder gives no leases: write dhcp-range={},proxy and leave the addresses to the main DHCP server",
                    shown(first)
                ));
            }
        }
        range.mask = mask(rest.get(2..).unwrap_or_default())?;
        if let Some(first) = range.conditions.first().filter(|_| old_spelling) {
            let text = format!(
                "makes net:{0} a condition, as dnsmasq 2.90 does: only machines that have the tag {0} are answered; write set:{0} to give them the tag",
                first.tag
            );
            let position = super::Position::Words;
            let word = "dhcp-range".to_owned();
            self.rules.notes.push(Note {
                position,
                word,
                text,
            });
        }
        self.rules.ranges.push(range);
        Ok(())
    }

    /// `pxe-service=[tag:TAG,]…ARCHITECTURE,TEXT[,FILE|TYPE[,SERVER]]`.
    fn service(&mut self, value: &str) -> Taken {
        let (conditions, rest) = conditions(value);
        let [name, text, more @ ..] = rest.as_slice() else {
            return Err("needs an architecture and a menu text".into());
        };
        let architecture = Architecture::from_service_name(name)
            .map(|known| known.0)
            .or_else(|| value::decimal(name).map(|number| number as u16))
            .ok_or_else(|| format!("{:?} is no architecture that dnsmasq knows", shown(name)))?;
        let target = more.first().map(|field| shown(field));
        let number = target
            .as_ref()
            .map_or(Some(0), |target| value::decimal(target))
            .map(|number| number as u16);
        let kind = match number {
            Some(number) => number,
            None => self.next_item,
        };
        if number.is_none() {
            self.next_item = kind.checked_add(1).ok_or("there are too many services")?;
        }
        let file = target.filter(|_| number.is_none());
        let server = more.get(1).and_then(|field| server(field));
        self.rules.services.push(Service {
            conditions,
            architecture,
            text: shown(text),
            kind,
            file,
            server,
        });
        self.rules.is_pxe = true;
        Ok(())
    }

    /// `pxe-prompt=[tag:TAG,]…TEXT[,SECONDS]`; without a time the firmware waits for ever.
    fn prompt(&mut self, value: &str) -> Taken {
        let (conditions, rest) = conditions(value);
        let text = rest.first().ok_or("needs a text")?;
        let seconds = rest
            .get(1)
            .and_then(|seconds| seconds.trim().parse::<u32>().ok());
        let mut value = vec![seconds.map_or(255, |seconds| seconds as u8)];
        value.extend(shown(text).into_bytes());
        self.rules.vendor_options.push(SentOption {
            conditions,
            vendor: None,
            code: crate::packet::vendor::sub::PROMPT,
            value,
        });
        self.rules.is_pxe = true;
        Ok(())
    }

    /// `dhcp-boot=[tag:TAG,]…FILE[,NAME[,SERVER]]`.
    fn boot(&mut self, value: &str) -> Taken {
        let (conditions, rest) = conditions(value);
        let file = rest.first().ok_or("needs a file")?;
        let server = rest.get(2).and_then(|field| server(field));
        self.rules.boots.push(Boot {
            conditions,
            file: shown(file),
            server,
        });
        Ok(())
    }

    /// `dhcp-option=[tag:TAG,]…[vendor:CLASS,]CODE[,VALUE]`: only vendor options go into a proxy's replies.
    fn option(&mut self, word: &Word, text: &str) -> Taken {
        let mut conditions = Vec::new();
        let mut vendor = None;
        let mut rest = text;
        loop {
            let (field, behind) = split(rest);
            if let Some(class) = field.strip_prefix("vendor:") {
                vendor = Some(shown(class));
                behind.ok_or("names no option")?;
            } else if value::is_v6(field)? {
                return self.note(word, "is about IPv6; PXE over IPv6 is not served");
            } else if field.starts_with("encap:") || field.starts_with("vi-encap:") {
                return self.note(word, "is an ordinary option, which a proxy does not send");
            } else if let Some(code) = value::code(field) {
                // Of a number that is none, dnsmasq writes the last byte.
                return self.sent_option(word, conditions, vendor, code as u8, behind);
            } else if field.starts_with("option:") || behind.is_none() {
                return Err(format!(
                    "{:?} is no option that dnsmasq knows",
                    shown(field)
                ));
            } else {
                conditions.push(condition(without_prefix(field)));
            }
            rest = behind.unwrap_or_default();
        }
    }

    /// What `dhcp-option` sends, if a proxy sends it. `dhcp-option-pxe` came after 2.90, whose users cannot
    /// have written it; it is taken all the same, since a proxy has no other way to send an option.
    fn sent_option(
        &mut self,
        word: &Word,
        conditions: Vec<Condition>,
        vendor: Option<String>,
        code: u8,
        text: Option<&str>,
    ) -> Taken {
        let is_for_pxe = word.known.name == "dhcp-option-pxe";
        if vendor.is_none() && !is_for_pxe {
            return self.note(
                word,
                "is an ordinary option, which a proxy does not send (dhcp-option-pxe is)",
            );
        }
        let form = vendor.is_none().then_some(code);
        let value = text.map_or(Ok(Vec::new()), |text| value::sent(form, text))?;
        let option = SentOption {
            conditions,
            vendor,
            code,
            value,
        };
        if option.vendor.is_some() {
            self.rules.vendor_options.push(option);
        } else {
            self.rules.pxe_options.push(option);
        }
        Ok(())
    }

    /// `dhcp-host=MAC…,set:TAG…`: what counts here are the tags.
    fn host(&mut self, text: &str) -> Taken {
        let mut host = Host {
            hardware: Vec::new(),
            name: None,
            address: None,
            client_id: None,
            sets: Vec::new(),
            conditions: Vec::new(),
        };
        for field in fields(text) {
            if let Some(tag) = field
                .strip_prefix("set:")
                .or_else(|| field.strip_prefix("net:"))
            {
                host.sets.push(shown(tag));
            } else if let Some(tag) = field.strip_prefix("tag:") {
                host.conditions.push(condition(tag));
            } else if let Some(id) = field.strip_prefix("id:").filter(|id| *id != "*") {
                let bytes = value::hexadecimal(id).filter(|_| id.contains(':'));
                let bytes = bytes.and_then(|bytes| bytes.into_iter().collect());
                host.client_id = Some(bytes.unwrap_or_else(|| shown(id).into_bytes()));
            } else if field.contains(':') && !field.starts_with('[') && !field.starts_with("id:") {
                let hardware = value::hardware(field)
                    .ok_or_else(|| format!("{:?} is no hardware address", shown(field)))?;
                host.hardware.push(hardware);
            } else if let Ok(address) = field.parse() {
                host.address = Some(address);
            } else if is_host_name(field) {
                host.name = Some(
                    shown(field)
                        .split('.')
                        .next()
                        .unwrap_or_default()
                        .to_owned(),
                );
            }
        }
        self.rules.hosts.push(host);
        Ok(())
    }

    /// `tag-if=set:TAG,…tag:TAG,…`.
    fn tag_if(&mut self, text: &str) -> Taken {
        let mut derived = TagIf {
            sets: Vec::new(),
            conditions: Vec::new(),
        };
        for field in fields(text) {
            match (field.strip_prefix("set:"), field.strip_prefix("tag:")) {
                (Some(tag), _) if !tag.is_empty() => derived.sets.push(shown(tag)),
                (_, Some(tag)) if !tag.is_empty() => derived.conditions.push(condition(tag)),
                _ => return Err(format!("{:?} is neither set: nor tag:", shown(field))),
            }
        }
        if derived.sets.is_empty() {
            return Err("sets no tag".into());
        }
        self.rules.tag_ifs.push(derived);
        Ok(())
    }

    /// The words that set one tag: `dhcp-match`, `dhcp-vendorclass` and the like.
    fn tag_rule(&mut self, name: &str, text: &str) -> Taken {
        let (first, behind) = split(text);
        let tag = shown(
            first
                .strip_prefix("set:")
                .unwrap_or_else(|| without_prefix(first)),
        );
        let rest = behind
            .filter(|rest| !rest.is_empty() || name != "dhcp-name-match")
            .ok_or("needs a tag and a value")?;
        let last = fields(rest)
            .last()
            .map(|field| shown(field).into_bytes())
            .unwrap_or_default();
        let when = match name {
            "dhcp-match" => match matching(rest)? {
                Some(when) => when,
                None => return Ok(()),
            },
            "dhcp-vendorclass" => Tagging::VendorClass(last),
            "dhcp-userclass" => Tagging::UserClass(last),
            "dhcp-circuitid" => Tagging::RelayAgent(1, relay_bytes(rest)),
            "dhcp-remoteid" => Tagging::RelayAgent(2, relay_bytes(rest)),
            "dhcp-subscrid" => Tagging::RelayAgent(6, relay_bytes(rest)),
            "dhcp-mac" => {
                let hardware = Some(shown(rest)).filter(|text| !text.is_empty());
                let hardware =
                    hardware.map_or(Some(HardwarePattern::NONE), |text| value::hardware(&text));
                Tagging::Hardware(
                    hardware.ok_or_else(|| format!("{:?} is no hardware address", shown(rest)))?,
                )
            }
            "dhcp-name-match" => {
                let name = shown(rest);
                let is_prefix = name.ends_with('*');
                Tagging::HostName {
                    name: name.trim_end_matches('*').to_owned(),
                    is_prefix,
                }
            }
            _ => return Err("is not taken here".into()),
        };
        self.rules.tag_rules.push(TagRule { tag, when });
        Ok(())
    }

    fn place(&mut self, name: &str, value: &str) -> Taken {
        for field in fields(value) {
            match name {
                "interface" => self.rules.interfaces.push(shown(field)),
                "listen-address" => match shown(field).parse() {
                    Ok(IpAddr::V4(address)) => self.rules.listen_addresses.push(address),
                    Ok(IpAddr::V6(_)) => {}
                    Err(_none) => return Err(format!("{:?} is no address", shown(field))),
                },
                "except-interface" => self.rules.except_interfaces.push(shown(field)),
                "no-dhcp-interface" | "no-dhcpv4-interface" => {
                    self.rules.no_dhcp_interfaces.push(shown(field));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Tells whether the first field of a range is an address to dnsmasq, and no tag.
fn may_be_address(field: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || b" .:".contains(&byte);
    field.bytes().all(is_part)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;

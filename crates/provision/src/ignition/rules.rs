//! What Ignition refuses in a config whose types are right, in the words of its own validation.
//!
//! Both generations: absolute paths, modes of twelve bits, units that systemd could load, one way to name
//! an owner. Only the second names a file system for each node; only the third refuses two entries of one
//! name, and nodes beneath a link. What Ignition only warns of is sent.

use std::collections::BTreeSet;

use serde_json::Value;

/// The permissions that there are.
const MODE_MAX: i64 = 0o7777;
const UNITS: [&str; 12] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "snapshot",
    "slice",
    "scope",
];
const NETWORK_UNITS: [&str; 3] = ["link", "netdev", "network"];
const DROPINS: [&str; 1] = ["conf"];
/// What some version of Ignition fetches from.
const SCHEMES: [&str; 8] = ["arn", "data", "gs", "http", "https", "oem", "s3", "tftp"];
/// What a file system's tree holds.
const NODES: [&str; 3] = ["files", "directories", "links"];

/// A config's generation, by its version's first number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    Second,
    Third,
}

type Verdict = Result<(), String>;

/// Checks a config; the error names the place and what is wrong there.
pub(super) fn check(config: &Value, generation: Generation) -> Verdict {
    let section = |name: &str| object(config.get(name), name);
    for name in ["ignition", "networkd", "passwd", "storage", "systemd"] {
        section(name)?;
    }
    let storage = section("storage")?;
    for kind in NODES {
        for node in list(storage, "storage", kind)? {
            check_node(&node, kind, generation)?;
        }
    }
    for disk in list(storage, "storage", "disks")? {
        disk.absolute("device")?;
    }
    if generation == Generation::Third {
        for filesystem in list(storage, "storage", "filesystems")? {
            filesystem.absolute("device")?;
        }
        no_node_twice_or_beneath_a_link(storage)?;
    }
    let systemd = list(section("systemd")?, "systemd", "units")?;
    check_units(&systemd, &UNITS, generation)?;
    let networkd = list(section("networkd")?, "networkd", "units")?;
    check_units(&networkd, &NETWORK_UNITS, generation)?;
    for kind in ["users", "groups"] {
        let entries = list(section("passwd")?, "passwd", kind)?;
        each_once(&entries, "name", generation)?;
    }
    Ok(())
}

/// An object of a list, and where it stands.
struct Entry<'a> {
    place: String,
    value: Option<&'a Value>,
}

impl<'a> Entry<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.value?.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        match self.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(format!("{}.{name} is {other}, no text", self.place)),
        }
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn absolute(&self, name: &str) -> Verdict {
        let path = self.text(name)?;
        match path {
            "" => Err(format!("{} has no {name}", self.place)),
            path if path.starts_with('/') => Ok(()),
            path => Err(format!("{}.{name} {path:?} is not absolute", self.place)),
        }
    }

    /// A unit's name ends in one of the suffixes, as in Go the whole name may be.
    fn suffixed(&self, suffixes: &[&str]) -> Verdict {
        let name = self.text("name")?;
        let base = name.rsplit('/').next().unwrap_or(name);
        let suffix = base.rsplit_once('.').map(|(_, suffix)| suffix);
        match suffix.filter(|suffix| suffixes.contains(suffix)) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{}.name {name:?} ends in none of .{}",
                self.place,
                suffixes.join(" .")
            )),
        }
    }
}

fn check_node(node: &Entry<'_>, kind: &str, generation: Generation) -> Verdict {
    let Entry { place, .. } = node;
    node.absolute("path")?;
    if generation == Generation::Second && node.text("filesystem")?.is_empty() {
        return Err(format!("{place} names no filesystem: usually \"root\""));
    }
    for owner in ["user", "group"] {
        let value = object(node.get(owner), &format!("{place}.{owner}"))?;
        let owner = Entry {
            place: format!("{place}.{owner}"),
            value,
        };
        if owner.get("id").is_some() && !owner.text("name")?.is_empty() {
            return Err(format!("{} has both an id and a name", owner.place));
        }
    }
    if kind != "links" {
        check_mode(node)?;
    }
    if kind == "files" {
        check_contents(node, generation)?;
    }
    Ok(())
}

/// JSON has no octal numbers: 0644 is 420 there, and who writes 644 gets 01204.
fn check_mode(node: &Entry<'_>) -> Verdict {
    let Some(mode) = node.get("mode") else {
        return Ok(());
    };
    match mode.as_i64() {
        Some(number) if (0..=MODE_MAX).contains(&number) => Ok(()),
        _ => Err(format!(
            "{}.mode {mode} is no number from 0 to {MODE_MAX} (octal 7777)",
            node.place
        )),
    }
}

fn check_contents(file: &Entry<'_>, generation: Generation) -> Verdict {
    let place = format!("{}.contents", file.place);
    let value = object(file.get("contents"), &place)?;
    let contents = Entry { place, value };
    check_resource(&contents)?;
    if !file.is_true("overwrite") {
        return Ok(());
    }
    match generation {
        Generation::Second if file.is_true("append") => {
            Err(format!("{} is to overwrite and to append", file.place))
        }
        Generation::Third if contents.get("source").is_none() => {
            let place = &file.place;
            Err(format!(
                "{place} is to overwrite, and has no contents.source"
            ))
        }
        _ => Ok(()),
    }
}

fn check_resource(contents: &Entry<'_>) -> Verdict {
    let Entry { place, .. } = contents;
    let compression = contents.text("compression")?;
    if !matches!(compression, "" | "gzip") {
        return Err(format!("{place}.compression {compression:?} is not gzip"));
    }
    let source = contents.text("source")?;
    let scheme = source.split_once(':').map_or("", |(scheme, _)| scheme);
    if source.is_empty() || SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let start: String = source.chars().take(80).collect();
    Err(format!(
        "{place}.source {start:?} is no URL of {}",
        SCHEMES.join(", ")
    ))
}

fn check_units(units: &[Entry<'_>], suffixes: &[&str], generation: Generation) -> Verdict {
    for unit in units {
        unit.suffixed(suffixes)?;
        let dropins = list(unit.value, &unit.place, "dropins")?;
        for dropin in &dropins {
            dropin.suffixed(&DROPINS)?;
        }
        each_once(&dropins, "name", generation)?;
    }
    each_once(units, "name", generation)
}

/// The second generation takes the entries one after the other.
fn each_once(entries: &[Entry<'_>], key: &str, generation: Generation) -> Verdict {
    let mut seen = BTreeSet::new();
    for entry in entries {
        let name = entry.text(key)?;
        if generation == Generation::Third && !seen.insert(name) {
            return Err(format!("{}.{key} {name:?} is there twice", entry.place));
        }
    }
    Ok(())
}

fn no_node_twice_or_beneath_a_link(storage: Option<&Value>) -> Verdict {
    let mut nodes = Vec::new();
    for kind in NODES {
        nodes.extend(list(storage, "storage", kind)?);
    }
    each_once(&nodes, "path", Generation::Third)?;
    let links = list(storage, "storage", "links")?;
    let links: Result<BTreeSet<&str>, _> = links.iter().map(|link| link.text("path")).collect();
    let links = links?;
    for node in &nodes {
        let path = node.text("path")?;
        let mut above = path.match_indices('/').map(|(at, _)| &path[..at]);
        if let Some(link) = above.find(|above| links.contains(above)) {
            return Err(format!(
                "{}.path {path:?} is beneath the link {link:?}",
                node.place
            ));
        }
    }
    Ok(())
}

/// A value that is an object or not there.
fn object<'a>(value: Option<&'a Value>, place: &str) -> Result<Option<&'a Value>, String> {
    match value.filter(|value| !value.is_null()) {
        Some(value) if !value.is_object() => Err(format!("has {place} that is no object")),
        value => Ok(value),
    }
}

/// The objects of a list, which may be absent.
fn list<'a>(of: Option<&'a Value>, place: &str, name: &str) -> Result<Vec<Entry<'a>>, String> {
    let values = match of.and_then(|of| of.get(name)) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(values)) => values,
        Some(_) => return Err(format!("has {place}.{name} that is no list")),
    };
    let entries = values.iter().enumerate().map(|(number, value)| {
        let place = format!("{place}.{name}[{number}]");
        let value = object(Some(value), &place)?;
        Ok(Entry { place, value })
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(version: &str, rest: &str) -> Verdict {
        let text = format!(r#"{{"ignition":{{"version":"{version}"}},{rest}}}"#);
        let config = super::super::check("a.ign", text.as_bytes());
        config.map_err(|reason| reason.to_string())
    }

    fn files(version: &str, files: &str) -> Verdict {
        verdict(version, &format!(r#""storage":{{"files":[{files}]}}"#))
    }

    #[test]
    fn what_ignition_takes_is_sent() {
        for rest in [
            r#""storage":{"files":[{"path":"/etc/a","mode":420},{"path":"/b","mode":4095},{"path":"/c","mode":null}]}"#,
            r#""storage":{"files":[{"path":"/a","overwrite":true,"contents":{"source":""}}]}"#,
            r#""storage":{"files":[{"path":"/a","overwrite":true,"contents":{"source":"data:,x"}}]}"#,
            r#""storage":{"files":[{"path":"/a","user":{"id":0},"group":{"name":"g"}}]}"#,
            r#""storage":{"files":[{"path":"/a","contents":{"source":"https://h/a","compression":"gzip"}}]}"#,
            r#""storage":{"links":[{"path":"/foo","target":"/t"},{"path":"/foob/bar","target":"/u"}]}"#,
            r#""storage":{"directories":[{"path":"/d"},{"path":"/d/e"}],"files":[{"path":"/d/f"}]}"#,
            r#""storage":{"disks":[{"device":"/dev/sda"}],"filesystems":[{"device":"/dev/sda1"}]}"#,
            r#""systemd":{"units":[{"name":"a.service","dropins":[{"name":"10.conf"}]},{"name":"a@.timer"}]}"#,
            r#""passwd":{"users":[{"name":"core"},{"name":"other"}],"groups":[{"name":"core"}]}"#,
            r#""storage":null,"systemd":{"units":null}"#,
        ] {
            assert_eq!(verdict("3.3.0", rest), Ok(()), "{rest}");
        }
        for rest in [
            r#""storage":{"files":[{"filesystem":"root","path":"/a","append":true},{"filesystem":"root","path":"/a","append":true}]}"#,
            r#""storage":{"files":[{"filesystem":"root","path":"/a","contents":{"source":"oem:///a"}}]}"#,
            r#""storage":{"filesystems":[{"name":"r","mount":{"device":"/dev/sda","format":"ext4"}}]}"#,
            r#""networkd":{"units":[{"name":"00-eth.network","contents":"[Match]"}]}"#,
            r#""systemd":{"units":[{"name":"a.service"},{"name":"a.service"}]}"#,
        ] {
            assert_eq!(verdict("2.2.0", rest), Ok(()), "{rest}");
        }
    }

    /// What is refused, and what the refusal says.
    const REFUSED: [(&str, &str); 18] = [
        (
            r#""storage":{"files":[{"path":"a/b"}]}"#,
            "storage.files[0].path \"a/b\" is not absolute",
        ),
        (
            r#""storage":{"directories":[{"path":""}]}"#,
            "storage.directories[0] has no path",
        ),
        (
            r#""storage":{"files":[{"path":"/a","mode":99999}]}"#,
            "mode 99999",
        ),
        (
            r#""storage":{"directories":[{"path":"/a","mode":-1}]}"#,
            "mode -1",
        ),
        (
            r#""storage":{"files":[{"path":"/a"}],"links":[{"path":"/a","target":"/t"}]}"#,
            "storage.links[0].path \"/a\" is there twice",
        ),
        (
            r#""storage":{"files":[{"path":"/l/a"}],"links":[{"path":"/l","target":"/t"}]}"#,
            "beneath the link \"/l\"",
        ),
        (
            r#""storage":{"links":[{"path":"/l/m","target":"/t"},{"path":"/l","target":"/t"}]}"#,
            "beneath the link",
        ),
        (
            r#""storage":{"files":[{"path":"/a","overwrite":true}]}"#,
            "no contents.source",
        ),
        (
            r#""storage":{"files":[{"path":"/a","user":{"id":1,"name":"u"}}]}"#,
            "files[0].user has both",
        ),
        (
            r#""storage":{"files":[{"path":"/a","contents":{"source":"files/a"}}]}"#,
            "is no URL",
        ),
        (
            r#""storage":{"files":[{"path":"/a","contents":{"compression":"xz"}}]}"#,
            "not gzip",
        ),
        (
            r#""storage":{"disks":[{"device":"sda"}]}"#,
            "disks[0].device \"sda\"",
        ),
        (
            r#""storage":{"filesystems":[{"device":"sda1"}]}"#,
            "filesystems[0].device",
        ),
        (
            r#""systemd":{"units":[{"name":"foo"}]}"#,
            "systemd.units[0].name \"foo\"",
        ),
        (
            r#""systemd":{"units":[{"name":"foo.d/bar"}]}"#,
            "ends in none",
        ),
        (
            r#""systemd":{"units":[{"name":"a.service"},{"name":"a.service"}]}"#,
            "units[1].name \"a.service\" is there twice",
        ),
        (
            r#""systemd":{"units":[{"name":"a.service","dropins":[{"name":"10"}]}]}"#,
            "units[0].dropins[0].name",
        ),
        (
            r#""passwd":{"users":[{"name":"core"},{"name":"core"}]}"#,
            "users[1].name",
        ),
    ];

    #[test]
    fn what_ignition_refuses_names_its_place() {
        for (rest, wanted) in REFUSED {
            let refused = verdict("3.3.0", rest).unwrap_err();
            assert!(refused.contains(wanted), "{rest}: {refused}");
        }
    }

    #[test]
    fn the_second_generation_has_rules_of_its_own() {
        let refused = |rest: &str| files("2.2.0", rest).unwrap_err();
        let root = r#""filesystem":"root""#;
        assert!(refused(r#"{"path":"/a"}"#).contains("names no filesystem"));
        assert!(refused(&format!(r#"{{{root},"path":"a/b"}}"#)).contains("not absolute"));
        assert!(refused(&format!(r#"{{{root},"path":7}}"#)).contains("no text"));
        let both = format!(r#"{{{root},"path":"/a","append":true,"overwrite":true}}"#);
        assert!(refused(&both).contains("to append"));
        assert!(refused(&format!(r#"{{{root},"path":"/a","mode":"0644"}}"#)).contains("no number"));
        assert!(refused("7").contains("storage.files[0] that is no object"));
        let wrong = verdict("2.2.0", r#""storage":{"files":{}}"#).unwrap_err();
        assert!(wrong.contains("storage.files that is no list"), "{wrong}");
        let unit = verdict("2.2.0", r#""networkd":{"units":[{"name":"eth.service"}]}"#);
        assert!(unit.unwrap_err().contains(".network"));
    }
}

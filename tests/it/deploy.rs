//! What text can show of the units, the container and the samples: they name words that exist, and
//! ask for no more rights than the ports need.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `[section] key = values` of a unit, comments left out.
fn unit(name: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut section = String::new();
    let mut found: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for line in read(name).replace("\\\n", " ").lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            name.trim_end_matches(']').clone_into(&mut section);
            continue;
        }
        let (key, value) = line
            .split_once('=')
            .unwrap_or_else(|| panic!("{name}: {line}"));
        let key = (section.clone(), key.trim().to_owned());
        found.entry(key).or_default().push(value.trim().to_owned());
    }
    found
}

fn units(ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == ending)
        })
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no {ending}");
    found
}

fn has(
    unit: &BTreeMap<(String, String), Vec<String>>,
    section: &str,
    key: &str,
    value: &str,
) -> bool {
    unit.get(&(section.to_owned(), key.to_owned()))
        .is_some_and(|values| values.iter().any(|held| held == value))
}

#[test]
fn the_service_is_ready_when_it_says_so_and_owns_its_directories() {
    let unit = unit("larder.service");
    for (key, value) in [
        ("Type", "notify"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("ExecStart", "/usr/bin/larder serve"),
        ("CacheDirectory", "larder"),
        ("RuntimeDirectory", "larder"),
        ("DynamicUser", "yes"),
        ("User", "larder"),
        // What `[provision]` remembers: without it each machine installs at each boot.
        ("ReadWritePaths", "-/var/lib/matchbox/.larder"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        // The one without the other would end the program at the call that it may make.
        ("LimitNICE", "-5"),
        ("SystemCallFilter", "setpriority"),
    ] {
        assert!(has(&unit, "Service", key, value), "{key}={value}");
    }
}

#[test]
fn the_quadlet_takes_over_squids_volumes_as_their_owner() {
    let unit = unit("larder.container");
    for (key, value) in [
        ("User", "13"),
        ("Group", "13"),
        ("Volume", "/etc/squid:/etc/squid:ro,Z"),
        ("Volume", "/var/spool/squid:/var/spool/squid:Z"),
        ("DropCapability", "all"),
        ("AddCapability", "NET_BIND_SERVICE"),
        ("ReadOnly", "true"),
        ("Network", "host"),
    ] {
        assert!(has(&unit, "Container", key, value), "{key}={value}");
    }
}

#[test]
fn the_image_has_two_stages_and_no_root() {
    let text = read("Containerfile");
    let words = |word: &str| text.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!(words("FROM "), 2);
    assert_eq!(words("USER 13:13"), 1);
    assert!(text.contains(r#"ENTRYPOINT ["/usr/bin/larder"]"#));
    assert!(text.contains(r#"CMD ["serve"]"#));
    assert!(text.contains("ca-certificates"));
}

/// Every unit's command line starts with a command that the program has.
#[test]
fn units_name_commands_that_exist() {
    let mut lines = Vec::new();
    for path in units("service") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let command = &unit(&name)[&("Service".to_owned(), "ExecStart".to_owned())][0];
        lines.push(
            command
                .strip_prefix("/usr/bin/larder ")
                .unwrap_or_else(|| panic!("{name}"))
                .to_owned(),
        );
    }
    for path in units("container") {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        lines.push(unit(&name)[&("Container".to_owned(), "Exec".to_owned())][0].clone());
    }
    for line in lines {
        let command = line.split_whitespace().next().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_larder"))
            .args(["help", command])
            .output()
            .unwrap();
        assert!(output.status.success(), "{command}");
    }
}

#[test]
fn samples_point_at_the_ports_that_larder_has() {
    assert!(read("clients/dnf.conf").contains("proxy=http://larder:3128"));
    assert!(read("clients/01larder").contains(r#"Acquire::http::Proxy "http://larder:3128";"#));
    assert!(read("clients/rocky-accelerated.repo").contains("baseurl=http://larder/"));
    assert!(read("clients/kickstart.cfg").contains("url --url=http://larder/"));
}

//! Each fault by itself: found, at its place, and as grave as it is.

use super::*;

/// A data directory of files, checked.
fn checked(files: &[(&str, &[u8])]) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let library = Library::open(directory.path()).unwrap();
    let assets = directory.path().join("assets");
    let assets = assets.is_dir().then_some(assets);
    let found = Check::new(&library, assets.as_deref()).all();
    let root = format!("{}/", directory.path().display());
    let said = found
        .iter()
        .map(|finding| finding.to_string().replace(&root, ""));
    said.collect()
}

const GROUP: (&str, &[u8]) = (
    "groups/g.json",
    b"{\"id\":\"g\",\n \"profile\":\"p\",\"metadata\":{\"a\":\"b\"}}",
);

/// What is found where the group's profile is this one, beside a file.
fn with_profile(profile: &str, file: (&str, &[u8])) -> Vec<String> {
    checked(&[GROUP, ("profiles/p.json", profile.as_bytes()), file])
}

/// The one finding.
fn one(found: Vec<String>) -> String {
    let [one] = <[String; 1]>::try_from(found).unwrap();
    one
}

const BOOT: &str = r#""boot":{"kernel":"http://h/k"}"#;

#[test]
fn a_good_directory_has_no_findings() {
    let profile = r#"{"id":"p","generic_id":"k","cloud_id":"c","ignition_id":"i.yaml",
        "boot":{"kernel":"/assets/k%20k","initrd":["--name x /assets/i"]}}"#;
    let found = checked(&[
        GROUP,
        ("profiles/p.json", profile.as_bytes()),
        ("generic/k", b"{{.a}}"),
        ("cloud/c", b"#cloud-config\nx: {{.a}}\n"),
        ("ignition/i.yaml", b"{\"ignition\":{\"version\":\"3.3.0\"}}"),
        ("assets/k k", b""),
        ("assets/i", b""),
        ("script/s", b"{{.request.raw_query}}"),
    ]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_group_without_its_profile_is_an_error_at_that_field() {
    let found = one(checked(&[GROUP]));
    assert!(
        found.starts_with("groups/g.json:2:2: profile \"p\" is not usable: open ")
            && found.ends_with("(error)"),
        "{found}"
    );
    let found = checked(&[GROUP, ("profiles/p.json", b"{")]);
    assert_eq!(
        found.len(),
        2,
        "the profile's own error, and the group's: {found:?}"
    );
    let found = one(checked(&[GROUP, ("profiles/p.json", br#"{"id":"p"}"#)]));
    assert!(found.contains("has no boot section") && found.ends_with("(warning)"));
}

#[test]
fn templates_are_parsed_with_the_place_of_what_is_wrong() {
    for (kind, field) in [
        ("generic", "generic_id"),
        ("cloud", "cloud_id"),
        ("ignition", "ignition_id"),
    ] {
        let profile = format!(r#"{{"id":"p","{field}":"t",{BOOT}}}"#);
        let name = format!("{kind}/t");
        let found = one(with_profile(&profile, (&name, b"#!\n  {{if}}{{end}}")));
        assert!(found.starts_with(&format!("{name}:2:")), "{found}");
        assert!(found.ends_with("(error)"), "{found}");
        let found = one(with_profile(&profile, (&name, b"#!\n{{.x")));
        assert!(found.contains("unclosed action"), "{found}");
        assert!(
            found.starts_with(&name) && found.ends_with("(error)"),
            "{found}"
        );
        let found = one(with_profile(&profile, (&name, b"#!\ncaf\xe9")));
        assert_eq!(
            found,
            format!("{name}:2:4: is not UTF-8: convert it (error)")
        );
        let found = one(with_profile(&profile, (&name, b"#!{{.b}}")));
        assert!(
            found.contains("group \"g\"") && found.ends_with("(warning)"),
            "{found}"
        );
    }
}

#[test]
fn files_that_are_missing_or_elsewhere_are_errors_of_the_profile() {
    for name in ["none", "../profiles/p.json"] {
        let profile = format!("{{\"id\":\"p\",\n\"cloud_id\":\"{name}\",{BOOT}}}");
        let found = one(with_profile(&profile, ("generic/k", b"")));
        assert!(found.starts_with("profiles/p.json:2:1: "), "{found}");
        assert!(found.ends_with("(error)"), "{found}");
    }
}

#[test]
fn ignition_that_no_machine_reads_is_an_error() {
    for (name, text, wanted) in [
        ("i.ign", "{\n]", "ignition/i.ign:2:1: is not JSON"),
        (
            "i.ign",
            r#"{"ignition":{"version":"9.9.0"}}"#,
            "9.9.0, which is not known",
        ),
        (
            "i.yaml",
            "variant: fcos\nversion: 1.5.0\n",
            "is a Butane config: run `butane",
        ),
        ("i.yaml", "passwd:\n", "is a Container Linux Config"),
        ("i.yaml", r#"{"ignition":{"version":"{{.a}}"}}"#, "version"),
    ] {
        let profile = format!(r#"{{"id":"p","ignition_id":"{name}",{BOOT}}}"#);
        let file = format!("ignition/{name}");
        let found = one(with_profile(&profile, (&file, text.as_bytes())));
        assert!(
            found.contains(wanted) && found.ends_with("(error)"),
            "{found}"
        );
    }
}

#[test]
fn a_cloud_config_must_be_one() {
    let profile = format!(r#"{{"id":"p","cloud_id":"c",{BOOT}}}"#);
    for text in ["x: y\n", "#cloud-config\na: [\n"] {
        let found = one(with_profile(&profile, ("cloud/c", text.as_bytes())));
        assert!(
            found.starts_with("cloud/c: ") && found.ends_with("(error)"),
            "{found}"
        );
    }
}

#[test]
fn images_that_are_not_there_are_errors_at_their_field() {
    let profile = "{\"id\":\"p\",\"boot\":{\"kernel\":\"/assets/k\",\n\"initrd\":[\"--name m /assets/i\",\"assets/d\",\"/assets/${arch}/x\"]}}";
    let found = with_profile(profile, ("assets/d/x", b""));
    let starts = [
        "profiles/p.json:1:19: /assets/k: ",
        "profiles/p.json:2:1: /assets/i: ",
        "profiles/p.json:2:1: assets/d: ",
    ];
    assert_eq!(found.len(), 3, "{found:?}");
    for (found, start) in found.iter().zip(starts) {
        assert!(
            found.starts_with(start) && found.ends_with("(error)"),
            "{found}"
        );
    }
    let found = with_profile(profile, ("generic/k", b""));
    assert!(
        found[0].contains("there is no assets directory"),
        "{found:?}"
    );
    let found = one(with_profile(
        r#"{"id":"p","boot":{"kernel":"k\nreboot"}}"#,
        ("generic/k", b""),
    ));
    assert!(found.contains("control character"), "{found}");
    let found = one(with_profile(r#"{"id":"p","boot":{}}"#, ("generic/k", b"")));
    assert!(found.contains("no kernel"), "{found}");
}

#[test]
fn what_was_just_written_is_judged_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let library = Library::open(directory.path()).unwrap();
    library.put_file(Kind::Ignition, "i.ign", b"{}").unwrap();
    library.put_file(Kind::Ignition, "other.ign", b"{").unwrap();
    let check = Check::new(&library, None);
    let found = check.file_of(Kind::Ignition, "i.ign");
    assert_eq!(found.len(), 1, "{found:?}");
    let group = Group {
        id: "g".into(),
        profile: "nope".into(),
        ..Group::default()
    };
    library.put_group(&group).unwrap();
    assert_eq!(check.group_of("g").len(), 1);
    let in_folder = Group {
        id: "a/b".into(),
        ..group
    };
    library.put_group(&in_folder).unwrap();
    assert!(
        check.group_of("a/b")[0]
            .text
            .contains("no part in selection")
    );
    let both = check
        .all()
        .into_iter()
        .filter(|one| one.path.to_string_lossy().contains("groups"));
    assert_eq!(both.count(), 2);
    let profile = Profile {
        id: "nope".into(),
        ignition_id: "i.ign".into(),
        boot: Some(Boot {
            kernel: "/assets/k".into(),
            ..Boot::default()
        }),
        ..Profile::default()
    };
    library.put_profile(&profile).unwrap();
    assert_eq!(check.group_of("g").len(), 0);
    assert_eq!(check.profile_of("nope").len(), 2);
}

#[test]
fn a_selector_that_no_boot_script_sends_is_told_for_check_and_put() {
    let group = b"{\"id\":\"g\",\"profile\":\"p\",\n\"selector\":{\"MAC\":\"52:54:00:00:00:01\",\"os\":\"x\"}}";
    let files: [(&str, &[u8]); 2] = [
        ("groups/g.json", group),
        ("profiles/p.json", br#"{"id":"p","boot":{"kernel":"k"}}"#),
    ];
    let found = one(checked(&files));
    let said = "groups/g.json:2:13: selector \"MAC\" matches no machine that asks boot.ipxe";
    assert!(
        found.starts_with(said) && found.ends_with("(warning)"),
        "{found}"
    );
    let directory = tempfile::tempdir().unwrap();
    let library = Library::open(directory.path()).unwrap();
    let profile = Profile {
        id: "p".into(),
        boot: Some(Boot::default()),
        ..Profile::default()
    };
    library.put_profile(&profile).unwrap();
    library
        .put_group(&serde_json::from_slice(group).unwrap())
        .unwrap();
    let found = Check::new(&library, None).group_of("g");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].text.contains("\"MAC\" matches no machine"),
        "{found:?}"
    );
}

#[test]
fn a_profile_is_named_by_its_file_and_one_with_another_id_is_noted() {
    let files: [(&str, &[u8]); 1] = [(
        "profiles/mine.json",
        br#"{"id":"other","boot":{"kernel":"k"}}"#,
    )];
    let found = one(checked(&files));
    assert!(
        found.starts_with("profiles/mine.json: the profile's id is \"other\"")
            && found.ends_with("(note)"),
        "{found}"
    );
}

#[test]
fn links_to_nothing_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (folder, name) in [("groups", "g.json"), ("generic", "k")] {
        std::fs::create_dir(root.join(folder)).unwrap();
        std::os::unix::fs::symlink("nowhere", root.join(folder).join(name)).unwrap();
    }
    let found = Check::new(&Library::open(root).unwrap(), None).all();
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.path.strip_prefix(root).unwrap(), one.severity))
        .collect();
    let expected = ["generic/k", "groups/g.json"].map(|path| (Path::new(path), Severity::Error));
    assert_eq!(found, expected);
}

#[test]
fn files_that_no_profile_names_are_looked_at_too() {
    for (name, text) in [
        ("generic/k", "a\n{{end}}"),
        ("cloud/c", "nothing"),
        ("ignition/i.ign", "{"),
        ("ignition/b.yaml", "variant: fcos\nversion: 1.5.0\n"),
    ] {
        let found = one(checked(&[(name, text.as_bytes())]));
        assert!(
            found.starts_with(name) && found.ends_with("; no profile names the file (warning)"),
            "{found}"
        );
    }
    assert_eq!(checked(&[("generic/k", b"{{.a}}")]), Vec::<String>::new());
}

#[test]
fn blocks_that_do_not_come_out_even_have_a_place() {
    for (text, said) in [
        ("a\n {{range .x}}\nb", "2:2: no {{end}} closes this block"),
        (
            "{{/* {{if}} */}}{{if .x}}{{- with .y}}{{end}}",
            "1:17: no {{end}} closes this block",
        ),
        (
            "{{if .x}}{{end}}\n{{- end }}",
            "2:1: this {{end}} closes no block",
        ),
    ] {
        let found = one(checked(&[("script/bad", text.as_bytes())]));
        assert_eq!(found, format!("script/bad:{said} (error)"));
    }
}

#[test]
fn a_directory_of_other_things_is_asked_about() {
    let found = one(checked(&[("notes/readme", b"x")]));
    assert!(
        found.contains("is it the data directory?") && found.ends_with("(warning)"),
        "{found}"
    );
}

/// A data directory whose journal nobody can write, root neither: its directory is a link to nothing.
fn forgetful(profile: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("nowhere", directory.path().join(".larder")).unwrap();
    std::fs::create_dir(directory.path().join("profiles")).unwrap();
    std::fs::write(directory.path().join("profiles/p.json"), profile).unwrap();
    directory
}

#[test]
fn a_journal_that_cannot_be_written_is_told_where_machines_install_once() {
    let profile = |more: &str| format!("{{\"id\":\"p\",{BOOT}{more}}}");
    let directory = forgetful(&profile(",\"install_once\":true"));
    let library = Library::open(directory.path()).unwrap();
    let told = one(Check::new(&library, None)
        .all()
        .iter()
        .map(Finding::to_string)
        .collect());
    assert!(
        told.contains(".larder/machines: cannot be written"),
        "{told}"
    );
    assert!(told.ends_with("(error)"), "{told}");
    // Where nothing is to be remembered, or it can be, there is nothing to tell.
    let directory = forgetful(&profile(""));
    let library = Library::open(directory.path()).unwrap();
    assert_eq!(Check::new(&library, None).all(), []);
    let once = profile(",\"install_once\":true");
    assert_eq!(checked(&[("profiles/p.json", once.as_bytes())]), [""; 0]);
}

#[test]
fn a_server_says_at_the_start_that_it_cannot_remember() {
    let profile = format!("{{\"id\":\"p\",{BOOT}}}");
    let directory = forgetful(&profile);
    for (install_once, told) in [(true, 1), (false, 0)] {
        let config = crate::Config {
            data: directory.path().to_owned(),
            assets: None,
            install_once,
            ..crate::Config::default()
        };
        let provision = crate::Provision::open(config, None).unwrap();
        assert_eq!(provision.snapshot().notes.len(), told);
    }
}

//! The data directory, read and written.

use std::os::unix::fs::symlink;

use super::*;

fn library() -> (tempfile::TempDir, Library) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("groups")).unwrap();
    let library = Library::open(directory.path()).unwrap();
    (directory, library)
}

fn put(directory: &tempfile::TempDir, name: &str, text: &str) {
    fs::write(directory.path().join(name), text).unwrap();
}

fn ids(library: &Library) -> Vec<String> {
    library
        .catalog()
        .groups()
        .iter()
        .map(|group| group.id.clone())
        .collect()
}

#[test]
fn every_kind_of_change_is_seen_by_the_next_look() {
    let (directory, library) = library();
    assert!(ids(&library).is_empty());
    put(&directory, "groups/a.json", r#"{"id":"a","profile":"p"}"#);
    assert_eq!(ids(&library), ["a"]);
    put(&directory, "groups/a.json", r#"{"id":"b","profile":"p"}"#);
    assert_eq!(ids(&library), ["b"], "changed in place, same size, at once");
    fs::rename(
        directory.path().join("groups/a.json"),
        directory.path().join("groups/c.json"),
    )
    .unwrap();
    put(
        &directory,
        "groups/x.json.new",
        r#"{"id":"x","profile":"p"}"#,
    );
    assert_eq!(ids(&library), ["b"], "only .json files are groups");
    fs::rename(
        directory.path().join("groups/x.json.new"),
        directory.path().join("groups/x.json"),
    )
    .unwrap();
    assert_eq!(ids(&library), ["b", "x"]);
    fs::remove_file(directory.path().join("groups/c.json")).unwrap();
    assert_eq!(ids(&library), ["x"]);
}

#[test]
fn a_directory_that_was_replaced_is_read_anew() {
    let (directory, library) = library();
    put(&directory, "groups/a.json", r#"{"id":"a","profile":"p"}"#);
    assert_eq!(ids(&library), ["a"]);
    fs::rename(
        directory.path().join("groups"),
        directory.path().join("old"),
    )
    .unwrap();
    assert!(ids(&library).is_empty());
    fs::create_dir(directory.path().join("groups")).unwrap();
    put(&directory, "groups/b.json", r#"{"id":"b","profile":"p"}"#);
    assert_eq!(ids(&library), ["b"]);
    put(&directory, "groups/b.json", r#"{"id":"B","profile":"p"}"#);
    assert_eq!(ids(&library), ["B"], "the new directory is watched");
}

#[test]
fn the_target_of_a_link_is_followed_when_it_changes() {
    let (directory, library) = library();
    fs::create_dir(directory.path().join("groups/variants")).unwrap();
    put(
        &directory,
        "groups/variants/v.json",
        r#"{"id":"v","profile":"p"}"#,
    );
    assert!(ids(&library).is_empty(), "sub-directories are not read");
    symlink("variants/v.json", directory.path().join("groups/link.json")).unwrap();
    assert_eq!(ids(&library), ["v"]);
    put(
        &directory,
        "groups/variants/v.json",
        r#"{"id":"w","profile":"p"}"#,
    );
    assert_eq!(ids(&library), ["w"]);
}

#[test]
fn a_link_whose_target_goes_away_is_followed_again_once_it_is_back() {
    let (directory, library) = library();
    let store = tempfile::tempdir().unwrap();
    let target = store.path().join("v.json");
    let group = r#"{"id":"v","profile":"p"}"#;
    symlink(&target, directory.path().join("groups/link.json")).unwrap();
    assert!(ids(&library).is_empty(), "it leads nowhere from the start");
    fs::write(&target, group).unwrap();
    assert_eq!(ids(&library), ["v"]);
    for _ in 0..2 {
        fs::remove_file(&target).unwrap();
        assert!(ids(&library).is_empty());
        fs::write(&target, group).unwrap();
        assert_eq!(ids(&library), ["v"]);
    }
    fs::remove_file(directory.path().join("groups/link.json")).unwrap();
    assert!(ids(&library).is_empty());
}

#[test]
fn a_bad_file_is_named_with_its_place_and_leaves_the_others_alone() {
    let (directory, library) = library();
    put(
        &directory,
        "groups/good.json",
        r#"{"id":"good","profile":"p"}"#,
    );
    put(&directory, "groups/bad.json", "{\n  \"id\": \"bad\",\n}");
    put(
        &directory,
        "groups/mac.json",
        r#"{"id":"m","profile":"p","selector":{"mac":"x"}}"#,
    );
    put(&directory, "groups/none.json", r#"{"id":"n"}"#);
    put(&directory, "groups/binary.json", "\u{0}\u{1}");
    put(&directory, "groups/marked.json", "\u{feff}{}");
    assert_eq!(ids(&library), ["good"]);
    let notes: Vec<String> = library.notes().iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert!(
        notes.iter().any(|note| note.contains("byte order mark")),
        "{notes:?}"
    );
    let bad = notes.iter().find(|note| note.contains("bad.json")).unwrap();
    assert!(bad.contains("bad.json:3:1: trailing comma"), "{bad}");
}

#[test]
fn a_huge_file_a_directory_and_a_fifo_are_no_groups() {
    let (directory, library) = library();
    let huge = File::create(directory.path().join("groups/huge.json")).unwrap();
    huge.set_len(FILE_BYTES_MAX + 1).unwrap();
    fs::create_dir(directory.path().join("groups/dir.json")).unwrap();
    let fifo = directory.path().join("groups/fifo.json");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(ids(&library).is_empty());
    assert_eq!(library.notes().len(), 2);
}

#[test]
fn a_group_without_id_takes_its_file_name_and_an_odd_one_gets_a_note() {
    let (directory, library) = library();
    put(&directory, "groups/file.json", r#"{"profile":"p"}"#);
    put(
        &directory,
        "groups/other.json",
        r#"{"id":"real","profile":"p","selector":{"a":"b"}}"#,
    );
    assert_eq!(ids(&library), ["real", "file"]);
    assert_eq!(library.notes().len(), 1);
    assert_eq!(library.group("other").unwrap().id, "real");
    assert!(library.group("real").is_err(), "clients ask by file name");
}

#[test]
fn what_is_put_is_read_and_removing_twice_is_fine() {
    let (directory, library) = library();
    let group = Group {
        id: "g".into(),
        profile: "p".into(),
        ..Group::default()
    };
    library.put_group(&group).unwrap();
    assert_eq!(library.group("g").unwrap(), group);
    library.remove_group("g").unwrap();
    library.remove_group("g").unwrap();
    assert!(library.group("g").is_err());
    let profile = Profile {
        id: "p".into(),
        ..Profile::default()
    };
    library.put_profile(&profile).unwrap();
    assert_eq!(library.profiles(), [profile]);
    library.put_file(Kind::Ignition, "a.ign", b"{}").unwrap();
    assert_eq!(library.file(Kind::Ignition, "a.ign").unwrap(), b"{}");
    assert_eq!(library.files(Kind::Ignition), ["a.ign"]);
    let left = fs::read_dir(directory.path().join("ignition"))
        .unwrap()
        .count();
    assert_eq!(left, 1, "no temporary file stays behind");
}

#[test]
fn puts_without_their_fields_are_refused_and_write_nothing() {
    let (directory, library) = library();
    assert!(
        library
            .put_group(&Group {
                id: "g".into(),
                ..Group::default()
            })
            .is_err()
    );
    assert!(
        library
            .put_group(&Group {
                profile: "p".into(),
                ..Group::default()
            })
            .is_err()
    );
    let mac = [("mac".to_owned(), "zz".to_owned())].into();
    let group = Group {
        id: "g".into(),
        profile: "p".into(),
        selector: mac,
        ..Group::default()
    };
    assert!(library.put_group(&group).is_err());
    assert!(library.put_profile(&Profile::default()).is_err());
    assert!(library.put_file(Kind::Generic, "../../x", b"").is_err());
    assert_eq!(
        fs::read_dir(directory.path().join("groups"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_missing_file_is_worded_as_go_words_it() {
    let (directory, library) = library();
    let error = library.profile("nope").unwrap_err();
    let path = directory.path().join("profiles/nope.json");
    assert_eq!(
        error.to_string(),
        format!("open {}: no such file or directory", path.display())
    );
}

#[test]
fn what_could_not_be_read_again_is_not_written() {
    let (directory, library) = library();
    library.put_file(Kind::Generic, "k", b"old").unwrap();
    let large = vec![b'x'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    let refused = library.put_file(Kind::Generic, "k", &large).unwrap_err();
    let told = refused.to_string();
    assert!(
        told.contains("8388609 bytes") && told.contains("8388608"),
        "{told}"
    );
    assert_eq!(library.file(Kind::Generic, "k").unwrap(), b"old");
    library.put_file(Kind::Generic, "new", &large).unwrap_err();
    assert_eq!(library.files(Kind::Generic), ["k"]);
    let (_, most) = large.split_first().unwrap();
    library.put_file(Kind::Generic, "k", most).unwrap();
    assert_eq!(library.file(Kind::Generic, "k").unwrap(), most);
    let left = fs::read_dir(directory.path().join("generic")).unwrap();
    assert_eq!(left.count(), 1);
}

#[test]
fn half_a_write_that_a_crash_left_is_nobodys() {
    let (directory, library) = library();
    library.put_file(Kind::Ignition, "a.ign", b"{}").unwrap();
    put(&directory, "ignition/.Xy12.new", "half");
    assert_eq!(library.files(Kind::Ignition), ["a.ign"]);
}

#[test]
fn names_with_folders_are_listed_and_leave_no_folder_behind() {
    let (directory, library) = library();
    let profile = |id: &str| Profile {
        id: id.into(),
        ..Profile::default()
    };
    for id in ["a/b/c", "a/d", "e"] {
        library.put_profile(&profile(id)).unwrap();
    }
    assert_eq!(library.profiles(), ["a/b/c", "a/d", "e"].map(profile));
    symlink("..", directory.path().join("profiles/a/circle")).unwrap();
    assert_eq!(library.profiles().len(), 3);
    fs::remove_file(directory.path().join("profiles/a/circle")).unwrap();
    library.remove_profile("a/b/c").unwrap();
    assert!(!directory.path().join("profiles/a/b").exists());
    assert!(directory.path().join("profiles/a/d.json").exists());
    for id in ["a/d", "e"] {
        library.remove_profile(id).unwrap();
    }
    let left = fs::read_dir(directory.path().join("profiles")).unwrap();
    assert_eq!(left.count(), 0, "the directory itself stays");
}

#[test]
fn trees_are_those_of_the_profiles_as_they_are_now() {
    let (directory, library) = library();
    let trees = || {
        let trees = library.trees();
        trees.iter().cloned().collect::<Vec<_>>()
    };
    let profile = |tree: &str| format!(r#"{{"id":"p","boot":{{"kernel":"http://h/{tree}/k"}}}}"#);
    assert!(trees().is_empty(), "there is no directory yet");
    fs::create_dir(directory.path().join("profiles")).unwrap();
    put(&directory, "profiles/p.json", &profile("a"));
    assert_eq!(trees(), ["http://h/a/"]);
    assert!(
        Arc::ptr_eq(&library.trees(), &library.trees()),
        "the files are read once"
    );
    put(&directory, "profiles/p.json", &profile("b"));
    assert_eq!(trees(), ["http://h/b/"]);
    put(&directory, "elsewhere", &profile("c"));
    symlink("../elsewhere", directory.path().join("profiles/q.json")).unwrap();
    assert_eq!(trees(), ["http://h/b/", "http://h/c/"]);
    put(&directory, "elsewhere", &profile("d"));
    assert_eq!(trees(), ["http://h/b/", "http://h/d/"]);
    fs::remove_file(directory.path().join("profiles/q.json")).unwrap();
    fs::create_dir(directory.path().join("profiles/f")).unwrap();
    put(&directory, "profiles/f/p.json", &profile("e"));
    assert_eq!(trees(), ["http://h/b/", "http://h/e/"]);
    put(&directory, "profiles/f/p.json", &profile("f"));
    assert_eq!(trees(), ["http://h/b/", "http://h/f/"]);
}

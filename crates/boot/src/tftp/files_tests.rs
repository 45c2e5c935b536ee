//! Tests of what names mean, and of what is served under them.

use super::*;

fn new(root: &Path, programs: HashMap<String, PathBuf>, manner: Manner) -> io::Result<Files> {
    Files::new(Some(root), programs, manner, &Looks::default())
}

fn cleaned(name: &[u8]) -> Option<String> {
    clean(name).ok().map(|name| name.path)
}

fn text(content: Result<Content, NoFile>) -> Result<Vec<u8>, String> {
    match content.map_err(|error| error.to_string())? {
        Content::Memory(bytes) => Ok(bytes.to_vec()),
        Content::File(file, length) => {
            let mut bytes = vec![0; length as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            Ok(bytes)
        }
    }
}

#[test]
fn names_are_made_safe() {
    assert_eq!(cleaned(b"undionly.kpxe").as_deref(), Some("undionly.kpxe"));
    assert_eq!(cleaned(b"//a\\b.efi\xff").as_deref(), Some("a/b.efi"));
    assert_eq!(cleaned(b"a/./b"), Some("a/b".to_owned()));
    for wrong in [
        &b".."[..],
        b"a/../b",
        b"..\\x",
        b"",
        b"/",
        b"a\0b",
        b"a\nb",
        b"\xff\xfe",
        b"\xc3\x28x",
    ] {
        assert_eq!(cleaned(wrong), None, "{wrong:?}");
    }
    assert_eq!(cleaned(&[b'x'; 600]), None);
}

#[test]
fn a_leading_hardware_address_names_the_machine() {
    let name = clean(b"52:54:00:77:00:20/snponly.efi").unwrap();
    assert_eq!(name.machine.unwrap().to_string(), "52:54:00:77:00:20");
    assert_eq!(name.path, "snponly.efi");
    assert_eq!(clean(b"52:54:00:77:00:20").unwrap().machine, None);
}

#[test]
fn files_of_the_root_go_before_programs_and_dot_zero_is_an_alias() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.kpxe"), "root").unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let program = elsewhere.path().join("b.efi");
    std::fs::write(&program, "program").unwrap();
    let programs = [("a.kpxe", &program), ("b.efi", &program)]
        .map(|(name, path)| (name.to_owned(), path.clone()));
    let files = new(folder.path(), programs.into(), Manner::default()).unwrap();
    assert_eq!(text(files.find("a.kpxe")), Ok(b"root".to_vec()));
    assert_eq!(text(files.find("a.kpxe.0")), Ok(b"root".to_vec()));
    assert_eq!(text(files.find("b.efi")), Ok(b"program".to_vec()));
    assert_eq!(text(files.find("c")), Err("file not found".to_owned()));
    let long = files.find(&"c".repeat(300));
    assert_eq!(text(long), Err("file not found".to_owned()));
}

#[test]
fn names_are_taken_as_they_are_before_anything_is_taken_off() {
    let folder = tempfile::tempdir().unwrap();
    let own = "52:54:00:77:00:20";
    std::fs::create_dir(folder.path().join(own)).unwrap();
    for name in ["all", "52:54:00:77:00:20/grub.cfg"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let files = new(folder.path(), HashMap::new(), Manner::default()).unwrap();
    let of = |name: &str| {
        let spellings = files.spellings(&clean(name.as_bytes()).unwrap());
        let mut found = spellings.iter().map(|path| files.find(path));
        text(found.find(Result::is_ok).unwrap_or(Err(NoFile::Missing)))
    };
    assert_eq!(
        of(&format!("{own}/grub.cfg")),
        Ok(format!("{own}/grub.cfg").into())
    );
    assert_eq!(of(&format!("{own}/all")), Ok(b"all".to_vec()));
    let root = folder.path().display();
    assert_eq!(of(&format!("{root}/all")), Ok(b"all".to_vec()));
    assert_eq!(
        of(&format!("{root}/{own}/grub.cfg")),
        Ok(format!("{own}/grub.cfg").into())
    );
    assert!(of(&format!("{root}x/all")).is_err() && of("/etc/passwd").is_err());
}

#[test]
fn a_root_that_is_missing_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("later");
    let manner = Manner {
        may_come_later: true,
        ..Manner::default()
    };
    assert!(new(&root, HashMap::new(), Manner::default()).is_err());
    let files = new(&root, HashMap::new(), manner).unwrap();
    assert!(matches!(files.find("x"), Err(NoFile::Missing)));
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("x"), "x").unwrap();
    assert_eq!(text(files.find("x")), Ok(b"x".to_vec()));
}

#[test]
fn links_stay_inside_and_folders_are_no_files() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::write(folder.path().join("real"), "real").unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    let link = |from: &Path, name: &str| {
        std::os::unix::fs::symlink(from, folder.path().join(name)).unwrap();
    };
    link(Path::new("real"), "relative");
    link(
        &folder.path().canonicalize().unwrap().join("real"),
        "absolute",
    );
    link(&secret, "out");
    link(outside.path(), "outside");
    let files = new(folder.path(), HashMap::new(), Manner::default()).unwrap();
    assert_eq!(text(files.find("relative")), Ok(b"real".to_vec()));
    assert_eq!(text(files.find("absolute")), Ok(b"real".to_vec()));
    assert!(matches!(files.find("out"), Err(NoFile::LinkOut { .. })));
    assert!(matches!(
        files.find("outside/secret"),
        Err(NoFile::LinkOut { .. })
    ));
    assert!(matches!(files.find("sub"), Err(NoFile::NotAFile)));
}

#[test]
fn transfers_of_one_file_share_one_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x"), "x").unwrap();
    let files = new(folder.path(), HashMap::new(), Manner::default()).unwrap();
    let (first, second) = (files.find("x").unwrap(), files.find("x").unwrap());
    let (Content::File(first, _), Content::File(second, _)) = (first, second) else {
        panic!("in memory")
    };
    assert!(Arc::ptr_eq(&first, &second));
}

#[test]
fn a_client_with_a_folder_of_its_own_gets_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("10.0.0.9")).unwrap();
    for name in ["all", "10.0.0.9/own"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let files = new(folder.path(), HashMap::new(), Manner::default()).unwrap();
    let of = |own: Option<&str>, name| {
        let own = own.filter(|own| files.has_folder(own));
        text(files.find_for(own, name))
    };
    let missing = Err("file not found".to_owned());
    assert_eq!(of(Some("10.0.0.9"), "own"), Ok(b"10.0.0.9/own".to_vec()));
    assert_eq!(of(Some("10.0.0.9"), "own.0"), Ok(b"10.0.0.9/own".to_vec()));
    assert_eq!(of(Some("10.0.0.9"), "all"), missing);
    assert_eq!(of(Some("10.0.0.8"), "all"), Ok(b"all".to_vec()));
    assert_eq!(of(None, "own"), missing);
}

#[test]
fn of_the_root_only_permitted_files_are_served_where_that_is_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x");
    std::fs::write(&file, "x").unwrap();
    let manner = Manner {
        is_secure: true,
        ..Manner::default()
    };
    let files = new(folder.path(), HashMap::new(), manner).unwrap();
    assert_eq!(text(files.find("x")), Ok(b"x".to_vec()), "one's own file");
    if rustix::process::geteuid().is_root() {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(files.find("x"), Err(NoFile::Private)));
    } else {
        let others = new(Path::new("/etc"), HashMap::new(), manner).unwrap();
        assert!(matches!(others.find("passwd"), Err(NoFile::Private)));
    }
}

#[test]
fn whatever_a_client_writes_in_front_the_roots_entry_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let manner = Manner {
        is_lowercase: true,
        ..Manner::default()
    };
    let files = new(folder.path(), HashMap::new(), manner).unwrap();
    let root = files.root().display().to_string().to_ascii_lowercase();
    for front in [String::new(), "52:54:00:77:00:20/".to_owned()] {
        let name = clean(format!("{front}HUNG/x").as_bytes()).unwrap();
        let spellings = files.spellings(&name);
        assert_eq!(spellings.last().map(|path| entry(None, path)), Some("hung"));
    }
    if files.root().display().to_string() == root {
        let spellings = files.spellings(&clean(format!("{root}/hung/x").as_bytes()).unwrap());
        assert_eq!(spellings.last().map(|path| entry(None, path)), Some("hung"));
    }
    assert_eq!(entry(None, "hung.0"), "hung");
    assert_eq!(entry(Some("10.0.0.9"), "x/y"), "10.0.0.9");
}

#[test]
fn a_root_that_does_not_answer_is_taken_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("hung");
    let looks = crate::look::hung::silent_at(&root);
    let files = Files::new(Some(&root), HashMap::new(), Manner::default(), &looks).unwrap();
    assert_eq!(files.root(), root);
}

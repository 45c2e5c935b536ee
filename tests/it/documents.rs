//! What the documents say of the code is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &Path, texts: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, texts);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            texts.push((path, text));
        }
    }
}

/// Words in backquotes of a Markdown text that look like `path::function`.
fn named_functions(text: &str) -> BTreeSet<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains("::") && !word.contains(' '))
        .map(|word| word.trim_end_matches("()").to_owned())
        .collect()
}

/// The walks in ARCHITECTURE.md name functions and types by `module::name`: each must be defined
/// in a file or folder of that module's name, or in an `impl` of that type.
#[test]
fn architecture_names_what_exists() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut code = Vec::new();
    sources(&root().join("crates"), &mut code);
    let named = named_functions(&text);
    assert!(named.len() > 30, "only {} names were found", named.len());
    let missing: Vec<&String> = named
        .iter()
        .filter(|name| !code.iter().any(|(path, text)| defines(path, text, name)))
        .collect();
    assert!(
        missing.is_empty(),
        "ARCHITECTURE.md names what is not there: {missing:?}"
    );
}

fn defines(path: &Path, text: &str, name: &str) -> bool {
    let Some((owner, item)) = name.rsplit_once("::") else {
        return false;
    };
    let owner = owner.rsplit("::").next().unwrap_or(owner);
    let is_module = path.components().any(|part| {
        Path::new(part.as_os_str())
            .file_stem()
            .is_some_and(|stem| stem == owner)
    });
    let is_type = [
        format!("impl {owner} "),
        format!("impl {owner}<"),
        format!("> {owner}<"),
        format!(" for {owner} "),
        format!("enum {owner} "),
    ]
    .iter()
    .any(|form| text.contains(form));
    let is_item = [
        format!("fn {item}("),
        format!("fn {item}<"),
        format!("struct {item}"),
        format!("enum {item}"),
        format!("trait {item}"),
    ]
    .iter()
    .any(|form| text.contains(form));
    let is_variant = is_type && text.lines().any(|line| line.trim_start().starts_with(item));
    (is_item && (is_module || is_type)) || is_variant
}

/// Relative links of the documents lead somewhere.
#[test]
fn links_lead_somewhere() {
    for name in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "benches/README.md",
    ] {
        let path = root().join(name);
        let text = fs::read_to_string(&path).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let target = target.split('#').next().unwrap_or(target);
            let file = path.parent().unwrap().join(target);
            assert!(
                file.exists(),
                "{name} links to {target}, which is not there"
            );
        }
    }
}

/// The README's two commands are the ones that are meant.
#[test]
fn the_readme_has_the_two_commands() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    for command in ["cargo run --release -- serve", "tests/run"] {
        assert!(text.contains(command), "{command}");
    }
    assert!(root().join("tests/run").exists());
}

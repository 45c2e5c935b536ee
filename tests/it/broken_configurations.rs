//! `larder check` on broken configurations: each message names file, line, column and the mend.
//!
//! A case is a folder of `tests/it/broken`: a `squid.conf` or `larder.toml` (with the files that it
//! names) and `said.txt`, what `check` says of it. With `LARDER_BLESS=1` in the environment the
//! texts are written anew; read the difference before you keep it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/broken")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "only {} cases", cases.len());
    cases
}

/// Runs a command of larder on a case, in the case's folder.
fn larder(command: &str, case: &Path, more: &[&str]) -> Output {
    let (flag, file) = if case.join("squid.conf").exists() {
        ("--squid-conf", "squid.conf")
    } else {
        ("--config", "larder.toml")
    };
    Command::new(env!("CARGO_BIN_EXE_larder"))
        .args([command, flag, file])
        .args(more)
        .current_dir(case)
        .env_clear()
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    format!("{}{}", text(&output.stderr), text(&output.stdout))
}

#[test]
fn each_is_refused_in_the_words_that_were_agreed() {
    let mut wrong = Vec::new();
    for case in cases() {
        let output = larder("check", &case, &[]);
        let said = said(&output);
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        if output.status.code() != Some(2) {
            wrong.push(format!("{name}: exit {:?}\n{said}", output.status.code()));
        }
        let wanted = case.join("said.txt");
        if std::env::var_os("LARDER_BLESS").is_some() {
            fs::write(&wanted, &said).unwrap();
        } else if fs::read_to_string(&wanted).unwrap_or_default() != said {
            wrong.push(format!("{name}: other words than in said.txt:\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_error_has_file_line_column_and_mend() {
    for case in cases() {
        let output = larder("check", &case, &["--json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["good"], false, "{}", case.display());
        for problem in report["problems"].as_array().unwrap() {
            for member in ["file", "line", "column", "mend"] {
                assert!(!problem[member].is_null(), "{}: {problem}", case.display());
            }
        }
    }
}

#[test]
fn serve_refuses_each_and_touches_nothing() {
    for case in cases() {
        let before = listing(&case);
        let output = larder("serve", &case, &["--cache-dir", "must-not-appear"]);
        assert_eq!(output.status.code(), Some(2), "{}", case.display());
        assert_eq!(listing(&case), before, "{}", case.display());
    }
}

fn listing(case: &Path) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs::read_dir(case)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    names
}

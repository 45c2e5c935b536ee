//! The house rules that no lint knows: lengths of files and functions, no panics by `unwrap`, an
//! `expect` only with its reason, a head on every module.

use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
/// An `expect` that says less than this gives no reason.
const REASON_CHARACTERS_MIN: usize = 12;

/// One source file, with where its unit tests begin.
struct File {
    path: PathBuf,
    lines: Vec<String>,
    /// Lines before the unit tests at the end.
    code: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files_below(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<File> {
    let mut paths = Vec::new();
    for folder in ["crates", "tests", "benches"] {
        files_below(&root().join(folder), ".rs", &mut paths);
    }
    assert!(paths.len() > 50, "the tree was not found");
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            let tests = is_test(&path).then_some(0);
            let code = tests
                .or_else(|| lines.iter().position(|line| line.trim() == "#[cfg(test)]"))
                .unwrap_or(lines.len());
            File { path, lines, code }
        })
        .collect()
}

/// Whole files of tests and benches: `unwrap` is how a test fails.
fn is_test(path: &Path) -> bool {
    let below = path.strip_prefix(root()).unwrap();
    let name = below.file_name().unwrap().to_string_lossy();
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || below
            .components()
            .any(|part| matches!(part.as_os_str().to_str(), Some("tests" | "benches")))
}

/// What a rule found wrong, as `path:line: what`.
fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn place(file: &File, line: usize) -> String {
    let path = file.path.strip_prefix(root()).unwrap();
    format!("{}:{}", path.display(), line + 1)
}

#[test]
fn files_are_short() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|file| file.lines.len() > FILE_LINES_MAX)
        .map(|file| format!("{}: {} lines", place(file, 0), file.lines.len()))
        .collect();
    complain(&wrong);
}

#[test]
fn scripts_are_short() {
    let mut paths = Vec::new();
    for folder in ["tests", "benches"] {
        files_below(&root().join(folder), ".py", &mut paths);
    }
    let wrong: Vec<String> = paths
        .iter()
        .map(|path| (path, fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES_MAX)
        .map(|(path, lines)| format!("{}: {lines} lines", path.display()))
        .collect();
    complain(&wrong);
}

/// Functions as rustfmt lays them out: from the line with `fn` to the line that closes with the
/// same indentation.
fn functions(file: &File) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (start, line) in file.lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "const fn ",
            "unsafe fn ",
        ];
        let is_function = words.iter().any(|word| code.starts_with(word))
            || (code.starts_with("pub(") && code.contains(" fn "));
        if !is_function || code.ends_with(';') || code.ends_with('}') {
            continue;
        }
        let close = format!("{}}}", " ".repeat(indent));
        let end = (start..file.lines.len()).find(|at| file.lines[*at] == close);
        if let Some(end) = end {
            found.push((start, end));
        }
    }
    found
}

/// Lines that are neither empty nor comments, as clippy's too_many_lines counts.
fn code_lines(lines: &[String]) -> usize {
    let is_code = |line: &&String| !line.trim().is_empty() && !line.trim().starts_with("//");
    lines.iter().filter(is_code).count()
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for file in sources() {
        for (start, end) in functions(&file) {
            count += 1;
            let lines = code_lines(&file.lines[start..=end]);
            if lines > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{}: a function of {lines} lines",
                    place(&file, start)
                ));
            }
        }
    }
    assert!(count > 1000, "only {count} functions were seen");
    complain(&wrong);
}

#[test]
fn nothing_unwraps_outside_tests() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (at, line) in file.lines[..file.code].iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if code.contains(".unwrap()") || code.contains(".unwrap_err()") {
                wrong.push(format!("{}: {}", place(&file, at), line.trim()));
            }
        }
    }
    complain(&wrong);
}

#[test]
fn an_expect_says_why_it_cannot_fail() {
    let mut wrong = Vec::new();
    for file in sources() {
        for (at, line) in file.lines[..file.code].iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let Some((_, after)) = code.split_once(".expect(") else {
                continue;
            };
            // rustfmt may put a long reason on the next line.
            let reason = if after.is_empty() {
                file.lines.get(at + 1).map_or("", |next| next.trim())
            } else {
                after
            };
            let is_text = reason.starts_with('"');
            if !is_text || reason.len() < REASON_CHARACTERS_MIN {
                wrong.push(format!("{}: {}", place(&file, at), line.trim()));
            }
        }
    }
    complain(&wrong);
}

#[test]
fn every_module_says_what_it_is() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|file| {
            !file
                .lines
                .first()
                .is_some_and(|line| line.starts_with("//!"))
        })
        .map(|file| place(file, 0))
        .collect();
    complain(&wrong);
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in sources() {
        if file.path.ends_with("tests/it/tidy.rs") {
            continue;
        }
        for (at, line) in file.lines.iter().enumerate() {
            if [
                "TODO",
                "FIXME",
                "XXX",
                "todo!(",
                "unimplemented!(",
                "#[ignore",
            ]
            .iter()
            .any(|word| line.contains(word))
            {
                wrong.push(format!("{}: {}", place(&file, at), line.trim()));
            }
        }
    }
    complain(&wrong);
}

//! `store_id_program` and what belongs to it.

use larder_policy::store_id::{Finding, StoreIdRule, Weight, read_database};

use crate::configuration::{Helper, StoreIdSource};
use crate::note::{Findings, Position, Severity};
use crate::source::{Files, Statement, Token, unquoted};
use crate::values;

/// Squid's own helper: its file is read here and its rules are run in-process.
const FILE_REWRITE: &str = "storeid_file_rewrite";
/// Squid's `store_id_children`.
const CHILDREN: usize = 20;

/// Reads where store IDs come from.
pub(crate) fn read(
    statements: &[Statement],
    files: &dyn Files,
    found: &mut Findings,
) -> StoreIdSource {
    let program = statements.iter().rev().find(|statement| {
        matches!(
            statement.name.text.as_str(),
            "store_id_program" | "storeurl_rewrite_program"
        )
    });
    let Some(program) = program else {
        return StoreIdSource::None;
    };
    let words: Vec<&str> = program
        .arguments
        .iter()
        .map(|word| unquoted(&word.text))
        .collect();
    let rewrites = |word: &&str| word.rsplit('/').next() == Some(FILE_REWRITE);
    match words.iter().position(rewrites) {
        _ if words.is_empty() => {
            let text = "store_id_program lacks a program";
            found.problem(
                &program.name.at,
                text,
                "write the program and its arguments",
            );
            StoreIdSource::None
        }
        Some(at) => {
            if let Some(file) = program.arguments.get(at + 1) {
                return StoreIdSource::Rules(database(file, files, found));
            }
            let text = format!("{FILE_REWRITE} lacks the file with its rules");
            let mend = "write the path of storeid.db after it";
            found.problem(&program.name.at, text, mend);
            StoreIdSource::None
        }
        None => StoreIdSource::Helper(helper(&words, statements, found)),
    }
}

fn database(token: &Token, files: &dyn Files, found: &mut Findings) -> Vec<StoreIdRule> {
    let named = unquoted(&token.text);
    let name = named.rsplit('/').next().unwrap_or(named);
    let (path, bytes) = match files.read(named) {
        Ok(bytes) => (named.to_owned(), bytes),
        Err(error) => {
            // A folder that was copied from the machine where it belongs.
            let beside = beside(&token.at.file, name);
            let bytes = (error.kind() == std::io::ErrorKind::NotFound)
                .then(|| files.read(&beside).ok())
                .flatten();
            let Some(bytes) = bytes else {
                let text = format!("{named} cannot be read: {error}");
                found.problem(&token.at, text, "name a file that this user can read");
                return Vec::new();
            };
            let text = format!("{named} is not there: {beside} is read in its place");
            let mend = "name the file that is meant";
            found.note(Severity::Warning, &token.at, text, mend);
            (beside, bytes)
        }
    };
    let (rules, findings) = match read_database(name, &String::from_utf8_lossy(&bytes)) {
        Ok(database) => (database.rules, database.findings),
        Err(findings) => (Vec::new(), findings),
    };
    for finding in findings {
        report(&finding, &path, found);
    }
    rules
}

/// The file of this name in the folder of a configuration file.
fn beside(configuration: &str, name: &str) -> String {
    match configuration.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}

fn report(finding: &Finding, path: &str, found: &mut Findings) {
    let at = Position {
        file: path.into(),
        line: finding.line,
        column: finding.column,
        length: finding.length,
    };
    match finding.weight {
        Weight::Error => found.problem(&at, &finding.text, &finding.mend),
        Weight::Warning => found.note(Severity::Warning, &at, &finding.text, &finding.mend),
        Weight::Note => found.note(Severity::Info, &at, &finding.text, &finding.mend),
    }
}

fn helper(words: &[&str], statements: &[Statement], found: &mut Findings) -> Helper {
    let mut helper = Helper {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        children: CHILDREN,
        concurrency: 0,
        bypass: true,
        extras: None,
    };
    for statement in statements {
        match statement.name.text.as_str() {
            "store_id_children" => children(statement, &mut helper, found),
            "store_id_bypass" => {
                helper.bypass = values::switch(statement, found).unwrap_or(helper.bypass);
            }
            "store_id_extras" => {
                let words: Vec<&str> = statement
                    .arguments
                    .iter()
                    .map(|word| unquoted(&word.text))
                    .collect();
                helper.extras = Some(words.join(" "));
            }
            _ => {}
        }
    }
    helper
}

/// `N startup=a idle=b concurrency=c …`
fn children(statement: &Statement, helper: &mut Helper, found: &mut Findings) {
    for (index, token) in statement.arguments.iter().enumerate() {
        let concurrency = token.text.strip_prefix("concurrency=");
        if index == 0 {
            helper.children = values::number(token, "number of helpers", found).unwrap_or(CHILDREN);
        } else if let Some(number) = concurrency {
            let at = token.at.within("concurrency=".len(), number.len());
            let token = Token {
                text: number.to_owned(),
                at,
            };
            helper.concurrency = values::number(&token, "number of requests", found).unwrap_or(0);
        }
    }
}

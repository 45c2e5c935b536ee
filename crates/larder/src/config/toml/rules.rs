//! `[[store-id]]` and `[[refresh]]`: which URLs are one object, and how long objects stay fresh.

use std::path::Path;

use larder_policy::refresh::{Overrides, RefreshRule, RefreshRules};
use larder_policy::store_id::{self, Pattern, StoreIdRule, StoreIds};

use crate::config::problem::{Place, Problem, Problems, Severity};
use crate::config::sources::read_file;
use crate::config::tree::{Node, Section};
use crate::config::values::{self, bad};

/// Names Squid's helper for store-ID files, whose work is done in-process.
const FILE_HELPER: &str = "storeid_file_rewrite";

/// Reads `[[store-id]]`: one rule, or those of a file.
pub(super) fn store_id(
    section: &mut Section<'_>,
    place: &Place,
    folder: &Path,
) -> Option<Vec<StoreIdRule>> {
    let pattern = section.get("pattern");
    let replacement = section.get("replacement");
    let file = section.value("file", values::path(folder));
    let helper = section.get("helper");
    match (pattern, replacement, file, helper) {
        (Some(pattern), Some(replacement), None, None) => {
            inline(section, place, pattern, replacement)
        }
        (None, None, Some(file), None) => Some(database(section, &file)),
        (None, None, None, Some(node)) => {
            helper_file(section, node).map(|file| database(section, &file))
        }
        _ => {
            let problem =
                Problem::error("a store-ID rule has a pattern and a replacement, or is a file");
            section.problem(
                problem
                    .at(place)
                    .mend("write pattern and replacement, or file alone"),
            );
            None
        }
    }
}

fn inline(
    section: &mut Section<'_>,
    place: &Place,
    pattern_node: &Node,
    replacement: &Node,
) -> Option<Vec<StoreIdRule>> {
    let pattern = section.value("pattern", pattern);
    let written = section.value("replacement", values::text)?;
    let pattern = pattern?;
    // What is likely wrong with a rule is known to the reader of rule files.
    let line = format!("{pattern}\t{written}");
    let findings = match store_id::read_database("", &line) {
        Ok(database) => database.findings,
        Err(findings) => findings,
    };
    let pattern_length = pattern.as_written().chars().count();
    for finding in findings {
        let node = if finding.column > pattern_length {
            replacement
        } else {
            pattern_node
        };
        section.problem(
            Problem::warning(finding.text)
                .at(&node.place)
                .mend(finding.mend),
        );
    }
    Some(vec![StoreIdRule::new(pattern, &written, shown(place))])
}

fn helper_file(section: &mut Section<'_>, node: &Node) -> Option<std::path::PathBuf> {
    let words = values::list(values::text)(node)
        .map_err(|problem| section.problem(problem))
        .ok()?;
    match words.as_slice() {
        [program, file] if program.rsplit('/').next() == Some(FILE_HELPER) => Some(file.into()),
        _ => {
            let message =
                "store-ID programs other than storeid_file_rewrite are not run by this version";
            section.problem(bad(
                node,
                &message,
                "write the rules into a file and name it with `file`",
            ));
            None
        }
    }
}

/// The rules of a storeid.db file; what is wrong with them is told in the file's own lines.
fn database(section: &mut Section<'_>, path: &Path) -> Vec<StoreIdRule> {
    let mut found = Problems::default();
    let rules = store_id_file(path, &mut found);
    found
        .iter()
        .for_each(|problem| section.problem(problem.clone()));
    rules
}

/// Reads a storeid.db file.
pub fn store_id_file(path: &Path, found: &mut Problems) -> Vec<StoreIdRule> {
    let source = match read_file(path) {
        Ok(source) => source,
        Err(problems) => {
            found.extend(problems);
            return Vec::new();
        }
    };
    let (rules, findings) = match store_id::read_database(&source.name, &source.text) {
        Ok(database) => (database.rules, database.findings),
        Err(findings) => (Vec::new(), findings),
    };
    for finding in findings {
        let severity = match finding.weight {
            store_id::Weight::Note => Severity::Note,
            store_id::Weight::Warning => Severity::Warning,
            store_id::Weight::Error => Severity::Error,
        };
        let place = Place::of_characters(&source, finding.line, finding.column, finding.length);
        let problem = Problem {
            severity,
            ..Problem::error(finding.text)
        };
        found.push(problem.at(&place).mend(finding.mend));
    }
    rules
}

/// All store-ID rules, in order.
pub(super) fn store_ids(rules: Vec<Vec<StoreIdRule>>) -> StoreIds {
    StoreIds::new(rules.into_iter().flatten().collect())
}

/// Reads `[[refresh]]`.
pub(super) fn refresh(section: &mut Section<'_>, place: &Place) -> Option<(RefreshRule, Place)> {
    let pattern_at = section.get("pattern").map(|node| node.place.clone());
    let pattern = section.value("pattern", pattern);
    let min = section.value("min", values::duration).unwrap_or_default();
    let percent = section.value("percent", values::count(0)).unwrap_or(0);
    let max = section.value("max", values::duration);
    let mut options = Overrides::default();
    for word in section
        .value("override", values::list(override_word))
        .unwrap_or_default()
    {
        word(&mut options);
    }
    options.max_stale = section.value("max-stale", values::duration).map(seconds);
    if pattern_at.is_none() {
        let problem = Problem::error("this refresh rule has no pattern");
        section.problem(problem.at(place).mend("add pattern = '…'"));
    }
    let pattern = pattern?;
    let max = max.map_or(seconds(min), seconds);
    let rule = RefreshRule {
        catch_all: pattern.is_catch_all(),
        pattern,
        min: seconds(min),
        percent: u32::try_from(percent).unwrap_or(u32::MAX),
        max,
        options,
        text: shown(place),
    };
    Some((rule, pattern_at.unwrap_or_else(|| place.clone())))
}

/// All refresh rules, in order. Rules below one that matches everything are never reached.
pub(super) fn refresh_rules(
    section: &mut Section<'_>,
    rules: Vec<(RefreshRule, Place)>,
) -> RefreshRules {
    let mut caught = false;
    for (rule, place) in &rules {
        if caught {
            let problem =
                Problem::warning("a rule above matches every URL: this one is never reached");
            section.problem(
                problem
                    .at(place)
                    .mend("move the rule that matches everything to the end"),
            );
        }
        caught |= rule.catch_all;
    }
    RefreshRules::new(rules.into_iter().map(|(rule, _)| rule).collect())
}

type SetOverride = fn(&mut Overrides);

fn override_word(node: &Node) -> Result<SetOverride, Problem> {
    let words: [(&'static str, SetOverride); 10] = [
        ("expire", |o| o.override_expire = true),
        ("lastmod", |o| o.override_lastmod = true),
        ("no-cache", |o| o.ignore_no_cache = true),
        ("no-store", |o| o.ignore_no_store = true),
        ("private", |o| o.ignore_private = true),
        ("must-revalidate", |o| o.ignore_must_revalidate = true),
        ("reload", |o| o.ignore_reload = true),
        ("reload-into-ims", |o| o.reload_into_ims = true),
        ("refresh-ims", |o| o.refresh_ims = true),
        ("store-stale", |o| o.store_stale = true),
    ];
    values::one_of(&words)(node)
}

fn pattern(node: &Node) -> Result<Pattern, Problem> {
    let text = values::text(node)?;
    Pattern::new(&text).map_err(|error| {
        let mut problem = bad(node, &error, "write a regular expression in single quotes");
        // In single quotes each character stands for itself, so the place can be exact.
        if let (Some(offset), Some(place)) = (error.offset, &mut problem.place)
            && place.text().starts_with('\'')
            && !place.text().starts_with("'''")
        {
            let start = (place.span.start + 1 + offset).min(place.span.end.saturating_sub(1));
            place.span = start..start + 1;
        }
        problem
    })
}

fn seconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// How a rule is shown to people: `larder.toml:12`.
fn shown(place: &Place) -> String {
    let name = place.source.name.rsplit('/').next().unwrap_or_default();
    format!("{name}:{}", place.line_column().0)
}

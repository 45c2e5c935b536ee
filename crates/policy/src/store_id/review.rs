//! What is likely wrong with a store-ID rule that can be read.
//!
//! Whether a rule merges what it should not is hard to see in its text, so the rule is tried on
//! the paths that mirrors really have: twice with different vendors, and once for each generation
//! of repository layouts.

use std::fmt;

use super::StoreIdRule;

/// Something about a rule that an operator should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// `\1` and its like in the replacement.
    BackslashGroup,
    /// `$0`, `$&` or `${1}` in the replacement.
    NotAGroup,
    /// `$3` where the pattern has two groups.
    MissingGroup,
    /// No group in the replacement although the pattern has some.
    Constant,
    /// The pattern wants a blank, which no URL has.
    WantsBlank,
    /// Files of different vendors get one store ID.
    MergesVendors,
    /// It fits the paths of CentOS 5 to 7 and no later ones.
    OnlyOldCentos,
}

impl Concern {
    /// True if the replacement is at fault, not the pattern.
    pub fn is_about_replacement(self) -> bool {
        matches!(
            self,
            Self::BackslashGroup | Self::NotAGroup | Self::MissingGroup | Self::Constant
        )
    }

    /// What to do about it.
    pub fn mend(self) -> &'static str {
        match self {
            Self::BackslashGroup | Self::NotAGroup => "write `$1` to `$9` for the groups",
            Self::MissingGroup => "put parentheses around what it should stand for",
            Self::Constant => "name in the replacement what tells the files apart",
            Self::WantsBlank => "remove the blank; `$` is the end of the URL",
            Self::MergesVendors => "keep the name of the distribution in the store ID",
            Self::OnlyOldCentos => "add a rule for each layout that your clients use",
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BackslashGroup => {
                "`\\1` is plain text here; URLs that differ only there become one object"
            }
            Self::NotAGroup => "`$0`, `$&` and `${1}` are plain text here",
            Self::MissingGroup => "the pattern has no such group, so this is plain text",
            Self::Constant => "every URL that matches becomes one and the same object",
            Self::WantsBlank => "the pattern wants a blank, but it is searched in the URL alone",
            Self::MergesVendors => {
                "files of different distributions with the same path get one store ID"
            }
            Self::OnlyOldCentos => {
                "the rule only fits the paths of CentOS 5 to 7: packages of later releases, EPEL, \
                 Fedora, Rocky or Alma are kept once for each mirror"
            }
        })
    }
}

/// Everything that can be said about one rule.
pub(super) fn concerns(rule: &StoreIdRule) -> Vec<Concern> {
    let replacement = rule.replacement();
    let pattern = rule.pattern().as_written();
    let checks = [
        (
            names_by(replacement, '\\', |c| c.is_ascii_digit()),
            Concern::BackslashGroup,
        ),
        (
            names_by(replacement, '$', |c| "0&{".contains(c)),
            Concern::NotAGroup,
        ),
        (names_missing_group(rule), Concern::MissingGroup),
        (
            rule.is_constant() && rule.pattern().groups() > 0,
            Concern::Constant,
        ),
        (wants_blank(pattern), Concern::WantsBlank),
        (
            !rule.is_constant() && merges_vendors(rule),
            Concern::MergesVendors,
        ),
        (fits_only_old_centos(rule), Concern::OnlyOldCentos),
    ];
    let found = checks.into_iter().filter(|(holds, _)| *holds);
    found.map(|(_, concern)| concern).collect()
}

/// True if `sigil` stands before a character of the given kind.
fn names_by(text: &str, sigil: char, kind: impl Fn(char) -> bool) -> bool {
    text.split(sigil)
        .skip(1)
        .any(|after| after.starts_with(&kind))
}

fn names_missing_group(rule: &StoreIdRule) -> bool {
    let groups = rule.pattern().groups();
    names_by(rule.replacement(), '$', |c| {
        c.to_digit(10)
            .is_some_and(|digit| digit >= 1 && digit as usize > groups)
    })
}

fn wants_blank(pattern: &str) -> bool {
    let outside_negated_classes = pattern.replace("[^ ", "[^").replace("[^\\s", "[^");
    outside_negated_classes.contains(' ') || outside_negated_classes.contains("\\s")
}

/// Paths after the name of the distribution, of releases up to CentOS 7 …
const OLD_CENTOS: [&str; 4] = [
    "5/os/i386/CentOS/bash-3.2-32.el5.i386.rpm",
    "7/os/x86_64/Packages/bash-4.2.46-34.el7.x86_64.rpm",
    "7.6.1810/updates/x86_64/Packages/bash-4.2.46-34.el7.x86_64.rpm",
    "7/updates/x86_64/drpms/bash-4.2.46-33_34.el7.x86_64.drpm",
];
/// … and of what came after them or stands beside them.
const LATER: [&str; 12] = [
    "7/x86_64/Packages/b/bats-1.1.0-1.el7.noarch.rpm",
    "9/Everything/x86_64/Packages/b/bats-1.8.0-1.el9.noarch.rpm",
    "releases/43/Everything/x86_64/os/Packages/b/bash-5.3.0-2.fc43.x86_64.rpm",
    "updates/43/Everything/x86_64/Packages/b/bash-5.3.3-1.fc43.x86_64.rpm",
    "9-stream/BaseOS/x86_64/os/Packages/bash-5.1.8-9.el9.x86_64.rpm",
    "9.6/BaseOS/x86_64/os/Packages/b/bash-5.1.8-9.el9.x86_64.rpm",
    "9.6/AppStream/x86_64/os/Packages/bash-devel-5.1.8-9.el9.x86_64.rpm",
    "8/BaseOS/x86_64/os/Packages/bash-4.4.20-1.el8_4.x86_64.rpm",
    "distribution/leap/15.6/repo/oss/x86_64/bash-4.4-150400.27.1.x86_64.rpm",
    "7/os/aarch64/Packages/bash-4.2.46-34.el7.aarch64.rpm",
    "pool/main/b/bash/bash_5.2.15-2+b2_amd64.deb",
    "core/os/x86_64/zlib-1:1.3.1-2-x86_64.pkg.tar.zst",
];

fn merges_vendors(rule: &StoreIdRule) -> bool {
    OLD_CENTOS.iter().chain(&LATER).any(|path| {
        let one = rule.apply(&format!("http://mirror.example/one/{path}"));
        let other = rule.apply(&format!("http://mirror.example/other/{path}"));
        matches!((one, other), (Ok(Some(one)), Ok(Some(other))) if one == other)
    })
}

fn fits_only_old_centos(rule: &StoreIdRule) -> bool {
    let fits = |path: &str| {
        let url = format!("http://mirror.example/linux/{path}");
        rule.pattern().is_match(&url) == Ok(true)
    };
    OLD_CENTOS.iter().any(|path| fits(path)) && !LATER.iter().any(|path| fits(path))
}

//! Store-ID rules as tables.

use super::*;

const SEED: &str = "\\/([0-9\\.\\-]+)\\/([a-z]+)\\/(x86_64|i386)\\/(.*\\.d?rpm)\t\
                    http://rpmcache.squid.internal/$1/$2/$3/$4\n";

fn ids(rules: &[(&str, &str)]) -> StoreIds {
    let rules = rules.iter().map(|(pattern, replacement)| {
        StoreIdRule::new(Pattern::new(pattern).unwrap(), replacement, String::new())
    });
    StoreIds::new(rules.collect())
}

fn seed() -> StoreIds {
    StoreIds::new(read_database("storeid.db", SEED).unwrap().rules)
}

fn id_of(ids: &StoreIds, url: &str) -> Option<String> {
    ids.rewrite(&Url::parse(url).unwrap()).map(|(_, id)| id)
}

#[test]
fn the_whole_url_becomes_the_replacement_of_the_first_rule_that_occurs_in_it() {
    let ids = ids(&[("nope", "x"), ("/b/(.)", "id:$1"), ("/b/", "later")]);
    let url = Url::parse("http://m/a/b/c/d?e").unwrap();
    assert_eq!(ids.rewrite(&url), Some((1, "id:c".to_owned())));
    assert_eq!(id_of(&ids, "http://m/c"), None);
}

#[test]
fn substitution_has_the_oddities_of_squids_helper() {
    for (pattern, replacement, url, wanted) in [
        ("/(a)(b)", "$2$1", "http://m/ab", "ba"),
        ("/(a)", "$10", "http://m/a", "a0"),
        ("/(a)", "$0-$&-${1}-\\1", "http://m/a", "$0-$&-${1}-\\1"),
        ("/(a)", "$2", "http://m/a", "$2"),
        ("/a", "x$1y$2", "http://m/a", "x1y$2"),
        ("/(a)(z)?", "[$2]", "http://m/a", "[]"),
        ("/(a)", "$$1$", "http://m/a", "$a$"),
        ("m/(.*)", "$1", "http://m/p%2Fq", "p%2Fq"),
        (
            "/(.)(.)(.)(.)(.)(.)(.)(.)(.)(.)$",
            "$9$10",
            "http://m/abcdefghij",
            "ia0",
        ),
        ("(?i)/(A)", "$1", "http://m/a", "a"),
        ("/A", "x", "http://m/a", "none"),
        (
            r"(/[^/]+\.rpm)(?=\?)",
            "x$1",
            "http://m/a.rpm?k=1",
            "x/a.rpm",
        ),
    ] {
        let got = id_of(&ids(&[(pattern, replacement)]), url);
        assert_eq!(
            got.as_deref().unwrap_or("none"),
            wanted,
            "{pattern} {replacement}"
        );
    }
}

#[test]
fn a_captured_dollar_is_not_expanded_again() {
    let ids = ids(&[("m/([^/]*)/(.*)", "x/$1/$2")]);
    assert_eq!(id_of(&ids, "http://m/$2/b").unwrap(), "x/$2/b");
}

#[test]
fn dollar_is_the_end_of_the_url() {
    let ids = ids(&[(r"([^/]*\.rpm)$", "x/$1")]);
    assert_eq!(id_of(&ids, "http://m/a.rpm").unwrap(), "x/a.rpm");
    assert_eq!(id_of(&ids, "http://m/a.rpm?q"), None);
}

#[test]
fn an_escaped_plus_in_the_path_of_an_id_is_a_plus_and_in_its_query_stays() {
    let wanted = "http://rpmcache.squid.internal/7/os/x86_64/libstdc++-4.rpm";
    for name in [
        "libstdc++-4.rpm",
        "libstdc%2b%2b-4.rpm",
        "libstdc%2B%2B-4.rpm",
    ] {
        let url = format!("http://m/centos/7/os/x86_64/{name}");
        assert_eq!(id_of(&seed(), &url).as_deref(), Some(wanted), "{name}");
    }
    let all = ids(&[("m/(.*)", "$1")]);
    assert_eq!(id_of(&all, "http://m/a%2B?b%2B").unwrap(), "a+?b%2B");
}

#[test]
fn the_seeds_rule_hits_and_misses_the_known_paths() {
    for (path, wanted) in [
        (
            "centos/7/os/x86_64/Packages/a-1.rpm",
            "7/os/x86_64/Packages/a-1.rpm",
        ),
        (
            "centos/7/updates/x86_64/Packages/a-1.rpm",
            "7/updates/x86_64/Packages/a-1.rpm",
        ),
        (
            "centos/7/extras/x86_64/Packages/a-1.rpm",
            "7/extras/x86_64/Packages/a-1.rpm",
        ),
        (
            "centos/7/sclo/x86_64/rh/a-1.rpm",
            "7/sclo/x86_64/rh/a-1.rpm",
        ),
        (
            "vault/7.6.1810/os/x86_64/a-1.rpm",
            "7.6.1810/os/x86_64/a-1.rpm",
        ),
        (
            "centos/7/os/x86_64/drpms/a-1.drpm",
            "7/os/x86_64/drpms/a-1.drpm",
        ),
        (
            "centos/7.9.2009/updates/x86_64/a.rpm",
            "7.9.2009/updates/x86_64/a.rpm",
        ),
        ("other-vendor/7/os/x86_64/a.rpm", "7/os/x86_64/a.rpm"),
        ("centos/7/os/x86_64/a.rpm?a=1", "7/os/x86_64/a.rpm"),
        ("epel/7/x86_64/Packages/a/a-1.rpm", ""),
        ("epel/9/Everything/x86_64/Packages/a-1.rpm", ""),
        (
            "fedora/releases/43/Everything/x86_64/os/Packages/a-1.rpm",
            "",
        ),
        ("fedora/updates/43/Everything/x86_64/Packages/a-1.rpm", ""),
        ("centos-stream/9-stream/BaseOS/x86_64/os/a-1.rpm", ""),
        ("rocky/9.6/BaseOS/x86_64/os/Packages/a-1.rpm", ""),
        ("almalinux/9.6/AppStream/x86_64/os/Packages/a-1.rpm", ""),
        ("centos/8/BaseOS/x86_64/os/Packages/a-1.rpm", ""),
        ("opensuse/leap/15.6/repo/oss/x86_64/a-1.rpm", ""),
        ("altarch/7/os/aarch64/Packages/a-1.rpm", ""),
        ("elrepo/el7/x86_64/a-1.rpm", ""),
        ("scientific/7/x86_64/os/Packages/a-1.rpm", ""),
        ("puppet/el/7/PC1/x86_64/a-1.rpm", ""),
        ("centos/7/os/x86_64/repodata/repomd.xml", ""),
    ] {
        let got = id_of(&seed(), &format!("http://m/{path}"));
        let wanted =
            Some(format!("http://rpmcache.squid.internal/{wanted}")).filter(|_| !wanted.is_empty());
        assert_eq!(got, wanted, "{path}");
    }
}

#[test]
fn many_rules_decide_as_the_same_rules_one_by_one() {
    let mut rules: Vec<(String, String)> = (0..300)
        .map(|n| {
            (
                format!("^http://mirror{n}\\.example/(.*)"),
                format!("all/{n}/$1"),
            )
        })
        .collect();
    rules.insert(7, ("/(x)(?=yz)".to_owned(), "look/$1".to_owned()));
    let borrowed: Vec<(&str, &str)> = rules.iter().map(|(a, b)| (&**a, &**b)).collect();
    let many = ids(&borrowed);
    assert!(many.patterns.is_joint());
    for (url, wanted) in [
        ("http://mirror0.example/a", Some("all/0/a")),
        ("http://mirror299.example/a", Some("all/299/a")),
        ("http://mirror299.example/xyz", Some("look/x")),
        ("http://mirror300.example/a", None),
    ] {
        assert_eq!(id_of(&many, url).as_deref(), wanted, "{url}");
    }
}

#[test]
fn a_pattern_that_gives_up_leaves_the_url_as_its_own_key() {
    let rules = ids(&[(r"^http://m/(?:(a+)+)+\1b(?=c)", "x"), ("m/", "y")]);
    assert_eq!(id_of(&rules, &format!("http://m/{}", "a".repeat(60))), None);
    assert_eq!(id_of(&rules, "http://m/z").as_deref(), Some("y"));
}

#[test]
fn patterns_that_match_every_url_are_known() {
    for (pattern, wanted) in [
        (".", true),
        (".*", true),
        ("^http", true),
        ("", true),
        ("/", true),
        (r"\.rpm$", false),
        ("^http:", false),
        ("^.{0,20}$", false),
    ] {
        assert_eq!(
            Pattern::new(pattern).unwrap().is_catch_all(),
            wanted,
            "{pattern}"
        );
    }
}

fn findings(text: &str) -> Vec<String> {
    let findings = match read_database("storeid.db", text) {
        Ok(database) => database.findings,
        Err(findings) => findings,
    };
    let shown = findings.iter().map(|f| {
        format!(
            "{:?} {}:{}+{} {} | {}",
            f.weight, f.line, f.column, f.length, f.text, f.mend
        )
    });
    shown.collect()
}

#[test]
fn a_line_that_is_no_rule_is_an_error_with_its_place_and_the_mend() {
    for (text, wanted) in [
        (
            "/a/(.*) http://x/$1\n",
            "Error 1:1+19 no TAB between pattern and replacement (Squid's helper ignores such a \
             line) | put a TAB between `/a/(.*)` and `http://x/$1`",
        ),
        (
            "# fine\n\n  /a\n",
            "Error 3:3+2 no TAB between pattern and replacement (Squid's helper ignores such a \
             line) | put a TAB and the replacement after the pattern",
        ),
        (
            "/a\tb\t c\n",
            "Error 1:7+1 a third column; a rule has a pattern and a replacement, with TABs \
             between them | remove it, or write `\\t` for a TAB that belongs to the pattern",
        ),
        (
            "^é(\tb\n",
            "Error 1:3+1 not a regular expression: unclosed group | mend the pattern; a character \
             with a special meaning needs a `\\` before it",
        ),
    ] {
        assert_eq!(findings(text), [wanted], "{text}");
        assert!(read_database("storeid.db", text).is_err());
    }
}

#[test]
fn layout_of_the_file_does_not_matter() {
    let text = "\r\n# a comment\r\n  #another\r\n/a \t\t  http://x/a  \r\n/b\thttp://x/b";
    let database = read_database("f", text).unwrap();
    assert_eq!(database.findings, []);
    let read: Vec<_> = database
        .rules
        .iter()
        .map(|rule| (rule.text(), rule.pattern().as_written(), rule.replacement()))
        .collect();
    assert_eq!(
        read,
        [("f:4", "/a", "http://x/a"), ("f:5", "/b", "http://x/b")]
    );
}

#[test]
fn repeated_rules_and_commented_rules_are_noted_and_not_used() {
    let text = "/a\tx\n/a\tx\n/a\ty\n#/b\tz\n";
    assert_eq!(
        findings(text),
        [
            "Note 2:1+2 the rule of line 1 again | remove one of them",
            "Warning 3:1+2 never used: line 1 has the same pattern | remove one of them",
            "Note 4:1+5 a comment with a TAB in it; Squid's helper would take it for a rule | \
             write the comment without a TAB",
        ]
    );
    assert_eq!(read_database("f", text).unwrap().rules.len(), 1);
}

#[test]
fn rules_that_cannot_mean_what_was_meant_are_warned_of() {
    for (pattern, replacement, wanted) in [
        (
            "/debian/(.*)$",
            r"deb/\1",
            vec![Concern::BackslashGroup, Concern::Constant],
        ),
        (
            "/debian/(.*)$",
            "deb/$0",
            vec![Concern::NotAGroup, Concern::Constant],
        ),
        ("/debian/(.*)$", "${1}/$1", vec![Concern::NotAGroup]),
        (
            "/debian/(.*)$",
            "deb/$2",
            vec![Concern::MissingGroup, Concern::Constant],
        ),
        (r"/debian/(.*)\s", "deb/$1", vec![Concern::WantsBlank]),
        (r"/debian/([^\s]*)", "deb/$1", vec![]),
        (r"/([^/]*\.rpm)$", "rpm/$1", vec![Concern::MergesVendors]),
        (r"^http://[^/]*/(.*)$", "any/$1", vec![]),
    ] {
        let rule = StoreIdRule::new(Pattern::new(pattern).unwrap(), replacement, String::new());
        assert_eq!(review::concerns(&rule), wanted, "{pattern} {replacement}");
    }
}

#[test]
fn the_seeds_rule_is_known_to_merge_vendors_and_to_fit_old_centos_only() {
    let database = read_database("storeid.db", SEED).unwrap();
    assert_eq!(
        review::concerns(&database.rules[0]),
        [Concern::MergesVendors, Concern::OnlyOldCentos]
    );
    assert!(
        database
            .findings
            .iter()
            .all(|f| f.weight == Weight::Warning && f.line == 1)
    );
}

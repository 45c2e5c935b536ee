//! Whole files: the set-up that larder is made for, the traps of live files, and broken ones.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use larder_policy::access::Facts;
use larder_policy::store_id::StoreIds;
use larder_policy::url::Url;

use super::*;

mod broken;
mod unapplied;

const SEED: &str = include_str!("../../../config/squid/squid.conf");
const STOREID_DB: &str = include_str!("../../../config/squid/storeid.db");

/// Files held in memory.
struct Texts(HashMap<String, Vec<u8>>);

impl Files for Texts {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        self.0.get(path).cloned().ok_or_else(missing)
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<String>> {
        let (folder, end) = pattern.split_once('*').unwrap_or((pattern, ""));
        let mut paths: Vec<String> = self.0.keys().cloned().collect();
        paths.retain(|path| path.starts_with(folder) && path.ends_with(end));
        paths.sort();
        Ok(paths)
    }
}

fn texts(files: &[(&str, &str)]) -> Texts {
    let files = files
        .iter()
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    Texts(files.collect())
}

fn read_with(text: &str, others: &[(&str, &str)]) -> Result<Configuration, Vec<Problem>> {
    let mut files = texts(others);
    files
        .0
        .insert("/etc/squid/squid.conf".to_owned(), text.as_bytes().to_vec());
    read("/etc/squid/squid.conf", &files).map_err(|refused| refused.problems)
}

/// A file of which only the interesting lines are given.
fn good(text: &str) -> Configuration {
    let text = format!("http_port 3128\nhttp_access deny all\n{text}");
    read_with(&text, &[]).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn problems(text: &str) -> Vec<String> {
    match read_with(text, &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(shown).collect(),
    }
}

fn shown(problem: &Problem) -> String {
    let at = &problem.position;
    let file = at.file.rsplit('/').next().unwrap_or_default();
    let place = format!("{file}:{}:{}+{}", at.line, at.column, at.length);
    format!("{place} {} | {}", problem.text, problem.mend)
}

fn notes(configuration: &Configuration) -> Vec<String> {
    let shown = configuration.notes.iter().map(|note| {
        let file = note.position.file.rsplit('/').next().unwrap_or_default();
        format!(
            "{file}:{} {:?} {}",
            note.position.line, note.severity, note.text
        )
    });
    shown.collect()
}

fn seed() -> Configuration {
    read_with(SEED, &[("/etc/squid/storeid.db", STOREID_DB)]).unwrap()
}

fn allowed(configuration: &Configuration, method: &str, url: &str, client: &str) -> (bool, String) {
    let url = Url::parse(url).unwrap();
    let decision = configuration.access.decide(&Facts {
        client: client.parse::<IpAddr>().unwrap(),
        client_is_self: false,
        configured: false,
        method,
        url: (method != "CONNECT").then_some(&url),
        host: url.host(),
        port: url.port(),
        listener_port: 3128,
        listener_name: None,
        to: url.host_ip(),
    });
    (decision.allowed, decision.text.to_owned())
}

#[test]
fn the_seeds_files_mean_what_squid_made_of_them() {
    let seed = seed();
    assert_eq!(seed.http_ports.len(), 2, "the repeated http_port is one");
    assert_eq!(
        (seed.http_ports[0].port, &seed.http_ports[0].mode),
        (3128, &PortMode::Forward)
    );
    let PortMode::Accelerator(accelerator) = &seed.http_ports[1].mode else {
        panic!("{:?}", seed.http_ports[1]);
    };
    assert!(!accelerator.vhost && !accelerator.allow_direct);
    assert_eq!(
        accelerator.default_site.as_deref(),
        Some("ftp.halifax.rwth-aachen.de")
    );
    let dir = seed.cache_dir.as_ref().unwrap();
    assert_eq!(
        (dir.directory.as_str(), dir.max_bytes),
        ("/var/spool/squid", 20_000 << 20)
    );
    assert_eq!(seed.maximum_object_size, 4096 << 20);
    assert_eq!(seed.replacement, Some(Replacement::Lfuda));
    let peer = &seed.peers[0];
    assert_eq!((peer.name.as_str(), peer.port), ("mirror", 80));
    let origin = PeerKind::Origin {
        tls: false,
        forced_domain: None,
    };
    assert_eq!(peer.kind, origin);
    assert_eq!(peer.access.as_ref().map(|list| list.rules.len()), Some(2));
    assert_eq!(seed.refresh.len(), 2);
    assert_eq!(
        (seed.refresh[0].min, seed.refresh[0].max),
        (7 * 86_400, 30 * 86_400)
    );
    assert!(seed.refresh[0].options.override_expire && !seed.refresh[0].options.ignore_no_cache);
    let StoreIdSource::Rules(rules) = &seed.store_ids else {
        panic!("{:?}", seed.store_ids)
    };
    let url = Url::parse("http://m/centos/7/os/x86_64/Packages/a-1.rpm").unwrap();
    assert!(StoreIds::new(rules.clone()).rewrite(&url).is_some());
}

#[test]
fn the_seeds_access_rules_decide_by_the_first_match() {
    let seed = seed();
    for (method, url, wanted, rule) in [
        (
            "GET",
            "http://m/a",
            true,
            "squid.conf:11 http_access allow all",
        ),
        (
            "GET",
            "http://m:8000/a",
            false,
            "squid.conf:7 http_access deny !safe_ports",
        ),
        (
            "CONNECT",
            "https://m/",
            true,
            "squid.conf:11 http_access allow all",
        ),
        (
            "CONNECT",
            "http://m:22/",
            false,
            "squid.conf:7 http_access deny !safe_ports",
        ),
        (
            "CONNECT",
            "http://m/",
            false,
            "squid.conf:8 http_access deny CONNECT !tls_ports",
        ),
    ] {
        let got = allowed(&seed, method, url, "192.0.2.1");
        assert_eq!(got, (wanted, rule.to_owned()), "{method} {url}");
    }
}

#[test]
fn the_seeds_files_get_the_notes_that_their_author_needs() {
    assert_eq!(
        notes(&seed()),
        [
            "squid.conf:11 Warning this is an open proxy: any client may reach any host",
            "squid.conf:25 Info coredump_dir has no effect: larder has no need of it",
            "squid.conf:27 Info override-expire: Squid ends it a week after Expires, larder does \
             not",
            "squid.conf:27 Info what ignore-private or ignore-no-store keep: Squid asks the \
             origin at each use of a private object, larder when it is stale",
            "squid.conf:27 Info `ignore-no-cache` is obsolete: Squid ignores it, and so does \
             larder",
            "squid.conf:28 Warning repomd.xml falls to this catch-all rule: Squid would serve it \
             without asking for hours; larder asks again after 60 seconds",
            "squid.conf:30 Info the same http_port as in line 13",
            "squid.conf:36 Info never reached: line 11 decides about every request",
            "storeid.db:1 Warning files of different distributions with the same path get one \
             store ID",
            "storeid.db:1 Warning the rule only fits the paths of CentOS 5 to 7: packages of \
             later releases, EPEL, Fedora, Rocky or Alma are kept once for each mirror",
        ]
    );
}

#[test]
fn broken_files_get_every_problem_with_its_place_and_mend() {
    for (text, wanted) in broken::FILES {
        assert_eq!(problems(text), [wanted], "{text}");
    }
}

#[test]
fn all_problems_are_reported_together_in_the_order_of_lines() {
    let text = "foo\nhttp_port x\ncache_mem 1 QB\nhttp_access Deny all\n";
    let lines: Vec<usize> = read_with(text, &[])
        .unwrap_err()
        .iter()
        .map(|problem| problem.position.line)
        .collect();
    assert_eq!(lines, [1, 2, 3, 4]);
}

#[test]
fn a_blank_for_the_tab_in_the_store_id_file_is_a_problem_of_that_file() {
    let text = "http_port 3128\nstore_id_program /x/storeid_file_rewrite /s.db\n";
    let problems = read_with(text, &[("/s.db", "# ok\n/a/(.*) x/$1\n")]).unwrap_err();
    assert_eq!(
        problems.iter().map(shown).collect::<Vec<_>>(),
        [
            "s.db:2:1+12 no TAB between pattern and replacement (Squid's helper ignores such a \
             line) | put a TAB between `/a/(.*)` and `x/$1`"
        ]
    );
}

#[test]
fn a_store_id_file_of_another_machine_is_sought_beside_the_configuration() {
    let text = "http_port 3128\nstore_id_program /x/storeid_file_rewrite /gone/s.db\n";
    let read = read_with(text, &[("/etc/squid/s.db", "/a/(.*)\tx/$1\n")]).unwrap();
    assert!(matches!(&read.store_ids, StoreIdSource::Rules(rules) if rules.len() == 1));
    let said: Vec<String> = read.notes.iter().map(|note| note.text.clone()).collect();
    assert!(
        said.contains(&"/gone/s.db is not there: /etc/squid/s.db is read in its place".to_owned()),
        "{said:?}"
    );
}

#[test]
fn layout_is_squids() {
    let text = "  cache_mem 64 MB#x\r\nvisible_hostname a#b # comment\r\n\
                acl ports port 80 \\\r\n# between\r\n   443 # end\r\n\
                dns_nameservers 192.0.2.1 \\\n 2001:db8::1\nshutdown_lifetime 3.00 second";
    // `MB#x` is one token: a `#` inside a token is literal.
    assert_eq!(
        problems(&format!("http_port 3128\n{text}")),
        ["squid.conf:2:13+2 `64 MB#x` is no size | write a number and bytes, KB, MB or GB"]
    );
    let read = good(&text.replace("MB#x", "MB #x"));
    assert_eq!(read.cache_mem, Some(64 << 20));
    assert_eq!(read.visible_hostname.as_deref(), Some("a#b"));
    assert_eq!(read.dns_nameservers.len(), 2);
    assert_eq!(read.shutdown_lifetime, Duration::from_secs(3));
}

#[test]
fn conditions_macros_and_includes_are_followed() {
    let text = "http_port 3128\nhttp_access deny all\nif ${process_number} = 0\n\
                include /d/*.conf\nelse\nnonsense\nendif\npid_filename /run/${service_name}.pid\n\
                include \"/more.conf\"\ninclude /none/*.conf\n";
    let files = [
        ("/d/b.conf", "visible_hostname b"),
        ("/d/a.conf", "visible_hostname a"),
        ("/more.conf", "offline_mode on\n"),
    ];
    let read = read_with(text, &files).unwrap();
    assert_eq!(read.visible_hostname.as_deref(), Some("b"));
    assert_eq!(read.pid_filename.as_deref(), Some("/run/squid.pid"));
    assert!(read.offline);
    let circle = read_with("include /etc/squid/squid.conf\n", &[]).unwrap_err();
    assert!(circle[0].text.contains("16 deep"), "{circle:?}");
}

#[test]
fn builtin_acls_work_undeclared_and_declared_again() {
    let base = "http_port 3128\n";
    for text in [
        "http_access allow localhost\nhttp_access deny all\n",
        "acl localhost src 127.0.0.1/32 ::1\nhttp_access allow LOCALHOST\nhttp_access deny all\n",
        "acl all src all\nacl manager proto cache_object\nacl CONNECT method CONNECT\n\
         http_access deny manager\nhttp_access allow localhost\nhttp_access deny to_localhost\n\
         http_access deny all\n",
    ] {
        let read = read_with(&format!("{base}{text}"), &[]).unwrap();
        assert!(allowed(&read, "GET", "http://m/", "127.0.0.1").0, "{text}");
        assert!(!allowed(&read, "GET", "http://m/", "192.0.2.1").0, "{text}");
    }
}

#[test]
fn values_come_from_files_and_groups_compose() {
    let text = "http_port 3128\nacl mirrors dstdomain \"/mirrors.acl\"\nacl get method GET\n\
                acl both all-of mirrors get\nacl net src 10.0.0.0/255.0.0.0 192.0.2.1-192.0.2.9\n\
                acl who any-of net localhost\nhttp_access allow both who\n";
    let files = [(
        "/mirrors.acl",
        "# list\n\n.example.org # ours\nmirror.test\n",
    )];
    let read = read_with(text, &files).unwrap();
    for (method, url, client, wanted) in [
        ("GET", "http://a.example.org/", "10.1.1.1", true),
        ("GET", "http://mirror.test/", "192.0.2.5", true),
        ("GET", "http://mirror.test/", "192.0.2.10", false),
        ("POST", "http://mirror.test/", "10.1.1.1", false),
        ("GET", "http://other.test/", "10.1.1.1", false),
    ] {
        assert_eq!(
            allowed(&read, method, url, client).0,
            wanted,
            "{method} {url} {client}"
        );
    }
}

#[test]
fn without_a_match_the_last_line_is_inverted() {
    let read = read_with("http_port 1\nacl x src 10.0.0.1\nhttp_access deny x\n", &[]).unwrap();
    assert!(allowed(&read, "GET", "http://m/", "192.0.2.1").0);
    let said = notes(&read);
    assert!(
        said.iter().any(|note| note.contains("open proxy")),
        "{said:?}"
    );
    let none = read_with("http_port 1\n", &[]).unwrap();
    assert!(!allowed(&none, "GET", "http://m/", "127.0.0.1").0);
}

#[test]
fn obsolete_and_unapplied_words_are_noted_and_dangerous_ones_refused() {
    let read = good("dns_v4_first on\nvia off\nhttp_reply_access allow all\nssl_bump none all\n");
    let notes = notes(&read);
    // Two are about the whole: where objects go, and which are kept.
    assert!(notes[2].contains("dns_v4_first is obsolete"), "{notes:?}");
    assert!(notes[3].contains("via off is not applied yet"), "{notes:?}");
    assert_eq!(notes.len(), 6);
    for line in [
        "https_port 3129",
        "url_rewrite_program /usr/bin/squidGuard",
        "http_reply_access deny all",
        "miss_access deny all",
        "ssl_bump bump all",
        "follow_x_forwarded_for allow all",
        "icap_enable on",
    ] {
        let found = problems(&format!("http_port 3128\n{line}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains("not supported"), "{found:?}");
    }
}

#[test]
fn refresh_options_and_their_slips_are_read() {
    let read = good(
        "refresh_pattern -i \\.deb$ 0 20 99999999 override-lastmod reload-into-ins max-stale=60\n\
         refresh_pattern a.rpm$ 20 200% 10 ignore-auth\nmax_stale 2 days\n",
    );
    let first = &read.refresh[0];
    assert_eq!((first.percent, first.max), (20, 525_600 * 60));
    assert!(first.options.override_lastmod && !first.options.reload_into_ims);
    assert_eq!(first.options.max_stale, Some(60));
    assert_eq!(read.refresh[1].options.max_stale, Some(2 * 86_400));
    let notes = notes(&read).join("\n");
    for wanted in [
        "cut to between",
        "`reload-into-ins`",
        "min (20) is more",
        "`ignore-auth`",
    ] {
        assert!(notes.contains(wanted), "{wanted} in {notes}");
    }
}

#[test]
fn logs_helpers_and_parents_are_read() {
    let read = good(
        "access_log stdio:/l squid localhost\naccess_log none CONNECT\naccess_log /m common\n\
         store_id_program /usr/bin/perl /x.pl a\nstore_id_children 5 startup=1 concurrency=9\n\
         store_id_bypass off\nstore_id_extras \"%>a %rm\"\n\
         cache_peer up.example parent 3128 0 no-query default login=u:secret\n\
         never_direct allow all\n",
    );
    let logs = read.access_logs.as_ref().unwrap();
    assert_eq!(logs[0].destination, LogDestination::File("/l".into()));
    assert!(logs[0].access.is_some() && logs[2].access.is_none());
    assert_eq!(logs[1].destination, LogDestination::None);
    let StoreIdSource::Helper(helper) = &read.store_ids else {
        panic!("{:?}", read.store_ids)
    };
    assert_eq!(helper.command, ["/usr/bin/perl", "/x.pl", "a"]);
    assert_eq!(
        (helper.children, helper.concurrency, helper.bypass),
        (5, 9, false)
    );
    assert_eq!(helper.extras.as_deref(), Some("%>a %rm"));
    assert_eq!(
        read.peers[0].kind,
        PeerKind::Parent {
            login: Some(Secret("u:secret".into()))
        }
    );
    assert!(
        !format!("{read:?}").contains("secret"),
        "passwords are never shown"
    );
    assert!(read.never_direct.is_some());
}

#[test]
fn a_default_file_full_of_comments_is_read_quietly() {
    let mut text = String::from("http_port 3128\nhttp_access deny all\n");
    for n in 0..6000 {
        let comment = "{{ not a template }} <% as it is a comment %> ${X}";
        text.extend(["# ", &n.to_string(), ": ", comment, "\n#\n"]);
    }
    text.push_str("cache_mem 8 MB\ncache deny all\n");
    assert!(text.len() > 300_000);
    let read = read_with(&text, &[]).unwrap();
    assert_eq!((read.cache_mem, read.notes.len()), (Some(8 << 20), 0));
}

#[test]
fn octets_beyond_ascii_and_latin_1_are_no_problem() {
    let mut files = texts(&[]);
    let text = b"http_port 3128\n# caf\xe9\nhttp_access deny all # \xff\n".to_vec();
    files.0.insert("c".to_owned(), text);
    assert!(read("c", &files).is_ok());
}

/// What the byte soup is made of.
const WORDS: &[&str] = &[
    "acl",
    "http_access",
    "allow",
    "deny",
    "all",
    "!",
    "!x",
    "x",
    "src",
    "port",
    "80-",
    "url_regex",
    "-i",
    "[",
    "(",
    "\\",
    "\"",
    "'f'",
    "#",
    "\r\n",
    "\n",
    "\t",
    " ",
    "if",
    "else",
    "endif",
    "include",
    "*",
    "${service_name}",
    "${",
    "{{",
    "}}",
    "http_port",
    "3128",
    ":",
    "=",
    "refresh_pattern",
    ".",
    "0",
    "20%",
    "99999999999999999999",
    "-1",
    "cache_dir",
    "aufs",
    "cache_peer",
    "parent",
    "name=x",
    "store_id_program",
    "storeid_file_rewrite",
    "f",
    "é",
    "\u{0}",
    "access_log",
    "none",
    "all-of",
    "any-of",
    "max_stale",
    "weeks",
    "1e400",
];

#[test]
fn no_input_makes_the_reader_panic() {
    let files = texts(&[("f", "a\tb\n(\tc\n")]);
    let mut state = 42_u64;
    for _ in 0..3000 {
        let mut text = String::new();
        for _ in 0..40 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            text.push_str(WORDS[(state >> 33) as usize % WORDS.len()]);
            text.push_str(if state & (1 << 20) == 0 { " " } else { "" });
        }
        let mut files = Texts(files.0.clone());
        files.0.insert("c".to_owned(), text.into_bytes());
        if let Err(refused) = read("c", &files) {
            assert!(!refused.problems.is_empty());
        }
    }
}

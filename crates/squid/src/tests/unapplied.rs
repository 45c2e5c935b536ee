//! What is said of lines that Squid takes and larder applies in its own way or not at all.

use super::*;

/// What is said of lines that are good, each as `line severity text`; the head of the file is two
/// lines long, and what is said of every file without a cache_dir is left out.
fn said(text: &str) -> Vec<String> {
    let head = "http_port 3128\nhttp_access allow localhost\nmaximum_object_size 1 GB\n";
    let cache = "cache_dir aufs /c 1000 16 256\n";
    let read = read_with(&format!("{head}{cache}{text}"), &[]);
    let configuration = read.unwrap_or_else(|problems| panic!("{text}: {problems:#?}"));
    let said = configuration.notes.iter().map(|note| {
        let line = note.position.line - 4;
        format!("{line} {:?} {}", note.severity, note.text)
    });
    said.collect()
}

#[test]
fn old_names_mean_what_they_mean_in_squid() {
    let old = good("no_cache deny all\ncache_access_log stdio:/x/live.log\n");
    assert!(old.cache.is_some());
    let logs = old.access_logs.unwrap();
    assert_eq!(
        logs[0].destination,
        LogDestination::File("/x/live.log".to_owned())
    );
    assert_eq!(
        said("no_cache deny all\n"),
        ["1 Info no_cache is an old name of cache"]
    );
    let rules = ("/db", "a\tb\n");
    let text = "http_port 1\nstoreurl_rewrite_program /x/storeid_file_rewrite /db\n\
                acl a src 10.0.0.1\nstoreurl_rewrite_access deny a\n";
    let read = read_with(text, &[rules]).unwrap();
    assert!(matches!(read.store_ids, StoreIdSource::Rules(_)));
    assert!(read.store_id_access.is_some());
    assert_eq!(
        problems("http_port 1\nredirect_program /usr/bin/squidGuard\n"),
        [
            "squid.conf:2:1+16 `url_rewrite_program /usr/bin/squidGuard` is not supported | keep \
             that filter in front of larder, and remove the line here"
        ]
    );
    assert_eq!(good("ascii_port 3129\n").http_ports.len(), 2);
}

#[test]
fn lines_about_one_matter_are_one_note() {
    let delay = "delay_pools 1\ndelay_class 1 2\ndelay_access 1 allow localhost\n\
                 delay_parameters 1 -1/-1 100/100\n";
    assert_eq!(
        said(delay),
        [
            "1 Warning delay_pools, delay_class, delay_access, delay_parameters (4 lines) are not \
             applied yet"
        ]
    );
    assert_eq!(
        said("request_header_access Via deny all\nrequest_header_access From deny all\n"),
        ["1 Warning request_header_access (2 lines) is not applied yet"]
    );
    assert_eq!(
        said("dns_v4_first on\n"),
        ["1 Info dns_v4_first is obsolete: Squid ignores it, and so does larder"]
    );
    assert_eq!(
        said("pconn_timeout 1 minute\nupdate_headers on\nwccp_version 4\n").len(),
        4
    );
}

/// A line, and how what is said of it begins.
const WITHOUT_EFFECT: [(&str, &str); 34] = [
    (
        "quick_abort_min 0 KB",
        "1 Warning a download goes on to its end",
    ),
    ("quick_abort_min -1", "1 Info quick_abort_min -1: as larder"),
    ("forwarded_for delete", "1 Info forwarded_for has no effect"),
    ("max_stale 1 week", "1 Warning max_stale holds for what a"),
    ("cache_mem 256", "1 Warning `256` has no unit"),
    ("acl p proto HTTP FOO", "1 Warning `FOO` is no protocol"),
    (
        "cache_dir null /tmp",
        "1 Info a null cache_dir keeps nothing",
    ),
    ("via off", "1 Warning via off is not applied yet"),
    ("cache_log /x", "1 Info cache_log has no effect"),
    (
        "maximum_object_size_in_memory 8 KB",
        "1 Info maximum_object",
    ),
    (
        "url_rewrite_program none",
        "1 Info url_rewrite_program has no",
    ),
    (
        "icap_service s reqmod_precache icap://x",
        "1 Info icap_service has",
    ),
    ("icap_enable off", "1 Info icap_enable has no effect"),
    (
        "cache_dir aufs /d 900 16 256",
        "1 Warning only one cache_dir",
    ),
    ("cache_dir rock /d 2000", "0 Warning only one cache_dir"),
    (
        "cache_dir aufs /d 9 16 256 max-size=9",
        "1 Info `max-size` has",
    ),
    (
        "cache_dir aufs /d 9 16 256 foo=9",
        "1 Warning cache_dir has no option",
    ),
    (
        "cache_dir foo /d 100",
        "1 Warning there is no type of cache_dir",
    ),
    (
        "cache_replacement_policy heap lfuda",
        "1 Warning there is no `heap",
    ),
    ("dns_nameservers foo", "1 Warning `foo` is no address"),
    (
        "http_access ALLOW all",
        "1 Warning `ALLOW` is neither allow nor deny",
    ),
    ("http_access permit all", "1 Warning `permit` is neither"),
    (
        "http_access allow",
        "1 Warning `http_access allow` names no acl",
    ),
    ("http_access", "1 Warning http_access lacks"),
    ("cache foo all", "1 Warning `foo` is neither allow nor deny"),
    (
        "acl x src 10.0.0.9-10.0.0.1",
        "1 Warning `10.0.0.9-10.0.0.1` ends",
    ),
    (
        "cache_peer p parent 80 0 no-query ttl=3",
        "1 Info no effect in larder: ttl",
    ),
    (
        "cache_peer p parent 80 0 foo=1",
        "1 Warning cache_peer has no option `foo`",
    ),
    (
        "cache_peer p parent 80 0 round-robin",
        "1 Warning `round-robin` has no",
    ),
    (
        "cache_peer p parent 80 0 proxy-only",
        "1 Warning `proxy-only` has no",
    ),
    (
        "cache_peer p uncle 80 0",
        "1 Warning `uncle` is no type of peer",
    ),
    (
        "cache_peer_access p allow all",
        "1 Warning there is no cache_peer `p`",
    ),
    (
        "http_port 81 accel vhost",
        "1 Warning there is no cache_peer",
    ),
    (
        "http_port 81 no-vhost",
        "1 Warning allow-direct and no-vhost are",
    ),
];

#[test]
fn lines_without_effect_are_told() {
    for (line, wanted) in WITHOUT_EFFECT {
        let said = said(&format!("{line}\n"));
        assert!(
            said.iter().any(|note| note.starts_with(wanted)),
            "{line}: {said:#?}"
        );
    }
}

#[test]
fn what_would_open_access_is_refused() {
    for (line, wanted) in [
        (
            "http_access Deny all",
            "2:13+4 `Deny` is neither allow nor deny",
        ),
        ("http_access deny", "2:13+4 `http_access deny` names no acl"),
        (
            "acl t time 9:00-17:00\nhttp_access deny t",
            "3:18+1 `t` is of the type time",
        ),
        (
            "acl t time 9:00-17:00\nacl g any-of t\nhttp_access deny g",
            "4:18+1 `t` is of",
        ),
        (
            "http_port 84 accel defaultsite=bad_host!",
            "2:32+9 `bad_host!` is no host",
        ),
        (
            "http_port 84 require-proxy-header",
            "2:14+20 the PROXY protocol",
        ),
        ("icap_enable on", "2:1+11 `icap_enable on` is not supported"),
    ] {
        let found = problems(&format!("http_port 3128\n{line}\n"));
        assert_eq!(found.len(), 1, "{line}: {found:#?}");
        let wanted = format!("squid.conf:{wanted}");
        assert!(found[0].starts_with(&wanted), "{line}: {found:#?}");
    }
}

#[test]
fn a_line_that_cannot_be_decided_holds_for_nobody_and_keeps_its_place() {
    let text = "acl auth proxy_auth REQUIRED\nhttp_access deny CONNECT\nhttp_access allow auth\n";
    let read = read_with(&format!("http_port 3128\n{text}"), &[]).unwrap();
    // Were the line left out, the last one would deny, and everything else be allowed.
    assert!(!allowed(&read, "GET", "http://x.example/", "10.0.0.1").0);
    let said = notes(&read);
    for wanted in [
        "squid.conf:4 Warning this line holds for no request: `auth` is of the type proxy_auth",
        "squid.conf:1 Warning no http_access line allows anything: every request is denied",
    ] {
        assert!(
            said.iter().any(|note| note.starts_with(wanted)),
            "{said:#?}"
        );
    }
    let logged = good("acl t time 9:00-17:00\naccess_log stdio:/x t\n");
    assert_eq!(logged.access_logs.unwrap().len(), 1);
}

#[test]
fn a_default_file_says_where_objects_go_and_which_are_kept() {
    let read = |text: &str| {
        let text = format!("http_port 3128\nhttp_access allow localhost\n{text}");
        notes(&read_with(&text, &[]).unwrap())
    };
    let default = read("");
    assert!(
        default[0].contains("larder keeps 256 MB of them"),
        "{default:#?}"
    );
    assert!(
        default[1].contains("objects over 4 MB are not kept"),
        "{default:#?}"
    );
    assert_eq!(read("cache deny all\n"), Vec::<String>::new());
    let null = read("maximum_object_size 1 GB\ncache_mem 1 GB\ncache_dir null /tmp\n");
    assert_eq!(null.len(), 1);
    assert!(
        null[0].starts_with("squid.conf:5 Warning without cache_dir Squid"),
        "{null:#?}"
    );
    assert!(null[0].contains("1024 MB"), "{null:#?}");
    let denied = notes(&read_with("http_port 3128\ncache deny all\n", &[]).unwrap());
    assert_eq!(
        denied,
        ["squid.conf:1 Warning there is no http_access: every request is denied"]
    );
}

#[test]
fn ports_and_peers_that_change_where_requests_go() {
    let mode = |line: &str| good(line).http_ports[1].mode.clone();
    let PortMode::Accelerator(own) = mode("http_port 8080 accel vport\n") else {
        panic!("no accelerator");
    };
    assert_eq!(own.vport, Some(8080));
    let PortMode::Accelerator(direct) = mode("http_port 8080 accel allow-direct\n") else {
        panic!("no accelerator");
    };
    assert!(direct.allow_direct && direct.vport.is_none());
}

#[test]
fn problems_come_with_the_notes() {
    let files = texts(&[("c", "http_port 1\nfrobnicate\ndelay_pools 1\n")]);
    let refused = read("c", &files).unwrap_err();
    assert_eq!(refused.problems.len(), 1);
    assert!(
        refused
            .notes
            .iter()
            .any(|note| note.text.starts_with("delay_pools"))
    );
}

/// A default file is 300 KB of comments with a few live lines; it is read in the time of its live
/// lines, whatever is said of them.
#[test]
fn a_long_default_file_is_read_like_a_short_one() {
    let comment = format!("#  TAG: something\n#\t{}\n", "words ".repeat(20));
    let long = format!(
        "{}http_port 3128\nhttp_access deny all\n{}",
        comment.repeat(1500),
        comment.repeat(1500)
    );
    assert!(long.len() > 300_000);
    let read = read_with(&long, &[]).unwrap();
    assert_eq!(read.http_ports[0].position.line, 3001);
}

//! Request by request what matchbox answers, byte for byte, and what larder adds: each case is
//! named for the rule that only it reaches. The data directory is `tests/matchbox`.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and tables are long"
)]

use std::{net::SocketAddr, path::Path, sync::Arc};

use http::Request;
use http_body_util::BodyExt;
use larder_provision::{Compat, Config, Provision};

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const GONE: &str = "404 page not found\n";

/// One request and its answer.
struct Case {
    rule: &'static str,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    status: u16,
    media_type: &'static str,
    body: &'static str,
    /// Other headers of the answer, in lower case.
    also: &'static [(&'static str, &'static str)],
}

const fn ok(rule: &'static str, path: &'static str, body: &'static str) -> Case {
    Case {
        rule,
        path,
        headers: &[],
        status: 200,
        media_type: PLAIN,
        body,
        also: &[],
    }
}

const fn gone(
    rule: &'static str,
    path: &'static str,
    reason: &'static [(&'static str, &'static str)],
) -> Case {
    Case {
        rule,
        path,
        headers: &[],
        status: 404,
        media_type: PLAIN,
        body: GONE,
        also: reason,
    }
}

fn config(directory: &tempfile::TempDir) -> Config {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/matchbox");
    Config {
        assets: Some(data.join("assets")),
        data,
        state: Some(directory.path().join("machines")),
        ..Config::default()
    }
}

fn client() -> SocketAddr {
    "192.0.2.7:4711".parse().unwrap()
}

async fn ask(
    provision: &Arc<Provision>,
    method: &str,
    case: &Case,
) -> (u16, http::HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(case.path);
    for (name, value) in case.headers {
        request = request.header(*name, *value);
    }
    let response = provision.answer(&request.body(()).unwrap(), client()).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (
        parts.status.as_u16(),
        parts.headers,
        String::from_utf8_lossy(&body).into_owned(),
    )
}

async fn check(config: Config, cases: &[Case]) {
    let provision = Provision::open(config, None).unwrap();
    let mut wrong = Vec::new();
    for case in cases {
        let (status, headers, body) = ask(&provision, "GET", case).await;
        let value = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let media_type = value("content-type").unwrap_or_default();
        let mut differs =
            status != case.status || media_type != case.media_type || body != case.body;
        for (name, wanted) in case.also {
            let got = value(name);
            differs |= match wanted.strip_suffix('*') {
                Some(start) => !got.is_some_and(|got| got.starts_with(start)),
                None => got.as_deref() != Some(*wanted),
            };
        }
        let length = value("content-length").map(|length| length.parse::<usize>().unwrap());
        differs |= length.is_some_and(|length| length != body.len());
        if differs {
            let Case { rule, path, .. } = case;
            wrong.push(format!(
                "{rule}: {path}\n  {status} {media_type} {headers:?}\n  {body:?}"
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

const DEFAULT_IPXE: &str =
    "#!ipxe\nkernel /assets/vmlinuz console=ttyS0,115200 quiet\ninitrd /assets/initrd.img\nboot\n";
const TWO_IPXE: &str = "#!ipxe\nkernel http://mirror.example/vmlinuz uuid=${uuid} mac=${mac:hexhyp}\n\
                        initrd --name main http://mirror.example/initrd.img\ninitrd /assets/extra.img\nboot\n";
const MEMTEST_IPXE: &str = "#!ipxe\nkernel /assets/memtest\nboot\n";

#[tokio::test]
async fn scripts_are_matchbox_scripts() {
    let directory = tempfile::tempdir().unwrap();
    check(config(&directory), &[
        ok("the home page names matchbox", "/", "matchbox\n"),
        ok(
            "iPXE is asked who it is",
            "/boot.ipxe",
            "#!ipxe\nchain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}\
             &serial=${serial}&arch=${buildarch:uristring}\n",
        ),
        ok(
            "old DHCP servers append .0",
            "/boot.ipxe.0?x=y",
            "#!ipxe\nchain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}\
             &serial=${serial}&arch=${buildarch:uristring}\n",
        ),
        ok("no label selects the default group", "/ipxe", DEFAULT_IPXE),
        ok("labels that no group knows select the default group", "/ipxe?color=red", DEFAULT_IPXE),
        ok("every initrd has its line and arguments stay raw", "/ipxe?want=two-initrds", TWO_IPXE),
        ok("no initrd, no line", "/ipxe?want=no-initrd", MEMTEST_IPXE),
        ok("an empty boot section boots nothing", "/ipxe?want=empty-boot", "#!ipxe\nkernel \nboot\n"),
        ok("the argument object before 0.7 is ignored", "/ipxe?want=old-cmdline", "#!ipxe\nkernel /k\ninitrd /i\nboot\n"),
        ok("a profile is found by its file's name", "/ipxe?want=file-name", "#!ipxe\nkernel /by-file-name\nboot\n"),
        ok(
            "GRUB gets an entry for each firmware",
            "/grub?want=two-initrds",
            "default=0\nfallback=1\ntimeout=1\nmenuentry \"CoreOS (EFI)\" {\necho \"Loading kernel\"\n\
             linuxefi \"http://mirror.example/vmlinuz\" uuid=${uuid} mac=${mac:hexhyp}\n\
             echo \"Loading initrd\"\ninitrdefi  \"--name main http://mirror.example/initrd.img\" \"/assets/extra.img\"\n}\n\
             menuentry \"CoreOS (BIOS)\" {\necho \"Loading kernel\"\n\
             linux \"http://mirror.example/vmlinuz\" uuid=${uuid} mac=${mac:hexhyp}\n\
             echo \"Loading initrd\"\ninitrd  \"--name main http://mirror.example/initrd.img\" \"/assets/extra.img\"\n}\n",
        ),
        gone("an unknown page is Go's 404", "/nothing", &[
            ("x-content-type-options", "nosniff"),
            ("x-larder-reason", "no page \"/nothing\" here"),
        ]),
        gone("an endpoint has no final slash", "/ipxe/", &[]),
        gone("a profile without boot has no script", "/ipxe?want=no-boot", &[
            ("x-larder-reason", "profile \"no-boot\" has no boot section"),
        ]),
        gone("nor a GRUB entry", "/grub?want=no-boot", &[]),
        gone("a missing profile is named", "/ipxe?want=absent", &[
            ("x-larder-reason", "group \"want-absent\" names the profile \"absent\": open*"),
        ]),
        gone("a broken profile is a missing one", "/ipxe?want=bad", &[]),
        gone("a profile needs an id", "/ipxe?want=no-id", &[]),
        gone("signatures need a key", "/ipxe.sig", &[]),
    ])
    .await;
}

#[tokio::test]
async fn selection_is_matchbox_selection() {
    let directory = tempfile::tempdir().unwrap();
    let default = || ok("", "", DEFAULT_IPXE);
    check(
        config(&directory),
        &[
            ok(
                "a hexhyp mac equals a colon mac",
                "/ipxe?mac=52-54-00-aa-00-01",
                "#!ipxe\nkernel /k\ninitrd /i\nboot\n",
            ),
            ok(
                "a mac in upper case too",
                "/ipxe?mac=52:54:00:AA:00:01",
                "#!ipxe\nkernel /k\ninitrd /i\nboot\n",
            ),
            ok(
                "a mac in dots too",
                "/ipxe?mac=5254.00aa.0001",
                "#!ipxe\nkernel /k\ninitrd /i\nboot\n",
            ),
            ok(
                "more selectors win",
                "/ipxe?mac=52-54-00-aa-00-01&os=installed",
                MEMTEST_IPXE,
            ),
            Case {
                rule: "a mac that is none is dropped",
                path: "/ipxe?mac=52-54-00-aa-00",
                ..default()
            },
            Case {
                rule: "names of labels have a case",
                path: "/ipxe?Want=no-initrd",
                ..default()
            },
            Case {
                rule: "values of labels have a case",
                path: "/ipxe?uuid=abc-1",
                ..default()
            },
            Case {
                rule: "the first value counts",
                path: "/ipxe?want=default&want=no-initrd",
                ..default()
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn ties_and_odd_queries_are_settled_as_matchbox_settles_them() {
    let directory = tempfile::tempdir().unwrap();
    let default = || ok("", "", DEFAULT_IPXE);
    check(
        config(&directory),
        &[
            ok(
                "of two of as many selectors the greater text wins",
                "/ipxe?rack=1&zone=1",
                MEMTEST_IPXE,
            ),
            ok(
                "of two equal ones the smaller id",
                "/ipxe?twin=yes",
                TWO_IPXE,
            ),
            ok(
                "an empty selector matches an absent label",
                "/ipxe?blank=1",
                MEMTEST_IPXE,
            ),
            Case {
                rule: "and no label that has a value",
                path: "/ipxe?blank=1&os=installed",
                ..default()
            },
            Case {
                rule: "sub-directories hold no groups",
                path: "/ipxe?sub=1",
                ..default()
            },
            ok(
                "plus is a blank and escapes are decoded",
                "/ipxe?want=no%2Dinitrd",
                MEMTEST_IPXE,
            ),
            Case {
                rule: "a broken escape drops its pair",
                path: "/ipxe?want=%zz",
                ..default()
            },
            Case {
                rule: "a semicolon drops its pair",
                path: "/ipxe?want=no-initrd;x",
                ..default()
            },
        ],
    )
    .await;
}

#[tokio::test]
async fn templates_see_metadata_selectors_and_the_request() {
    let directory = tempfile::tempdir().unwrap();
    let kickstart = "url --url=http://mirror.example/centos/9/os/\nnetwork --hostname=node1.example\n\
                     selinux --enforcing\npart / --size=40\n%packages\nvim\ncurl\n%end\n%post\n\
                     curl -X POST http://larder:8080/done?mac=52:54:00:aa:00:01\n%end\n# mac=52-54-00-aa-00-01\n";
    let ranged = |rule, range: &'static [(&'static str, &'static str)], status, body| Case {
        rule,
        path: "/generic?want=no-boot",
        headers: range,
        status,
        media_type: PLAIN,
        body,
        also: &[],
    };
    check(config(&directory), &[
        Case { also: &[("accept-ranges", "bytes")], ..ok("a kickstart is rendered", "/generic?mac=52-54-00-aa-00-01", kickstart) },
        ok("a profile without boot has its generic", "/generic?want=no-boot", "plain no-boot\n"),
        Case { media_type: HTML, ..ok("the type is sniffed, a selector hides metadata", "/generic?Rack=7", "<b>7</b>") },
        Case { media_type: "application/octet-stream", ..ok("bytes stay bytes", "/generic?want=binary", "\u{0}\u{1}\u{2}") },
        Case { also: &[("content-range", "bytes 6-12/14")], ..ranged("a range", &[("range", "bytes=6-12")], 206, "no-boot") },
        ranged("a range beyond the end", &[("range", "bytes=99-")], 416, "invalid range: failed to overlap\n"),
        ranged("a range that is none", &[("range", "bytes=b-a")], 416, "invalid range\n"),
        gone("a missing key is an error", "/generic?want=missing-key", &[("x-larder-reason", "template \"missing.txt\": map has no entry for key: no_such_key")]),
        gone("an open block sends nothing of the file", "/generic?want=broken-template", &[("x-larder-reason", "template \"broken.txt\":*")]),
        gone("a profile that names no generic", "/generic", &[("x-larder-reason", "profile \"default\" names no generic file")]),
        gone("a name that leaves its directory", "/generic?want=traversal", &[("x-larder-reason", "generic name \"../profiles/default.json\" leaves its directory")]),
        Case { also: &[("accept-ranges", "bytes")], ..ok("a cloud-config", "/cloud?uuid=Abc-1", "#cloud-config\nssh_authorized_keys:\n  - ssh-ed25519 AAAA\n") },
        ok("a script as user data", "/cloud?want=cloud-script", "#!/bin/sh\necho cloud-script\n"),
        gone("user data that is neither", "/cloud?want=cloud-wrong", &[("x-larder-reason", "cloud file \"wrong.txt\" starts*")]),
        gone("a cloud-config that is no YAML", "/cloud?want=cloud-broken", &[]),
        gone("a cloud-config with a missing key", "/cloud?want=missing-key", &[]),
        Case { media_type: "plain/text", ..ok("metadata of a default group is the request's", "/metadata", "REQUEST_RAW_QUERY=\n") },
        Case {
            media_type: "plain/text",
            ..ok(
                "metadata are lines of leaves, nested names joined, lists and null left out",
                "/metadata?mac=52-54-00-aa-00-01&x=a+b",
                "DISK_GB=40\nHOSTNAME=node1.example\nMAC=52:54:00:aa:00:01\nNESTED_A_B=deep\nNESTED_N=1e+06\n\
                 REPO=http://mirror.example/centos/9/os\nREQUEST_QUERY_MAC=52:54:00:aa:00:01\nREQUEST_QUERY_X=a b\n\
                 REQUEST_RAW_QUERY=mac=52-54-00-aa-00-01&x=a+b\nSELINUX=true\n",
            )
        },
        Case { media_type: "plain/text", ..ok("metadata need no profile", "/metadata?want=absent", "REQUEST_QUERY_WANT=absent\nREQUEST_RAW_QUERY=want=absent\nWANT=absent\nWHO=absent\n") },
    ])
    .await;
}

#[tokio::test]
async fn ignition_is_sent_as_it_is_or_refused() {
    const JSON: &str = "application/json";
    let directory = tempfile::tempdir().unwrap();
    check(config(&directory), &[
        Case { media_type: JSON, ..ok("raw 3.x keeps its bytes and is no template", "/ignition?want=raw3",
            "{\"ignition\": {\"version\": \"3.3.0\"},\n  \"storage\": {\"files\": [{\"path\": \"/etc/hostname\", \"contents\": {\"source\": \"data:,{{.not}}\"}}]}}\n") },
        Case { media_type: JSON, ..ok("raw 2.x too", "/ignition?want=raw2",
            "{\"ignition\":{\"version\":\"2.2.0\"},\"systemd\":{\"units\":[{\"name\":\"a.service\",\"enable\":true}]}}") },
        Case { media_type: JSON, ..ok("another name is a template", "/ignition?want=templated-ignition",
            "{\"ignition\":{\"version\":\"3.4.0\"},\"storage\":{\"files\":[{\"path\":\"/etc/templated-ignition\"}]}}") },
        gone("broken JSON is refused", "/ignition?want=broken-ignition", &[("x-larder-reason", "ignition file \"broken.ign\" is not JSON:*")]),
        gone("an unknown version is refused", "/ignition?want=future-ignition", &[("x-larder-reason", "ignition file \"future.ign\" has the version 3.99.0*")]),
        gone("Butane names its transpiler", "/ignition?want=butane", &[("x-larder-reason", "ignition file \"butane.yaml\" is a Butane config: run `butane*")]),
        gone("a Container Linux Config names its own", "/ignition?want=clc", &[("x-larder-reason", "ignition file \"clc.yaml.tmpl\" is a Container Linux Config*")]),
        gone("a missing file", "/ignition?want=gone-ignition", &[("x-larder-reason", "open *")]),
        gone("a profile that names none", "/ignition", &[("x-larder-reason", "profile \"default\" names no ignition file")]),
    ])
    .await;
}

#[tokio::test]
async fn assets_are_served_as_go_serves_files() {
    let directory = tempfile::tempdir().unwrap();
    let moved = |rule, path, location: &'static [(&'static str, &'static str)], body| Case {
        rule,
        path,
        headers: &[],
        status: 301,
        media_type: HTML,
        body,
        also: location,
    };
    check(config(&directory), &[
        Case { also: &[("accept-ranges", "bytes"), ("last-modified", "*")], ..ok("a file, sniffed", "/assets/vmlinuz", "0123456789kernel") },
        Case { media_type: "text/css; charset=utf-8", ..ok("a file, by its extension", "/assets/style.css", "a { }\n") },
        Case { headers: &[("range", "bytes=-0")], status: 206, also: &[("content-range", "bytes 16-15/16"), ("content-length", "0")], ..ok("the last no bytes, as Go answers them", "/assets/vmlinuz", "") },
        Case { headers: &[("range", "bytes=-6")], status: 206, also: &[("content-range", "bytes 10-15/16")], ..ok("a suffix", "/assets/vmlinuz", "kernel") },
        Case { headers: &[("range", "bytes=0-3"), ("if-range", "Thu, 01 Jan 1970 00:00:00 GMT")], ..ok("If-Range of another state", "/assets/vmlinuz", "0123456789kernel") },
        Case { headers: &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], status: 304, media_type: "", ..ok("unchanged", "/assets/vmlinuz", "") },
        Case { headers: &[("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], status: 412, media_type: "", ..ok("changed", "/assets/vmlinuz", "") },
        Case { headers: &[("if-none-match", "\"x\""), ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], ..ok("a tag that is not ours goes before the date", "/assets/vmlinuz", "0123456789kernel") },
        Case { headers: &[("if-none-match", "*")], status: 304, media_type: "", ..ok("any state will do", "/assets/vmlinuz", "") },
        Case { headers: &[("if-match", "\"x\""), ("if-unmodified-since", "Fri, 01 Jan 2100 00:00:00 GMT")], status: 412, media_type: "", ..ok("another state is wanted", "/assets/vmlinuz", "") },
        Case { headers: &[("if-match", "*"), ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT")], ..ok("any state is wanted", "/assets/vmlinuz", "0123456789kernel") },
        Case { media_type: HTML, ..ok("a directory is listed", "/assets/dir/", "<pre>\n<a href=\"a%20&%20b.txt\">a &amp; b.txt</a>\n<a href=\"sub/\">sub/</a>\n</pre>\n") },
        Case { media_type: HTML, ..ok("or answered by its index", "/assets/indexed/", "<p>index</p>\n") },
        ok("names are decoded", "/assets/dir/a%20%26%20b.txt", "text\n"),
        Case { media_type: "", ..moved("an index moves to its directory", "/assets/indexed/index.html", &[("location", "./")], "") },
        Case { media_type: "", ..moved("a directory without its slash moves", "/assets/dir", &[("location", "dir/")], "") },
        Case { media_type: "", ..moved("a file with a slash moves, and its query too", "/assets/vmlinuz/?a=b", &[("location", "../vmlinuz?a=b")], "") },
        moved("the root without its slash moves", "/assets?a=b", &[("location", "/assets/?a=b")], "<a href=\"/assets/?a=b\">Moved Permanently</a>.\n\n"),
        moved("an unclean path moves", "/assets/x/..//vmlinuz", &[("location", "/assets/vmlinuz")], "<a href=\"/assets/vmlinuz\">Moved Permanently</a>.\n\n"),
        moved("dots in escapes too", "/assets/%2e%2e/%2e%2e/etc/passwd", &[("location", "/etc/passwd")], "<a href=\"/etc/passwd\">Moved Permanently</a>.\n\n"),
        gone("a missing file", "/assets/none", &[("x-larder-reason", "no asset \"none\"")]),
        gone("a NUL in a name", "/assets/a%00b", &[]),
    ])
    .await;
}

#[tokio::test]
async fn installers_are_known_by_their_headers() {
    const NEVER: &[(&str, &str)] = &[("cache-control", "no-store, private")];
    let directory = tempfile::tempdir().unwrap();
    let kickstart = "url --url=http://mirror.example/centos/9/os/\nnetwork --hostname=node1.example\n\
                     selinux --enforcing\npart / --size=40\n%packages\nvim\ncurl\n%end\n%post\n\
                     curl -X POST http://larder:8080/done?mac=52:54:00:aa:00:01\n%end\n# \n";
    check(
        config(&directory),
        &[
            Case {
                headers: &[("X-RHN-Provisioning-MAC-0", "eth0 52:54:00:aa:00:01")],
                also: NEVER,
                ..ok("by the interface's address", "/kickstart", kickstart)
            },
            Case {
                headers: &[
                    ("X-RHN-Provisioning-MAC-0", "eth0 52:54:00:bb:00:01"),
                    ("X-RHN-Provisioning-MAC-1", "eth1 52:54:00:aa:00:01"),
                ],
                also: NEVER,
                ..ok(
                    "by the interface that a group selects",
                    "/preseed",
                    kickstart,
                )
            },
            Case {
                also: NEVER,
                ..ok(
                    "by the seed directory's path",
                    "/autoinstall/mac=52-54-00-aa-00-01/user-data",
                    kickstart,
                )
            },
            Case {
                also: NEVER,
                ..ok(
                    "cloud-init asks who it is",
                    "/autoinstall/mac=52-54-00-aa-00-01/meta-data",
                    "instance-id: \"node1\"\n",
                )
            },
            Case {
                also: NEVER,
                ..ok("and for nothing else", "/autoinstall/vendor-data", "")
            },
            gone("a refusal is not cached either", "/kickstart", NEVER),
            ok(
                "a script of one's own knows the machine",
                "/script/rescue.ipxe?mac=52-54-00-aa-00-01",
                "#!ipxe\necho rescue node1.example\nshell\n",
            ),
            ok(
                "and strangers",
                "/script/rescue.ipxe",
                "#!ipxe\necho rescue stranger\nshell\n",
            ),
            gone("a script that is missing", "/script/none", &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_older_release_differs_where_it_did() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        compat: Compat::V0_7,
        assets: None,
        ..config(&directory)
    };
    check(config, &[
        ok(
            "0.7 asks for no architecture",
            "/boot.ipxe",
            "#!ipxe\nchain ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain}&hostname=${hostname}&serial=${serial}\n",
        ),
        ok("0.7 splits at semicolons", "/ipxe?a=b;want=no-initrd", MEMTEST_IPXE),
        gone("assets can be off", "/assets/vmlinuz", &[]),
    ])
    .await;
}

#[tokio::test]
async fn initrd_arguments_and_rewriting_are_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = Config {
        initrd_args: true,
        ..config(&directory)
    };
    config.rewrite.enabled = true;
    config.rewrite.base = "http://10.0.0.2:3128".to_owned();
    check(config, &[ok(
        "URLs lead through the cache and UEFI kernels find their initrds",
        "/ipxe?want=two-initrds",
        "#!ipxe\nkernel http://10.0.0.2:3128/http/mirror.example/vmlinuz uuid=${uuid} mac=${mac:hexhyp} initrd=main initrd=extra.img\n\
         initrd --name main http://10.0.0.2:3128/http/mirror.example/initrd.img\ninitrd /assets/extra.img\nboot\n",
    )])
    .await;
}

#[tokio::test]
async fn a_machine_installs_once_and_again_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        install_once: true,
        ..config(&directory)
    };
    let script = ok("", "/ipxe?mac=52-54-00-aa-00-01", "");
    let done = Case {
        path: "/done?mac=52-54-00-aa-00-01",
        ..ok("", "", "")
    };
    let installer = "#!ipxe\nkernel /k\ninitrd /i\nboot\n";
    let provision = Provision::open(config.clone(), None).unwrap();
    assert_eq!(ask(&provision, "GET", &script).await.2, installer);
    assert_eq!(
        ask(&provision, "GET", &script).await.2,
        installer,
        "a reboot amid it installs again"
    );
    assert_eq!(
        ask(&provision, "GET", &done).await.0,
        405,
        "asking is not saying"
    );
    assert_eq!(
        ask(
            &provision,
            "POST",
            &Case {
                path: "/done?mac=x",
                ..ok("", "", "")
            }
        )
        .await
        .0,
        400
    );
    assert_eq!(ask(&provision, "POST", &done).await.0, 200);
    drop(provision);
    let provision = Provision::open(config, None).unwrap();
    let (_, headers, local) = ask(&provision, "GET", &script).await;
    assert!(
        local.contains("sanboot --no-describe --drive 0x80 || exit\n"),
        "{local}"
    );
    assert_eq!(headers["cache-control"], "no-store, private");
    let grub = Case {
        path: "/grub?mac=52-54-00-aa-00-01",
        ..ok("", "", "")
    };
    assert!(ask(&provision, "GET", &grub).await.2.contains("exit\n"));
    let mac = larder_provision::Mac::parse("52:54:00:aa:00:01").unwrap();
    provision.machines().reinstall(&mac).unwrap();
    assert_eq!(ask(&provision, "GET", &script).await.2, installer);
}

#[tokio::test]
async fn a_timeline_shows_every_step_and_every_refusal() {
    let directory = tempfile::tempdir().unwrap();
    let provision = Provision::open(config(&directory), None).unwrap();
    for path in [
        "/boot.ipxe?mac=52-54-00-aa-00-01",
        "/ipxe?mac=52-54-00-aa-00-01",
        "/assets/vmlinuz",
        "/kickstart",
        "/ignition",
    ] {
        ask(
            &provision,
            "GET",
            &Case {
                path,
                ..ok("", "", "")
            },
        )
        .await;
    }
    let machines = provision.snapshot().machines;
    let mac = larder_provision::Mac::parse("52:54:00:aa:00:01").unwrap();
    let steps: Vec<&str> = machines[&mac]
        .events
        .iter()
        .map(|event| event.step.as_str())
        .collect();
    assert_eq!(
        steps,
        ["script", "boot", "kernel", "refused", "refused"],
        "the address tells who asks"
    );
    let last = machines[&mac].events.back().unwrap();
    assert!(
        last.detail.contains("names no ignition file"),
        "{}",
        last.detail
    );
}

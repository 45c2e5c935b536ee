//! Tests of the words' grammar.

use super::*;
use std::cell::RefCell;

use crate::words::rules::UniqueRoot;

fn no_files(_: &Path) -> std::io::Result<Vec<(String, String)>> {
    Err(std::io::ErrorKind::NotFound.into())
}

fn read(words: &[&str]) -> Result<Rules, String> {
    let owned: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    command_line(&owned, &no_files).map_err(|error| error.to_string())
}

fn refused(word: &str) -> String {
    read(&[word]).unwrap_err()
}

#[test]
fn a_range_with_addresses_is_refused_with_the_proxy_form() {
    let reason = refused("--dhcp-range=10.0.0.50,10.0.0.99,12h");
    assert!(reason.contains("dhcp-range=10.0.0.50,proxy"), "{reason}");
    assert!(refused("--dhcp-range=10.0.0.0,static").contains("proxy"));
    assert!(refused("--dhcp-range=nonsense,proxy").contains("no IPv4 address"));
}

#[test]
fn every_written_form_of_a_proxy_range_loads() {
    let rules = read(&[
        "--dhcp-range=10.0.0.1,proxy",
        "--dhcp-range=10.0.0.1 , proxy, 255.255.0.0",
        "--dhcp-range=set:x,10.0.0.1,proxy,255.255.255.0,10.0.0.255",
        "--dhcp-range=tag:eth1,0.0.0.0,proxy",
        "--dhcp-range=lan,10.0.0.1,proxy",
    ]);
    let ranges = rules.unwrap().ranges;
    assert_eq!(ranges[1].mask, Some(Ipv4Addr::new(255, 255, 0, 0)));
    assert_eq!(ranges[2].sets.as_deref(), Some("x"));
    assert_eq!(ranges[3].conditions[0].tag, "eth1");
    assert_eq!(ranges[4].sets.as_deref(), Some("lan"));
}

#[test]
fn services_are_numbered_in_order_over_all_architectures() {
    let rules = read(&[
        "--pxe-service=X86PC, Install , pxelinux",
        "--pxe-service=tag:!a,net:#b,x86-64_EFI,Boot,boot.efi,10.0.0.9",
        "--pxe-service=0,Local",
        "--pxe-service=x86PC,Type,15,10.0.0.3",
        "--pxe-service=6,More,more",
    ]);
    let services = rules.unwrap().services;
    let kinds: Vec<u16> = services.iter().map(|service| service.kind).collect();
    assert_eq!(kinds, [0x8000, 0x8001, 0, 15, 0x8002]);
    assert_eq!(services[0].file.as_deref(), Some("pxelinux"));
    assert_eq!(services[0].text, "Install");
    assert!(
        services[1]
            .conditions
            .iter()
            .all(|condition| condition.is_negated)
    );
    assert_eq!(services[1].address(), Some(Ipv4Addr::new(10, 0, 0, 9)));
    assert_eq!(services[3].file, None);
}

#[test]
fn wrong_services_are_refused() {
    assert!(refused("--pxe-service=sparc,Boot,x").contains("no architecture"));
    assert!(refused("--pxe-service=x86PC").contains("needs an architecture and a menu text"));
}

#[test]
fn old_spellings_of_tags_set_tags() {
    let rules = read(&[
        "--dhcp-match=ipxe,175",
        "--dhcp-match=net:efi,93,7",
        "--dhcp-vendorclass=BIOS,PXEClient:Arch:00000",
        "--dhcp-userclass=set:ipxe,iPXE",
        "--dhcp-vendorclass=set:x,enterprise:343,text",
    ]);
    let tags: Vec<String> = rules
        .unwrap()
        .tag_rules
        .into_iter()
        .map(|rule| rule.tag)
        .collect();
    assert_eq!(tags, ["ipxe", "efi", "BIOS", "ipxe", "x"]);
}

#[test]
fn words_about_other_things_are_noted() {
    let rules = read(&[
        "--server=10.0.0.1",
        "--dhcp-authoritative",
        "--enable-ra",
        "--dhcp-option=3,10.0.0.1",
    ]);
    let notes = rules.unwrap().notes;
    let words: Vec<&str> = notes.iter().map(|note| note.word.as_str()).collect();
    assert_eq!(
        words,
        [
            "port",
            "server",
            "dhcp-authoritative",
            "enable-ra",
            "dhcp-option"
        ]
    );
}

#[test]
fn that_dns_is_not_served_is_said_unless_the_port_is_zero() {
    assert_eq!(read(&["-d"]).unwrap().notes.len(), 1);
    assert_eq!(read(&["-d", "--port=0"]).unwrap().notes.len(), 0);
    assert_eq!(read(&["-p0"]).unwrap().notes.len(), 0);
}

#[test]
fn the_words_that_start_scripts_use_are_taken() {
    let words = [
        "-d",
        "-k",
        "-q",
        "--port=0",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--group=root",
        "--no-daemon",
        "--log-facility=-",
        "--log-queries",
        "--log-dhcp",
        "--bind-interfaces",
        "--interface=eth0",
        "--except-interface",
        "lo",
    ];
    let rules = read(&words).unwrap();
    assert_eq!(rules.interfaces, ["eth0"]);
    assert_eq!(rules.except_interfaces, ["lo"]);
    assert_eq!(rules.notes, []);
}

#[test]
fn files_are_included_but_not_in_circles() {
    let endless = |path: &Path| {
        Ok(vec![(
            path.display().to_string(),
            "conf-file=/a".to_owned(),
        )])
    };
    let error = file("f", "conf-file=/a\n", &endless).unwrap_err();
    assert!(error.reason.contains("circle"));
    let one = |_: &Path| Ok(vec![("b".to_owned(), "pxe-prompt=x\n".to_owned())]);
    assert!(file("f", "port=0\nconf-dir=/b\n", &one).unwrap().is_pxe);
    let missing = file("f", "\nconf-file=/nowhere\n", &no_files).unwrap_err();
    assert_eq!(missing.position.to_string(), "f:2");
}

#[test]
fn of_a_folder_the_files_with_the_wanted_ends_are_read() {
    let folder = |_: &Path| {
        let names = [
            "a.conf",
            "b.bak",
            "README",
            ".hidden.conf",
            "c.conf~",
            "#d.conf#",
        ];
        let content = |name: &&str| (format!("/d/{name}"), format!("tftp-root=/{name}\n"));
        Ok(names
            .iter()
            .map(content)
            .chain([("/d/.conf".to_owned(), "bogus".to_owned())])
            .collect())
    };
    let read = |value: &str| {
        let rules = file("f", &format!("conf-dir={value}\n"), &folder);
        rules.map(|rules| rules.tftp.root.map(|root| root.display().to_string()))
    };
    let last = |name: &str| Ok(Some(format!("/{name}")));
    assert_eq!(read("/d"), last("README"));
    assert_eq!(read("/d/,*.conf"), last("a.conf"));
    assert_eq!(read("/d, EADME"), last("b.bak"));
    assert_eq!(read("/d,EADME,.bak"), last("a.conf"));
    assert_eq!(read("/d,*.none"), Ok(None));
    assert_eq!(read("/d,*"), last("README"));
}

#[test]
fn tftp_words_are_kept() {
    let rules = read(&[
        "--enable-tftp=eth0",
        "--tftp-root=/srv/tftp",
        "--tftp-root=/srv/other,eth1",
        "--tftp-port-range=4010,4000",
        "--tftp-no-fail",
    ]);
    let tftp = rules.unwrap().tftp;
    assert!(tftp.is_enabled && tftp.may_root_be_missing);
    assert_eq!(tftp.interfaces, ["eth0"]);
    assert_eq!(tftp.root.as_deref(), Some(Path::new("/srv/tftp")));
    assert_eq!(
        tftp.roots_by_link,
        [("eth1".to_owned(), "/srv/other".into())]
    );
    assert_eq!(
        tftp.port_range,
        Some((4000, 4010)),
        "dnsmasq takes them in either order"
    );
}

#[test]
fn files_of_hosts_are_read_as_dnsmasq_does() {
    let hosts = |path: &Path| match path.to_str() {
        Some("/hosts") => {
            let lines =
                "# all\n52:54:00:77:00:20,set:x # my server\n52:54:00:zz:00:20,set:x\n\"open\n";
            Ok(vec![("/hosts".to_owned(), lines.to_owned())])
        }
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    let words = "port=0\ndhcp-hostsfile=/hosts\ndhcp-hostsfile=/none\n";
    let rules = file("f", words, &hosts).unwrap();
    assert_eq!(rules.hosts.len(), 1);
    assert_eq!(rules.hosts[0].sets, ["x"]);
    let notes: Vec<String> = rules.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 3, "{notes:?}");
    assert!(
        notes[0].starts_with("/hosts:3: dhcp-hostsfile"),
        "{notes:?}"
    );
    assert!(notes[2].contains("cannot read /none"), "{notes:?}");
}

#[test]
fn options_that_a_proxy_does_not_send_are_not_judged() {
    for word in [
        "--dhcp-option=121,10.0.0.0/8,1.2.3.4",
        "--dhcp-option=option:classless-static-route,10.0.0.0/8,1.2.3.4",
        "--dhcp-option=249,10.0.0.0/8,1.2.3.4",
    ] {
        let notes = read(&["--port=0", word]).unwrap().notes;
        assert_eq!(notes.len(), 1, "{word}");
    }
}

#[test]
fn an_empty_vendor_stands_for_nobody() {
    let rules = read(&["--dhcp-pxe-vendor=PXEClient,,HTTPClient,"]).unwrap();
    let vendors: Vec<&str> = rules.pxe_vendors().collect();
    assert_eq!(vendors, ["HTTPClient", "PXEClient"]);
    let empty = read(&["--dhcp-pxe-vendor="]).unwrap();
    assert_eq!(empty.pxe_vendors().collect::<Vec<_>>(), ["PXEClient"]);
}

#[test]
fn interfaces_must_be_there_at_once_only_where_that_is_said() {
    assert!(
        !read(&["--interface=tap9", "--bind-dynamic"])
            .unwrap()
            .binds_at_once
    );
    assert!(read(&["--interface=tap9", "-z"]).unwrap().binds_at_once);
    let never = read(&["--no-dhcp-interface=v*", "--except-interface=w*"]).unwrap();
    assert_eq!(never.no_dhcp_interfaces, ["v*"]);
    assert_eq!(never.except_interfaces, ["w*"]);
}

#[test]
fn options_for_pxe_clients_are_sent_and_others_noted() {
    let rules = read(&[
        "--dhcp-option=vendor:PXEClient,6,2b",
        "--dhcp-option-pxe=tag:ipxe,175,8:1:1",
        "--dhcp-option=option:router,10.0.0.1",
        "--port=0",
    ]);
    let rules = rules.unwrap();
    assert_eq!(rules.vendor_options[0].value, [2]);
    assert_eq!(rules.pxe_options[0].value, [8, 1, 1]);
    assert_eq!(rules.notes.len(), 1);
    assert!(refused("--dhcp-option=option:nonsense,1").contains("no option"));
}

#[test]
fn servers_may_have_names_which_are_looked_up() {
    let mut rules = read(&[
        "--pxe-service=x86PC,P,p,pxe.example",
        "--pxe-service=x86PC,Q,q,",
        "--pxe-service=X86-64_EFI,P,p,pxe.example",
        "--dhcp-boot=file,name,gone.example",
        "--port=0",
    ])
    .unwrap();
    assert_eq!(rules.services[0].address(), None);
    assert_eq!(rules.services[1].server, None);
    let known = Ipv4Addr::new(10, 0, 0, 9);
    let serving = rules.clone();
    let asked = RefCell::new(Vec::new());
    rules.look_up(&|name| {
        asked.borrow_mut().push(name.to_owned());
        (name == "pxe.example").then_some(known)
    });
    // A resolver that does not answer costs its time once for each name.
    assert_eq!(asked.into_inner(), ["pxe.example", "gone.example"]);
    assert_eq!(rules.services[0].address(), Some(known));
    assert_eq!(rules.services[2].address(), Some(known));
    assert_eq!(
        serving.services[0].address(),
        Some(known),
        "who serves learns it"
    );
    let unfound: Vec<&str> = serving.unfound().map(|(_, name, _)| name).collect();
    assert_eq!(unfound, ["gone.example"]);
    let notes: Vec<String> = rules.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("dhcp-boot names the server gone.example"),
        "{notes:?}"
    );
}

#[test]
fn ranges_without_an_address_of_this_host_are_found() {
    let rules = read(&[
        "--dhcp-range=10.77.0.0,proxy",
        "--dhcp-range=10.55.0.0,proxy",
        "--dhcp-range=10.55.0.0,proxy,255.0.0.0",
        "--dhcp-range=0.0.0.0,proxy",
    ])
    .unwrap();
    let own = [(Ipv4Addr::new(10, 77, 0, 2), Ipv4Addr::new(255, 255, 255, 0))];
    let elsewhere: Vec<&Range> = rules.ranges_elsewhere(&own).collect();
    assert_eq!(elsewhere, [&rules.ranges[1]]);
}

#[test]
fn the_words_about_tftp_are_applied() {
    let rules = read(&[
        "--tftp-unique-root",
        "--tftp-secure",
        "--tftp-single-port",
        "--port=0",
    ]);
    let rules = rules.unwrap();
    assert_eq!(rules.tftp.unique_root, Some(UniqueRoot::Address));
    assert!(rules.tftp.is_secure && rules.tftp.is_single_port);
    assert!(rules.notes.is_empty(), "{:?}", rules.notes);
    let by_mac = read(&["--tftp-unique-root=mac"]).unwrap();
    assert_eq!(by_mac.tftp.unique_root, Some(UniqueRoot::Hardware));
    assert!(refused("--tftp-unique-root=name").contains("neither ip nor mac"));
}

#[test]
fn what_dnsmasq_refuses_is_refused() {
    for word in [
        "--tftp-unique-root=",
        "--port=99999",
        "--port=x",
        "--port= 5",
        "--dhcp-range=e0,10.77.0.0,proxy",
        "--dhcp-range=::,proxy",
        "--dhcp-range=set:x,fd00::,proxy",
        "--dhcp-range=10.0.0.0,proxy,x",
        "--dhcp-range=10.0.0.0,proxy,1.2",
        "--dhcp-range=10.0.0.0,proxy,255.0.0.0,x",
        "--dhcp-range=10.0.0.0,proxy,,1h",
        "--listen-address=x",
        "--listen-address=1.2.3.4,",
        "--dhcp-reply-delay=x",
        "--dhcp-reply-delay=5,tag:a",
        "--log-facility=",
        "--tftp-max=x",
        "--pxe-service=-1,a",
        "--pxe-service=0x0,a",
        "--dhcp-range=set:a,set:b,10.77.0.0,proxy",
        "--dhcp-match=set:a,93,7,9",
        "--dhcp-match=set:a,200,1,2,3",
        "--dhcp-match=set:a,option6:bogus,7",
        "--dhcp-match=set:a",
        "--dhcp-name-match=set:a,",
        "--dhcp-option=vendor:P,5,1,2",
        "--dhcp-option=vendor:P",
        "--log-facility=bogus",
        "--tftp-port-range=1,70000",
        "--tftp-port-range=1,2,3",
    ] {
        assert!(read(&[word]).is_err(), "{word}");
    }
}

#[test]
fn what_dnsmasq_takes_is_taken() {
    for word in [
        "--tftp-unique-root=MAC",
        "--port=",
        "--dhcp-range=lan,10.77.0.0,proxy",
        "--dhcp-range=fd00::,static",
        "--dhcp-range=10.0.0.0,proxy,",
        "--dhcp-range=10.0.0.0,proxy,12h",
        "--dhcp-range=10.0.0.0,proxy,infinite",
        "--dhcp-range=10.0.0.0,proxy,255.0.0.0,10.255.255.255,1h",
        "--listen-address=fe80::1",
        "--dhcp-reply-delay=tag:a,5",
        "--tftp-mtu=",
        "--tftp-max=",
        "--pxe-service=65536,a",
        "--pxe-service=99999999999,a",
        "--pxe-service=,a",
        "--dhcp-boot=",
        "--dhcp-boot=,a,10.0.0.1",
        "--dhcp-range=net:a,set:b,tag:c,10.77.0.0,proxy",
        "--dhcp-match=set:a,option6:61,7",
        "--dhcp-match=set:a,256",
        "--dhcp-match=set:a,300,1",
        "--dhcp-match=set:a,vi-encap:x",
        "--dhcp-match=set:a,",
        "--dhcp-userclass=set:a,",
        "--dhcp-vendorclass=set:a,",
        "--dhcp-circuitid=set:a,",
        "--dhcp-mac=set:a,",
        "--dhcp-option=",
        "--dhcp-option=tag:a,",
        "--dhcp-option=vendor:PXEClient,",
        "--dhcp-option=97,00:*",
        "--dhcp-option=43,00:*:11",
        "--dhcp-option=vendor:P,256,1",
        "--dhcp-option=256,1",
        "--log-facility=LOCAL0",
        "--log-facility=a/b",
        "--tftp-port-range=,2",
    ] {
        assert!(read(&[word]).is_ok(), "{word}");
    }
    let lan = read(&["--dhcp-range=lan,10.77.0.0,proxy"]).unwrap();
    assert_eq!(lan.ranges[0].sets.as_deref(), Some("lan"));
    assert_eq!(read(&["--tftp-mtu=0"]).unwrap().tftp.mtu, None);
}

#[test]
fn quotes_in_files_hide_what_they_hide_from_dnsmasq() {
    for line in [
        r#"listen-address="10.77.0.2""#,
        r#"dhcp-range=10.77.0.0,"proxy""#,
        r#"tftp-port-range="1","2""#,
        r#""port"=0"#,
        r#"pxe-service=x86PC,"a" "b",c"#,
        r#"pxe-service="0",b,c"#,
        r#"dhcp-mac=set:a,"52:54:00:00:00:01""#,
        r##"dhcp-boot=x "a"#c""##,
        r#"tftp-mtu="1400""#,
    ] {
        let read = file("f", line, &no_files);
        assert!(read.is_ok(), "{line}: {read:?}");
    }
    for line in [
        r#"pxe-service=x86PC,"a""b",c"#,
        r#"pxe-service="x86PC",b,c"#,
        r#"dhcp-range="10.77.0.0",proxy"#,
        r#"dhcp-range=10.77.0.0,"static""#,
        r#"dhcp-match=set:a,"93",7"#,
        r#"tftp-port-range="1","x2""#,
        r#"tftp-max="1x""#,
        r#""conf-file"=/dev/null"#,
    ] {
        let reason = file("f", line, &no_files).unwrap_err().to_string();
        assert!(reason.is_ascii(), "{reason} is as it was written");
    }
}

#[test]
fn a_range_of_the_old_spelling_is_told() {
    let rules = read(&["--port=0", "--dhcp-range=net:lan,10.77.0.0,proxy"]).unwrap();
    assert_eq!(rules.ranges[0].conditions[0].tag, "lan");
    let notes: Vec<String> = rules.notes.iter().map(ToString::to_string).collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].contains("write set:lan"), "{notes:?}");
}

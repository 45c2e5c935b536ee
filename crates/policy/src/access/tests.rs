//! Access rules as tables.

use super::*;
use crate::store_id::Pattern;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn facts<'a>(url: &'a Url, client: &str) -> Facts<'a> {
    Facts {
        client: ip(client),
        client_is_self: false,
        configured: false,
        method: "GET",
        url: Some(url),
        host: url.host(),
        port: url.port(),
        listener_port: 3128,
        listener_name: None,
        to: url.host_ip(),
    }
}

fn tunnel<'a>(host: &'a str, port: u16, client: &str) -> Facts<'a> {
    Facts {
        client: ip(client),
        client_is_self: false,
        configured: false,
        method: "CONNECT",
        url: None,
        host,
        port,
        listener_port: 3128,
        listener_name: None,
        to: None,
    }
}

fn rule(allow: bool, conditions: Vec<Condition>) -> Rule {
    Rule {
        allow,
        conditions,
        text: String::new(),
    }
}

fn clients(net: &str) -> Condition {
    Matcher::Client(AddressSet::parse([net]).unwrap()).into()
}

fn to(net: &str) -> Condition {
    Matcher::To(AddressSet::parse([net]).unwrap()).into()
}

#[test]
fn the_first_rule_that_matches_decides_and_is_named() {
    let url = Url::parse("http://m/a").unwrap();
    let list = AccessList::new(vec![
        rule(false, vec![clients("10.0.0.7")]),
        Rule {
            text: "the second".to_owned(),
            ..rule(true, vec![clients("10.0.0.0/8"), Matcher::Any.into()])
        },
        rule(false, vec![]),
    ]);
    let second = list.decide(&facts(&url, "10.0.0.8"));
    assert_eq!(
        (second.allowed, second.rule, second.text),
        (true, Some(1), "the second")
    );
    assert_eq!(list.decide(&facts(&url, "10.0.0.7")).rule, Some(0));
    assert_eq!(list.decide(&facts(&url, "11.0.0.1")).rule, Some(2));
}

#[test]
fn without_a_match_squids_lists_do_the_opposite_of_the_last_line_and_larders_deny() {
    let url = Url::parse("http://m/a").unwrap();
    let asked = facts(&url, "192.0.2.1");
    for (last_allows, squid_allows) in [(true, false), (false, true)] {
        let rules = vec![rule(last_allows, vec![Matcher::Never.into()])];
        let squid = AccessList::squid(rules.clone());
        assert_eq!(squid.decide(&asked).allowed, squid_allows);
        assert_eq!(squid.decide(&asked).rule, None);
        assert!(!AccessList::new(rules).decide(&asked).allowed);
    }
    assert!(!AccessList::squid(Vec::new()).decide(&asked).allowed);
}

#[test]
fn before_the_dial_deny_rules_with_to_are_skipped_and_allow_rules_taken_as_held() {
    let url = Url::parse("http://name/a").unwrap();
    let list = AccessList::new(vec![
        rule(false, vec![to("10.0.0.0/8")]),
        rule(true, vec![to("192.0.2.0/24"), clients("10.0.0.0/8")]),
    ]);
    let unknown = facts(&url, "10.0.0.1");
    assert_eq!(list.decide(&unknown).rule, Some(1));
    for (address, rule) in [
        ("10.1.1.1", Some(0)),
        ("192.0.2.9", Some(1)),
        ("198.51.100.1", None),
    ] {
        let known = Facts {
            to: Some(ip(address)),
            ..unknown
        };
        assert_eq!(list.decide(&known).rule, rule, "{address}");
    }
    let foreign = Facts {
        client: ip("11.0.0.1"),
        ..unknown
    };
    assert_eq!(list.decide(&foreign).rule, None, "the client is known");
}

#[test]
fn negation_does_not_make_an_unknown_address_known() {
    let url = Url::parse("http://name/a").unwrap();
    let not_to = |allow| {
        let set = AddressSet::parse(["10.0.0.0/8"]).unwrap();
        AccessList::new(vec![rule(allow, vec![Condition::not(Matcher::To(set))])])
    };
    let unknown = facts(&url, "10.0.0.1");
    assert_eq!(not_to(false).decide(&unknown).rule, None);
    assert_eq!(not_to(true).decide(&unknown).rule, Some(0));
}

#[test]
fn a_list_that_is_asked_once_takes_an_unknown_address_as_no_match() {
    let url = Url::parse("http://name/a").unwrap();
    let list = AccessList::squid_selection(vec![rule(true, vec![to("10.0.0.0/8")])]);
    assert!(!list.decide(&facts(&url, "10.0.0.1")).allowed);
}

#[test]
fn groups_compose_and_a_settled_member_outweighs_an_unknown_address() {
    let url = Url::parse("http://name/a").unwrap();
    let asked = facts(&url, "10.0.0.1");
    let any_of = Matcher::AnyOf(vec![to("192.0.2.1"), clients("10.0.0.0/8")]);
    let all_of = Matcher::AllOf(vec![to("192.0.2.1"), Matcher::Never.into()]);
    let deny = |matcher: Matcher| AccessList::new(vec![rule(false, vec![matcher.into()])]);
    assert_eq!(deny(any_of).decide(&asked).rule, Some(0));
    assert_eq!(deny(all_of).decide(&asked).rule, None);
}

#[test]
fn hosts_match_exactly_with_their_domain_or_below_it() {
    for (pattern, host, wanted) in [
        ("x.org", "x.org", true),
        ("x.org", "a.x.org", false),
        (".x.org", "x.org", true),
        (".x.org", "a.b.x.org", true),
        (".x.org", "ax.org", false),
        ("*.x.org", "x.org", false),
        ("*.x.org", "a.x.org", true),
        ("X.ORG.", "x.org", true),
        ("10.0.0.1", "10.0.0.1", true),
    ] {
        assert_eq!(
            HostSet::parse([pattern]).contains(host),
            wanted,
            "{pattern} {host}"
        );
    }
}

#[test]
fn addresses_match_in_networks_ranges_and_mapped_forms() {
    let set = AddressSet::parse([
        "10.0.0.0/8",
        "192.0.2.5-192.0.2.9",
        "fc00::/7",
        "::ffff:203.0.113.1",
    ])
    .unwrap();
    for (address, wanted) in [
        ("10.255.255.255", true),
        ("11.0.0.0", false),
        ("192.0.2.4", false),
        ("192.0.2.5", true),
        ("192.0.2.9", true),
        ("192.0.2.10", false),
        ("fdff::1", true),
        ("fe80::1", false),
        ("::ffff:10.1.1.1", true),
        ("203.0.113.1", true),
    ] {
        assert_eq!(set.contains(ip(address)), wanted, "{address}");
    }
    for bad in ["10.0.0.9-10.0.0.1", "10.0.0.1-::1"] {
        assert_eq!(
            AddressSet::parse([bad]),
            Err(InvalidAddress::Backwards(bad.to_owned()))
        );
    }
    for bad in ["10.0.0", "10.0.0.0/33", "name", "", "-"] {
        assert_eq!(
            AddressSet::parse([bad]),
            Err(InvalidAddress::Malformed(bad.to_owned()))
        );
    }
}

#[test]
fn a_set_and_its_complement_share_nothing_and_leave_nothing_out() {
    let set = AddressSet::parse(["0.0.0.0/8", "255.0.0.0/8", "10.0.0.1", "::/1"]).unwrap();
    let rest = set.complement();
    for address in [
        "0.0.0.0",
        "1.0.0.0",
        "10.0.0.0",
        "10.0.0.1",
        "10.0.0.2",
        "254.255.255.255",
        "255.255.255.255",
        "::",
        "8000::",
    ] {
        assert_ne!(set.contains(ip(address)), rest.contains(ip(address)));
    }
    assert_eq!(rest.complement(), set);
    assert_eq!(AddressSet::everything().complement(), AddressSet::default());
}

#[test]
fn ports_are_numbers_or_ranges() {
    assert_eq!(PortSet::parse_range("80"), Some(80..=80));
    assert_eq!(PortSet::parse_range("1025-65535"), Some(1025..=65535));
    for bad in ["", "-", "80-", "90-80", "65536", "+80", "http"] {
        assert_eq!(PortSet::parse_range(bad), None, "{bad}");
    }
}

#[test]
fn url_patterns_see_escapes_decoded_and_a_tunnel_as_host_and_port() {
    let pattern = |text: &str| Matcher::UrlPattern(vec![Pattern::new(text).unwrap()]);
    let denies = |matcher: Matcher, facts: &Facts<'_>| {
        let list = AccessList::new(vec![rule(false, vec![matcher.into()])]);
        list.decide(facts).rule.is_some()
    };
    let url = Url::parse("http://m/a%2Fb?q").unwrap();
    let asked = facts(&url, "10.0.0.1");
    assert!(denies(pattern("^http://m/a/b"), &asked));
    assert!(denies(pattern("^m:443$"), &tunnel("m", 443, "10.0.0.1")));
    let path = Matcher::PathPattern(vec![Pattern::new(r"^/a/b\?q$").unwrap()]);
    assert!(denies(path.clone(), &asked));
    assert!(!denies(path, &tunnel("m", 443, "10.0.0.1")));
}

#[test]
fn a_pattern_that_gives_up_denies_and_does_not_allow() {
    let hard = || {
        let pattern = Pattern::new(r"^(?:(a+)+)+\1b(?=c)").unwrap();
        Condition::from(Matcher::HostPattern(vec![pattern]))
    };
    let host = "a".repeat(60);
    let asked = tunnel(&host, 443, "10.0.0.1");
    let denies = AccessList::new(vec![rule(false, vec![hard()])]);
    let allows = AccessList::new(vec![rule(true, vec![hard()])]);
    assert_eq!(denies.decide(&asked).rule, Some(0));
    assert_eq!(allows.decide(&asked).rule, None);
}

#[test]
fn the_remaining_matchers_look_at_what_their_names_say() {
    let url = Url::parse("https://m:8443/a").unwrap();
    let asked = Facts {
        listener_name: Some("inner"),
        client_is_self: true,
        configured: false,
        ..facts(&url, "10.0.0.1")
    };
    let holds = |matcher: Matcher| {
        let list = AccessList::new(vec![rule(true, vec![matcher.into()])]);
        list.decide(&asked).allowed
    };
    assert!(holds(Matcher::Any) && !holds(Matcher::Never));
    assert!(holds(Matcher::Method(vec!["get".to_owned()])));
    assert!(!holds(Matcher::Method(vec!["HEAD".to_owned()])));
    assert!(holds(Matcher::Protocol(vec![Protocol::Https])));
    assert!(!holds(Matcher::Protocol(vec![
        Protocol::Http,
        Protocol::None
    ])));
    assert!(holds(Matcher::Port(PortSet::new([8443..=8443]))));
    assert!(holds(Matcher::ListenerPort(PortSet::new([3128..=3128]))));
    assert!(holds(Matcher::ListenerName(vec!["inner".to_owned()])));
    assert!(!holds(Matcher::ListenerName(vec!["outer".to_owned()])));
    assert!(holds(Matcher::ClientIsSelf));
}

#[test]
fn the_builtin_rules_keep_strangers_out_and_this_host_closed() {
    let list = AccessList::builtin();
    for (url, client, to, wanted) in [
        ("http://m/a", "192.168.1.5", Some("192.0.2.1"), true),
        ("http://m/a", "fd00::5", Some("192.0.2.1"), true),
        ("http://m/a", "100.64.0.9", None, true),
        ("http://m/a", "198.51.100.1", None, false),
        ("http://m:8080/a", "10.0.0.1", None, true),
        ("http://m:22/a", "10.0.0.1", None, false),
        ("http://m:1024/a", "10.0.0.1", None, false),
        ("http://m:1025/a", "10.0.0.1", None, true),
        ("http://m/a", "10.0.0.1", Some("10.0.0.9"), true),
        ("http://m/a", "10.0.0.1", Some("127.0.0.1"), false),
        ("http://m/a", "127.0.0.1", Some("127.0.0.2"), true),
        ("http://m/a", "::1", Some("127.0.0.2"), true),
        ("http://m/a", "10.0.0.1", Some("::ffff:127.0.0.1"), false),
        ("http://m/a", "127.0.0.1", Some("169.254.169.254"), false),
        ("http://m/a", "127.0.0.1", Some("0.0.0.0"), false),
        ("http://m/a", "127.0.0.1", Some("::"), false),
        ("http://m/a", "10.0.0.1", Some("fe80::1"), false),
        ("http://m/a", "10.0.0.1", Some("fd00:ec2::254"), false),
    ] {
        let url = Url::parse(url).unwrap();
        let asked = Facts {
            to: to.map(ip),
            ..facts(&url, client)
        };
        let decision = list.decide(&asked);
        assert_eq!(
            decision.allowed, wanted,
            "{url} {client} {to:?} {decision:?}"
        );
    }
    assert!(list.decide(&tunnel("m", 443, "10.0.0.1")).allowed);
    assert!(!list.decide(&tunnel("m", 8443, "10.0.0.1")).allowed);
    let own = Facts {
        client_is_self: true,
        configured: false,
        ..tunnel("m", 443, "203.0.113.4")
    };
    assert!(list.decide(&own).allowed, "this host's own public address");
}

#[test]
fn public_addresses_are_those_that_are_no_special_ones() {
    let public = AddressSet::public();
    for address in ["8.8.8.8", "192.0.2.1", "2001:db8::1"] {
        assert!(public.contains(ip(address)), "{address}");
    }
    for address in [
        "10.0.0.1",
        "127.0.0.1",
        "224.0.0.1",
        "fe80::1",
        "::1",
        "0.1.2.3",
    ] {
        assert!(!public.contains(ip(address)), "{address}");
    }
}

#[test]
fn origins_that_the_configuration_names_are_exempt_from_ports_and_addresses() {
    let url = Url::parse("http://127.0.0.1:81/a").unwrap();
    let asked = facts(&url, "192.168.0.7");
    let list = AccessList::builtin();
    assert!(!list.decide(&asked).allowed);
    let named = Facts {
        configured: true,
        ..asked
    };
    assert!(list.decide(&named).allowed);
    let stranger = Facts {
        client: ip("203.0.113.9"),
        ..named
    };
    assert!(!list.decide(&stranger).allowed);
}

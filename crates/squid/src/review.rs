//! What a configuration that can be used is likely not to mean.
//!
//! Whether a list of rules makes an open proxy is asked of the list itself: a stranger's request is
//! put to it. The same holds for what refresh rules do to the root file of a repository.

use std::net::IpAddr;

use larder_policy::access::{Facts, Matcher, Rule};
use larder_policy::refresh::{RefreshRule, RefreshRules};
use larder_policy::url::Url;

use crate::acl::Acls;
use crate::configuration::{CACHE_MEM, Configuration, PortMode};
use crate::note::{Findings, Position};
use crate::source::Statement;

/// Clients that no rule names by chance: two documentation networks and a public one.
const STRANGERS: [[u8; 4]; 3] = [[192, 0, 2, 77], [198, 51, 100, 77], [11, 22, 33, 44]];
const REPOMD: &str = "http://mirror.example/7/os/x86_64/repodata/repomd.xml";

/// Adds notes about the whole.
pub(crate) fn review(
    configuration: &Configuration,
    places: &[Position],
    statements: &[Statement],
    start: &Position,
    found: &mut Findings,
) {
    if found.problems.is_empty() {
        // A line that could not be read may be the one that matters.
        nobody(configuration, start, found);
    }
    open_proxy(configuration, places, found);
    unreachable_rules(&configuration.access.rules, places, found);
    let lines: Vec<&Position> = statements
        .iter()
        .filter(|statement| statement.name.text == "refresh_pattern")
        .map(|statement| &statement.name.at)
        .collect();
    caught_root(&configuration.refresh, &lines, found);
    departures(&configuration.refresh, &lines, found);
    unmatched(configuration, statements, found);
    peerless(configuration, found);
    room(configuration, statements, start, found);
}

/// Switches that each rule inherits say nothing of URLs that no rule matches.
fn unmatched(configuration: &Configuration, statements: &[Statement], found: &mut Findings) {
    if configuration.refresh.iter().any(|rule| rule.catch_all) {
        return;
    }
    for statement in statements {
        let name = statement.name.text.as_str();
        if matches!(name, "max_stale" | "refresh_all_ims" | "reload_into_ims") {
            let text = format!("{name} holds for what a refresh_pattern matches, and nothing else");
            let mend = "end the rules with refresh_pattern . 0 20% 4320";
            found.warn(&statement.name.at, text, mend);
        }
    }
}

/// Nobody may ask for anything.
fn nobody(configuration: &Configuration, start: &Position, found: &mut Findings) {
    let rules = &configuration.access.rules;
    let never = |rule: &Rule| {
        let conditions = &mut rule.conditions.iter();
        conditions.any(|c| !c.negated && matches!(c.matcher, Matcher::Never))
    };
    let mend = "add http_access allow for your own networks, and http_access deny all";
    if rules.is_empty() {
        let text = "there is no http_access: every request is denied";
        found.warn(start, text, mend);
    } else if rules.iter().any(|rule| rule.allow && never(rule))
        && !rules.iter().any(|rule| rule.allow && !never(rule))
    {
        let text = "no http_access line allows anything: every request is denied";
        found.warn(start, text, mend);
    }
}

/// Accelerator ports whose requests have nowhere to go.
fn peerless(configuration: &Configuration, found: &mut Findings) {
    if !configuration.peers.is_empty() {
        return;
    }
    for port in &configuration.http_ports {
        if let PortMode::Accelerator(accelerator) = &port.mode
            && !accelerator.allow_direct
        {
            found.warn(
                &port.position,
                "there is no cache_peer that could take this port's requests: each is answered 503",
                "add cache_peer HOST parent 80 0 no-query originserver, or allow-direct here",
            );
        }
    }
}

fn open_proxy(configuration: &Configuration, places: &[Position], found: &mut Findings) {
    let Ok(url) = Url::parse("http://a-host-that-no-rule-names.example/") else {
        return;
    };
    let asked = |client: [u8; 4]| Facts {
        client: IpAddr::from(client),
        client_is_self: false,
        configured: false,
        method: "GET",
        url: Some(&url),
        host: url.host(),
        port: 80,
        listener_port: configuration
            .http_ports
            .first()
            .map_or(3128, |port| port.port),
        listener_name: configuration
            .http_ports
            .first()
            .map(|port| port.name.as_str()),
        to: Some(IpAddr::from([93, 184, 215, 14])),
    };
    let decisions = STRANGERS.map(|client| configuration.access.decide(&asked(client)));
    if !decisions.iter().all(|decision| decision.allowed) {
        return;
    }
    let rule = decisions.first().and_then(|decision| decision.rule);
    let Some(at) = rule.map_or_else(|| places.last(), |rule| places.get(rule)) else {
        return;
    };
    let text = match rule {
        Some(_) => "this is an open proxy: any client may reach any host",
        None => "this is an open proxy: after a last line that denies, everything else is allowed",
    };
    found.warn(
        at,
        text,
        "allow your own networks only, and end with http_access deny all",
    );
}

/// Lines after one that decides about every request.
fn unreachable_rules(rules: &[Rule], places: &[Position], found: &mut Findings) {
    let decides = |rule: &Rule| rule.conditions.iter().all(Acls::is_any);
    let Some(last) = rules.iter().position(decides) else {
        return;
    };
    let line = places.get(last).map_or(0, |at| at.line);
    for at in places.iter().skip(last + 1) {
        let text = format!("never reached: line {line} decides about every request");
        found.info(at, text, "put it before that line, or remove it");
    }
}

/// The rule that matches everything and so decides about repomd.xml.
fn caught_root(rules: &[RefreshRule], lines: &[&Position], found: &mut Findings) {
    let all = RefreshRules::new(rules.to_vec());
    let Some(rule) = all.rule_for(REPOMD) else {
        return;
    };
    let place = rules
        .iter()
        .position(|candidate| candidate.text == rule.text);
    let Some(at) = place.and_then(|place| lines.get(place)) else {
        return;
    };
    if rule.catch_all && (rule.percent > 0 || rule.min > 0) {
        found.warn(
            at,
            "repomd.xml falls to this catch-all rule: Squid would serve it without asking for \
             hours; larder asks again after 60 seconds",
            "put `refresh_pattern /repodata/repomd\\.xml$ 0 0% 0` before it",
        );
    }
}

/// Where larder's own order departs from Squid's, for the rules at hand.
fn departures(rules: &[RefreshRule], lines: &[&Position], found: &mut Findings) {
    for (rule, at) in rules.iter().zip(lines) {
        if rule.options.override_expire {
            let text = "override-expire: Squid ends it a week after Expires, larder does not";
            found.info(at, text, "");
        }
        if rule.options.ignore_private || rule.options.ignore_no_store {
            let text = "what ignore-private or ignore-no-store keep: Squid asks the origin at \
                        each use of a private object, larder when it is stale";
            found.info(at, text, "");
        }
    }
}

/// Where objects are kept, and how large they may be.
fn room(
    configuration: &Configuration,
    statements: &[Statement],
    start: &Position,
    found: &mut Findings,
) {
    let null = |statement: &&Statement| {
        let kind = statement.arguments.first();
        statement.name.text == "cache_dir" && kind.is_some_and(|kind| kind.text == "null")
    };
    if configuration.cache_dir.is_some() {
        for statement in statements.iter().filter(null) {
            let text = "a null cache_dir keeps nothing: no effect beside another one";
            found.info(&statement.name.at, text, "remove it");
        }
    }
    let kept = configuration.cache.as_ref();
    let nothing = kept.is_some_and(|list| {
        let first = list.rules.first();
        first.is_some_and(|rule| !rule.allow && rule.conditions.iter().all(Acls::is_any))
    });
    if nothing {
        return;
    }
    let line = |name: &str| {
        let mut lines = statements.iter().filter(|s| s.name.text == name);
        lines.next_back().map(|statement| &statement.name.at)
    };
    if configuration.cache_dir.is_none() {
        let text = format!(
            "without cache_dir Squid keeps objects in memory alone; larder keeps {} MB of them \
             (cache_mem), in its own cache directory",
            configuration.cache_mem.unwrap_or(CACHE_MEM) >> 20
        );
        let at = line("cache_dir").unwrap_or(start);
        found.warn(
            at,
            text,
            "name a folder and a size: cache_dir aufs FOLDER 20000 16 256",
        );
    }
    if line("maximum_object_size").is_none() {
        found.warn(
            configuration
                .cache_dir
                .as_ref()
                .map_or(start, |dir| &dir.position),
            "objects over 4 MB are not kept, since maximum_object_size says nothing else: many \
             packages are larger",
            "add maximum_object_size 4 GB",
        );
    }
}

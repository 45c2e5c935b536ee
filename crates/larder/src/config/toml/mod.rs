//! larder.toml: each table read into its part of [`Settings`].

mod access;
mod beside;
mod boot;
mod listen;
mod rules;
mod services;

use std::path::Path;
use std::sync::Arc;

use larder_policy::class::Class;
use larder_policy::policy::Semantics;
use larder_proxy::config::{Limits, Upstream};
use larder_store::{Admission, Durability, Replacement, Verify};

use super::problem::{Problems, Source};
use super::settings::{Cache, Settings};
use super::tree::{self, Section};
use super::values;
use crate::environment::Environment;

pub use listen::{clash, parse_address};
pub use rules::store_id_file;

/// Reads a larder.toml and the environment's overrides of it. Relative paths start at `folder`.
/// What is wrong is added to `problems`; the settings are then of no use.
pub fn read(
    source: &Arc<Source>,
    folder: &Path,
    environment: &Environment,
    problems: &mut Problems,
) -> Settings {
    let mut entries = tree::parse(source, problems);
    tree::overlay(&mut entries, environment);
    Section::read("larder.toml", &entries, problems, |top| {
        settings(top, folder)
    })
}

fn settings(top: &mut Section<'_>, folder: &Path) -> Settings {
    let mut settings = Settings::default();
    top.set("name", &mut settings.visible_name, values::optional_text);
    top.set(
        "pid-file",
        &mut settings.pid_file,
        values::optional_path(folder),
    );
    top.set("offline", &mut settings.offline, values::truth);
    top.table("cache", |section| {
        cache(section, folder, &mut settings.cache);
    });
    if let Some(mirrors) = top.tables("mirror", listen::mirror) {
        settings.routes.mirrors = listen::distinct(top, mirrors);
    }
    if let Some(listeners) = top.tables("listen", |section, place| {
        listen::listener(section, place, &settings.routes, folder)
    }) {
        settings.listen = listen::without_clashes(top, listeners);
    }
    top.table("access", |section| {
        access::read(section, &mut settings.access);
    });
    if let Some(rules) = top.tables("store-id", |section, place| {
        rules::store_id(section, place, folder)
    }) {
        settings.store_ids = rules::store_ids(rules);
    }
    if let Some(rules) = top.tables("refresh", rules::refresh) {
        settings.refresh = rules::refresh_rules(top, rules);
    }
    top.table("freshness", |section| {
        let words = [("larder", Semantics::Larder), ("squid", Semantics::Squid)];
        section.set("semantics", &mut settings.semantics, values::one_of(&words));
    });
    top.table("ranges", |section| {
        let words = [("blocks", false), ("whole", true)];
        for class in Class::ALL {
            if let Some(whole) = section.value(class.as_str(), values::one_of(&words)) {
                settings.whole_for_ranges.retain(|held| *held != class);
                settings.whole_for_ranges.extend(whole.then_some(class));
            }
        }
    });
    top.table("upstream", |section| {
        upstream(section, folder, &mut settings.upstream);
        settings.routes.parents = listen::parents(section);
        section.set("upgrade", &mut settings.routes.upgrade, listen::upgrade);
    });
    top.table("limits", |section| limits(section, &mut settings.limits));
    top.table("admin", |section| {
        services::admin(section, folder, &mut settings.admin);
    });
    top.table("log", |section| {
        services::log(section, folder, &mut settings.log);
    });
    top.table("boot", |section| {
        boot::read(section, folder, &mut settings.boot);
    });
    top.table("provision", |section| {
        services::provision(section, folder, &mut settings.provision);
    });
    beside::boot(top, &settings);
    settings
}

fn cache(section: &mut Section<'_>, folder: &Path, cache: &mut Cache) {
    let replacements = [
        ("lfuda", Replacement::Lfuda),
        ("gdsf", Replacement::Gdsf),
        ("lru", Replacement::Lru),
    ];
    let durabilities = [("fast", Durability::Fast), ("full", Durability::Full)];
    let admissions = [("all", Admission::All), ("frequency", Admission::Frequency)];
    let verifications = [("first-use", Verify::FirstUse), ("never", Verify::Never)];
    section.set(
        "directory",
        &mut cache.directory,
        values::optional_path(folder),
    );
    section.set("max-size", &mut cache.size_max, values::size);
    section.set("max-object-size", &mut cache.object_bytes_max, values::size);
    section.set("memory", &mut cache.memory_max, values::size);
    section.set(
        "replacement",
        &mut cache.replacement,
        values::one_of(&replacements),
    );
    section.set(
        "durability",
        &mut cache.durability,
        values::one_of(&durabilities),
    );
    section.set("verify", &mut cache.verify, values::one_of(&verifications));
    section.set("scrub", &mut cache.scrub, values::optional_duration);
    section.set(
        "admission",
        &mut cache.admission,
        values::one_of(&admissions),
    );
}

fn upstream(section: &mut Section<'_>, folder: &Path, upstream: &mut Upstream) {
    section.set(
        "connect-timeout",
        &mut upstream.connect_timeout,
        values::duration,
    );
    section.set(
        "first-byte-timeout",
        &mut upstream.first_byte_timeout,
        values::duration,
    );
    section.set(
        "stall-timeout",
        &mut upstream.stall_timeout,
        values::duration,
    );
    section.set(
        "connections-per-host",
        &mut upstream.connections_per_host,
        values::count(1),
    );
    section.set(
        "ca-file",
        &mut upstream.ca_file,
        values::optional_path(folder),
    );
}

fn limits(section: &mut Section<'_>, limits: &mut Limits) {
    section.set("connections", &mut limits.connections, values::count(1));
    section.set(
        "connections-per-client",
        &mut limits.connections_per_client,
        values::count(1),
    );
    section.set("header-bytes", &mut limits.header_bytes, values::memory);
    section.set("request-body", &mut limits.request_body, values::size);
    section.set("request-head", &mut limits.request_head, values::duration);
    section.set("idle", &mut limits.idle, values::duration);
    section.set("tunnel-idle", &mut limits.tunnel_idle, values::duration);
    section.set("drain", &mut limits.drain, values::duration);
}

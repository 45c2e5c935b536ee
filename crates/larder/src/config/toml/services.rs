//! `[admin]`, `[log]` and `[provision]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::listen;
use crate::config::problem::Problem;
use crate::config::settings::{AccessFormat, AccessLogPlace, Admin, Log, LogFormat, Provision};
use crate::config::tree::{Node, Section};
use crate::config::values;

/// Reads `[admin]`.
pub(super) fn admin(section: &mut Section<'_>, folder: &Path, admin: &mut Admin) {
    section.set("address", &mut admin.address, optional_address);
    section.set("socket", &mut admin.socket, |node| {
        Ok(
            values::optional_text(node)?.map(|text| match text.as_str() {
                "off" => text,
                path => folder.join(path).display().to_string(),
            }),
        )
    });
    section.set("token", &mut admin.token, values::optional_text);
}

/// Reads `[log]`.
pub(super) fn log(section: &mut Section<'_>, folder: &Path, log: &mut Log) {
    use tracing::Level;
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let access_formats = [
        ("larder", AccessFormat::Larder),
        ("squid", AccessFormat::Squid),
        ("combined", AccessFormat::Combined),
        ("json", AccessFormat::Json),
    ];
    section.set("level", &mut log.level, values::one_of(&levels));
    section.set("format", &mut log.format, values::one_of(&formats));
    section.table("access", |section| {
        section.set("path", &mut log.access.place, |node| {
            Ok(match values::text(node)?.as_str() {
                "" => AccessLogPlace::Off,
                "-" => AccessLogPlace::Stdout,
                path => AccessLogPlace::File(folder.join(path)),
            })
        });
        section.set(
            "format",
            &mut log.access.format,
            values::one_of(&access_formats),
        );
    });
}

/// Reads `[provision]`.
pub(super) fn provision(section: &mut Section<'_>, folder: &Path, provision: &mut Provision) {
    section.set("enabled", &mut provision.enabled, values::truth);
    section.set("data", &mut provision.data, values::path(folder));
    section.set(
        "assets",
        &mut provision.assets,
        values::optional_path(folder),
    );
    section.set("http", &mut provision.http, listen::address);
    section.set("grpc", &mut provision.grpc, optional_address);
    let files: [(&'static str, &mut PathBuf); 3] = [
        ("cert-file", &mut provision.cert_file),
        ("key-file", &mut provision.key_file),
        ("ca-file", &mut provision.ca_file),
    ];
    for (key, file) in files {
        section.set(key, file, values::path(folder));
    }
    let releases = [("0.7", "0.7"), ("0.11", "0.11")];
    if let Some(compat) = section.value("compat", values::one_of(&releases)) {
        compat.clone_into(&mut provision.compat);
    }
    let switches: [(&'static str, &mut bool); 3] = [
        ("install-once", &mut provision.install_once),
        ("initrd-args", &mut provision.initrd_args),
        ("rewrite", &mut provision.rewrite),
    ];
    for (key, switch) in switches {
        section.set(key, switch, values::truth);
    }
}

fn optional_address(node: &Node) -> Result<Option<SocketAddr>, Problem> {
    match values::text(node)?.as_str() {
        "" | "off" => Ok(None),
        _ => listen::address(node).map(Some),
    }
}

//! What an access-log line looks like, in each format.
//!
//! `squid` is Squid's native format to the byte, since log analysers depend on it (larder-squid
//! writes it); `combined` is Apache's, `json` is for programs, `larder` for people with `grep`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use larder_proxy::record::{Hierarchy, Outcome, Record};
use larder_squid::{LogRecord, ResultCode, Tag};
use serde_json::json;

use crate::config::settings::{AccessFormat, AccessLog};

/// The line of a record, with its line feed.
pub(super) fn line(settings: &AccessLog, record: &Record) -> Vec<u8> {
    match settings.format {
        AccessFormat::Squid => squid(settings.strip_query, record),
        AccessFormat::Combined => combined(record).into_bytes(),
        AccessFormat::Json => json_line(record).into_bytes(),
        AccessFormat::Larder => larder(record).into_bytes(),
    }
}

fn squid(strip_query: bool, record: &Record) -> Vec<u8> {
    larder_squid::logline(&LogRecord {
        finished: record.finished,
        elapsed: record.elapsed,
        client: record.client,
        result: result_code(record),
        status: record.status,
        sent_bytes: record.sent_bytes,
        method: &record.method,
        url: &record.url,
        strip_query,
        user: None,
        hierarchy: hierarchy(&record.hierarchy),
        content_type: record.content_type.as_deref(),
    })
}

/// Squid's `%Ss`: the result, and what became of the client.
fn result_code(record: &Record) -> ResultCode {
    let tag = match record.outcome {
        Outcome::Hit => Tag::Hit,
        Outcome::MemHit => Tag::MemHit,
        Outcome::Miss | Outcome::CollapsedMiss => Tag::Miss,
        Outcome::RefreshUnmodified => Tag::RefreshUnmodified,
        Outcome::RefreshModified => Tag::RefreshModified,
        Outcome::RefreshFailOld => Tag::RefreshFailOld,
        Outcome::RefreshFailErr => Tag::RefreshFailErr,
        Outcome::ImsHit => Tag::ImsHit,
        Outcome::InmHit => Tag::InmHit,
        Outcome::OfflineHit => Tag::OfflineHit,
        Outcome::Denied => Tag::Denied,
        Outcome::Tunnel => Tag::Tunnel,
        Outcome::None => Tag::None,
    };
    ResultCode {
        collapsed: record.outcome == Outcome::CollapsedMiss,
        aborted: record.aborted,
        ..ResultCode::from(tag)
    }
}

fn hierarchy(hierarchy: &Hierarchy) -> larder_squid::Hierarchy {
    match hierarchy {
        Hierarchy::None => larder_squid::Hierarchy::None,
        Hierarchy::Direct(address) => larder_squid::Hierarchy::Direct(Some(*address)),
        Hierarchy::FirstUpParent(address) => larder_squid::Hierarchy::FirstUpParent(Some(*address)),
    }
}

/// Where the bytes came from, in one word, and from which address.
fn source(hierarchy: &Hierarchy) -> (&'static str, Option<IpAddr>) {
    match hierarchy {
        Hierarchy::None => ("none", None),
        Hierarchy::Direct(address) => ("direct", Some(*address)),
        Hierarchy::FirstUpParent(address) => ("parent", Some(*address)),
    }
}

/// Apache's combined format; time in UTC.
fn combined(record: &Record) -> String {
    format!(
        "{client} - - [{time}] \"{method} {url} HTTP/1.1\" {status} {sent} \"-\" \"-\" {result}\n",
        client = record.client,
        time = apache_time(record.finished),
        method = or_dash(&record.method),
        url = or_dash(&record.url).replace('"', "%22"),
        status = record.status,
        sent = record.sent_bytes,
        result = result_code(record),
    )
}

fn json_line(record: &Record) -> String {
    let (seconds, millis) = epoch(record.finished);
    let (from, address) = source(&record.hierarchy);
    let value = json!({
        "time": seconds as f64 + f64::from(millis) / 1000.0,
        "elapsed_ms": u64::try_from(record.elapsed.as_millis()).unwrap_or(u64::MAX),
        "client": record.client.to_string(),
        "listener": record.listener,
        "result": result_code(record).to_string(),
        "status": record.status,
        "sent_bytes": record.sent_bytes,
        "body_bytes": record.body_bytes,
        "method": record.method,
        "url": record.url,
        "from": from,
        "address": address.map(|address| address.to_string()),
        "content_type": record.content_type,
        "mirror": record.mirror,
        "store_id_rule": record.store_id_rule,
        "detail": record.detail,
    });
    format!("{value}\n")
}

fn larder(record: &Record) -> String {
    let (seconds, millis) = epoch(record.finished);
    let mut line = format!(
        "time={seconds}.{millis:03} elapsed-ms={} client={} listener={} result={} status={} sent={} method={} url={} from={}",
        record.elapsed.as_millis(),
        record.client,
        record.listener,
        result_code(record),
        record.status,
        record.sent_bytes,
        or_dash(&record.method),
        or_dash(&record.url),
        source(&record.hierarchy).0,
    );
    for (name, value) in [
        ("mirror", record.mirror.as_deref()),
        ("detail", record.detail),
    ] {
        if let Some(value) = value {
            let _never = write!(line, " {name}={value}");
        }
    }
    line.push('\n');
    line
}

fn epoch(time: SystemTime) -> (u64, u32) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_millis())
}

/// `10/Oct/2000:13:55:36 +0000`.
fn apache_time(time: SystemTime) -> String {
    // httpdate knows the calendar: `Tue, 10 Oct 2000 13:55:36 GMT`.
    let text = httpdate::fmt_http_date(time);
    let mut words = text
        .split([' ', ','])
        .filter(|word| !word.is_empty())
        .skip(1);
    let mut next = || words.next().unwrap_or("-");
    format!("{}/{}/{}:{} +0000", next(), next(), next(), next())
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    pub(in crate::serve) fn record() -> Record {
        Record {
            finished: UNIX_EPOCH + Duration::from_millis(1_795_387_968_137),
            elapsed: Duration::from_millis(2),
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            listener: "forward".to_owned(),
            outcome: Outcome::Miss,
            aborted: false,
            status: 206,
            sent_bytes: 464,
            body_bytes: 100,
            method: "GET".to_owned(),
            url: "http://m/x.rpm".to_owned(),
            hierarchy: Hierarchy::Direct(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))),
            content_type: Some("application/x-rpm; charset=binary".to_owned()),
            mirror: None,
            store_id_rule: None,
            detail: None,
        }
    }

    fn text(format: AccessFormat, record: &Record) -> String {
        let settings = AccessLog {
            format,
            ..AccessLog::default()
        };
        String::from_utf8(line(&settings, record)).unwrap()
    }

    #[test]
    fn the_squid_format_is_squids_to_the_byte() {
        assert_eq!(
            text(AccessFormat::Squid, &record()),
            "1795387968.137      2 127.0.0.1 TCP_MISS/206 464 GET http://m/x.rpm - \
             HIER_DIRECT/10.0.0.9 application/x-rpm\n"
        );
    }

    #[test]
    fn what_is_not_known_is_a_dash_and_a_client_that_went_is_told() {
        let record = Record {
            outcome: Outcome::None,
            status: 0,
            aborted: true,
            method: String::new(),
            content_type: None,
            hierarchy: Hierarchy::None,
            ..record()
        };
        assert_eq!(
            text(AccessFormat::Squid, &record),
            "1795387968.137      2 127.0.0.1 NONE_NONE_ABORTED/000 464 - http://m/x.rpm - HIER_NONE/- -\n"
        );
    }

    #[test]
    fn the_combined_format_has_apaches_time() {
        assert_eq!(
            text(AccessFormat::Combined, &record()),
            "127.0.0.1 - - [22/Nov/2026:22:52:48 +0000] \"GET http://m/x.rpm HTTP/1.1\" 206 464 \"-\" \"-\" \
             TCP_MISS\n"
        );
    }

    #[test]
    fn a_json_line_is_one_json_object() {
        let text = text(AccessFormat::Json, &record());
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["status"], 206);
        assert_eq!(text.lines().count(), 1);
    }
}

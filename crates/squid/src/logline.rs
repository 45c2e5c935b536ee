//! Squid's native access log, byte for byte.
//!
//! `%ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt`: ten fields with single blanks
//! between them; log analysers rely on every one. Nothing from the network can add a field or a
//! line: blanks, control characters and octets beyond ASCII are escaped.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a request ended, without prefix and suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// `TCP_HIT`: fresh, from disk.
    Hit,
    /// `TCP_MEM_HIT`: fresh, from memory.
    MemHit,
    /// `TCP_MISS`: fetched.
    Miss,
    /// `TCP_REFRESH_UNMODIFIED`: revalidated, unchanged.
    RefreshUnmodified,
    /// `TCP_REFRESH_MODIFIED`: revalidated, new body.
    RefreshModified,
    /// `TCP_REFRESH_FAIL_OLD`: revalidation failed, stale copy served.
    RefreshFailOld,
    /// `TCP_REFRESH_FAIL_ERR`: revalidation failed, error passed on.
    RefreshFailErr,
    /// `TCP_CLIENT_REFRESH_MISS`: fetched because the client insisted.
    ClientRefreshMiss,
    /// `TCP_IMS_HIT`: 304 by date.
    ImsHit,
    /// `TCP_INM_HIT`: 304 by entity tag.
    InmHit,
    /// `TCP_NEGATIVE_HIT`: an error that was kept.
    NegativeHit,
    /// `TCP_OFFLINE_HIT`: from the cache, nothing is asked upstream.
    OfflineHit,
    /// `TCP_SWAPFAIL_MISS`: held, but unreadable.
    SwapfailMiss,
    /// `TCP_DENIED`: refused by a rule.
    Denied,
    /// `TCP_DENIED_REPLY`: the answer was refused by a rule.
    DeniedReply,
    /// `TCP_REDIRECT`: redirected by a rule.
    Redirect,
    /// `TCP_TUNNEL`: a tunnel.
    Tunnel,
    /// `NONE_NONE`: nothing was understood or done.
    None,
}

impl Tag {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "HIT",
            Self::MemHit => "MEM_HIT",
            Self::Miss => "MISS",
            Self::RefreshUnmodified => "REFRESH_UNMODIFIED",
            Self::RefreshModified => "REFRESH_MODIFIED",
            Self::RefreshFailOld => "REFRESH_FAIL_OLD",
            Self::RefreshFailErr => "REFRESH_FAIL_ERR",
            Self::ClientRefreshMiss => "CLIENT_REFRESH_MISS",
            Self::ImsHit => "IMS_HIT",
            Self::InmHit => "INM_HIT",
            Self::NegativeHit => "NEGATIVE_HIT",
            Self::OfflineHit => "OFFLINE_HIT",
            Self::SwapfailMiss => "SWAPFAIL_MISS",
            Self::Denied => "DENIED",
            Self::DeniedReply => "DENIED_REPLY",
            Self::Redirect => "REDIRECT",
            Self::Tunnel => "TUNNEL",
            Self::None => "NONE",
        }
    }
}

/// A result code: the tag, and what is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultCode {
    /// How the request ended.
    pub tag: Tag,
    /// `_CF`: it joined another one's fetch.
    pub collapsed: bool,
    /// `_IGNORED`: the origin's answer was older than what is held.
    pub ignored: bool,
    /// `_TIMEDOUT`: the client was too slow.
    pub timed_out: bool,
    /// `_ABORTED`: the client went before the end.
    pub aborted: bool,
}

impl From<Tag> for ResultCode {
    fn from(tag: Tag) -> Self {
        Self {
            tag,
            collapsed: false,
            ignored: false,
            timed_out: false,
            aborted: false,
        }
    }
}

impl std::fmt::Display for ResultCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.tag == Tag::None {
            "NONE_"
        } else {
            "TCP_"
        })?;
        for (holds, text) in [
            (self.collapsed, "CF_"),
            (true, self.tag.as_str()),
            (self.ignored, "_IGNORED"),
            (self.timed_out, "_TIMEDOUT"),
            (self.aborted, "_ABORTED"),
        ] {
            f.write_str(if holds { text } else { "" })?;
        }
        Ok(())
    }
}

/// Where the answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// `HIER_NONE`: from the cache, or nowhere.
    None,
    /// `HIER_DIRECT`: the host that the URL names.
    Direct(Option<IpAddr>),
    /// `FIRSTUP_PARENT`: the first peer that is up, an origin or a proxy.
    FirstUpParent(Option<IpAddr>),
    /// `ROUNDROBIN_PARENT`: the peer whose turn it was.
    RoundRobinParent(Option<IpAddr>),
    /// `SOURCE_FASTEST`: the fastest of several.
    SourceFastest(Option<IpAddr>),
    /// `ANY_OLD_PARENT`: the last resort among peers.
    AnyOldParent(Option<IpAddr>),
}

impl Hierarchy {
    fn parts(self) -> (&'static str, Option<IpAddr>) {
        match self {
            Self::None => ("HIER_NONE", None),
            Self::Direct(ip) => ("HIER_DIRECT", ip),
            Self::FirstUpParent(ip) => ("FIRSTUP_PARENT", ip),
            Self::RoundRobinParent(ip) => ("ROUNDROBIN_PARENT", ip),
            Self::SourceFastest(ip) => ("SOURCE_FASTEST", ip),
            Self::AnyOldParent(ip) => ("ANY_OLD_PARENT", ip),
        }
    }
}

/// One finished request.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// When it was finished.
    pub finished: SystemTime,
    /// How long it took.
    pub elapsed: Duration,
    /// Who asked.
    pub client: IpAddr,
    /// How it ended.
    pub result: ResultCode,
    /// The status that the client was sent; 0: none.
    pub status: u16,
    /// Bytes sent to the client, head included.
    pub sent_bytes: u64,
    /// The method; empty: none was understood.
    pub method: &'a str,
    /// The URL, the authority of a tunnel, or `error:…`; empty: none was understood.
    pub url: &'a str,
    /// What follows the URL's `?` is left out (`strip_query_terms`).
    pub strip_query: bool,
    /// The user, where one is known.
    pub user: Option<&'a str>,
    /// Where the answer came from.
    pub hierarchy: Hierarchy,
    /// Content-Type of the answer; its parameters are left out.
    pub content_type: Option<&'a str>,
}

/// The line of a request, with its line feed.
pub fn logline(record: &LogRecord<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(160 + record.url.len());
    write_logline(record, &mut line);
    line
}

/// Appends the line of a request, with its line feed: for writers that batch.
pub fn write_logline(record: &LogRecord<'_>, line: &mut Vec<u8>) {
    let since = record
        .finished
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let (hierarchy, peer) = record.hierarchy.parts();
    let _: std::io::Result<()> = write!(
        line,
        "{}.{:03} {:6} {} {}/{:03} {} ",
        since.as_secs(),
        since.subsec_millis(),
        record.elapsed.as_millis(),
        record.client.to_canonical(),
        record.result,
        record.status,
        record.sent_bytes,
    );
    field(record.method, line);
    line.push(b' ');
    field(shown_url(record), line);
    line.push(b' ');
    field(record.user.unwrap_or_default(), line);
    line.push(b' ');
    line.extend_from_slice(hierarchy.as_bytes());
    line.push(b'/');
    match peer {
        Some(ip) => line.extend_from_slice(ip.to_canonical().to_string().as_bytes()),
        None => line.push(b'-'),
    }
    line.push(b' ');
    let content_type = record.content_type.unwrap_or_default();
    field(
        content_type
            .split([';', ' ', '\t'])
            .next()
            .unwrap_or_default(),
        line,
    );
    line.push(b'\n');
}

/// The `?` itself stays.
fn shown_url<'a>(record: &LogRecord<'a>) -> &'a str {
    match record.url.find('?').filter(|_| record.strip_query) {
        Some(mark) => record.url.get(..=mark).unwrap_or(record.url),
        None => record.url,
    }
}

/// One field: `-` where it is empty, and nothing in it that could end it.
fn field(text: &str, line: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    if text.is_empty() {
        line.push(b'-');
    }
    for octet in text.bytes() {
        if octet.is_ascii_graphic() {
            line.push(octet);
        } else {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            line.extend_from_slice(&[b'%', digit(octet >> 4), digit(octet & 15)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> LogRecord<'static> {
        LogRecord {
            finished: UNIX_EPOCH + Duration::from_millis(1_795_387_968_137),
            elapsed: Duration::from_micros(2_900),
            client: "127.0.0.1".parse().unwrap(),
            result: Tag::Miss.into(),
            status: 206,
            sent_bytes: 464,
            method: "GET",
            url: "http://m/x.rpm",
            strip_query: false,
            user: None,
            hierarchy: Hierarchy::Direct("10.0.0.9".parse().ok()),
            content_type: Some("application/x-rpm"),
        }
    }

    fn line(record: &LogRecord<'_>) -> String {
        String::from_utf8(logline(record)).unwrap()
    }

    #[test]
    fn a_line_has_squids_ten_fields() {
        assert_eq!(
            line(&record()),
            "1795387968.137      2 127.0.0.1 TCP_MISS/206 464 GET http://m/x.rpm - \
             HIER_DIRECT/10.0.0.9 application/x-rpm\n"
        );
        let long = LogRecord {
            finished: UNIX_EPOCH + Duration::from_millis(5),
            elapsed: Duration::from_hours(25),
            client: "::ffff:192.0.2.1".parse().unwrap(),
            result: Tag::Tunnel.into(),
            status: 200,
            method: "CONNECT",
            url: "host:443",
            hierarchy: Hierarchy::FirstUpParent("::1".parse().ok()),
            content_type: None,
            ..record()
        };
        assert_eq!(
            line(&long),
            "0.005 90000000 192.0.2.1 TCP_TUNNEL/200 464 CONNECT host:443 - FIRSTUP_PARENT/::1 -\n"
        );
        let refused = LogRecord {
            elapsed: Duration::ZERO,
            result: Tag::None.into(),
            status: 400,
            sent_bytes: 0,
            method: "",
            url: "error:invalid-request",
            hierarchy: Hierarchy::None,
            content_type: Some("text/html;charset=utf-8"),
            ..record()
        };
        assert_eq!(
            line(&refused),
            "1795387968.137      0 127.0.0.1 NONE_NONE/400 0 - error:invalid-request - \
             HIER_NONE/- text/html\n"
        );
    }

    #[test]
    fn result_codes_carry_infix_and_suffixes() {
        let plain = ResultCode::from(Tag::Miss);
        for (code, wanted) in [
            (Tag::Hit.into(), "TCP_HIT"),
            (Tag::MemHit.into(), "TCP_MEM_HIT"),
            (Tag::RefreshUnmodified.into(), "TCP_REFRESH_UNMODIFIED"),
            (Tag::RefreshModified.into(), "TCP_REFRESH_MODIFIED"),
            (Tag::RefreshFailOld.into(), "TCP_REFRESH_FAIL_OLD"),
            (Tag::RefreshFailErr.into(), "TCP_REFRESH_FAIL_ERR"),
            (Tag::ImsHit.into(), "TCP_IMS_HIT"),
            (Tag::InmHit.into(), "TCP_INM_HIT"),
            (Tag::OfflineHit.into(), "TCP_OFFLINE_HIT"),
            (Tag::Denied.into(), "TCP_DENIED"),
            (Tag::None.into(), "NONE_NONE"),
            (
                ResultCode {
                    collapsed: true,
                    ..plain
                },
                "TCP_CF_MISS",
            ),
            (
                ResultCode {
                    collapsed: true,
                    aborted: true,
                    ..plain
                },
                "TCP_CF_MISS_ABORTED",
            ),
            (
                ResultCode {
                    ignored: true,
                    timed_out: true,
                    ..plain
                },
                "TCP_MISS_IGNORED_TIMEDOUT",
            ),
        ] {
            assert_eq!(code.to_string(), wanted);
        }
    }

    #[test]
    fn nothing_from_the_network_adds_a_field_or_a_line() {
        let hostile = LogRecord {
            method: "GE T",
            url: "http://m/a b\r\nc\u{7f}é",
            user: Some("a b"),
            content_type: Some("a\nb c"),
            ..record()
        };
        let line = line(&hostile);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.split_whitespace().count(), 10);
        assert!(
            line.contains("GE%20T http://m/a%20b%0D%0Ac%7F%C3%A9 a%20b "),
            "{line}"
        );
        assert!(line.ends_with(" a%0Ab\n"), "{line}");
    }

    #[test]
    fn queries_are_left_out_where_that_is_asked() {
        let url = "http://m/a?b=c?d";
        let whole = LogRecord { url, ..record() };
        assert!(line(&whole).contains(" http://m/a?b=c?d "));
        let stripped = LogRecord {
            strip_query: true,
            ..whole
        };
        assert!(line(&stripped).contains(" http://m/a? "));
    }
}

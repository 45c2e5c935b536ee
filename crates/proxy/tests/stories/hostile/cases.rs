//! The bytes: each case reaches one rule that no other does.

/// What a client may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// One answer of this status; the origin is not asked.
    Refused(u16),
    /// Any 4xx or 5xx, or the end of the connection without a word; the origin is not asked.
    RefusedOrClosed,
    /// 200, by one request at the origin.
    Served,
    /// 200 or a refusal, by at most one request at the origin.
    AtMostOnce,
}
use Want::{AtMostOnce, Refused, RefusedOrClosed, Served};

/// `O` stands for the origin's authority.
pub(super) const LINES: &[(&str, &str, Want)] = &[
    (
        "plain request",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        Served,
    ),
    (
        "empty lines before it",
        "\r\n\r\nGET http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        Served,
    ),
    (
        "lower-case method",
        "get http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "method with a control",
        "G\x01ET http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "method with a colon",
        "GET: http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    ("no version", "GET http://O/a\r\n\r\n", RefusedOrClosed),
    (
        "version of another protocol",
        "GET http://O/a FTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "version 2.0 in text",
        "GET http://O/a HTTP/2.0\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "version 1.2",
        "GET http://O/a HTTP/1.2\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "version in lower case",
        "GET http://O/a http/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "version with two digits",
        "GET http://O/a HTTP/1.10\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "word after the version",
        "GET http://O/a HTTP/1.1 x\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "two blanks before the target",
        "GET  http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "tab for a blank",
        "GET\thttp://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "blank within the target",
        "GET http://O/a b HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "bare CR ends the line",
        "GET http://O/a HTTP/1.1\rHost: O\r\r",
        RefusedOrClosed,
    ),
    (
        "bare CR within a line",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nX: a\rb\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "NUL in the target",
        "GET http://O/\x00 HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "NUL in a field",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nX: a\x00b\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "DEL in the target",
        "GET http://O/\x7f HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "TLS hello",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "HTTP/2 preface",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "PROXY protocol",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET http://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    ("SMTP", "EHLO larder\r\n", RefusedOrClosed),
    (
        "bare LF ends the request line",
        "GET http://O/a HTTP/1.1\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "bare LF ends a field",
        "GET http://O/a HTTP/1.1\r\nHost: O\nX: y\r\n\r\n",
        Refused(400),
    ),
    (
        "bare LF ends the head",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\n\n",
        Refused(400),
    ),
];

pub(super) const FIELDS: &[(&str, &str, Want)] = &[
    ("no Host", "GET http://O/a HTTP/1.1\r\n\r\n", Refused(400)),
    (
        "two Hosts",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "Host is a list",
        "GET http://O/a HTTP/1.1\r\nHost: O, O\r\n\r\n",
        Refused(400),
    ),
    (
        "Host has a path",
        "GET http://O/a HTTP/1.1\r\nHost: O/x\r\n\r\n",
        Refused(400),
    ),
    (
        "Host has a user",
        "GET http://O/a HTTP/1.1\r\nHost: u@O\r\n\r\n",
        Refused(400),
    ),
    (
        "Host has a bad port",
        "GET http://O/a HTTP/1.1\r\nHost: x:99999\r\n\r\n",
        Refused(400),
    ),
    (
        "Host has a blank",
        "GET http://O/a HTTP/1.1\r\nHost: a b\r\n\r\n",
        Refused(400),
    ),
    (
        "Host is another's",
        "GET http://O/a HTTP/1.1\r\nHost: elsewhere.test\r\n\r\n",
        Served,
    ),
    (
        "HTTP/1.0 without Host",
        "GET http://O/a HTTP/1.0\r\n\r\n",
        Served,
    ),
    (
        "blank before the colon",
        "GET http://O/a HTTP/1.1\r\nHost : O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "field without a colon",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nnonsense\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "empty field name",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\n: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "field name with a blank",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nX Y: z\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "field name with a bracket",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nX(Y): z\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "field name in UTF-8",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nÜ: z\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "folded field",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nX: a\r\n b\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "first field begins with a blank",
        "GET http://O/a HTTP/1.1\r\n Host: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "Connection names Host",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nConnection: host\r\n\r\n",
        Served,
    ),
    (
        "Connection names everything",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nConnection: via, range, cache-control, close\r\n\r\n",
        Served,
    ),
    (
        "our own Via",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nVia: 1.1 larder.test (larder)\r\n\r\n",
        Refused(508),
    ),
    (
        "Via of others",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nVia: 1.0 fred, 1.1 example.test\r\n\r\n",
        Served,
    ),
    (
        "Upgrade that nobody serves",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        Served,
    ),
    (
        "Upgrade to h2c",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
        Served,
    ),
    (
        "Expect of a GET",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nExpect: 100-continue\r\n\r\n",
        Served,
    ),
    (
        "absurd Cache-Control",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nCache-Control: max-age=99999999999999999999999, =, \"\r\n\r\n",
        Served,
    ),
    (
        "absurd dates",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nIf-Modified-Since: Thu, 99 Foo 9999 99:99:99 GMT\r\n\r\n",
        Served,
    ),
    (
        "absurd ranges",
        "GET http://O/a HTTP/1.1\r\nHost: O\r\nRange: bytes=-,-,--\r\n\r\n",
        Served,
    ),
];

pub(super) const TARGETS: &[(&str, &str, Want)] = &[
    (
        "ftp",
        "GET ftp://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(501),
    ),
    (
        "file",
        "GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "gopher",
        "GET gopher://O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(501),
    ),
    (
        "user in the URL",
        "GET http://u:p@O/a HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "empty host",
        "GET http:///a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "port 0",
        "GET http://127.0.0.1:0/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "port 65536",
        "GET http://127.0.0.1:65536/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "port is no number",
        "GET http://127.0.0.1:8x/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "port with a sign",
        "GET http://127.0.0.1:+80/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "two ports",
        "GET http://127.0.0.1:80:80/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "unclosed bracket",
        "GET http://[::1/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "zone in an address",
        "GET http://[fe80::1%25lo]/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "host with two dots",
        "GET http://a..b/ HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "star for a GET",
        "GET * HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "relative target",
        "GET a/b HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "authority form of a GET",
        "GET O HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "unknown own page",
        "GET /etc/passwd HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(404),
    ),
    (
        "own page climbs",
        "GET /../../etc/passwd HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(404),
    ),
    (
        "named host climbs",
        "GET /http/O/../../a HTTP/1.1\r\nHost: O\r\n\r\n",
        Served,
    ),
    (
        "named host is bad",
        "GET /http/a..b/x HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "named host has a user",
        "GET /http/u@O/x HTTP/1.1\r\nHost: O\r\n\r\n",
        Refused(400),
    ),
    (
        "apt-cacher-ng's form without a host",
        "GET http://HTTPS///  HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "escape that is none",
        "GET http://O/%zz HTTP/1.1\r\nHost: O\r\n\r\n",
        Served,
    ),
    (
        "mapped address of nobody",
        "GET http://[::ffff:0.0.0.0]:1/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "octal address",
        "GET http://0177.0.0.01:1/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "address in hex",
        "GET http://0x7f.1:1/a HTTP/1.1\r\nHost: O\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "escaped NUL",
        "GET http://O/%00 HTTP/1.1\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "escaped line end",
        "GET http://O/%0d%0aX:%20y HTTP/1.1\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "fragment",
        "GET http://O/a#b HTTP/1.1\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "query only",
        "GET http://O?q HTTP/1.1\r\nHost: O\r\n\r\n",
        AtMostOnce,
    ),
    (
        "no path",
        "GET http://O HTTP/1.1\r\nHost: O\r\n\r\n",
        Served,
    ),
];

pub(super) const TUNNELS: &[(&str, &str, Want)] = &[
    (
        "CONNECT without a port",
        "CONNECT 127.0.0.1 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT to port 0",
        "CONNECT 127.0.0.1:0 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT with a path",
        "CONNECT 127.0.0.1:443/x HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT with a scheme",
        "CONNECT http://127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT with a user",
        "CONNECT u@127.0.0.1:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT to a star",
        "CONNECT * HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT without Host",
        "CONNECT 127.0.0.1:443 HTTP/1.1\r\n\r\n",
        Refused(400),
    ),
    (
        "CONNECT to nobody",
        "CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
    (
        "CONNECT with a bad bracket",
        "CONNECT [::1:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        RefusedOrClosed,
    ),
];

/// A second request hides where one reader sees a body and another does not.
pub(super) const HIDDEN: &str = "GET http://O/hidden HTTP/1.1\r\nHost: O\r\n\r\n";

/// Framing fields of a POST to /a whose body is [`HIDDEN`] or part of it.
pub(super) const FRAMINGS: &[(&str, &str)] = &[
    (
        "length and chunks",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ),
    (
        "chunks and length",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    ),
    ("two lengths", "Content-Length: 0\r\nContent-Length: 50\r\n"),
    ("length is a list", "Content-Length: 5, 50\r\n"),
    ("length with a plus", "Content-Length: +5\r\n"),
    ("length with a minus", "Content-Length: -5\r\n"),
    ("length in hex", "Content-Length: 0x5\r\n"),
    ("length with a blank", "Content-Length: 5 0\r\n"),
    ("length is a fraction", "Content-Length: 5.0\r\n"),
    (
        "length beyond 64 bits",
        "Content-Length: 18446744073709551621\r\n",
    ),
    ("length is empty", "Content-Length: \r\n"),
    ("blank before the length's colon", "Content-Length : 5\r\n"),
    (
        "blank before the encoding's colon",
        "Transfer-Encoding : chunked\r\n",
    ),
    ("unknown encoding", "Transfer-Encoding: xchunked\r\n"),
    (
        "encoding after chunked",
        "Transfer-Encoding: chunked, identity\r\n",
    ),
    ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
    ("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    (
        "chunked with a control",
        "Transfer-Encoding: \x0bchunked\r\n",
    ),
    ("encoding folded", "Transfer-Encoding:\r\n chunked\r\n"),
    (
        "encoding in two fields",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    ),
    (
        "encoding with a parameter",
        "Transfer-Encoding: chunked;x=y\r\n",
    ),
];

/// Chunked bodies that are none; each ends with [`HIDDEN`].
pub(super) const CHUNKS: &[(&str, &str)] = &[
    ("extension with a NUL", "5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("extension with a control", "5;a\x01b\r\nhello\r\n0\r\n\r\n"),
    ("extension with a bare LF", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size is no number", "zz\r\nhello\r\n0\r\n\r\n"),
    ("chunk size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size in 0x form", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size is empty", "\r\nhello\r\n0\r\n\r\n"),
    (
        "chunk size beyond 64 bits",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    ("chunk longer than its size", "2\r\nhello\r\n0\r\n\r\n"),
    ("chunk without its line end", "5\r\nhello0\r\n\r\n"),
    ("chunk size ends in a bare CR", "5\rhello\r\n0\r\n\r\n"),
    ("blank behind a size", "5 \r\nhello\r\n0\r\n\r\n"),
    ("blank behind the last size", "5\r\nhello\r\n0\t\r\n\r\n"),
    ("body ends in a bare LF", "5\r\nhello\r\n0\r\n\n"),
    (
        "trailer line ends in a bare LF",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
    ),
    (
        "trailer section ends in a bare LF",
        "5\r\nhello\r\n0\r\nX: y\r\n\n",
    ),
    (
        "trailer names the framing",
        "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n",
    ),
    ("trailer is no field", "5\r\nhello\r\n0\r\nnonsense\r\n\r\n"),
];

"""The access log in Squid's native format, byte by byte."""

import re

from harness import wire
from harness.origin import Answer
from harness.story import check, equal, story

# epoch.ms, elapsed (6 wide), client, result/status, bytes, method, URL, user, hierarchy/server, type
LINE = re.compile(
    r"\d{10}\.\d{3} (?=[ \d]{6}) *\d+ (?P<client>\S+) (?P<result>[A-Z_]+)/(?P<status>\d{3}) (?P<bytes>\d+) "
    r"(?P<method>\S+) (?P<url>\S+) (?P<user>\S+) (?P<from>[A-Z_]+)/(?P<server>\S+) (?P<type>\S+)"
)
PATH = "/pool/logged-1.0-1.x86_64.rpm"
ETAG = '"log"'


def fields(proxy, about, nth=1):
    """The nth line about a URL, taken apart; no other came yet, and every line must have the form."""
    lines = proxy.lines(about, nth)
    for line in proxy.lines():
        check(LINE.fullmatch(line), f"line of another form: {line!r}")
    equal(len(lines), nth, f"lines about {about}")
    return LINE.fullmatch(lines[-1]).groupdict()


def size_of(reply):
    """Bytes that the client received, its head included."""
    return str(len(reply.head.encode("latin-1")) + len(reply.body))


def expect(got, reply, **wanted):
    """Fails the story unless a line has these fields and the reply's status and size."""
    wanted |= {"client": "127.0.0.1", "user": "-", "bytes": size_of(reply), "status": str(reply.status)}
    for name, value in wanted.items():
        check(re.fullmatch(value, got[name]), f"{name}: got {got[name]!r}, wanted {value!r} in {got}")


@story()
def hits_and_misses_are_logged_as_squid_does(lab):
    """Miss, hit, conditional hits and an error have Squid's result code, the bytes that the client
    got with the head, the hierarchy code and the media type without parameters."""
    origin = lab.origin()
    origin.put(PATH, Answer(body=b"x" * 5000, etag=ETAG, headers={"Content-Type": "text/plain; charset=utf-8"}))
    origin.put("/missing", Answer(body=b"no", status="404 Not Found", headers={"Content-Type": "text/html"}))
    proxy, url = lab.open_proxy(), origin.url + PATH
    reply = proxy.get(url)
    direct = {"from": "HIER_DIRECT", "server": r"127\.0\.0\.20"}
    here = {"from": "HIER_NONE", "server": "-"}
    same = {"method": "GET", "url": re.escape(url)}
    expect(fields(proxy, url), reply, result="TCP_MISS", type="text/plain", **direct, **same)
    reply = proxy.get(url)
    expect(fields(proxy, url, 2), reply, result="TCP_(MEM_)?HIT", type="text/plain", **here, **same)
    reply = proxy.get(url, {"If-None-Match": ETAG})
    expect(fields(proxy, url, 3), reply, result="TCP_INM_HIT", type="(text/plain|-)", **here, **same)
    reply = proxy.get(url, {"If-Modified-Since": proxy.get(url).get("Last-Modified")})
    expect(fields(proxy, url, 5), reply, result="TCP_IMS_HIT", type="(text/plain|-)", **here, **same)
    reply = proxy.get(url, {"Range": "bytes=0-99"})
    equal(reply.status, 206, "status of a range")
    expect(fields(proxy, url, 6), reply, result="TCP_(MEM_)?HIT", type="text/plain", **here, **same)
    reply = proxy.get(f"{origin.url}/missing")
    got = fields(proxy, f"{origin.url}/missing")
    expect(got, reply, result="TCP_MISS", type="text/html", **direct, method="GET", url=".*/missing")


@story()
def revalidation_is_logged_as_squid_does(lab):
    """A stale object that has not changed is TCP_REFRESH_UNMODIFIED, a changed one
    TCP_REFRESH_MODIFIED."""
    origin = lab.origin()
    brief = {"Cache-Control": "max-age=0", "Content-Type": "text/plain"}
    same = Answer(body=b"one", etag='"1"', headers=brief)
    origin.put("/data", same, same, Answer(body=b"two", etag='"2"', age_days=1, headers=brief))
    proxy, url = lab.open_proxy(), f"{origin.url}/data"
    results = []
    for nth, body in enumerate((b"one", b"one", b"two"), 1):
        equal(proxy.whole(url), body, "body")
        results.append(fields(proxy, url, nth)["result"])
    equal(results, ["TCP_MISS", "TCP_REFRESH_UNMODIFIED", "TCP_REFRESH_MODIFIED"], "result codes")


@story()
def refusals_are_logged(lab):
    """A request that the rules refuse is TCP_DENIED/403 with no hierarchy."""
    proxy = lab.seed_proxy()
    url = "http://mirror4.example.net:8000/denied"
    reply = proxy.get(url)
    expect(fields(proxy, url), reply, result="TCP_DENIED", type="text/.*", method="GET",
           url=re.escape(url), **{"from": "HIER_NONE", "server": "-"})  # fmt: skip


@story()
def queries_are_not_logged(lab):
    """The log cuts a URL after its question mark, as strip_query_terms does."""
    origin = lab.origin()
    origin.put("/file?token=secret", Answer(body=b"file"))
    proxy = lab.open_proxy()
    proxy.whole(f"{origin.url}/file?token=secret")
    equal(fields(proxy, "/file?")["url"], f"{origin.url}/file?", "URL")


@story(larder_only=True)
def heads_that_do_not_parse_are_logged(lab):
    """A request line that is none is logged as error:invalid-request with status 400."""
    proxy = lab.open_proxy()
    with wire.Connection(proxy.forward) as connection:
        connection.send(b"this is no request\r\n\r\n")
        connection.read_all()
    got = fields(proxy, "error:invalid-request")
    equal((got["result"], got["status"], got["from"]), ("NONE_NONE", "400", "HIER_NONE"), "fields")


@story(larder_only=True)
def follower_is_logged_as_collapsed(lab):
    """A client that joined a running fill is TCP_CF_MISS with HIER_NONE."""
    origin = lab.origin()
    origin.put(PATH, Answer(body=b"x" * 4_000_000, stall_at=1_000_000))
    proxy, url = lab.open_proxy(), origin.url + PATH
    with wire.Connection(proxy.forward) as leader, wire.Connection(proxy.forward) as follower:
        leader.send(wire.request(url))
        origin.wait_for(lambda: origin.bytes_of(PATH) > 0, "the fill's first byte")
        follower.send(wire.request(url))
        # The fill goes on when the follower has its first bytes.
        reply = follower.read_reply(progress=lambda _: origin.release())
        check(reply.whole and leader.read_reply().whole, "a cut body")
    got = sorted(LINE.fullmatch(line)["result"] for line in proxy.lines(url, 2))
    equal(got, ["TCP_CF_MISS", "TCP_MISS"], "result codes")

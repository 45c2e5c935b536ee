"""Origins that refuse, break, lie, stall or send garbage: a clear error, nothing kept."""

import random

from harness import wire
from harness.origin import Answer
from harness.proxy import PATIENCE, wait_until
from harness.story import check, equal, story
from harness.world import NOBODY

PATH = "/7.9/os/x86_64/Packages/whole-1.0-1.x86_64.rpm"
# Every wait for an origin is a second, so that the stories need not be long.
IMPATIENT = """
[cache]
directory = "{cache}"
[[listen]]
address = "127.0.0.1:0"
mode = "forward"
[upstream]
connect-timeout = "1s"
first-byte-timeout = "1s"
stall-timeout = "1s"
[admin]
address = ""
"""


def body_of(lab, size=3_000_000):
    """A body of the run's seed."""
    return random.Random(lab.options.seed).randbytes(size)


def impatient(lab):
    """A larder that waits a second at most."""
    return lab.toml_proxy(IMPATIENT.format(cache=lab.cache()))


def is_had(proxy, url, body):
    """Asks until the whole comes: a good origin too may be slower than an impatient larder bears."""

    def comes():
        reply = proxy.get(url)
        check(not reply.whole or reply.body == body or reply.status >= 500, f"{reply.status}: another body")
        return reply.status == 200 and reply.whole

    check(wait_until(comes, PATIENCE), f"{url} does not come")


def is_error_page(reply, statuses):
    """A short readable page with one of the statuses."""
    check(reply.status in statuses, f"status {reply.status}, wanted one of {statuses}")
    check(reply.whole and 20 < len(reply.body) < 8192, f"page of {len(reply.body)} bytes")
    kind = reply.get("Content-Type") or ""
    check(kind.startswith("text/"), f"page of type {kind!r}")


def cut_then_good(lab, first):
    """A first answer that breaks, then a good one: the client sees the cut, the next gets all."""
    origin = lab.origin()
    body = first.body
    origin.put(PATH, first, Answer(body=body))
    proxy = lab.proxy()
    reply = proxy.get(origin.url + PATH)
    if reply.status == 200:
        check(not reply.whole or reply.body == body, "a short body went out as a whole one")
    else:
        is_error_page(reply, {502, 503, 504})
    equal(proxy.whole(origin.url + PATH), body, "body at the next request")
    count = origin.count(PATH)
    equal(proxy.whole(origin.url + PATH), body, "body of the hit")
    equal(origin.count(PATH), count, "requests for the hit")


@story()
def body_cut_short_of_its_length_is_not_kept(lab):
    """An origin closes before Content-Length is met: the client sees an error, nothing is kept, the
    next request gets the whole object."""
    cut_then_good(lab, Answer(body=body_of(lab), cut_at=1_000_000))


@story()
def chunked_body_without_its_end_is_not_kept(lab):
    """An origin closes in the middle of a chunked body: the client sees an error, nothing is kept,
    the next request gets the whole object."""
    cut_then_good(lab, Answer(body=body_of(lab), chunked=True, cut_at=1_000_000))


@story()
def body_cut_at_its_first_byte_is_not_kept(lab):
    """An origin sends a good head and closes: an error, nothing kept."""
    cut_then_good(lab, Answer(body=body_of(lab), cut_at=0))


@story()
def length_larger_than_the_body_is_not_kept(lab):
    """An origin declares more bytes than it has: the client sees the cut, nothing is kept."""
    body = body_of(lab)
    cut_then_good(lab, Answer(body=body, declare=len(body) + 1))


@story()
def surplus_bytes_do_not_become_the_next_answer(lab):
    """An origin sends more than it declares: the client gets what was declared, and the surplus is
    never read as an answer to somebody else."""
    origin = lab.origin()
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"
    origin.put("/first", Answer(body=b"good" + evil, declare=4, etag=None))
    origin.put("/second", Answer(body=b"second"))
    proxy = lab.proxy()
    for _ in range(5):
        first = proxy.get(f"{origin.url}/first")
        check(first.body in (b"good", b""), f"first body {first.body!r}")
        equal(proxy.get(f"{origin.url}/second").body, b"second", "second body")


@story(squid_fails="followers of a fill that breaks hang")
def cut_reaches_all_clients_of_the_fill(lab):
    """When the origin of a collapsed fill breaks, every client sees a cut or gets the whole object
    by another fetch; none gets a short body as whole."""
    origin = lab.origin()
    body = body_of(lab, 8_000_000)
    origin.put(PATH, Answer(body=body, pace=8_000_000, cut_at=4_000_000), Answer(body=body))
    proxy = lab.proxy()
    connections = [wire.Connection(proxy.forward) for _ in range(4)]
    for connection in connections:
        connection.send(wire.request(origin.url + PATH))
    for number, connection in enumerate(connections):
        with connection:
            reply = connection.read_reply()
        check(not reply.whole or reply.body == body or reply.status >= 500, f"client {number}")
    equal(proxy.whole(origin.url + PATH), body, "body at the next request")


@story(squid_fails="noise is taken for HTTP/0.9")
def answers_that_are_no_http_give_502(lab):
    """Garbage, an empty answer, a head without end and impossible lengths from the origin give 502
    with a short page, and the next request gets the object."""
    origin = lab.origin()
    garbage = {
        "noise": bytes(range(256)) * 8,
        "nothing": b"",
        "half-a-head": b"HTTP/1.1 200 OK\r\nContent-Type: text/pl",
        "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345",
        "no-number": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n12345",
    }
    for name, raw in garbage.items():
        origin.put(f"/{name}", Answer(raw=raw), Answer(raw=raw), Answer(raw=raw))
    proxy = lab.proxy()
    for name in garbage:
        reply = proxy.get(f"{origin.url}/{name}")
        check(reply.status in (502, 503, 504), f"{name}: status {reply.status}")
        origin.put(f"/{name}", Answer(body=b"good"))
        equal(proxy.whole(f"{origin.url}/{name}"), b"good", f"body after {name}")


@story()
def name_that_does_not_resolve_gives_an_error_page(lab):
    """A name that nobody knows gives 502, 503 or 504 with a short page that names it."""
    reply = lab.proxy().get("http://no-such-name.invalid/file")
    is_error_page(reply, {502, 503, 504})
    check(b"no-such-name.invalid" in reply.body, "the page does not name the host")


@story()
def refused_connection_gives_an_error_page(lab):
    """An origin that refuses gives 502 or 503 with a short page, and later requests work."""
    proxy = lab.proxy()
    is_error_page(proxy.get(f"http://{NOBODY}/file"), {502, 503})
    origin = lab.origin()
    origin.put("/file", Answer(body=b"there"))
    equal(proxy.whole(f"{origin.url}/file"), b"there", "body from an origin that listens")


@story(larder_only=True)
def origin_that_says_nothing_gives_504(lab):
    """An origin that takes the request and stays silent gives 504 after first-byte-timeout."""
    origin = lab.origin()
    origin.put(PATH, Answer(stall_head=True), Answer(body=b"now"))
    proxy = impatient(lab)
    is_error_page(proxy.get(origin.url + PATH), {504})
    is_had(proxy, origin.url + PATH, b"now")


@story(larder_only=True)
def origin_that_stalls_in_mid_body_is_cut(lab):
    """A body that stops coming is cut after stall-timeout: no hang, nothing short kept."""
    origin = lab.origin()
    body = body_of(lab)
    origin.put(PATH, Answer(body=body, stall_at=1_000_000), Answer(body=body))
    proxy = impatient(lab)
    reply = proxy.get(origin.url + PATH)
    check(not reply.whole or reply.body == body, "a short body went out as a whole one")
    is_had(proxy, origin.url + PATH, body)


@story()
def errors_and_redirects_are_passed_and_not_shared(lab):
    """404, 403, 302 and 500 reach the client as they are and do not stand in for the object."""
    origin = lab.origin()
    proxy = lab.proxy()
    for status in ("404 Not Found", "403 Forbidden", "302 Found", "500 Internal Server Error"):
        code, path = int(status[:3]), f"/7.9/os/x86_64/Packages/e{status[:3]}-1.0-1.x86_64.rpm"
        headers = {"Location": "/elsewhere"} if code == 302 else {}
        origin.put(path, Answer(body=b"no", status=status, headers=headers))
        equal(proxy.get(origin.url + path).status, code, "status")
        origin.put(path, Answer(body=b"now"))
        # A short negative cache is allowed for what is not there; a reload sees through it.
        reply = proxy.get(origin.url + path, {"Cache-Control": "no-cache"})
        equal((reply.status, reply.body), (200, b"now"), f"answer after {status}")


@story()
def close_delimited_body_arrives_whole(lab):
    """A body that ends with the connection, as HTTP/1.0 servers send it, arrives whole."""
    origin = lab.origin()
    body = body_of(lab)
    origin.put("/old-server", Answer(body=body, close_delimited=True))
    reply = lab.proxy().get(f"{origin.url}/old-server")
    equal((reply.status, reply.body == body), (200, True), "status and body")


@story()
def unasked_206_is_not_taken_for_the_object(lab):
    """An origin that answers 206 to a request without Range does not fill the cache."""
    origin = lab.origin()
    odd = {"Content-Range": "bytes 0-4/10"}
    origin.put(PATH, Answer(body=b"01234", status="206 Partial Content", headers=odd))
    proxy = lab.proxy()
    check(proxy.get(origin.url + PATH).status != 200, "a part went out as the whole")
    origin.put(PATH, Answer(body=b"0123456789"))
    equal(proxy.whole(origin.url + PATH), b"0123456789", "body at the next request")

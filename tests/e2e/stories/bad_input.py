"""Requests that are wrong, and machines on which larder cannot start: one clear answer each."""

import os
import socket

from harness import wire
from harness.origin import Answer
from harness.proxy import StartFailed, free_port
from harness.story import check, equal, story
from stories.broken_origins import IMPATIENT

REFUSED = {400}
TOO_LARGE = {400, 413, 414, 431}
# What is sent, and the statuses of which one must come. An empty answer is a refusal too where
# the head itself cannot be read.
WRONG = {
    "no Host": (b"GET /file HTTP/1.1\r\n\r\n", REFUSED),
    "absolute target without Host": (b"GET http://127.0.0.20/file HTTP/1.1\r\n\r\n", REFUSED),
    "two Hosts": (b"GET http://127.0.0.20/file HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", REFUSED),
    "no host in the target": (b"GET http:///file HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    "open bracket": (b"GET http://[::1/file HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    "port beyond 65535": (b"GET http://127.0.0.20:99999/f HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    "ftp": (b"GET ftp://127.0.0.20/file HTTP/1.1\r\nHost: 127.0.0.20\r\n\r\n", {501}),
    "unknown scheme": (b"GET gopher://127.0.0.20/ HTTP/1.1\r\nHost: 127.0.0.20\r\n\r\n", {400, 501}),
    "space in the target": (b"GET http://127.0.0.20/a b HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    "no request": (b"this is no request\r\n\r\n", REFUSED),
    "noise": (bytes(range(1, 256)) * 4 + b"\r\n\r\n", REFUSED),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(300) + b"\r\n\r\n", REFUSED),
    "field without a colon": (b"GET http://127.0.0.20/file HTTP/1.1\r\nHost: a\r\nOdd\r\n\r\n", REFUSED),
    "CONNECT without a port": (b"CONNECT 127.0.0.20 HTTP/1.1\r\nHost: 127.0.0.20\r\n\r\n", REFUSED),
    "long field": (b"GET http://127.0.0.20/file HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
                   TOO_LARGE),
    "many fields": (b"GET http://127.0.0.20/file HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 40_000 + b"\r\n",
                    TOO_LARGE),
    "long target": (b"GET http://127.0.0.20/" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", TOO_LARGE),
}  # fmt: skip


def answer_to(proxy, data):
    """The reply to some bytes; None where the connection was closed without one."""
    with wire.Connection(proxy.forward, 60) as connection:
        try:
            connection.send(data)
        except ConnectionError:
            pass  # closed while we sent: its answer may still be there
        try:
            return connection.read_reply()
        except (wire.NoAnswer, ConnectionError):
            return None


@story(squid_fails="it is lenient with Host")
def wrong_requests_get_a_4xx_and_cost_nothing(lab):
    """Each wrong request gets its 4xx or 5xx with a short page, or a close where its head cannot be
    read; nothing reaches the origin, and a good request after it is answered."""
    origin = lab.origin()
    origin.put("/good", Answer(body=b"good"))
    proxy = lab.proxy()
    wrong = []
    for name, (data, statuses) in WRONG.items():
        reply = answer_to(proxy, data)
        if reply is not None and (reply.status not in statuses or len(reply.body) > 8192):
            wrong.append(f"{name}: {reply.status} with {len(reply.body)} bytes")
        if reply is None and statuses not in (REFUSED, TOO_LARGE):
            wrong.append(f"{name}: no answer")
        equal(proxy.get(f"{origin.url}/good").body, b"good", f"a good request after: {name}")
    equal({r.target for r in origin.requests}, {"/good"}, "what reached the origin")
    check(not wrong, "; ".join(wrong))


@story()
def message_of_two_lengths_smuggles_nothing(lab):
    """A request whose length can be read two ways does not make its body a second request."""
    origin = lab.origin()
    origin.put("/outer", Answer(body=b"outer"))
    origin.put("/smuggled", Answer(body=b"smuggled"))
    inner = f"GET {origin.url}/smuggled HTTP/1.1\r\nHost: 127.0.0.20\r\n\r\n"
    proxy = lab.proxy()
    for lengths in (
        f"Content-Length: {len(inner) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        f"Content-Length: 5\r\nContent-Length: {len(inner) + 5}\r\n\r\nhello{inner}",
        f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{inner}",
    ):
        data = f"POST {origin.url}/outer HTTP/1.1\r\nHost: 127.0.0.20\r\n{lengths}"
        with wire.Connection(proxy.forward, 60) as connection:
            connection.send(data)
            connection.half_close()
            try:
                connection.read_all()
            except ConnectionError:
                pass  # a reset is a refusal
    equal(origin.count("/smuggled"), 0, "smuggled requests at the origin")


@story(larder_only=True)
def head_that_never_ends_is_closed(lab):
    """A client that does not finish its head is let go after limits.request-head."""
    limits = '[limits]\nrequest-head = "1s"\n'
    proxy = lab.toml_proxy(IMPATIENT.format(cache=lab.cache()) + limits)
    with wire.Connection(proxy.forward, 60) as connection:
        connection.send(b"GET http://127.0.0.20/file HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        said = connection.read_all()
    check(said == b"" or said.startswith(b"HTTP/1.1 408"), f"said {said[:80]!r}")


@story(larder_only=True)
def proxy_never_asks_itself(lab):
    """A request for the proxy's own listener by another name ends at once; so does one whose Via
    shows that it was here already."""
    proxy = lab.proxy()
    port = proxy.forward[1]
    for url in (f"http://larder.example:{port}/loop", f"http://localhost:{port}/http/localhost:{port}/x"):
        status = proxy.get(url).status
        check(400 <= status < 600, f"{url}: {status}")
    origin = lab.origin()
    origin.put("/file", Answer(body=b"file"))
    proxy.get(f"{origin.url}/file")
    via = origin.requests[0].get("Via")
    equal(proxy.get(f"{origin.url}/other", {"Via": via}).status, 508, "status with its own Via")


@story(larder_only=True)
def addresses_that_are_nobodys_mirror_are_refused(lab):
    """With the built-in rules link-local, metadata and unspecified addresses answer 403, also in
    their odd spellings, and ports below 1025 other than 80 and 443 as well."""
    proxy = lab.proxy()
    for host in ("169.254.169.254", "0.0.0.0", "[::]", "[::ffff:169.254.169.254]", "127.0.0.20:25"):
        equal(proxy.get(f"http://{host}/latest/").status, 403, f"status of {host}")


def exits(lab, code, *words):
    """`larder serve` with these words must end with this code and one message; returns it."""
    done = lab.driver.command("serve", "--admin", "off", *words)
    equal(done.returncode, code, f"exit code; it said {done.stderr.strip()[-400:]!r}")
    check(done.stderr.strip(), "no message")
    check("panicked" not in done.stderr, done.stderr)
    return done.stderr


@story(larder_only=True)
def port_that_is_taken_ends_the_start(lab):
    """A listener on a port that another process has: exit 1, and the message names the address."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        address = "{}:{}".format(*other.getsockname())
        said = exits(lab, 1, "--cache-dir", lab.cache(), "--listen", address)
    check(address in said, f"the message does not name {address}: {said}")


@story(larder_only=True)
def cache_directory_on_a_read_only_disk_costs_the_cache_alone(lab):
    """A cache directory on a read-only disk: larder serves without storing, and says so with its
    name."""
    directory = lab.mounted("read-only", "size=1m,ro")
    origin = lab.origin()
    origin.put("/file", Answer(body=b"passed"))
    proxy = lab.larder(["--admin", "off", "--cache-dir", directory, "--listen", "127.0.0.1:0"])
    for _ in range(2):
        equal(proxy.whole(f"{origin.url}/file"), b"passed", "the file")
    check(directory in proxy.said(), "no name")


@story(larder_only=True)
def file_in_place_of_the_cache_directory_ends_the_start(lab):
    """A file where the cache directory should be: exit 1, and the message names it."""
    file = lab.write("a-file", "not a directory\n")
    check(str(file) in exits(lab, 1, "--cache-dir", str(file), "--listen", "127.0.0.1:0"), "no name")
    equal(file.read_text(), "not a directory\n", "the file")


@story(larder_only=True)
def cache_directory_of_another_process_is_left_alone(lab):
    """A second larder on a held cache directory: exit 1 with its name; the first goes on."""
    origin = lab.origin()
    origin.put("/file-1.0-1.noarch.rpm", Answer(body=b"kept"))
    proxy = lab.proxy()
    proxy.whole(f"{origin.url}/file-1.0-1.noarch.rpm")
    said = exits(lab, 1, "--cache-dir", lab.cache(), "--listen", "127.0.0.1:0")
    check(lab.cache() in said, f"the message does not name the directory: {said}")
    equal(proxy.whole(f"{origin.url}/file-1.0-1.noarch.rpm"), b"kept", "body from the first")
    equal(len(origin.requests), 1, "requests at the origin")


@story(larder_only=True)
def broken_start_touches_nothing(lab):
    """A configuration that is refused makes no cache directory and opens no port."""
    cache = lab.room / "never-made"
    text = lab.seed_conf(str(cache)) + "no_such_directive on\n"
    conf = lab.write("broken.conf", text)
    line = text.count("\n")
    said = exits(lab, 2, "--squid-conf", str(conf))
    check(f"{conf}:{line}:1" in said, f"no position {conf}:{line}:1 in: {said}")
    check(not os.path.exists(cache), "the cache directory was made")
    with_two = text.replace("no_such_directive on", "http_port 3128 accel defaultsite=x.example")
    exits(lab, 2, "--squid-conf", str(lab.write("two.conf", with_two)))
    check(not os.path.exists(cache), "the cache directory was made")
    try:
        lab.squid_proxy(text)
    except StartFailed:
        return
    raise AssertionError("it started")

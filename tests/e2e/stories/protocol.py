"""HTTP/1.x as clients speak it: pipelining, old versions, half-closing, fields that stop here."""

import random

from harness import wire
from harness.origin import Answer
from harness.story import check, equal, story


@story()
def pipelined_requests_are_answered_in_order(lab):
    """Twenty requests in one write, hits and misses mixed, are answered in their order on the same
    connection."""
    origin = lab.origin()
    draw = random.Random(lab.options.seed)
    bodies = {f"/pool/p{n}_1.0_all.deb": draw.randbytes(draw.randrange(1, 90_000)) for n in range(20)}
    for path, body in bodies.items():
        origin.put(path, Answer(body=body))
    proxy = lab.proxy()
    for path in list(bodies)[::3]:
        proxy.whole(origin.url + path)
    with wire.Connection(proxy.forward) as connection:
        connection.send(b"".join(wire.request(origin.url + path) for path in bodies))
        for path, body in bodies.items():
            reply = connection.read_reply()
            check(reply.whole and reply.body == body, f"answer for {path} is out of step")
    equal(len(origin.requests), 20, "requests at the origin")


@story()
def connection_carries_many_requests(lab):
    """Fifty requests one after another on one connection are answered on it."""
    origin = lab.origin()
    origin.put("/small", Answer(body=b"small", headers={"Cache-Control": "max-age=600"}))
    with wire.Connection(lab.proxy().forward) as connection:
        for _ in range(50):
            equal(connection.get(f"{origin.url}/small").body, b"small", "body")


@story()
def old_clients_get_their_answer_and_a_close(lab):
    """An HTTP/1.0 client gets the object without chunks and then the end of the connection, also
    where the origin sends chunks."""
    origin = lab.origin()
    body = random.Random(lab.options.seed).randbytes(300_000)
    origin.put("/plain", Answer(body=body))
    origin.put("/chunks", Answer(body=body, chunked=True))
    proxy = lab.proxy()
    for path in ("/plain", "/chunks", "/chunks"):
        with wire.Connection(proxy.forward) as connection:
            connection.send(wire.request(origin.url + path, version="HTTP/1.0"))
            reply = connection.read_reply()
            check(reply.body == body, f"body of {path}")
            equal(reply.get("Transfer-Encoding"), None, f"Transfer-Encoding of {path}")
            equal(connection.read_all(), b"", f"bytes after {path}")


@story(squid_fails="half_closed_clients is off")
def half_closing_client_gets_its_answer(lab):
    """A client that shuts its write side after the request, as `nc -N` does, gets the whole answer,
    of a miss and of a hit."""
    origin = lab.origin()
    body = random.Random(lab.options.seed).randbytes(2_000_000)
    origin.put("/7.9/os/x86_64/half.rpm", Answer(body=body, pace=20_000_000))
    proxy = lab.proxy()
    for turn in ("miss", "hit"):
        with wire.Connection(proxy.forward) as connection:
            connection.send(wire.request(f"{origin.url}/7.9/os/x86_64/half.rpm"))
            connection.half_close()
            reply = connection.read_reply()
            check(reply.whole and reply.body == body, f"body of the {turn}")


@story()
def target_decides_and_not_the_host_field(lab):
    """The absolute target says which origin is asked; a Host that differs is not believed."""
    origin = lab.origin("mirror3.example.org")
    other = lab.origin("mirror4.example.net")
    origin.put("/file", Answer(body=b"right"))
    other.put("/file", Answer(body=b"wrong"))
    proxy = lab.proxy()
    equal(proxy.get(f"{origin.url}/file", {"Host": "mirror4.example.net"}).body, b"right", "body")
    equal(len(other.requests), 0, "requests at the other origin")
    equal(origin.requests[0].get("Host"), "mirror3.example.org", "Host sent upstream")


@story()
def fields_for_one_hop_stop_at_the_proxy(lab):
    """Connection, the fields that it names, Keep-Alive and Proxy-Connection reach neither side."""
    origin = lab.origin()
    answer = {"Connection": "X-Secret", "X-Secret": "1", "Keep-Alive": "timeout=5", "X-Kept": "1"}
    origin.put("/file", Answer(body=b"file", headers=answer))
    sent = {"Proxy-Connection": "Keep-Alive", "Connection": "X-Mine", "X-Mine": "1", "X-Also": "1"}
    reply = lab.proxy().get(f"{origin.url}/file", sent)
    equal(reply.get("X-Kept"), "1", "end-to-end field of the answer")
    equal(reply.get("X-Secret"), None, "field that the origin's Connection names")
    heard = origin.requests[0]
    equal(heard.get("X-Also"), "1", "end-to-end field of the request")
    for name in ("Proxy-Connection", "X-Mine"):
        equal(heard.get(name), None, f"{name} upstream")
    check(heard.get("Via") is not None, "no Via upstream")


@story()
def post_passes_through_and_fills_nothing(lab):
    """A POST reaches the origin each time, with its body, and its answer is not kept."""
    origin = lab.origin()
    origin.put("/form", Answer(body=b"posted", headers={"Cache-Control": "max-age=600"}))
    proxy = lab.proxy()
    for _ in range(2):
        with wire.Connection(proxy.forward) as connection:
            length = {"Content-Length": "5"}
            connection.send(wire.request(f"{origin.url}/form", length, "POST", body=b"hello"))
            equal(connection.read_reply().body, b"posted", "answer")
    equal([r.method for r in origin.requests], ["POST", "POST"], "what the origin heard")
    proxy.get(f"{origin.url}/form")
    equal(origin.count("/form"), 3, "requests after a GET")


@story()
def answers_to_credentials_are_not_shared(lab):
    """What a client got with Authorization is not given to one without."""
    origin = lab.origin()
    path = "/7.9/os/x86_64/Packages/entitled-1.0-1.x86_64.rpm"
    origin.put(path, Answer(body=b"entitled"), Answer(body=b"no", status="401 Unauthorized"))
    proxy = lab.proxy()
    equal(proxy.get(origin.url + path, {"Authorization": "Basic eDp5"}).body, b"entitled", "body")
    equal(proxy.get(origin.url + path).status, 401, "status without credentials")


@story()
def accelerator_asks_its_origin_whatever_the_host(lab):
    """The accelerator serves its origin's files to plain origin-form requests with any Host, and to
    absolute-form ones by their path; CONNECT it refuses."""
    origin = lab.origin("mirror.23media.de")
    origin.put("/centos/file-1.0-1.noarch.rpm", Answer(body=b"from the mirror"))
    other = lab.origin("mirror4.example.net")
    other.put("/centos/file-1.0-1.noarch.rpm", Answer(body=b"wrong"))
    proxy = lab.proxy(accelerate=origin.url)
    path = "/centos/file-1.0-1.noarch.rpm"
    for target, host in ((path, "larder.example"), (path, "x.example"), (other.url + path, None)):
        headers = {"Host": host or "mirror4.example.net"}
        reply = wire.get(proxy.accelerator, target, headers)
        equal((reply.status, reply.body), (200, b"from the mirror"), f"{target} with {headers}")
    equal(origin.count(path), 1, "requests at the mirror")
    equal(len(other.requests), 0, "requests at another host")
    equal(origin.requests[0].get("Host"), "mirror.23media.de", "Host sent upstream")
    refused = wire.get(proxy.accelerator, "mirror.23media.de:443", method="CONNECT")
    check(400 <= refused.status < 500, f"CONNECT on the accelerator: {refused.status}")


@story()
def accelerator_and_forward_listener_share_the_object(lab):
    """What a forward client drew from the accelerated mirror is a hit on the accelerator."""
    origin = lab.origin("mirror.23media.de")
    path = "/centos/images/vmlinuz"
    origin.put(path, Answer(body=b"kernel" * 1000))
    proxy = lab.proxy(accelerate=origin.url)
    equal(proxy.whole(origin.url + path), b"kernel" * 1000, "forward body")
    reply = wire.get(proxy.accelerator, path, {"Host": "larder.example"})
    equal(reply.body, b"kernel" * 1000, "accelerated body")
    equal(origin.count(path), 1, "requests at the mirror")


@story(larder_only=True)
def paths_that_name_a_host_are_proxied(lab):
    """`/http/HOST/PATH` on the forward port is proxied and shares the object with the proxied URL;
    other paths are 404; `/` is larder's own page."""
    origin = lab.origin()
    path = "/pool/ipxe-1.0-1.noarch.rpm"
    origin.put(path, Answer(body=b"boot me"))
    proxy = lab.proxy()
    own = {"Host": "larder.example:3128"}
    reply = wire.get(proxy.forward, f"/http/127.0.0.20{path}", own)
    equal((reply.status, reply.body), (200, b"boot me"), "by path")
    equal(proxy.whole(origin.url + path), b"boot me", "by proxy")
    equal(origin.count(path), 1, "requests at the origin")
    equal(wire.get(proxy.forward, "/no/such/page", own).status, 404, "another path")
    page = wire.get(proxy.forward, "/", own)
    check(page.status == 200 and b"proxy" in page.body, f"own page: {page.status}")


@story(larder_only=True)
def https_origins_are_reached_by_path(lab):
    """`/https/HOST/PATH` is fetched over TLS, with the certificate checked against `ca-file`."""
    origin = lab.origin("mirror3.example.org", 443, tls=True)
    origin.put("/file-1.0-1.noarch.rpm", Answer(body=b"over TLS"))
    listen = '[[listen]]\naddress = "127.0.0.1:0"\nmode = "forward"\n[admin]\naddress = ""\n'
    upstream = f'[upstream]\nca-file = "{lab.shared.authority.certificate}"\n'
    target = "/https/mirror3.example.org/file-1.0-1.noarch.rpm"
    for trusting in (True, False):
        cache = f'[cache]\ndirectory = "{lab.cache(f"cache-{trusting}")}"\n'
        proxy = lab.toml_proxy(cache + listen + (upstream if trusting else ""))
        reply = wire.get(proxy.forward, target, {"Host": "larder.example:3128"})
        if trusting:
            equal((reply.status, reply.body), (200, b"over TLS"), "by a known authority")
        else:
            check(reply.status in (502, 503), f"by an unknown authority: {reply.status}")

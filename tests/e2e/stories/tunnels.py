"""CONNECT: the exact answer, bytes in both directions, ends that pass through one at a time."""

import hashlib
import random
import re
import ssl
import threading

from harness import raw, wire
from harness.origin import Answer
from harness.story import check, equal, story

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
TARGET = "127.0.0.20:443"


def connect(proxy, target=TARGET, early=b""):
    """A connection on which CONNECT was asked."""
    connection = wire.Connection(proxy.forward)
    connection.send(wire.request(target, method="CONNECT") + early)
    return connection


@story()
def connect_is_answered_with_one_line(lab):
    """CONNECT is answered `HTTP/1.1 200 Connection established` and an empty line: 39 bytes, no
    fields; the next byte is the other side's."""
    lab.raw_server(lambda connection: connection.sendall(b"hello from the server"))
    with connect(lab.proxy()) as connection:
        equal(connection.read_all(), ESTABLISHED + b"hello from the server", "bytes")


@story()
def early_bytes_are_tunnel_data(lab):
    """Bytes sent in the same write as CONNECT reach the other side."""
    lab.raw_server(lambda connection: connection.sendall(connection.recv(100).upper()))
    with connect(lab.proxy(), early=b"early bytes") as connection:
        equal(connection.read_all(), ESTABLISHED + b"EARLY BYTES", "bytes")


@story(squid_fails="the end of either side ends the tunnel")
def half_close_passes_through_a_tunnel(lab):
    """A client that ends its direction still gets all that the other side sends after it."""
    answer = random.Random(lab.options.seed).randbytes(3_000_000)

    def serve(connection):
        request = raw.read_to_end(connection)
        connection.sendall(hashlib.sha256(request).digest() + answer)

    lab.raw_server(serve)
    question = random.Random(lab.options.seed + 1).randbytes(1_000_000)
    with connect(lab.proxy()) as connection:
        connection.send(question)
        connection.half_close()
        wanted = ESTABLISHED + hashlib.sha256(question).digest() + answer
        check(connection.read_all() == wanted, "the answer is not whole")


@story()
def server_that_ends_first_gets_its_bytes_through(lab):
    """All that the other side sent before its end arrives, and then the end."""
    data = random.Random(lab.options.seed).randbytes(5_000_000)
    lab.raw_server(lambda connection: connection.sendall(data))
    with connect(lab.proxy()) as connection:
        check(connection.read_all() == ESTABLISHED + data, "not all bytes arrived")


@story()
def both_directions_carry_bulk_at_once(lab):
    """Megabytes in both directions at the same time arrive whole."""

    def echo(connection):
        while data := connection.recv(65536):
            connection.sendall(data)

    lab.raw_server(echo)
    data = random.Random(lab.options.seed).randbytes(8_000_000)
    with connect(lab.proxy()) as connection:
        sender = threading.Thread(target=connection.send, args=(data,))
        sender.start()
        equal(connection.read_head(), ESTABLISHED, "answer")
        back = b""
        while len(back) < len(data) and (more := connection.more()):
            back += more
        sender.join()
        check(back == data, "the echo differs")


@story()
def tls_runs_through_a_tunnel(lab):
    """A TLS client verifies the origin's own certificate through the tunnel."""
    name = "mirror3.example.org"
    origin = lab.origin(name, 443, tls=True)
    origin.put("/file", Answer(body=b"over TLS"))
    context = ssl.create_default_context(cafile=str(lab.shared.authority.certificate))
    with connect(lab.proxy(), f"{name}:443") as connection:
        equal(connection.read_head(), ESTABLISHED, "answer")
        connection.socket = context.wrap_socket(connection.socket, server_hostname=name)
        equal(connection.get("/file", {"Host": name}).body, b"over TLS", "body")


@story(squid_fails="CONNECT to an unknown name is a 500")
def tunnel_to_nobody_is_an_error(lab):
    """CONNECT to a port where nobody listens, or to an unknown name, is a 5xx with a page."""
    proxy = lab.proxy()
    for target in (TARGET, "no-such-name.invalid:443"):
        reply = proxy.get(target, method="CONNECT")
        check(reply.status in (502, 503, 504), f"{target}: {reply.status}")
        check(reply.whole and 20 < len(reply.body) < 8192, f"{target}: odd page")


@story(larder_only=True)
def tunnels_go_to_443_only_without_a_configuration(lab):
    """With the built-in rules CONNECT to another port is 403 and makes no connection."""
    server = lab.raw_server(lambda connection: None, port=22)
    equal(lab.proxy().get("127.0.0.20:22", method="CONNECT").status, 403, "status")
    equal(server.connections, 0, "connections made")


@story()
def tunnel_is_logged_when_it_ends(lab):
    """A tunnel's log line counts the bytes to the client, the 39 of the answer included."""
    lab.raw_server(lambda connection: connection.sendall(b"x" * 1000))
    proxy = lab.open_proxy()
    with connect(proxy) as connection:
        equal(len(connection.read_all()), 1039, "bytes")
    lines = proxy.lines(TARGET, 1)
    equal(len(lines), 1, "lines")
    check(
        re.search(r" TCP_TUNNEL/200 1039 CONNECT 127\.0\.0\.20:443 - HIER_DIRECT/127\.0\.0\.20 -$", lines[0]),
        lines[0],
    )

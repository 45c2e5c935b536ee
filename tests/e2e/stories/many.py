"""Clients that lie idle or read slowly, in numbers: they cost little, and nobody else his pace."""

import os
import pathlib
import random
import resource
import signal
import socket
import statistics
import threading
import time

from harness import wire, world
from harness.origin import Answer
from harness.proxy import PATIENCE, wait_until
from harness.story import check, equal, story

HIT = "/hit.rpm"
MIB = 1 << 20
RSS_MAX = 300 * MIB

CONF = """[cache]
directory = "{cache}"
max-size = "2 GB"
[admin]
address = ""
[limits]
connections = 30000
connections-per-client = 30000
idle = "10m"
[[listen]]
address = "127.0.0.1:0"
mode = "forward"
"""


class Silent(threading.Thread):
    """A server that takes connections and says nothing."""

    def __init__(self, address, port):
        super().__init__(daemon=True)
        self.listener = socket.create_server((address, port), backlog=4096)
        self.taken = []
        self.start()

    def run(self):
        while True:
            try:
                self.taken.append(self.listener.accept()[0])
            except OSError:
                return  # the story is over


class SlowReaders:
    """Takes 1 KB a second of each connection, in a process of its own: it shares no lock with the client
    whose pace is measured."""

    def __init__(self, connections):
        self.told, says = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            os.close(self.told)
            try:
                self.read(connections)
            except BaseException as why:
                os.write(says, repr(why).encode())
            finally:
                # Nothing of the story goes on here.
                os._exit(0)
        os.close(says)

    @staticmethod
    def read(connections):
        """Reads until it is ended or somebody has nothing to read for a minute."""
        for connection in connections:
            connection.settimeout(60)
        while True:
            for connection in connections:
                if not connection.recv(1024):
                    raise OSError("a slow reader was cut")
            time.sleep(1.0)

    def end(self):
        """Ends the reading; says what became of it if it had ended already."""
        ended, _ = os.waitpid(self.process, os.WNOHANG)
        if not ended:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        with os.fdopen(self.told, "rb") as told:
            return told.read().decode()


def resident(proxy):
    """The proxy's resident bytes."""
    status = pathlib.Path(f"/proc/{proxy.process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def busy_share(proxy, seconds=1.0):
    """What share of one processor the proxy uses."""

    def ticks():
        stat = pathlib.Path(f"/proc/{proxy.process.pid}/stat").read_text(encoding="ascii")
        return sum(map(int, stat.split()[13:15]))

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK") / seconds


def hits_a_second(proxy, url, times):
    """How many hits one client gets over one connection: the median of so many seconds."""

    def once():
        count, end = 0, time.monotonic() + 1.0
        with wire.Connection(proxy.forward) as connection:
            while time.monotonic() < end:
                check(connection.get(url).status == 200, "no hit")
                count += 1
        return count

    return statistics.median(once() for _ in range(times))


def tunnel(proxy, authority):
    """An open tunnel."""
    connection = socket.create_connection(proxy.forward)
    connection.sendall(wire.request(authority, method="CONNECT"))
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    check(head.startswith(b"HTTP/1.1 200 "), f"no tunnel: {head!r}")
    return connection


@story(larder_only=True)
def idle_tunnels_and_slow_readers_cost_little(lab):
    """1,000 idle tunnels (with --long 10,000, or as many as there may be open files: see tests/e2e/guest)
    and 200 readers of 1 KB/s (1,000) of an object that is larger than what sockets take: larder stays
    under 300 MB, no reader holds an origin, and a client among them has its hits."""
    tunnels, readers = (10_000, 1_000) if lab.options.long else (1_000, 200)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Each takes two files here, and two in the proxy.
    tunnels = min(tunnels, (hard - 2 * readers - 200) // 2)
    address = world.MIRRORS["mirror3.example.org"]
    server = Silent(address, 443)
    origin, body = lab.origin(), random.Random(1).randbytes(24 * MIB)
    origin.put("/big.iso", Answer(body=body))
    origin.put(HIT, Answer(body=b"h" * 4096))
    proxy = lab.toml_proxy(CONF.format(cache=lab.cache()))
    proxy.whole(origin.url + HIT)
    equal(proxy.whole(origin.url + "/big.iso"), body, "the object")
    times = 9 if lab.options.long else 3
    alone = hits_a_second(proxy, origin.url + HIT, times)
    held, reading = [], None
    try:
        held += [tunnel(proxy, "mirror3.example.org:443") for _ in range(tunnels)]
        for _ in range(readers):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(proxy.forward)
            connection.sendall(wire.request(origin.url + "/big.iso"))
            held.append(connection)
        reading = SlowReaders(held[tunnels:])
        # Until then it fills what lies between it and the readers.
        rests = wait_until(lambda: busy_share(proxy) < 0.3, 5 * PATIENCE)
        check(rests, "the proxy does not come to rest")
        busy = busy_share(proxy, 5.0)
        amid = hits_a_second(proxy, origin.url + HIT, times)
        check(amid > 0, "no hits")
        size = resident(proxy)
        failures, reading = reading.end(), None
        print(
            f"  {tunnels} tunnels, {readers} slow readers: {size / 1e6:.0f} MB resident,"
            f" {busy:.1%} of a processor;"
            f" hits {amid:.0f} a second, alone {alone:.0f} ({amid / alone:.2f})"
        )
        check(size <= RSS_MAX, f"{size} bytes resident")
        equal(failures, "", "what became of the slow readers")
        wait_until(lambda: len(server.taken) >= tunnels, PATIENCE)
        equal(len(server.taken), tunnels, "tunnels that reached their server")
        equal(origin.count("/big.iso"), 1, "requests for the object")
    finally:
        if reading:
            reading.end()
        for connection in held:
            connection.close()
        # A close alone would leave the port to the thread that waits in accept.
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        for connection in server.taken:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@story(larder_only=True)
def random_ranges_of_a_cold_object_draw_their_blocks_once(lab):
    """Eight clients ask for 200 random 64 KB ranges of a cold 64 MB object (500 MB with --long): the
    origin sends the touched blocks of 1 MiB and next to nothing else."""
    size = (500 if lab.options.long else 64) * 1_000_000
    body = random.Random(2).randbytes(1 << 20) * (size // MIB + 1)
    body = body[:size]
    origin = lab.origin()
    origin.put("/big.iso", Answer(body=body))
    origin.put("/other.iso", Answer(body=body, hold_head=0.02))
    proxy = lab.toml_proxy(CONF.format(cache=lab.cache()))
    source = random.Random(lab.options.seed)
    starts = [source.randrange(size - 65_536) for _ in range(200)]
    times, failures = [], []

    def client(number):
        for start in starts[number::8]:
            began = time.monotonic()
            span = {"Range": f"bytes={start}-{start + 65_535}"}
            try:
                reply = proxy.get(origin.url + "/big.iso", span)
            except (OSError, wire.NoAnswer) as why:
                failures.append((start, repr(why)))
                continue
            times.append(time.monotonic() - began)
            if reply.status != 206 or reply.body != body[start : start + 65_536]:
                failures.append((start, reply.status, len(reply.body)))

    clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    equal(failures, [], "ranges that were not served")
    equal(len(times), 200, "ranges that were served")
    blocks = {block for s in starts for block in (s // MIB, (s + 65_535) // MIB)}
    touched = sum(min(size, (block + 1) * MIB) - block * MIB for block in blocks)
    drawn = origin.bytes_of("/big.iso")
    print(f"  drawn {drawn} bytes for {touched} touched ({drawn / touched:.4f})")
    check(drawn <= 1.02 * touched, f"{drawn} bytes for {touched}")
    deep = first_bytes(proxy.forward, origin.url + "/other.iso", size)
    direct = first_bytes((origin.address, origin.port), "/other.iso", size)
    print(f"  first byte of a deep range {deep * 1000:.1f} ms, direct {direct * 1000:.1f} ms"
          f" ({deep / direct:.2f})")  # fmt: skip


def first_bytes(address, target, size):
    """The median time to the first body byte of ranges in blocks that nobody has touched."""
    times = []
    for number in range(15):
        start = (number * 4 + 2) * MIB + 500_000
        with wire.Connection(address) as connection:
            began = time.monotonic()
            connection.send(wire.request(target, {"Range": f"bytes={start}-{start + 65_535}"}))
            head = connection.read_head()
            if not connection.rest:
                connection.more()
            times.append(time.monotonic() - began)
            check(b" 206 " in head, f"{head!r}")
    return statistics.median(times)

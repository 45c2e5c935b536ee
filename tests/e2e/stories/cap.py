"""The disk stays under the cap."""

import os
import random
import threading

from harness import wire
from harness.origin import Answer
from harness.story import check, equal, story

CAP_MIB = 32
MIB = 1024 * 1024
TIMES, TIMES_LONG = 10, 30


class Gauge(threading.Thread):
    """Samples the used blocks of a file system until it is told to stop."""

    def __init__(self, directory):
        super().__init__(daemon=True)
        self.directory, self.worst, self.samples = directory, 0, 0
        self.over = threading.Event()
        self.start()

    def used(self):
        """Bytes in used blocks."""
        status = os.statvfs(self.directory)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def run(self):
        while not self.over.wait(0.002):
            self.worst = max(self.worst, self.used())
            self.samples += 1


def path_of(number):
    """The path of an object."""
    return f"/pool/o{number}-1.0-1.x86_64.rpm"


def pull(proxy, origin, numbers, bodies, failures):
    """Asks for objects one by one and compares each."""
    for number in numbers:
        try:
            reply = proxy.get(origin.url + path_of(number))
        except (OSError, wire.NoAnswer) as why:
            failures.append(f"{path_of(number)}: {why!r}")
            continue
        if reply.status != 200 or not reply.whole or reply.body != bodies[number]:
            failures.append(f"{path_of(number)}: {reply.status}, {len(reply.body)} bytes")


@story(squid_fails="cleaning comes once a second, so that the cap is passed for a while")
def ten_times_the_cap_never_passes_the_cap(lab):
    """Eight clients pull ten times the cap through, half of it of unknown length: the used blocks
    of the cache's own file system are never over the cap, every body is right, and what came last
    is still there."""
    directory = lab.mounted("cache", f"size={2 * CAP_MIB}m,mode=777")
    origin, draw = lab.origin(), random.Random(lab.options.seed)
    bodies = []
    wanted = (TIMES_LONG if lab.options.long else TIMES) * CAP_MIB * MIB
    while sum(map(len, bodies)) < wanted:
        bodies.append(draw.randbytes(draw.choice([5_000, 300_000, 900_000, 2_500_000])))
    for number, body in enumerate(bodies):
        origin.put(path_of(number), Answer(body=body, chunked=number % 2 == 0))
    proxy = lab.open_proxy(CAP_MIB, directory)
    gauge, failures = Gauge(directory), []
    # One queue for all: what came last has the last numbers, however the clients get on.
    queue = iter(range(len(bodies)))
    clients = [
        threading.Thread(target=pull, args=(proxy, origin, queue, bodies, failures)) for _ in range(8)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    gauge.over.set()
    gauge.join()
    print(
        f"    cap {CAP_MIB * MIB}, worst {gauge.worst} in {gauge.samples} samples, "
        f"{sum(map(len, bodies))} bytes pulled, {gauge.used()} used at the end",
        flush=True,
    )
    check(gauge.samples > 100, f"only {gauge.samples} samples")
    check(gauge.worst > CAP_MIB * MIB // 2, f"never more than {gauge.worst} used: nothing was kept")
    check(gauge.worst <= CAP_MIB * MIB, f"{gauge.worst} bytes used of a cap of {CAP_MIB * MIB}")
    check(not failures, "; ".join(failures[:5]))
    origin.forget()
    last = range(len(bodies) - 10, len(bodies))
    pull(proxy, origin, last, bodies, failures)
    equal(failures, [], "bodies of the last ten")
    check(len(origin.requests) <= 5, f"{len(origin.requests)} of the last ten were gone")


@story()
def object_larger_than_the_cap_passes_through(lab):
    """An object larger than the whole cache reaches the client whole and evicts nothing."""
    directory = lab.mounted("cache", f"size={2 * CAP_MIB}m,mode=777")
    origin, draw = lab.origin(), random.Random(lab.options.seed)
    small, large = draw.randbytes(500_000), draw.randbytes(40 * MIB)
    origin.put("/small-1.0-1.noarch.rpm", Answer(body=small))
    origin.put("/large.iso", Answer(body=large))
    proxy = lab.open_proxy(CAP_MIB, directory)
    equal(proxy.whole(f"{origin.url}/small-1.0-1.noarch.rpm"), small, "small body")
    for _ in range(2):
        check(proxy.whole(f"{origin.url}/large.iso") == large, "large body")
    equal(proxy.whole(f"{origin.url}/small-1.0-1.noarch.rpm"), small, "small body again")
    equal(origin.count("/small-1.0-1.noarch.rpm"), 1, "requests for the small one")

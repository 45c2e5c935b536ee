"""Ends without a warning, and ends in order."""

import random
import socket

from harness import wire
from harness.origin import Answer
from harness.proxy import PATIENCE, wait_until
from harness.story import check, equal, story

ROUNDS, ROUNDS_LONG = 10, 50


def package(number):
    """The path of a package."""
    return f"/7.9/os/x86_64/Packages/p{number}-1.0-1.x86_64.rpm"


def is_hit(proxy, origin, path, body):
    """Asks for an object; says whether the origin heard nothing of it. The body must be right."""
    before = origin.count(path)
    check(proxy.whole(origin.url + path) == body, f"wrong bytes for {path}")
    return origin.count(path) == before


def fill_until(proxy, origin, path, share, size):
    """Begins a fill and comes back when the origin has sent a share of it, the fill still going."""
    connection = wire.Connection(proxy.forward)
    connection.send(wire.request(origin.url + path))
    origin.wait_for(lambda: origin.bytes_of(path) >= share * size, f"{share:.0%} of {path}")
    return connection


@story()
def kill_nine_at_ten_instants_loses_and_shortens_nothing(lab):
    """`kill -9` in the middle of a fill, at ten instants drawn from the printed seed: after each
    restart every answer is the origin's file, and what was complete before is a hit."""
    draw = random.Random(lab.options.seed)
    origin, bodies, complete = lab.origin(), {}, []
    rounds = ROUNDS_LONG if lab.options.long else ROUNDS
    for number in range(2 * rounds):
        size = draw.randrange(1, 200_000) if number % 2 else draw.randrange(2_000_000, 9_000_000)
        bodies[package(number)] = draw.randbytes(size)
    for number in range(rounds):
        big, small = package(2 * number), package(2 * number + 1)
        body, share = bodies[big], draw.uniform(0.01, 0.95)
        # It never comes to its end, however late the kill.
        running = Answer(body=body, pace=15_000_000, chunked=number % 3 == 0, stall_at=len(body) - 1)
        origin.put(big, running, Answer(body=body))
        origin.put(small, Answer(body=bodies[small]))
        proxy = lab.proxy()
        for path in complete:
            check(is_hit(proxy, origin, path, bodies[path]), f"{path} was lost (round {number})")
        proxy.whole(origin.url + small)
        if is_hit(proxy, origin, small, bodies[small]):
            complete.append(small)
        with fill_until(proxy, origin, big, share, len(body)):
            drawn = origin.bytes_of(big)
            check(0 < drawn < len(body), f"round {number}: no fill was going ({drawn} bytes)")
            proxy.kill()
        again = lab.proxy()
        check(again.whole(origin.url + big) == body, f"round {number}: wrong bytes after the kill")
        if is_hit(again, origin, big, body):
            complete.append(big)
        again.kill()
    equal(len(complete), 2 * rounds, "objects that were hits before a kill")
    proxy = lab.proxy()
    for path in complete:
        check(is_hit(proxy, origin, path, bodies[path]), f"{path} was lost at the end")


@story()
def objects_survive_a_stop_in_order(lab):
    """SIGTERM ends with exit code 0, and after the next start what was there is hits."""
    origin = lab.origin()
    draw = random.Random(lab.options.seed)
    bodies = {package(n): draw.randbytes(draw.randrange(1, 100_000)) for n in range(30)}
    proxy = lab.proxy()
    for path, body in bodies.items():
        origin.put(path, Answer(body=body))
        proxy.whole(origin.url + path)
    equal(proxy.stop(), 0, "exit code")
    proxy = lab.proxy()
    for path, body in bodies.items():
        check(is_hit(proxy, origin, path, body), f"{path} was lost")


@story(squid_fails="shutdown_lifetime is 0 here")
def stop_lets_a_running_answer_end(lab):
    """An answer that is under way at SIGTERM arrives whole, new connections are refused, and then
    it ends with exit code 0."""
    origin = lab.origin()
    body = random.Random(lab.options.seed).randbytes(8_000_000)
    origin.put(package(0), Answer(body=body, pace=8_000_000, stall_at=len(body) // 2))
    proxy = lab.proxy()
    with fill_until(proxy, origin, package(0), 0.2, len(body)) as connection:
        proxy.process.terminate()
        refused = wait_until(lambda: is_refused(proxy.forward), PATIENCE)
        check(refused, "new connections are accepted after SIGTERM")
        origin.release()
        check(connection.read_reply().body == body, "the running answer was cut")
    equal(proxy.stop(), 0, "exit code")


def is_refused(address):
    """Whether a new connection is refused."""
    try:
        socket.create_connection(address, PATIENCE).close()
        return False
    except ConnectionRefusedError:
        return True

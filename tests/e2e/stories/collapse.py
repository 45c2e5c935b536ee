"""One fill for any number of clients."""

import random
import threading

from harness import wire
from harness.origin import Answer
from harness.proxy import PATIENCE, wait_until
from harness.story import check, equal, story

PATH = "/7.9/os/x86_64/images/install.img"


class Download(threading.Thread):
    """A client that notes how much the origin had sent when its first body byte came."""

    def __init__(self, proxy, origin, die_after=None):
        super().__init__(daemon=True)
        self.proxy, self.origin, self.die_after = proxy, origin, die_after
        self.origin_at_first, self.reply, self.died = None, None, False
        self.start()

    def run(self):
        with wire.Connection(self.proxy.forward, 60) as connection:
            try:
                self.reply = connection.get(self.origin.url + PATH, progress=self._progress)
            except (OSError, wire.NoAnswer):
                pass  # `reply` stays None, which the story reports

    def _progress(self, size):
        if self.origin_at_first is None:
            self.origin_at_first = self.origin.bytes_of(PATH)
        if self.die_after is not None and size >= self.die_after:
            self.died = True
            raise ConnectionAbortedError("this client dies")


def origin_of(lab, megabytes=64, pace=16_000_000, **more):
    """An origin that paces itself, and its object."""
    body = random.Random(lab.options.seed).randbytes(megabytes * 1_000_000)
    origin = lab.origin()
    origin.put(PATH, Answer(body=body, pace=pace, **more))
    return origin, body


def have_begun(downloads):
    """Waits until each client has its first body byte; fails if one never has."""
    begun = wait_until(lambda: all(d.origin_at_first is not None for d in downloads), PATIENCE)
    check(begun, "a client has no first byte while the origin stands still")


def all_have(downloads, body):
    """Fails unless all clients got the whole body."""
    for number, download in enumerate(downloads):
        download.join()
        reply = download.reply
        check(reply is not None, f"client {number} got no answer")
        check(reply.whole and reply.body == body, f"client {number}: {len(reply.body)} bytes")


@story()
def eight_clients_draw_a_cold_object_once(lab):
    """Eight clients at once on a cold object of a paced origin: it is sent once, all bodies are
    equal to it, and each client's first byte comes before the origin has sent a tenth."""
    tenth = 64_000_000 // 10
    origin, body = origin_of(lab, stall_at=tenth - 1)
    proxy = lab.proxy()
    downloads = [Download(proxy, origin) for _ in range(8)]
    have_begun(downloads)
    origin.release()
    all_have(downloads, body)
    equal(origin.count(PATH), 1, "requests at the origin")
    equal(origin.bytes_of(PATH), len(body), "bytes drawn")
    late = [d.origin_at_first for d in downloads if d.origin_at_first >= tenth]
    check(not late, f"the origin had sent {late} bytes when first bytes came")


@story()
def death_of_the_first_client_changes_nothing(lab):
    """The client that began the fill dies in mid-body; the others get the whole object, drawn
    once."""
    origin, body = origin_of(lab, megabytes=24, stall_at=12_000_000)
    proxy = lab.proxy()
    first = Download(proxy, origin, die_after=1_000_000)
    origin.wait_for(lambda: origin.count(PATH) == 1, "the fill's request")
    others = [Download(proxy, origin) for _ in range(7)]
    first.join()
    have_begun(others)
    origin.release()
    all_have(others, body)
    check(first.died, "the first client did not die, so this says nothing")
    equal(origin.count(PATH), 1, "requests at the origin")
    equal(origin.bytes_of(PATH), len(body), "bytes drawn")


@story()
def follower_in_mid_fill_gets_the_object_from_its_start(lab):
    """A client that comes when half the object is drawn gets all of it, and no byte is drawn
    twice; so for an object whose length the origin does not say."""
    for number, more in enumerate([{}, {"chunked": True}]):
        half = 8_000_000
        origin, body = origin_of(lab, megabytes=16, stall_at=half, **more)
        proxy = lab.proxy(lab.cache(f"cache{number}"))
        leader = Download(proxy, origin)
        origin.wait_for(lambda o=origin, h=half: o.bytes_of(PATH) >= h, "half of the object")
        downloads = [Download(proxy, origin), leader]
        have_begun(downloads)
        origin.release()
        all_have(downloads, body)
        equal(origin.bytes_of(PATH), len(body), "bytes drawn")
        origin.close()
        equal(proxy.stop(), 0, "exit code")


@story(squid_fails="without its client a fill goes on only within quick_abort's bounds")
def fill_outlives_its_only_client(lab):
    """The only client of a cold object goes away in mid-body and comes back: the whole object is
    drawn no more than once and a bit."""
    origin, body = origin_of(lab, megabytes=16, stall_at=8_000_000)
    proxy = lab.proxy()
    lone = Download(proxy, origin, die_after=4_000_000)
    lone.join()
    check(lone.died, "the client did not die, so this says nothing")
    back = Download(proxy, origin)
    have_begun([back])
    origin.release()
    all_have([back], body)
    equal(origin.bytes_of(PATH), len(body), "bytes drawn")


@story(squid_fails="a follower waits for the leader's slow client")
def slow_client_does_not_slow_another(lab):
    """A client that reads nothing beyond the first bytes does not hold up one that reads."""
    origin, body = origin_of(lab, megabytes=48, pace=100_000_000)
    proxy = lab.proxy()
    with wire.Connection(proxy.forward) as slow:
        slow.send(wire.request(origin.url + PATH))
        slow.read_head()
        all_have([Download(proxy, origin)], body)
    equal(origin.count(PATH), 1, "requests at the origin")

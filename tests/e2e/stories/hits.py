"""What a hit answers: whole, in part, or not at all; the origin hears nothing of it."""

import email.utils
import random
import time

from harness import wire
from harness.origin import DAY, Answer
from harness.story import check, equal, story

SIZE = 1_000_003
PATH = "/pool/cached-1.0-1.x86_64.rpm"
ETAG = '"v1-abc"'


class Warm:
    """A proxy that has an object, its origin, and the requests that must not reach it."""

    def __init__(self, lab, path=PATH, size=SIZE, **more):
        self.body = random.Random(lab.options.seed).randbytes(size)
        self.origin = lab.origin()
        self.origin.put(path, Answer(body=self.body, **{"etag": ETAG} | more))
        self.url = self.origin.url + path
        self.proxy = lab.proxy()
        first = self.proxy.get(self.url)
        check(first.whole and first.body == self.body, "the miss was not whole")
        self.modified = first.get("Last-Modified")
        self.count = len(self.origin.requests)

    def ask(self, headers=None, method="GET"):
        """A request that must be a hit."""
        reply = self.proxy.get(self.url, headers, method)
        equal(len(self.origin.requests), self.count, f"requests at the origin after {headers}")
        check(reply.whole, f"answer to {headers} was cut")
        return reply

    def part(self, span, first, last, **more):
        """A range that must be answered with exactly these bytes."""
        reply = self.ask({"Range": span} | more)
        equal(reply.status, 206, f"status of {span} {more}")
        equal(reply.get("Content-Range"), f"bytes {first}-{last}/{SIZE}", f"Content-Range of {span}")
        equal(reply.get("Content-Length"), str(last - first + 1), f"Content-Length of {span}")
        check(reply.body == self.body[first : last + 1], f"bytes of {span}")

    def everything(self, headers):
        """A request that must be answered with the whole object."""
        reply = self.ask(headers)
        equal((reply.status, len(reply.body)), (200, SIZE), f"status and length for {headers}")
        check(reply.body == self.body, f"body for {headers}")
        equal(reply.get("Content-Range"), None, f"Content-Range for {headers}")

    def not_modified(self, headers):
        """A request that must be answered 304, with the fields that a 304 carries."""
        reply = self.ask(headers)
        equal((reply.status, reply.body), (304, b""), f"status and body for {headers}")
        equal(reply.get("ETag"), ETAG, f"ETag for {headers}")
        check(reply.get("Date") is not None, f"no Date for {headers}")


@story()
def full_hit_is_the_object_with_its_age(lab):
    """A hit is the whole object with its validators, an Age and a Date, and costs no request."""
    warm = Warm(lab)
    reply = warm.ask()
    check(reply.body == warm.body, "body")
    equal((reply.status, reply.get("Content-Length")), (200, str(SIZE)), "status, length")
    equal((reply.get("ETag"), reply.get("Last-Modified")), (ETAG, warm.modified), "validators")
    check((reply.get("Age") or "").isdigit(), f"Age {reply.get('Age')!r}")
    check(reply.get("Via") is not None, "no Via")


@story(squid_fails="a chunked answer is served again without its length")
def hit_of_a_chunked_object_has_its_length(lab):
    """What the origin sent in chunks is a hit with Content-Length, and ranges of it work."""
    warm = Warm(lab, chunked=True)
    reply = warm.ask()
    equal(reply.get("Content-Length"), str(SIZE), "Content-Length")
    equal(reply.get("Transfer-Encoding"), None, "Transfer-Encoding")
    check(reply.body == warm.body, "body")
    warm.part("bytes=10-19", 10, 19)


@story()
def head_is_answered_from_the_cached_object(lab):
    """HEAD on a hit has the head of GET and no body; after it the connection goes on."""
    warm = Warm(lab)
    with wire.Connection(warm.proxy.forward) as connection:
        head = connection.get(warm.url, method="HEAD")
        equal((head.status, head.get("Content-Length")), (200, str(SIZE)), "status, length")
        equal(head.get("ETag"), ETAG, "ETag")
        check(connection.get(warm.url).body == warm.body, "body of the GET after it")
    equal(len(warm.origin.requests), warm.count, "requests at the origin")


@story()
def ranges_of_a_hit_are_exact(lab):
    """Single, open, suffix and over-long ranges of a hit are 206 with exactly their bytes."""
    warm = Warm(lab)
    warm.part("bytes=0-0", 0, 0)
    warm.part("bytes=1000-1999", 1000, 1999)
    warm.part(f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1)
    warm.part("bytes=500000-", 500_000, SIZE - 1)
    warm.part("bytes=-7", SIZE - 7, SIZE - 1)
    warm.part(f"bytes=999990-{SIZE + 500}", 999_990, SIZE - 1)
    warm.part(f"bytes=-{SIZE * 2}", 0, SIZE - 1)


@story()
def range_that_is_none_is_ignored(lab):
    """A Range of another unit or with a syntax error is as if it were not there."""
    warm = Warm(lab)
    for span in ("items=0-5", "bytes=abc", "bytes=9-5"):
        warm.everything({"Range": span})


@story(squid_fails="a range past the end of a hit is answered 200 with everything")
def range_past_the_end_is_416(lab):
    """A range that starts at or past the end is 416 and says how long the object is."""
    warm = Warm(lab)
    for span in (f"bytes={SIZE}-", f"bytes={SIZE + 10}-{SIZE + 20}", "bytes=-0"):
        reply = warm.ask({"Range": span})
        equal((reply.status, reply.get("Content-Range")), (416, f"bytes */{SIZE}"), span)


@story(squid_fails="If-Range that does not match: 200 with a body that starts at the offset")
def if_range_decides_between_part_and_whole(lab):
    """If-Range with the strong validator or the date gives the part; with any other, or a weak one,
    the whole object from its first byte."""
    warm = Warm(lab)
    warm.part("bytes=5-9", 5, 9, **{"If-Range": ETAG})
    warm.part("bytes=5-9", 5, 9, **{"If-Range": warm.modified})
    other = email.utils.formatdate(time.time() - 3 * DAY, usegmt=True)
    for validator in ('"other"', f"W/{ETAG}", other):
        warm.everything({"Range": "bytes=500000-", "If-Range": validator})


@story(squid_fails="a 304 does not carry the ETag")
def if_none_match_is_answered_from_the_cache(lab):
    """If-None-Match with the entity tag, weak or in a list, or a star, is 304; another tag is
    200."""
    warm = Warm(lab)
    for tags in (ETAG, f"W/{ETAG}", f'"x", {ETAG}', "*"):
        warm.not_modified({"If-None-Match": tags})
    warm.everything({"If-None-Match": '"x"'})


@story(squid_fails="a 304 does not carry the ETag")
def if_modified_since_is_answered_from_the_cache(lab):
    """If-Modified-Since at or after Last-Modified is 304, before it 200; beside If-None-Match it
    has no say."""
    warm = Warm(lab)
    earlier = email.utils.formatdate(time.time() - 30 * DAY, usegmt=True)
    warm.not_modified({"If-Modified-Since": warm.modified})
    warm.not_modified({"If-Modified-Since": email.utils.formatdate(usegmt=True)})
    warm.everything({"If-Modified-Since": earlier})
    warm.everything({"If-Modified-Since": "no date"})
    warm.everything({"If-Modified-Since": warm.modified, "If-None-Match": '"x"'})


@story(squid_fails="the client's no-cache draws the whole object again")
def client_no_cache_is_one_conditional_request(lab):
    """A client's no-cache, on an object that has not changed, asks the origin once, conditionally,
    and draws no body again."""
    origin = lab.origin()
    origin.put(PATH, Answer(body=b"x" * 100_000, etag=ETAG))
    proxy = lab.proxy()
    proxy.whole(origin.url + PATH)
    proxy.whole(origin.url + PATH, {"Cache-Control": "no-cache"})
    equal(origin.count(PATH), 2, "requests at the origin")
    equal(origin.bytes_of(PATH), 100_000, "bytes drawn")


@story()
def cold_range_is_exact(lab):
    """A range of an object that nobody has yet is 206 with exactly its bytes; the whole object
    comes right afterwards."""
    origin = lab.origin()
    body = random.Random(lab.options.seed).randbytes(8_000_000)
    origin.put(PATH, Answer(body=body, etag=ETAG))
    proxy = lab.proxy()
    for first, last in ((6_000_000, 6_000_099), (10, 19)):
        reply = proxy.get(origin.url + PATH, {"Range": f"bytes={first}-{last}"})
        equal((reply.status, reply.whole), (206, True), "status of the cold range")
        check(reply.body == body[first : last + 1], "bytes of the cold range")
    check(proxy.whole(origin.url + PATH) == body, "body afterwards")


@story(squid_fails="a range that joins a running fill gets 200 with everything")
def range_of_a_running_fill_is_exact(lab):
    """Ranges asked while the object is being filled are 206 with exactly their bytes, near the
    fill's head and far from it."""
    origin = lab.origin()
    body = random.Random(lab.options.seed).randbytes(12_000_000)
    origin.put(PATH, Answer(body=body, etag=ETAG, stall_at=2_000_000))
    proxy = lab.proxy()
    with wire.Connection(proxy.forward) as leader:
        leader.send(wire.request(origin.url + PATH))
        origin.wait_for(lambda: origin.bytes_of(PATH) >= 2_000_000, "the fill's first bytes")
        for first, last in ((0, 99), (1_000_000, 1_000_999), (11_000_000, 11_000_499)):
            reply = proxy.get(origin.url + PATH, {"Range": f"bytes={first}-{last}"})
            equal(reply.status, 206, f"status of {first}-{last}")
            check(reply.body == body[first : last + 1], f"bytes of {first}-{last}")
        origin.release()
        check(leader.read_reply().body == body, "the leader's body")


@story()
def stale_object_is_served_when_its_origin_is_gone(lab):
    """An object past its lifetime, whose origin refuses connections, is served as it is."""
    origin = lab.origin()
    origin.put("/data", Answer(body=b"old", headers={"Cache-Control": "max-age=1"}))
    proxy = lab.proxy()
    equal(proxy.whole(f"{origin.url}/data"), b"old", "body")
    origin.close()
    time.sleep(2.1)
    equal(proxy.whole(f"{origin.url}/data"), b"old", "body without the origin")

"""Twelve things that the seed's configuration is asked to do and Squid fails at, and the clients
that ask for many ranges at once.

The mirrors are two names with one tree. Nothing here looks at a clock: where "at once" is meant,
the mirror stands still and the answer comes all the same.
"""

import concurrent.futures
import filecmp
import random
import shutil
import socket
import subprocess

from harness import rpms, wire, world
from harness.origin import Answer
from harness.proxy import PATIENCE, wait_until
from harness.story import check, equal, story

RPM = "/7.9/os/x86_64/Packages/pantry-1.0-1.x86_64.rpm"
MIB = 1 << 20
# What a transfer that is overtaken had on its way, in sockets and buffers, for each that ended so.
ON_ITS_WAY = MIB // 2


def scene(lab, path, *answers):
    """The seed's proxy and two mirrors that answer alike."""
    first, second = lab.mirrors()[:2]
    for mirror in (first, second):
        mirror.put(path, *answers)
    return lab.seed_proxy(), first, second


def bytes_of(lab, size):
    """A body that the run's seed repeats."""
    return random.Random(lab.options.seed).randbytes(size)


def asked_at_once(proxy, urls, let_go):
    """One client for each URL: all have asked when the mirrors may answer; their replies in order."""
    clients = [wire.Connection(proxy.forward, 60) for _ in urls]
    for client, url in zip(clients, urls):
        client.send(wire.request(url))
    let_go()
    replies = []
    for client in clients:
        with client:
            replies.append(client.read_reply())
    return replies


@story(larder_only=True)
def twelve_01_one_rpm_of_two_mirrors_is_one_request(lab):
    """What mirror A sent is mirror B's too."""
    body = bytes_of(lab, 100_000)
    proxy, first, second = scene(lab, RPM, Answer(body=body))
    for mirror in (first, second):
        equal(proxy.whole(mirror.url + RPM), body, "the package")
    equal([first.count(RPM), second.count(RPM)], [1, 0], "requests")


@story(larder_only=True)
def twelve_02_cold_ranges_and_the_whole_draw_the_file_once(lab):
    """Two cold ranges and the whole of a 200 kB file cost its bytes once."""
    body = bytes_of(lab, 200_000)
    proxy, first, _ = scene(lab, RPM, Answer(body=body))
    for start in (1_000, 150_000):
        reply = proxy.get(first.url + RPM, {"Range": f"bytes={start}-{start + 99}"})
        equal((reply.status, reply.body), (206, body[start : start + 100]), "a range")
    equal(proxy.whole(first.url + RPM), body, "the whole")
    check(first.count(RPM) <= 2 and first.bytes_of(RPM) <= len(body), "drawn more than once")


@story(larder_only=True)
def twelve_03_a_deep_range_is_quick_and_kept(lab):
    """100 bytes at the end of 4 MB that arrive over seconds come before a third of them was sent,
    and again from the cache."""
    body = bytes_of(lab, 4_000_000)
    proxy, first, _ = scene(lab, RPM, Answer(body=body, pace=1_300_000))
    span = {"Range": "bytes=3999000-3999099"}
    for _ in range(2):
        reply = proxy.get(first.url + RPM, span)
        equal((reply.status, reply.body), (206, body[3_999_000:3_999_100]), "the range")
        check(first.bytes_of(RPM) <= MIB, f"{first.bytes_of(RPM)} bytes were sent for it")
    equal(first.count(RPM), 1, "requests")
    check("hit" in reply.get("Cache-Status"), f"no hit: {reply.get('Cache-Status')}")


@story(larder_only=True)
def twelve_04_a_range_of_a_running_fill_is_answered_from_it(lab):
    """While a fill stands still, a range of what it has is a 206 from it."""
    body = bytes_of(lab, 4_000_000)
    proxy, first, _ = scene(lab, RPM, Answer(body=body, stall_at=2_000_000))
    with wire.Connection(proxy.forward) as slow:
        slow.send(wire.request(first.url + RPM))
        first.wait_for(lambda: first.sent.get(RPM, 0) >= 2_000_000, "the fill")
        reply = proxy.get(first.url + RPM, {"Range": "bytes=1000-1099"})
        equal((reply.status, reply.body), (206, body[1000:1100]), "the range")
        first.release()
        equal(slow.read_reply().body, body, "the whole")


@story(larder_only=True)
def twelve_05_a_herd_at_two_mirrors_is_one_request(lab):
    """Five clients at two mirrors whose head is held back: one request in all."""
    body = bytes_of(lab, 300_000)
    proxy, first, second = scene(lab, RPM, Answer(body=body, stall_head=True))
    mirrors = [first, second]

    def let_go():
        check(wait_until(lambda: first.requests or second.requests, PATIENCE), "nobody was asked")
        for mirror in mirrors:
            mirror.release()

    replies = asked_at_once(proxy, [mirrors[n % 2].url + RPM for n in range(5)], let_go)
    check(all(reply.body == body for reply in replies), "not all have it")
    equal(first.count(RPM) + second.count(RPM), 1, "requests")


@story(larder_only=True)
def twelve_06_a_herd_of_404_is_one_request(lab):
    """Six clients at once ask for what is not there: the mirror is asked once."""
    missing = Answer(body=b"no\n", status="404 Not Found", etag=None, stall_head=True)
    proxy, first, _ = scene(lab, RPM, missing)

    def let_go():
        first.wait_for(lambda: first.requests, "the first request")
        first.release()

    replies = asked_at_once(proxy, [first.url + RPM] * 6, let_go)
    equal([reply.status for reply in replies], [404] * 6, "statuses")
    equal(first.count(RPM), 1, "requests")


@story(larder_only=True)
def twelve_07_a_404_is_kept_for_its_mirror(lab):
    """A 404 that may be kept is asked for once; the other mirror's file is had all the same."""
    headers = {"Cache-Control": "max-age=600"}
    missing = Answer(body=b"no\n", status="404 Not Found", etag=None, headers=headers)
    proxy, first, second = scene(lab, RPM, missing)
    body = bytes_of(lab, 50_000)
    second.put(RPM, Answer(body=body))
    for _ in range(3):
        equal(proxy.get(first.url + RPM).status, 404, "the first mirror's answer")
    equal(first.count(RPM), 1, "requests to the first")
    equal(proxy.whole(second.url + RPM), body, "the second mirror's file")


@story(larder_only=True)
def twelve_08_what_an_aborted_client_caused_is_not_drawn_again(lab):
    """A client leaves at a quarter of 4 MB; the next has it for the rest of the bytes."""
    body = bytes_of(lab, 4_000_000)
    proxy, first, _ = scene(lab, RPM, Answer(body=body, pace=4_000_000))
    with wire.Connection(proxy.forward) as leaving:
        leaving.send(wire.request(first.url + RPM))
        got = b""
        while len(got) < 1_000_000:
            got += leaving.more()
    equal(proxy.whole(first.url + RPM), body, "the whole")
    check(first.bytes_of(RPM) <= 1.1 * len(body), f"{first.bytes_of(RPM)} bytes were sent")


@story(larder_only=True)
def twelve_09_tags_that_differ_between_mirrors_cause_no_refetch(lab):
    """Revalidations at mirrors with differing tags draw the body twice at most."""
    body = bytes_of(lab, 300_000)
    proxy, first, second = scene(lab, RPM, Answer(body=body))
    for mirror in (first, second, first, second):
        headers = {"Cache-Control": "no-cache"}
        equal(proxy.whole(mirror.url + RPM, headers), body, "the package")
    bodies = (first.bytes_of(RPM) + second.bytes_of(RPM)) / len(body)
    check(bodies <= 2, f"{bodies} bodies were drawn")


@story(larder_only=True)
def twelve_10_one_mirrors_404_costs_nobody_the_copy(lab):
    """Asked whether the copy is good, mirror B says 404: both mirrors' clients get the copy."""
    body = bytes_of(lab, 300_000)
    proxy, first, second = scene(lab, RPM, Answer(body=body))
    equal(proxy.whole(first.url + RPM), body, "the package")
    second.put(RPM, Answer(body=b"no\n", status="404 Not Found", etag=None))
    reply = proxy.get(second.url + RPM, {"Cache-Control": "no-cache"})
    equal((reply.status, reply.body), (200, body), "what B's client gets")
    equal(proxy.whole(first.url + RPM), body, "what A's client gets")
    equal(first.bytes_of(RPM), len(body), "bytes drawn")


@story(larder_only=True)
def twelve_11_a_tunnel_survives_a_half_close(lab):
    """A client that has said all it had to say gets the whole reply."""

    def server(connection):
        asked = b""
        while piece := connection.recv(4096):
            asked += piece
        connection.sendall(asked[::-1] * 1000)

    lab.raw_server(server, port=443, address=world.MIRRORS["mirror3.example.org"])
    proxy = lab.seed_proxy()
    with wire.Connection(proxy.forward) as client:
        client.send(wire.request("mirror3.example.org:443", method="CONNECT"))
        check(client.read_head().startswith(b"HTTP/1.1 200 "), "no tunnel")
        client.send(b"question")
        client.half_close()
        equal(client.read_all(), b"question"[::-1] * 1000, "the reply")


@story(larder_only=True)
def twelve_12_an_escaped_slash_is_not_a_slash(lab):
    """`p%2Fq` and `p/q` are two files."""
    paths = ["/7.9/os/x86_64/p%2Fq.rpm", "/7.9/os/x86_64/p/q.rpm"]
    proxy, first, _ = scene(lab, paths[0], Answer(body=b"escaped " * 100))
    first.put(paths[1], Answer(body=b"plain " * 100))
    bodies = [proxy.whole(first.url + path) for path in paths]
    equal(bodies, [b"escaped " * 100, b"plain " * 100], "the two files")


# -- many ranges at once --


def zchunk_files(lab):
    """Two versions of a package list as zchunk files: 400 chunks, of which 58 differ."""

    def package(number, version):
        source = random.Random(number * 1000 + version)
        text = "".join(source.choice("abcdefghij ") for _ in range(6000))
        head = f"<package><name>p{number}</name><version>{version}</version>"
        return f"{head}<d>{text}</d></package>\n"

    for name in ("old", "new"):
        changed = name == "new"
        text = "".join(package(n, 2 if changed and n % 7 == 0 else 1) for n in range(400))
        plain = lab.write(f"{name}.xml", text)
        words = ["zck", "-s", "<package>", "-m", str(plain), "-o", str(lab.room / f"{name}.zck")]
        subprocess.run(words, check=True, capture_output=True, timeout=300)
    return lab.room / "old.zck", lab.room / "new.zck"


def zckdl(lab, name, proxy, url, old):
    """Downloads with zckdl, which asks for the chunks that `old` lacks; the new file."""
    folder = lab.room / name
    folder.mkdir()
    host, port = proxy.forward
    environment = {"http_proxy": f"http://{host}:{port}", "PATH": "/usr/bin:/bin"}
    ran = subprocess.run(
        ["zckdl", "-s", str(old), url],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    check(ran.returncode == 0, f"zckdl: {ran.stdout}{ran.stderr}")
    return folder / url.rsplit("/", 1)[1]


@story(larder_only=True)
def zckdl_has_its_chunks_cold_from_parts_from_a_fill_and_from_a_hit(lab):
    """zckdl asks three times for a file of which 58 chunks are new, whatever the cache has of it."""
    old, new = zchunk_files(lab)
    path, body = "/repodata/abc-primary.xml.zck", new.read_bytes()
    mirror, proxy = lab.mirrors()[0], lab.seed_proxy()

    def draws(name, before):
        asked = len(proxy.lines(path, 0))
        got = zckdl(lab, name, proxy, mirror.url + path, old)
        check(filecmp.cmp(got, new, False), f"{name}: another file")
        equal(len(proxy.lines(path, asked + 3)) - asked, 3, f"{name}: requests")
        check(mirror.bytes_of(path) <= len(body), f"{name}: {before} then drawn twice")

    mirror.put(path, Answer(body=body))
    draws("cold", "nothing")
    draws("parts", "parts")
    equal(proxy.whole(mirror.url + path), body, "the whole")
    proxy.lines(path, 7)
    draws("hit", "all")

    path = "/repodata/def-primary.xml.zck"
    mirror.put(path, Answer(body=body, stall_at=len(body) * 3 // 4))
    with wire.Connection(proxy.forward) as filling:
        filling.send(wire.request(mirror.url + path))
        mirror.wait_for(lambda: mirror.sent.get(path, 0) >= len(body) * 3 // 4, "the fill")
        # The fill stands still until the first of zckdl's ranges has been answered from it.
        with concurrent.futures.ThreadPoolExecutor(1) as beside:
            client = beside.submit(zckdl, lab, "fill", proxy, mirror.url + path, old)
            proxy.lines(path, 1)
            mirror.release()
            got = client.result()
        check(filecmp.cmp(got, new, False), "fill: another file")
        equal(filling.read_reply().body, body, "the whole")


@story(larder_only=True)
def a_client_of_255_ranges_gets_each_in_the_order_asked(lab):
    """As zypper asks: 255 ranges in one field, from a cold file, from its parts, and from a hit."""
    body = bytes_of(lab, 3_000_000)
    mirror = lab.origin()
    mirror.put("/p.rpm", Answer(body=body))
    proxy = lab.proxy()
    spans = [(n * 11_000, n * 11_000 + 99) for n in range(255)]
    field = "bytes=" + ",".join(f"{first}-{last}" for first, last in spans)
    for what in ("cold", "parts", "hit"):
        if what == "hit":
            proxy.whole(mirror.url + "/p.rpm")
        reply = proxy.get(mirror.url + "/p.rpm", {"Range": field})
        equal(reply.status, 206, what)
        mark = reply.get("Content-Type").split("boundary=")[1].encode()
        wanted = b""
        for first, last in spans:
            wanted += b"\r\n--%b\r\nContent-Type: application/octet-stream\r\n" % mark
            wanted += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (first, last, len(body))
            wanted += body[first : last + 1]
        check(reply.body == wanted + b"\r\n--%b--\r\n" % mark, f"{what}: another body")
        check(mirror.bytes_of("/p.rpm") <= len(body), f"{what}: drawn twice")


# -- downloaders --


def downloads(lab, proxy, url, folder):
    """A file by curl, wget and aria2, each in a way of its own."""
    host, port = proxy.forward
    via = f"http://{host}:{port}"
    folder.mkdir()
    commands = {
        "curl": ["curl", "-sSf", "-x", via, "-o", "curl", url],
        "curl-resumed": ["curl", "-sSf", "-x", via, "-C", "-", "-o", "curl-resumed", url],
        "wget": ["wget", "-q", "-e", f"http_proxy={via}", "-O", "wget", url],
        "aria2": [
            *("aria2c", "-q", "--allow-overwrite", "-x", "4", "-s", "4", "-k", "1M"),
            *(f"--http-proxy={via}", "-o", "aria2", url),
        ],
    }
    for name, words in commands.items():
        if name == "curl-resumed":
            (folder / name).write_bytes((folder / "curl").read_bytes()[:700_001])
        subprocess.run(words, cwd=folder, check=True, timeout=300, capture_output=True)
    return {name: (folder / name).read_bytes() for name in commands}


@story(larder_only=True)
def curl_wget_and_aria2_draw_a_file_once_and_then_nothing(lab):
    """Several connections, resumed downloads: equal bytes, and none from the origin the second
    time; aria2 alone on a cold file draws it once too."""
    body = bytes_of(lab, 7_500_000)
    mirror = lab.origin()
    proxy = lab.proxy()
    for path in ("/all.iso", "/aria2.iso"):
        mirror.put(path, Answer(body=body))
    for path in ("/all.iso", "/aria2.iso"):
        url = mirror.url + path
        if path == "/aria2.iso":
            words = ["aria2c", "-q", "-x", "4", "-s", "4", "-k", "1M", "-o", "first.iso", url]
            via = f"--http-proxy=http://{proxy.forward[0]}:{proxy.forward[1]}"
            subprocess.run([*words, via], cwd=lab.room, check=True, timeout=300)
            equal((lab.room / "first.iso").read_bytes(), body, "aria2's file")
        for again in ("first", "second"):
            if again == "second":
                drawn = mirror.bytes_of(path)
                overlap = 2 * MIB + mirror.ended * ON_ITS_WAY
                check(drawn <= len(body) + overlap, f"{drawn} bytes of {len(body)} were drawn")
            folder = lab.room / (again + path[1:])
            for name, got in downloads(lab, proxy, url, folder).items():
                check(got == body, f"{name} has another file")
            shutil.rmtree(folder)
        equal(mirror.bytes_of(path), drawn, "bytes drawn by the second round")


@story(larder_only=True)
def zypper_installs_and_a_second_one_draws_nothing(lab):
    """zypper, which asks for ranges of packages, downloads through the proxy; a second one with
    empty caches has the packages without a byte from the mirror."""
    repo = rpms.Repository(lab.room)
    mirror = lab.mirrors()[0]
    mirror.tree("/centos", repo.root)
    proxy = lab.proxy()
    base = f"{mirror.url}/centos/{rpms.LAYOUT}/"
    for number in range(2):
        drawn = mirror.bytes_of_suffix(".rpm")
        root = lab.room / f"zypper{number}"
        root.mkdir()
        zypper(root, proxy, "addrepo", "-G", "-f", base, "test")
        zypper(root, proxy, "install", "--download-only", "--no-recommends", "-y", "pantry")
        got = {path.name: path.read_bytes() for path in root.rglob("*.rpm")}
        wanted = {path.name: path.read_bytes() for path in repo.root.rglob("*.rpm")}
        check(got and all(wanted[name] == got[name] for name in got), f"{sorted(got)}")
    check(drawn > 0, "nothing was drawn")
    equal(mirror.bytes_of_suffix(".rpm"), drawn, "bytes after the second client")


def zypper(root, proxy, *words):
    """Runs zypper in a root of its own, or fails with what it said."""
    via = f"http://{proxy.forward[0]}:{proxy.forward[1]}"
    environment = {"http_proxy": via, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    command = ["zypper", "--root", str(root), "--non-interactive", "--no-gpg-checks", *words]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    check(ran.returncode == 0, f"zypper {words[0]}: {ran.returncode}\n{ran.stdout}{ran.stderr}")

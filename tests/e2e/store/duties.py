#!/usr/bin/env python3
"""What administrators do with a cache, where it went wrong before: small disks with real folders, disks
that are only read, variants repaired and carried elsewhere, audits cut short, bad reloads, questions to
a running larder.
"""
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "provision"), str(HERE)]

from checks import LARDER, check, end, figure, skip  # noqa: E402 - the path must be known first
from faults import ORIGIN, SEED, Larder, blobs, flip, package, pull  # noqa: E402
from harness import wire, world  # noqa: E402
from harness.origin import Answer, Origin  # noqa: E402

MIB = 1 << 20
CAP = 24_000_000


def url(path):
    """An object's URL."""
    return f"http://{ORIGIN[0]}:{ORIGIN[1]}{path}"


def run(*words, **more):
    """A command, ended."""
    return subprocess.run([LARDER, *words], capture_output=True, text=True, timeout=300, **more)


def churned_disk(room, origin, draw):
    """A real disk, where folders have blocks: 24 MB of cache, 2,500 bodies of 40 KB through it."""
    image, mount = room / "image", room / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(128 * MIB)
    words = ["mkfs.ext4", "-q", "-F", "-m", "0", image]
    try:
        subprocess.run(words, check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as why:
        skip("churned disk", f"mkfs.ext4 and mount -o loop: {why}")
        return
    try:
        on_churned_disk(room, mount, origin, draw)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def on_churned_disk(room, mount, origin, draw):
    """As churned_disk, on the disk."""
    bodies = [draw.randbytes(40_000) for _ in range(2500)]
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body))
    before = os.statvfs(mount)
    text = f'[cache]\ndirectory = "{mount}/cache"\nmax-size = "{CAP} B"\n'
    larder = Larder(room, text, "--admin", "off")
    worst, over = [0], threading.Event()

    def sample():
        while not over.wait(0.01):
            status = os.statvfs(mount)
            worst[0] = max(worst[0], (before.f_bfree - status.f_bfree) * status.f_frsize)

    gauge = threading.Thread(target=sample)
    gauge.start()
    wrong, cut = pull(larder, bodies, range(2500))
    over.set()
    gauge.join()
    check("churned disk: 2,500 answers right", (wrong, cut) == ([], []), f"{wrong[:3]} {cut[:3]}")
    check("churned disk: it was looked at while it was full", worst[0] > CAP // 2, str(worst[0]))
    check("churned disk: never over max-size", worst[0] <= CAP, str(worst[0]))
    status = json.loads(larder.command("status", "--json").stdout)["cache"]
    figure(f"after 2,500 bodies of 40 KB: {status['bytes'] / 1e6:.1f} MB of bodies in 24 MB, worst use {worst[0] / 1e6:.1f} MB")
    check("churned disk: bodies have the room, not folders", status["bytes"] > CAP * 0.7, str(status))
    check("churned disk: it ends in order", larder.stop() == 0)
    folders = [folder for folder in (mount / "cache/content-v2/sha256").glob("*/*")]
    check("churned disk: no folder is empty", all(any(folder.iterdir()) for folder in folders))
    read_only_disk(larder, mount, origin, bodies)


def read_only_disk(larder, mount, origin, bodies):
    """The same disk, only read: what is held is served, the rest passes through."""
    listed = run("cache", "ls", "--json", "--config", larder.config)
    held = [json.loads(line)["url"] for line in listed.stdout.splitlines()]
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    larder.start("--admin", "off")
    check("read-only disk: it says so once", larder.said().count("nothing is stored") == 1, larder.said()[-600:])
    status = larder.command("status").stdout
    check("read-only disk: status says so", "read-only" in status.lower(), status)
    origin.forget()
    numbers = [number for number in range(2500) if url(package(number)) in held][:50]
    check("read-only disk: hits are right", pull(larder, bodies, numbers) == ([], []))
    check("read-only disk: without the origin", not origin.requests and len(numbers) == 50, str(len(origin.requests)))
    gone = [number for number in range(2500) if url(package(number)) not in held][:20]
    check("read-only disk: the rest passes through", pull(larder, bodies, gone) == ([], []))
    check("read-only disk: it ends in order", larder.stop() == 0)
    for words in (["stats"], ["ls"], ["show", url(package(numbers[0]))]):
        done = run("cache", *words, "--config", larder.config)
        check(f"read-only disk: cache {words[0]} works", done.returncode == 0 and done.stdout, done.stderr)
    subprocess.run(["mount", "-o", "remount,rw", mount], check=True)
    version = (mount / "cache/VERSION").read_text(encoding="utf-8")
    (mount / "cache/VERSION").write_text("larder cache 2\n", encoding="utf-8")
    larder.start("--admin", "off")
    said = larder.said()
    check("later version: said, and it serves", "larder cache 2" in said and pull(larder, bodies, [1, 2]) == ([], []), said)
    check("later version: it ends in order", larder.stop() == 0)
    (mount / "cache/VERSION").write_text(version, encoding="utf-8")
    became_read_only(larder, mount, origin, bodies)


def became_read_only(larder, mount, origin, bodies):
    """The same disk, given up by its file system while larder serves: said, and nothing fails."""
    larder.start("--admin", "off")
    check("disk given up: before", pull(larder, bodies, range(100)) == ([], []))
    aborted = subprocess.run(["mount", "-o", "remount,abort", mount], capture_output=True, check=False)
    if aborted.returncode:
        skip("disk given up", f"remount,abort: {aborted.stderr}")
        return
    gone = range(1500, 1800)
    begun = time.monotonic()
    check("disk given up: all answers are right", pull(larder, bodies, gone) == ([], []))
    status = larder.command("status").stdout
    check("disk given up: status says so", "read-only" in status, status)
    lines = larder.said().count("the fill is dropped")
    # Each of two kinds may be told once a minute.
    most = 2 * (1 + int((time.monotonic() - begun) // 60))
    check("disk given up: said, and not at each miss", lines <= most and "cannot be written any more" in larder.said(), f"{lines}: {larder.said()[-900:]}")
    origin.forget()
    check("disk given up: hits are right", pull(larder, bodies, range(50)) == ([], []))
    larder.stop()


def variants(room, origin, draw):
    """A gzip variant that is damaged, repaired, exported and imported elsewhere."""
    plain, packed = draw.randbytes(5000), draw.randbytes(3000)
    path = "/v/primary.xml"
    fields = {"Vary": "Accept-Encoding", "Cache-Control": "max-age=99999"}
    wanted = {"Accept-Encoding": "gzip"}

    def answer(number):
        body = packed if number else plain
        more = {"Content-Encoding": "gzip"} if number else {}
        return Answer(body=body, headers={**fields, **more})

    origin.answers.clear()
    origin.put(path, answer(1))
    larder = Larder(room, f'[cache]\ndirectory = "{room}/cache"\n', "--admin", "off")
    first = wire.get(larder.forward, url(path), headers=wanted)
    check("variant: it comes", first.body == packed, str(first.status))
    larder.stop()
    flip(blobs(room / "cache"), draw)
    larder.start("--admin", "off")
    origin.forget()
    repaired = larder.command("cache", "verify", "--repair")
    check("variant: repaired", repaired.returncode == 0 and "1 of 1 objects repaired" in repaired.stdout, repaired.stdout + repaired.stderr)
    asked = [request.get("Accept-Encoding") for request in origin.requests]
    check("variant: asked for as the client did", asked == ["gzip"], str(asked))
    error = draw.randbytes(200)
    origin.put("/v/x.rpm", Answer(status="404 Not Found", body=error, headers={"Cache-Control": "max-age=9999"}))
    wire.get(larder.forward, url("/v/x.rpm"))
    explained = larder.command("explain", "--header", "Accept-Encoding: gzip", url(path))
    check("explain: a running larder is asked", "3000 bytes" in explained.stdout, explained.stdout + explained.stderr)
    exported = larder.command("cache", "export", room / "tree")
    check("export: done", exported.returncode == 0, exported.stderr)
    named = [str(file.relative_to(room / "tree")) for file in (room / "tree").rglob("*") if file.is_file()]
    wild = [name for name in named if name.startswith("http")]
    check("export: neither error page nor variant under a package's name", not wild, str(wild))
    larder.stop()
    stopped = run("explain", "--config", larder.config, "--header", "Accept-Encoding: gzip", url(path))
    check("explain: a stopped cache is looked at", "3000 bytes" in stopped.stdout, stopped.stdout)
    other = room / "other"
    other.mkdir()
    elsewhere = Larder(other, f'[cache]\ndirectory = "{other}/cache"\n', "--admin", "off")
    imported = elsewhere.command("cache", "import", room / "tree")
    check("import: taken", imported.returncode == 0, imported.stdout + imported.stderr)
    stats = elsewhere.command("cache", "stats").stdout
    check("import: counts no look-ups", "none yet of 0 look-ups" in stats, stats)
    origin.forget()
    hit = wire.get(elsewhere.forward, url(path), headers=wanted)
    check("import: the variant is a hit", hit.body == packed and not origin.requests, f"{hit.status} {len(origin.requests)}")
    elsewhere.stop()


def held_in_parts(room, origin, draw):
    """What is held in parts is seen, audited and purged like anything else."""
    origin.answers.clear()
    body, path = draw.randbytes(5 * MIB), "/iso/dvd.iso"
    origin.put(path, Answer(body=body))
    larder = Larder(room, f'[cache]\ndirectory = "{room}/cache"\n', "--admin", "off")

    def asks(first, last):
        reply = wire.get(larder.forward, url(path), headers={"Range": f"bytes={first}-{last}"})
        return (reply.status, reply.body) == (206, body[first:last + 1])

    check("parts: two blocks come", asks(0, 999) and asks(3 * MIB, 3 * MIB + 9))

    def lines(*words):
        is_running = larder.process.poll() is None
        done = larder.command("cache", *words) if is_running else run("cache", *words, "--config", larder.config)
        return done.returncode, done.stdout

    def is_listed(when):
        code, said = lines("ls", "--json")
        line = json.loads(said or "{}")
        known = line.get("state"), line.get("held"), line.get("bytes"), line.get("url")
        check(f"parts: ls, {when}", code == 0 and known == ("partial", 2 * MIB, 5 * MIB, url(path)), said)
        check(f"parts: ls for people, {when}", " partial " in lines("ls", "dvd")[1])
        code, said = lines("show", url(path))
        check(f"parts: show, {when}", code == 0 and f"{2 * MIB} bytes of it" in said, said)
        said = json.loads(lines("stats", "--json")[1])["partial"]
        check(f"parts: stats, {when}", said == {"objects": 1, "held": 2 * MIB, "bytes": 5 * MIB}, str(said))

    is_listed("running")
    larder.stop()
    is_listed("stopped")
    code, said = lines("export", room / "tree")
    check("parts: nothing to export", code == 1 and "0 objects" in said, said)
    held, = (file for file in (room / "cache/partials").iterdir() if not file.suffix)
    with held.open("r+b") as file:
        file.seek(3 * MIB + 5)
        file.write(bytes([body[3 * MIB + 5] ^ 4]))
    code, said = lines("verify")
    check("parts: a bad block is dropped", code == 0 and "2 blocks of what is held in parts: 1 damaged and dropped" in said, said)
    larder.start("--admin", "off")
    origin.forget()
    check("parts: the good one is a hit", asks(5, 500) and not origin.requests)
    check("parts: the other comes again", asks(3 * MIB, 3 * MIB + 9) and len(origin.requests) == 1)
    code, said = lines("purge", url(path))
    check("parts: purged", lines("ls")[1] == "", said)
    larder.stop()


def unverified(room):
    """What an import must not take."""
    good, digest = b"x" * 100, "0" * 64
    config = room / "larder.toml"
    config.write_text(f'[cache]\ndirectory = "{room}/cache"\n', encoding="utf-8")
    (room / "cache").mkdir()

    def tries(name, wanted, fill, *words, of=None):
        folder = room / name
        (folder / "sub").mkdir(parents=True)
        (folder / "sub/a.rpm").write_bytes(good)
        fill(folder)
        done = run("cache", "import", of or folder, *words, "--config", config)
        check(f"import: {name}", done.returncode == 1 and wanted in done.stdout + done.stderr, done.stdout + done.stderr)

    base = ["--as", "http://h.example/"]
    tries("a digest announced above", "1 refused",
          lambda f: (f / "SHA256SUMS").write_text(f"{digest}  sub/a.rpm\n"), *base)
    tries("sums in another encoding", "1 refused",
          lambda f: (f / "SHA256SUMS").write_bytes(b"\xe9 caf\n" + f"{digest}  sub/a.rpm\n".encode()), *base)

    def tar(folder):
        (folder / "SHA256SUMS").write_text(f"{digest}  sub/a.rpm\n")
        subprocess.run(["tar", "-C", folder, "-cf", room / "x.tar", "SHA256SUMS", "sub/a.rpm"], check=True)

    tries("sums in a tar file", "1 refused", tar, *base, of=room / "x.tar")
    line = {"key": "url:http://h/x", "url": "http://h/x", "bytes": 100, "sha256": "", "status": 200, "fetched": 1, "head": []}

    def manifest(path):
        return lambda f: (f / "larder-manifest.jsonl").write_text(json.dumps({**line, "path": path}) + "\n")

    tries("a manifest without a digest", "1 refused", manifest("sub/a.rpm"))

    def link(folder):
        (folder / "http").symlink_to("/etc")
        manifest("http/passwd")(folder)

    tries("a link that leads out", "1 refused", link)


def handed_over(room):
    """The first act at a site without a network: a folder into a cache that is not there yet."""
    config, tree = room / "site.toml", room / "packages"
    config.write_text(f'[cache]\ndirectory = "{room}/site"\n', encoding="utf-8")
    tree.mkdir()
    for number in range(5):
        (tree / f"{number}.rpm").write_bytes(b"%d" % number * 1000)

    def does(*words):
        done = run("cache", *words, "--config", config)
        return done.returncode, done.stdout + done.stderr

    base = ["--as", "http://h.example/"]
    code, said = does("ls")
    check("hand over: nobody else makes the directory", code == 1 and not (room / "site").exists(), said)
    code, said = does("import", tree, *base)
    check("hand over: into a directory that is made", code == 0 and "5 objects stored" in said, said)
    code, said = does("import", tree, *base)
    check("hand over: once more is held already", "0 objects stored, 5 held already" in said, said)
    (tree / "0.rpm").write_bytes(b"new")
    code, said = does("import", tree, *base)
    check("hand over: what has changed is stored", "1 objects stored, 4 held already" in said, said)
    code, said = does("export", "--format", "cacache", room / "cc")
    check("hand over: an empty place needs no notice", code == 0 and "not empty" not in said, said)
    for words in ([room / "cc"], [room / "cc", *base], [room / "site", *base]):
        code, said = does("import", *words)
        check("hand over: a cache is no folder of packages", code == 2 and "cacache" in said, said)
    code, said = does("export", tree)
    check("hand over: who is there already is spoken of", code == 0 and "not empty" in said, said)


def mistaken(room):
    """Folders that are no cache, destinations and words that are not meant: nothing is harmed by them."""
    project = room / "project"
    (project / "parts").mkdir(parents=True)
    (project / "parts" / "gear.stl").write_text("precious", encoding="utf-8")
    url_ = "http://h.example/1.rpm"
    commands = [["cache", *words] for words in
                (["stats"], ["ls"], ["show", url_], ["purge", url_], ["verify"], ["export", room / "none.tar"])]
    for words in [*commands, ["explain", url_], ["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--socket", "off"]]:
        done = run(*words, "--cache-dir", project)
        check(f"no cache: {words[:2]} says so", "no larder cache" in done.stdout + done.stderr, done.stdout + done.stderr)
        check(f"no cache: {words[:2]} is exit 1", done.returncode == 1 or words[0] == "explain", str(done.returncode))
    packages = room / "wares"
    packages.mkdir()
    for number in range(60):
        (packages / f"{number}.rpm").write_bytes(os.urandom(100_000))
    base = ["--as", "http://h.example/"]
    done = run("cache", "--cache-dir", project, "import", packages, *base)
    check("no cache: nor is it filled", done.returncode == 1 and "name an empty folder" in done.stderr, done.stderr)
    left = [path.relative_to(project).as_posix() for path in project.rglob("*")]
    check("no cache: nothing is made or removed there", sorted(left) == ["parts", "parts/gear.stl"], str(left))
    config = room / "small.toml"
    config.write_text(f'[cache]\ndirectory = "{room}/small"\nmax-size = "4 MB"\n', encoding="utf-8")
    done = run("cache", "import", packages, *base, "--config", config)
    check("import: what has left again is no success", done.returncode == 1 and "have left again" in done.stderr, done.stderr)
    config.write_text(f'[cache]\ndirectory = "{room}/large"\n', encoding="utf-8")
    for base_ in ("http://h.example/dir/#frag", "http://h.example/get?f=x"):
        done = run("cache", "import", packages, "--as", base_, "--config", config)
        check(f"import: not below {base_}", done.returncode == 2, done.stderr)
    done = run("cache", "import", packages / "1.rpm", *base, "--config", config)
    check("import: a package is no folder", done.returncode == 2 and "folder of packages" in done.stderr, done.stderr)
    run("cache", "import", packages, *base, "--config", config)
    with open("/dev/full", "wb") as full:
        for words in (["ls"], ["ls", "--json"]):
            words = [LARDER, "cache", *words, "--config", config]
            done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
            check("ls: a full disk is no success", done.returncode == 1 and "standard output" in done.stderr, done.stderr)
    done = run("cache", "ls", "nothing-like-it", "--config", config)
    check("ls: that nothing matches is said", done.returncode == 1 and "nothing matches" in done.stderr, done.stderr)
    done = run("cache", "export", room / "x.tar.gz", "--config", config)
    check("export: nothing is compressed", done.returncode == 2 and not (room / "x.tar.gz").exists(), done.stderr)
    carried(room, config)


def carried(room, config):
    """Exports in several runs, cut short, packed by others."""
    for pattern in ("*/1?.rpm", "*/2?.rpm"):
        run("cache", "export", room / "tree", "--pattern", pattern, "--config", config)
    subprocess.run(["tar", "-C", room / "tree", "-cf", room / "tree.tar", "."], check=True)
    done = run("cache", "--cache-dir", room / "there", "import", room / "tree.tar")
    check("carried: both runs, in a tar file of others", "20 objects stored" in done.stdout, done.stdout + done.stderr)
    for to in ("out.tar", "out"):
        words = [LARDER, "cache", "export", room / to, "--config", config]
        export = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while export.poll() is None and not list(room.glob(f"{to}.part-*")):
            pass
        export.send_signal(signal.SIGTERM)
        done, said = export.communicate()
        left = [path.name for path in room.glob(f"{to}*part*")] + [path.name for path in (room / to).glob("*part*")]
        check(f"carried: {to} cut short leaves nothing", not left, f"{left} {export.returncode} {said}")
        # Where it was quicker than the signal, it was whole.
        fits = export.returncode == 1 or (export.returncode == 0 and "60 objects" in done)
        check(f"carried: {to} cut short is no success", fits, f"{export.returncode} {said}")
    if (room / "out").exists() and list((room / "out").iterdir()):
        done = run("cache", "--cache-dir", room / "rest", "import", room / "out")
        check("carried: what came before the end can be taken in", done.returncode == 0, done.stderr)


def cut_short(room, origin, draw):
    """An audit during which larder ends, and one whose repair is cut short."""
    origin.answers.clear()
    bodies = [draw.randbytes(60_000_000 if number == 0 else 80_000) for number in range(30)]
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body))
    larder = Larder(room, f'[cache]\ndirectory = "{room}/cache"\n', "--admin", "off")
    pull(larder, bodies, range(30))
    words = [LARDER, "cache", "verify", "--anew", "--config", larder.config, "--socket", larder.socket]
    codes = []
    for _ in range(5):
        verify = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.06)
        larder.process.send_signal(signal.SIGKILL)
        larder.process.wait()
        out = verify.communicate()[0]
        codes.append((verify.returncode, "complete" in out or " bodies, " in out))
        larder.start("--admin", "off")
    # Where the audit was quicker than the kill, it was whole and good.
    check("audit: cut off is no success", all(code == 1 or said for code, said in codes), str(codes))
    larder.stop()
    flip([blob for blob in blobs(room / "cache") if blob.stat().st_size == 80_000][:10], draw)
    found = run("cache", "verify", "--config", larder.config)
    check("audit: damage that stays is exit 1", found.returncode == 1 and "10 damaged" in found.stdout, found.stdout)
    larder.start("--admin", "off")
    later = larder.command("cache", "verify", "--repair")
    check("repair: what an earlier audit dropped is fetched again", "10 of 10 objects repaired" in later.stdout, later.stdout)
    origin.forget()
    check("repair: and all are hits", pull(larder, bodies, range(30)) == ([], []) and not origin.requests)
    larder.config.write_text("nonsense = 1\n" + larder.config.read_text(encoding="utf-8"), encoding="utf-8")
    bad = run("reload", "--config", larder.config, "--socket", larder.socket)
    check("reload: a bad file is exit 2", bad.returncode == 2 and "nonsense" in bad.stderr, bad.stderr)
    bare = run("reload", "--config", larder.config)
    check("reload: where no larder is found it says what is wrong", bare.returncode == 2 and "nonsense" in bare.stderr, bare.stderr)
    larder.stop()


def main():
    """Enters a private world and tries everything."""
    world.enter()
    os.environ.pop("LARDER_CONFIG", None)
    draw = random.Random(SEED)
    print(f"   seed {SEED}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        rooms = [pathlib.Path(folder, str(number)) for number in range(4)]
        for room in rooms:
            room.mkdir()
        origin = Origin(*ORIGIN)
        churned_disk(rooms[0], origin, draw)
        variants(rooms[1], origin, draw)
        (rooms[1] / "parts").mkdir()
        held_in_parts(rooms[1] / "parts", origin, draw)
        unverified(rooms[2])
        handed_over(rooms[2])
        (rooms[2] / "mistaken").mkdir()
        mistaken(rooms[2] / "mistaken")
        cut_short(rooms[3], origin, draw)
        origin.close()
    end()


if __name__ == "__main__":
    main()

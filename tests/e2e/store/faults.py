#!/usr/bin/env python3
"""What administrators fear: flipped bits, a disk that is smaller than it was said to be, a cache
directory that is pulled away, a bad reload. Clients get right bytes or a cut connection, nothing else.
"""
import contextlib
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "provision")]

from checks import LARDER, check, end, figure  # noqa: E402 - the path must be known first
from harness import wire, world  # noqa: E402
from harness.origin import Answer, Origin  # noqa: E402

CLIENTS = 8
ORIGIN = ("127.0.0.20", 8000)
SEED = 20261125
MIB = 1 << 20


class Larder:
    """A running larder with a configuration of its own."""

    def __init__(self, room, text, *words):
        self.room, self.socket = room, room / "socket"
        self.config = room / "larder.toml"
        self.config.write_text(text, encoding="utf-8")
        self.start(*words)

    def start(self, *words):
        """Starts it and waits until it listens."""
        self.log = self.room / f"log-{time.monotonic_ns()}"
        words = [LARDER, "serve", "--config", self.config, "--listen", "127.0.0.1:0", *words]
        with self.log.open("wb") as out:
            # No admin address but that of the words: the runs of this script follow each other fast.
            self.process = subprocess.Popen([*words, "--socket", self.socket], stdout=out, stderr=out)
        until = time.monotonic() + 60
        while "unix:" not in self.said() and time.monotonic() < until and self.process.poll() is None:
            time.sleep(0.02)
        found = re.search(r"listening mode=forward address=([\d.]+):(\d+)", self.said())
        assert found, f"it does not listen: {self.said()}"
        self.forward = (found[1], int(found[2]))

    def said(self):
        """All that it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def command(self, *words):
        """A command on it."""
        run = [LARDER, *words, "--config", self.config, "--socket", self.socket]
        return subprocess.run(run, capture_output=True, text=True, timeout=300)

    def stop(self):
        """Ends it in order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def package(number):
    """The path of an object."""
    return f"/pool/p{number}-1.0-1.x86_64.rpm"


def pull(larder, bodies, numbers):
    """Asks for objects by several clients. Returns those that came whole and wrong, and those cut."""
    wrong, cut, todo = [], [], list(numbers)
    lock = threading.Lock()

    def client():
        while True:
            with lock:
                if not todo:
                    return
                number = todo.pop()
            try:
                reply = wire.get(larder.forward, f"http://{ORIGIN[0]}:{ORIGIN[1]}{package(number)}")
            except (OSError, wire.NoAnswer) as error:
                # Nobody is to wait for ever, whatever the disk does.
                cut.append((number, repr(error)))
                continue
            if not reply.whole:
                cut.append(number)
            elif reply.status != 200 or reply.body != bodies[number]:
                wrong.append((number, reply.status, len(reply.body)))

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return wrong, cut


def blobs(cache):
    """The body files of a cache."""
    return sorted(path for path in (cache / "content-v2").rglob("*") if path.is_file())


def flip(paths, draw):
    """Flips a random byte of each."""
    for path in paths:
        body = bytearray(path.read_bytes())
        body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
        path.write_bytes(body)


def flipped_bodies(room, origin, draw):
    """Accepts 500 flips: found, repaired, never served."""
    bodies = [draw.randbytes(draw.choice([700, 20_000, 90_000, 300_000])) for _ in range(700)]
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body))
    cache = room / "cache"
    larder = Larder(room, f'[cache]\ndirectory = "{cache}"\nmax-size = "2 GB"\n', "--admin", "off")
    check("flips: first fetches are right", pull(larder, bodies, range(700)) == ([], []))
    check("flips: it ends in order", larder.stop() == 0)
    flip(draw.sample(blobs(cache), 500), draw)
    larder.start("--admin", "off")
    verify = larder.command("cache", "verify", "--repair")
    figure(verify.stdout.splitlines()[-1] if verify.stdout else verify.stderr)
    good = verify.returncode == 0 and "500 damaged; 500 of 500 objects repaired" in verify.stdout
    check("flips: verify finds all 500 and repairs them", good, verify.stdout[-300:] + verify.stderr[-300:])
    origin.forget()
    check("flips: afterwards all are hits and right", pull(larder, bodies, range(700)) == ([], []))
    check("flips: and the origin is not asked", not origin.requests, f"{len(origin.requests)} requests")
    larder.stop()
    flip(draw.sample(blobs(cache), 500), draw)
    larder.start("--admin", "off")
    wrong, cut = pull(larder, bodies, range(700))
    figure(f"500 flipped, not verified: {len(wrong)} wrong whole bodies, {len(cut)} cut connections")
    check("flips: none is served whole", not wrong, str(wrong[:5]))
    check("flips: who asks again gets the object", pull(larder, bodies, range(700)) == ([], []))
    larder.stop()
    flipped_index(larder, bodies, cache, draw)


def few_files(room, origin, draw):
    """A larder that may open hardly any more files: hits go on or end clearly, and nothing is lost."""
    bodies = [draw.randbytes(90_000) for _ in range(60)]
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body))
    larder = Larder(room, f'[cache]\ndirectory = "{room}/cache"\nmemory = "1 MB"\n', "--admin", "off")
    check("few files: stored", pull(larder, bodies, range(60)) == ([], []))
    larder.stop()
    larder.start("--admin", "off")
    process = larder.process.pid
    soft, hard = resource.prlimit(process, resource.RLIMIT_NOFILE)
    held = len(os.listdir(f"/proc/{process}/fd"))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (held + 9, hard))
    origin.forget()
    ends, lock = [], threading.Lock()

    def client(mine):
        for number in mine:
            try:
                reply = wire.get(larder.forward, f"http://{ORIGIN[0]}:{ORIGIN[1]}{package(number)}")
                right = reply.whole and reply.status == 200 and reply.body == bodies[number]
                clear = not reply.whole or reply.status in (502, 503)
                end = "right" if right else "clear" if clear else f"wrong: {reply.status}"
            except (OSError, wire.NoAnswer):
                end = "clear"
            with lock:
                ends.append(end)

    clients = [threading.Thread(target=client, args=(range(number, 60, 12),)) for number in range(12)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    right, clear = ends.count("right"), ends.count("clear")
    figure(f"few files: {right} right, {clear} refused or cut, of {len(ends)}")
    check("few files: no wrong answer", right + clear == 60, str(set(ends)))
    # How many of a crowd come through is the machine's to say; one alone does, once the crowd is gone.
    until = time.monotonic() + 60
    ends.clear()
    while "right" not in ends and time.monotonic() < until:
        client([7])
    check("few files: one alone is served", "right" in ends, str(set(ends)))
    resource.prlimit(process, resource.RLIMIT_NOFILE, (soft, hard))
    origin.forget()
    check("few files: nothing was lost", pull(larder, bodies, range(60)) == ([], []) and not origin.requests, f"{len(origin.requests)} requests")
    check("few files: it ends in order", larder.stop() == 0)


def flipped_index(larder, bodies, cache, draw):
    """A byte of the index: no wrong byte, and service goes on."""
    worst = ""
    for _ in range(5):
        index = bytearray((cache / "index.redb").read_bytes())
        used = [at for at in range(0, len(index)) if index[at]]
        index[draw.choice(used)] ^= 1 << draw.randrange(8)
        (cache / "index.redb").write_bytes(index)
        larder.start("--admin", "off")
        wrong, cut = pull(larder, bodies, range(0, 700, 5))
        if wrong or cut:
            worst = f"{wrong[:3]} {cut[:3]}"
        larder.stop()
    check("index flips: five times, every answer right", not worst, worst)
    index = cache / "index.redb"
    index.write_bytes(b"\0" * 4096 + index.read_bytes()[4096:])
    larder.start("--admin", "off")
    wrong, cut = pull(larder, bodies, range(700))
    said = [line for line in larder.said().splitlines() if "fault=\"index\"" in line or "index" in line.lower()]
    check("index beheaded: every answer right", (wrong, cut) == ([], []))
    check("index beheaded: said, and rebuilt", any("rebuilt" in line for line in said), larder.said()[-500:])
    figure(next((line for line in said if "rebuilt" in line), "no line"))
    larder.stop()


def small_disk(room, origin, draw):
    """max-size 200 MB on a file system of 64 MB."""
    mount = room / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", mount], check=True)
    try:
        on_small_disk(room, mount, origin, draw)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


def on_small_disk(room, mount, origin, draw):
    """As small_disk, on the disk."""
    origin.answers.clear()
    bodies = [draw.randbytes(draw.choice([5_000, 20_000, 60_000, 200_000])) for _ in range(2000)]
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body, chunked=number % 4 == 0))
    text = f'[cache]\ndirectory = "{mount}/cache"\nmax-size = "200 MB"\n'
    larder = Larder(room, text, "--admin", "off")
    check("small disk: clamped with a notice", "max-size is more than the file system has" in larder.said())
    worst, over = [0], threading.Event()

    def sample():
        while not over.wait(0.05):
            status = os.statvfs(mount)
            worst[0] = max(worst[0], (status.f_blocks - status.f_bfree) * status.f_frsize)

    gauge = threading.Thread(target=sample)
    gauge.start()
    wrong, cut = pull(larder, bodies, range(2000))
    over.set()
    gauge.join()
    figure(f"{sum(map(len, bodies)) / MIB:.0f} MiB through a disk of 64 MiB, worst use {worst[0] / MIB:.1f} MiB")
    check("small disk: 2,000 answers right", (wrong, cut) == ([], []), f"{wrong[:3]} {cut[:3]}")
    check("small disk: it still runs", larder.process.poll() is None)
    check("small disk: it was used", worst[0] > 32 * MIB, str(worst[0]))
    # Another one takes all that is left meanwhile.
    with (mount / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while True:
            other.write(bytes(MIB))
    wrong, cut = pull(larder, bodies, range(0, 2000, 4))
    check("disk filled by another: every answer right", not wrong and not cut, f"{wrong[:3]} {cut[:3]}")
    check("disk filled by another: it ends in order", larder.stop() == 0)


def pulled_away(room, origin, draw):
    """The cache directory vanishes under a running larder."""
    bodies = [draw.randbytes(50_000) for _ in range(60)]
    origin.answers.clear()
    for number, body in enumerate(bodies):
        origin.put(package(number), Answer(body=body))
    cache = room / "vanishing"
    larder = Larder(room, f'[cache]\ndirectory = "{cache}"\nmemory = "1 MiB"\n', "--admin", "off")
    pull(larder, bodies, range(30))
    cache.rename(cache.with_name("away"))
    shutil.rmtree(cache.with_name("away"), ignore_errors=True)
    wrong, cut = pull(larder, bodies, range(60))
    check("directory pulled away: every answer right", (wrong, cut) == ([], []), f"{wrong[:3]} {cut[:3]}")
    check("directory pulled away: it still runs", larder.process.poll() is None)
    faults = larder.command("status").stdout
    check("directory pulled away: status counts it", "faults" in faults, faults)
    larder.stop()


def doors(room, origin):
    """Default doors that are taken, explicit ones, and a reload of a bad file."""
    del origin
    text = f'[cache]\ndirectory = "{room}/doors"\n'
    larder = Larder(room, text)
    check("doors: the default address is open", "mode=admin address=127.0.0.1:3180" in larder.said())
    other = room / "other"
    other.mkdir()
    second = Larder(other, f'[cache]\ndirectory = "{room}/doors2"\n')
    check("doors: a default address that is taken is a warning", "no administrators' address" in second.said())
    second.stop()
    words = [LARDER, "serve", "--config", second.config, "--listen", "127.0.0.1:0", "--socket", "off"]
    explicit = subprocess.run([*words, "--admin", "127.0.0.1:3180"], capture_output=True, text=True, timeout=120)
    check("doors: an explicit one is exit 1", explicit.returncode == 1, explicit.stderr)
    words[-1] = str(larder.socket)
    explicit = subprocess.run([*words, "--admin", "off"], capture_output=True, text=True, timeout=120)
    check("doors: an explicit socket that is taken too", explicit.returncode == 1, explicit.stderr)
    larder.config.write_text(text + "\n[cahce]\n", encoding="utf-8")
    bad = larder.command("reload")
    check("reload: a bad file is exit 2 and says where", bad.returncode == 2 and "cahce" in bad.stderr, bad.stderr)
    larder.config.write_text(text, encoding="utf-8")
    good = larder.command("reload")
    check("reload: a good file is exit 0", good.returncode == 0, good.stderr)
    check("doors: the socket is gone after the end", larder.stop() == 0 and not larder.socket.exists())
    gone = larder.command("status")
    check("status: without a larder it is exit 1", gone.returncode == 1 and "nobody answers" in gone.stderr, gone.stderr)


def main():
    """Enters a private world and tries everything."""
    world.enter()
    os.environ.pop("LARDER_CONFIG", None)
    draw = random.Random(SEED)
    print(f"   seed {SEED}")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        origin = Origin(*ORIGIN)
        for number, part in enumerate([flipped_bodies, small_disk, pulled_away, few_files]):
            room = pathlib.Path(folder, str(number))
            room.mkdir()
            part(room, origin, draw)
        doors(pathlib.Path(folder), origin)
        origin.close()
    end()


if __name__ == "__main__":
    main()

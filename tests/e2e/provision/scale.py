#!/usr/bin/env python3
"""Many groups and many machines.

- 2,000 groups: a changed file is seen by the next request; selection's latency beside 20 groups.
- 500 machines at once ask boot.ipxe, ipxe, the kernel (10 MB, through the proxy) and the kickstart:
  no error, one copy of the kernel from its origin; latency of the script with and without them, asked by a
  small compiled program (rush.rs): of Python's threads one runs at a time, so that they would measure each other.

Latencies belong to the machine that the test runs on: they are printed, and their ratios are judged on long
runs alone. That selection does not look at every group is a count, in crates/provision/src/select.rs.
"""
import http.client
import http.server
import json
import os
import pathlib
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

from checks import LARDER, check, end, figure

IS_LONG = bool(os.environ.get("LARDER_TESTS_LONG"))
KERNEL = os.urandom(1 << 20) * 10
HERE = pathlib.Path(__file__).resolve().parent
MACHINES = 500
ROUNDS = 7 if IS_LONG else 1
# What the script's p99 may be amid kernels, and among 2,000 groups, to what it is without them and among 20.
AMID_MAX = 5
AMONG_MAX = 2
CONFIGURATION = """
[cache]
directory = "FOLDER/cache"
[[listen]]
address = "0.0.0.0:0"
[admin]
address = "off"
socket = "off"
[provision]
enabled = true
data = "DATA"
http = "127.0.0.1:0"
rewrite = true
"""


class Running:
    """A larder and the first address that it said."""

    def __init__(self, mode, *words):
        self.process = subprocess.Popen([LARDER, *map(str, words)], stderr=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stderr:
            found = re.search(rf"listening mode={mode} address=(\S+)", line)
            if found:
                self.address = found[1]
                break
        if self.address is None:
            sys.exit(f"FAIL start {words}")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=120)


class Origin(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    bodies = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.bodies += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(KERNEL)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(KERNEL)

    def log_message(self, *_):
        pass


def data_directory(folder, groups, kernel="/k"):
    data = pathlib.Path(folder)
    for name in ("groups", "profiles", "generic", "assets"):
        (data / name).mkdir(parents=True)
    profile = {"id": "p", "generic_id": "ks", "boot": {"kernel": kernel, "initrd": ["/i"]}}
    (data / "profiles/p.json").write_text(json.dumps(profile))
    (data / "generic/ks").write_text("network --hostname={{.name}}\n")
    for number in range(groups):
        put_group(data, number, f"n{number}")
    return data


def mac(number):
    return f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"


def put_group(data, number, name):
    group = {"id": f"g{number}", "profile": "p", "selector": {"mac": mac(number)}, "metadata": {"name": name}}
    (data / f"groups/g{number}.json").write_text(json.dumps(group))


def get(connection, path, headers=None):
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    body = response.read()
    return response.status, body


def p99(address, path, count):
    connection = http.client.HTTPConnection(address)
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        status, _ = get(connection, path)
        took.append(time.perf_counter() - begun)
        if status != 200:
            raise RuntimeError(f"{path}: {status}")
    return sorted(took)[len(took) * 99 // 100] * 1000


def many_groups(folder):
    few = data_directory(f"{folder}/few", 20)
    many = data_directory(f"{folder}/many", 2000)
    servers = [Running("provision", "matchbox", "-address=127.0.0.1:0", f"-data-path={data}", "-assets-path=")
               for data in (few, many)]
    try:
        connection = http.client.HTTPConnection(servers[1].address)
        seen = True
        for round_ in range(50):
            put_group(many, 1234, f"changed{round_}")
            _, body = get(connection, f"/generic?mac={mac(1234)}")
            seen = seen and body == f"network --hostname=changed{round_}\n".encode()
        check("a-changed-file-is-seen-by-the-next-request", seen)
        path = f"/ipxe?mac={mac(7)}&uuid=u&hostname=h&serial=s"
        rounds = [[p99(server.address, path, 1000) for server in servers] for _ in range(5)]
        small, large = (sorted(column)[2] for column in zip(*rounds))
        figure(f"p99 {large:.2f} ms, among 20 groups {small:.2f} ms, ratio {large / small:.2f}")
        if IS_LONG:
            check("selection-among-2000-groups", large <= AMONG_MAX * small, f"{large:.2f} ms to {small:.2f} ms")
    finally:
        for server in servers:
            server.stop()


def rush(program, address, folder):
    """All machines amid all kernels, then as many without them: the errors, both p99 in ms, and how long
    the kernels took in seconds.

    Who draws the kernels stands for other computers: where the scripts are judged by their times, that
    reading takes no processor from larder or from who asks it for scripts. Elsewhere it must get on itself."""
    over = pathlib.Path(folder, "over")
    over.unlink(missing_ok=True)
    begun = time.monotonic()
    words = [program, "kernels", address, str(MACHINES), str(len(KERNEL))]
    words = ["nice", "-n15", *words] if IS_LONG else words
    kernels = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    errors, took = [], []

    def wait():
        errors.extend(kernels.communicate()[0].splitlines())
        took.append(time.monotonic() - begun)
        over.touch()

    waiting = threading.Thread(target=wait)
    waiting.start()
    wrong, amid, times = bursts(program, address, over, 1)
    waiting.join()
    more, without, _ = bursts(program, address, over, times)
    return errors + wrong + more, amid, without, took[0]


def bursts(program, address, over, times):
    """All machines' scripts and kickstarts at once, so many times and until `over` is there; the errors, the
    p99 of the scripts in ms, and how many times it were."""
    words = [program, "scripts", address, str(MACHINES), str(over), str(times)]
    said = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    _, p99_us, _, times = said.pop().split()
    return said, int(p99_us) / 1000, int(times)


def install_rush(folder):
    origin = Origin(("127.0.0.1", 0), Handler)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port = origin.server_address[1]
    data = data_directory(f"{folder}/rush", MACHINES, f"http://127.0.0.1:{port}/vmlinuz-1.x86_64")
    program = f"{folder}/rush.program"
    subprocess.run(["rustc", "-O", "--edition=2024", "-o", program, HERE / "rush.rs"], check=True)
    configuration = pathlib.Path(folder, "larder.toml")
    configuration.write_text(CONFIGURATION.replace("FOLDER", folder).replace("DATA", str(data)))
    server = Running("provision", "serve", "--config", configuration)
    try:
        figures = []
        for _ in range(ROUNDS):
            errors, amid, without, took = rush(program, server.address, folder)
            figures.append((amid / without, amid, without, took))
            check("500-machines-get-everything", not errors, str(errors[:2]))
        check("one-kernel-from-the-origin", origin.bodies == 1, f"{origin.bodies} bodies")
        ratio, amid, without, took = sorted(figures)[len(figures) // 2]
        figure(f"kernels took {took:.1f} s; the script's p99 amid them {amid:.1f} ms, without {without:.1f} ms, "
               f"ratio {ratio:.1f} (median of {' '.join(f'{one[0]:.1f}' for one in figures)}; "
               f"load {os.getloadavg()[0]:.1f})")
        if IS_LONG:
            check("scripts-amid-kernels", ratio <= AMID_MAX, f"ratio {ratio:.1f}")
    finally:
        server.stop()
        origin.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        many_groups(work)
        install_rush(work)
    end()

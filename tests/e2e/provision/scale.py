#!/usr/bin/env python3
"""Many groups and many machines.

- 2,000 groups: a changed file is seen by the next request; selection's latency beside 20 groups.
- 500 machines at once ask boot.ipxe, ipxe, the kernel (10 MB, through the proxy) and the kickstart:
  no error, one copy of the kernel from its origin; latency of the script with and without them.

Latencies are printed, not judged: they belong to the machine that the test runs on.
"""
import http.client
import http.server
import json
import multiprocessing
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

KERNEL = os.urandom(1 << 20) * 10
MACHINES = 500
ROUNDS = 5 if os.environ.get("LARDER_TESTS_LONG") else 1
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
        self.process.wait(timeout=40)


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
            return float("nan")
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
        check("selection-among-2000-groups", small == small and large == large)
        figure(f"p99 {large:.2f} ms, among 20 groups {small:.2f} ms, ratio {large / small:.2f}")
    finally:
        for server in servers:
            server.stop()


def one_machine(address, number, errors, took):
    """A machine's morning but for its kernel: scripts, whose time is taken, and kickstart."""
    try:
        begun = time.perf_counter()
        scripts(address, number)
        took.append((time.perf_counter() - begun) * 1000)
        connection = http.client.HTTPConnection(address, timeout=120)
        header = {"X-RHN-Provisioning-MAC-0": f"eth0 {mac(number)}"}
        status, body = get(connection, "/kickstart", header)
        if body != f"network --hostname=n{number}\n".encode():
            errors.append(f"kickstart {status} {body[:80]}")
    except Exception as error:  # noqa: BLE001 - every error of a machine counts
        errors.append(repr(error))


def scripts(address, number):
    """boot.ipxe and ipxe, on a connection of their own."""
    connection = http.client.HTTPConnection(address, timeout=120)
    get(connection, "/boot.ipxe")
    status, script = get(connection, f"/ipxe?mac={mac(number)}")
    connection.close()
    if status != 200:
        raise RuntimeError(f"ipxe {status}")
    return script


def one_kernel(address, number, errors, _took):
    """The kernel that the machine's script names, as fast as it comes."""
    try:
        kernel = re.search(rb"kernel http://([^/]+)(\S+)", scripts(address, number))
        host, path = kernel[1].decode(), kernel[2].decode()
        mirror = http.client.HTTPConnection(host, timeout=120)
        mirror.request("GET", path)
        response = mirror.getresponse()
        read, buffer = 0, bytearray(1 << 18)
        while got := response.readinto(buffer):
            read += got
        if response.status != 200 or read != len(KERNEL):
            errors.append(f"kernel {response.status} {read}")
    except Exception as error:  # noqa: BLE001 - every error of a machine counts
        errors.append(repr(error))


def all_at_once(task, address, result):
    """One task for each machine, all at once; tells the errors and the times that were taken."""
    if task is one_kernel:
        # They stand for other computers: their reading takes no processor from larder or from who asks it.
        os.nice(15)
    errors, took = [], []
    threads = [threading.Thread(target=task, args=(address, number, errors, took)) for number in range(MACHINES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result.put((errors, took))


def in_a_process(task, address):
    """Begins `all_at_once` in a process of its own, so that clients do not wait for each other."""
    result = multiprocessing.Queue()
    process = multiprocessing.Process(target=all_at_once, args=(task, address, result))
    process.start()
    return process, result


def bursts(address, goes_on):
    """All machines' scripts and kickstarts, again and again; the errors, the p99, and how many times."""
    errors, took, times = [], [], 0
    while times == 0 or goes_on(times):
        process, result = in_a_process(one_machine, address)
        wrong, more = result.get(timeout=300)
        process.join()
        errors, took, times = errors + wrong, took + more, times + 1
    return errors, sorted(took)[len(took) * 99 // 100], times


def rush(address):
    """All machines amid all kernels, then as many without them: the errors, both p99 in ms, and how long
    the kernels took in seconds."""
    begun = time.monotonic()
    kernels, result = in_a_process(one_kernel, address)
    errors, amid, times = bursts(address, lambda _: result.empty())
    wrong, _ = result.get(timeout=300)
    kernels.join()
    seconds = time.monotonic() - begun
    more, without, _ = bursts(address, lambda done: done < times)
    return errors + wrong + more, amid, without, seconds


def install_rush(folder):
    origin = Origin(("127.0.0.1", 0), Handler)
    threading.Thread(target=origin.serve_forever, daemon=True).start()
    port = origin.server_address[1]
    data = data_directory(f"{folder}/rush", MACHINES, f"http://127.0.0.1:{port}/vmlinuz-1.x86_64")
    configuration = pathlib.Path(folder, "larder.toml")
    configuration.write_text(CONFIGURATION.replace("FOLDER", folder).replace("DATA", str(data)))
    server = Running("provision", "serve", "--config", configuration)
    try:
        figures = []
        for _ in range(ROUNDS):
            errors, amid, without, took = rush(server.address)
            figures.append((amid / without, amid, without, took))
            check("500-machines-get-everything", not errors, str(errors[:2]))
        check("one-kernel-from-the-origin", origin.bodies == 1, f"{origin.bodies} bodies")
        ratio, amid, without, took = sorted(figures)[len(figures) // 2]
        figure(f"kernels took {took:.1f} s; the script's p99 amid them {amid:.1f} ms, without {without:.1f} ms, "
               f"ratio {ratio:.1f}")
    finally:
        server.stop()
        origin.shutdown()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        many_groups(work)
        install_rush(work)
    end()

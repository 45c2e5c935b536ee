"""Starts the proxy under test, and Squid in its place.

A story asks for a proxy by what it should be configured with; whether that is larder or Squid is
the run's choice. Squid is the peer whose configuration larder takes over: a story that Squid
passes too is known to be a fair one.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from harness import wire

START_SECONDS = 90
STOP_SECONDS = 90
# What others do beside us is waited for so long.
PATIENCE = 60

# What Squid needs to do for any story what larder does without a word.
SQUID_PLAIN = """
http_port {listen}
{accelerate}
http_access allow all
cache_dir aufs {cache} 2000 1 16
maximum_object_size 2048 MB
collapsed_forwarding on
coredump_dir {cache}
cache_log {log}
access_log stdio:{access_log} squid
shutdown_lifetime 0 seconds
refresh_pattern . 0 10% 1440
"""


class StartFailed(Exception):
    """The proxy ended instead of listening."""


class Proxy:
    """A running proxy: its addresses, its log, its end."""

    def __init__(self, process, log):
        self.process, self.log = process, log
        self.forward = self.accelerator = self.access_log = None

    def get(self, url, headers=None, method="GET"):
        """One proxied request on a connection of its own."""
        return wire.get(self.forward, url, headers, method)

    def whole(self, url, headers=None):
        """The body of a request that must succeed in whole."""
        reply = self.get(url, headers)
        assert reply.status == 200 and reply.whole, f"{url}: {reply.status}, whole={reply.whole}"
        return reply.body

    def lines(self, about="", count=1):
        """The access-log lines that contain a text, once there are so many; then what else there is."""
        found = []

        def are_there():
            found[:] = self._logged(about)
            return len(found) >= count

        if not wait_until(are_there, PATIENCE):
            raise AssertionError(f"{len(found)} lines about {about!r}, not {count}: {found[-3:]}")
        # One too many would come at once.
        time.sleep(0.1)
        return self._logged(about)

    def _logged(self, about):
        log = pathlib.Path(self.access_log)
        text = log.read_text(encoding="latin-1") if log.exists() else ""
        # The end of the last line may be still to come.
        return [line for line in text[: text.rfind("\n") + 1].splitlines() if about in line]

    def said(self):
        """All that it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ended(self):
        """Whether the process is gone."""
        return self.process.poll() is not None

    def kill(self):
        """Ends it without a warning."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Ends it in order and returns its exit code."""
        if not self.ended():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"no end within {STOP_SECONDS} s of SIGTERM") from None

    def cleanup(self):
        """Leaves no process behind, however the story went."""
        if not self.ended():
            self.kill()


class LarderDriver:
    """Starts `larder serve`."""

    name = "larder"

    def __init__(self, binary):
        self.binary = binary

    def command(self, *words):
        """Runs a larder command to its end."""
        return subprocess.run(
            [self.binary, *words], capture_output=True, text=True, timeout=60, check=False
        )

    def plain(self, room, cache, accelerate=None):
        """No configuration: a forward listener, and an accelerator where a story names an origin."""
        words = ["--cache-dir", cache, "--listen", "127.0.0.1:0", "--admin", "off"]
        if accelerate:
            words += ["--accelerate", f"127.0.0.1:0={accelerate}"]
        return self.launch(room, words)

    def squid_conf(self, room, path):
        """A squid.conf."""
        return self.launch(room, ["--squid-conf", path, "--admin", "off"])

    def toml(self, room, path):
        """A larder.toml."""
        return self.launch(room, ["--config", path])

    def launch(self, room, words):
        """Starts it and waits until it says that it is ready: then all lines of its listeners are there."""
        number = time.monotonic_ns()
        log, manager = room / f"larder-{number}.log", room / f"notify-{number}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear, log.open("wb") as out:
            ear.bind(str(manager))
            ear.setblocking(False)
            process = subprocess.Popen(
                [self.binary, "serve", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=os.environ | {"NOTIFY_SOCKET": str(manager)},
            )  # fmt: skip
            is_ready = wait_until(lambda: process.poll() is not None or heard(ear).startswith(b"READY=1"))
        proxy = Proxy(process, log)
        if proxy.ended():
            raise StartFailed(f"exit {process.returncode}: {proxy.said().strip()}")
        if not is_ready:
            proxy.kill()
            raise StartFailed(f"not ready within {START_SECONDS} s: {proxy.said().strip()}")
        for mode, host, port in re.findall(r"listening mode=(\w+) address=(\S+):(\d+)", proxy.said()):
            host = {"[::]": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host)
            if getattr(proxy, mode, 0) is None:
                setattr(proxy, mode, (host, int(port)))
        return proxy


class SquidDriver:
    """Starts Squid."""

    name = "squid"

    def plain(self, room, cache, accelerate=None):
        """The nearest to larder without a configuration."""
        port, accelerator = free_port(), free_port()
        # `nhost[:port]` of an origin, as cache_peer wants it apart.
        host, _, origin_port = (accelerate or "//").split("/")[2].partition(":")
        lines = (
            f"http_port 127.0.0.1:{accelerator} accel defaultsite={host}:{origin_port or 80} no-vhost\n"
            f"cache_peer {host} parent {origin_port or 80} 0 no-query originserver name=origin\n"
            if accelerate
            else ""
        )
        conf = room / f"squid-{port}.conf"
        access_log = room / f"access-{port}.log"
        conf.write_text(
            SQUID_PLAIN.format(
                listen=f"127.0.0.1:{port}",
                accelerate=lines,
                cache=cache,
                log=room / f"cache-{port}.log",
                access_log=access_log,
            )
        )
        proxy = self.squid_conf(room, conf)
        proxy.access_log = access_log
        return proxy

    def squid_conf(self, room, path):
        """A squid.conf. Squid, unlike larder, minds that a port is named twice."""
        text = pathlib.Path(path).read_text(encoding="utf-8")
        for line in set(re.findall(r"^http_port \d+$", text, re.M)):
            text = text.replace(line + "\n", "", text.count(line) - 1)
        own = room / f"squid-{time.monotonic_ns()}.conf"
        own.write_text(text)
        (room / "squid.log").touch()
        for directory in re.findall(r"^cache_dir \w+ (\S+)", text, re.M):
            os.makedirs(directory, exist_ok=True)
        open_to_squid(room)
        if not any(pathlib.Path(d, "00").exists() for d in re.findall(r"^cache_dir \w+ (\S+)", text, re.M)):
            subprocess.run(["squid", "-z", "-N", "-f", own], check=True, capture_output=True)
        log = room / f"squid-{time.monotonic_ns()}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["squid", "-N", "-f", own], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        proxy = Proxy(process, log)
        for mode, host, port in squid_ports(text):
            setattr(proxy, mode, (host, port))
            if not wait_until(lambda at=(host, port): proxy.ended() or accepts(at)):
                raise StartFailed("squid does not listen")
        if proxy.ended():
            raise StartFailed(f"exit {process.returncode}: {proxy.said()}")
        return proxy


def squid_ports(text):
    """The listeners that a squid.conf names: mode, host, port."""
    for address, rest in re.findall(r"^http_port\s+(\S+)(.*)$", text, re.M):
        host, _, port = address.rpartition(":")
        yield "accelerator" if " accel" in rest else "forward", host or "127.0.0.1", int(port)


def open_to_squid(room):
    """Squid gives up root's rights for the user `proxy`."""
    for directory, _, files in os.walk(room):
        shutil.chown(directory, "proxy")
        for name in files:
            shutil.chown(os.path.join(directory, name), "proxy")
    for parent in [room, *room.parents]:
        if parent.stat().st_uid == os.geteuid() and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o055)


def free_port():
    """A port that nobody has; nobody else lives in this world."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def accepts(address):
    """Whether somebody listens there."""
    try:
        socket.create_connection(address, timeout=1).close()
        return True
    except OSError:
        return False


def heard(ear):
    """The next datagram, empty while there is none."""
    try:
        return ear.recv(4096)
    except BlockingIOError:
        return b""


def wait_until(truth, seconds=START_SECONDS):
    """Polls until something is true; says whether it came to be."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if truth():
            return True
        time.sleep(0.01)
    return False

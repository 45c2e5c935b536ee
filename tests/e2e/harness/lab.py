"""What one story gets: a room of its own, origins, proxies; all gone when the story ends."""

import contextlib
import pathlib
import re
import ssl
import subprocess
import tempfile

from harness import raw, world
from harness.origin import Origin
from harness.proxy import free_port

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
SEED_CONF = REPOSITORY / "config/squid/squid.conf"
SEED_STORE_IDS = REPOSITORY / "config/squid/storeid.db"


# A squid.conf that forwards for everybody, with a log, for stories that need one of their own.
OPEN_CONF = """\
http_port 127.0.0.1:{port}
http_access allow all
cache_dir aufs {cache} {megabytes} 1 16
maximum_object_size 1024 MB
access_log stdio:{room}/access.log squid
cache_log {room}/cache.log
coredump_dir {room}
shutdown_lifetime 1 seconds
refresh_pattern . 0 10% 1440
"""


class Lab:
    """One story's belongings."""

    def __init__(self, driver, shared, options):
        self.driver, self.shared, self.options = driver, shared, options
        self.exit = contextlib.ExitStack()
        self.room = pathlib.Path(tempfile.mkdtemp(prefix="story-", dir=shared.room))
        self.proxies, self.origins = [], []

    def close(self):
        """Ends everything that the story started."""
        self.exit.close()

    def check_origins(self):
        """Fails the story where an origin heard what was no request, or broke."""
        broken = [what for origin in self.origins for what in origin.broken]
        if broken:
            raise AssertionError(f"origins broke: {broken[:3]}")

    @property
    def is_larder(self):
        """Whether larder is under test, and not its peer."""
        return self.driver.name == "larder"

    # -- origins --

    def origin(self, name="origin", port=80, tls=False):
        """A counting origin under one of the world's names, or on an address of its own."""
        address = world.MIRRORS.get(name, "127.0.0.20")
        origin = Origin(address, port, self.shared.authority.server(name) if tls else None)
        origin.url = f"http{'s' if tls else ''}://{name if name in world.MIRRORS else address}"
        if port not in (80, 443):
            origin.url += f":{port}"
        self.exit.callback(origin.close)
        self.origins.append(origin)
        return origin

    def mirrors(self):
        """The four mirrors, on port 80."""
        return [self.origin(name) for name in world.MIRRORS]

    def raw_server(self, handle, port=443, address="127.0.0.20"):
        """A server that speaks no HTTP."""
        server = raw.Server(address, port, handle)
        self.exit.callback(server.close)
        return server

    # -- proxies --

    def _keep(self, proxy):
        self.proxies.append(proxy)
        self.exit.callback(proxy.cleanup)
        return proxy

    def cache(self, name="cache"):
        """A cache directory."""
        directory = self.room / name
        directory.mkdir(exist_ok=True)
        return str(directory)

    def proxy(self, cache=None, accelerate=None):
        """A proxy without a configuration."""
        return self._keep(self.driver.plain(self.room, cache or self.cache(), accelerate))

    def seed_conf(self, cache=None):
        """The seed's squid.conf with its ports and paths made this room's."""
        store_ids = self.room / "storeid.db"
        store_ids.write_bytes(SEED_STORE_IDS.read_bytes())
        text = SEED_CONF.read_text(encoding="utf-8")
        text = text.replace("/etc/squid/storeid.db", str(store_ids))
        text = text.replace("/var/spool/squid", cache or self.cache())
        # Mirrors have port 80 of their own addresses here, so the accelerator cannot have all.
        return re.sub(r"^http_port 80 ", "http_port 127.0.0.1:80 ", text, flags=re.M)

    def squid_proxy(self, text):
        """A proxy under a squid.conf."""
        conf = self.write("squid.conf", text)
        proxy = self._keep(self.driver.squid_conf(self.room, str(conf)))
        named = re.search(r"^access_log \w+:(\S+)", text, re.M)
        proxy.access_log = named[1] if named else "/var/log/squid/access.log"
        return proxy

    def open_proxy(self, megabytes=500, cache=None, more=""):
        """A proxy under `OPEN_CONF` and more lines."""
        words = {"port": free_port(), "cache": cache or self.cache(), "room": self.room}
        return self.squid_proxy(OPEN_CONF.format(megabytes=megabytes, **words) + more)

    def seed_proxy(self):
        """A proxy under the seed's configuration."""
        return self.squid_proxy(self.seed_conf())

    def toml_proxy(self, text):
        """A larder under a larder.toml."""
        return self._keep(self.driver.toml(self.room, str(self.write("larder.toml", text))))

    def larder(self, words):
        """A larder with these words after `serve`."""
        return self._keep(self.driver.launch(self.room, words))

    # -- the room --

    def mounted(self, name, options):
        """A tmpfs of its own below the room."""
        directory = self.room / name
        directory.mkdir()
        world.run("mount", "-t", "tmpfs", "-o", options, "tmpfs", directory)
        self.exit.callback(world.run, "umount", "-l", directory)
        return str(directory)

    def write(self, name, text):
        """A file in the room."""
        path = self.room / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def evidence(self):
        """The ends of all logs, for a story that failed."""
        for log in sorted(self.room.rglob("*.log")):
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
            if lines:
                yield f"--- {log.relative_to(self.room)}, {len(lines)} lines"
                yield from lines[-12:]


class Shared:
    """What stories of one run may share because none changes it."""

    def __init__(self, room):
        self.room = room
        self._authority = None

    @property
    def authority(self):
        """The run's certificate authority."""
        if self._authority is None:
            self._authority = Authority(self.room / "authority")
        return self._authority


class Authority:
    """A certificate authority of our own, and certificates by it."""

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        self.certificate = directory / "ca.pem"
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=test CA",
            "-addext", "basicConstraints=critical,CA:TRUE",
            "-keyout", directory / "ca.key", "-out", self.certificate,
        )  # fmt: skip

    def server(self, name):
        """A TLS context for a server of that name."""
        key, pem, request = (self.directory / f"{name}.{end}" for end in ("key", "pem", "csr"))
        if not pem.exists():
            alternative = self.directory / f"{name}.ext"
            alternative.write_text(f"subjectAltName=DNS:{name}\n")
            self._openssl(
                "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", key, "-out", request,
            )  # fmt: skip
            self._openssl(
                "x509", "-req", "-in", request, "-CA", self.certificate, "-days", "30",
                "-CAkey", self.directory / "ca.key", "-CAcreateserial",
                "-extfile", alternative, "-out", pem,
            )  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        return context

    def _openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

"""Debian packages, a repository of them, and an apt that has seen nothing."""

import os
import random
import subprocess
import time

DAY = 86400
# Enough small packages for apt to fill its pipeline of ten.
NAMES = [f"jar{n:02}" for n in range(11)] + ["jam++"]


class Repository:
    """`dists/stable` with one component, and `pool`."""

    def __init__(self, room):
        self.root = room / "debian"
        pool, index = self.root / "pool", self.root / "dists/stable/main/binary-amd64"
        pool.mkdir(parents=True)
        index.mkdir(parents=True)
        draw = random.Random(2)
        for name in NAMES:
            tree = room / "tree" / name
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "DEBIAN/control").write_text(
                f"Package: {name}\nVersion: 1.0+b1\nArchitecture: all\nMaintainer: Test <test@example.org>\n"
                "Description: test package\n"
            )
            (tree / "payload").write_bytes(draw.randbytes(draw.randrange(2_000, 60_000)))
            deb = pool / f"{name}_1.0+b1_all.deb"
            subprocess.run(["dpkg-deb", "-Znone", "-b", tree, deb], check=True, capture_output=True)
        (index / "Packages").write_bytes(self._archive("packages", "pool"))
        subprocess.run(["gzip", "-k", index / "Packages"], check=True)
        words = [f"-oAPT::FTPArchive::Release::{key}=stable" for key in ("Suite", "Codename")]
        words += ["-oAPT::FTPArchive::Release::Components=main"]
        words += ["-oAPT::FTPArchive::Release::Architectures=amd64 all"]
        release = self._archive(*words, "release", "dists/stable")
        (self.root / "dists/stable/Release").write_bytes(release)
        then = time.time() - 20 * DAY
        for path in self.root.rglob("*"):
            os.utime(path, (then, then))

    def _archive(self, *words):
        return subprocess.run(
            ["apt-ftparchive", *words], check=True, capture_output=True, cwd=self.root
        ).stdout


class Apt:
    """One apt client with a directory of its own."""

    def __init__(self, room, base_url, proxy):
        for directory in ("etc/apt/preferences.d", "state/lists/partial", "cache/archives/partial", "log"):
            (room / directory).mkdir(parents=True)
        (room / "state/status").touch()
        self.archives = room / "cache/archives"
        (room / "etc/apt/sources.list").write_text(f"deb [trusted=yes] {base_url} stable main\n")
        self.conf = room / "apt.conf"
        self.conf.write_text(
            f'Dir "{room}/";\nDir::Etc "{room}/etc/apt";\nDir::State "{room}/state";\n'
            f'Dir::State::status "{room}/state/status";\nDir::Cache "{room}/cache";\n'
            f'Dir::Log "{room}/log";\nDir::Bin::methods "/usr/lib/apt/methods";\n'
            f'Acquire::http::Proxy "http://{proxy[0]}:{proxy[1]}";\n'
            'Acquire::http::Pipeline-Depth "10";\nAcquire::Languages "none";\nAcquire::Retries "0";\n'
            'Acquire::Check-Valid-Until "false";\nAPT::Sandbox::User "root";\n'
            'APT::Architecture "amd64";\nAPT::Architectures "amd64";\n'
        )

    def run(self, *words):
        """Runs apt-get; returns its output, or fails with it."""
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(
            ["apt-get", "-y", "-q", *words],
            capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
            env=clean | {"APT_CONFIG": str(self.conf), "LC_ALL": "C"},
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode:
            raise AssertionError(f"apt-get {' '.join(words)}: exit {done.returncode}\n{said[-1500:]}")
        return said

    def has(self):
        """The packages that were fetched, by name."""
        return {path.name: path.read_bytes() for path in self.archives.glob("*.deb")}

"""RPM packages and a repository in CentOS 7's layout, and a dnf that has seen nothing.

The layout is `/7.9/os/x86_64/Packages/`, which the seed's store-ID rule was written for.
"""

import os
import pathlib
import random
import shutil
import subprocess
import time

DAY = 86400
LAYOUT = "7.9/os/x86_64"
# Bytes of payload per package. The `+` is asked for as `%2b` by dnf.
PACKAGES = {"pantry": 300_000, "pantry-shelf": 700_000, "jam++": 150_000}

SPEC_HEAD = """\
Name: {source}
Version: {version}
Release: 1
Summary: Test package
License: CC0
BuildArch: x86_64
%description
Test package.
"""
SPEC_PACKAGE = """\
%package -n {name}
Summary: Test package
{requires}
%description -n {name}
Test package.
%files -n {name}
/srv/{name}
"""


def build(directory, sizes, version="1.0", seed=1):
    """Builds one package per name with a random payload; returns the files."""
    top = directory / f"rpmbuild-{version}"
    root = top / "payload/srv"
    root.mkdir(parents=True)
    draw = random.Random(seed)
    spec = SPEC_HEAD.format(source=f"test{seed}", version=version)
    names = list(sizes)
    for name, size in sizes.items():
        (root / name).write_bytes(draw.randbytes(size))
        requires = "Requires: " + ", ".join(names[1:]) if name == names[0] and names[1:] else ""
        spec += SPEC_PACKAGE.format(name=name, requires=requires)
    spec += f"%install\nmkdir -p %{{buildroot}}/srv\ncp -a {root}/. %{{buildroot}}/srv/\n"
    (top / "test.spec").write_text(spec)
    subprocess.run(
        ["rpmbuild", "-bb", "--quiet", "--target", "x86_64", "--define", f"_topdir {top}",
         "--define", "_binary_payload w1.gzdio", "--define", "__os_install_post %{nil}",
         "--define", "_build_id_links none", top / "test.spec"],
        check=True, capture_output=True,
    )  # fmt: skip
    return sorted((top / "RPMS").rglob("*.rpm"))


class Repository:
    """A repository on disk, `LAYOUT` below its root."""

    def __init__(self, room):
        self.room, self.root = room, room / "repository"
        self.base = self.root / LAYOUT
        (self.base / "Packages").mkdir(parents=True)
        self.add(build(room, PACKAGES), days=20)

    def add(self, files, days):
        """Puts packages in and indexes anew, everything dated some days back."""
        for file in files:
            shutil.copy(file, self.base / "Packages")
        subprocess.run(["createrepo_c", "-q", "--update", self.base], check=True, capture_output=True)
        then = time.time() - days * DAY
        for path in self.base.rglob("*"):
            if path.is_file() and path.stat().st_mtime > then:
                os.utime(path, (then, then))

    def packages(self):
        """The packages' paths below the root."""
        return sorted(p.relative_to(self.root).as_posix() for p in self.base.rglob("*.rpm"))

    def files(self):
        """Every file's path below the root."""
        return sorted(p.relative_to(self.root).as_posix() for p in self.base.rglob("*.*"))


class Dnf:
    """One dnf client with caches of its own, empty at first."""

    def __init__(self, room, base_url, proxy=None, ca=None):
        room.mkdir()
        self.room, self.root = room, room / "root"
        own = {name: room / name for name in ("cache", "log", "persist", "repos")}
        for directory in own.values():
            directory.mkdir()
        self.conf = room / "dnf.conf"
        self.conf.write_text(
            "[main]\ngpgcheck=0\nkeepcache=1\ninstall_weak_deps=0\nretries=1\ntimeout=60\n"
            f"zchunk=0\nplugins=0\ncachedir={own['cache']}\nlogdir={own['log']}\n"
            f"persistdir={own['persist']}\nreposdir={own['repos']}\n"
            + (f"proxy=http://{proxy[0]}:{proxy[1]}\n" if proxy else "")
        )
        (own["repos"] / "test.repo").write_text(
            f"[test]\nname=test\nenabled=1\nbaseurl={base_url}\n"
            + (f"sslcacert={ca}\n" if ca else "")
        )

    def run(self, *words):
        """Runs dnf; returns its output, or fails with it."""
        clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        done = subprocess.run(
            ["dnf", "-y", "-c", self.conf, "--installroot", self.root, "--releasever", "7.9",
             "--forcearch", "x86_64", *words],
            capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL,
            env=clean | {"LC_ALL": "C"},
        )  # fmt: skip
        said = done.stdout + done.stderr
        if done.returncode:
            raise AssertionError(f"dnf {' '.join(words)}: exit {done.returncode}\n{said[-1500:]}")
        return said

    def has(self, name):
        """The payload that a package installed."""
        return pathlib.Path(self.root, "srv", name).read_bytes()

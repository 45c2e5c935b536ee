"""What is held serves on when the mirrors are gone."""

import os
import re

from harness import rpms
from harness.story import check, equal, story

# What a request may take where nobody is waited for; a busy machine is given what a client waits at most while
# mirrors are tried: one that refuses costs none of it.
SLOW_MS = 200 if os.environ.get("LARDER_TESTS_LONG") else 8000


def install_with_nobody_there(lab, proxy, base, name):
    """A dnf with empty caches that asks about everything installs all the same, promptly."""
    client = rpms.Dnf(lab.room / name, base, proxy.forward)
    client.run("--setopt=metadata_expire=0", "install", "pantry")
    for package, size in rpms.PACKAGES.items():
        equal(len(client.has(package)), size, f"payload of {package}")
    proxy.lines(".rpm ", len(rpms.PACKAGES))
    lines = proxy.lines()
    slow = [line for line in lines if int(line.split()[1]) > SLOW_MS]
    check(not slow, f"slow requests: {slow}")
    return lines


@story(larder_only=True)
def cached_packages_install_when_every_mirror_is_gone(lab):
    """After one client's install the mirror refuses connections: a second dnf with empty caches
    and metadata_expire=0 installs the same packages, no request takes over 200 ms (on long runs), and the log says
    that stale metadata was used. So with `--offline`, where nothing is even tried."""
    repo = rpms.Repository(lab.room)
    mirror = lab.origin("mirror1.example.com")
    mirror.tree("/centos", repo.root)
    base = f"{mirror.url}/centos/{rpms.LAYOUT}/"
    conf = lab.seed_conf()
    log = lab.room / "offline-access.log"
    conf += f"\naccess_log stdio:{log} squid\n"
    proxy = lab.squid_proxy(conf)
    proxy.access_log = log
    rpms.Dnf(lab.room / "first", base, proxy.forward).run("install", "pantry")
    mirror.close()
    log.write_text("")
    lines = install_with_nobody_there(lab, proxy, base, "second")
    check(any("TCP_REFRESH_FAIL_OLD/" in line for line in lines), "nothing stale was used")
    equal(proxy.stop(), 0, "exit code")
    words = ["--squid-conf", str(lab.room / "squid.conf"), "--admin", "off", "--offline"]
    offline = lab.larder(words)
    offline.access_log = log
    log.write_text("")
    lines = install_with_nobody_there(lab, offline, base, "third")
    check(all("HIT/" in line for line in lines), f"not all were hits: {lines}")
    reply = offline.get(f"{mirror.url}/centos/nothing-like-it-1.0-1.rpm")
    equal(reply.status, 504, "status of what is not held")
    check(re.search(rb"offline", reply.body), "the page does not say why")

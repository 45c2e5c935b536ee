"""The seed's Squid set-up under real dnf and apt.

`config/squid/squid.conf` is what runs; the lab changes nothing in it but ports and paths. Each
mirror keeps the repository under a prefix of its own, as mirrors do.
"""

from harness import debs, rpms, world
from harness.story import check, equal, story

PREFIXES = ["/centos", "/pub/linux/centos", "/mirror/centos.org", ""]


def repository(lab):
    """A repository on all four mirrors: the mirrors, their base URLs, the repository."""
    repo = rpms.Repository(lab.room)
    mirrors = lab.mirrors()
    for mirror, prefix in zip(mirrors, PREFIXES):
        mirror.tree(prefix, repo.root)
    bases = [f"{m.url}{p}/{rpms.LAYOUT}/" for m, p in zip(mirrors, PREFIXES)]
    return mirrors, bases, repo


def installed(client):
    """Fails unless the client has every package's payload whole."""
    for name, size in rpms.PACKAGES.items():
        equal(len(client.has(name)), size, f"payload of {name}")


@story()
def dnf_draws_each_package_once_from_four_mirrors(lab):
    """Four dnf clients with empty caches install through four mirrors: the first mirror sends each
    RPM once, the other three send no RPM byte."""
    mirrors, bases, repo = repository(lab)
    proxy = lab.seed_proxy()
    for number, base in enumerate(bases):
        client = rpms.Dnf(lab.room / f"client{number}", base, proxy.forward)
        client.run("install", "pantry")
        installed(client)
    sizes = sum((repo.root / path).stat().st_size for path in repo.packages())
    drawn = [mirror.bytes_of_suffix(".rpm") for mirror in mirrors]
    equal(drawn, [sizes, 0, 0, 0], "RPM bytes drawn from the four mirrors")


@story()
def accelerator_serves_what_a_forward_client_drew(lab):
    """A dnf without a proxy installs from the accelerator what a proxied dnf drew from another
    mirror: no mirror sends an RPM byte for it."""
    mirrors, bases, _ = repository(lab)
    proxy = lab.seed_proxy()
    rpms.Dnf(lab.room / "forward", bases[1], proxy.forward).run("install", "pantry")
    before = [mirror.bytes_of_suffix(".rpm") for mirror in mirrors]
    base = f"http://{world.PROXY_NAME}{PREFIXES[0]}/{rpms.LAYOUT}/"
    client = rpms.Dnf(lab.room / "direct", base)
    client.run("install", "pantry")
    installed(client)
    equal([m.bytes_of_suffix(".rpm") for m in mirrors], before, "RPM bytes drawn after the first")
    check(mirrors[0].bytes_of_suffix("repomd.xml") > 0, "repomd.xml came from the wrong mirror")


@story()
def changed_repository_is_seen_by_the_next_refresh(lab):
    """After a mirror publishes a package, `dnf --refresh install` finds it through the proxy."""
    mirrors, bases, repo = repository(lab)
    proxy = lab.seed_proxy()
    client = rpms.Dnf(lab.room / "client", bases[0], proxy.forward)
    client.run("install", "jam++")
    repo.add(rpms.build(lab.room, {"biscuit": 90_000}, version="2.0", seed=3), days=10)
    client.run("--refresh", "install", "biscuit")
    equal(len(client.has("biscuit")), 90_000, "payload of biscuit")
    equal(mirrors[0].bytes_of_suffix("biscuit-2.0-1.x86_64.rpm") > 90_000, True, "biscuit drawn")


@story()
def connect_carries_dnf_over_tls(lab):
    """A dnf with an https base URL installs through CONNECT to port 443."""
    repo = rpms.Repository(lab.room)
    mirror = lab.origin("mirror3.example.org", 443, tls=True)
    mirror.tree("/centos", repo.root)
    proxy = lab.seed_proxy()
    asked = "CONNECT mirror3.example.org:443"
    before = len(proxy.lines(asked, 0))
    base = f"{mirror.url}/centos/{rpms.LAYOUT}/"
    ca = lab.shared.authority.certificate
    client = rpms.Dnf(lab.room / "client", base, proxy.forward, ca)
    client.run("install", "pantry")
    installed(client)
    tunnels = proxy.lines(asked, before + 1)[before:]
    check(all(" TCP_TUNNEL/200 " in line for line in tunnels), f"odd tunnels: {tunnels}")


@story()
def seed_rules_refuse_other_ports(lab):
    """Under the seed's rules CONNECT to port 22 and GET to port 8000 answer 403, and no connection
    is made."""
    origins = [lab.origin("mirror4.example.net", port) for port in (22, 8000)]
    proxy = lab.seed_proxy()
    equal(proxy.get("mirror4.example.net:22", method="CONNECT").status, 403, "CONNECT to 22")
    equal(proxy.get(f"{origins[1].url}/file").status, 403, "GET to 8000")
    equal([len(o.requests) for o in origins], [0, 0], "requests that reached the ports")


@story()
def apt_pipelines_and_a_second_client_draws_nothing(lab):
    """apt-get fetches twelve packages through the proxy with a pipeline ten deep and does not
    switch it off; a second client has them all without a byte from the mirror."""
    repo = debs.Repository(lab.room)
    mirror = lab.origin("mirror.23media.de")
    mirror.tree("/debian", repo.root)
    proxy = lab.proxy()
    for number in range(2):
        drawn = mirror.bytes_of_suffix(".deb")
        client = debs.Apt(lab.room / f"client{number}", f"{mirror.url}/debian", proxy.forward)
        said = client.run("update") + client.run("install", "--download-only", *debs.NAMES)
        check("Automatically disabled" not in said, f"apt gave up pipelining:\n{said}")
        got = client.has()
        wanted = {p.name: p.read_bytes() for p in (repo.root / "pool").glob("*.deb")}
        check(got == wanted, f"apt has {sorted(got)}, wanted {sorted(wanted)}")
    total = sum(len(body) for body in wanted.values())
    equal(drawn, total, "bytes of packages that the first client drew")
    equal(mirror.bytes_of_suffix(".deb"), total, "bytes of packages after the second client")

"""TLS and HTTP/2 on both sides: accelerators with a certificate, and origins that are asked over
TLS though their clients say http."""

import subprocess

from harness import wire, world
from harness.origin import Answer
from harness.story import check, equal, story

PATH = "/images/install.img"

CONF = """[cache]
directory = "{cache}"
max-size = "200 MB"
[admin]
address = ""
[[listen]]
address = "127.0.0.1:0"
mode = "forward"
{more}
"""


def curl(lab, port, *words, scheme="https", path=PATH):
    """curl at the accelerator by its name: its process."""
    url = f"{scheme}://{world.PROXY_NAME}:{port}{path}"
    authority = ["--cacert", str(lab.shared.authority.certificate)]
    resolve = ["--connect-to", f"::127.0.0.1:{port}"]
    form = ["-w", "\n%{http_version} %{http_code}"]
    command = ["curl", "-sS", *authority, *resolve, *form, *words, url]
    return subprocess.run(command, capture_output=True, timeout=60)


def accelerators(lab, origin):
    """A larder with an accelerator over TLS at port 8443 and a plain one at 8081."""
    lab.shared.authority.server(world.PROXY_NAME)
    folder = lab.shared.authority.directory
    files = f'cert = "{folder}/{world.PROXY_NAME}.pem", key = "{folder}/{world.PROXY_NAME}.key"'
    more = f"""
[[mirror]]
name = "m"
hosts = ["origin.example"]
origins = ["{origin.url}/"]
[[listen]]
address = "127.0.0.1:8443"
mode = "accelerator"
mirror = "m"
tls = {{ {files} }}
[[listen]]
address = "127.0.0.1:8081"
mode = "accelerator"
mirror = "m"
"""
    return lab.toml_proxy(CONF.format(cache=lab.cache(), more=more))


@story(larder_only=True)
def h2_over_tls_and_by_prior_knowledge_gets_the_same_bytes(lab):
    """An accelerator with a certificate speaks HTTP/2 and HTTP/1.1, one without speaks HTTP/2 to
    whoever begins with it; the body comes from the origin once."""
    origin, body = lab.origin(), bytes(range(256)) * 8000
    origin.put(PATH, Answer(body=body))
    accelerators(lab, origin)
    for port, scheme, words, wanted in (
        (8443, "https", ["--http2"], b"2 200"),
        (8443, "https", ["--http1.1"], b"1.1 200"),
        (8081, "http", ["--http2-prior-knowledge"], b"2 200"),
        (8081, "http", [], b"1.1 200"),
    ):
        ran = curl(lab, port, *words, scheme=scheme)
        equal(ran.returncode, 0, f"{words}: {ran.stderr}")
        got, _, told = ran.stdout.rpartition(b"\n")
        equal(told, wanted, f"{words} at {port}")
        check(got == body, f"{words} at {port}: {len(got)} bytes")
    part = curl(lab, 8443, "--http2", "-r", "1000-1099")
    equal(part.stdout, body[1000:1100] + b"\n2 206", "a range over HTTP/2")
    equal(origin.count(PATH), 1, "requests to the origin")


@story(larder_only=True)
def h2_streams_of_one_connection_are_independent(lab):
    """Twenty files at once over one connection, one of which breaks: only that one fails."""
    origin = lab.origin()
    bodies = {f"/f{n}": bytes([n]) * 200_000 for n in range(20)}
    for path, body in bodies.items():
        origin.put(path, Answer(body=body))
    origin.put("/broken", Answer(body=b"x" * 200_000, cut_at=100_000, etag=None, ranges=False))
    accelerators(lab, origin)
    base = f"https://{world.PROXY_NAME}:8443"
    words = ["curl", "-sS", "--http2", "--parallel", "--parallel-max", "30"]
    words += ["--cacert", str(lab.shared.authority.certificate), "--connect-to", "::127.0.0.1:8443"]
    for path in [*bodies, "/broken"]:
        words += ["-o", str(lab.room / path[1:]), base + path]
    ran = subprocess.run(words, capture_output=True, timeout=60)
    check(ran.returncode != 0, "the break was not seen")
    for path, body in bodies.items():
        check((lab.room / path[1:]).read_bytes() == body, f"{path} is another file")
    broken = lab.room / "broken"
    size = broken.stat().st_size if broken.exists() else 0
    check(size < 200_000, "a whole answer of a broken origin")


@story(larder_only=True)
def upgraded_hosts_are_asked_over_tls(lab):
    """With `upgrade` a host is asked over TLS though the client said http; `auto` goes on in plain
    where nobody speaks TLS, a named host does not."""
    secure = lab.origin("mirror3.example.org", 443, tls=True)
    plain = lab.origin("mirror3.example.org", 80)
    other = lab.origin("mirror4.example.net", 80)
    secure.put("/a", Answer(body=b"over TLS"))
    plain.put("/a", Answer(body=b"in plain"))
    other.put("/a", Answer(body=b"in plain"))
    upstream = f'[upstream]\nca-file = "{lab.shared.authority.certificate}"\nupgrade = '
    for number, (setting, wanted) in enumerate(settings_and_answers()):
        text = CONF.format(cache=lab.cache(f"cache{number}"), more=upstream + setting)
        proxy = lab.toml_proxy(text)
        got = []
        for host in ("mirror3.example.org", "mirror4.example.net"):
            reply = wire.get(proxy.forward, f"http://{host}/a")
            got.append((reply.status, reply.body if reply.status == 200 else None))
        equal(got, wanted, setting)
        proxy.stop()


def settings_and_answers():
    """What `upgrade` is set to, and what the two hosts' clients get."""
    return (
        ('"auto"', [(200, b"over TLS"), (200, b"in plain")]),
        ('["*.example.org"]', [(200, b"over TLS"), (200, b"in plain")]),
        ('["mirror4.example.net"]', [(200, b"in plain"), (503, None)]),
    )

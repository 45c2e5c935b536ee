"""One private world per run.

A network namespace whose only interface is loopback, and a mount namespace with its own
`/etc/hosts`, `/etc/resolv.conf`, `/run` and `/var/log`. Ports 80, 443 and 3128 are free in it,
mirrors are names on addresses of their own, and nothing that a story does can leave it.
A small name server on 127.0.0.1 says "no such name" to everything, so that a lookup of an unknown
name ends at once, as it does on a network that works.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading

INSIDE = "LARDER_E2E_WORLD"

# The first two are mirrors of the configuration under test; the others stand for any third one.
MIRRORS = {
    "ftp.halifax.rwth-aachen.de": "127.0.0.11",
    "mirror.23media.de": "127.0.0.12",
    "mirror3.example.org": "127.0.0.13",
    "mirror4.example.net": "127.0.0.14",
}
# The proxy's own name, as a kickstart file would say it.
PROXY_NAME = "larder.example"
# A name whose address has nobody listening.
NOBODY = "nobody.example"


def unshare_words():
    """The `unshare` call that makes the world: with root's rights, or as a root of our own."""
    words = ["unshare", "-n", "-m"]
    return words if os.geteuid() == 0 else [*words, "-r"]


def probe():
    """Says whether this machine can make a private world: None if so, else what stopped it."""
    words = [*unshare_words(), "true"]
    try:
        tried = subprocess.run(words, capture_output=True, text=True, timeout=20)
    except OSError as why:
        return f"{' '.join(words)}: {why}"
    return None if tried.returncode == 0 else f"{' '.join(words)}: {tried.stderr.strip()}"


def enter():
    """Runs this program again inside a new world, unless it is in one already."""
    if os.environ.get(INSIDE) == str(os.getpid()):
        furnish()
        return
    # `unshare` replaces this process, so the process id is the same inside.
    os.environ[INSIDE] = str(os.getpid())
    os.execvp("unshare", [*unshare_words(), sys.executable, *sys.argv])


def furnish():
    """Brings loopback up and lays the world's own files over the machine's."""
    run("ip", "link", "set", "lo", "up")
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/log")
    os.makedirs("/var/log/squid", mode=0o777)
    os.chmod("/var/log/squid", 0o777)
    hosts = ["127.0.0.1 localhost", f"127.0.0.1 {PROXY_NAME}", f"127.0.0.99 {NOBODY}"]
    hosts += [f"{address} {name}" for name, address in MIRRORS.items()]
    cover("/etc/hosts", "\n".join(hosts) + "\n")
    cover("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    cover("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
    threading.Thread(target=deny_names, daemon=True).start()


def run(*words):
    """Runs a command that must succeed."""
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)


def cover(path, text):
    """Lays a file of our own over `path`, in this mount namespace only."""
    real = os.path.realpath(path)
    if not os.path.exists(real):
        # The link led into a directory that the world has replaced.
        os.makedirs(os.path.dirname(real), exist_ok=True)
        with open(real, "w", encoding="ascii"):
            pass
    handle, own = tempfile.mkstemp(prefix="larder-e2e-", dir="/run")
    os.write(handle, text.encode())
    os.close(handle)
    os.chmod(own, 0o644)
    run("mount", "--bind", own, real)


def deny_names():
    """Answers every DNS question with NXDOMAIN."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    while True:
        question, client = server.recvfrom(4096)
        if len(question) >= 12:
            end = question.find(b"\0", 12) + 5
            # Response, recursion wanted and available, name error; one question, nothing else.
            head = question[:2] + b"\x81\x83" + b"\0\1" + b"\0\0" * 3
            server.sendto(head + question[12:end], client)

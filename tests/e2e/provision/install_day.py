#!/usr/bin/env python3
"""Install day: one larder with `[boot]` and `[provision]` beside a DHCP server and a mirror.

A virtual machine boots from the network, gets its profile by its address, kernel and initrd through
the cache, installs as an installer would (install.sh), says that it is done, boots again, and is
told to boot from its disk, which it does. A second machine then installs without a byte of images
or packages from the mirror. Verdicts come from the mirror's own counts, the machine's serial console
and the timeline. Needs qemu-system-x86, ipxe-qemu, busybox, cpio, iproute2, rpm, createrepo-c and a
kernel in /boot.
"""
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "boot"), str(HERE.parent)]

from harness import rpms  # noqa: E402
from lab import IS_LONG, LARDER, MAC, MAIN, SERVER, Lab, Stories, run  # noqa: E402

TREE = f"http://{MAIN}/c/os"
SECOND = "52:54:00:77:00:21"
SECONDS = 900
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys
for module in MODULES; do insmod /$module; done
ip link set eth0 up
udhcpc -q -n -t 30 -i eth0 -s /dhcp
if sh /install.sh "$(cat /proc/cmdline)" eth0 /tmp; then reboot -f; fi
echo INSTALL FAILED
sleep 3; poweroff -f
"""
DHCP = """#!/bin/busybox sh
ip link set "$interface" up
[ "$1" != bound ] || ip addr add "$ip/24" dev "$interface"
"""
KICKSTART = """text
network --hostname={{.name}}
%post
curl -X POST 'http://SERVER:8080/done?mac={{.request.query.mac}}'
%end
"""
MIRROR = """
import http.server, os, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def copyfile(self, source, out):
        data = source.read()
        # Said before, so that whoever has the bytes finds them counted.
        print('SENT', self.path, len(data), flush=True)
        out.write(data)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(('ADDRESS', 80), lambda *a: Handler(*a, directory=sys.argv[1])).serve_forever()
""".replace("ADDRESS", MAIN)
CONFIGURATION = """
[cache]
directory = "FOLDER/cache"
[[listen]]
address = "0.0.0.0:3128"
[admin]
address = "127.0.0.1:3180"
socket = "FOLDER/larder.sock"
[boot]
enabled = true
interfaces = ["e0"]
[provision]
enabled = true
data = "FOLDER/data"
rewrite = true
install-once = true
"""


def kernel():
    """The newest kernel of /boot and its release."""
    found = sorted(pathlib.Path("/boot").glob("vmlinuz-*"))
    if not found:
        raise RuntimeError("there is no kernel in /boot")
    return found[-1], found[-1].name.removeprefix("vmlinuz-")


def modules(release):
    """The files of the network card's driver, in the order of loading, and QEMU's name for the card."""
    base = pathlib.Path("/lib/modules") / release
    lines = dict(line.split(":", 1) for line in (base / "modules.dep").read_text().splitlines())
    wanted = {"e1000.ko": ["e1000"], "virtio_net.ko": ["virtio_pci", "virtio_net"]}
    for driver, names in wanted.items():
        paths = []
        for name in names:
            for path, needs in lines.items():
                if re.fullmatch(rf".*/{name}\.ko(\.\w+)?", path):
                    paths += [*reversed(needs.split()), path]
        if any(f"/{driver}" in path for path in paths):
            card = "e1000" if driver.startswith("e1000") else "virtio-net-pci"
            return card, [base / path for path in dict.fromkeys(paths)]
    raise RuntimeError("the kernel has no driver for QEMU's cards")


def initrd(folder, release):
    """busybox, the driver and the installer, as an initial file system."""
    root = pathlib.Path(folder, "initrd")
    for name in ("bin", "proc", "sys", "tmp"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), root / "bin/busybox")
    shutil.copy(HERE / "install.sh", root / "install.sh")
    card, files = modules(release)
    for file in files:
        if file.suffix == ".xz":
            (root / file.stem).write_bytes(run_bytes("xz", "-dc", file))
        else:
            shutil.copy(file, root)
    names = " ".join(file.name.removesuffix(".xz") for file in files)
    for name, text in (("init", INIT.replace("MODULES", names)), ("dhcp", DHCP)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    listing = "\n".join(path.relative_to(root).as_posix() for path in sorted(root.rglob("*")))
    archive = run_bytes("cpio", "-o", "-H", "newc", "--quiet", cwd=root, input=listing.encode())
    return card, gzip.compress(archive, 1)


def run_bytes(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, **more).stdout


def tree(folder):
    """The mirror's tree: the real kernel, an image of 20 MB, a repository of three packages. Returns the
    card's name."""
    image, release = kernel()
    base = pathlib.Path(folder, "www/c/os")
    for name in ("images/pxeboot", "Packages"):
        (base / name).mkdir(parents=True)
    shutil.copy(image, base / "images/pxeboot/vmlinuz")
    card, content = initrd(folder, release)
    (base / "images/pxeboot/initrd.img").write_bytes(content)
    (base / ".treeinfo").write_text("[stage2]\nmainimage = images/install.img\n")
    (base / "images/install.img").write_bytes(os.urandom(20 << 20))
    for package in rpms.build(pathlib.Path(folder), {"pantry": 900_000, "shelf": 1_200_000, "jam": 150_000}):
        shutil.copy(package, base / "Packages")
    run_bytes("createrepo_c", "-q", "--no-database", "--compress-type", "gz", base)
    then = time.time() - 20 * 86400
    for path in base.rglob("*"):
        os.utime(path, (then, then))
    return card


def data(folder):
    """A matchbox data directory for both machines."""
    base = pathlib.Path(folder, "data")
    for name in ("groups", "profiles", "generic"):
        (base / name).mkdir(parents=True)
    boot = {"kernel": f"{TREE}/images/pxeboot/vmlinuz", "initrd": [f"{TREE}/images/pxeboot/initrd.img"],
            "args": ["initrd=initrd.img", "console=ttyS0,115200", f"inst.repo={TREE}/",
                     f"inst.ks=http://{SERVER}:8080/kickstart", "inst.ks.sendmac"]}
    profile = {"id": "c9", "boot": boot, "generic_id": "c9.ks"}
    (base / "profiles/c9.json").write_text(json.dumps(profile))
    (base / "generic/c9.ks").write_text(KICKSTART.replace("SERVER", SERVER))
    for name, mac in (("node1", MAC), ("node2", SECOND)):
        group = {"id": name, "profile": "c9", "selector": {"mac": mac}, "metadata": {"name": name}}
        (base / f"groups/{name}.json").write_text(json.dumps(group))


def disk(path, text):
    """A disk whose boot sector writes a line on the serial console."""
    code = bytes.fromhex("fa fc 31c0 8ed8 be1700 ac 84c0 7406 baf803 ee ebf5 f4 ebfd".replace(" ", ""))
    assert len(code) == 0x17, len(code)
    code = code.replace(b"\xbe\x17\x00", b"\xbe\x17\x7c")
    sector = (code + text.encode() + b"\r\n\0").ljust(510, b"\0") + b"\x55\xaa"
    pathlib.Path(path).write_bytes(sector.ljust(1 << 20, b"\0"))


def expected(folder, name):
    """The line that a machine prints when everything arrived whole."""
    base = pathlib.Path(folder, "www/c/os")
    digest = lambda content: hashlib.sha256(content).hexdigest()
    sums = "".join(f"{digest(path.read_bytes())}  -\n" for path in sorted((base / "Packages").iterdir()))
    # sha256sum writes its sums to a file, whose own sum is printed with the image's.
    image = digest((base / "images/install.img").read_bytes())
    return f"INSTALLED {name} {image[:16]} {digest(sums.encode())[:16]}"


def sent(lab):
    """Body bytes that the mirror sent, by path."""
    total = {}
    for path, count in re.findall(r"SENT (\S+) (\d+)", lab.log("mirror.log")):
        total[path] = total.get(path, 0) + int(count)
    return total


def journey(lab, mac):
    """A machine's steps, as `larder machines` tells them."""
    told = lab.inside("pxe", LARDER, "machines", "show", mac, "--format", "json")
    return [f"{event['step']} {event['detail']}" for event in json.loads(told.stdout)["events"]]


STEPS = ["offer", "script boot.ipxe", "boot group node1 profile c9", "kernel .*/vmlinuz", "kernel .*/initrd.img",
         r"packages .*/\.treeinfo", "packages .*/install.img", "packages .*/updates.img: 404",
         "packages .*/product.img: 404", "kickstart", "packages .*/repomd.xml", r"packages .*-primary\.xml\.gz",
         f"packages packages from {MAIN}", "done", "script boot.ipxe", "local installed: boots from its disk"]


def missing_step(steps):
    """The first of STEPS that does not come in its turn."""
    rest = iter(steps)
    for wanted in STEPS:
        if not any(re.fullmatch(wanted + ".*", step) for step in rest):
            return f"no {wanted!r} in its turn: {steps}"
    return None


def mirror(lab):
    """Starts the mirror; returns the name of the card that its kernel drives."""
    card = tree(lab.folder)
    lab.spawn("main", "python3", "-u", "-c", MIRROR, lab.path("www"), log="mirror.log")
    probe = ("busybox", "wget", "-q", "-O", "/dev/null", TREE + "/repodata/repomd.xml")
    answers = lambda: lab.inside("main", *probe).returncode == 0
    if not lab.wait_for(answers):
        raise RuntimeError("the mirror did not start: " + lab.log("mirror.log"))
    return card


def start(lab):
    """The mirror, the main DHCP server and larder; returns the card's name."""
    card = mirror(lab)
    data(lab.folder)
    lab.main_server()
    pathlib.Path(lab.path("larder.toml")).write_text(CONFIGURATION.replace("FOLDER", lab.folder))
    lab.spawn("pxe", LARDER, "serve", "--config", lab.path("larder.toml"), log="larder.log")
    if not lab.wait_for(lambda: "mode=pxe" in lab.log("larder.log")):
        raise RuntimeError("larder did not start: " + lab.log("larder.log")[-500:])
    return card


def first_machine(lab, card):
    disk(lab.path("disk"), "DISK BOOTED")
    # Without -no-reboot: it boots twice.
    lab.machine("bios", "-drive", f"file={lab.path('disk')},format=raw,if=ide", card=card, reboots=True)
    serial = lambda text: lambda: text in lab.log("serial.log")
    if not lab.wait_for(serial(expected(lab.folder, "node1")), SECONDS):
        return f"not installed; serial: {lab.log('serial.log')[-500:]} larder: {lab.log('larder.log')[-800:]}"
    if not lab.wait_for(serial("DISK BOOTED"), SECONDS):
        return f"the disk was not booted; serial: {lab.log('serial.log')[-500:]}"
    return missing_step(journey(lab, MAC))


def play_machine(lab, mac, server):
    """A machine's fetches by the same script, from the namespace of clients; returns what it prints."""
    for words in (("link", "set", "e0", "down"), ("link", "set", "e0", "address", mac),
                  ("link", "set", "e0", "up"), ("addr", "add", "10.77.0.99/24", "dev", "e0")):
        lab.inside("cli", "ip", *words, check=True)
    fetch = lambda path: lab.inside("cli", "busybox", "wget", "-q", "-O", "-", path, check=True)
    script = fetch(f"http://{server}/ipxe?mac={mac}").stdout
    arguments = re.search(r"^kernel \S+ (.*)$", script, re.M)[1]
    for url in re.findall(r"^(?:kernel|initrd) (\S+)", script, re.M):
        url = f"http://{server}{url}" if url.startswith("/") else url
        lab.inside("cli", "busybox", "wget", "-q", "-O", lab.path("image"), url, check=True)
    os.mkdir(lab.path("second"))
    done = lab.inside("cli", "busybox", "sh", HERE / "install.sh", arguments, "e0", lab.path("second"))
    return done.stdout.strip() if done.returncode == 0 else done.stdout + done.stderr


def second_machine(lab):
    """The same fetches by the same script, from another address; a virtual machine on long runs."""
    before = sent(lab)
    if IS_LONG:
        # The first machine sits at its booted disk.
        lab.processes.pop().kill()
        lab.machine("bios", card=lab.card, mac=SECOND)
        if not lab.wait_for(lambda: "INSTALLED node2" in lab.log("serial.log"), SECONDS):
            return f"serial: {lab.log('serial.log')[-500:]}"
    else:
        said = play_machine(lab, SECOND, f"{SERVER}:8080")
        if said != expected(lab.folder, "node2"):
            return said
    drawn = {path: count - before.get(path, 0) for path, count in sent(lab).items()}
    drawn = {path: count for path, count in drawn.items() if count}
    heavy = [path for path in drawn if "/images/" in path or path.endswith(".rpm")]
    return f"the mirror sent {drawn}" if heavy else None


def warmed(lab):
    """`provision warm` names every file that the profiles boot, and finds them in the cache."""
    before = sent(lab)
    told = lab.inside("pxe", LARDER, "provision", "--config", lab.path("larder.toml"), "warm")
    if "4 of 4 fetched" not in told.stdout or told.returncode != 0:
        return f"warm: {told.stdout} {told.stderr}"
    return None if sent(lab) == before else f"warm asked the mirror: {before} {sent(lab)}"


def shared_listener(lab):
    """On the one port, scripts are provisioning's and boot programs the boot part's."""
    fetch = lambda path: lab.inside("pxe", "busybox", "wget", "-q", "-O", "-", f"http://{SERVER}:8080{path}", text=False)
    program = pathlib.Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    wanted = {"/": b"matchbox\n", "/boot/undionly.kpxe": program}
    wrong = [path for path, body in wanted.items() if fetch(path).stdout != body]
    wrong += [path for path, word in (("/menu.ipxe", b"Rocky"), ("/m", b"item p0 c9")) if word not in fetch(path).stdout]
    return f"wrong on the shared port: {wrong}" if wrong else None


def told_to_administrators(lab):
    """The API lists both machines as installed, and the metrics count what DHCP and TFTP did."""
    ask = lambda path: lab.inside("pxe", "busybox", "wget", "-q", "-O", "-", f"http://127.0.0.1:3180{path}").stdout
    states = {one["mac"]: one["state"] for one in json.loads(ask("/api/v1/machines"))}
    if states.get(MAC) != "installed" or states.get(SECOND) != "installed":
        return f"the API says {states}"
    metrics = ask("/metrics")
    if not re.search(r'^larder_dhcp_replies_total\{kind="\w[\w-]*"\} [1-9]', metrics, re.M):
        return "no DHCP reply is counted"
    return None if "# TYPE larder_tftp_transfers counter" in metrics else "no TFTP transfers are counted"


def install_day():
    with Lab() as lab:
        lab.card = start(lab)
        begun = time.time()
        if why := first_machine(lab, lab.card):
            return why
        print(f"   first machine installed and booted from its disk in {time.time() - begun:.0f} s")
        totals = sent(lab)
        # The indexes are small, revalidated, and asked for by the test itself.
        twice = [path for path, count in totals.items()
                 if count != os.path.getsize(lab.path("www" + path)) and not path.endswith(".xml")]
        if twice:
            return f"not fetched once: {twice} {totals}"
        return second_machine(lab) or warmed(lab) or shared_listener(lab) or told_to_administrators(lab)


if __name__ == "__main__":
    stories = Stories()
    stories.tell("install-day", install_day)
    stories.end()

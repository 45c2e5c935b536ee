#!/usr/bin/env python3
"""Replays docs/tour-bootstrap.md: each `sh` block, and the machine.

Its addresses become those of the test's namespaces, its mirror one of the test's own, whose initial file
system fetches what an installer does (install.sh). On long runs the machine is a virtual one that then
boots from its disk; else the same script plays it. Needs what install_day.py needs, and curl.
"""
import os
import re
import signal
import sys

from checks import LARDER, REPOSITORY
from install_day import HERE, TREE, disk, expected, mirror, play_machine

sys.path.insert(0, str(HERE.parent / "boot"))

from lab import IS_LONG, MAIN, SERVER, Lab, Stories  # noqa: E402

MACHINE = "52:54:00:12:34:56"
NAME = "node1.example.com"
SECONDS = 900
PLACES = [("http://mirror.23media.de/centos/7/os/x86_64", TREE), ("172.26.63.242", SERVER), ("172.26.63.1", MAIN)]


def blocks():
    """The tour's fenced blocks as (kind, text), with the test's addresses."""
    text = (REPOSITORY / "docs/tour-bootstrap.md").read_text()
    for theirs, ours in PLACES:
        if theirs not in text:
            raise RuntimeError(f"the tour does not speak of {theirs}")
        text = text.replace(theirs, ours)
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.S | re.M)


def run_block(lab, variables, text):
    """Runs one block in the server's namespace; what it says if it fails."""
    # A background job of a shell function would be a shell; the program itself gets the signal.
    text = re.sub(r"^((?:\w+=\S+ )*)larder (matchbox|boot serve)", rf'\1"{LARDER}" \2', text, flags=re.M)
    head = f'set -eu -o pipefail\ncd {lab.folder}\nlarder() {{ "{LARDER}" "$@"; }}\n{variables}\n'
    done = lab.inside("pxe", "bash", "-c", head + text, timeout=180)
    if done.returncode:
        return f"{text}: exit {done.returncode}: {done.stdout[-200:]} {done.stderr[-300:]}"
    return None


def machine(lab, card, wanted):
    """The machine installs and prints what the tour says; a virtual one then boots from its disk."""
    if not expected(lab.folder, NAME).startswith(wanted):
        return f"the tour promises {wanted!r}"
    if not IS_LONG:
        said = play_machine(lab, MACHINE, f"{SERVER}:8080")
        return None if said == expected(lab.folder, NAME) else said
    disk(lab.path("disk"), "DISK BOOTED")
    drive = ("-drive", f"file={lab.path('disk')},format=raw,if=ide")
    lab.machine("bios", *drive, card=card, mac=MACHINE, reboots=True)
    for text in (expected(lab.folder, NAME), "DISK BOOTED"):
        if not lab.wait_for(lambda: text in lab.log("serial.log"), SECONDS):
            return f"no {text!r}; serial: {lab.log('serial.log')[-400:]}"
    return None


def tour():
    with Lab() as lab:
        card = mirror(lab)
        lab.main_server()
        try:
            return replay(lab, card)
        finally:
            end_servers(lab)


def replay(lab, card):
    variables, kinds = "", []
    for kind, text in blocks():
        kinds.append(kind)
        variables += "".join(re.findall(r"^[A-Z]+=\S+\n", text, re.M))
        failed = machine(lab, card, text.strip()) if kind == "machine" else run_block(lab, variables, text)
        if failed:
            return failed
    return None if kinds.count("sh") >= 10 and "machine" in kinds else f"blocks are missing: {kinds}"


def end_servers(lab):
    """Ends what the tour left running, if it did not come to its own end."""
    for name in ("matchbox.pid", "boot.pid"):
        try:
            with open(lab.path(name)) as file:
                os.kill(int(file.read()), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            pass


if __name__ == "__main__":
    stories = Stories()
    stories.tell("tour-bootstrap", tour)
    stories.end()

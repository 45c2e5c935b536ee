#!/usr/bin/python3
"""`larder machines` beside a running larder: every form asks the same one, and only it writes.

One `larder serve` with [provision] on a socket of both families, so that machines come in by IPv4-mapped
addresses. It lives in a private world (harness/world.py): another larder's default socket would be asked
too, and ports be another's. Prints `ok NAME` or `FAIL NAME why` for each check.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

from checks import LARDER, check, end  # noqa: E402 - the path must be known first
from harness import world  # noqa: E402

MAC = "52:54:00:77:00:10"


class Serve:
    """A larder on ports of its own, with the addresses that it said."""

    def __init__(self, folder, socket):
        self.config = folder / "larder.toml"
        self.config.write_text(
            f"""
[cache]
directory = "{folder}/cache"
max-size = "64 MB"
[[listen]]
address = "127.0.0.1:0"
mode = "forward"
[admin]
address = "127.0.0.1:0"
socket = "{socket}"
[provision]
enabled = true
data = "{folder}/data"
http = "[::]:8080"
install-once = true
""")
        self.process = subprocess.Popen(
            [LARDER, "serve", "--config", self.config], stderr=subprocess.PIPE, text=True)
        self.provision = self.said("provision")
        self.admin = self.said("admin")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()
        self.http = f"http://127.0.0.1:{self.provision.rpartition(':')[2]}"

    def said(self, mode):
        for line in self.process.stderr:
            found = re.search(rf"listening mode={mode} address=(\S+)", line)
            if found:
                return found[1]
        sys.exit(f"FAIL start no listener for {mode}")

    def ask(self, path, method="GET"):
        request = urllib.request.Request(self.http + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("X-Larder-Reason", "")

    def machines(self, *words, config=True):
        which = ["--config", self.config] if config else []
        return subprocess.run(
            [LARDER, "machines", *which, *words], capture_output=True, text=True, timeout=120)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        check("ends-on-term", self.process.wait(timeout=120) == 0, str(self.process.returncode))


class Matchbox(Serve):
    """`larder matchbox`, which has no socket, and its list of installed machines in a place of its own."""

    def __init__(self, folder):
        self.http = "http://127.0.0.1:8080"
        self.files = ["--data", folder / "data", "--state", folder / "state"]
        self.process = subprocess.Popen(
            [LARDER, "matchbox", "-address=127.0.0.1:8080", f"-data-path={folder}/data", "-assets-path=",
             f"-state-path={folder}/state", "-install-once"], stderr=subprocess.PIPE, text=True)
        self.said("provision")
        threading.Thread(target=self.process.stderr.read, daemon=True).start()


def data_directory(folder):
    for name, text in {
        "groups/node.json": {"id": "node", "profile": "p", "selector": {"mac": MAC}},
        "groups/default.json": {"id": "default", "profile": "p"},
        "profiles/p.json": {"id": "p", "boot": {"kernel": "/k", "initrd": ["/i"]}},
    }.items():
        path = folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(text))


def with_its_socket(folder):
    socket = folder / "larder.sock"
    larder = Serve(folder, socket)
    script = "/ipxe?mac=52-54-00-77-00-10"
    check("installs", "kernel /k" in larder.ask(script)[1])
    check("is-done", larder.ask("/done?mac=" + MAC, "POST")[0] == 200)
    check("boots-its-disk", "sanboot" in larder.ask(script)[1])
    stranger = larder.ask("/done?mac=52:54:00:77:00:99", "POST")
    check("a-stranger-is-not-done", stranger[0] == 409 and "no boot script" in stranger[1], stranger)

    said = {}
    for form in ("text", "json", "ansible"):
        for which in ("config", "socket"):
            words = ["--format", form] + (["--socket", socket] if which == "socket" else [])
            run = larder.machines(*words, config=which == "config")
            said[form] = run.stdout
            check(f"{form}-by-{which}", run.returncode == 0 and MAC in run.stdout, run.stdout + run.stderr)
    host = json.loads(said["ansible"])["all"]["hosts"]["node"]
    check("ipv4-is-ipv4", host["ansible_host"] == "127.0.0.1", host)
    check("no-mapped-address", "::ffff" not in "".join(said.values()))

    run = larder.machines("show", MAC, "--format", "ansible")
    check("one-machine-is-no-inventory", run.returncode == 2 and "all machines" in run.stderr, run.stderr)
    nobodys = "52:54:00:77:00:98"
    larder.ask(f"/ipxe?mac={nobodys}")
    check("the-default-group-installs-too", larder.ask("/done?mac=" + nobodys, "POST")[0] == 200)
    run = larder.machines("--format", "ansible")
    check("nobody-named-it", "77-00-98" not in run.stdout and "left out: 2" in run.stderr, run.stdout + run.stderr)
    run = larder.machines("--format", "ansible", "--all")
    check("unless-all-are-wanted", "77-00-98" in run.stdout and not run.stderr, run.stdout + run.stderr)
    run = larder.machines("rm", "--older", "1h")
    check("none-is-that-old", run.returncode == 0 and not run.stdout, run.stdout + run.stderr)
    run = larder.machines("rm", nobodys)
    check("it-is-forgotten", run.stdout == f"{nobodys} is forgotten\n", run.stdout + run.stderr)
    run = larder.machines("--format", "json")
    check("by-the-server-too", nobodys not in run.stdout, run.stdout)
    check("and-installs-again", "kernel /k" in larder.ask(f"/ipxe?mac={nobodys}")[1])

    journal = folder / "data/.larder/machines"
    lines = len(journal.read_text().splitlines())
    run = larder.machines("reinstall", "52-54-00-77-00-10", "--socket", socket, config=False)
    check("reinstall", run.returncode == 0 and MAC in run.stdout, run.stdout + run.stderr)
    check("the-server-did-it", "kernel /k" in larder.ask(script)[1])
    check("and-wrote-it", len(journal.read_text().splitlines()) > lines)
    before = journal.read_bytes()
    run = larder.machines("reinstall", "52:54:00:77:00:97")
    check("an-unknown-one-is-none", run.returncode == 1 and "never seen" in run.stderr, run.stderr)
    run = larder.machines("reinstall", "52:54:00")
    check("no-address", run.returncode == 1 and "no" in run.stderr, run.stderr)
    check("nothing-is-written", journal.read_bytes() == before)

    api = f"http://{larder.admin}/api/v1/machines"
    with urllib.request.urlopen(api, timeout=60) as answer:
        listed = json.load(answer)
    check("api", [one["state"] for one in listed if one["mac"] == MAC] == ["installing"], listed)
    order = urllib.request.Request(api, data=json.dumps({"reinstall": MAC}).encode(), method="POST")
    try:
        urllib.request.urlopen(order, timeout=60)
        check("a-token-is-asked-for", False)
    except urllib.error.HTTPError as error:
        check("a-token-is-asked-for", error.code == 403, error.code)
    larder.stop()


def without_its_socket(folder):
    larder = Serve(folder, "off")
    run = larder.machines()
    check("list-without-socket", run.returncode == 0 and MAC in run.stdout, run.stdout + run.stderr)
    for words in (["reinstall", MAC], ["--format", "ansible"]):
        run = larder.machines(*words)
        check(f"no-way-around-it: {words[0]}", run.returncode == 1 and "--data" in run.stderr, run.stderr)
    run = larder.machines("--data", folder / "data", "reinstall", MAC)
    check("its-files-are-asked-for", run.returncode == 0, run.stderr)
    run = larder.machines("--data", folder / "data", "reinstall", MAC, "--format", "json")
    check("json-if-that-is-wanted", json.loads(run.stdout) == {"mac": MAC, "state": "new"}, run.stdout)
    running = json.loads(larder.machines("--format", "json").stdout)
    larder.stop()
    run = larder.machines("--format", "json")
    shapes = {tuple(sorted(one)) for one in running + json.loads(run.stdout)}
    check("json-has-one-shape", len(shapes) == 1 and "since" in shapes.pop(), run.stdout)
    state = [one["state"] for one in json.loads(run.stdout) if one["mac"] == MAC]
    check("a-stopped-one-is-read", state == ["new"], run.stdout + run.stderr)


def as_matchbox(folder):
    larder = Matchbox(folder)
    script = "/ipxe?mac=52-54-00-77-00-10"
    check("matchbox-installs", "kernel /k" in larder.ask(script)[1])
    run = larder.machines("show", MAC, config=False)
    check("its-timeline-is-told", run.returncode == 0 and "group node profile p" in run.stdout, run.stdout + run.stderr)
    run = larder.machines("show", MAC, *larder.files, config=False)
    check("files-have-no-timeline", run.returncode == 1 and "leave out --data" in run.stderr, run.stderr)
    check("matchbox-is-done", larder.ask("/done?mac=" + MAC, "POST")[0] == 200)
    run = larder.machines(config=False)
    check("its-list-is-told", run.returncode == 0 and "installed" in run.stdout, run.stdout + run.stderr)
    run = larder.machines(*larder.files, config=False)
    check("its-state-is-read", run.returncode == 0 and "installed" in run.stdout, run.stdout + run.stderr)
    run = subprocess.run(
        [LARDER, "provision", "machines", *larder.files, "ls"], capture_output=True, text=True, timeout=120)
    check("by-the-other-words-too", run.returncode == 0 and "installed" in run.stdout, run.stdout + run.stderr)
    run = larder.machines("reinstall", MAC, *larder.files, config=False)
    check("its-state-is-changed", run.returncode == 0 and "kernel /k" in larder.ask(script)[1], run.stderr)
    run = larder.machines("rm", MAC, *larder.files, config=False)
    check("and-forgotten", run.stdout == f"{MAC} is forgotten\n", run.stdout + run.stderr)
    larder.stop()
    # No larder but this one could say where its files are.
    run = larder.machines("show", MAC, config=False)
    check("nobody-runs", run.returncode == 1 and "no larder" in run.stderr, run.stderr)


world.enter()
os.environ["LARDER_CONFIG"] = "/dev/null"
with tempfile.TemporaryDirectory() as work:
    work = pathlib.Path(work)
    data_directory(work)
    with_its_socket(work)
    without_its_socket(work)
    as_matchbox(work)
end()

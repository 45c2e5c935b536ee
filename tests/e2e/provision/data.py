#!/usr/bin/python3
"""The commands on a data directory: what is wrong with it is told, with exit codes that scripts can trust.

Prints `ok NAME` or `FAIL NAME why` for each check.
"""
import json
import pathlib
import subprocess
import tempfile

from checks import LARDER, check, end


def provision(folder, *words, given=None):
    return subprocess.run(
        [LARDER, "provision", "--data", folder, *words], input=given, capture_output=True, timeout=120)


def good_then_bad(folder):
    put = lambda kind, content, *more: provision(folder, kind, "put", "-", *more, given=json.dumps(content).encode())
    run = put("group", {"id": "g", "profile": "p"})
    check("put-warns", run.returncode == 0 and b'groups/g.json:3:2: profile "p"' in run.stderr, run.stderr)
    run = provision(folder, "check")
    check("check-fails", run.returncode == 2 and b"groups/g.json:3:2: " in run.stdout, run.stdout)
    run = put("profile", {"id": "p", "ignition_id": "i.ign", "boot": {"kernel": "http://h/k"}})
    check("put-warns-of-a-missing-file", run.returncode == 0 and b"ignition/i.ign" in run.stderr, run.stderr)
    run = put("ignition", {"ignition": {"version": "9.9.0"}}, "--name", "i.ign")
    check("put-warns-of-a-version", run.returncode == 0 and b"9.9.0" in run.stderr, run.stderr)
    run = provision(folder, "check", "--json")
    found = json.loads(run.stdout)
    known = run.returncode == 2 and len(found) == 1 and found[0]["severity"] == "error"
    check("check-json", known and found[0]["file"].endswith("ignition/i.ign"), run.stdout)
    run = put("ignition", {"ignition": {"version": "3.3.0"}}, "--name", "i.ign")
    check("put-is-silent", run.returncode == 0 and not run.stderr, run.stderr)
    run = provision(folder, "check")
    check("check-is-content", run.returncode == 0 and not run.stdout, run.stdout)


def refused(folder):
    run = provision(folder, "generic", "put", "-", "--name", "huge", given=bytes(20_000_000))
    check("too-large", run.returncode == 1 and b"8388608" in run.stderr, run.stderr)
    check("nothing-is-written", not list(pathlib.Path(folder).rglob("*huge*")))
    for name in ("", "a b", "http://a"):
        run = provision(folder, "pki", "init", "--dir", f"{folder}/pki", "--san", "good", "--san", name)
        check(f"no-name-{name!r}", run.returncode == 1 and not pathlib.Path(folder, "pki").exists(), run.stderr)


with tempfile.TemporaryDirectory() as work:
    good_then_bad(work)
    refused(work)
end()

#!/usr/bin/env python3
"""Replays docs/tour-bootstrap.md: every `sh` block in one shell, each line must succeed."""
import pathlib
import re
import subprocess
import tempfile

from checks import LARDER, REPOSITORY, check, end

TOUR = REPOSITORY / "docs/tour-bootstrap.md"


def main():
    blocks = re.findall(r"^```sh\n(.*?)^```$", TOUR.read_text(), re.S | re.M)
    script = "set -eu -o pipefail\ntrap 'kill $(cat server.pid 2>/dev/null) 2>/dev/null || true' ERR\n"
    script += f'larder() {{ "{LARDER}" "$@"; }}\n'
    for number, block in enumerate(blocks, 1):
        # A background job of a shell function would be a shell; the program itself gets the signal.
        block = re.sub(r"^larder (matchbox)", f'"{LARDER}" \\1', block, flags=re.M)
        script += f"{block}\necho 'ok tour-block-{number}'\n"
    with tempfile.TemporaryDirectory() as folder:
        # A network of its own: the tour's ports are free there.
        shell = ["unshare", "-n", "bash", "-c", "ip link set lo up\n" + script]
        run = subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=120)
        done = run.stdout.count("ok tour-block-")
        for number in range(1, done + 1):
            check(f"tour-block-{number}", True)
        if run.returncode != 0 or done < max(len(blocks), 7):
            check(f"tour-block-{done + 1}", False, f"exit {run.returncode}: {run.stderr[-600:]!r}")
            pid = pathlib.Path(folder, "server.pid")
            if pid.exists():
                subprocess.run(["kill", pid.read_text().strip()], capture_output=True)
    end()


if __name__ == "__main__":
    main()

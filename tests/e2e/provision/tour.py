#!/usr/bin/env python3
"""Replays docs/tour-bootstrap.md: every `sh` block in one shell, each line must succeed."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

LARDER = os.environ.get("LARDER", "larder")
TOUR = pathlib.Path(__file__).resolve().parents[3] / "docs/tour-bootstrap.md"


def main():
    blocks = re.findall(r"^```sh\n(.*?)^```$", TOUR.read_text(), re.S | re.M)
    script = "set -eu -o pipefail\ntrap 'kill $(cat server.pid 2>/dev/null) 2>/dev/null || true' ERR\n"
    script += f'larder() {{ "{LARDER}" "$@"; }}\n'
    for number, block in enumerate(blocks, 1):
        # A background job of a shell function would be a shell; the program itself gets the signal.
        block = re.sub(r"^larder (matchbox)", f'"{LARDER}" \\1', block, flags=re.M)
        script += f"{block}\necho 'ok tour-block-{number}'\n"
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
        print("\n".join(line for line in run.stdout.splitlines() if line.startswith("ok tour")))
        if run.returncode != 0 or len(blocks) < 7:
            done = run.stdout.count("ok tour-block-")
            print(f"FAIL tour-block-{done + 1} exit {run.returncode}: {run.stderr[-600:]!r}")
            pid = pathlib.Path(folder, "server.pid")
            if pid.exists():
                subprocess.run(["kill", pid.read_text().strip()], capture_output=True)
            sys.exit(1)


if __name__ == "__main__":
    main()

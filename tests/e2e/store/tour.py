#!/usr/bin/env python3
"""Replays docs/tour-cache.md: every `sh` block in one shell, its output compared with the text after it."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.append(str(HERE.parent / "provision"))

from checks import LARDER, REPOSITORY, check, end, figure  # noqa: E402 - the path must be known first

TOUR = REPOSITORY / "docs/tour-cache.md"
BLOCKS = re.compile(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.S | re.M)
MARK = "-- end of block, exit code"


def pattern(text):
    """What the text says, with anything where it has an ellipsis."""
    parts = [".*?" if part == "…" else re.escape(part) for part in re.split("(…)", text)]
    return re.compile("".join(parts), re.S)


def main():
    """Runs the blocks and compares."""
    blocks = BLOCKS.findall(TOUR.read_text(encoding="utf-8"))
    check("the tour has its blocks", len(blocks) >= 8, f"{len(blocks)} found")
    script = f'larder() {{ "{LARDER}" "$@"; }}\n'
    for commands, _ in blocks:
        # A background job of a shell function would be a shell; the program itself gets the signal.
        commands = re.sub(r"^larder serve", f'"{LARDER}" serve', commands, flags=re.M)
        script += f"{commands}echo '{MARK}' $?\n"
    with tempfile.TemporaryDirectory() as folder:
        # A network and a /run of its own, so that the tour's ports and the default socket are free; no
        # configuration of this machine's.
        alone = "ip link set lo up && mount -t tmpfs -o mode=755 none /run || exit 1\n"
        words = ["unshare", "-n", "-m", "bash", "-c", alone + script]
        environment = os.environ | {"LARDER_CONFIG": "/dev/null", "XDG_RUNTIME_DIR": folder}
        begun = time.monotonic()
        run = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=900, env=environment)
        figure(f"the whole tour took {time.monotonic() - begun:.1f} s")
        pid = pathlib.Path(folder, "server.pid")
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], capture_output=True)
    said = re.split(f"{MARK} \\d+\n", run.stdout)[:-1]
    for number, (_, wanted) in enumerate(blocks, 1):
        got = said[number - 1] if number <= len(said) else ""
        good = bool(wanted) and bool(pattern(wanted).fullmatch(got))
        check(f"tour-block-{number}", good, f"printed {got[-1500:]!r}\n{run.stderr[-800:]}")
    end()


if __name__ == "__main__":
    main()

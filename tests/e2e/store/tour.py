#!/usr/bin/env python3
"""Replays docs/tour-cache.md: every `sh` block in one shell, its output compared with the text after it.

Each command answers within a second, or shows progress on the terminal that its stderr is: told as a figure, and
judged on long runs alone.
"""
import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.append(str(HERE.parent / "provision"))

from checks import LARDER, REPOSITORY, check, end, figure  # noqa: E402 - the path must be known first

TOUR = REPOSITORY / "docs/tour-cache.md"
BLOCKS = re.compile(r"^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.S | re.M)
MARK = "-- end of block, exit code"

# What only looks is done three times, of which the best counts; what changes something can be done
# once, and a busy machine has some seconds for it.
LOOKS = {"stats", "ls", "show", "status", "--dry-run"}
MOST, MOST_ONCE = 1.0, 4.0
IS_LONG = bool(os.environ.get("LARDER_TESTS_LONG"))
TIMED = """larder() {
    local number=$EPOCHREALTIME begun=$EPOCHREALTIME code
    "$LARDER" "$@"
    code=$?
    echo "$number $begun $EPOCHREALTIME $*" >> times
    case " $* " in LOOKS)
        for _ in 2 3; do
            begun=$EPOCHREALTIME
            "$LARDER" "$@" > /dev/null
            echo "$number $begun $EPOCHREALTIME $*" >> times
        done
    esac
    return $code
}
"""


class Terminal:
    """What is written to a terminal, and when."""

    def __init__(self):
        self.master, self.slave = pty.openpty()
        self.heard = []
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        """Hears until nobody has the terminal any more."""
        while True:
            try:
                heard = os.read(self.master, 65536)
            except OSError:
                return
            self.heard.append((time.time(), heard.decode(errors="replace")))

    def close(self):
        """Lets it go; what is left is heard."""
        os.close(self.slave)
        self.thread.join(10)

    def shows_progress(self, begun, ended):
        """True if a bar was drawn between two times."""
        return any(begun <= at <= ended and re.search(r"\r.*\[[#.]{20}\]", text) for at, text in self.heard)

    def text(self):
        """All of it."""
        return "".join(text for _, text in self.heard)


def check_times(lines, terminal):
    """Whether each command was quick enough, or showed how far it was."""
    commands = {}
    for line in lines:
        number, begun, ended, words = line.split(" ", 3)
        commands.setdefault((number, words), []).append((float(begun), float(ended)))
    check("the tour's commands were timed", len(commands) >= 15, f"{len(commands)} were")
    for number, ((_, words), runs) in enumerate(commands.items(), 1):
        begun, ended = min(runs, key=lambda run: run[1] - run[0])
        took, shown = ended - begun, terminal.shows_progress(begun, ended)
        figure(f"{took:6.2f} s{', with progress' if shown else ''}  larder {words}")
        most = MOST if LOOKS & set(words.split()) else MOST_ONCE
        if IS_LONG:
            check(f"tour-answers-{number}", took <= most or shown, f"{took:.2f} s without a word: larder {words}")


def pattern(text):
    """What the text says, with anything where it has an ellipsis."""
    parts = [".*?" if part == "…" else re.escape(part) for part in re.split("(…)", text)]
    return re.compile("".join(parts), re.S)


def main():
    """Runs the blocks and compares."""
    blocks = BLOCKS.findall(TOUR.read_text(encoding="utf-8"))
    check("the tour has its blocks", len(blocks) >= 8, f"{len(blocks)} found")
    looks = "|".join(f'*" {word} "*' for word in sorted(LOOKS))
    script = f'LARDER="{LARDER}"\n' + TIMED.replace("LOOKS", looks)
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
        begun, terminal = time.monotonic(), Terminal()
        run = subprocess.run(
            words, cwd=folder, stdout=subprocess.PIPE, stderr=terminal.slave, text=True, timeout=900, env=environment
        )
        figure(f"the whole tour took {time.monotonic() - begun:.1f} s")
        pid = pathlib.Path(folder, "server.pid")
        if pid.exists():
            subprocess.run(["kill", pid.read_text().strip()], capture_output=True)
        terminal.close()
        times = pathlib.Path(folder, "times")
        check_times(times.read_text(encoding="utf-8").splitlines() if times.exists() else [], terminal)
    said = re.split(f"{MARK} \\d+\n", run.stdout)[:-1]
    for number, (_, wanted) in enumerate(blocks, 1):
        got = said[number - 1] if number <= len(said) else ""
        good = bool(wanted) and bool(pattern(wanted).fullmatch(got))
        check(f"tour-block-{number}", good, f"printed {got[-1500:]!r}\n{terminal.text()[-800:]}")
    end()


if __name__ == "__main__":
    main()

"""What the scripts of this folder share: the program to test, checks by name, and their count at the end.

The program is $LARDER, else $LARDER_BINARY as tests/run sets it, else the debug build of this tree.
"""
import os
import pathlib
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]
LARDER = os.path.abspath(
    os.environ.get("LARDER")
    or os.environ.get("LARDER_BINARY")
    or f"{os.environ.get('CARGO_TARGET_DIR', REPOSITORY / 'target')}/debug/larder"
)
counts = {"passed": 0, "failed": 0, "skipped": 0}


def check(name, good, why=""):
    """Prints how a check went and counts it."""
    counts["passed" if good else "failed"] += 1
    print(f"{'ok' if good else 'FAIL'} {name} {'' if good else why}".rstrip(), flush=True)


def figure(text):
    """Prints a measured figure: it belongs to the machine that it was measured on, and judges nothing."""
    print(f"   {text}", flush=True)


def skip(name, probe):
    """Counts what this machine cannot do, by the probe that said so."""
    counts["skipped"] += 1
    print(f"SKIP {name} {probe}", flush=True)


def end():
    """Prints the counts; the exit code says whether one failed."""
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    sys.exit(1 if counts["failed"] or not sum(counts.values()) else 0)

"""A story: one rule, one function, told by the runner in the order of the files."""

import dataclasses
import inspect
import typing

ALL = []


@dataclasses.dataclass
class Story:
    """A registered story."""

    name: str
    rule: str
    run: typing.Callable
    larder_only: bool
    squid_fails: str


def story(larder_only=False, squid_fails=""):
    """Registers a function as a story; its docstring is the rule that it pins.

    `larder_only` says that Squid has no such thing. `squid_fails` says in what Squid is known to
    break the rule, so that a run against Squid shows which stories are unfair and which are needed.
    """

    def register(function):
        rule = " ".join(inspect.getdoc(function).split())
        ALL.append(Story(function.__name__, rule, function, larder_only, squid_fails))
        return function

    return register


def check(truth, why):
    """Fails the story with a sentence unless something is true."""
    if not truth:
        raise AssertionError(why)


def equal(got, wanted, what):
    """Fails the story unless two values are the same; long ones are cut in the message."""
    if got != wanted:
        raise AssertionError(f"{what}: got {short(got)}, wanted {short(wanted)}")


def short(value):
    """A value that fits on a line."""
    text = repr(value)
    return text if len(text) < 200 else f"{text[:120]}… ({len(value)} long)"

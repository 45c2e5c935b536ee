#!/usr/bin/env python3
"""Replays docs/tour-boot.md: its configuration, each `sh` block, and the machine. Needs what vm.py needs and
curl; run as root."""
import os, re, signal
from lab import LARDER, REPOSITORY, Lab, Stories

LINES_MAX = 5
SECONDS = 900


def blocks():
    """The tour's fenced blocks in their order, as (kind, text)."""
    with open(os.path.join(REPOSITORY, 'docs/tour-boot.md')) as file:
        return re.findall(r'^```(\w+)\n(.*?)^```$', file.read(), re.S | re.M)


def shown(lab):
    """What the serial console shows, without the codes that place it."""
    return re.sub(r'\x1b\[[0-9;?]*[A-Za-z]', '', lab.log('serial.log'))


def ended(lab):
    """Ends the server that the tour started, if the tour did not come to its own end."""
    try:
        with open(lab.path('server.pid')) as file:
            os.kill(int(file.read()), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        pass


def tour():
    with Lab() as lab:
        try:
            return replayed(lab)
        finally:
            ended(lab)


def replayed(lab):
    lab.main_server()
    head = 'set -eu -o pipefail\ncd %s\nlarder() { "%s" "$@"; }\n' % (lab.folder, LARDER)
    kinds = []
    for kind, text in blocks():
        kinds.append(kind)
        if kind == 'toml':
            if len(text.splitlines()) > LINES_MAX:
                return 'the configuration has more than %d lines' % LINES_MAX
            with open(lab.path('larder.toml'), 'w') as file:
                file.write(text)
        elif kind == 'sh':
            # The background job of a function would be a shell: the signal is for the program itself.
            script = head + re.sub(r'^larder serve', '"%s" serve' % LARDER, text, flags=re.M)
            ran = lambda: lab.inside('pxe', 'bash', '-c', script, timeout=600)
            done = ran()
            # On a busy machine servers may answer later than the doctor waits.
            if ' boot doctor ' in text and done.returncode != 0:
                lab.wait_for(lambda: ran().returncode == 0)
                done = ran()
            if done.returncode != 0:
                return '%s: exit %d: %s %s' % (text, done.returncode, done.stdout[-200:], done.stderr[-300:])
        elif kind == 'machine':
            lab.machine('bios')
            if not lab.wait_for(lambda: text.strip() in shown(lab), SECONDS):
                return 'no menu: %s' % shown(lab)[-400:]
        else:
            return 'nobody replays a block of kind %s' % kind
    return None if kinds.count('sh') >= 5 and 'machine' in kinds else 'blocks are missing: %s' % kinds


stories = Stories()
stories.tell('tour-boot', tour)
stories.end()

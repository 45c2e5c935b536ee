#!/usr/bin/env python3
"""Larder serves the links that it was told to, and no others: one that is made anew is served again. Needs
busybox and iproute2; run as root: links.py [STORY…]"""
from lab import SERVER, Lab, Stories, run

ROOT_FILE = 'what larder serves\n'


def fetched(lab, name, server):
    """What `name` gets of the file by TFTP."""
    got = lab.path('got-' + name)
    lab.inside(name, 'busybox', 'timeout', '10', 'busybox', 'tftp', '-g', '-r', 'f', '-l', got, server)
    return lab.log('got-' + name)


def anew(lab):
    """Takes larder's link away and makes it again, under the same name."""
    run('ip', '-n', lab.ns('pxe'), 'link', 'del', 'e0')
    run('ip', '-n', lab.ns('sw'), 'link', 'add', 'p_pxe', 'type', 'veth', 'peer', 'name', 'e0', 'netns', lab.ns('pxe'))
    run('ip', '-n', lab.ns('sw'), 'link', 'set', 'p_pxe', 'master', 'br0', 'up')
    run('ip', '-n', lab.ns('pxe'), 'link', 'set', 'e0', 'up')
    run('ip', '-n', lab.ns('pxe'), 'addr', 'add', SERVER + '/24', 'dev', 'e0')


def served():
    with Lab() as lab:
        with open(lab.path('f'), 'w') as file:
            file.write(ROOT_FILE)
        run('ip', '-n', lab.ns('pxe'), 'link', 'add', 'e1', 'type', 'veth', 'peer', 'name', 'e1', 'netns', lab.ns('main'))
        for name, last in (('pxe', 2), ('main', 1)):
            run('ip', '-n', lab.ns(name), 'addr', 'add', '10.88.0.%d/24' % last, 'dev', 'e1')
            run('ip', '-n', lab.ns(name), 'link', 'set', 'e1', 'up')
        run('ip', '-n', lab.ns('cli'), 'addr', 'add', '10.77.0.50/24', 'dev', 'e0')
        lab.larder('--interface', 'e0', '--root', lab.folder)
        if not lab.wait_for(lambda: fetched(lab, 'cli', SERVER) == ROOT_FILE):
            return 'nothing on the served link: %s' % lab.log('larder.log')[-300:]
        if fetched(lab, 'main', '10.88.0.2'):
            return 'a file on a link that is not served'
        anew(lab)
        if not lab.wait_for(lambda: fetched(lab, 'cli', SERVER) == ROOT_FILE):
            return 'the link that was made anew is dead: %s' % lab.log('larder.log')[-300:]
        return None


stories = Stories()
stories.tell('served-links', served)
stories.end()

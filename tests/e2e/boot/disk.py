#!/usr/bin/env python3
"""A disk that hangs keeps only those waiting who ask for its files. Needs curl, /dev/fuse and the right to mount;
run as root: disk.py [STORY…]"""
import os, subprocess, sys
from lab import LARDER, SERVER, Lab, Stories

# Holds a file system of which no question is ever answered, until it ends.
HANGING = '''
import ctypes, os, sys, time
device = os.open('/dev/fuse', os.O_RDWR)
options = ('fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other' % device).encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b'fuse', sys.argv[1].encode(), b'fuse', 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
print('mounted', flush=True)
time.sleep(600)
'''


def hang(lab, server, folder):
    """Mounts it where the server sees it: `ip netns exec` gave it mounts of its own."""
    os.mkdir(folder)
    held = subprocess.Popen(['nsenter', '-t', str(server.pid), '-m', sys.executable, '-c', HANGING, folder],
                            stdout=subprocess.PIPE, text=True)
    lab.processes.insert(0, held)
    if held.stdout.readline() != 'mounted\n':
        raise RuntimeError('cannot mount what hangs')
    return held


def asked(lab, *command, seconds=10):
    """The output of a client, or nothing if it had to be ended."""
    try:
        return lab.inside('cli', *command, timeout=seconds).stdout
    except subprocess.TimeoutExpired:
        return None


def hangs(by):
    """A dozen clients ask for files of the disk that hangs, more than there are threads that answer."""
    def story():
        with Lab() as lab:
            root = lab.path('root')
            os.mkdir(root)
            with open(root + '/good', 'w') as file:
                file.write('here')
            lab.main_server()
            server = lab.larder('--root', root)
            lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')
            held = hang(lab, server, root + '/hung')
            waiting = [lab.spawn('cli', 'curl', '-s', by % ('hung/%d' % n)) for n in range(12)]
            try:
                good = asked(lab, 'curl', '-s', by % 'good')
                script = asked(lab, 'curl', '-s', 'http://%s:8080/boot.ipxe' % SERVER)
                doctor = lab.inside('cli', LARDER, 'boot', 'doctor', '--json', '--interface', 'e0', '--wait', '5').stdout
                is_waiting = all(client.poll() is None for client in waiting)
            finally:
                held.kill()
                held.wait()
            if good != 'here':
                return 'the good disk gave %r' % good
            if not (script or '').startswith('#!ipxe'):
                return 'the script was %r' % script
            if '"address": "%s"' % SERVER not in doctor:
                return 'DHCP was not answered: ' + doctor
            return None if is_waiting else 'nothing hung'
    return story


stories = Stories()
if os.access('/dev/fuse', os.R_OK | os.W_OK):
    stories.tell('tftp', hangs('tftp://' + SERVER + '/%s'))
    stories.tell('http', hangs('http://' + SERVER + ':8080/boot/%s'))
else:
    stories.skipped += 2
    print('SKIP tftp, http probe /dev/fuse: it cannot be opened')
stories.end()

#!/usr/bin/env python3
"""A disk that hangs keeps only those waiting who ask for its files, and no start. Needs curl and busybox, /dev/fuse
and the right to mount for all stories but one; run as root: disk.py [STORY…]"""
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

FTP, WEB = 'tftp://' + SERVER + '/%s', 'http://' + SERVER + ':8080/boot/%s'
# More than all of the threads that wait for disks.
IMPATIENT = 140


def mounted(lab, folder, *through):
    os.makedirs(folder, exist_ok=True)
    held = subprocess.Popen([*through, sys.executable, '-c', HANGING, folder], stdout=subprocess.PIPE, text=True)
    lab.processes.insert(0, held)
    if held.stdout.readline() != 'mounted\n':
        raise RuntimeError('cannot mount what hangs')
    return held


def hang(lab, server, folder):
    """Mounts it where the server sees it: `ip netns exec` gave it mounts of its own."""
    return mounted(lab, folder, 'nsenter', '-t', str(server.pid), '-m')


def asked(lab, *command, seconds=10):
    """The output of a client, or nothing if it had to be ended."""
    try:
        return lab.inside('cli', *command, timeout=seconds).stdout
    except subprocess.TimeoutExpired:
        return None


def rooted(lab):
    """A root with a file, and a client's address."""
    root = lab.path('root')
    os.mkdir(root)
    with open(root + '/good', 'w') as file:
        file.write('here')
    lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')
    return root


def hangs(by):
    """A dozen clients ask for files of the disk that hangs, more than there are threads that answer."""
    def story():
        with Lab() as lab:
            root = rooted(lab)
            lab.main_server()
            server = lab.larder('--root', root)
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


def left(by):
    """A client asks for a file of the disk that hangs, in every spelling, and leaves at once, again and again:
    what it leaves behind takes no good file from anybody, itself included."""
    def story():
        with Lab() as lab:
            root = rooted(lab)
            lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.11/24', 'dev', 'e0')
            server = lab.larder('--root', root)
            held = hang(lab, server, root + '/hung')
            spellings = ['hung/%d', '52:54:00:77:01:%02x/hung/x', root[1:] + '/hung/%d']
            names = [spelling % n for n in range(IMPATIENT) for spelling in spellings] + ['hung', 'hung.0'] * 20
            script = 'for name in %s; do curl -s -m 1 "%s" & done; wait' % (' '.join(names), by % '$name')
            try:
                lab.inside('cli', 'sh', '-c', script, timeout=240)
                good = [asked(lab, 'curl', '-s', '--interface', own, by % 'good', seconds=30)
                        for own in ('10.77.0.10', '10.77.0.11')]
            finally:
                held.kill()
                held.wait()
            return None if good == ['here', 'here'] else 'the good disk gave %r' % good
    return story


def begins(lab, root, silent):
    """Larder starts, says what does not answer, and serves."""
    server = lab.spawn('pxe', LARDER, 'boot', 'serve', '--root', root, log='larder.log')
    if not lab.wait_for(lambda: 'mode=pxe' in lab.log('larder.log') or server.poll() is not None):
        return 'larder did not start: ' + lab.log('larder.log')
    if not lab.wait_for(lambda: silent + ' does not answer' in lab.log('larder.log')):
        return 'it says nothing of the disk: ' + lab.log('larder.log')
    got = asked(lab, 'curl', '-s', 'http://%s:8080/boot.ipxe' % SERVER)
    return None if (got or '').startswith('#!ipxe') else 'the script was %r' % got


def hung_before(where, has_good):
    """The disk hangs before larder starts: below the root, or as the whole root."""
    def story():
        with Lab() as lab:
            root = rooted(lab)
            hung = root + where
            held = mounted(lab, hung)
            try:
                why = begins(lab, root, hung)
                good = asked(lab, 'curl', '-s', FTP % 'good') if has_good and not why else None
            finally:
                held.kill()
                held.wait()
            if not why and has_good and good != 'here':
                return 'the good disk gave %r' % good
            return why
    return story


def pipe_before():
    """A boot program that hangs whoever opens it, without any mount: a pipe that nobody writes to."""
    with Lab() as lab:
        root = rooted(lab)
        pipe = root + '/undionly.kpxe'
        os.mkfifo(pipe)
        why = begins(lab, root, pipe)
        good = asked(lab, 'curl', '-s', FTP % 'good') if not why else None
        if not why and good != 'here':
            return 'the good file was %r' % good
        return why


def fuse():
    """The probe: may a file system that hangs be made here? What cannot be told here is no story."""
    try:
        os.close(os.open('/dev/fuse', os.O_RDWR))
        return True
    except OSError as error:
        print('probe /dev/fuse: %s: the stories with a disk that hangs are not told' % error, flush=True)
        return False


stories = Stories()
stories.tell('start-with-a-pipe', pipe_before)
if fuse():
    stories.tell('tftp', hangs(FTP))
    stories.tell('http', hangs(WEB))
    stories.tell('tftp-left-behind', left(FTP))
    stories.tell('http-left-behind', left(WEB))
    stories.tell('start-with-a-hung-folder', hung_before('/hung', True))
    stories.tell('start-with-a-hung-root', hung_before('', False))
stories.end()

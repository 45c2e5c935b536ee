#!/usr/bin/env python3
"""TFTP over a link with 2 ms each way: what windows are worth, beside dnsmasq.

What is judged is counted: how many acknowledgements a file takes, for each of which the link is crossed
twice. Rates are printed, medians of several runs: they belong to the machine that they were taken on.
Needs atftp, dnsmasq and iproute2; run as root: rates.py [STORY…]"""
import heapq, os, select, socket, statistics, threading, time
from lab import IS_LONG, SERVER, Lab, Stories

DELAY = 0.002
SIZE = 1_500_000
RUNS = 5 if IS_LONG else 1
RELAY = '127.0.0.1'


class Relay(threading.Thread):
    """Passes datagrams between a client here and a TFTP server, `DELAY` later, in their order."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        # A socket belongs to the namespace in which it was made.
        with open('/proc/self/ns/net') as home, open('/run/netns/' + lab.ns('cli')) as cli:
            enter(cli)
            try:
                self.door = bound()
                self.port = self.door.getsockname()[1]
                self.near, self.far = bound(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            finally:
                enter(home)
        self.acknowledged = 0
        self.is_over = False

    def run(self):
        client = server = None
        waiting, number = [], 0
        while not self.is_over:
            now = time.perf_counter()
            while waiting and waiting[0][0] <= now:
                _, _, to, data, where = heapq.heappop(waiting)
                to.sendto(data, where)
            left = max(waiting[0][0] - time.perf_counter(), 0) if waiting else 0.05
            for ready in select.select([self.door, self.near, self.far], [], [], left)[0]:
                data, where = ready.recvfrom(65536)
                number += 1
                if ready is self.far:
                    server = where
                    item = (self.near, data, client)
                else:
                    if ready is self.door:
                        client, server = where, (SERVER, 69)
                    elif data[:2] == b'\0\4':
                        self.acknowledged += 1
                    item = (self.far, data, server)
                heapq.heappush(waiting, (time.perf_counter() + DELAY, number, *item))


def enter(namespace):
    """setns(2); Python has it from 3.12 on only."""
    import ctypes
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
        raise OSError(ctypes.get_errno(), 'setns')


def bound():
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((RELAY, 0))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return made


def fetched(lab, window):
    """Fetches the file once; returns the rate in MB/s and the acknowledgements that it took."""
    relay = Relay(lab)
    relay.start()
    out = lab.path('out')
    begun = time.perf_counter()
    words = ['--option', 'windowsize %d' % window] if window else []
    lab.inside('cli', 'atftp', '--option', 'blksize 1428', *words, '-g', '-r', 'big', '-l', out, RELAY,
               str(relay.port), timeout=300)
    took = time.perf_counter() - begun
    relay.is_over = True
    relay.join()
    with open(out, 'rb') as got, open(lab.path('root/big'), 'rb') as want:
        if got.read() != want.read():
            raise RuntimeError('another file came')
    os.remove(out)
    return SIZE / took / 1e6, relay.acknowledged


def medians(lab, window):
    runs = [fetched(lab, window) for _ in range(RUNS)]
    return [statistics.median(column) for column in zip(*runs)]


def prepared(lab):
    os.mkdir(lab.path('root'))
    with open(lab.path('root/big'), 'wb') as file:
        file.write(os.urandom(SIZE))
    os.chmod(lab.folder, 0o755)
    lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0', check=True)


def windows():
    """A window of 16 crosses the link at least eight times less often than a window of 1."""
    with Lab() as lab:
        prepared(lab)
        serving = lab.larder('--root', lab.path('root'))
        (one, acks), (sixteen, few) = medians(lab, 1), medians(lab, 16)
        print('   window 16: %.2f MB/s, window 1: %.3f MB/s, ratio %.1f; acknowledgements %d and %d' % (
            sixteen, one, sixteen / one, few, acks))
        if IS_LONG:
            beside_dnsmasq(lab, serving)
        return None if acks >= 8 * few else '%d acknowledgements, with window 16 %d' % (acks, few)


def beside_dnsmasq(lab, serving):
    """Larder and dnsmasq, which knows no windows, by turns: what else the machine does strikes both."""
    ours, theirs = [], []
    for _ in range(RUNS):
        ours.append(fetched(lab, 1)[0])
        serving.terminate()
        serving.wait(60)
        other = lab.spawn('pxe', 'dnsmasq', '-k', '--port=0', '--conf-file=/dev/null', '--user=root', '--pid-file=',
                          '--enable-tftp', '--tftp-root=' + lab.path('root'))
        lab.wait_for_port('pxe', 69)
        theirs.append(fetched(lab, 0)[0])
        other.terminate()
        other.wait(60)
        open(lab.path('larder.log'), 'w').close()
        serving = lab.larder('--root', lab.path('root'))
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print('   window 1: larder %.3f MB/s, dnsmasq %.3f MB/s; larder is at %.2f of it' % (ours, theirs, ours / theirs))


stories = Stories()
stories.tell('tftp-windows', windows)
stories.end()

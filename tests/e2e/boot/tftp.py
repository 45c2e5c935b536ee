#!/usr/bin/env python3
"""Real TFTP clients fetch identical files, and ordinary DHCP clients get nothing from larder. Needs
tftp-hpa, atftp, curl, busybox and tcpdump; run as root: tftp.py [STORY…]"""
import hashlib, os, subprocess, time
from lab import SERVER, Lab, Stories

LAST = '''
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.sendto(b'last', ('10.77.0.255', 9))
'''


def digest(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()


def serving(lab, sizes):
    os.mkdir(lab.path('root'))
    for name, size in sizes.items():
        with open(lab.path('root/' + name), 'wb') as file:
            file.write(os.urandom(size))
    lab.larder('--root', lab.path('root'))
    lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')


def clients():
    """Four clients, block sizes 512 to 65464, windows 1 to 64: all get the same bytes."""
    with Lab() as lab:
        sizes = {'empty': 0, 'exact': 512 * 8, 'odd': 1000003}
        serving(lab, sizes)
        wrong = []
        for name in sizes:
            want, out = digest(lab.path('root/' + name)), lab.path('out')
            commands = [['tftp', '-m', 'binary', SERVER, '-c', 'get', name, out],
                        ['busybox', 'tftp', '-g', '-r', name, '-l', out, SERVER]]
            for size in (512, 1428, 1468, 65464):
                commands.append(['curl', '-s', '--tftp-blksize', str(size), '-o', out, 'tftp://%s/%s' % (SERVER, name)])
            for size, window in ((512, 1), (1428, 8), (1468, 64)):
                commands.append(['atftp', '--option', 'blksize %d' % size, '--option', 'windowsize %d' % window,
                                 '-g', '-r', name, '-l', out, SERVER])
            for command in commands:
                # curl and atftp take an empty file for no file; the others prove it.
                if name == 'empty' and command[0] in ('curl', 'atftp'):
                    continue
                if os.path.exists(out):
                    os.remove(out)
                ended = lab.inside('cli', *command, timeout=180)
                if not os.path.exists(out) or digest(out) != want:
                    wrong.append('%s (%s)' % (' '.join(command), ended.stderr.strip()[-80:]))
        return '; '.join(wrong)


def many():
    """Two hundred transfers of 1 MB at once: none fails."""
    with Lab() as lab:
        serving(lab, {'big': 1000000})
        want = digest(lab.path('root/big'))
        begun = time.time()
        running = [subprocess.Popen(['ip', 'netns', 'exec', lab.ns('cli'), 'atftp', '--option', 'blksize 1428',
                                     '--option', 'windowsize 8', '-g', '-r', 'big', '-l', lab.path('out%d' % n), SERVER],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for n in range(200)]
        for process in running:
            process.wait(300)
        took = time.time() - begun
        good = sum(os.path.exists(lab.path('out%d' % n)) and digest(lab.path('out%d' % n)) == want for n in range(200))
        print('   200 transfers of 1 MB in %.1f s' % took)
        return None if good == 200 else '%d of 200 arrived' % good


def leases():
    """udhcpc and dhclient get 20 leases of 20 from the main server, and not a packet from larder."""
    with Lab() as lab:
        lab.main_server()
        lab.larder()
        lab.spawn('cli', 'tcpdump', '-ln', '-i', 'e0', 'udp and src host %s' % SERVER, log='seen.log')
        if not lab.wait_for(lambda: 'listening on' in lab.log('seen.log')):
            return 'tcpdump does not listen: ' + lab.log('seen.log')
        got = 0
        for number in range(20):
            lab.inside('cli', 'ip', 'link', 'set', 'e0', 'down')
            lab.inside('cli', 'ip', 'link', 'set', 'e0', 'address', '52:54:00:77:01:%02x' % number)
            lab.inside('cli', 'ip', 'link', 'set', 'e0', 'up')
            if number % 2:
                name = 'dhclient%d' % number
                client = lab.spawn('cli', 'dhclient', '-d', '-1', '-sf', '/bin/true', '-lf', lab.path('l%d' % number),
                                   '-pf', lab.path('p%d' % number), 'e0', log=name)
                got += lab.wait_for(lambda: 'bound to' in lab.log(name))
                client.terminate()
                client.wait(60)
            else:
                ended = lab.inside('cli', 'busybox', 'udhcpc', '-n', '-q', '-f', '-t', '15', '-i', 'e0', '-s', '/bin/true')
                got += 'lease of' in ended.stderr + ended.stdout
        # Packets are seen in their order: with this one all that came before it are.
        lab.inside('pxe', 'python3', '-c', LAST, check=True)
        if not lab.wait_for(lambda: '10.77.0.255.9:' in lab.log('seen.log')):
            return 'tcpdump sees nothing: ' + lab.log('seen.log')
        heard = [line for line in lab.log('seen.log').splitlines()
                 if SERVER in line and 'listening' not in line and '10.77.0.255.9:' not in line]
        if got != 20 or heard:
            return '%d of 20 leases; from larder: %s' % (got, heard[:3])


stories = Stories()
stories.tell('tftp-clients', clients)
stories.tell('tftp-200-at-once', many)
stories.tell('ordinary-clients', leases)
stories.end()

#!/usr/bin/env python3
"""Larder on the same host as the main DHCP server: one that shares port 67, and one that holds it alone.
Needs busybox, dnsmasq and iproute2; run as root: beside.py [STORY…]"""
import json, signal
from lab import LARDER, SERVER, Lab, Stories

# A BIOS machine's DISCOVER; prints [yiaddr, boot file] of each answer to it: until a lease and boot data have
# come, then two seconds more for those that must not. Where one of the two does not come, it asks again with
# another number, as machines do.
PROBE = r'''
import json, socket, struct, time
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for option in (socket.SO_REUSEADDR, socket.SO_BROADCAST):
    udp.setsockopt(socket.SOL_SOCKET, option, 1)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'e0')
udp.bind(('', 68))
mac = bytes.fromhex('525400770030')
head = struct.pack('!BBBBIHH4s4s4s4s16s64s128s', 1, 1, 6, 0, 0x11223344, 4, 0x8000, *[bytes(4)] * 4, mac, b'', b'')
options = bytes([53, 1, 1, 93, 2, 0, 0, 94, 3, 1, 2, 1, 60, 32]) + b'PXEClient:Arch:00000:UNDI:002001'
options += bytes([97, 17, 0]) + bytes(range(16)) + bytes([55, 4, 1, 3, 60, 67, 255])
def asked(number):
    xid = struct.pack('!I', number)
    udp.sendto(head[:4] + xid + head[8:] + b'\x63\x82\x53\x63' + options, ('255.255.255.255', 67))
    answers, end, is_both = [], time.monotonic() + 12, False
    while (left := end - time.monotonic()) > 0:
        udp.settimeout(left)
        try:
            packet = udp.recv(2048)
        except TimeoutError:
            break
        if packet[:1] == b'\2' and packet[4:8] == xid:
            answers.append([socket.inet_ntoa(packet[16:20]), packet[108:236].split(b'\0')[0].decode()])
        if not is_both and {address == '0.0.0.0' for address, _ in answers} == {True, False}:
            is_both, end = True, time.monotonic() + 2
    return answers, is_both
for number in range(0x11223344, 0x11223348):
    answers, is_both = asked(number)
    if is_both:
        break
print(json.dumps(answers))
'''


def offers(lab):
    """Leases and boot files that a machine is offered."""
    lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')
    told = lab.inside('cli', 'python3', '-c', PROBE)
    answers = json.loads(told.stdout)
    leases = [address for address, _ in answers if address != '0.0.0.0']
    return leases, [file for address, file in answers if address == '0.0.0.0']


def both_answer(lab):
    leases, files = offers(lab)
    good = len(leases) == 1 and leases[0].startswith('10.77.0.1') and files == ['undionly.kpxe']
    return None if good else 'leases %s, boot files %s; %s' % (leases, files, lab.log('larder.log')[-300:])


def sharing(*words):
    def story():
        with Lab() as lab:
            lab.main_server(namespace='pxe')
            lab.larder(*words)
            return both_answer(lab)
    return story


def alone():
    """dnsmasq lets nobody in: larder says what to do, and that works."""
    with Lab() as lab:
        lab.spawn('pxe', 'dnsmasq', '-k', '--port=0', '--conf-file=/dev/null', '--user=root', '--leasefile-ro',
                  '--dhcp-leasefile=/dev/null', '--pid-file=', '--dhcp-range=10.77.0.100,10.77.0.150,1h')
        lab.wait_for_port('pxe', 67)
        refused = lab.inside('pxe', LARDER, 'boot', 'serve', timeout=60)
        if refused.returncode != 1 or 'boot.socket = "packet"' not in refused.stderr:
            return 'exit %d: %s' % (refused.returncode, refused.stderr)
        lab.larder('--packet-socket')
        return both_answer(lab)


def moved():
    """The host gets another address while larder runs: answers by packets name the new one soon."""
    with Lab() as lab:
        lab.larder('--packet-socket')
        lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')
        lab.inside('pxe', 'ip', 'addr', 'flush', 'dev', 'e0')
        lab.inside('pxe', 'ip', 'addr', 'add', '10.77.0.3/24', 'dev', 'e0')
        if not lab.wait_for(lambda: 'e0 is served at 10.77.0.3' in lab.log('larder.log')):
            return 'the new address was not seen: ' + lab.log('larder.log')[-300:]
        servers = []

        def is_answered():
            told = lab.inside('cli', LARDER, 'boot', 'doctor', '--json', '--wait', '1')
            servers[:] = [(server['address'], server['next_server']) for server in json.loads(told.stdout)['servers']]
            return servers
        lab.wait_for(is_answered)
        return None if servers == [('10.77.0.3', '10.77.0.3')] else 'answered as %s' % servers


def few_capabilities():
    """Two capabilities suffice, one of them for packet sockets alone; without any it says which."""
    def only(*names):
        return ['setpriv', '--bounding-set=' + ','.join(['-all', *('+' + name for name in names)])]
    with Lab() as lab:
        lab.main_server()
        refused = lab.inside('pxe', *only(), LARDER, 'boot', 'serve', timeout=60)
        if refused.returncode != 1 or 'CAP_NET_BIND_SERVICE' not in refused.stderr:
            return 'exit %d: %s' % (refused.returncode, refused.stderr)
        for names, words in ((['net_bind_service'], ['--interface', 'e0']),
                             (['net_bind_service', 'net_raw'], ['--packet-socket'])):
            serving = lab.larder(*words, through=only(*names))
            if why := both_answer(lab):
                return '%s: %s' % (names, why)
            serving.terminate()
            serving.wait(60)
    return None


def signals():
    """What log rotation and scripts send to dnsmasq ends nothing."""
    with Lab() as lab:
        serving = lab.larder('--interface', 'e0')
        for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2'):
            serving.send_signal(getattr(signal, name))
            if not lab.wait_for(lambda: name + ' changes nothing' in lab.log('larder.log')):
                return '%s: exit %s; %s' % (name, serving.poll(), lab.log('larder.log')[-300:])
        serving.terminate()
        return None if serving.wait(60) == 0 else 'exit %s' % serving.returncode


def with_matchbox(is_first):
    """The seed's pair on one host: whichever starts first, port 8080 is matchbox's."""
    words = ['--', '-p0', '--dhcp-range=10.77.0.0,proxy', '--dhcp-userclass=set:ipxe,iPXE',
             '--pxe-service=tag:#ipxe,x86PC,a,undionly.kpxe',
             '--pxe-service=tag:ipxe,x86PC,iPXE,http://%s:8080/boot.ipxe' % SERVER]

    def script(lab):
        return lab.inside('pxe', 'curl', '-sf', 'http://%s:8080/boot.ipxe' % SERVER).stdout

    def story():
        with Lab() as lab:
            for is_matchbox in (is_first, not is_first):
                if is_matchbox:
                    lab.spawn('pxe', LARDER, 'matchbox', '-address=0.0.0.0:8080', '-data-path=' + lab.folder,
                              '-assets-path=', log='matchbox.log')
                    if not lab.wait_for(lambda: 'listening' in lab.log('matchbox.log')):
                        return 'matchbox did not start: ' + lab.log('matchbox.log')[-300:]
                else:
                    lab.larder(*words)
            if not lab.wait_for(lambda: 'chain ipxe?' in script(lab)):
                return 'the script is %r; %s' % (script(lab), lab.log('matchbox.log')[-300:])
            return None
    return story


stories = Stories()
stories.tell('beside-a-sharing-server', sharing())
stories.tell('beside-a-sharing-server-by-packets', sharing('--packet-socket'))
stories.tell('beside-a-server-that-holds-the-port', alone)
stories.tell('another-address', moved)
stories.tell('two-capabilities', few_capabilities)
stories.tell('signals-that-end-nothing', signals)
stories.tell('behind-matchbox-on-one-host', with_matchbox(True))
stories.tell('before-matchbox-on-one-host', with_matchbox(False))
stories.end()

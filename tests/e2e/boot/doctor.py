#!/usr/bin/env python3
"""`larder boot doctor --json` names the fault in staged set-ups. Needs busybox, dnsmasq, nft and iproute2; run as
root: doctor.py [STORY…]"""
import json
from lab import LARDER, SERVER, Lab, Stories


def examined(lab, *words, before='', wait='--wait 3'):
    """The ids of the problems, by a doctor that runs in the server's namespace."""
    command = '%s exec %s boot doctor --json %s %s' % (before, LARDER, wait, ' '.join(words))
    ended = lab.inside('pxe', 'unshare', '-m', 'sh', '-c', command)
    report = json.loads(ended.stdout)
    problems = [finding['id'] for finding in report['findings'] if finding['is_problem']]
    if (ended.returncode == 0) != (not problems) or report['is_healthy'] != (not problems):
        raise RuntimeError('exit code %d with %s' % (ended.returncode, problems))
    return problems


def found(lab, expected, *words, wait='--wait 3', **more):
    """What is wrong with what the doctor finds. On a busy machine servers may take longer than it waits."""
    problems = []

    def is_right(wait=wait):
        problems[:] = examined(lab, *words, wait=wait, **more)
        return problems == expected

    good = lab.wait_for(is_right) or is_right('--wait 30')
    return None if good else 'found %s, not %s' % (problems, expected)


def staged(expected, stage, *words, before='', main=()):
    def story():
        with Lab() as lab:
            lab.main_server(*main)
            stage(lab)
            return found(lab, expected, *words, before=before)
    return story


def rogue(lab):
    lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.9/24', 'dev', 'e0')
    lab.spawn('cli', 'dnsmasq', '-k', '--port=0', '--conf-file=/dev/null', '--user=root', '--leasefile-ro',
              '--dhcp-leasefile=/dev/null', '--pid-file=', '--dhcp-range=10.77.0.0,proxy,255.255.255.0',
              '--pxe-service=x86PC,Rogue,pxelinux')
    lab.wait_for_port('cli', 67)


def blocked(lab):
    lab.larder()
    rules = 'add table ip t; add chain ip t i { type filter hook input priority 0; }; add rule ip t i udp dport 69 drop'
    lab.inside('pxe', 'nft', rules)


def nothing(_lab):
    pass


def pinging():
    """dnsmasq looks for three seconds whether an address is free before it offers it: the doctor waits for that."""
    with Lab() as lab:
        lab.spawn('main', 'dnsmasq', '-k', '--port=0', '--conf-file=/dev/null', '--user=root', '--leasefile-ro',
                  '--dhcp-leasefile=/dev/null', '--pid-file=', '--dhcp-range=10.77.0.100,10.77.0.120,1h',
                  '--dhcp-boot=pxelinux.0')
        lab.wait_for_port('main', 67)
        return found(lab, ['main-server-bootfile'], wait='')


def nobody():
    """Without a main server nothing boots: a script must hear of it."""
    with Lab() as lab:
        return found(lab, ['no-main-server'])


def known_machines_only():
    """A main server that knows its machines says nothing to the doctor's: that one of them has booted shows it."""
    mac = '52:54:00:77:02:01'
    with Lab() as lab:
        lab.spawn('main', 'dnsmasq', '-k', '--port=0', '--conf-file=/dev/null', '--user=root', '--leasefile-ro',
                  '--dhcp-leasefile=/dev/null', '--pid-file=', '--dhcp-range=10.77.0.0,static,255.255.255.0',
                  '--dhcp-host=%s,10.77.0.10' % mac)
        lab.wait_for_port('main', 67)
        lab.larder()
        why = found(lab, ['no-main-server'])
        if why:
            return why
        lab.inside('cli', 'ip', 'link', 'set', 'e0', 'down')
        lab.inside('cli', 'ip', 'link', 'set', 'e0', 'address', mac)
        lab.inside('cli', 'ip', 'link', 'set', 'e0', 'up')
        leased = lab.inside('cli', 'busybox', 'udhcpc', '-n', '-q', '-f', '-t', '15', '-i', 'e0', '-s', '/bin/true',
                            '-V', 'PXEClient:Arch:00000:UNDI:002001', '-x', '0x5d:0000', '-x', '0x5e:010201')
        lab.inside('cli', 'ip', 'addr', 'add', '10.77.0.10/24', 'dev', 'e0')
        loaded = lab.inside('cli', 'curl', '-s', '-o', '/dev/null', 'tftp://%s/undionly.kpxe' % SERVER)
        if loaded.returncode:
            return 'the program was not loaded: %s %s' % (loaded.stderr, leased.stderr)
        return found(lab, [])


def down():
    """A link that is down though it has its address is to be set up: giving it another is no help."""
    with Lab() as lab:
        lab.inside('pxe', 'ip', 'link', 'set', 'e0', 'down')
        told = lab.inside('pxe', LARDER, 'boot', 'doctor', '--interface', 'e0', '--wait', '1')
        return None if 'ip link set e0 up' in told.stdout else told.stdout + told.stderr


def utf_16():
    """A file that an editor saved as UTF-16 is named as that."""
    with Lab() as lab:
        with open(lab.path('dnsmasq.conf'), 'wb') as file:
            file.write('port=0\n'.encode('utf-16'))
        with open(lab.path('all.conf'), 'w') as file:
            file.write('conf-file=%s\n' % lab.path('dnsmasq.conf'))
        for name in ('dnsmasq.conf', 'all.conf'):
            told = lab.inside('pxe', LARDER, 'boot', 'doctor', '--dnsmasq-conf', lab.path(name), '--wait', '1')
            if told.returncode != 2 or 'the file is UTF-16' not in told.stderr:
                return 'exit %d: %s' % (told.returncode, told.stdout + told.stderr)


stories = Stories()
stories.tell('healthy', staged([], nothing))
stories.tell('no-main-server', nobody)
stories.tell('rogue-pxe-server', staged(['rogue-pxe-server'], rogue))
stories.tell('main-server-bootfile', staged(['main-server-bootfile'], nothing, main=['boot_file pxelinux.0']))
stories.tell('main-server-that-pings-first', pinging)
stories.tell('tftp-blocked', staged(['tftp-blocked'], blocked))
stories.tell('missing-loader', staged(['missing-loader'], nothing, before='cp /usr/lib/ipxe/undionly.kpxe /tmp/larder-bios.$$ && mount -t tmpfs none /usr/lib/ipxe && mount -t tmpfs none /boot && mv /tmp/larder-bios.$$ /usr/lib/ipxe/undionly.kpxe &&'))
stories.tell('no-pxedhcp', staged(['no-pxedhcp'], nothing, main=['opt 0xaf b00101']))
stories.tell('interface-without-address', staged(['interface-without-address'], lambda lab: lab.inside('pxe', 'ip', 'addr', 'flush', 'dev', 'e0'), '--interface', 'e0'))
stories.tell('link-that-is-down', down)
stories.tell('known-machines-only', known_machines_only)
stories.tell('utf-16', utf_16)
stories.end()

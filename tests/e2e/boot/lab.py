"""A link with a main DHCP server, larder and machines on it, in network namespaces of its own.

Every story script runs alone: it takes the program in $LARDER (or $LARDER_BINARY, as tests/run sets it),
prints a line `ok NAME` or `FAIL NAME why` for each story, at the end their counts, and exits non-zero if
one failed. `SKIP NAME …` stands only where a named probe says that the machine cannot do it. Nothing
leaves the namespaces.
"""
import os, re, shutil, signal, socket, subprocess, sys, tempfile, threading, time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TARGET = os.environ.get('CARGO_TARGET_DIR') or os.path.join(REPOSITORY, 'target')
LARDER = os.path.abspath(os.environ.get('LARDER') or os.environ.get('LARDER_BINARY') or TARGET + '/debug/larder')
IS_LONG = bool(os.environ.get('LARDER_TESTS_LONG'))
SERVER, MAIN = '10.77.0.2', '10.77.0.1'
MAC = '52:54:00:77:00:20'
# What others do is waited for so long: on a busy machine a process may get no turn for many seconds.
PATIENCE = 60


def run(*command, check=True, **more):
    return subprocess.run(command, check=check, capture_output=True, **{'text': True, **more})


def own_mounts():
    """Starts the script again where mounts are its own, with an empty /run: namespaces and larder's default
    socket are files there, and neither the machine's nor another run's are in the way or give the answers.
    Where that cannot be, the probe will say so."""
    if os.environ.get('LARDER_LAB_MOUNTS'):
        return
    os.environ['LARDER_LAB_MOUNTS'] = 'own'
    os.environ['LARDER_CONFIG'] = '/dev/null'
    unshare = ['unshare', '-m'] if os.geteuid() == 0 else ['unshare', '-m', '-n', '-r']
    if run(*unshare, 'true', check=False).returncode == 0:
        mount = 'mount -t tmpfs -o mode=755 none /run && mkdir /run/netns; exec "$0" "$@"'
        os.execvp('unshare', [*unshare, 'sh', '-c', mount, sys.executable, *sys.argv])


def can_unshare():
    """The probe: may this machine make network namespaces?"""
    answer = run('ip', 'netns', 'add', 'lbt_probe', check=False)
    run('ip', 'netns', 'del', 'lbt_probe', check=False)
    return answer.returncode == 0, answer.stderr.strip()


class Lab:
    """Namespaces `sw` (a bridge), `main`, `pxe` and `cli`; all processes end with it."""

    names = ('sw', 'main', 'pxe', 'cli')

    def __init__(self):
        self.prefix = 'lb%d' % os.getpid()
        self.folder = tempfile.mkdtemp(prefix='larder-boot-')
        self.processes = []

    def ns(self, name):
        return '%s_%s' % (self.prefix, name)

    def __enter__(self):
        for name in self.names:
            run('ip', 'netns', 'add', self.ns(name))
            run('ip', '-n', self.ns(name), 'link', 'set', 'lo', 'up')
        run('ip', '-n', self.ns('sw'), 'link', 'add', 'br0', 'type', 'bridge')
        run('ip', '-n', self.ns('sw'), 'link', 'set', 'br0', 'up')
        for name in self.names[1:]:
            run('ip', '-n', self.ns('sw'), 'link', 'add', 'p_' + name, 'type', 'veth', 'peer', 'name', 'e0',
                'netns', self.ns(name))
            run('ip', '-n', self.ns('sw'), 'link', 'set', 'p_' + name, 'master', 'br0', 'up')
            run('ip', '-n', self.ns(name), 'link', 'set', 'e0', 'up')
        run('ip', '-n', self.ns('main'), 'addr', 'add', MAIN + '/24', 'dev', 'e0')
        run('ip', '-n', self.ns('pxe'), 'addr', 'add', SERVER + '/24', 'dev', 'e0')
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for name in self.names:
            run('ip', 'netns', 'del', self.ns(name), check=False)
        if os.environ.get('LARDER_TESTS_KEEP'):
            print('   kept ' + self.folder)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def spawn(self, name, *command, log=None):
        out = open(self.path(log), 'w') if log else subprocess.DEVNULL
        process = subprocess.Popen(['ip', 'netns', 'exec', self.ns(name), *command], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=subprocess.STDOUT)
        self.processes.append(process)
        return process

    def inside(self, name, *command, check=False, **more):
        return run('ip', 'netns', 'exec', self.ns(name), *command, check=check, **more)

    def log(self, name):
        try:
            with open(self.path(name), errors='replace') as file:
                return file.read()
        except FileNotFoundError:
            return ''

    def wait_for(self, what, seconds=PATIENCE):
        """Waits until `what()` is true, and looks once more at the end."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if what():
                return True
            time.sleep(0.1)
        return bool(what())

    def wait_for_port(self, name, port):
        """Waits until somebody in that namespace has the UDP port."""
        words = ['ss', '-Hlun', 'sport = :%d' % port]
        if not self.wait_for(lambda: self.inside(name, *words, check=True).stdout.strip()):
            raise RuntimeError('nobody has port %d in %s' % (port, name))

    def main_server(self, *lines, namespace='main'):
        conf = ['start 10.77.0.100', 'end 10.77.0.150', 'interface e0', 'option subnet 255.255.255.0',
                'option router 10.77.0.1', 'option lease 3600', 'pidfile ' + self.path('udhcpd.pid'),
                'lease_file ' + self.path('udhcpd.leases'), *lines]
        with open(self.path('udhcpd.conf'), 'w') as file:
            file.write('\n'.join(conf) + '\n')
        open(self.path('udhcpd.leases'), 'w').close()
        self.spawn(namespace, 'busybox', 'udhcpd', '-f', self.path('udhcpd.conf'), log='udhcpd.log')
        self.wait_for_port(namespace, 67)

    def larder(self, *words, through=()):
        """Starts larder and waits until its sockets accept."""
        process = self.spawn('pxe', *through, LARDER, 'boot', 'serve', *words, log='larder.log')
        if not self.wait_for(lambda: 'mode=pxe' in self.log('larder.log') or process.poll() is not None):
            raise RuntimeError('larder did not start')
        if process.poll() is not None:
            raise RuntimeError('larder ended: ' + self.log('larder.log'))
        time.sleep(0.2)
        return process

    def machine(self, firmware, *more, card='virtio-net-pci', mac=MAC, reboots=False):
        """Starts a virtual machine that boots from the network; its serial console is in `serial.log`."""
        run('ip', '-n', self.ns('sw'), 'tuntap', 'add', 't0', 'mode', 'tap', check=False)
        run('ip', '-n', self.ns('sw'), 'link', 'set', 't0', 'master', 'br0', 'up')
        command = ['qemu-system-x86_64', '-machine', 'q35', '-m', '512', '-nographic', '-nodefaults', '-serial',
                   'file:' + self.path('serial.log'), '-netdev', 'tap,id=n0,ifname=t0,script=no,downscript=no',
                   '-boot', 'n', *([] if reboots else ['-no-reboot'])]
        card = '%s,netdev=n0,mac=%s' % (card, mac)
        if firmware == 'bios':
            command += ['-device', card]
        else:
            shutil.copy('/usr/share/OVMF/OVMF_VARS_4M.fd', self.path('vars.fd'))
            code = 'if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd'
            variables = 'if=pflash,format=raw,unit=1,file=' + self.path('vars.fd')
            command += ['-device', card + ',romfile=', '-drive', code, '-drive', variables,
                        '-object', 'rng-random,id=r0,filename=/dev/urandom', '-device', 'virtio-rng-pci,rng=r0']
        if firmware == 'http':
            for version in ('4', '6'):
                command += ['-fw_cfg', 'name=opt/org.tianocore/IPv%sPXESupport,string=n' % version]
        return self.spawn('sw', *command, *more, log='qemu.log')


class Stories:
    """Runs stories by name and counts what failed."""

    def __init__(self):
        own_mounts()
        self.passed = self.failed = self.skipped = 0
        self.wanted = sys.argv[1:]

    def tell(self, name, story):
        if self.wanted and name not in self.wanted:
            return
        can, said = can_unshare()
        if not can:
            self.skipped += 1
            print('SKIP %s probe ip-netns-add: %s' % (name, said), flush=True)
            return
        begun = time.time()
        try:
            why = story()
        except Exception as error:  # a story that breaks has failed, and the next one still runs
            why = '%s: %s' % (type(error).__name__, error)
        if why:
            self.failed += 1
            print('FAIL %s %s' % (name, ' '.join(str(why).split())[-600:]), flush=True)
        else:
            self.passed += 1
            print('ok %s (%d s)' % (name, time.time() - begun), flush=True)

    def end(self):
        print('%d passed, %d failed, %d skipped' % (self.passed, self.failed, self.skipped))
        told = self.passed + self.failed + self.skipped
        if not told:
            print('no story was told' + (': there is none of ' + ' '.join(self.wanted) if self.wanted else ''))
        sys.exit(1 if self.failed or not told else 0)

#!/usr/bin/env python3
"""Virtual machines boot from larder beside an untouched DHCP server. Needs qemu-system-x86, ovmf, ipxe,
ipxe-qemu, busybox and iproute2; run as root: vm.py [STORY…]"""
import os, shutil
from lab import IS_LONG, SERVER, Lab, Stories

# Firmware may be emulated, on a machine that has much else to do.
SECONDS = 600
WEB = '''
import http.server, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, form, *values):
        print(form % values, flush=True)
http.server.ThreadingHTTPServer(('SERVER', 8000), lambda *a: Handler(*a, directory=sys.argv[1])).serve_forever()
'''.replace('SERVER', SERVER)


def web(lab, script):
    """An own web server whose log shows how far a machine came."""
    os.mkdir(lab.path('www'))
    with open(lab.path('www/boot.ipxe'), 'w') as file:
        file.write(script)
    lab.spawn('pxe', 'python3', '-u', '-c', WEB, lab.path('www'), log='web.log')


def boots(firmware, words):
    def story():
        with Lab() as lab:
            unique = 'reached-%s-%d' % (firmware, os.getpid())
            web(lab, '#!ipxe\nimgfetch http://%s:8000/%s ||\nprompt\n' % (SERVER, unique))
            lab.main_server()
            lab.larder(*[word.replace('ROOT', lab.folder) for word in words])
            if any(word.startswith('--tftp-root') for word in words):
                shutil.copy('/usr/lib/ipxe/undionly.kpxe', lab.folder)
            lab.machine(firmware)
            if lab.wait_for(lambda: unique in lab.log('web.log'), SECONDS):
                return None
            return 'larder: %s serial: %s' % (lab.log('larder.log')[-300:], lab.log('serial.log')[-200:])
    return story


NEXT = ['--next', 'http://%s:8000/boot.ipxe' % SERVER]
SEED = ['--', '-d', '-q', '--dhcp-range=10.77.0.1,proxy,255.255.255.0', '--enable-tftp', '--tftp-root=ROOT',
        '--dhcp-userclass=set:ipxe,iPXE', '--pxe-service=tag:#ipxe,x86PC,PXE chainload to iPXE,undionly.kpxe',
        '--pxe-service=tag:ipxe,x86PC,iPXE,http://%s:8000/boot.ipxe' % SERVER, '--log-queries', '--log-dhcp']

stories = Stories()
stories.tell('uefi-pxe', boots('uefi', NEXT))
stories.tell('uefi-http', boots('http', NEXT))
# A virtual machine takes half a minute: what follows is for long runs. The tour boots a BIOS machine.
if IS_LONG:
    stories.tell('bios-rom', boots('bios', NEXT))
    stories.tell('seed-words-uefi', boots('uefi', SEED))
    stories.tell('seed-words-bios', boots('bios', SEED))
stories.end()

#!/usr/bin/env python3
"""Record what dnsmasq 2.90 answers to fixed client packets, as the JSON files beside this script.

Run as root on Linux with dnsmasq 2.90 (dnsmasq-base of Debian 12) and iproute2:

    python3 make.py            record all sets
    python3 make.py seed       record one set

It makes two network namespaces joined by a veth pair, runs dnsmasq in the one, and sends and captures
whole frames in the other; nothing leaves the namespaces. The tests read the recordings alone, so they
need neither dnsmasq nor rights.
"""
import json, os, socket, struct, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
SERVER, CLIENT, RELAY = '10.77.0.2', '10.77.0.10', '10.99.0.1'
CLIENT_MAC = bytes.fromhex('525400770010')
COOKIE = bytes([99, 130, 83, 99])


def option(code, value):
    return bytes([code, len(value)]) + value


def packet(arch=0, kind=1, vendor='PXEClient', bare=False, user=None, uuid=True, item=None, layer=0,
           flags=0, ciaddr='0.0.0.0', giaddr='0.0.0.0', xid=0x11223344, secs=4, extra=b'', size=300,
           mac=CLIENT_MAC, htype=1, hlen=6, arch_raw=None, ipxe=None, end=True, file=b'', sname=b'', first=b'',
           op=1, prl=True, agent=None):
    """One client packet; every keyword is a field that some branch looks at."""
    options = first + option(53, bytes([kind])) if kind is not None else first
    if vendor is not None:
        text = vendor if bare else '%s:Arch:%05d:UNDI:003001' % (vendor, arch or 0)
        options += option(60, text.encode())
    if arch_raw is not None:
        options += option(93, arch_raw)
    elif arch is not None:
        options += option(93, struct.pack('>H', arch))
    options += option(94, b'\x01\x03\x01')
    if uuid is True:
        options += option(97, b'\0' + bytes(range(1, 17)))
    elif uuid:
        options += option(97, uuid)
    if user is not None:
        options += option(77, user)
    if item is not None:
        options += option(43, option(71, struct.pack('>HH', item, layer)) + b'\xff')
    if ipxe is not None:
        options += option(175, ipxe)
    if prl:
        options += option(55, bytes([1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 97]))
    options += extra
    if agent is not None:
        options += option(82, agent)
    if end:
        options += b'\xff'
    head = struct.pack('>BBBBIHH', op, htype, hlen, 0, xid, secs, flags)
    head += socket.inet_aton(ciaddr) + b'\0' * 8 + socket.inet_aton(giaddr) + mac.ljust(16, b'\0')
    data = head + sname.ljust(64, b'\0') + file.ljust(128, b'\0') + COOKIE + options
    return data.ljust(size, b'\0')


BROADCAST = dict(port=67, source='0.0.0.0', sport=68, target='255.255.255.255')
UNICAST = dict(port=4011, source=CLIENT, sport=68, target=SERVER)
EFI4011 = dict(port=4011, source=CLIENT, sport=4011, target=SERVER)
RELAYED = dict(port=67, source=RELAY, sport=67, target=SERVER)

SEED = ['-d', '-q', '--port=0', '--dhcp-range=10.77.0.1,proxy,255.255.255.0', '--enable-tftp',
        '--tftp-root=/var/lib/tftpboot', '--dhcp-userclass=set:ipxe,iPXE',
        '--pxe-service=tag:#ipxe,x86PC,PXE chainload to iPXE,undionly.kpxe',
        '--pxe-service=tag:ipxe,x86PC,iPXE,http://10.77.0.2:8080/boot.ipxe', '--log-queries', '--log-dhcp']
RANGE = '--dhcp-range=10.77.0.0,proxy,255.255.255.0'
FEATURES = bytes.fromhex('b105011af41000eb03010000170101220101130101110101270101190101290101100102210101')


def c(name, way, **fields):
    return name, way, packet(**fields)


SECOND = '192.168.9.2'
INNER = '--dhcp-range=set:a,10.77.0.0,proxy,255.255.255.0'
OUTER = '--dhcp-range=set:g,10.0.0.0,proxy,255.0.0.0'
OVERLAPPING = [
    c('of overlapping ranges on the link the first one counts', BROADCAST),
    c('of overlapping ranges behind a relay the first one counts', RELAYED, giaddr='10.77.0.10'),
    c('a relay of one range alone', RELAYED, giaddr=RELAY),
    c('of overlapping ranges by link selection the first one counts', RELAYED, giaddr=RELAY,
      agent=option(5, socket.inet_aton('10.77.0.0'))),
    c('of overlapping ranges by subnet selection the first one counts', BROADCAST,
      extra=option(118, socket.inet_aton('10.77.0.0'))),
    c('the item through a relay of overlapping ranges', dict(UNICAST, source=RELAY), kind=3, item=0x8001, ciaddr=RELAY),
]
HOSTS = [RANGE, '--pxe-service=x86PC,a,b', '--dhcp-ignore=tag:x']

SETS = {
    'seed': (SEED, [
        c('bios discover gets the menu', BROADCAST),
        c('bios discover with the broadcast flag', BROADCAST, flags=0x8000),
        c('bios discover without a machine id', BROADCAST, uuid=False),
        c('machine id of a wrong length is not echoed', BROADCAST, uuid=bytes(13)),
        c('machine id too long is cut to 17 bytes', BROADCAST, uuid=bytes(range(20))),
        c('bios discover with a ciaddr set', BROADCAST, ciaddr=CLIENT),
        c('bios discover of 1500 bytes', BROADCAST, size=1472),
        c('bios discover of the smallest size', BROADCAST, size=240, prl=False),
        c('ipxe discover gets its own item', BROADCAST, user=b'iPXE', ipxe=FEATURES),
        c('ipxe with a counted user class', BROADCAST, user=b'\x04iPXE'),
        c('ipxe inside a longer user class', BROADCAST, user=b'myiPXEbuild'),
        c('two user classes of which one is ipxe', BROADCAST, user=b'\x03foo\x04iPXE'),
        c('user class of another program', BROADCAST, user=b'gPXE'),
        c('user class in other letters', BROADCAST, user=b'ipxe'),
        c('discover without architecture', BROADCAST, arch=None),
        c('discover without vendor class', BROADCAST, vendor=None),
        c('discover of a windows client', BROADCAST, vendor='MSFT 5.0', bare=True, arch=None),
        c('vendor class in other letters', BROADCAST, vendor='pxeclient'),
        c('vendor class that only contains PXEClient', BROADCAST, vendor='xPXEClient', bare=True),
        c('bare vendor class', BROADCAST, bare=True),
        c('architecture of one byte', BROADCAST, arch_raw=b'\0'),
        c('architecture of three bytes', BROADCAST, arch_raw=b'\0\0\7'),
        c('two architectures', BROADCAST, arch_raw=b'\0\0\0\7'),
        c('architecture one has no service', BROADCAST, arch=1),
        c('request on port 67 is the main server\'s', BROADCAST, kind=3),
        c('request with a server id on port 67', BROADCAST, kind=3, extra=option(54, socket.inet_aton('10.77.0.1'))),
        c('inform on port 67', BROADCAST, kind=8, ciaddr=CLIENT),
        c('release', BROADCAST, kind=7, ciaddr=CLIENT),
        c('bootp without a message type', BROADCAST, kind=None),
        c('a reply is no request', BROADCAST, op=2),
        c('hardware address too long', BROADCAST, hlen=17),
        c('typeless hardware address', BROADCAST, htype=0),
        c('infiniband without a hardware address', BROADCAST, htype=32, hlen=0),
        c('truncated last option', BROADCAST, extra=bytes([61, 40, 1, 2]), end=False, prl=False, size=240),
        c('options without an end mark', BROADCAST, end=False, size=240),
        c('overloaded file field holds the architecture', BROADCAST, arch=None, vendor='PXEClient', bare=True,
          extra=option(52, b'\1'), file=option(93, b'\0\0') + b'\xff'),
        c('overloaded server name holds the user class', BROADCAST, extra=option(52, b'\2'),
          sname=option(77, b'iPXE') + b'\xff'),
        c('repeated vendor class: the first one counts', BROADCAST, first=option(60, b'MSFT 5.0')),
        c('small maximum message size', BROADCAST, extra=option(57, struct.pack('>H', 300))),
        c('large maximum message size', BROADCAST, extra=option(57, struct.pack('>H', 9000))),
        c('maximum message size of zero', BROADCAST, extra=option(57, b'\0\0')),
        c('relayed discover from a foreign subnet', RELAYED, giaddr=RELAY),
        c('relayed discover from the proxied subnet', RELAYED, giaddr='10.77.0.10'),
        c('relayed discover with option 82', RELAYED, giaddr='10.77.0.10', agent=option(1, b'port7') + option(2, b'sw')),
        c('relayed with link selection into the subnet', RELAYED, giaddr=RELAY,
          agent=option(5, socket.inet_aton('10.77.0.0'))),
        c('relayed with link selection elsewhere', RELAYED, giaddr='10.77.0.10',
          agent=option(5, socket.inet_aton('10.55.0.0'))),
        c('subnet selection option', BROADCAST, extra=option(118, socket.inet_aton('10.77.0.0'))),
        c('subnet selection elsewhere', BROADCAST, extra=option(118, socket.inet_aton('10.55.0.0'))),
        c('option 82 without an end mark', RELAYED, giaddr='10.77.0.10', agent=option(1, b'x'), end=False, size=240),
        c('server id override', RELAYED, giaddr='10.77.0.10', agent=option(11, socket.inet_aton(RELAY))),
        c('4011 item of the chain service', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('4011 item of the ipxe service', UNICAST, kind=3, item=0x8001, ciaddr=CLIENT, user=b'iPXE'),
        c('4011 item whose tag does not match is served', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT, user=b'iPXE'),
        c('4011 item by inform', UNICAST, kind=8, item=0x8000, ciaddr=CLIENT),
        c('4011 item with transaction zero and broadcast flag', UNICAST, kind=3, item=0x8001, ciaddr=CLIENT, xid=0,
          flags=0x8000, bare=True),
        c('4011 unknown item', UNICAST, kind=3, item=0x8002, ciaddr=CLIENT),
        c('4011 item zero', UNICAST, kind=3, item=0, ciaddr=CLIENT),
        c('4011 item with credentials asked', UNICAST, kind=3, item=0x8000, layer=0x8000, ciaddr=CLIENT),
        c('4011 item of layer one', UNICAST, kind=3, item=0x8000, layer=1, ciaddr=CLIENT),
        c('4011 item without an address', UNICAST, kind=3, item=0x8000),
        c('4011 item from a foreign address', UNICAST, kind=3, item=0x8000, ciaddr='10.55.0.9'),
        c('4011 item without architecture', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT, arch=None),
        c('4011 item with a requested address', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT,
          extra=option(50, socket.inet_aton(CLIENT))),
        c('item request broadcast on port 67', dict(BROADCAST, source=CLIENT), kind=3, item=0x8000, ciaddr=CLIENT,
          flags=0x8000),
        c('4011 request without item', UNICAST, kind=3, ciaddr=CLIENT),
        c('4011 request without item and address', UNICAST, kind=3),
        c('4011 inform without item', UNICAST, kind=8, ciaddr=CLIENT),
        c('4011 discover', UNICAST, kind=1),
        c('4011 request of ipxe without item', UNICAST, kind=3, ciaddr=CLIENT, user=b'iPXE'),
        c('4011 request from port 4011', EFI4011, kind=3, ciaddr=CLIENT),
        c('4011 option 43 too short for an item', UNICAST, kind=3, ciaddr=CLIENT, extra=option(43, b'\x47\2\x80\0')),
        c('uefi discover', BROADCAST, arch=7, flags=0x8000),
        c('uefi 4011 request', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('uefi byte code discover', BROADCAST, arch=9),
        c('arm64 discover', BROADCAST, arch=11),
        c('uefi ipxe discover', BROADCAST, arch=7, user=b'iPXE', ipxe=FEATURES),
        c('http client', BROADCAST, arch=16, vendor='HTTPClient'),
    ]),
    'uefi': ([RANGE, '--dhcp-userclass=set:ipxe,iPXE',
              '--pxe-service=tag:!ipxe,x86PC,BIOS,undionly',
              '--pxe-service=tag:!ipxe,X86-64_EFI,UEFI,snponly.efi',
              '--pxe-service=tag:!ipxe,BC_EFI,  UEFI with blanks , ipxe,10.77.0.9',
              '--pxe-service=11,Arm one,arm1.efi', '--pxe-service=11,Arm two,arm2.efi,10.77.0.8',
              '--pxe-service=IA32_EFI,Number,5,10.77.0.7', '--pxe-service=tag:ipxe,6,Number two,6',
              '--pxe-service=10,Local boot', '--pxe-service=10,Local zero,0',
              '--dhcp-boot=tag:ipxe,http://10.77.0.2/boot.ipxe'], [
        c('a service without extension on 67', BROADCAST),
        c('layer zero is appended to a bare name', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('layer three is appended to a bare name', UNICAST, kind=3, item=0x8000, layer=3, ciaddr=CLIENT),
        c('one uefi service: the offer is empty', BROADCAST, arch=7),
        c('one uefi service: 4011 has the file', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('one uefi service: 4011 without address broadcasts', EFI4011, arch=7, kind=3),
        c('one uefi service on another server', EFI4011, arch=9, kind=3, ciaddr=CLIENT),
        c('item of a service on another server', UNICAST, arch=9, kind=3, item=0x8002, ciaddr=CLIENT),
        c('two uefi services: 67 has neither menu nor file', BROADCAST, arch=11),
        c('two uefi services: 4011 has the menu', EFI4011, arch=11, kind=3, ciaddr=CLIENT),
        c('a numbered boot type with a server', EFI4011, arch=6, kind=3, ciaddr=CLIENT),
        c('a numbered boot type without a server broadcasts', EFI4011, arch=6, kind=3, ciaddr=CLIENT, user=b'iPXE'),
        c('item of a numbered type is not ours', UNICAST, arch=6, kind=3, item=5, ciaddr=CLIENT),
        c('local boot items only', EFI4011, arch=10, kind=3, ciaddr=CLIENT),
        c('local boot items on 67', BROADCAST, arch=10),
        c('uefi ipxe takes the boot file on 67', BROADCAST, arch=7, user=b'iPXE'),
        c('uefi ipxe takes the boot file on 4011', UNICAST, arch=7, kind=3, ciaddr=CLIENT, user=b'iPXE'),
        c('bios ipxe takes the boot file without a server', BROADCAST, user=b'iPXE'),
        c('architecture without any service', BROADCAST, arch=15),
    ]),
    'boot': ([RANGE, '--dhcp-match=set:ipxe,175', '--dhcp-match=set:efi64,option:client-arch,7',
              '--dhcp-match=efi64b,93,9', '--dhcp-vendorclass=set:bios,PXEClient:Arch:00000',
              '--dhcp-vendorclass=oldspelling,PXEClient:Arch:00006',
              '--dhcp-match=set:hexed,93,00:0b', '--dhcp-match=set:host,12,lab', '--tag-if=set:both,tag:ipxe,tag:bios',
              '--tag-if=set:neither,tag:!ipxe,tag:!bios', '--dhcp-mac=set:lab,52:54:00:aa:*:*',
              '--dhcp-host=52:54:00:bb:00:01,set:special,set:more', '--dhcp-name-match=set:named,web*',
              '--dhcp-ignore=tag:named', '--pxe-prompt=Wait,3',
              '--dhcp-boot=first.0', '--dhcp-boot=last.0,boothost,10.77.0.9',
              '--dhcp-boot=tag:bios,tag:!ipxe,bios.0', '--dhcp-boot=tag:both,both.ipxe,,10.77.0.4',
              '--dhcp-boot=tag:efi64,efi.efi', '--dhcp-boot=net:efi64b,byte-code.efi',
              '--dhcp-boot=tag:hexed,arm.efi', '--dhcp-boot=tag:lab,lab.0', '--dhcp-boot=tag:special,tag:more,special.0',
              '--dhcp-boot=tag:oldspelling,ia32.efi', '--dhcp-boot=tag:known,known.0'], [
        c('two tags of which one is negated', BROADCAST),
        c('a tag made of two others', BROADCAST, ipxe=b'\x13\1\1'),
        c('a boot file for uefi on 67', BROADCAST, arch=7),
        c('a boot file for uefi on 4011', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('the old net spelling of a tag', BROADCAST, arch=9),
        c('a tag without set', BROADCAST, arch=6),
        c('a match in hexadecimal', BROADCAST, arch=11),
        c('no tag at all: the last line without tags', BROADCAST, arch=10),
        c('several architectures are matched as a list', BROADCAST, arch_raw=b'\0\x0a\0\7'),
        c('a hardware address with wildcards', BROADCAST, arch=10, mac=bytes.fromhex('525400aa0102')),
        c('the tags of a host', BROADCAST, arch=10, mac=bytes.fromhex('525400bb0001')),
        c('an ignored host name', BROADCAST, extra=option(12, b'web17')),
        c('a host name that is not ignored', BROADCAST, extra=option(12, b'db17')),
        c('ignored on 4011 too', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT, extra=option(12, b'web17')),
        c('ipxe without item takes the boot file on 4011', UNICAST, kind=3, ciaddr=CLIENT, ipxe=b'\x13\1\1'),
    ]),
    'prompt': ([RANGE, '--dhcp-pxe-vendor=PXEClient,HTTPClient', '--pxe-prompt=tag:!quiet,Press F8,20',
                '--dhcp-userclass=set:quiet,quiet', '--dhcp-option=vendor:PXEClient,6,2b',
                '--dhcp-option=vendor:PXEClient,1,0.0.0.0', '--dhcp-option=vendor:Other,9,text',
                '--dhcp-option=vendor:PXEClient,12,some text', '--dhcp-option=tag:quiet,vendor:PXEClient,13,00:01:fe',
                '--dhcp-option=66,10.0.0.1', '--dhcp-option-force=67,forced',
                '--pxe-service=x86PC,Install,install', '--pxe-service=x86PC,Boot from disk',
                '--pxe-service=x86PC,Elsewhere,17', '--pxe-service=x86-64_EFI,Install,install.efi',
                '--dhcp-vendorclass=set:http,HTTPClient', '--dhcp-boot=tag:http,http://10.77.0.2/boot.efi'], [
        c('a prompt with a time', BROADCAST),
        c('without the prompt its default for several items', BROADCAST, user=b'quiet'),
        c('vendor options follow the chosen item', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('http client of a listed vendor', BROADCAST, arch=16, vendor='HTTPClient'),
        c('http client of a listed vendor on 4011', UNICAST, arch=16, vendor='HTTPClient', kind=3, ciaddr=CLIENT),
        c('uefi with one service keeps the prompt away', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('a vendor of neither list', BROADCAST, vendor='AAPLBSDPC'),
    ]),
    'prompt-only': ([RANGE, '--pxe-prompt=Only a prompt', '--dhcp-boot=pxelinux.0,,10.77.0.5'], [
        c('a prompt alone turns the proxy on', BROADCAST),
        c('a prompt alone on 4011', UNICAST, kind=3, ciaddr=CLIENT),
        c('a prompt alone for uefi', BROADCAST, arch=7),
        c('a prompt alone for uefi on 4011', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
    ]),
    'boot-only': ([RANGE, '--dhcp-boot=pxelinux.0'], [
        c('a boot file alone does not turn the proxy on', BROADCAST),
    ]),
    'large': ([RANGE] + ['--pxe-service=x86PC,%s,file%d.0' % ('Entry number %d with a long text' % n, n) for n in range(6)]
              + ['--pxe-service=6,%s,file.efi' % ('x' * 110)] * 3
              + ['--pxe-service=7,%s,file%d.efi' % ('y' * 70, n) for n in range(3)]
              + ['--dhcp-option=vendor:PXEClient,%d,%s' % (n, 'z' * 120) for n in (100, 101)], [
        c('a long menu takes two options', BROADCAST),
        c('a long menu and a large limit', BROADCAST, extra=option(57, struct.pack('>H', 1472))),
        c('a menu beyond its limit is left out', UNICAST, arch=6, kind=3, ciaddr=CLIENT),
        c('a long menu for uefi', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('long vendor options behind an item', UNICAST, kind=3, item=0x8001, ciaddr=CLIENT),
    ]),
    'named': ([RANGE, '--pxe-service=x86PC,P,p.0,pxe.invalid', '--pxe-service=X86-64_EFI,Q,q.efi,pxe.invalid',
               '--pxe-service=10,R,5,pxe.invalid', '--dhcp-userclass=set:ipxe,iPXE',
               '--dhcp-boot=tag:ipxe,b.0,name,pxe.invalid'], [
        c('a menu item on a named server', BROADCAST),
        c('the chosen item on a named server', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('one uefi service on a named server: the offer is empty', BROADCAST, arch=7),
        c('one uefi service on a named server: its name goes along', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('a numbered type on a named server', EFI4011, arch=10, kind=3, ciaddr=CLIENT),
        c('a boot file on a named server', BROADCAST, arch=9, user=b'iPXE'),
    ]),
    'odd': ([RANGE, '--pxe-service=65536,Wrapped,w.0', '--pxe-service=,Empty,', '--pxe-service=x86PC,Type,65537',
             '--pxe-service=65543,Seven,seven.efi', '--dhcp-userclass=set:else,else',
             '--dhcp-boot=tag:else,,name,10.77.0.5', '--dhcp-boot='], [
        c('numbers of architectures are cut to 16 bits', BROADCAST),
        c('numbers of architectures are cut for uefi too', EFI4011, arch=7, kind=3, ciaddr=CLIENT),
        c('the item behind such numbers', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('a boot line without a file', BROADCAST, arch=9),
        c('a boot line without a file for bios', BROADCAST, user=b'else'),
    ]),
    'subnets': (['--dhcp-range=set:here,10.77.0.0,proxy', '--dhcp-range=set:there,10.99.0.0,proxy,255.255.255.0',
                 '--dhcp-range=tag:never,10.55.0.0,proxy,255.255.255.0', '--pxe-service=tag:here,x86PC,Here,here.0',
                 '--pxe-service=tag:there,x86PC,There,there.0', '--pxe-service=tag:p_pxe,x86PC,Interface,interface.0'], [
        c('a range without mask takes the interface\'s', BROADCAST),
        c('a relayed client takes the tag of its range', RELAYED, giaddr=RELAY),
        c('a range behind a tag is not used without it', RELAYED, giaddr=RELAY,
          agent=option(5, socket.inet_aton('10.55.0.0'))),
        c('item through a relay', dict(UNICAST, source=RELAY), kind=3, item=0x8001, ciaddr=RELAY),
    ]),
    'second': (['--dhcp-range=192.168.9.0,proxy', '--pxe-service=x86PC,a,b', '--pxe-service=X86-64_EFI,c,d.efi'], [
        c('a range of a second address names that address', BROADCAST),
        c('the chosen item on a second address', dict(UNICAST, source='192.168.9.50', target=SECOND), kind=3, item=0x8000,
          ciaddr='192.168.9.50'),
        c('the chosen item of a client elsewhere', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('uefi 4011 request to the second address', dict(EFI4011, source='192.168.9.50', target=SECOND), arch=7, kind=3,
          ciaddr='192.168.9.50'),
    ]),
    'both': (['--dhcp-range=set:one,10.77.0.0,proxy', '--dhcp-range=set:two,192.168.9.0,proxy',
              '--pxe-service=tag:one,x86PC,One,one.0', '--pxe-service=tag:two,x86PC,Two,two.0'], [
        c('of two subnets on one link the later address goes before', BROADCAST),
        c('the item of a client on the first subnet', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT),
        c('the item of a client on the second subnet', dict(UNICAST, source='192.168.9.50', target=SECOND), kind=3,
          item=0x8001, ciaddr='192.168.9.50'),
    ]),
    'listen-lo': ([RANGE, '--pxe-service=x86PC,a,b', '--listen-address=127.0.0.1'], [
        c('an address elsewhere keeps silent here', BROADCAST),
    ]),
    'listen-both': ([RANGE, '--pxe-service=x86PC,a,b', '--listen-address=127.0.0.1', '--interface=p_pxe'], [
        c('addresses and interfaces are united', BROADCAST),
    ]),
    'wild': ([RANGE, '--pxe-service=x86PC,a,b', '--interface=p*'], [c('a star stands for any rest', BROADCAST)]),
    'never': ([RANGE, '--pxe-service=x86PC,a,b', '--no-dhcp-interface=p*'], [c('a star leaves out as well', BROADCAST)]),
    'except': ([RANGE, '--pxe-service=x86PC,a,b', '--except-interface=p*', '--listen-address=' + SERVER], [
        c('a listed address goes before an exception', BROADCAST),
    ]),
    'hosts': (HOSTS + ['--dhcp-host=id:abc,set:x', '--dhcp-mac=set:x,6-52:54:*:*:*:*', '--dhcp-host=06-52:54:00:77:00:10,set:x',
                       '--dhcp-mac=set:x,1-52:54:00:aa:*:*', '--dhcp-host=mybox,set:x', '--dhcp-host=id:01:02,set:x'], [
        c('hardware of another kind is another address', BROADCAST),
        c('a text identifier behind its zero', BROADCAST, extra=option(61, b'\0abc')),
        c('a text identifier alone', BROADCAST, extra=option(61, b'abc')),
        c('a text identifier that is longer', BROADCAST, extra=option(61, b'\0abcd')),
        c('an identifier in hexadecimal', BROADCAST, extra=option(61, b'\1\2')),
        c('an identifier in hexadecimal behind a zero', BROADCAST, extra=option(61, b'\0\1\2')),
        c('hardware of the kind that is written', BROADCAST, mac=bytes.fromhex('525400aa0102')),
        c('a host by the name that it gives itself', BROADCAST, extra=option(12, b'mybox')),
        c('a host by its name in other letters', BROADCAST, extra=option(12, b'MyBox')),
        c('a host by its name with a domain', BROADCAST, extra=option(12, b'mybox.lan')),
        c('a host by another name', BROADCAST, extra=option(12, b'mybox2')),
    ]),
    'overlap': ([INNER, OUTER, '--pxe-service=tag:a,x86PC,A,a', '--pxe-service=tag:g,x86PC,G,g'], OVERLAPPING),
    'overlap-turned': ([OUTER, INNER, '--pxe-service=tag:a,x86PC,A,a', '--pxe-service=tag:g,x86PC,G,g'], OVERLAPPING),
    'range-net': (['--dhcp-range=net:lan,10.77.0.0,proxy,255.255.255.0', '--dhcp-userclass=set:lan,lan',
                   '--pxe-service=x86PC,a,b'], [
        c('the old spelling of a tag is a condition', BROADCAST),
        c('the old spelling of a tag is a condition that holds', BROADCAST, user=b'lan'),
    ]),
    # No case has a host of another subnet and a name that is known as well: dnsmasq 2.90 then goes in circles for ever.
    'names': ([RANGE, '--dhcp-host=node1,set:a', '--dhcp-host=52:54:00:aa:00:01,10.99.0.4,set:b',
               '--dhcp-host=52:54:00:aa:00:02,10.77.0.9,set:b', '--dhcp-host=52:54:00:aa:00:03,ignore',
               '--dhcp-host=away1,10.99.0.5,set:b', '--dhcp-host=id:77,10.99.0.6,set:b', '--dhcp-name-match=set:m,match1',
               '--dhcp-name-match=set:w,wild*']
              + ['--pxe-service=tag:%s,x86PC,%s,f' % (tag, tag) for tag in ('a', 'b', 'm', 'w', 'known', 'known-othernet')]
              + ['--pxe-service=x86PC,all,f'], [
        c('a name in option 12', BROADCAST, extra=option(12, b'node1')),
        c('a name in option 81', BROADCAST, extra=option(81, b'\0\0\0node1')),
        c('a name in option 81 with a zero behind', BROADCAST, extra=option(81, b'\0\0\0node1\0')),
        c('a name in option 81 with a domain', BROADCAST, extra=option(81, b'\0\0\0Node1.lan')),
        c('a name in option 81 in wire form', BROADCAST, extra=option(81, b'\4\0\0\5node1\3lan\0')),
        c('a name in option 81 in wire form without its end', BROADCAST, extra=option(81, b'\4\0\0\5node1')),
        c('option 81 goes before option 12', BROADCAST, extra=option(12, b'node1') + option(81, b'\0\0\0match1')),
        c('option 81 with a wrong name leaves none', BROADCAST, extra=option(12, b'node1') + option(81, b'\0\0\0-x')),
        c('option 81 with a blank in its name leaves none', BROADCAST, extra=option(12, b'node1') + option(81, b'\0\0\0a b')),
        c('option 81 without a name leaves none', BROADCAST, extra=option(12, b'node1') + option(81, b'\0\0\0')),
        c('option 81 that is too short is none', BROADCAST, extra=option(12, b'node1') + option(81, b'\0\0')),
        c('a match of the name in option 12', BROADCAST, extra=option(12, b'match1')),
        c('a match of the name in option 81', BROADCAST, extra=option(81, b'\0\0\0match1')),
        c('a match of a name with a domain', BROADCAST, extra=option(12, b'match1.lan')),
        c('a match of the beginning of a name', BROADCAST, extra=option(81, b'\0\0\0wild7.lan')),
        c('a host with an address of another subnet', BROADCAST, mac=bytes.fromhex('525400aa0001')),
        c('a host with an address of this subnet', BROADCAST, mac=bytes.fromhex('525400aa0002')),
        c('a host that is ignored', BROADCAST, mac=bytes.fromhex('525400aa0003')),
        c('a host that is ignored asks for an item', UNICAST, kind=3, item=0x8000, ciaddr=CLIENT,
          mac=bytes.fromhex('525400aa0003')),
        c('a name with an address of another subnet', BROADCAST, extra=option(12, b'away1')),
        c('an identifier with an address of another subnet', BROADCAST, extra=option(61, b'77')),
    ]),
    'values': ([RANGE, '--pxe-service=x86PC,a,b', '--dhcp-userclass=set:u,', '--dhcp-vendorclass=set:v,',
                '--pxe-service=tag:u,x86PC,u,u', '--pxe-service=tag:v,x86PC,v,v', '--dhcp-option=vendor:PXEClient,'] + ['--dhcp-option=vendor:PXEClient,%s' % value for value in (
        '20,b', '21,s', '22,i', '23,00:*', '24', '25,', '26,-1', '27,1b', '28,*:*:07', '29,0.0.0.0/8', '30,12:xx', '31,10.1.2.3/20,10.0.0.1', '300,1')], [
        c('values at the edge of their forms', BROADCAST),
        c('an empty text is in every class', BROADCAST, user=b'x'),
    ]),
}


def run(*command):
    subprocess.run(command, check=True)


def ip(*words):
    run('ip', *words)


def build():
    for name in ('gold_pxe', 'gold_cli'):
        ip('netns', 'add', name)
        ip('-n', name, 'link', 'set', 'lo', 'up')
    ip('-n', 'gold_pxe', 'link', 'add', 'p_pxe', 'type', 'veth', 'peer', 'name', 'e0', 'netns', 'gold_cli')
    ip('-n', 'gold_cli', 'link', 'set', 'e0', 'address', '52:54:00:77:00:10', 'up')
    ip('-n', 'gold_pxe', 'link', 'set', 'p_pxe', 'up')
    ip('-n', 'gold_pxe', 'addr', 'add', SERVER + '/24', 'dev', 'p_pxe')
    ip('-n', 'gold_pxe', 'addr', 'add', SECOND + '/24', 'dev', 'p_pxe')
    ip('-n', 'gold_cli', 'addr', 'add', CLIENT + '/24', 'dev', 'e0')
    ip('-n', 'gold_cli', 'addr', 'add', RELAY + '/24', 'dev', 'e0')
    ip('-n', 'gold_cli', 'addr', 'add', '192.168.9.50/24', 'dev', 'e0')
    ip('-n', 'gold_pxe', 'route', 'add', '10.99.0.0/24', 'via', CLIENT)


def destroy():
    for name in ('gold_pxe', 'gold_cli'):
        subprocess.run(['ip', 'netns', 'del', name], stderr=subprocess.DEVNULL)


def checksum(data):
    total = sum(struct.unpack('>%dH' % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def frame(way, data):
    udp = struct.pack('>HHHH', way['sport'], way['port'], 8 + len(data), 0) + data
    addresses = socket.inet_aton(way['source']) + socket.inet_aton(way['target'])
    head = struct.pack('>BBHHHBBH', 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + addresses
    head = head[:10] + struct.pack('>H', checksum(head)) + head[12:]
    return b'\xff' * 6 + CLIENT_MAC + b'\x08\x00' + head + udp


def exchange(tap, way, data):
    """Send one packet; return the first server reply as (payload, destination), or None."""
    tap.send(frame(way, data))
    deadline = time.time() + 0.35
    while time.time() < deadline:
        try:
            seen, address = tap.recvfrom(4096)
        except socket.timeout:
            continue
        if address[2] == 4 or seen[23] != 17:
            continue
        at = 14 + (seen[14] & 15) * 4
        source, target, length = struct.unpack('>HHH', seen[at:at + 6])
        payload = seen[at + 8:at + length]
        if source in (67, 4011) and payload[:1] == b'\2':
            return payload, '%s:%d' % (socket.inet_ntoa(seen[30:34]), target)
    return None


def record(name):
    words, cases = SETS[name]
    base = ['ip', 'netns', 'exec', 'gold_pxe', 'dnsmasq', '-k', '--conf-file=/dev/null', '--user=root', '--port=0',
            '--dhcp-leasefile=/dev/null', '--leasefile-ro', '--pid-file=', '--log-facility=/dev/null', '--tftp-no-fail']
    own = [word for word in words if word not in ('-d', '-q', '--port=0')]
    server = subprocess.Popen(base + own)
    time.sleep(0.5)
    recorded = []
    try:
        for case, way, data in cases:
            answer = exchange(TAP, way, data)
            recorded.append({
                'name': case, 'port': way['port'], 'from': '%s:%d' % (way['source'], way['sport']),
                'request': data.hex(),
                'reply': answer[0].hex() if answer else None, 'to': answer[1] if answer else None,
            })
    finally:
        server.terminate()
        server.wait()
    with open(os.path.join(HERE, name + '.json'), 'w') as out:
        json.dump({'words': words, 'cases': recorded}, out, indent=1)
        out.write('\n')
    print('%s: %d cases, %d answered' % (name, len(recorded), sum(1 for r in recorded if r['reply'])))


def main():
    global TAP
    if len(sys.argv) > 2 and sys.argv[1] == '--inside':
        TAP = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
        TAP.bind(('e0', 0))
        TAP.settimeout(0.05)
        for name in sys.argv[2:]:
            record(name)
        return
    version = subprocess.run(['dnsmasq', '--version'], capture_output=True, text=True).stdout.split()[2]
    assert version == '2.90', 'dnsmasq %s would record other answers' % version
    destroy()
    try:
        build()
        run('ip', 'netns', 'exec', 'gold_cli', sys.executable, os.path.abspath(__file__), '--inside', *(sys.argv[1:] or SETS))
    finally:
        destroy()


main()

"""The proxies that are compared, each with its cache and its CPU clock.

All run at the same time; the idle ones cost nothing. nginx is set up as a package cache would be:
two workers, sendfile, a lock so that simultaneous misses share, no access log. `tcp_nopush` is
off because with it on about one answer in ten waits 40 ms.
"""

import os
import pathlib
import subprocess
import urllib.request

from harness.proxy import LarderDriver, SquidDriver, accepts, free_port, wait_until

TICK = os.sysconf("SC_CLK_TCK")

NGINX_HEAD = """
worker_processes 2;
daemon off;
pid {room}/{name}.pid;
error_log {room}/{name}-error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush off;
    tcp_nodelay on;
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {room}/{name}-body;
    proxy_temp_path {room}/{name}-temp;
    fastcgi_temp_path {room}/{name}-fastcgi;
    uwsgi_temp_path {room}/{name}-uwsgi;
    scgi_temp_path {room}/{name}-scgi;
"""
NGINX_ORIGIN = """
    server {{
        listen {address};
        root {files};
        location = /status {{ stub_status; }}
    }}
}}
"""
NGINX_CACHE = """
    proxy_cache_path {room}/nginx-cache levels=1:2 keys_zone=cache:64m max_size=20g
                     inactive=1d use_temp_path=off;
    upstream origin {{ server {origin}; keepalive 32; }}
    upstream paced {{ server {paced}; keepalive 32; }}
    map $http_host $to {{ {origin} origin; {paced} paced; }}
    server {{
        listen {address};
        location / {{
            proxy_pass http://$to;
            proxy_set_header Host $http_host;
            proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_cache cache;
            proxy_cache_key $http_host$request_uri;
            proxy_cache_valid 200 1d;
            proxy_cache_lock on;
            proxy_cache_lock_timeout 1h;
            proxy_cache_lock_age 1h;
        }}
    }}
}}
"""


class Peer:
    """A running server: its name, its address, its processes."""

    def __init__(self, name, process, address):
        self.name, self.process, self.address = name, process, address

    def cpu(self):
        """CPU seconds that its processes have used so far."""
        return sum(cpu_of(pid) for pid in family(self.process.pid))

    def close(self):
        """Ends it."""
        self.process.terminate()
        self.process.wait()


def nginx(room, name, text, **words):
    """Starts an nginx under a configuration."""
    address = ("127.0.0.1", free_port())
    conf = room / f"{name}.conf"
    words |= {"room": room, "name": name, "address": "{}:{}".format(*address)}
    conf.write_text((NGINX_HEAD + text).format(**words))
    process = subprocess.Popen(["nginx", "-e", "stderr", "-c", conf, "-p", room])
    assert wait_until(lambda: accepts(address)), f"nginx {name} does not listen"
    return Peer(name, process, address)


def origin(room, files):
    """An nginx that serves files."""
    return nginx(room, "origin", NGINX_ORIGIN, files=files)


def requests_at(origin_peer):
    """How many requests the origin has answered, this one not counted."""
    with urllib.request.urlopen("http://{}:{}/status".format(*origin_peer.address)) as answer:
        return int(answer.read().split(b"\n")[2].split()[2]) - 1


def nginx_cache(room, origin_address, paced_address):
    """The peer."""
    return nginx(room, "nginx", NGINX_CACHE, origin=origin_address, paced=paced_address)


def larder(room, binary):
    """larder without a configuration."""
    cache = room / "larder-cache"
    cache.mkdir()
    proxy = LarderDriver(binary).plain(room, str(cache))
    return Peer("larder", proxy.process, proxy.forward)


def squid(room):
    """Squid as an optional third."""
    cache = room / "squid-cache"
    cache.mkdir()
    proxy = SquidDriver().plain(room, str(cache))
    return Peer("squid", proxy.process, proxy.forward)


def family(pid):
    """A process and all below it."""
    parents = {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = stat_fields(int(entry.name))
            except OSError:
                continue  # it ended while we looked
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_of(pid):
    """User and system seconds of a process, its ended threads included."""
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICK


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name, which may hold spaces."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()

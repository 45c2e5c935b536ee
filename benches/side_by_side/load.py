"""Load: wrk for small objects, one reader that drops bodies, one that copies them."""

import re
import socket
import subprocess
import threading
import time

PIECE = 1 << 20


def absolute_request(url):
    """A request as a client sends it to its proxy."""
    host = url.split("/")[2]
    return f"GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()


def wrk(peer, url, room, seconds):
    """64 connections that ask for one URL; returns requests, requests a second and the p99 in ms."""
    script = room / "request.lua"
    host = url.split("/")[2]
    script.write_text(f'local ask = wrk.format("GET", "{url}", {{ Host = "{host}" }})\n'
                      "request = function() return ask end\n")  # fmt: skip
    words = ["wrk", "-t2", "-c64", f"-d{seconds}s", "--latency", "-s", script]
    done = subprocess.run(
        [*words, "http://{}:{}/".format(*peer.address)], capture_output=True, text=True, check=True
    )
    said = done.stdout
    assert "Non-2xx" not in said and "Socket errors" not in said, f"{peer.name}: {said}"
    requests = int(re.search(r"(\d+) requests in", said)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    return requests, rate, float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def each_once(peer, urls, room, connections):
    """Asks for every URL once over a few connections; returns the seconds that this took. wrk itself
    only knows runs of whole seconds, so its script takes the time and wrk is ended then."""
    script, paths = room / "each.lua", room / "each.txt"
    paths.write_text("".join(f"{url}\n" for url in urls))
    script.write_text(f"""
        local ffi = require("ffi")
        ffi.cdef("typedef struct {{ long s; long ns; }} instant; int clock_gettime(int, instant *);")
        local function now()
            local at = ffi.new("instant")
            ffi.C.clock_gettime(1, at)
            return tonumber(at.s) + tonumber(at.ns) / 1e9
        end
        local asks, asked, answered, bad, begun = {{}}, 0, 0, 0, nil
        function init()
            for url in io.lines("{paths}") do
                asks[#asks + 1] = wrk.format("GET", url, {{ Host = url:match("//([^/]+)") }})
            end
        end
        function request()
            begun = begun or now()
            asked = math.min(asked + 1, #asks)
            return asks[asked]
        end
        function response(status)
            answered = answered + 1
            if status ~= 200 then bad = bad + 1 end
            if answered == #asks then
                io.write(string.format("took %.6f bad %d\\n", now() - begun, bad))
                io.flush()
            end
        end
    """)
    words = ["wrk", "-t1", f"-c{connections}", "-d60s", "-s", script]
    run = subprocess.Popen(
        [*words, "http://{}:{}/".format(*peer.address)], stdout=subprocess.PIPE, text=True
    )
    try:
        for line in run.stdout:
            if found := re.search(r"took ([\d.]+) bad (\d+)", line):
                assert found[2] == "0", f"{peer.name}: {line}"
                return float(found[1])
        raise AssertionError(f"{peer.name}: not all of {len(urls)} answers within a minute")
    finally:
        run.kill()
        run.wait()


def drop(peer, url):
    """One download whose body the kernel throws away (MSG_TRUNC); returns bytes, seconds and the
    seconds to the first body byte."""
    begun = time.monotonic()
    with socket.create_connection(peer.address) as connection:
        connection.sendall(absolute_request(url))
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(4096)
            assert more, f"{peer.name}: no answer for {url}"
            head += more
        head, _, body = head.partition(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0], f"{peer.name}: {head!r}"
        length = int(re.search(rb"(?i)\r\ncontent-length: (\d+)", head)[1])
        size, first = len(body), None
        room = bytearray(PIECE)
        while size < length:
            got = connection.recv_into(room, PIECE, socket.MSG_TRUNC)
            first = first or time.monotonic() - begun
            assert got, f"{peer.name}: cut after {size} of {length} bytes"
            size += got
    return size, time.monotonic() - begun, first or time.monotonic() - begun


def copy(peer, url):
    """One download by curl, which copies the body to itself; returns bytes and seconds."""
    begun = time.monotonic()
    done = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
         "-x", "http://{}:{}".format(*peer.address), url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, size = done.stdout.split()
    assert code == "200", f"{peer.name}: {code} for {url}"
    return int(size), time.monotonic() - begun


def together(count, peer, url):
    """Several droppers at once; returns each one's result."""
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(drop(peer, url))) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count, f"{peer.name}: {count - len(results)} downloads failed"
    return results

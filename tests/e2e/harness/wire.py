"""A plain HTTP/1.1 client that hides nothing.

It sends the bytes that it is told and reports the answer's head as it came, and whether the body
was whole, so that a cut answer cannot pass for a good one.
"""

import dataclasses
import hashlib
import socket

PIECE = 256 * 1024


@dataclasses.dataclass
class Reply:
    """An answer. `whole` is false where its framing was not met."""

    status: int
    head: str
    headers: list
    body: bytes
    whole: bool

    def get(self, name):
        """The first value of a field, None without one."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @property
    def digest(self):
        """SHA-256 of the body."""
        return hashlib.sha256(self.body).hexdigest()


class NoAnswer(Exception):
    """The connection ended before a whole head came."""


class Connection:
    """One connection to a proxy."""

    def __init__(self, address, seconds=30):
        self.socket = socket.create_connection(address, timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data if isinstance(data, bytes) else data.encode("latin-1"))

    def half_close(self):
        """Ends our side, as `nc -N` does after its input."""
        self.socket.shutdown(socket.SHUT_WR)

    def more(self):
        """The next bytes, empty at the end."""
        if self.rest:
            data, self.rest = self.rest, b""
            return data
        return self.socket.recv(PIECE)

    def read_all(self):
        """Everything up to the end."""
        data = b""
        while more := self.more():
            data += more
        return data

    def read_head(self):
        """The bytes of the next head, its empty line included."""
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                more = self.more()
            except ConnectionError:
                more = b""
            if not more:
                raise NoAnswer(f"the connection ended after {data!r}")
            data += more
        head, self.rest = split_after(data, b"\r\n\r\n")
        return head

    def read_reply(self, method="GET", progress=None):
        """The next final answer. `progress` is told the number of body bytes so far."""
        while True:
            head = self.read_head().decode("latin-1")
            lines = head.split("\r\n")
            status = int(lines[0].split()[1])
            if status >= 200:
                break
        headers = [(n, v.strip()) for n, _, v in (x.partition(":") for x in lines[1:] if x)]
        reply = Reply(status, head, headers, b"", True)
        if method != "HEAD" and status not in (204, 304):
            body = bytearray()
            try:
                reply.whole = self._read_body(reply, body, progress or (lambda _: None))
            except ConnectionError:
                reply.whole = False  # a time-out is another thing: nothing may hang
            reply.body = bytes(body)
        return reply

    def _read_body(self, reply, body, progress):
        if (reply.get("Transfer-Encoding") or "").lower() == "chunked":
            return self._read_chunks(body, progress)
        length = reply.get("Content-Length")
        while length is None or len(body) < int(length):
            more = self.more()
            if not more:
                return length is None
            if length is not None:
                more, self.rest = split_at(more, int(length) - len(body))
            body += more
            progress(len(body))
        return True

    def _read_chunks(self, body, progress):
        while True:
            line = self._read_line()
            if line is None:
                return False
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while line := self._read_line():
                    pass  # trailer
                return line is not None
            wanted = size
            while wanted:
                more = self.more()
                if not more:
                    return False
                more, self.rest = split_at(more, wanted)
                body += more
                wanted -= len(more)
                progress(len(body))
            if self._read_line() is None:
                return False

    def _read_line(self):
        data = b""
        while b"\r\n" not in data:
            more = self.more()
            if not more:
                return None
            data += more
        line, self.rest = split_after(data, b"\r\n")
        return line[:-2]

    def get(self, target, headers=None, method="GET", progress=None):
        """One request on this connection, and its answer."""
        self.send(request(target, headers, method))
        return self.read_reply(method, progress)


def request(target, headers=None, method="GET", version="HTTP/1.1", body=b""):
    """The bytes of a request; Host is the target's unless the headers name one."""
    fields = {"Host": host_of(target)} | (headers or {})
    lines = [f"{method} {target} {version}"]
    lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def host_of(target):
    """The authority of an absolute URI; the target itself otherwise."""
    return target.split("/")[2] if "://" in target else target


def get(address, target, headers=None, method="GET", seconds=30):
    """One request on a connection of its own."""
    with Connection(address, seconds) as connection:
        return connection.get(target, headers, method)


def split_at(data, size):
    """The first `size` bytes and the rest."""
    return data[:size], data[size:]


def split_after(data, mark):
    """The bytes up to and with a mark, and the rest."""
    return split_at(data, data.index(mark) + len(mark))

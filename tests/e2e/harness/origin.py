"""Origins that do what a story tells them and count what they did.

Each path has one `Answer` or a list of them (one per request, the last one repeats). A path
without an answer is looked for in the directories that the origin serves, else it is a 404.
Verdicts come from `requests` (every head as it arrived) and `sent` (body bytes per path that the
kernel took), never from what a proxy says of itself.
"""

import dataclasses
import email.utils
import os
import socket
import ssl
import struct
import threading
import time
import zlib

DAY = 86400
PIECE = 64 * 1024


@dataclasses.dataclass
class Answer:
    """One scripted answer. What is not set is done as a good server does it."""

    body: bytes = b""
    status: str = "200 OK"
    headers: dict = dataclasses.field(default_factory=dict)
    age_days: float = 20  # of Last-Modified
    etag: str | None = ""  # "": derived from the origin's name and the body; None: none
    ranges: bool = True
    chunked: bool = False
    close_delimited: bool = False
    declare: int | None = None  # a Content-Length that lies
    pace: int | None = None  # bytes a second
    cut_at: int | None = None  # close after so many body bytes
    stall_at: int | None = None  # send nothing more after so many body bytes, until let go
    stall_head: bool = False  # take the request and say nothing, until let go
    hold_head: float = 0.0  # seconds before the head
    raw: bytes | None = None  # these bytes and a close, in place of an answer


@dataclasses.dataclass
class Request:
    """A request as it arrived."""

    method: str
    target: str
    version: str
    headers: list

    def get(self, name):
        """The first value of a field, None without one."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


class Origin:
    """An HTTP/1.1 server on one address; a thread per connection."""

    def __init__(self, address, port=80, tls=None):
        self.address, self.port, self.tls = address, port, tls
        self.answers, self.trees = {}, []
        self.requests, self.sent = [], {}
        # Connections that ended after an answer, and what was no request.
        self.ended, self.broken = 0, []
        self.changed = threading.Condition()
        self.let_go = threading.Event()
        self.open = set()
        self.listener = socket.create_server((address, port), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    # -- what a story says and asks --

    def put(self, path, *answers):
        """Scripts the answers of a path."""
        self.answers[path] = list(answers)

    def tree(self, prefix, directory):
        """Serves a directory's files under a prefix (no slash at its end)."""
        self.trees.append((prefix, directory))

    def count(self, path):
        """How many requests came for a path."""
        with self.changed:
            return sum(r.target == path for r in self.requests)

    def bytes_of(self, path):
        """How many body bytes of a path were sent."""
        with self.changed:
            return self.sent.get(path, 0)

    def bytes_of_suffix(self, suffix):
        """How many body bytes went out for paths with an ending."""
        with self.changed:
            return sum(n for path, n in self.sent.items() if path.endswith(suffix))

    def forget(self):
        """Starts counting anew."""
        with self.changed:
            self.requests.clear()
            self.sent.clear()

    def wait_for(self, truth, what, seconds=60):
        """Waits until something is true of the counts; fails the story with `what` if it never is."""
        with self.changed:
            if not self.changed.wait_for(truth, seconds):
                raise AssertionError(f"waited {seconds} s in vain: {what}")

    def release(self):
        """Lets stalled answers go on."""
        self.let_go.set()

    def close(self):
        """Ends the server and its connections."""
        self.let_go.set()
        if self.listener.fileno() >= 0:
            # A close alone would leave the port to the thread that waits in accept.
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it ended by itself

    # -- the server --

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # the story is over
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.open.add(connection)
        plain, request = connection, None
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            stream = connection.makefile("rb")
            while (asked := read_request(stream)) and self._answer(connection, request := asked):
                pass
        except OSError:
            pass  # the other side went away: its business
        except Exception as error:  # it is the proxy's fault or this file's, and the story's to tell
            self.broken.append(f"{self.address}:{self.port}: {error!r}")
        finally:
            with self.changed:
                self.ended += request is not None
            self.open.discard(plain)
            connection.close()

    def _answer(self, connection, request):
        """Answers one request; says whether the connection goes on."""
        path = request.target
        with self.changed:
            self.requests.append(request)
            answer = self._find(path)
            self.changed.notify_all()
        if answer.stall_head:
            self.let_go.wait()
        if answer.hold_head:
            time.sleep(answer.hold_head)
        if answer.raw is not None:
            connection.sendall(answer.raw)
            return False
        head, body = self._compose(answer, request)
        connection.sendall(head)
        if request.method == "HEAD" or not body:
            return True
        whole = self._send(connection, path, answer, body)
        return whole and not answer.close_delimited and answer.declare is None

    def _find(self, path):
        answers = self.answers.get(path)
        if answers:
            return answers.pop(0) if len(answers) > 1 else answers[0]
        for prefix, directory in self.trees:
            if path.startswith(prefix + "/"):
                name = os.path.join(directory, percent_decode(path[len(prefix) + 1 :]))
                if os.path.isfile(name):
                    with open(name, "rb") as file:
                        days = (time.time() - os.path.getmtime(name)) / DAY
                        return Answer(body=file.read(), age_days=days)
        return Answer(body=b"not here\n", status="404 Not Found", etag=None)

    def _compose(self, answer, request):
        """The head, and the part of the body that goes with it."""
        modified = email.utils.formatdate(time.time() - answer.age_days * DAY, usegmt=True)
        fields = {"Date": email.utils.formatdate(usegmt=True), "Server": "origin"}
        good = answer.status.startswith("200")
        if good:
            fields["Last-Modified"] = modified
            if answer.etag is not None:
                fields["ETag"] = answer.etag or self.default_etag(answer.body)
            if answer.ranges:
                fields["Accept-Ranges"] = "bytes"
        fields.update(answer.headers)
        status, body = answer.status, answer.body
        span = request.get("Range") if good and answer.ranges else None
        if good and unchanged(request, fields):
            status, body = "304 Not Modified", b""
        elif span and (request.get("If-Range") in (None, fields.get("ETag"), modified)):
            first, last = read_range(span, len(body))
            fields["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
            status, body = "206 Partial Content", body[first : last + 1]
        if answer.chunked:
            fields["Transfer-Encoding"] = "chunked"
        elif not answer.close_delimited and not status.startswith("304"):
            fields["Content-Length"] = str(len(body) if answer.declare is None else answer.declare)
        lines = [f"HTTP/1.1 {status}", *(f"{n}: {v}" for n, v in fields.items() if v is not None)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1"), body

    def default_etag(self, body):
        """A validator that differs from mirror to mirror, as on real ones."""
        return f'"{self.address}-{len(body):x}-{zlib.crc32(body):x}"'

    def _count(self, path, length):
        with self.changed:
            self.sent[path] = self.sent.get(path, 0) + length
            self.changed.notify_all()

    def _send(self, connection, path, answer, body):
        """Sends a body as scripted; says whether all of it went out."""
        began, sent = time.monotonic(), 0
        end = len(body) if answer.cut_at is None else min(answer.cut_at, len(body))
        piece = PIECE if answer.pace is None else max(1024, min(PIECE, answer.pace // 50))
        view = memoryview(body)
        while sent < end:
            if answer.stall_at is not None and sent >= answer.stall_at:
                self.let_go.wait()
            upto = min(sent + piece, end)
            if answer.stall_at is not None and sent < answer.stall_at:
                upto = min(upto, answer.stall_at)
            if answer.pace:
                time.sleep(max(0.0, began + sent / answer.pace - time.monotonic()))
            part = view[sent:upto]
            # Counted first: who has the bytes may look at the count at once.
            self._count(path, len(part))
            try:
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part) if answer.chunked else part)
            except OSError:
                self._count(path, -len(part))
                raise
            sent = upto
        if end < len(body):
            return False
        if answer.chunked:
            connection.sendall(b"0\r\n\r\n")
        return True


def read_request(stream):
    """Reads a request's head and swallows its body; None at the end of the connection."""
    line = stream.readline(65536)
    if not line.strip():
        return None
    if not line.endswith(b"\n"):
        raise ConnectionError("it ended in a request line")
    method, target, version = line.decode("latin-1").split()
    headers = []
    while (field := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = field.decode("latin-1").partition(":")
        headers.append((name, value.strip()))
    request = Request(method, target, version, headers)
    if request.get("Transfer-Encoding"):
        while size := int(stream.readline() or b"0", 16):
            stream.read(size + 2)
        stream.readline()
    elif length := request.get("Content-Length"):
        stream.read(int(length))
    return request


def unchanged(request, fields):
    """RFC 9110 section 13.2.2 for GET: If-None-Match decides where it is sent, else the date."""
    tags = request.get("If-None-Match")
    if tags is not None:
        mine = (fields.get("ETag") or "").removeprefix("W/")
        return "*" in tags or (mine != "" and mine in tags)
    since = request.get("If-Modified-Since")
    return since is not None and since == fields.get("Last-Modified")


def read_range(text, size):
    """First and last byte of a single range that can be met."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        return max(0, size - int(last)), size - 1
    return int(first), min(int(last) if last else size - 1, size - 1)


def percent_decode(path):
    """`%2b` as `+` and the like, in a path."""
    out, rest = bytearray(), path.encode()
    while rest:
        if rest[:1] == b"%":
            out.append(int(rest[1:3], 16))
            rest = rest[3:]
        else:
            out += rest[:1]
            rest = rest[1:]
    return out.decode()


def reset_on_close(connection):
    """Makes the close of a connection a TCP reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

"""A TCP server that does with each connection what a function says, for what is no HTTP."""

import socket
import threading


class Server:
    """Listens on an address; `handle(connection)` runs in a thread per connection."""

    def __init__(self, address, port, handle):
        self.handle, self.connections = handle, 0
        self.listener = socket.create_server((address, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return  # closed
            self.connections += 1
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        with connection:
            try:
                self.handle(connection)
            except OSError:
                pass  # the other side went away: its business

    def close(self):
        """Ends the server."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def read_to_end(connection):
    """Everything until the other side ends its direction."""
    data = b""
    while more := connection.recv(65536):
        data += more
    return data

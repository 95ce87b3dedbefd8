"""Receivers of records that fail on request: an OpenTelemetry collector and a syslog server."""

import json
import random
import re
import socket
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Collector:
    """A collector of OpenTelemetry that takes log records, or answers as it is told."""

    def __init__(self):
        self.received, self.events, self.numbers = Counter(), Counter(), set()
        self.lock, self.faults = threading.Lock(), []
        self.server = None
        self.port = None
        self.open()

    def open(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):  # noqa: N802 - the name is the library's
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.lock:
                    fault = outer.faults.pop(0) if outer.faults else (200, {}, False)
                status, headers, taken = fault
                if status == 200 or taken:
                    outer.take(body)
                if status is None:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            allow_reuse_address, daemon_threads = True, True

        self.server = Server(("127.0.0.1", self.port or 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        """Nobody listens any more."""
        self.server.shutdown()
        self.server.server_close()

    def take(self, body):
        """Notes the ids and the paths of the records: attributes whose values are texts, each with its length before it."""
        ids = re.findall(rb"entrada\.record_id\x12\x22\x0a\x20([0-9a-f]{32})", body)
        # The byte after a text is the tag of the next field, and may be a digit.
        paths = (body[found.end() :][: found[1][0]] for found in re.finditer(rb"entrada\.path\x12.\x0a(.)", body, re.S))
        numbers = (path[5:] for path in paths if path.startswith(b"/own/"))
        events = re.findall(rb"entrada\.event\x12.\x0a.([a-z-]+)", body, re.S)
        with self.lock:
            self.received.update(identity.decode() for identity in ids)
            self.numbers.update(map(int, numbers))
            self.events.update(event.decode() for event in events)


class Syslog:
    """A server of syslog over TCP with octet counting; it may be closed, and may drop connections in the middle."""

    def __init__(self):
        self.received, self.events, self.numbers, self.lock = Counter(), Counter(), set(), threading.Lock()
        self.port, self.listener, self.break_off = None, None, 0
        self.random = random.Random(7)
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port or 0), reuse_port=False)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def close(self):
        # Another thread waits in `accept`, which `close` alone does not end.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            received = b""
            while part := connection.recv(1 << 18):
                received += part
                if self.break_off and len(received) > 1 << 16:
                    self.break_off -= 1
                    # With a reset: what was read counts all the same.
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    break
            self.take(received)

    def take(self, received):
        at = 0
        while at < len(received):
            blank = received.index(b" ", at)
            length = int(received[at:blank])
            message = received[blank + 1 : blank + 1 + length]
            at = blank + 1 + length
            if len(message) < length:
                # The rest of it was never read.
                return
            record = json.loads(message[message.index(b"] {") + 2 :])
            with self.lock:
                self.received[record["record_id"]] += 1
                if "event" in record:
                    self.events[record["event"]] += record.get("count", 1)
                elif record["path"].startswith("/own/"):
                    self.numbers.add(int(record["path"][5:]))

"""Audit sinks whose cost is counted, and the receivers that they need: each takes everything and says so."""

import base64
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WORKSPACE = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
# 64 bytes of nothing, in base64.
KEY = base64.b64encode(bytes(64)).decode()


class Post(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Receivers:
    """The system's syslog, a syslog server, and a server of HTTP that is a collector and Log Analytics at once."""

    def __init__(self, folder: Path):
        self.path = folder / "log.socket"
        self.datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.datagrams.bind(str(self.path))
        self.streams = socket.create_server(("127.0.0.1", 0))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Post)
        self.http.daemon_threads = True
        for receive in (self.receive, self.accept, self.http.serve_forever):
            threading.Thread(target=receive, daemon=True).start()

    def receive(self):
        while True:
            self.datagrams.recv(1 << 16)

    def accept(self):
        while True:
            connection, _ = self.streams.accept()
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    @staticmethod
    def read(connection):
        with connection:
            while connection.recv(1 << 16):
                pass

    def none(self) -> dict:
        return {"sinks": []}

    def local(self) -> dict:
        return {"sinks": [{"stdout": {"format": "json"}}, {"file": {"path": "records.jsonl"}}, {"syslog": {"address": f"unix:{self.path}"}}]}

    def remote(self) -> dict:
        """All of them."""
        http = f"http://127.0.0.1:{self.http.server_port}"
        sinks = [
            {"syslog": {"address": f"tcp://127.0.0.1:{self.streams.getsockname()[1]}"}},
            {"otlp": {"endpoint": http}},
            {"log-analytics": {"workspace": WORKSPACE, "shared-key": KEY, "log-type": "Entrada", "endpoint": http}},
        ]
        return {"sinks": self.local()["sinks"] + sinks, "spool": {"directory": "spool"}}

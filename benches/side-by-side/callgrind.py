"""The cost of a request in counts: instructions and first-level cache misses, as valgrind's callgrind simulates them.

A server runs twice between a load and a backend on loopback, once for few requests and once for many; the difference is what the
requests cost. Counts, not time: other work on the machine does not matter. The kernel's part is not in them, nor are clock
readings. Requests go round over the connections, one on each at a time, so that a connection's memory has left the cache before it
is used again, as under load.

What happens a different number of times in each run must not be among what is counted. A gateway that has just started is asked when it
is ready, on its admin listener, and first by one request alone: of sixteen that come at once with a token that was never seen each
may verify it, at the price of four ordinary requests.
"""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# 32 KiB of eight ways, as on most processors of today; the last level is large enough to hold everything.
CACHES = ["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64"]
CONNECTIONS = 16
FEW, MANY = 160, 1_120
PATH = "/orders/42?x=1"
BODY = 1024
# What ordinary clients send besides: a head of twelve fields instead of four.
EIGHT_MORE = {
    "Accept-Encoding": "gzip, deflate, br",
    "Accept-Language": "en-GB,en;q=0.7",
    "Cache-Control": "no-cache",
    "Pragma": "no-cache",
    "Cookie": "theme=dark; consent=1",
    "Referer": "https://app.contoso.example/orders",
    "Sec-Fetch-Mode": "cors",
    "X-Correlation-Id": "7f9c24e8-3b12-4a5e-9d61-0c8f5a2b7e44",
}


class Refused(Exception):
    """A good request was refused."""


class Counts:
    """What a request costs: instructions, and misses of the first-level caches."""

    NAMES = ("instructions", "instruction misses", "data misses")

    def __init__(self, values, of_all):
        """Those of the threads that were asked for, and those of all."""
        self.values, self.of_all = list(values), list(of_all)

    def per_request(self, few: "Counts") -> tuple[list[int], list[int]]:
        each = lambda many, few: [round((after - before) / (MANY - FEW)) for after, before in zip(many, few)]
        return each(self.values, few.values), each(self.of_all, few.of_all)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connect(port: int, seconds: float = 400) -> socket.socket:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), 60)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def installed(*programs: str) -> bool:
    """Whether they are there. Servers are in a folder of their own on Debian, also for those who are not root."""
    if "/usr/sbin" not in os.environ["PATH"].split(":"):
        os.environ["PATH"] += ":/usr/sbin"
    return all(shutil.which(program) for program in programs)


class Load:
    """The requests of one run: over HTTP/1.1, with or without TLS, or over HTTP/2 without TLS. Over HTTP/1.1 several tokens take turns."""

    def __init__(self, port: int, token: str, more: dict[str, str] = {}, client: str = "http1", further: list[str] = []):
        self.port, self.client = port, client
        self.fields = {"User-Agent": "bench", "Accept": "*/*", "Authorization": f"Bearer {token}"} | more
        lines = [f"GET {PATH} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in self.fields.items())]
        head = "\r\n".join(lines) + "\r\n\r\n"
        self.heads = itertools.cycle([head.replace(token, each).encode() for each in [token, *further]])
        self.connections = []

    def open(self) -> socket.socket:
        connection = connect(self.port)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.client != "tls":
            return connection
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context.wrap_socket(connection)

    def read(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.part(connection, received)
        head, body = received.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 200"):
            raise Refused(head.decode(errors="replace"))
        while len(body) < BODY:
            body += self.part(connection, received)

    @staticmethod
    def part(connection: socket.socket, received: bytes) -> bytes:
        part = connection.recv(65_536)
        if not part:
            raise Refused(f"the connection was closed after {received!r}")
        return part

    def http2(self, requests: int, connections: int = CONNECTIONS) -> None:
        command = ["h2load", "-n", str(requests), "-c", str(connections), "-m", "1", "-t", "1", "-p", "h2c"]
        for name, value in self.fields.items():
            command += ["-H", f"{name.lower()}: {value}"]
        told = subprocess.run([*command, f"http://127.0.0.1:{self.port}{PATH}"], capture_output=True, text=True, timeout=300)
        if f"status codes: {requests} 2xx" not in told.stdout:
            raise Refused(told.stdout[-800:] + told.stderr[-800:])

    def send(self, requests: int) -> None:
        if self.client == "http2":
            return self.http2(requests)
        if not self.connections:
            self.connections = [self.open() for _ in range(CONNECTIONS)]
        for _ in range(requests // CONNECTIONS):
            for connection in self.connections:
                connection.sendall(next(self.heads))
            for connection in self.connections:
                self.read(connection)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        self.connections = []

    def alone(self) -> None:
        """Sends one request on a connection of its own."""
        if self.client == "http2":
            return self.http2(1, 1)
        with self.open() as connection:
            connection.sendall(next(self.heads))
            self.read(connection)

    def warm_up(self) -> None:
        """Sends the first requests, the very first one alone."""
        self.alone()
        self.send(2 * CONNECTIONS)


def await_ready(log: Path, seconds: float = 400) -> None:
    """Waits until a gateway that says where its admin listener is has what it judges requests by; others are ready once they listen."""
    lines = (json.loads(line) for line in log.read_text(errors="replace").splitlines() if line.startswith("{"))
    admin = next((line["address"] for line in lines if line.get("message") == "the admin listener is here"), None)
    deadline = time.monotonic() + seconds
    while admin:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{admin}/readyz", timeout=60):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def run(command: list[str], load: Load, requests: int, folder: Path, thread: str = "") -> Counts:
    """Counts a whole run. With `thread`, only the threads in which a function of this name ran count."""
    folder.mkdir(parents=True)
    # A worker that is not root writes there.
    folder.chmod(0o777)
    valgrind = ["valgrind", "--tool=callgrind", *CACHES, "--separate-threads=yes", f"--callgrind-out-file={folder}/out"]
    with open(folder / "log", "wb") as log:
        server = subprocess.Popen([*valgrind, *command], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        connect(load.port).close()
        await_ready(folder / "log")
        load.warm_up()
        load.send(requests)
        load.close()
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    finally:
        server.kill()
        server.wait()
    texts = [file.read_text(errors="replace") for file in folder.glob("out*")]
    found = [sums(text) for text in texts if thread in text]
    assert found and any(total[0] for total in found), f"nothing was counted: {(folder / 'log').read_text()[-2000:]}"
    return Counts(map(sum, zip(*found)), map(sum, zip(*map(sums, texts))))


def sums(text: str) -> list[int]:
    """The sums of one thread: instructions, instruction misses, and data misses of reads and writes."""
    names, values = (re.search(rf"^{line}: (.+)$", text, re.M) for line in ("events", "totals"))
    # A file beside those of the threads has neither.
    if names is None or values is None:
        return [0, 0, 0]
    counts = dict(zip(names.group(1).split(), map(int, values.group(1).split())))
    return [counts["Ir"], counts["I1mr"], counts["D1mr"] + counts.get("D1mw", 0)]


def cost(start, load, folder: Path, thread: str = "") -> list[int]:
    """The counts of one request: `start` makes the command of a server at a port in a folder, and `load` its load."""
    return costs(start, load, folder, thread)[0]


def costs(start, load, folder: Path, thread: str = "") -> tuple[list[int], list[int]]:
    """The counts of one request, and those of all threads."""
    def one(requests: int) -> Counts:
        port, own = free_port(), folder / str(requests)
        own.mkdir(parents=True)
        own.chmod(0o777)
        return run(start(port, own), load(port), requests, own / "counts", thread)

    # Both at once: what else runs does not change a count.
    with ThreadPoolExecutor(2) as pool:
        few, many = pool.map(one, (FEW, MANY))
    return many.per_request(few)

"""A fleet on loopback: servers of a store, gateways that share it, a backend that notes arrivals, and load."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

ENTRADA = os.environ.get("ENTRADA", "target/release/entrada")
#: The longest wait for anything that is expected.
PATIENCE = 30


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cluster_port():
    """Returns a free port for a node of a cluster, which also needs the one that is 10,000 above."""
    while True:
        port = free_port()
        with socket.socket() as probe:
            if port + 10_000 < 65_536 and probe.connect_ex(("127.0.0.1", port + 10_000)) != 0:
                return port


def until(what, condition, patience=PATIENCE):
    """Waits until the condition is true, and returns how long that took."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            raise AssertionError(f"never: {what}")
        time.sleep(0.02)
    return time.monotonic() - began


class Process:
    """A process that this started, and that alone it ends."""

    def __init__(self, command, folder, environment=None):
        self.command, self.folder, self.environment = [str(part) for part in command], Path(folder), environment or {}
        self.child = None

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        log = open(self.folder / "log", "ab")
        self.child = subprocess.Popen(self.command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=os.environ | self.environment)
        return self

    def signal(self, number):
        self.child.send_signal(number)

    def kill(self):
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGCONT)
            self.child.kill()
            self.child.wait()

    def log(self):
        return (self.folder / "log").read_text(errors="replace")


class Store(Process):
    """A Redis or a Valkey."""

    def __init__(self, program, folder, *arguments, tls=None, address="127.0.0.1", port=None, enter=()):
        chosen = cluster_port if "--cluster-enabled" in arguments else free_port
        self.address, self.port, self.tls = address, port or chosen(), tls
        listen = ["--port", self.port] if not tls else ["--port", 0, "--tls-port", self.port, *tls]
        save = [] if "--sentinel" in arguments else ["--save", "", "--appendonly", "no"]
        # A store for others than this machine has a password, or says that it needs none.
        listen += ["--protected-mode", "no"] if address != "127.0.0.1" else []
        command = [*enter, program, *arguments, *listen, "--bind", address, *save]
        super().__init__(command, folder)
        self.password = None

    def start(self):
        super().start()
        until(f"{self.command[0]} listens", self.listens)
        return self

    def listens(self):
        if self.child.poll() is not None:
            raise AssertionError("the server has ended")
        if self.tls:
            with socket.socket() as probe:
                return probe.connect_ex((self.address, self.port)) == 0
        try:
            return self.ask("PING") == "PONG"
        except (OSError, RuntimeError):
            return False

    def ask(self, *parts):
        """Sends one command over a connection of its own."""
        with socket.create_connection((self.address, self.port), timeout=5) as connection:
            stream = connection.makefile("rwb")
            if self.password:
                send(stream, "AUTH", self.password)
                read(stream)
            send(stream, *parts)
            return read(stream)


def send(stream, *parts):
    encoded = [str(part).encode() for part in parts]
    stream.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in encoded))
    stream.flush()


def read(stream):
    line = stream.readline()
    if not line:
        raise OSError("closed")
    kind, rest = line[:1], line[1:-2].decode()
    if kind == b"-":
        raise RuntimeError(rest)
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == "-1" else stream.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return [read(stream) for _ in range(int(rest))]
    return rest


class Link:
    """A way to a server that can be cut: nothing gets through and nothing is closed; what was under way arrives when it is mended.

    With a context of TLS it speaks that to whoever comes."""

    def __init__(self, port, context=None):
        self.context = context
        self.to, self.there, self.back = port, threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.mend()
        threading.Thread(target=self.accept, daemon=True).start()

    def cut(self, *ways):
        """Cuts the way there, the way back, or both."""
        for way in ways:
            way.clear()

    def mend(self):
        self.there.set()
        self.back.set()

    def close(self):
        self.listener.close()
        self.mend()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            try:
                near = self.context.wrap_socket(near, server_side=True) if self.context else near
            except OSError:
                # Whoever came does not believe the certificate.
                far.close()
                continue
            for source, sink, way in [(near, far, self.there), (far, near, self.back)]:
                threading.Thread(target=self.carry, args=(source, sink, way), daemon=True).start()

    @staticmethod
    def carry(source, sink, way):
        try:
            while data := source.recv(65536):
                way.wait(PATIENCE)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Gateway(Process):
    """`entrada run` with this config, with further keys and in this environment."""

    def __init__(self, folder, redis, policies, backend, more="", environment=None):
        self.port, self.admin = free_port(), free_port()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "entrada.yaml"
        routes = "".join(
            f'  - {{ name: {name}, match: {{ path: /{name} }}, anonymous: true, upstream: backend, inbound: [ {policy} ] }}\n'
            for name, policy in policies.items()
        )
        self.file.write_text(
            f'listeners: [ {{ name: public, address: "127.0.0.1:{self.port}" }} ]\n'
            f'admin: {{ address: "127.0.0.1:{self.admin}" }}\naudit: {{ sinks: [] }}\n'
            f'redis: {{ {redis}, key-secret: "a key secret for tests alone" }}\n'
            f'upstreams: {{ backend: {{ servers: ["http://127.0.0.1:{backend}"] }} }}\n{more}\nroutes:\n{routes}'
        )
        super().__init__([ENTRADA, "run", self.file], folder, environment)

    def start(self):
        super().start()
        until("the gateway is connected to its store", lambda: self.status()["state"] == "up")
        return self

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read()

    def status(self):
        try:
            return json.loads(self.get("/api/status"))["limit_store"]
        except OSError:
            return {"state": "none"}

    def asked(self):
        """Returns how many questions the store has answered."""
        answered = re.search(r'^entrada_limit_store_requests_total\{outcome="answered"\} (\d+)$', self.get("/metrics").decode(), re.MULTILINE)
        return int(answered.group(1))

    def generation(self):
        """Returns how often the config was read anew."""
        return json.loads(self.get("/api/config"))["generation"]

    def is_up(self):
        return self.status()["state"] == "up"


class Backend:
    """Answers after a while, with 204 or with a slow body, and notes when requests were sent and arrived, and how many are under way."""

    def __init__(self):
        self.arrivals, self.under_way, self.most, self.port = [], 0, 0, None
        # The seconds until the answer begins, and from there to the end of its body.
        self.takes, self.drips = 0.0, 0.0
        self.server = None

    async def start(self, address="127.0.0.1"):
        self.server = await asyncio.start_server(self.serve, address, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                sent = re.search(rb"\r\nx-sent: ([\d.]+)", head, re.IGNORECASE)
                self.arrivals.append((float(sent.group(1)), time.monotonic()))
                self.under_way += 1
                self.most = max(self.most, self.under_way)
                if self.takes:
                    await asyncio.sleep(self.takes)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\na" if self.drips else b"HTTP/1.1 204 No Content\r\n\r\n")
                await writer.drain()
                if self.drips:
                    await asyncio.sleep(self.drips)
                    writer.write(b"b")
                self.under_way -= 1
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            writer.close()

    def forget(self):
        self.arrivals, self.most = [], 0


class Load:
    """Requests over kept connections: the statuses, the bodies of failures, and the longest time that an answer took."""

    def __init__(self):
        self.statuses, self.failures, self.longest = {}, set(), 0.0

    async def run(self, ports, path, key="a", *, connections=16, seconds=None, requests=None):
        ends = time.monotonic() + seconds if seconds else None
        each = -(-requests // (len(ports) * connections)) if requests else None
        await asyncio.gather(*(self.connection(port, path, key, ends, each) for port in ports for _ in range(connections)))
        return self

    async def connection(self, port, path, key, ends, requests):
        head = f"GET {path} HTTP/1.1\r\nhost: a\r\nx-key: {key}\r\nx-sent: ".encode()
        reader = writer = None
        while (ends is None or time.monotonic() < ends) and (requests is None or requests > 0):
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                began = time.monotonic()
                writer.write(head + b"%.6f\r\n\r\n" % began)
                answer = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if length:
                    body = await reader.readexactly(int(length[0].split(b":")[1]))
                    if answer[9:10] == b"5":
                        code = re.search(rb'"code":"([\w-]+)"', body)
                        self.failures.add(code.group(1).decode() if code else body[:80].decode(errors="replace"))
            except (OSError, asyncio.IncompleteReadError):
                # A gateway that was killed.
                self.count(0, 0.0)
                writer = None
                await asyncio.sleep(0.02)
                continue
            self.count(int(answer[9:12]), time.monotonic() - began)
            requests = requests - 1 if requests is not None else None
        if writer:
            writer.close()

    def count(self, status, took):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.longest = max(self.longest, took)

    def __getitem__(self, status):
        return self.statuses.get(status, 0)


class Fleet:
    """Everything of one scenario, ended at its end."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="shared-limits-"))
        self.processes, self.links, self.count = [], [], 0

    def name(self, kind):
        self.count += 1
        return self.folder / f"{kind}-{self.count}"

    def add(self, process):
        self.processes.append(process)
        return process.start()

    def store(self, program, *arguments, **more):
        return self.add(Store(program, self.name("store"), *arguments, **more))

    def gateways(self, number, redis, policies, backend, **more):
        return [self.add(Gateway(self.name("gateway"), redis, policies, backend.port, **more)) for _ in range(number)]

    def link(self, store, context=None):
        self.links.append(Link(store.port, context))
        return self.links[-1]

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for process in self.processes:
                print(f"--- {process.folder.name}: {process.log()[-1500:]}")
        for process in reversed(self.processes):
            process.kill()
        for link in self.links:
            link.close()
        shutil.rmtree(self.folder, ignore_errors=True)

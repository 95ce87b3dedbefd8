#!/usr/bin/env python3
"""Counts the instructions that a decision for another proxy costs the thread that carries it, and holds them to a bound.

    benches/decisions.py [--entrada PATH] [--most 70000]

As `benches/instructions.py` does for requests: the binary that is shipped (profile `dist`) runs under valgrind, once for few questions and once for many, and the
difference is what the questions cost. Each question has a token that was seen before, and its answer an identity header. The dialects over
HTTP are asked on one connection; `envoy-grpc` is, too, where `grpcio` is installed: one question at a time, and as from a busy Envoy, 16 of them.
"""

import argparse
import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
FEW, MANY = 100, 1_100
CHECK = "/envoy.service.auth.v3.Authorization/Check"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def field(number: int, value: bytes) -> bytes:
    """A field of Protocol Buffers that holds bytes."""
    length, size = len(value), b""
    while length >= 0x80:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + value


def check_request(token: str) -> bytes:
    pairs = {"accept": "*/*", "authorization": f"Bearer {token}", "user-agent": "bench", "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"}
    raw = b"".join(field(1, field(1, name.encode()) + field(3, value.encode())) for name, value in pairs.items())
    http = field(2, b"GET") + field(4, b"/orders/42?x=1") + field(5, b"api.contoso.example") + field(6, b"https") + field(10, b"HTTP/1.1") + field(13, raw)
    source = field(1, field(1, field(2, b"203.0.113.7")))
    return field(1, field(1, source) + field(4, field(2, http)))


class Http:
    """A proxy that asks over HTTP, on one connection."""

    def __init__(self, port: int, token: str):
        self.connection = socket.create_connection(("127.0.0.1", port), 30)
        fields = ["Host: localhost", f"Authorization: Bearer {token}", "Accept: */*", "X-Forwarded-Method: GET", "X-Forwarded-Proto: https",
                  "X-Forwarded-Host: api.contoso.example", "X-Forwarded-Uri: /orders/42?x=1", "X-Forwarded-For: 203.0.113.7"]
        self.question = ("GET /decide HTTP/1.1\r\n" + "\r\n".join(fields) + "\r\n\r\n").encode()

    def ask(self) -> bool:
        self.connection.sendall(self.question)
        received = b""
        while b"\r\n\r\n" not in received:
            received += self.connection.recv(65_536)
        return received.startswith(b"HTTP/1.1 200 ")

    def close(self):
        self.connection.close()


class Grpc:
    """Envoy, as far as the gateway can tell."""

    def __init__(self, port: int, token: str):
        import grpc

        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
        self.call, self.question = self.channel.unary_unary(CHECK), check_request(token)

    def ask(self) -> bool:
        return self.admits(self.call(self.question, timeout=30))

    @staticmethod
    def admits(answer: bytes) -> bool:
        # The first field of an admission is a status without a code.
        return answer[2:3] != b"\x08"

    def close(self):
        self.channel.close()


class Many(Grpc):
    """The same, with several questions at a time."""

    each = 16

    def ask(self) -> bool:
        calls = [self.call.future(self.question, timeout=30) for _ in range(self.each)]
        return all(self.admits(call.result()) for call in calls)


def config(port: int, dialect: str, facts: dict) -> str:
    return f"""
listeners: [ {{ name: asked, address: "127.0.0.1:{port}", decides: {{ dialect: {dialect}, peers: [127.0.0.1] }} }} ]
admin: {{ address: "127.0.0.1:{free_port()}" }}
tenants: {{ contoso: {{ id: {facts['tenant_id']}, authority: "{facts['base_url']}" }} }}
routes:
  - name: orders
    match: {{ hosts: [api.contoso.example], path: /orders }}
    inbound:
      - ip-filter: {{ action: allow, addresses: [203.0.113.0/24] }}
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], scopes: [Orders.Read] }}
    identity-headers: {{ X-User: {{ claim: oid }} }}
    decide-only: true
audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"""


@contextlib.contextmanager
def tenant(entrada: str):
    """A development tenant: its facts, and a token of a user of its own."""
    server = subprocess.Popen([entrada, "dev-tenant", "--address", "127.0.0.1:0", "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        facts = json.loads(server.stdout.readline())
        wanted = json.dumps({"user": "nia", "audience": "api://orders", "scopes": ["Orders.Read"]}).encode()
        with urllib.request.urlopen(f"{facts['base_url']}/dev/token?format=text", data=wanted, timeout=10) as answer:
            yield facts, answer.read().decode().strip()
    finally:
        server.terminate()
        server.wait(15)


def start(command: list[str], folder: Path, dialect: str, asks, facts: dict, token: str):
    """A gateway that answers questions, and a proxy whose first question it has answered."""
    port = free_port()
    (folder / "entrada.yaml").write_text(config(port, dialect, facts))
    command = [*command, "run", "--workers", "1", "--config", folder / "entrada.yaml"]
    with open(folder / "log", "wb") as log:
        gateway = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while True:
        try:
            proxy = asks(port, token)
            if proxy.ask():
                return gateway, proxy
            proxy.close()
        except Exception:  # noqa: BLE001 - it is not there yet, whatever the library calls that
            pass
        if time.monotonic() > deadline:
            gateway.kill()
            raise SystemExit((folder / "log").read_text()[-2000:])
        time.sleep(1)


def count(entrada: str, folder: Path, dialect: str, asks, facts: dict, token: str, times: int) -> int:
    """The instructions of the thread that carries the questions, from its first to its last."""
    folder = folder / f"{dialect}-{times}"
    folder.mkdir()
    gateway, proxy = start(["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/out", entrada], folder, dialect, asks, facts, token)
    try:
        for _ in range(times):
            assert proxy.ask(), "a good request was refused"
        proxy.close()
        gateway.send_signal(signal.SIGTERM)
        gateway.wait(60)
    finally:
        gateway.kill()
    carried = [text for text in (file.read_text() for file in folder.glob("out-*")) if "entrada::gateway::decide" in text]
    assert carried, "no thread carried questions"
    return sum(int(re.search(r"^totals: (\d+)", text, re.M).group(1)) for text in carried)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entrada", default=str(HERE.parent / "target/dist/entrada"), help="the gateway's binary, of the profile dist")
    parser.add_argument("--most", type=int, default=70_000, help="the bound of each dialect")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed")
    dialects = {"traefik": Http, "caddy": Http, "nginx": Http}
    try:
        import grpc  # noqa: F401 - only whether it is there

        dialects = {"envoy-grpc": Grpc, f"envoy-grpc, {Many.each} at a time": Many} | dialects
    except ImportError:
        print("grpcio is not installed: envoy-grpc is not counted")
    above = []
    with tenant(options.entrada) as (facts, token), tempfile.TemporaryDirectory(prefix="entrada-decisions-") as name:
        for words, asks in dialects.items():
            dialect, each = words.split(",")[0], getattr(asks, "each", 1)
            folder = Path(name) / str(each)
            folder.mkdir(exist_ok=True)
            few, many = (count(options.entrada, folder, dialect, asks, facts, token, times // each) for times in (FEW, MANY))
            found = round((many - few) / (MANY // each - FEW // each) / each)
            print(f"{words}: {found:,} instructions a decision", flush=True)
            above += [words] * (found > options.most)
    if above:
        raise SystemExit(f"{', '.join(above)}: more than {options.most:,}")


if __name__ == "__main__":
    main()

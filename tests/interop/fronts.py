"""The proxies in front: how each is started with its shipped config, what it asks, what its backend receives, and a way to entrada that can be cut."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import requests
from interop import free_port, free_ports, wait_until

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "decisions"
#: The listeners of `entrada.yaml` by their shipped ports, and the port that the proxies listen on and the backend's.
PORTS = {"envoy-grpc": 9191, "envoy-http": 9192, "traefik": 9193, "caddy": 9194, "nginx": 9195}
FRONT, BACKEND = 8080, 3000
#: The proxies: the dialect that each speaks, and its shipped config.
PROXIES = {
    "envoy-grpc": ("envoy-grpc", "envoy-grpc.yaml"),
    "envoy-http": ("envoy-http", "envoy-http.yaml"),
    "traefik": ("traefik", "traefik.yaml"),
    # The one that Debian has, and one that removes fields itself.
    "caddy": ("caddy", "Caddyfile"),
    "caddy-current": ("caddy", "Caddyfile"),
    "nginx": ("nginx", "nginx.conf"),
    "haproxy": ("traefik", "haproxy.cfg"),
}
#: What an open WebSocket begins with at the backend, the key that clients send, and what belongs to it (RFC 6455, section 1.3).
GREETING = b"\x81\x05hello"
WEBSOCKET_KEY, WEBSOCKET_ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


class Backend(BaseHTTPRequestHandler):
    """Says what reached it, in the order in which it came; a WebSocket gets a greeting, and back what it sends."""

    protocol_version = "HTTP/1.1"
    received = []
    lock = threading.Lock()

    def answer(self):
        body = self.body()
        fields = [(name.lower(), value) for name, value in self.headers.items()]
        with self.lock:
            self.received.append({"method": self.command, "path": self.path, "headers": fields, "body": body})
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.tunnel()
        body = b"from the backend"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def tunnel(self):
        self.close_connection = True
        head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + WEBSOCKET_ACCEPT
        self.wfile.write(head + b"\r\n\r\n" + GREETING)
        self.wfile.flush()
        while part := self.connection.recv(65536):
            self.connection.sendall(part)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = answer

    def log_message(self, *_):
        pass

    @classmethod
    def taken(cls):
        """What came since the last time this was asked."""
        with cls.lock:
            came, cls.received[:] = list(cls.received), []
        return came


def values(came, name):
    """The values of a field that reached the backend, in whatever spelling; an empty one is none, since Caddy before 2.7 empties what others remove."""
    return [value for field, value in came["headers"] if re.sub("[^a-z]", "-", field) == name and value]


def raw(port, request, seconds=20):
    """Sends these bytes, and reads the answer: status, header and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(request)
        answer = b""
        while True:
            try:
                part = connection.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    # What a proxy says before the answer.
    while re.match(rb"HTTP/1\.1 10[0-9] ", head):
        head, _, body = body.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
    fields = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines[1:]]
    return status, [(name.lower(), value) for name, value in fields], body.decode("latin-1")


def request(target, *fields, method="GET", host="api.contoso.example", version="HTTP/1.1", body=""):
    lines = [f"{method} {target} {version}", f"Host: {host}", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def code_of(fields, body):
    """The code of a refusal, as far as the proxy passes it on."""
    for name, value in fields:
        if name == "x-entrada-code":
            return value
    found = re.search(r'"code":"([a-z0-9-]+)"', body)
    return found.group(1) if found else ""


def connects(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Way:
    """The way from a proxy to the listener that decides: it can be cut, or lead to something that answers with nonsense."""

    def __init__(self, to):
        self.to, self.nonsense, self.open, self.lock = to, None, set(), threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        if self.nonsense is not None:
            with near, contextlib.suppress(OSError):
                near.recv(65536)
                near.sendall(self.nonsense)
            return
        try:
            far = socket.create_connection(("127.0.0.1", self.to), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        with self.lock:
            self.open |= {near, far}
        for source, sink in [(near, far), (far, near)]:
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.carry, args=(source, sink), daemon=True).start()

    def carry(self, source, sink):
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                sink.sendall(part)
        # Both, so that the other direction ends, too.
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self.lock:
            self.open -= {source, sink}
        source.close()

    def close_all(self):
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def answering(self, nonsense):
        """Whoever asks gets these bytes, and the end."""
        self.nonsense = nonsense
        self.close_all()
        try:
            yield
        finally:
            self.nonsense = None

    @contextlib.contextmanager
    def closed(self):
        """Nobody listens."""
        # A thread that waits in `accept` would keep the socket open.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.close_all()
        try:
            yield
        finally:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.close_all()


def moved(text, ports, front, backend):
    """A shipped config on the ports of this run."""
    for name, port in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports[name]}").replace(f"port_value: {port} ", f"port_value: {ports[name]} ")
    text = text.replace(f"127.0.0.1:{FRONT}", f"127.0.0.1:{front}").replace(f"port_value: {FRONT} ", f"port_value: {front} ")
    text = text.replace(f":{FRONT} {{", f":{front} {{")
    return text.replace(f"127.0.0.1:{BACKEND}", f"127.0.0.1:{backend}").replace(f"port_value: {BACKEND} ", f"port_value: {backend} ")


def beside(text, services):
    """Envoy's config with a service of gRPC beside the backend, as its operator would write it."""
    text = text.replace("routes: [ ", "routes: [ { match: { prefix: /contoso.Greeter/ }, route: { cluster: greeter } }, ")
    http2 = re.search(r"      typed_extension_protocol_options:\n(        .*\n)+", text).group()
    return text + f"""    - name: greeter
{http2}      load_assignment:
        cluster_name: greeter
        endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {services} }} }} }} }} ] }} ]
"""


class Front:
    """A proxy in front, which asks the listener of its dialect over a way that can be cut."""

    def __init__(self, name, arguments, bed, processes):
        self.name, self.bed = name, bed
        self.dialect, self.file = PROXIES[name]
        self.port, self.way = free_port(), Way(bed.ports[self.dialect])
        folder = bed.work / name
        folder.mkdir()
        self.process = self.start(arguments, folder, processes)

    def start(self, arguments, work, processes):
        name, front = self.name, self.port
        # A `traefik.yaml` where it runs would be Traefik's static configuration.
        config = work / ("dynamic.yaml" if name == "traefik" else self.file)
        text = moved((SHIPPED / self.file).read_text(), self.bed.ports | {self.dialect: self.way.port}, front, self.bed.backend)
        if name == "nginx":
            text = f"daemon off; error_log {work}/nginx.log; pid {work}/nginx.pid;\n" + text.replace(
                "http {",
                f"http {{ access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; "
                f"fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;",
            )
        if name == "envoy-grpc":
            text = beside(text, self.bed.services)
        config.write_text(text)
        if name == "haproxy":
            shutil.copy(SHIPPED / "decide.lua", work)
        envoy = [arguments.envoy, "-c", config, "--concurrency", "1", "--log-level", "warn", "--use-dynamic-base-id"]
        caddy = ["run", "--adapter", "caddyfile", "--config", config]
        line = {
            "envoy-grpc": envoy,
            "envoy-http": envoy,
            "traefik": [arguments.traefik, f"--entrypoints.front.address=127.0.0.1:{front}", f"--providers.file.filename={config}", "--log.level=ERROR",
                        "--global.checknewversion=false"],
            "caddy": [arguments.caddy, *caddy],
            "caddy-current": [arguments.caddy_current, *caddy],
            "nginx": [arguments.nginx, "-c", config, "-p", work],
            "haproxy": [arguments.haproxy, "-db", "-f", config],
        }[name]
        process = processes.start(name, *map(str, line), cwd=work, env=os.environ | {"HOME": str(work)})
        wait_until(lambda: connects(front), f"{name} listens")
        # Traefik listens before it has read its routes.
        wait_until(lambda: self.ask("/orders/17")[0] in (401, 403), f"{name} asks")
        return process

    def ask(self, target, *fields, **options):
        return raw(self.port, request(target, *fields, **options))

    def told(self, status):
        """The status that a client gets for one of entrada's."""
        return 403 if self.dialect == "nginx" and status not in (401, 403) else status

    def asks_again(self):
        wait_until(lambda: self.ask("/orders/17", self.bed.bearer)[0] == 200, f"{self.name} asks again")
        Backend.taken()

    def end(self):
        self.process.terminate()
        self.process.wait(15)
        self.way.close()


class Bed:
    """entrada with the shipped config, a development tenant, further routes, and the same routes proxied beside it."""

    def __init__(self, arguments, processes, backend):
        self.work, self.backend = Path(arguments.work), backend
        self.ports = free_ports(["admin", "health", "public", "encrypted", *PORTS])
        self.services = free_port()
        tenant = processes.start("dev-tenant", arguments.entrada, "dev-tenant", "--address", "127.0.0.1:0", "--format", "json", stdout=subprocess.PIPE)
        facts = json.loads(tenant.stdout.readline())
        self.base = facts["base_url"]
        self.config = self.work / "entrada.yaml"
        self.config.write_text(self.written(facts["tenant_id"]))
        line = [arguments.entrada, "run", "--config", self.config]
        self.gateway = processes.start("entrada", *line, cwd=self.work, stdout=subprocess.DEVNULL)
        ready = f"http://127.0.0.1:{self.ports['health']}/readyz"
        wait_until(lambda: connects(self.ports["health"]) and requests.get(ready, timeout=5).ok, "entrada is ready")
        self.read, self.recorded = 0, {}
        self.token = self.minted()
        self.bearer = ("Authorization", f"Bearer {self.token}")

    def written(self, tenant):
        text = moved((SHIPPED / "entrada.yaml").read_text(), self.ports, 0, self.backend)
        text = re.sub(r"contoso: \{ id: [0-9a-f-]+ \}", f'contoso: {{ id: {tenant}, authority: "{self.base}" }}', text)
        text = text.replace("stdout: { format: json }", "file: { path: audit.jsonl }")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-keyout", self.work / "server.key", "-out", self.work / "server.pem"],
                       check=True, capture_output=True, timeout=60)
        listeners = f"""listeners:
  - {{ name: public, address: "127.0.0.1:{self.ports['public']}" }}
  - {{ name: encrypted, address: "127.0.0.1:{self.ports['encrypted']}", tls: {{ certificate: server.pem, private-key: server.key }} }}
"""
        text = text.replace("listeners:\n", listeners)
        text = text.replace("decide-only: true", "upstream: backend")
        text = text.replace("peers: [127.0.0.1]", "peers: [127.0.0.1], routes: [orders, notes, chat, few, challenged, greeter]")
        token = """validate-azure-ad-token: { tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], scopes: [Orders.Read], roles: [Orders.Read.All] }"""
        routes = f"""
  - name: notes
    match: {{ path: /notes }}
    inbound: [ {token} ]
    identity-headers: {{ X-User: {{ claim: nickname, when-absent: skip }} }}
    upstream: backend
  - {{ name: chat, match: {{ path: /chat }}, inbound: [ {token} ], identity-headers: {{ X-User: {{ claim: oid }} }}, upgrades: [websocket], upstream: backend }}
  - name: few
    match: {{ path: /few }}
    anonymous: true
    inbound: [ rate-limit-by-key: {{ calls: 2, renewal-period: 1h, counter-key: "@(request.headers['x-key'])" }} ]
    upstream: backend
  - name: challenged
    match: {{ path: /challenged }}
    inbound: [ {token} ]
    on-error: [ set-header: {{ name: WWW-Authenticate, value: 'Basic realm="contoso"', exists-action: append }} ]
    upstream: backend
  - {{ name: greeter, match: {{ path: /contoso.Greeter }}, inbound: [ {token} ], authorization: keep, upstream: greeter }}
"""
        return text.replace("\naudit:", routes + "\naudit:") + f"""
admin: {{ address: "127.0.0.1:{self.ports['admin']}" }}
health: {{ address: "127.0.0.1:{self.ports['health']}" }}
upstreams:
  backend: {{ servers: ["http://127.0.0.1:{self.backend}"] }}
  greeter: {{ servers: ["http://127.0.0.1:{self.services}"], protocol: http2 }}
"""

    def minted(self, **wanted):
        wanted = {"user": "nia", "audience": "api://orders", "scopes": ["Orders.Read"]} | wanted
        answer = requests.post(f"{self.base}/dev/token?format=text", json=wanted, timeout=10)
        answer.raise_for_status()
        return answer.text.strip()

    def records(self, ids, seconds=20):
        """Waits for the records of these requests, and returns all by their ids."""
        end = time.monotonic() + seconds
        with (self.work / "audit.jsonl").open("rb") as file:
            while not ids <= self.recorded.keys():
                if time.monotonic() > end:
                    raise TimeoutError(f"no records of {sorted(ids - self.recorded.keys())[:3]}")
                file.seek(self.read)
                new = file.read()
                whole = new[: new.rfind(b"\n") + 1]
                self.read += len(whole)
                self.recorded |= {record["request_id"]: record for record in map(json.loads, whole.splitlines())}
                time.sleep(0.01)
        return self.recorded

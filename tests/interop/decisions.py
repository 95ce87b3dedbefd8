"""Real proxies in front, with entrada deciding: Envoy over gRPC and HTTP, Traefik, Caddy, nginx, and HAProxy with the script of `config/decisions`.

Each proxy runs with the config that the repository ships, on other ports; what its backend received is what counts. Then clients of gRPC, with
Google's own library, through the gateway itself."""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import grpc
import requests
from interop import check, conduct, expect, free_port, free_ports, wait_until

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
#: Requests that each proxy is given at random, and the gateway itself as well.
DIFFERENTIAL = 400


class Backend(BaseHTTPRequestHandler):
    """Says what reached it, in the order in which it came."""

    protocol_version = "HTTP/1.1"
    received = []
    lock = Lock()

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        with self.lock:
            self.received.append({"method": self.command, "path": self.path, "headers": [(n.lower(), v) for n, v in self.headers.items()]})
        body = b"from the backend"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = answer

    def log_message(self, *_):
        pass

    @classmethod
    def taken(cls):
        """What came since the last time this was asked."""
        with cls.lock:
            came, cls.received[:] = list(cls.received), []
        return came


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
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
    fields = [tuple(line.split(": ", 1)) if ": " in line else (line.rstrip(":"), "") for line in lines[1:]]
    return status, [(name.lower(), value) for name, value in fields], body.decode("latin-1")


def request(target, *fields, method="GET", host="api.contoso.example"):
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in fields), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def code_of(fields, body):
    """The code of a refusal, as far as the proxy passes it on."""
    for name, value in fields:
        if name == "x-entrada-code":
            return value
    found = re.search(r'"code":"([a-z0-9-]+)"', body)
    return found.group(1) if found else ""


def moved(text, ports, front, backend):
    """A shipped config on the ports of this run."""
    for name, port in PORTS.items():
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports[name]}").replace(f"port_value: {port} ", f"port_value: {ports[name]} ")
    text = text.replace(f"127.0.0.1:{FRONT}", f"127.0.0.1:{front}").replace(f"port_value: {FRONT} ", f"port_value: {front} ")
    text = text.replace(f":{FRONT} {{", f":{front} {{")
    return text.replace(f"127.0.0.1:{BACKEND}", f"127.0.0.1:{backend}").replace(f"port_value: {BACKEND} ", f"port_value: {backend} ")


def start_proxy(name, arguments, work, ports, front, backend, processes):
    # A `traefik.yaml` where it runs would be Traefik's static configuration.
    config = work / ("dynamic.yaml" if name == "traefik" else PROXIES[name][1])
    text = moved((SHIPPED / PROXIES[name][1]).read_text(), ports, front, backend)
    if name == "nginx":
        text = f"daemon off; error_log {work}/nginx.log; pid {work}/nginx.pid;\n" + text.replace(
            "http {",
            f"http {{ access_log off; client_body_temp_path {work}/body; proxy_temp_path {work}/proxy; "
            f"fastcgi_temp_path {work}/f; uwsgi_temp_path {work}/u; scgi_temp_path {work}/s;",
        )
    config.write_text(text)
    if name == "haproxy":
        shutil.copy(SHIPPED / "decide.lua", work)
    line = {
        "envoy-grpc": [arguments.envoy, "-c", config, "--concurrency", "1", "--log-level", "warn", "--use-dynamic-base-id"],
        "envoy-http": [arguments.envoy, "-c", config, "--concurrency", "1", "--log-level", "warn", "--use-dynamic-base-id"],
        "traefik": [arguments.traefik, f"--entrypoints.front.address=127.0.0.1:{front}", f"--providers.file.filename={config}", "--log.level=WARN",
                    "--global.checknewversion=false"],
        "caddy": [arguments.caddy, "run", "--adapter", "caddyfile", "--config", config],
        "caddy-current": [arguments.caddy_current, "run", "--adapter", "caddyfile", "--config", config],
        "nginx": [arguments.nginx, "-c", config, "-p", work],
        "haproxy": [arguments.haproxy, "-db", "-f", config],
    }[name]
    process = processes.start(name, *map(str, line), cwd=work, env=os.environ | {"HOME": str(work)})
    wait_until(lambda: connects(front), f"{name} listens")
    # Traefik listens before it has read its routes.
    wait_until(lambda: raw(front, request("/orders/17"))[0] in (401, 403), f"{name} asks")
    return process


def connects(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def fails(call):
    """Makes a call of gRPC that has to fail; returns its status and its detail."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call succeeded")


def stopped(pid):
    """Whether all threads of a process are stopped."""
    return all(stat.read_text().rsplit(") ", 1)[1].startswith("T") for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def walk(arguments, processes):
    work = Path(arguments.work)
    names = ["admin", "health", "public", "encrypted", *PORTS]
    ports = free_ports(names)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    # A proxy that ends resets its connections.
    server.handle_error = lambda *_: None
    Thread(target=server.serve_forever, daemon=True).start()
    backend = server.server_address[1]

    tenant = processes.start("dev-tenant", arguments.entrada, "dev-tenant", "--address", "127.0.0.1:0", "--format", "json", stdout=subprocess.PIPE)
    facts = json.loads(tenant.stdout.readline())
    base = facts["base_url"]

    def minted(**wanted):
        wanted = {"user": "nia", "audience": "api://orders", "scopes": ["Orders.Read"]} | wanted
        return requests.post(f"{base}/dev/token?format=text", json=wanted, timeout=10).text.strip()

    # The shipped config, with the development tenant, and the same route proxied beside it: what both must agree on.
    shipped = moved((SHIPPED / "entrada.yaml").read_text(), ports, 0, backend)
    shipped = re.sub(r"contoso: \{ id: [0-9a-f-]+ \}", f'contoso: {{ id: {facts["tenant_id"]}, authority: "{base}" }}', shipped)
    shipped = shipped.replace("stdout: { format: json }", "file: { path: audit.jsonl }")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost", "-keyout", work / "server.key", "-out", work / "server.pem"], check=True, capture_output=True, timeout=60)
    encrypted = f'  - {{ name: encrypted, address: "127.0.0.1:{ports["encrypted"]}", tls: {{ certificate: server.pem, private-key: server.key }} }}\n'
    shipped = shipped.replace("listeners:\n", f'listeners:\n  - {{ name: public, address: "127.0.0.1:{ports["public"]}" }}\n{encrypted}')
    shipped = shipped.replace("decide-only: true", "upstream: backend").replace("peers: [127.0.0.1]", "peers: [127.0.0.1], routes: [orders]")
    services = free_port()
    more = f"""
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
health: {{ address: "127.0.0.1:{ports['health']}" }}
upstreams:
  backend: {{ servers: ["http://127.0.0.1:{backend}"] }}
  greeter: {{ servers: ["http://127.0.0.1:{services}"], protocol: http2 }}
"""
    shipped += more
    route = f"""
  - name: greeter
    match: {{ path: /contoso.Greeter }}
    inbound:
      - validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], scopes: [Orders.Read], roles: [Orders.Read.All] }}
    authorization: keep
    upstream: greeter
"""
    shipped = shipped.replace("\naudit:", route + "\naudit:")
    (work / "entrada.yaml").write_text(shipped)
    gateway = processes.start("entrada", arguments.entrada, "run", "--config", work / "entrada.yaml", cwd=work, stdout=subprocess.DEVNULL)
    wait_until(lambda: connects(ports["health"]) and requests.get(f"http://127.0.0.1:{ports['health']}/readyz", timeout=5).ok, "entrada is ready")
    token = minted()
    bearer = ("Authorization", f"Bearer {token}")

    @check("check prints what the shipped configs of the proxies hold")
    def _():
        told = subprocess.run([arguments.entrada, "check", "--format", "json", SHIPPED / "entrada.yaml"], capture_output=True, text=True, timeout=60)
        report = json.loads(told.stdout)
        expect(report["passed"], True, f"result: {told.stdout}")
        found = {entry["listener"]: entry["settings"] for entry in report["decisions"]}
        expect(sorted(found), sorted(PORTS), "listeners")
        for listener, program, file in [
            ("traefik", "Traefik", "traefik.yaml"), ("traefik", "HAProxy", "haproxy.cfg"), ("caddy", "Caddy", "Caddyfile"),
            ("nginx", "nginx", "nginx.conf"), ("envoy-http", "Envoy", "envoy-http.yaml"), ("envoy-grpc", "Envoy", "envoy-grpc.yaml"),
        ]:
            text = re.sub(r"\s+", " ", (SHIPPED / file).read_text())
            for line in found[listener][program].splitlines():
                line = re.sub(r"\s+", " ", line.split(" #")[0]).strip()
                names = line.startswith(("- ", "copy_headers", "proxy_set_header x", "auth_request_set", "http-request"))
                if names and not line.startswith("- name:") and line not in text:
                    raise AssertionError(f"{file} lacks {line!r}")

    for name in PROXIES:
        front = free_port()
        folder = work / name
        folder.mkdir()
        front_process = start_proxy(name, arguments, folder, ports, front, backend, processes)
        dialect = PROXIES[name][0]
        ask = lambda *line, front=front, **options: raw(front, request(*line, **options))  # noqa: E731
        refused_as = (lambda status: status if status in (401, 403) else 403) if dialect == "nginx" else (lambda status: status)
        Backend.taken()

        @check(f"{name}: a request with a token gets through, with its identity and without the token")
        def _(ask=ask):
            status, _, body = ask("/orders/17?x=%2F&y", bearer, ("X-User", "evil"), ("Accept", "*/*"))
            expect((status, body), (200, "from the backend"), "answer")
            (came,) = Backend.taken()
            expect(came["path"], "/orders/17?x=%2F&y", "target")
            users = [value for field, value in came["headers"] if re.sub("[^a-z]", "-", field) == "x-user"]
            expect(len(users) == 1 and len(users[0]) == 36, True, f"identity {users}")
            # Caddy before 2.7 empties a field that others remove.
            expect([value for field, value in came["headers"] if field == "authorization" and value], [], "tokens")

        @check(f"{name}: without a token the client gets the refusal, and the backend nothing")
        def _(ask=ask, dialect=dialect):
            status, fields, body = ask("/orders/17")
            expect(status, 401, "status")
            if dialect != "nginx":  # which writes a page of its own
                expect(code_of(fields, body), "token-missing", "code")
            expect(any(field == "www-authenticate" for field, _ in fields), True, f"challenge in {fields}")
            expect(Backend.taken(), [], "requests")

        @check(f"{name}: identity in three spellings never reaches the backend")
        def _(ask=ask):
            for spelling in ["X-User", "x_user", "X.User", "X-MS-CLIENT-PRINCIPAL-NAME", "X-Auth-User"]:
                status, _, _ = ask("/orders/17", bearer, (spelling, "evil"))
                for came in Backend.taken():
                    expect([value for _, value in came["headers"] if value == "evil"], [], f"{spelling} ({status})")

        @check(f"{name}: fields by which proxies ask decide nothing when a client writes them")
        def _(ask=ask):
            for spoofed in ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Host", "X-Original-URL", "X-Original-URI", "Forwarded"]:
                status, _, _ = ask("/other", bearer, (spoofed, "/orders/17"))
                expect(status != 200 and Backend.taken() == [], True, f"{spoofed}: {status}")
                status, _, _ = ask("/orders/17", ("X-Forwarded-For", "10.0.0.1"), (spoofed, "/orders/17"))
                expect(status != 200 and Backend.taken() == [], True, f"{spoofed} without a token: {status}")

        @check(f"{name}: a client that erases its token has none")
        def _():
            lines = b"GET /orders/17 HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer " + token.encode() + b"\r\nConnection: close, authorization\r\n\r\n"
            status, _, _ = raw(front, lines)
            came = Backend.taken()
            # Refused, or forwarded with the identity of the token that was there; never without.
            expect(status == 401 and came == [] or [v for f, v in came[0]["headers"] if f == "x-user"] != [], True, f"{status} {came}")

        @check(f"{name}: targets that could be read in two ways are not forwarded in another one")
        def _(ask=ask):
            for target in ["/orders/../other", "/orders/%2e%2e/other", "/orders/..;/other", "/orders%2f..%2fother", "/orders%5cother", "/orders//17", "/%zz", "/orders/;a=b", "/other/%2e%2e/orders/1"]:
                status, _, _ = ask(target, bearer)
                for came in Backend.taken():
                    expect(came["path"].startswith("/orders/") and ".." not in came["path"] and "%2" not in came["path"].lower(), True, f"{target} became {came['path']} ({status})")

        @check(f"{name}: two tokens are none")
        def _(ask=ask):
            status, _, _ = ask("/orders/17", bearer, ("Authorization", "Bearer a.b.c"))
            expect(status >= 400 and Backend.taken() == [], True, f"status {status}")

        @check(f"{name}: a WebSocket without a token opens nowhere")
        def _():
            lines = ["GET /orders/17 HTTP/1.1", "Host: api.contoso.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
            with socket.create_connection(("127.0.0.1", front), timeout=20) as connection:
                connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
                status = int(connection.recv(65536).split(b" ")[1])
            expect(status in (401, 403), True, f"status {status}")
            expect(Backend.taken(), [], "requests")

        @check(f"{name}: a long field reaches the backend as it is")
        def _(ask=ask):
            note = "n" * 6_000
            status, _, _ = ask("/orders/17", bearer, ("X-Note", note))
            expect((status, [value for came in Backend.taken() for field, value in came["headers"] if field == "x-note"]), (200, [note]), "field")

        if name == "envoy-grpc":

            @check(f"{name}: a client of gRPC is refused in its own terms, with the code as detail")
            def _():
                with grpc.insecure_channel(f"127.0.0.1:{front}", options=[("grpc.enable_http_proxy", 0)]) as called:
                    get = called.unary_unary("/orders/Get")
                    expect(fails(lambda: get(b"", timeout=20)), (grpc.StatusCode.UNAUTHENTICATED, "token-missing"), "error")
                    weak = [("authorization", f"Bearer {minted(scopes=['Other'])}")]
                    expect(fails(lambda: get(b"", metadata=weak, timeout=20)), (grpc.StatusCode.PERMISSION_DENIED, "scope-missing"), "error")
                expect(Backend.taken(), [], "requests")

        @check(f"{name}: {DIFFERENTIAL} generated requests are decided as the gateway proxies them")
        def _(ask=ask, name=name, dialect=dialect):
            choose, alike, stated = random.Random(name), 0, 0
            tokens = [token, token, token, minted(scopes=["Other"]), minted(audience="api://other"), "a.b.c"]
            for _ in range(DIFFERENTIAL):
                fields = [("Accept", "*/*")]
                if choose.random() < 0.85:
                    fields.append(("Authorization", f"Bearer {choose.choice(tokens)}"))
                for _ in range(choose.randrange(3)):
                    fields.append((choose.choice(["X-User", "X-Request-Id", "Cookie", "X-Tier", "Accept-Language", "x_user", "X-Real-IP"]), "evil"))
                target = choose.choice(["/orders", "/orders/1", "/orders/1?a=b,c", "/other", "/", "/ordersx", "/orders/%41", "/orders/a b".replace(" ", "%20")])
                method = choose.choice(["GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
                sized = fields + ([("Content-Length", "0")] if method in ("POST", "PUT", "PATCH") else [])
                direct, _, told = raw(ports["public"], request(target, *sized, method=method))
                Backend.taken()
                status, headers, body = ask(target, *sized, method=method)
                came = Backend.taken()
                if status == 200:
                    expect((direct, len(came)), (200, 1), f"{method} {target} {fields}: {told}")
                    expect([v for _, v in came[0]["headers"] if v == "evil" and _ in ("x-user", "x_user", "x-real-ip")], [], f"{fields}")
                    alike += 1
                else:
                    expect(came, [], f"{method} {target} {fields}")
                    code = code_of(headers, body)
                    odd = any(field == "x_user" for field, _ in fields)
                    if direct == 200:
                        expect(odd and dialect != "envoy-grpc", True, f"{method} {target} {fields}: {status} {code}")
                        stated += 1
                    else:
                        expect(status in (refused_as(direct), refused_as(400)), True, f"{method} {target} {fields}: {status} {code}, and {direct} {told}")
                        alike += 1
            return f"{alike} alike, {stated} refused for a field that the proxy cannot remove"

        @check(f"{name}: while nobody decides, nothing gets through")
        def _(front=front, ask=ask, name=name):
            gateway.send_signal(signal.SIGSTOP)  # it is there, and says nothing
            try:
                # On a busy machine its threads go on until one of them has taken the signal.
                wait_until(lambda: stopped(gateway.pid), "the gateway has stopped")
                status, _, _ = raw(front, request("/orders/17", bearer), seconds=3)
                expect(status >= 400, True, f"status {status}")
            except TimeoutError:
                pass  # Caddy and nginx wait far longer
            finally:
                gateway.send_signal(signal.SIGCONT)
            # One that waited is answered by now, if its proxy still holds it.
            wait_until(lambda: ask("/orders/17", bearer)[0] == 200, f"{name} asks again")
            Backend.taken()

        front_process.terminate()
        front_process.wait(15)

    # Clients of gRPC, with nothing in between but the gateway.
    class Greeter(grpc.GenericRpcHandler):
        def service(self, details):
            def unary(body, context):
                deadline = context.time_remaining()
                return b"hello " + body + (b" in time" if deadline is not None and deadline < 60 else b"")

            def many(body, context):
                for number in range(int(body)):
                    yield str(number).encode()

            def both(bodies, context):
                for body in bodies:
                    yield body[::-1]

            def slow(body, context):
                for _ in range(200):
                    if not context.is_active():
                        return b""
                    time.sleep(0.05)
                return b"late"

            return {
                "/contoso.Greeter/Hello": grpc.unary_unary_rpc_method_handler(unary),
                "/contoso.Greeter/Count": grpc.unary_stream_rpc_method_handler(many),
                "/contoso.Greeter/Mirror": grpc.stream_stream_rpc_method_handler(both),
                "/contoso.Greeter/Slow": grpc.unary_unary_rpc_method_handler(slow),
            }.get(details.method)

    greeter = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Greeter()])
    greeter.add_insecure_port(f"127.0.0.1:{services}")
    greeter.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{ports['public']}", options=[("grpc.enable_http_proxy", 0)])
    metadata = [("authorization", f"Bearer {token}")]

    hello, slow = channel.unary_unary("/contoso.Greeter/Hello"), channel.unary_unary("/contoso.Greeter/Slow")

    @check("grpc: a unary call, and its deadline reaches the service")
    def _():
        expect(hello(b"nia", metadata=metadata, timeout=20), b"hello nia in time", "answer")

    @check("grpc: a stream from the service, and one both ways")
    def _():
        counted = list(channel.unary_stream("/contoso.Greeter/Count")(b"500", metadata=metadata, timeout=20))
        expect((len(counted), counted[-1]), (500, b"499"), "messages")
        mirrored = list(channel.stream_stream("/contoso.Greeter/Mirror")(iter([b"abc", b"def"]), metadata=metadata, timeout=20))
        expect(mirrored, [b"cba", b"fed"], "messages")

    @check("grpc: a refused call raises its status, with the code as detail")
    def _():
        expect(fails(lambda: hello(b"nia", timeout=20)), (grpc.StatusCode.UNAUTHENTICATED, "token-missing"), "error")
        weak = [("authorization", f"Bearer {minted(scopes=['Other'])}")]
        expect(fails(lambda: hello(b"nia", metadata=weak, timeout=20)), (grpc.StatusCode.PERMISSION_DENIED, "scope-missing"), "error")
        unknown = channel.unary_unary("/contoso.Nobody/Hello")
        expect(fails(lambda: unknown(b"nia", metadata=metadata, timeout=20)), (grpc.StatusCode.UNIMPLEMENTED, "no-route"), "error")
        wait_until(lambda: '"grpc_status":7' in (work / "audit.jsonl").read_text(), "the record is written")
        record = next(json.loads(line) for line in (work / "audit.jsonl").read_text().splitlines() if '"grpc_status":7' in line)
        expect((record["status"], record["grpc_status"]), (403, 7), "record")

    @check("grpc: the same over TLS")
    def _():
        trusted = grpc.ssl_channel_credentials((work / "server.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{ports['encrypted']}", trusted, options=[("grpc.enable_http_proxy", 0)]) as secure:
            greet = secure.unary_unary("/contoso.Greeter/Hello")
            expect(greet(b"nia", metadata=metadata, timeout=20), b"hello nia in time", "answer")
            expect(len(list(secure.unary_stream("/contoso.Greeter/Count")(b"500", metadata=metadata, timeout=20))), 500, "messages")
            expect(fails(lambda: greet(b"nia", timeout=20)), (grpc.StatusCode.UNAUTHENTICATED, "token-missing"), "error")

    @check("grpc: a deadline ends the call on both sides")
    def _():
        began = time.monotonic()
        code, _ = fails(lambda: slow(b"", metadata=metadata, timeout=0.5))
        expect(code, grpc.StatusCode.DEADLINE_EXCEEDED, "status")
        expect(time.monotonic() - began < 5, True, "time")

    @check("grpc: a call that is cancelled ends")
    def _():
        call = slow.future(b"", metadata=metadata, timeout=20)
        time.sleep(0.2)
        call.cancel()
        expect(call.cancelled(), True, "cancelled")

    @check("the gateway ends when told to")
    def _():
        channel.close()
        greeter.stop(0)
        gateway.terminate()
        expect(gateway.wait(40), 0, "exit code")


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "nginx", "haproxy", "envoy", "traefik", "caddy", "caddy-current", "work"))

"""Real proxies in front, with entrada deciding: Envoy over gRPC and HTTP, Traefik, Caddy, nginx, and HAProxy with the script of `config/decisions`.

Each proxy runs with the config that the repository ships, on other ports; what its backend received is what counts. Then clients of gRPC, with
Google's own library, through the gateway itself."""

import json
import re
import signal
import socket
import subprocess
import sys
from concurrent import futures
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc
from calls import check_calls, fails, serve
from fronts import GREETING, PORTS, PROXIES, SHIPPED, WEBSOCKET_KEY, Backend, Bed, Front, code_of, raw, request, values
from generated import Generated, plain
from interop import check, conduct, expect, wait_until

#: Requests that each proxy is given at random, and the gateway itself as well.
GENERATED = 2_000
#: Answers to a question that are none.
NONSENSE = {
    "nothing": b"",
    "no HTTP": b"\x16\x03\x01\x00\x00nonsense\r\n\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nX-User: ev",
    "no final answer": b"HTTP/1.1 100 Continue\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
}


def stopped(pid):
    """Whether all threads of a process are stopped."""
    return all(stat.read_text().rsplit(") ", 1)[1].startswith("T") for stat in Path(f"/proc/{pid}/task").glob("*/stat"))


def walk(arguments, processes):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    # A proxy that ends resets its connections.
    server.handle_error = lambda *_: None
    Thread(target=server.serve_forever, daemon=True).start()
    bed = Bed(arguments, processes, server.server_address[1])

    greeter = serve(bed.services)

    check_printed(arguments)
    for name in PROXIES:
        front = Front(name, arguments, bed, processes)
        Backend.taken()
        check_requests(front, bed)
        check_targets(front, bed)
        check_values(front, bed)
        check_refusals(front, bed)
        check_websockets(front, bed)
        check_grpc(front, bed)
        check_generated(front, bed)
        check_outages(front, bed)
        front.end()
    check_calls(bed)
    greeter.stop(0)

    @check("the gateway ends when told to")
    def _():
        bed.gateway.terminate()
        expect(bed.gateway.wait(40), 0, "exit code")


def check_printed(arguments):
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


def check_requests(front, bed):
    name, ask, bearer = front.name, front.ask, bed.bearer

    @check(f"{name}: a request with a token gets through, with its identity and without the token, and leaves its record")
    def _():
        status, _, body = ask("/orders/17?x=%2F&y", bearer, ("X-User", "evil"), ("Accept", "*/*"))
        expect((status, body), (200, "from the backend"), "answer")
        (came,) = Backend.taken()
        expect(came["path"], "/orders/17?x=%2F&y", "target")
        users = values(came, "x-user")
        expect(len(users) == 1 and len(users[0]) == 36, True, f"identity {users}")
        expect(values(came, "authorization"), [], "tokens")
        (id,) = values(came, "x-request-id")
        record = bed.records({id})[id]
        found = [record[member] for member in ("decision", "dialect", "listener", "method", "path", "object_id")]
        expect(found, ["allow", front.dialect, front.dialect, "GET", "/orders/17", users[0]], "record")
        # For a client on loopback Envoy writes another address of the machine into X-Forwarded-For.
        expect("peer" in record and (record["source"], record["caller"]) == ("127.0.0.1",) * 2 or front.dialect == "envoy-http", True, f"addresses in {record}")

    @check(f"{name}: a body that was not asked about passes")
    def _():
        for fields, body in [([("Content-Length", "5")], "hello"), ([("Transfer-Encoding", "chunked")], "5\r\nhello\r\n0\r\n\r\n"), ([("Content-Length", "5"), ("Expect", "100-continue")], "hello")]:
            status, _, _ = ask("/orders/17", bearer, *fields, method="POST", body=body)
            expect((status, [came["body"] for came in Backend.taken()]), (200, [b"hello"]), f"{fields}")

    @check(f"{name}: identity in three spellings never reaches the backend")
    def _():
        for spelling in ["X-User", "x_user", "X.User", "X-MS-CLIENT-PRINCIPAL-NAME", "X-Auth-User"]:
            status, _, _ = ask("/orders/17", bearer, (spelling, "evil"))
            for came in Backend.taken():
                expect([value for _, value in came["headers"] if value == "evil"], [], f"{spelling} ({status})")

    @check(f"{name}: fields by which proxies ask decide nothing when a client writes them, and go no further")
    def _():
        for spoofed in ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Host", "X-Original-URL", "X-Original-URI", "Forwarded"]:
            status, _, _ = ask("/other", bearer, (spoofed, "/orders/17"))
            expect(status != 200 and Backend.taken() == [], True, f"{spoofed}: {status}")
            status, _, _ = ask("/orders/17", ("X-Forwarded-For", "10.0.0.1"), (spoofed, "/orders/17"))
            expect(status != 200 and Backend.taken() == [], True, f"{spoofed} without a token: {status}")
            status, _, _ = ask("/orders/17", bearer, (spoofed, "/other"))
            for came in Backend.taken():
                expect([value for _, value in came["headers"] if value == "/other"], [], f"{spoofed} ({status})")

    @check(f"{name}: a client that erases its token has none")
    def _():
        status, _, _ = ask("/orders/17", bearer, ("Connection", "close, authorization"))
        came = Backend.taken()
        # Refused, or forwarded with the identity of the token that was there; never without.
        expect(status in (400, 401, 403) and came == [] or values(came[0], "x-user") != [], True, f"{status} {came}")

    @check(f"{name}: two tokens are none")
    def _():
        status, _, _ = ask("/orders/17", bearer, ("Authorization", "Bearer a.b.c"))
        expect(status >= 400 and Backend.taken() == [], True, f"status {status}")

    @check(f"{name}: a long field reaches the backend as it is")
    def _():
        note = "n" * 6_000
        status, _, _ = ask("/orders/17", bearer, ("X-Note", note))
        expect((status, [value for came in Backend.taken() for value in values(came, "x-note")]), (200, [note]), "field")


def check_targets(front, bed):
    name, ask, bearer = front.name, front.ask, bed.bearer

    @check(f"{name}: targets that could be read in two ways are not forwarded in another one")
    def _():
        targets = ["/orders/../other", "/orders/%2e%2e/other", "/orders/..;/other", "/orders%2f..%2fother", "/orders%5cother", "/orders//17", "/%zz",
                       "/orders/;a=b", "/other/%2e%2e/orders/1", "/orders/%00", "//orders/17", "/orders/17#/other", "/orders/\xe9", "orders/17"]
        # At once, since Envoy leaves a connection open for a while after such a request.
        with futures.ThreadPoolExecutor(len(targets)) as pool:
            statuses = list(pool.map(lambda target: ask(target, bearer)[0], targets))
        for came in Backend.taken():
            path = came["path"]
            expect(path.startswith("/orders/") and ".." not in path and "%2" not in path.lower(), True, f"what became {path}")
        expect(min(statuses) >= 200 and statuses.count(200) < 4, True, f"{statuses}")

    @check(f"{name}: the request that is forwarded is the one that was decided, whatever its form")
    def _():
        forms = [
            request("/orders/17", bearer, version="HTTP/1.0"),
            request("/orders/a%20b", bearer),
            request("/orders/%c3%a9;p=1", bearer),
            request("http://fabrikam.example/orders/17", bearer),
            request("http://fabrikam.example/other", bearer, ("X-Forwarded-Uri", "/orders/17")),
            request("/orders/17", bearer, host="api.contoso.example:8080"),
        ]
        passed = 0
        for form in forms:
            status, fields, body = raw(front.port, form)
            for came in Backend.taken():
                (id,) = values(came, "x-request-id")
                record = bed.records({id})[id]
                expect((came["method"], plain(came["path"])), (record["method"], record["path"]), f"{form[:60]}")
                expect(values(came, "x-forwarded-host")[0].split(":")[0], record["host"].split(":")[0], f"host of {form[:60]}")
                passed += 1
            expect(status in (200, 400, 401, 403, 404, 426), True, f"{form[:60]}: {status} {code_of(fields, body)}")
        return f"{passed} of {len(forms)} are admitted"

    @check(f"{name}: CONNECT, TRACE and OPTIONS * reach nobody")
    def _():
        for form in [request("api.contoso.example:443", bearer, method="CONNECT"), request("/orders/17", bearer, method="TRACE"), request("*", bearer, method="OPTIONS")]:
            status, _, _ = raw(front.port, form)
            # HAProxy and nginx answer OPTIONS * by themselves, or as a request for another path.
            expect((status >= 400 or form.startswith(b"OPTIONS")) and Backend.taken() == [], True, f"{form[:20]}: {status}")


def check_values(front, bed):
    name, ask = front.name, front.ask

    def noted(value, *fields):
        """Sends a request whose identity is this claim; returns the status, and the identity that reached the backend."""
        claims = {} if value is None else {"nickname": value}
        status, _, _ = ask("/notes/1", ("Authorization", f"Bearer {bed.minted(claims=claims)}"), *fields)
        return status, [identity for came in Backend.taken() for identity in values(came, "x-user")]

    @check(f"{name}: a field on the proxy's list that is absent from the answer is none of the client's")
    def _():
        expect(noted("nia", ("X-User", "evil")), (200, ["nia"]), "with the claim")
        expect(noted(None, ("X-User", "evil")), (200, []), "without the claim")

    @check(f"{name}: a claim with a line break reaches nobody")
    def _():
        for value in ["nia\r\nX-Admin: 1", "nia\nX-Admin: 1", "nia\r", "nia\0"]:
            expect(noted(value, ("X-User", "evil")), (403, []), repr(value))

    @check(f"{name}: a claim is passed on whole or not at all, up to the size that the proxy takes")
    def _():
        longest = 0
        for length in [200, 1_000, 2_500, 4_000, 6_000, 8_000]:
            claim = "c" * length
            status, identity = noted(claim)
            expect((status, identity) == (200, [claim]) or status >= 400 and identity == [], True, f"{length}: {status} {[len(it) for it in identity]}")
            longest = length if status == 200 else longest
        expect(longest >= 2_500, True, f"only {longest}")
        return f"{longest} bytes pass"


def check_refusals(front, bed):
    name, ask, dialect, bearer = front.name, front.ask, front.dialect, bed.bearer

    @check(f"{name}: without a token the client gets the refusal, and the backend nothing")
    def _():
        status, fields, body = ask("/orders/17")
        expect(status, 401, "status")
        if dialect != "nginx":  # which writes a page of its own
            expect(code_of(fields, body), "token-missing", "code")
        expect(any(field == "www-authenticate" for field, _ in fields), True, f"challenge in {fields}")
        expect([field for field, _ in fields if field in ("x-user", "authorization")], [], "identity in a refusal")
        expect(Backend.taken(), [], "requests")

    @check(f"{name}: of two challenges the client gets what the proxy can tell")
    def _():
        status, fields, _ = ask("/challenged")
        told = [value for field, value in fields if field == "www-authenticate"]
        expect((status, Backend.taken()), (401, []), "answer")
        # nginx 1.22 passes on the first one.
        expect(told, ["Bearer"] if dialect == "nginx" else ["Bearer", 'Basic realm="contoso"'], "challenges")

    @check(f"{name}: a limit counts each question once, and its refusal is told")
    def _():
        answers = [ask("/few", ("X-Key", name)) for _ in range(3)]
        expect([status for status, _, _ in answers], [200, 200, front.told(429)], "answers")
        expect(len(Backend.taken()), 2, "requests")
        if dialect != "nginx":
            expect(code_of(*answers[2][1:]), "rate-limit-exceeded", "code")
            expect(any(field == "retry-after" for field, _ in answers[2][1]), True, f"{answers[2][1]}")

    @check(f"{name}: a proxy that is not listed is told nothing")
    def _():
        written = bed.config.read_text()
        try:
            bed.config.write_text(written.replace("peers: [127.0.0.1]", "peers: [203.0.113.7]"))
            bed.gateway.send_signal(signal.SIGHUP)
            # Over gRPC the call itself fails, which is an error to Envoy, and no refusal.
            refused = 503 if dialect == "envoy-grpc" else 403
            wait_until(lambda: ask("/orders/17", bearer)[0] == refused, f"{name} may not ask")
            Backend.taken()
            status, fields, body = ask("/orders/17", bearer)
            expect((status, Backend.taken()), (refused, []), "answer")
            if dialect not in ("nginx", "envoy-grpc"):
                expect(code_of(fields, body), "decision-peer-not-allowed", "code")
        finally:
            bed.config.write_text(written)
            bed.gateway.send_signal(signal.SIGHUP)
            front.asks_again()


def check_websockets(front, bed):
    name = front.name

    def opens(path, *fields):
        """Asks for a WebSocket; returns the status, and what came back of what was sent through it."""
        lines = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", WEBSOCKET_KEY), *fields]
        asked = request(path, *lines).replace(b"Connection: close", b"Connection: Upgrade")
        with socket.create_connection(("127.0.0.1", front.port), timeout=20) as connection:
            connection.sendall(asked)
            answer = connection.recv(65536)
            status = int(answer.split(b" ")[1])
            if status == 101:
                connection.sendall(b"\x81\x04ping")
                while b"ping" not in answer:
                    part = connection.recv(65536)
                    expect(part != b"", True, f"open tunnel after {answer}")
                    answer += part
        return status, answer.partition(b"\r\n\r\n")[2]

    @check(f"{name}: a WebSocket without a token opens nowhere")
    def _():
        for path in ["/orders/17", "/chat"]:
            status, _ = opens(path)
            expect((status in (401, 403), Backend.taken()), (True, []), f"{path}: {status}")

    @check(f"{name}: a WebSocket with a token opens where the route allows it")
    def _():
        status, echoed = opens("/chat", bed.bearer)
        (came,) = Backend.taken()
        if name == "nginx":  # whose config would have to say `Upgrade`
            expect((status, values(came, "upgrade")), (200, []), "answer")
        else:
            expect((status, echoed), (101, GREETING + b"\x81\x04ping"), "answer")
        expect(len(values(came, "x-user")), 1, "identity")
        status, _ = opens("/orders/17", bed.bearer)
        came = Backend.taken()
        # Traefik does not say in its question that a WebSocket opens.
        expected = {"traefik": 101, "nginx": 200}.get(name, 403)
        expect((status, len(came)), (expected, int(expected != 403)), "on another route")


def check_grpc(front, bed):
    name = front.name

    @check(f"{name}: a client of gRPC is refused in its own terms")
    def _():
        with grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0)]) as called:
            get = called.unary_unary("/orders/Get")
            weak = [("authorization", f"Bearer {bed.minted(scopes=['Other'])}")]
            errors = [fails(lambda: get(b"", timeout=20)), fails(lambda: get(b"", metadata=weak, timeout=20))]
        expect(Backend.taken(), [], "requests")
        expected = [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED]
        if name in ("caddy", "nginx"):  # whose configs have no HTTP/2 without TLS
            expected = [grpc.StatusCode.UNAVAILABLE] * 2
        expect([code for code, _ in errors], expected, "statuses")
        if name.startswith("envoy"):
            expect([detail for _, detail in errors], ["token-missing", "scope-missing"], "details")

    if name == "envoy-grpc":

        @check(f"{name}: calls of gRPC that are admitted reach the service")
        def _():
            metadata = [("authorization", f"Bearer {bed.token}")]
            with grpc.insecure_channel(f"127.0.0.1:{front.port}", options=[("grpc.enable_http_proxy", 0)]) as called:
                expect(called.unary_unary("/contoso.Greeter/Hello")(b"nia", metadata=metadata, timeout=20), b"hello nia in time", "answer")
                expect(len(list(called.unary_stream("/contoso.Greeter/Count")(b"500", metadata=metadata, timeout=20))), 500, "messages")
                mirrored = list(called.stream_stream("/contoso.Greeter/Mirror")(iter([b"abc", b"def"]), metadata=metadata, timeout=20))
                expect(mirrored, [b"cba", b"fed"], "messages")


def check_generated(front, bed):
    @check(f"{front.name}: {GENERATED} generated requests are decided as the gateway proxies them")
    def _():
        admitted, refused, stated = Generated(front, bed, GENERATED).run()
        return f"{admitted} admitted and {refused} refused alike, {stated} refused for a field that the proxy cannot remove"


def check_outages(front, bed):
    name, ask, bearer = front.name, front.ask, bed.bearer

    @check(f"{name}: while nobody listens, nothing gets through")
    def _():
        with front.way.closed():
            status, _, _ = ask("/orders/17", bearer)
            expect((status >= 400, Backend.taken()), (True, []), f"status {status}")
        front.asks_again()

    @check(f"{name}: an answer that is none admits nobody")
    def _():
        told = {}
        for what, nonsense in NONSENSE.items():
            with front.way.answering(nonsense):
                status, _, _ = ask("/orders/17", bearer)
                expect((status >= 400, Backend.taken()), (True, []), f"{what}: {status}")
                told[status] = told.get(status, 0) + 1
            front.asks_again()
        return f"statuses {told}"

    @check(f"{name}: while nobody decides, nothing gets through")
    def _():
        bed.gateway.send_signal(signal.SIGSTOP)  # it is there, and says nothing
        try:
            # On a busy machine its threads go on until one of them has taken the signal.
            wait_until(lambda: stopped(bed.gateway.pid), "the gateway has stopped")
            status, _, _ = raw(front.port, request("/orders/17", bearer), seconds=3)
            expect(status >= 400, True, f"status {status}")
        except TimeoutError:
            pass  # Caddy and nginx wait far longer
        finally:
            bed.gateway.send_signal(signal.SIGCONT)
        # One that waited is answered by now, if its proxy still holds it.
        front.asks_again()


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "nginx", "haproxy", "envoy", "traefik", "caddy", "caddy-current", "work"))

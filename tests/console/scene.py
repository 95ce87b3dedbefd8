"""A running gateway for the console to show: a tenant, a backend, partners, refusals of several kinds, and attacks in what callers send."""

import http.server
import json
import pathlib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

# What callers write: markup that would run if it were ever read as such.
SCRIPT = "<script>window.attacked=1</script>"
IMAGE = '<img src=x onerror="window.attacked=2">'
DEADLINE = 60


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def fetch(url, headers=None, body=None, method=None):
    """Returns status and body of an answer, whatever the status."""
    request = urllib.request.Request(url, headers=headers or {}, data=body, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def until(condition, what):
    begun = time.monotonic()
    while True:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        if time.monotonic() - begun > DEADLINE:
            raise TimeoutError(what)
        time.sleep(0.05)


class Backend(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b'{"orders":[]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def many_routes(count):
    for index in range(count):
        yield (
            f"  - {{ name: team-{index:04}, match: {{ hosts: [t{index % 50}.contoso.example], path: /apis/{index:04}, methods: [GET, POST] }}, "
            f"inbound: [ {{ ip-filter: {{ action: allow, addresses: [10.{index % 200}.0.0/16] }} }}, {{ include-fragment: staff }} ], upstream: orders }}"
        )


class Scene:
    """Processes and addresses. Ends only what it has started."""

    def __init__(self, entrada, folder, routes=0, admin="", processes=None):
        self.entrada, self.folder = str(entrada), pathlib.Path(folder)
        self.processes = []
        self.backend = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
        threading.Thread(target=self.backend.serve_forever, daemon=True).start()
        self.tenant = self.start_tenant()
        self.port, self.admin_port = free_port(), free_port()
        self.url, self.admin = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.admin_port}"
        self.config = self.folder / "entrada.yaml"
        self.write(routes, admin)
        log = open(self.folder / "log", "w")
        records = open(self.folder / "records.jsonl", "w")
        self.gateway = subprocess.Popen([self.entrada, "run", str(self.config)], stdout=records, stderr=log)
        self.processes.append(self.gateway)
        until(lambda: fetch(self.admin + "/healthz")[0] == 200, "the gateway never answered: " + (self.folder / "log").read_text())
        until(lambda: fetch(self.admin + "/readyz")[0] == 200, "the gateway never got ready")

    def start_tenant(self):
        process = subprocess.Popen([self.entrada, "dev-tenant", "--address", "127.0.0.1:0", "--format", "json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.processes.append(process)
        return json.loads(process.stdout.readline())

    def write(self, routes, admin=""):
        backend = f"http://127.0.0.1:{self.backend.server_address[1]}"
        self.config.write_text(f"""
listeners: [ {{ name: public, address: "127.0.0.1:{self.port}", trusted-proxies: [ 127.0.0.1 ] }} ]
admin: {{ address: "127.0.0.1:{self.admin_port}"{admin} }}
tenants: {{ contoso: {{ id: {self.tenant["tenant_id"]}, authority: "{self.tenant["base_url"]}" }} }}
address-sets: {{ offices: [ 198.51.100.0/24, 203.0.113.0/25 ] }}
credentials: {{ gateway: {{ tenant: contoso, client-id: 00001111-aaaa-2222-bbbb-3333cccc4444, client-secret: "not-the-right-one" }} }}
partners:
  fabrikam: {{ client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], tenants: [{self.tenant["tenant_id"]}], addresses: [offices], owner: integration@fabrikam.example, rate-limit: {{ calls: 50, renewal-period: 60s }} }}
  northwind: {{ client-application-ids: [33334444-cccc-4444-dddd-5555eeee6666], tenants: [{self.tenant["tenant_id"]}], enabled: false }}
upstreams:
  orders: {{ servers: ["{backend}"] }}
  stock: {{ servers: ["http://127.0.0.1:{free_port()}"], health: {{ path: /healthz, interval: 1s }} }}
fragments:
  staff: [ {{ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], scopes: [Orders.Read], roles: [Orders.Read] }} }} ]
audit: {{ sinks: [ {{ stdout: {{}} }} ], claims: [ nickname ] }}
routes:
  - name: orders
    match: {{ hosts: [api.contoso.example], path: /orders }}
    inbound: [ {{ ip-filter: {{ action: allow, addresses: [offices] }} }}, {{ include-fragment: staff }}, {{ ip-filter: {{ action: forbid, addresses: [203.0.113.99], mode: report-only }} }} ]
    upstream: orders
  - name: partners
    match: {{ hosts: [partners.contoso.example], path: /orders }}
    inbound: [ {{ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, 33334444-dddd-5555-eeee-6666ffff7777], roles: [Orders.Read], token-kind: app }} }}, {{ check-partner: {{}} }} ]
    upstream: orders
  - {{ name: stock, match: {{ path: /stock }}, anonymous: true, upstream: stock }}
""" + "\n".join(many_routes(routes)) + "\n")

    def token(self, **wanted):
        return fetch(self.tenant["base_url"] + "/dev/token?format=text", {"Content-Type": "application/json"}, json.dumps(wanted).encode())[1].decode().strip()

    def ask(self, host, path, caller="198.51.100.7", token=None, headers=None):
        fields = {"Host": host, "X-Forwarded-For": caller, **(headers or {})}
        if token:
            fields["Authorization"] = "Bearer " + token
        return fetch(self.url + path, fields)[0]

    def traffic(self, rounds=1):
        """Sends requests of each kind; returns their statuses."""
        user = self.token(user="nia", audience="api://orders", scopes=["Orders.Read"], claims={"nickname": IMAGE})
        app = self.token(app="22223333-cccc-4444-dddd-5555eeee6666", audience="api://orders", roles=["Orders.Read"])
        poor = self.token(user="otto", audience="api://orders", scopes=["Orders.List"])
        old = self.token(user="nia", audience="api://orders", scopes=["Orders.Read"], expired=True)
        api, partners = "api.contoso.example", "partners.contoso.example"
        statuses = []
        for index in range(rounds):
            statuses += [
                self.ask(api, f"/orders/{index}", token=user, headers={"User-Agent": SCRIPT}),
                self.ask(api, f"/orders/{index}?q=1", caller="203.0.113.9", token=user),
                self.ask(api, "/orders/list", caller="203.0.113.99", token=user),
                self.ask(api, "/orders", caller="192.0.2.200", token=user),
                self.ask(api, "/orders/none"),
                self.ask(api, "/orders/poor", token=poor),
                self.ask(api, "/orders/old", token=old),
                self.ask(partners, "/orders/7", token=app, headers={"User-Agent": "orders-sync/2.1"}),
                self.ask(partners, "/orders/7", caller="192.0.2.7", token=app),
                self.ask("www.contoso.example", "/" + "%3Cscript%3Ewindow.attacked=3%3C/script%3E"),
                self.ask("www.contoso.example", "/stock/1"),
            ]
        return statuses

    def reload(self, routes, admin=""):
        log = self.folder / "log"
        taken = lambda: log.read_text().count("the new config is in force")
        before = taken()
        self.write(routes, admin)
        self.gateway.send_signal(1)
        until(lambda: taken() > before, "the config was never read: " + log.read_text()[-2000:])

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        self.backend.shutdown()

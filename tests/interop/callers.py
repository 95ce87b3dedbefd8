"""Who calls, told by real proxies in front of the gateway (nginx, HAProxy), and judged by Azure's real address prefixes."""

import bisect
import ipaddress
import json
import random
import subprocess
import sys
import time
from http.server import ThreadingHTTPServer
from threading import Thread

import requests
from cloudip import embedded
from interop import Echo, check, conduct, curl, expect, free_port, nginx_config, wait_until

#: Whom the office route admits, and somebody else. Both are loopback, so that curl can really call from there.
OFFICE, OTHER = "127.0.0.5", "127.0.0.6"
#: Where nginx connects from, so that it is not taken for anybody else.
NGINX = "127.0.0.3"
CHANGE_NUMBER = 331
FRONT_DOORS = "AZUREFRONTDOOR.BACKEND"


def gateway_config(ports, tags):
    return f"""
listeners:
  - {{ name: forwarded, address: "127.0.0.1:{ports['forwarded']}", trusted-proxies: [{NGINX}] }}
  - {{ name: introduced, address: "127.0.0.1:{ports['introduced']}", trusted-proxies: [127.0.0.1], proxy-protocol: required }}
  - name: introduced-tls
    address: "127.0.0.1:{ports['introduced-tls']}"
    trusted-proxies: [127.0.0.1]
    proxy-protocol: required
    tls: {{ certificate: server.pem, private-key: server.key }}
  - name: path
    address: "127.0.0.1:{ports['path']}"
    trust-path: [ {{ from: {NGINX}, optional: true }}, {{ from: 127.0.0.1 }} ]
    proxy-protocol: required
  - {{ name: checked, address: "127.0.0.1:{ports['checked']}", trusted-proxies: [127.0.0.1], proxy-protocol: required }}
  - {{ name: clouds, address: "127.0.0.1:{ports['clouds']}", trusted-proxies: [127.0.0.1] }}
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
address-sets:
  azure: {{ service-tags: ServiceTags_Public.json, tags: {json.dumps(sorted(tags))} }}
  front-doors: {{ service-tags: ServiceTags_Public.json, tags: [{FRONT_DOORS}] }}
upstreams: {{ backend: {{ servers: ["http://127.0.0.1:{ports['backend']}"] }} }}
routes:
  - {{ name: anybody, match: {{ path: /anybody }}, anonymous: true, upstream: backend }}
  - {{ name: ping, match: {{ exact-path: /ping }}, anonymous: true, respond: {{ status: 204 }} }}
  - {{ name: office, match: {{ path: /office }}, anonymous: true, inbound: [ ip-filter: {{ action: allow, addresses: [{OFFICE}] }} ], upstream: backend }}
  - name: azure
    match: {{ path: /azure }}
    anonymous: true
    inbound: [ ip-filter: {{ action: allow, addresses: [azure] }} ]
    respond: {{ status: 204 }}
  - name: front-doors
    match: {{ path: /front-doors }}
    anonymous: true
    inbound: [ ip-filter: {{ action: allow, addresses: [front-doors] }} ]
    respond: {{ status: 204 }}
audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"""


def front(work, port, target):
    """An nginx that appends whom it was called by to X-Forwarded-For, as its documentation shows."""
    config = nginx_config(work, port)
    location = f"""
        location / {{
            proxy_pass http://127.0.0.1:{target};
            proxy_bind {NGINX};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
"""
    return config.replace("        location /orders {", location + "        location /orders {")


def haproxy_config(work, ports):
    return f"""
global
    log stderr format raw local0 warning
defaults
    timeout connect 5s
    timeout client 30s
    timeout server 30s

listen v1
    mode tcp
    bind 127.0.0.1:{ports['v1']}
    server gateway 127.0.0.1:{ports['introduced']} send-proxy
listen v2
    mode tcp
    bind 127.0.0.1:{ports['v2']}
    server gateway 127.0.0.1:{ports['introduced']} send-proxy-v2
listen v2-tls
    mode tcp
    bind 127.0.0.1:{ports['v2-tls']}
    server gateway 127.0.0.1:{ports['introduced-tls']} send-proxy-v2
listen v2-ends-tls
    mode http
    bind 127.0.0.1:{ports['v2-ends-tls']} ssl crt {work}/both.pem alpn h2,http/1.1
    # TLVs behind the addresses: what TLS settled, a unique id, a checksum.
    unique-id-format %[uuid]
    server gateway 127.0.0.1:{ports['introduced']} send-proxy-v2-ssl-cn proxy-v2-options unique-id,crc32c,authority,ssl,cert-cn,ssl-cipher
listen before-nginx
    mode tcp
    bind 127.0.0.1:{ports['before-nginx']}
    server gateway 127.0.0.1:{ports['path']} send-proxy-v2
backend looks-after-it
    mode http
    option httpchk
    http-check send meth GET uri /ping ver HTTP/1.1 hdr Host localhost hdr Connection close
    server gateway 127.0.0.1:{ports['checked']} send-proxy-v2 check check-send-proxy inter 500ms
"""


def azure_prefixes():
    """The prefixes that the package has of Azure, by the name of their service tag. Nothing is asked of the network."""
    by_tag = {}
    for entry in embedded.get_ips("azure"):
        by_tag.setdefault(entry.service, set()).add(entry.ip_address)
    return by_tag


def service_tags(by_tag):
    """The prefixes in the form that Microsoft publishes."""
    values = [
        {
            "name": name,
            "id": name,
            "properties": {
                "changeNumber": 7,
                "region": "",
                "regionId": 0,
                "platform": "Azure",
                "systemService": name.partition(".")[0],
                "addressPrefixes": sorted(prefixes),
                "networkFeatures": ["API", "NSG", "UDR", "FW"],
            },
        }
        for name, prefixes in sorted(by_tag.items())
    ]
    return json.dumps({"changeNumber": CHANGE_NUMBER, "cloud": "Public", "values": values}, indent=2)


class Merged:
    """What Python's own library says about a list of prefixes."""

    def __init__(self, prefixes):
        networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
        self.starts, self.ends = {}, {}
        for version in (4, 6):
            merged = list(ipaddress.collapse_addresses(network for network in networks if network.version == version))
            self.starts[version] = [int(network.network_address) for network in merged]
            self.ends[version] = [int(network.broadcast_address) for network in merged]

    def __contains__(self, address):
        at = bisect.bisect_right(self.starts[address.version], int(address)) - 1
        return at >= 0 and int(address) <= self.ends[address.version][at]


def probes(prefixes, count):
    """The addresses on both sides of the borders of prefixes chosen by chance, the same ones in every run."""
    chosen = random.Random(1).sample(sorted(prefixes), count)
    for network in map(ipaddress.ip_network, chosen):
        kind = type(network.network_address)
        first, last, most = int(network.network_address), int(network.broadcast_address), 2**network.max_prefixlen - 1
        for number in (first - 1, first, last, last + 1):
            if 0 <= number <= most:
                yield kind(number)


def walk(arguments, processes):
    entrada, work = arguments.entrada, arguments.work
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=backend.serve_forever, daemon=True).start()
    names = ("forwarded", "introduced", "introduced-tls", "path", "checked", "clouds", "admin", "nginx", "nginx-behind", "v1", "v2", "v2-tls", "v2-ends-tls", "before-nginx")
    ports = {name: free_port() for name in names} | {"backend": backend.server_port}
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", work / "server.key", "-out", work / "server.pem"], check=True, capture_output=True, timeout=60)
    (work / "both.pem").write_text((work / "server.pem").read_text() + (work / "server.key").read_text())
    by_tag = azure_prefixes()
    (work / "ServiceTags_Public.json").write_text(service_tags(by_tag))
    (work / "entrada.yaml").write_text(gateway_config(ports, by_tag))
    azure = set().union(*by_tag.values())

    @check("Azure's prefixes as Microsoft publishes them: `entrada check` takes them")
    def _():
        started = time.monotonic()
        done = subprocess.run([entrada, "check", work / "entrada.yaml"], capture_output=True, text=True, timeout=120, check=False)
        seconds = time.monotonic() - started
        expect(done.returncode, 0, f"exit code ({done.stdout})")
        if len(azure) < 60_000:
            raise AssertionError(f"only {len(azure)} prefixes")
        size = (work / "ServiceTags_Public.json").stat().st_size
        return f"{len(azure)} prefixes, {len(by_tag)} tags, {size >> 20} MiB, checked in {seconds:.2f}s"

    gateway = processes.start("gateway", entrada, "run", "--config", work / "entrada.yaml", stdout=subprocess.DEVNULL)
    for name, port, target in (("nginx", ports["nginx"], ports["forwarded"]), ("nginx-behind", ports["nginx-behind"], ports["before-nginx"])):
        folder = work / name
        folder.mkdir()
        (folder / "nginx.conf").write_text(front(folder, port, target))
        processes.start(name, arguments.nginx, "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "nginx-error.log")
    (work / "haproxy.cfg").write_text(haproxy_config(work, ports))
    processes.start("haproxy", arguments.haproxy, "-db", "-f", work / "haproxy.cfg", stdout=subprocess.DEVNULL)
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['admin']}/readyz", timeout=5).ok, "the gateway")
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['nginx']}/anybody", timeout=5).ok, "nginx")
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['v2']}/anybody", timeout=5).ok, "haproxy")
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['nginx-behind']}/anybody", timeout=5).ok, "nginx before haproxy")
    cafile = str(work / "server.pem")

    def records(listener):
        lines = (work / "audit.jsonl").read_text().splitlines()
        return [record for record in map(json.loads, lines) if record["listener"] == listener]

    def judged(listener, path, caller, source):
        """The record of the only request for this path says so. Each worker writes its own records, so those of two workers stand in any order."""

        def found():
            return [record for record in records(listener) if record.get("path") == path]

        wait_until(found, f"a record of {path}", 10)
        expect([(record["caller"], record["address_source"]) for record in found()], [(caller, source)], "what the record says")

    ways = (
        ("nginx, X-Forwarded-For", f"http://127.0.0.1:{ports['nginx']}", "forwarded", "x-forwarded-for"),
        ("haproxy, PROXY v1", f"http://127.0.0.1:{ports['v1']}", "introduced", "proxy-protocol"),
        ("haproxy, PROXY v2", f"http://127.0.0.1:{ports['v2']}", "introduced", "proxy-protocol"),
        ("haproxy, PROXY v2 before TLS", f"https://localhost:{ports['v2-tls']}", "introduced-tls", "proxy-protocol"),
        ("haproxy ends TLS, PROXY v2 with TLVs", f"https://localhost:{ports['v2-ends-tls']}", "introduced", "proxy-protocol"),
        ("nginx, then haproxy: a trust path", f"http://127.0.0.1:{ports['nginx-behind']}", "path", "x-forwarded-for"),
    )
    for number, (name, url, listener, source) in enumerate(ways):
        forged = ("--header", f"X-Forwarded-For: {OFFICE}", "--header", f"Forwarded: for={OFFICE}", "--header", f"X-Real-IP: {OFFICE}")

        @check(f"{name}: judged by the true caller")
        def _(number=number, url=url, listener=listener, source=source, forged=forged):
            admitted, refused = f"/office/{number}/admitted", f"/office/{number}/refused"
            status, _, body = curl(url + admitted, "--interface", OFFICE, "--cacert", cafile)
            expect(status, 200, "status")
            expect(json.loads(body)["x-forwarded-for"], OFFICE, "what the backend saw")
            judged(listener, admitted, OFFICE, source)
            status, _, body = curl(url + refused, "--interface", OTHER, "--cacert", cafile, *forged)
            expect((status, json.loads(body)["code"]), (403, "caller-address-not-allowed"))
            judged(listener, refused, OTHER, source)
            status, _, body = curl(url + "/anybody", "--interface", OTHER, "--cacert", cafile, *forged)
            expect((status, json.loads(body)["x-forwarded-for"]), (200, OTHER), "what the backend saw")

    @check("HTTP/2 behind haproxy, over TLS and in the clear: judged by the true caller")
    def _():
        for line in ([f"https://localhost:{ports['v2-tls']}/office", "--http2", "--cacert", cafile], [f"http://127.0.0.1:{ports['v2']}/office", "--http2-prior-knowledge"]):
            status, version, _ = curl(*line, "--interface", OFFICE)
            expect((status, version), (200, "2"))
            status, version, _ = curl(*line, "--interface", OTHER, "--header", f"X-Forwarded-For: {OFFICE}")
            expect((status, version), (403, "2"))

    @check("haproxy's own health checks (LOCAL): answered, and the caller is haproxy")
    def _():
        wait_until(lambda: any(record.get("status") == 204 for record in records("checked")), "a health check")
        found = {(record.get("caller"), record.get("address_source"), record.get("event")) for record in records("checked")}
        expect(found, {("127.0.0.1", "peer", None)}, "all that came of them")

    @check("without a proxy in front: closed, with an event")
    def _():
        try:
            curl(f"http://127.0.0.1:{ports['introduced']}/anybody")
        except RuntimeError:
            pass
        else:
            raise AssertionError("the connection was served")
        wait_until(lambda: any(record.get("event") == "proxy-header-invalid" for record in records("introduced")), "an event", 10)
        try:
            curl(f"http://127.0.0.1:{ports['introduced']}/anybody", "--interface", OTHER, "--haproxy-protocol")
        except RuntimeError:
            pass
        else:
            raise AssertionError("the connection was served")
        wait_until(lambda: any(record.get("event") == "peer-not-trusted" for record in records("introduced")), "an event", 10)

    @check("curl speaks the PROXY protocol as haproxy does")
    def _():
        status, _, _ = curl(f"http://127.0.0.1:{ports['introduced']}/anybody/curl", "--haproxy-protocol")
        expect(status, 200, "status")
        judged("introduced", "/anybody/curl", "127.0.0.1", "proxy-protocol")

    def agrees(path, prefixes, count):
        oracle, session, inside, asked = Merged(prefixes), requests.Session(), 0, 0
        session.trust_env = False
        for address in probes(prefixes, min(count, len(prefixes))):
            answer = session.get(f"http://127.0.0.1:{ports['clouds']}{path}", headers={"X-Forwarded-For": str(address)}, timeout=10)
            expected = 204 if address in oracle else 403
            expect(answer.status_code, expected, f"status for {address}")
            inside, asked = inside + (expected == 204), asked + 1
        if not 0 < inside < asked:
            raise AssertionError(f"{inside} of {asked} are inside")
        return f"{asked} addresses, {inside} of them inside"

    @check("callers from and beside Azure's prefixes: judged as Python's ipaddress does")
    def _():
        return agrees("/azure", azure, 400)

    @check("callers from and beside Front Door's prefixes: likewise")
    def _():
        return agrees("/front-doors", by_tag[FRONT_DOORS], 100)

    @check("the console tells the file's change number")
    def _():
        status = requests.get(f"http://127.0.0.1:{ports['admin']}/api/status", timeout=10).json()
        found = {entry["name"]: entry for entry in status["address_sets"]}
        expect((found["azure"]["change_number"], found["front-doors"]["change_number"]), (CHANGE_NUMBER, CHANGE_NUMBER))
        return f"{found['azure']['ranges']} ranges after merging"

    @check("the gateway ends when told to")
    def _():
        gateway.terminate()
        expect(gateway.wait(15), 0, "exit code")


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "nginx", "haproxy", "work"))

"""Measures `entrada test`: 1,000 cases, each with a token of its own, over a config of 19 routes.

    python3 benches/cases.py target/release/entrada [--cases 1000] [--runs 7] [--most 1.0]

Prints the least wall time and the least processor time of some runs. With --most, the exit status is 1 if the least wall time is longer (in seconds).
"""

import argparse
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

ROUTES = 19


def config() -> str:
    text = """
listeners: [ { name: public, address: "127.0.0.1:0", trusted-proxies: [app-gateways] } ]
tenants: { contoso: { id: aaaabbbb-0000-cccc-1111-dddd2222eeee } }
address-sets:
  app-gateways: [10.1.0.0/28]
  offices: [203.0.113.0/24, 198.51.100.10-198.51.100.40, "2001:db8::/32"]
  blocklist: [192.0.2.66, 192.0.2.96/29]
upstreams: { backend: { servers: ["https://10.0.0.5:8443/api"] } }
partners:
  fabrikam: { client-application-ids: [22223333-cccc-4444-dddd-5555eeee6666], addresses: [203.0.113.0/24], rate-limit: { calls: 100, renewal-period: 60s } }
inbound: [ ip-filter: { action: forbid, addresses: [blocklist] } ]
routes:
"""
    for route in range(ROUTES - 1):
        text += f"""
  - name: api{route}
    match: {{ hosts: [api.contoso.example], path: /api{route}, methods: [GET, POST] }}
    inbound:
      - ip-filter: {{ action: allow, addresses: [offices] }}
      - validate-azure-ad-token:
          tenant: contoso
          audiences: [api://api{route}]
          scopes: [Orders.Read]
          roles: [Orders.Read.All]
      - choose:
          - {{ when: "@(request.method == 'POST')", do: [ authorize: {{ condition: "@('Orders.Write' in token.scopes || token.kind == 'app')", code: not-a-writer }} ] }}
      - rate-limit-by-key: {{ calls: 100, renewal-period: 60s, counter-key: "@(token.claims.oid)" }}
      - set-header: {{ name: X-Remote-User, value: "@(token.claims.oid)" }}
    authorization: keep
    upstream: backend
    outbound: [ set-header: {{ name: Server, exists-action: delete }} ]
"""
    return text + """
  - name: partners
    match: { hosts: [partners.contoso.example], path: /orders }
    inbound: [ validate-azure-ad-token: { tenant: contoso, audiences: [api://orders], token-kind: app }, check-partner: {} ]
    upstream: backend
"""


def cases(number: int) -> str:
    text = "config: entrada.yaml\nnow: 2027-03-01T09:00:00Z\nfrom: 203.0.113.9\ntests:\n"
    for case in range(number):
        route = case % (ROUTES - 1)
        url, user = f"https://api.contoso.example/api{route}/{case}", f"user{case}"
        token = f"kind: user, user: {user}, audience: api://api{route}"
        daemon = f"kind: app, client: 11112222-bbbb-3333-cccc-{case:012}, audience: api://api{route}, roles: [Orders.Read.All]"
        fabrikam = "kind: app, client: 22223333-cccc-4444-dddd-5555eeee6666, audience: api://orders"
        partner = f"https://partners.contoso.example/orders/{case}"
        request, expect = [
            (f"url: {url}, token: {{ {token}, scopes: [Orders.Read] }}", "upstream: backend, upstream-headers: { X-Remote-User: present }"),
            (f"url: {url}, token: {{ {token}, scopes: [Orders.Audit] }}", "status: 403, code: scope-missing"),
            (f"url: {url}, token: {{ {token}, scopes: [Orders.Read], expires: -10m }}", "status: 401, code: token-expired"),
            (f"method: POST, url: {url}, token: {{ {token}, scopes: [Orders.Read] }}", "status: 403, code: not-a-writer"),
            (f"method: POST, url: {url}, token: {{ {daemon} }}", "upstream: backend"),
            (f"url: {url}, token: {{ {token}, scopes: [Orders.Read], signed-by: wrong-key }}", "code: token-signature-invalid"),
            (f"url: {url}, from: 192.0.2.200, token: {{ {token}, scopes: [Orders.Read] }}", "code: caller-address-not-allowed"),
            (f"method: DELETE, url: {url}, token: {{ {token}, scopes: [Orders.Read] }}", "status: 405"),
            (f"url: {partner}, token: {{ {fabrikam}, claims: {{ uti: id{case} }} }}", "upstream: backend"),
            (f"url: {partner}, from: 192.0.2.200, token: {{ {fabrikam}, claims: {{ uti: id{case} }} }}", "code: partner-address-not-allowed"),
        ][case % 10]
        text += f"  - {{ name: case {case}, request: {{ {request} }}, expect: {{ {expect} }} }}\n"
    return text


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("entrada", type=lambda path: str(pathlib.Path(path).resolve()))
    arguments.add_argument("--cases", type=int, default=1000)
    arguments.add_argument("--runs", type=int, default=7)
    arguments.add_argument("--most", type=float)
    arguments.add_argument("--keep", help="write the files into this folder, and leave them there")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(asked.keep or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "entrada.yaml").write_text(config())
        (folder / "entrada.test.yaml").write_text(cases(asked.cases))
        walls, processors, said = [], [], ""
        for _ in range(asked.runs):
            before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            ran = subprocess.run([asked.entrada, "test", "entrada.yaml"], cwd=folder, capture_output=True, text=True, timeout=120)
            walls.append(time.monotonic() - began)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
            said = ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ran.stderr
            if ran.returncode != 0:
                print(ran.stdout[-2000:], ran.stderr[-2000:], file=sys.stderr)
                return 2
    least = min(walls)
    print(f"{asked.cases} cases, {asked.runs} runs: wall {least * 1000:.0f} ms at least, {max(walls) * 1000:.0f} ms at most; processor {min(processors) * 1000:.0f} ms at least")
    print(f"the program says: {said}")
    return 1 if asked.most is not None and least > asked.most else 0


if __name__ == "__main__":
    sys.exit(main())

"""MSAL through the token relay, and a backend that checks assertions as `docs/backend-assertion.md` says."""

import json
import os
import re
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import jwt
import msal
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import load_pem_x509_certificate
from interop import ORDERS, PARTNER, certificate, check, claims, conduct, expect, free_port, wait_until

ROOT = Path(__file__).resolve().parents[2]
STRANGER = "99993333-cccc-4444-dddd-5555eeee6666"
SECRET = "a secret of the tests +/=&%"
SCOPE = "api://orders/.default"
FOR_USERS = "api://orders/Orders.Read"
ON_BEHALF_OF = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ISSUER, AUDIENCE = "https://gateway.contoso.example", "https://orders.contoso.internal"


class Backend(BaseHTTPRequestHandler):
    """Says what reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802 - the name is the library's
        headers = {}
        for name, value in self.headers.items():
            headers.setdefault(name.lower(), []).append(value)
        body = json.dumps({"method": self.command, "path": self.path.partition("?")[0], "headers": headers}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def config(facts, ports):
    """A gateway with a relay, the metadata that MSAL asks for, and a backend that is sent assertions."""
    base, tenant = facts["base_url"], facts["tenant_id"]
    own = f"https://localhost:{ports['tls']}"
    metadata = json.dumps({"issuer": f"{base}/{tenant}/v2.0", "authorization_endpoint": f"{own}/authorize", "token_endpoint": f"{own}/token"})
    return f"""
listeners:
  - {{ name: tls, address: "127.0.0.1:{ports['tls']}", tls: {{ certificate: server.pem, private-key: server.key }} }}
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
health: {{ address: "127.0.0.1:{ports['health']}" }}
identity-http: {{ ca: ca.pem }}
tenants: {{ contoso: {{ id: {tenant}, authority: "{base}" }} }}
upstreams: {{ backend: {{ servers: ["http://127.0.0.1:{ports['backend']}"] }} }}
backend-assertion: {{ issuer: "{ISSUER}", private-keys: [first.pem, second.pem] }}
partners:
  fabrikam: {{ client-application-ids: [{PARTNER}], tenants: [contoso], addresses: [127.0.0.1], token-kind: any }}
routes:
  - name: discovery
    match: {{ exact-path: /contoso/v2.0/.well-known/openid-configuration, methods: [GET] }}
    anonymous: true
    respond: {{ status: 200, headers: {{ Content-Type: application/json }}, body: '{metadata}' }}
  - name: tokens
    match: {{ exact-path: /token, methods: [POST] }}
    require-tls: true
    token-relay: {{ tenant: contoso, grant-types: [client_credentials, "{ON_BEHALF_OF}"], scopes: ["{SCOPE}", "{FOR_USERS}"] }}
  - {{ name: keys, match: {{ exact-path: /.well-known/jwks.json, methods: [GET] }}, assertion-keys: {{}} }}
  - name: orders
    match: {{ path: /orders }}
    inbound: [ validate-azure-ad-token: {{ tenant: contoso, audiences: [api://orders, {ORDERS}], roles: [Orders.Read], scopes: [Orders.Read] }} ]
    identity-headers:
      X-Remote-User: {{ claim: nickname, default: nobody }}
      X-Groups: {{ claim: groups, encoding: repeated, when-absent: skip }}
    backend-assertion: {{ audience: "{AUDIENCE}" }}
    upstream: backend
audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"""


def documented():
    """The code that the documentation gives to backends."""
    text = (ROOT / "docs" / "backend-assertion.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    module = {}
    exec(compile(code, "docs/backend-assertion.md", "exec"), module)  # noqa: S102 - it is our own, and this is its test
    return module


def walk(arguments, processes):
    entrada, work = arguments.entrada, arguments.work
    tenant_process = processes.start("dev-tenant", entrada, "dev-tenant", "--address", "127.0.0.1:0", "--tls", "--format", "json", stdout=subprocess.PIPE)
    facts = json.loads(tenant_process.stdout.readline())
    base, tenant = facts["base_url"], facts["tenant_id"]
    ca = work / "ca.pem"
    ca.write_text(facts["ca_pem"])
    partner = certificate(entrada, work, "partner")
    pem = (work / "partner.pem").read_text()
    app = {"client_id": PARTNER, "name": "partner", "certificates": [partner["key_credential"]["key"]], "secrets": [SECRET], "roles": {"api://orders": ["Orders.Read"]}, "delegated": {"api://orders": ["Orders.Read"]}}
    requests.post(f"{base}/dev/apps", json=app, timeout=30, verify=str(ca)).raise_for_status()

    def minted(**wanted):
        answer = requests.post(f"{base}/dev/token?format=text", json=wanted, timeout=30, verify=str(ca))
        answer.raise_for_status()
        return answer.text

    backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    Thread(target=backend.serve_forever, daemon=True).start()
    ports = {"tls": free_port(), "admin": free_port(), "health": free_port(), "backend": backend.server_address[1]}
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", work / "server.key", "-out", work / "server.pem"], check=True, capture_output=True, timeout=60)
    # One key of each kind: the first one signs.
    for name, line in (("first", ["EC", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("second", ["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])):
        subprocess.run(["openssl", "genpkey", "-algorithm", *line, "-out", work / f"{name}.pem"], check=True, capture_output=True, timeout=60)
    (work / "entrada.yaml").write_text(config(facts, ports))
    processes.start("gateway", entrada, "run", "--config", work / "entrada.yaml", stdout=subprocess.DEVNULL)
    health = f"http://127.0.0.1:{ports['health']}"
    wait_until(lambda: requests.get(f"{health}/readyz", timeout=5).ok, "the gateway")
    gateway, trusted = f"https://localhost:{ports['tls']}", str(work / "server.pem")
    # Before what a session is told to trust, requests asks the environment, which a machine may have set.
    os.environ["REQUESTS_CA_BUNDLE"] = trusted

    def application(credential, client=PARTNER, **options):
        return msal.ConfidentialClientApplication(client, client_credential=credential, authority=f"{gateway}/contoso", instance_discovery=False, verify=trusted, **options)

    def relayed(credential, client=PARTNER, scope=SCOPE):
        return application(credential, client).acquire_token_for_client([scope])

    def orders(token, **headers):
        return requests.get(f"{gateway}/orders/17?a=b", headers={"Authorization": f"Bearer {token}", **headers}, timeout=30, verify=trusted)

    @check("msal, a secret through the relay: token, allowed through the gateway")
    def _():
        token = relayed(SECRET)["access_token"]
        expect((claims(token)["azp"], claims(token)["azpacr"]), (PARTNER, "1"), "client")
        expect(orders(token).status_code, 200, "status")

    @check("msal, an assertion that was made for the tenant's own URL through the relay")
    def _():
        endpoint, now = f"{base}/{tenant}/oauth2/v2.0/token", int(time.time())
        thumbprint = urlsafe_b64encode(load_pem_x509_certificate(pem.encode()).fingerprint(hashes.SHA256())).decode().rstrip("=")
        payload = {"aud": endpoint, "iss": PARTNER, "sub": PARTNER, "jti": str(uuid4()), "nbf": now, "iat": now, "exp": now + 300}
        key = serialization.load_pem_private_key(pem.encode(), None)
        assertion = jwt.encode(payload, key, algorithm="PS256", headers={"x5t#S256": thumbprint})
        token = relayed({"client_assertion": lambda: assertion})["access_token"]
        expect(claims(token)["azpacr"], "2", "azpacr")

    @check("msal, a certificate pointed at the relay: the tenant refuses an assertion for another URL")
    def _():
        answer = relayed({"private_key": pem, "public_certificate": pem})
        if "access_token" in answer or "AADSTS" not in answer["error_description"]:
            raise AssertionError(answer)
        wait_until(lambda: "made its assertion for another URL" in (work / "audit.jsonl").read_text(), "the hint in the audit log")

    @check("msal on behalf of a user through the relay: token, allowed through the gateway")
    def _():
        user = minted(user="nia", audience=PARTNER, scopes=["access_as_user"])
        # With a capability it sends `claims`, which the relay leaves out as it does `client_info` and `offline_access`.
        for options in ({}, {"client_capabilities": ["CP1"]}):
            answer = application(SECRET, **options).acquire_token_on_behalf_of(user, [FOR_USERS])
            if "access_token" not in answer:
                raise AssertionError(answer)
            token = claims(answer["access_token"])
            expect((token["azp"], token["scp"], token["oid"]), (PARTNER, "Orders.Read", claims(user)["oid"]), "token")
            expect([name for name in ("refresh_token", "client_info") if name in answer], [], "what the answer has besides")
            expect(orders(answer["access_token"]).status_code, 200, "status")
        expect(application(SECRET).acquire_token_on_behalf_of(user, ["api://orders/Orders.Write"])["error"], "invalid_scope")
        expect(application("wrong").acquire_token_on_behalf_of(user, [FOR_USERS])["error"], "invalid_client")
        expect(application(SECRET, STRANGER).acquire_token_on_behalf_of(user, [FOR_USERS])["error"], "unauthorized_client")
        other = minted(user="nia", audience="api://orders", scopes=["Orders.Read"])
        expect(application(SECRET).acquire_token_on_behalf_of(other, [FOR_USERS])["error"], "invalid_grant")

    @check("msal reads the relay's own refusals")
    def _():
        expect(relayed(SECRET, scope="https://graph.microsoft.com/.default")["error"], "invalid_scope")
        expect(relayed(SECRET, client=STRANGER)["error"], "unauthorized_client")
        expect(relayed("wrong")["error"], "invalid_client")

    @check("what the relay saw of secrets is in no log")
    def _():
        for log in (work / "audit.jsonl", work / "gateway.log"):
            text = log.read_text(errors="replace")
            expect([word for word in (SECRET, "a secret of the tests", "client_assertion=", "eyJ") if word in text], [], log.name)

    docs = documented()
    token = minted(user="nia", audience="api://orders", scopes=["Orders.Read"], claims={"nickname": "nia", "groups": ["a", "b"]})

    @check("PyJWT: a backend checks an assertion as the documentation says")
    def _():
        seen = orders(token, **{"X-Remote-User": "root", "X-Entrada-Assertion": "forged"}).json()
        (assertion,) = seen["headers"]["x-entrada-assertion"]
        for source in (f"{health}/.well-known/jwks.json", None):
            # From the health listener, and over TLS from the route that says so.
            keys = jwt.PyJWKClient(source) if source else Published(gateway, trusted)
            vouched = docs["vouched_for"](assertion, seen["method"], seen["path"], seen["headers"], keys=keys)
            expect(vouched["headers"], {"x-remote-user": ["nia"], "x-groups": ["a", "b"]}, "headers")
            expect(vouched["tid"], tenant, "tenant")

    @check("PyJWT: whatever is not the gateway's own for this request is refused")
    def _():
        seen = orders(token).json()
        (assertion,) = seen["headers"]["x-entrada-assertion"]
        keys = jwt.PyJWKClient(f"{health}/.well-known/jwks.json")
        key = serialization.load_pem_private_key((work / "second.pem").read_bytes(), None)
        own = claims(assertion)
        stranger = jwt.encode(own, serialization.load_pem_private_key(pem.encode(), None), algorithm="PS256", headers=jwt.get_unverified_header(assertion) | {"alg": "PS256"})
        untyped = jwt.encode(own, key, algorithm="PS256", headers={"kid": kid(keys, "PS256")})
        expired = jwt.encode(own | {"exp": own["iat"] - 60}, key, algorithm="PS256", headers={"kid": kid(keys, "PS256"), "typ": "entrada-assertion+jwt"})
        unsigned = jwt.encode(own, None, algorithm="none", headers={"kid": kid(keys, "ES256"), "typ": "entrada-assertion+jwt"})
        good = (assertion, "GET", "/orders/17", seen["headers"])
        docs["vouched_for"](*good, keys=keys)
        for what, call, options in (
            ("another path", (assertion, "GET", "/orders/18", seen["headers"]), {}),
            ("another method", (assertion, "DELETE", "/orders/17", seen["headers"]), {}),
            ("another user", (assertion, "GET", "/orders/17", seen["headers"] | {"x-remote-user": ["root"]}), {}),
            ("a second value", (assertion, "GET", "/orders/17", seen["headers"] | {"x-remote-user": ["nia", "root"]}), {}),
            ("another audience", good, {"audience": "https://other.contoso.internal"}),
            ("another issuer", good, {"issuer": "https://other.contoso.example"}),
            ("another key", (stranger, *good[1:]), {}),
            ("another type", (untyped, *good[1:]), {}),
            ("expired", (expired, *good[1:]), {}),
            ("unsigned", (unsigned, *good[1:]), {}),
        ):
            try:
                docs["vouched_for"](*call, keys=keys, **options)
            except docs["NotTheGateway"]:
                continue
            raise AssertionError(f"{what} was taken")


class Published(jwt.PyJWKClient):
    """The keys from the gateway's own listener, whose certificate the tests made."""

    def __init__(self, gateway, trusted):
        super().__init__(f"{gateway}/.well-known/jwks.json")
        self.trusted = trusted

    def fetch_data(self):
        answer = requests.get(self.uri, timeout=30, verify=self.trusted)
        answer.raise_for_status()
        return answer.json()


def kid(keys, algorithm):
    """The id of the published key for an algorithm."""
    (found,) = [key["kid"] for key in keys.fetch_data()["keys"] if key["alg"] == algorithm]
    return found


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "work"))

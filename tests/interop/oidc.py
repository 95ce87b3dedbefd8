"""Tokens of an OpenID provider that nobody here wrote (npm `oidc-provider`), through `validate-jwt`."""

import json
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from uuid import uuid4

import requests
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from interop import Echo, check, claims, conduct, expect, free_port, wait_until

ALGORITHMS = ("RS256", "PS256", "RS512", "ES256", "ES384", "ES512", "EdDSA")
ORDERS = "urn:entrada:orders"
SECRET = "a secret of the tests"


class Peer:
    """One running provider."""

    def __init__(self, processes, work, name):
        settings = work / f"{name}.json"
        settings.write_text(json.dumps({
            "clients": [{"client_id": "daemon", "client_secret": SECRET}, {"client_id": "prover", "client_secret": SECRET, "dpop_bound_access_tokens": True}],
            "claims": {"roles": ["Orders.Read"]},
        }))
        here = Path(__file__).parent / "oidc-provider"
        process = processes.start(name, "node", here / "provider.mjs", settings, stdout=subprocess.PIPE)
        facts = json.loads(process.stdout.readline())
        self.issuer, self.token_endpoint = facts["issuer"], facts["token_endpoint"]

    def token(self, client="daemon", resource=ORDERS, headers=None, **form):
        form = {"grant_type": "client_credentials", "scope": "read", "resource": resource, **form}
        answer = requests.post(self.token_endpoint, data=form, auth=(client, SECRET.replace(" ", "%20")), headers=headers, timeout=30)
        if not answer.ok:
            raise RuntimeError(answer.text)
        return answer.json()["access_token"]

    def rotate(self, *, keep):
        requests.post(f"{self.issuer}/control/rotate", json={"keep": keep}, timeout=30).raise_for_status()

    def calls(self):
        return requests.get(f"{self.issuer}/control/calls", timeout=30).json()


def config(peers, ports):
    issuers = "\n".join(f'  {name}: {{ openid-config: "{peer.issuer}/.well-known/openid-configuration" }}' for name, peer in peers.items())
    routes = "\n".join(
        f"""  - name: {name}
    match: {{ path: /{name} }}
    inbound:
      - validate-jwt: {{ issuer: {name}, audiences: ["{ORDERS}"], algorithms: [{", ".join(ALGORITHMS)}], scopes: [read], roles: [Orders.Read] }}
      - set-header: {{ name: X-Caller, value: "@(token.kind + ' ' + token.subject)" }}
    upstream: backend
"""
        for name in peers
    )
    return f"""
listeners: [ {{ name: plain, address: "127.0.0.1:{ports['plain']}" }} ]
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
issuers:
{issuers}
upstreams: {{ backend: {{ servers: ["http://127.0.0.1:{ports['backend']}"] }} }}
routes:
{routes}
  - name: defaults
    match: {{ path: /defaults }}
    inbound: [ {{ validate-jwt: {{ issuer: steady, audiences: ["{ORDERS}"] }} }} ]
    upstream: backend
audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"""


def proof(url):
    """A DPoP proof (RFC 9449) of a key made for the occasion."""

    def encode(part):
        return urlsafe_b64encode(part).rstrip(b"=")

    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": encode(point.x.to_bytes(32, "big")).decode(), "y": encode(point.y.to_bytes(32, "big")).decode()}
    header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk}
    payload = {"jti": str(uuid4()), "htm": "POST", "htu": url, "iat": int(time.time())}
    signed = encode(json.dumps(header).encode()) + b"." + encode(json.dumps(payload).encode())
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return (signed + b"." + encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))).decode()


def walk(arguments, processes):
    work = arguments.work
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    Thread(target=backend.serve_forever, daemon=True).start()
    # A key set is asked about unknown keys once in half a minute, so each story about rotation has a provider of its own.
    peers = {name: Peer(processes, work, name) for name in ("steady", "rolling", "retiring")}
    ports = {"plain": free_port(), "admin": free_port(), "backend": backend.server_port}
    (work / "oidc.yaml").write_text(config(peers, ports))
    processes.start("oidc-gateway", arguments.entrada, "run", "--config", work / "oidc.yaml", stdout=subprocess.DEVNULL)
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['admin']}/readyz", timeout=5).ok, "the gateway")
    steady, rolling, retiring = peers.values()

    def through(token, name="steady"):
        return requests.get(f"http://127.0.0.1:{ports['plain']}/{name}", headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def allowed(token, name="steady", caller="app daemon"):
        answer = through(token, name)
        expect(answer.status_code, 200, f"status ({answer.text})")
        seen = answer.json()
        expect((seen.get("x-caller", caller), seen.get("authorization")), (caller, None), "what the backend saw")

    def refused(code, token, name="steady", status=401):
        answer = through(token, name)
        expect((answer.status_code, answer.json()["code"]), (status, code))

    for algorithm in ALGORITHMS:

        @check(f"oidc-provider, access token (RFC 9068) signed with {algorithm}: allowed")
        def _(algorithm=algorithm):
            allowed(steady.token(resource=f"{ORDERS}?alg={algorithm}"))

    @check("oidc-provider, a user's token: allowed, and told apart from a daemon's")
    def _():
        allowed(steady.token(grant_type="urn:entrada:user", account="nia"), caller="user nia")

    @check("oidc-provider, an algorithm that is not on the default list: refused")
    def _():
        allowed(steady.token(resource=f"{ORDERS}?alg=PS256"), "defaults")
        refused("token-algorithm-not-allowed", steady.token(resource=f"{ORDERS}?alg=RS512"), "defaults")

    @check("oidc-provider, a token for another audience: refused")
    def _():
        refused("token-audience-not-allowed", steady.token(resource="urn:entrada:other"))

    @check("oidc-provider, a user's token without the scope: refused")
    def _():
        refused("scope-missing", steady.token(grant_type="urn:entrada:user", account="nia", scope="write"), status=403)

    @check("oidc-provider, an opaque token: refused")
    def _():
        refused("token-malformed", steady.token(resource=f"{ORDERS}?format=opaque"))

    @check("oidc-provider, a token of another provider: refused")
    def _():
        refused("token-key-unknown", rolling.token())

    @check("oidc-provider, a token bound to a key (DPoP, RFC 9449) sent as a bearer token: refused")
    def _():
        token = steady.token("prover", headers={"DPoP": proof(steady.token_endpoint)})
        expect("jkt" in claims(token)["cnf"], True, "cnf")
        refused("token-binding-missing", token)

    @check("oidc-provider, new keys beside the old ones: both allowed, one fetch")
    def _():
        old = rolling.token()
        allowed(old, "rolling")
        before = rolling.calls()
        rolling.rotate(keep=True)
        for algorithm in ALGORITHMS:
            allowed(rolling.token(resource=f"{ORDERS}?alg={algorithm}"), "rolling")
        allowed(old, "rolling")
        after = rolling.calls()
        expect((after["/jwks"] - before["/jwks"], after["/.well-known/openid-configuration"] - before["/.well-known/openid-configuration"]), (1, 0), "fetches")

    @check("oidc-provider, new keys instead of the old ones: the old token falls with its key")
    def _():
        old = retiring.token()
        allowed(old, "retiring")
        retiring.rotate(keep=False)
        allowed(retiring.token(), "retiring")
        refused("token-key-unknown", old, "retiring")

    @check("oidc-provider, what the gateway asked of it: metadata once, and keys")
    def _():
        expect(sorted(path for path in steady.calls() if path != "/token"), ["/.well-known/openid-configuration", "/jwks"], "what the gateway asked for")
        expect(steady.calls()["/.well-known/openid-configuration"], 1, "fetches of the metadata")


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "work"))

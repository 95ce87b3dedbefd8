"""Microsoft's client libraries, unmodified, against the development tenant and the gateway."""

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from base64 import b64decode, urlsafe_b64decode
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import msal
import requests
from azure.identity import CertificateCredential, ManagedIdentityCredential, OnBehalfOfCredential, WorkloadIdentityCredential
from azure.identity.aio import CertificateCredential as AsyncCertificateCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.keys import KeyClient
from azure.keyvault.keys.crypto import CryptographyClient, SignatureAlgorithm
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_der_x509_certificate, load_pem_x509_certificate

GATEWAY = "00001111-aaaa-2222-bbbb-3333cccc4444"
PARTNER = "22223333-cccc-4444-dddd-5555eeee6666"
ORDERS = "33334444-dddd-5555-eeee-6666ffff7777"
INTERNAL = "44445555-eeee-6666-ffff-777788889999"
GIBIBYTE = 1 << 30
#: How much the gateway may grow while a body of any size passes through it.
GROWTH = 20 << 20

passed, failed = [], []


def check(name):
    """Runs a function as one check, and goes on whatever becomes of it."""

    def run(function):
        started = time.monotonic()
        try:
            note = function() or ""
            passed.append(name)
            print(f"  ok    {name}  {note}".rstrip(), f"({time.monotonic() - started:.1f}s)", flush=True)
        except Exception as error:  # noqa: BLE001 - a check that fails must not end the others
            failed.append(name)
            print(f"  FAIL  {name}: {type(error).__name__}: {error}", flush=True)
        return function

    return run


def expect(found, wanted, what="answer"):
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, not {wanted!r}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def free_ports(names):
    """Returns a free port for each of the names, all of them others: one by one, the system may name the same port twice."""
    with contextlib.ExitStack() as held:
        probes = {name: held.enter_context(socket.socket()) for name in names}
        for probe in probes.values():
            probe.bind(("127.0.0.1", 0))
        return {name: probe.getsockname()[1] for name, probe in probes.items()}


def claims(token):
    part = token.split(".")[1]
    return json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))


class Sink(threading.Thread):
    """A backend that reads a body to its end, counts it, and says how much it was."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            while stream.readline().strip():
                headers, total = {}, 0
                while line := stream.readline().strip():
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                if b"content-length" in headers:
                    total = self.skip(stream, int(headers[b"content-length"]))
                elif headers.get(b"transfer-encoding", b"").lower() == b"chunked":
                    while size := int(stream.readline().split(b";")[0], 16):
                        total += self.skip(stream, size)
                        stream.readline()
                    while stream.readline().strip():
                        pass
                body = json.dumps({"bytes": total}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    @staticmethod
    def skip(stream, size):
        left = size
        while left:
            got = len(stream.read1(min(left, 1 << 20)))
            if not got:
                return size - left
            left -= got
        return size


class Processes:
    """What was started here, and nothing else, is ended here."""

    def __init__(self, work):
        self.work, self.started = work, []

    def start(self, name, *line, **options):
        log = (self.work / f"{name}.log").open("wb")
        process = subprocess.Popen([str(part) for part in line], stderr=log, stdin=subprocess.DEVNULL, **options)
        self.started.append((name, process))
        return process

    def stop(self):
        for _, process in reversed(self.started):
            process.terminate()
        for name, process in reversed(self.started):
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                print(f"{name} did not end by itself", flush=True)
                process.kill()
                process.wait(5)


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, requests.RequestException):
            pass
        time.sleep(0.05)
    raise TimeoutError(f"{what} took more than {seconds} seconds")


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS")


class Watch(threading.Thread):
    """The most memory that a process has while something happens."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.before, self.most, self.done = pid, resident(pid), 0, threading.Event()

    def run(self):
        while not self.done.wait(0.02):
            self.most = max(self.most, resident(self.pid))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.most = max(self.most, resident(self.pid))
        self.done.set()
        self.join()

    def growth(self):
        return max(0, self.most - self.before)


def curl(*line, seconds=120):
    """Status and body of a request that curl makes."""
    line = ["curl", "--silent", "--show-error", "--max-time", str(seconds), "--noproxy", "*", "--write-out", "\n%{http_code} %{http_version}", *line]
    done = subprocess.run(line, capture_output=True, timeout=seconds + 10, check=False)
    if done.returncode:
        raise RuntimeError(f"curl: {done.stderr.decode(errors='replace').strip()}")
    body, _, last = done.stdout.decode(errors="replace").rpartition("\n")
    status, version = last.split()
    return int(status), version, body


def conduct(walk, *names):
    """Runs a walk with these paths from the command line; its exit code says whether every check held."""
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    processes = Processes(arguments.work)
    try:
        walk(arguments, processes)
    except Exception as error:  # noqa: BLE001 - what could not be set up counts as one failure
        failed.append("setting up")
        print(f"  FAIL  setting up: {type(error).__name__}: {error}", flush=True)
    finally:
        processes.stop()
    if failed:
        for log in sorted(arguments.work.glob("*.log")):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}", flush=True)
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


class Echo(BaseHTTPRequestHandler):
    """A backend that says which header fields reached it."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):  # noqa: N802 - the name is the library's
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def certificate(entrada, work, name):
    line = [entrada, "certificate", "new", "--subject", f"CN={name}", "--out", work / f"{name}.pem", "--pfx", work / f"{name}.pfx", "--format", "json"]
    return json.loads(subprocess.run([str(part) for part in line], capture_output=True, check=True, timeout=60).stdout)


def nginx_config(work, port):
    # The working folder is closed to others, so the worker must be who started it.
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
pid {work}/nginx.pid;
error_log {work}/nginx-error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {work}/nginx-body;
    proxy_temp_path {work}/nginx-proxy;
    fastcgi_temp_path {work}/nginx-fastcgi;
    uwsgi_temp_path {work}/nginx-uwsgi;
    scgi_temp_path {work}/nginx-scgi;
    server {{
        listen 127.0.0.1:{port};
        location /orders {{
            default_type application/json;
            return 200 '{{"path": "$request_uri", "authorization": "$http_authorization", "forwarded_for": "$http_x_forwarded_for"}}';
        }}
        location /large {{ root {work}/files; }}
    }}
}}
"""


def gateway_config(base, tenant, ports):
    return f"""
listeners:
  - {{ name: plain, address: "127.0.0.1:{ports['plain']}", limits: {{ body-bytes: 2GiB }} }}
  - {{ name: tls, address: "127.0.0.1:{ports['tls']}", tls: {{ certificate: server.pem, private-key: server.key }} }}
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
identity-http: {{ ca: ca.pem }}
tenants:
  contoso: {{ id: {tenant}, authority: "{base}" }}
credentials:
  gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: gateway.pem }}, required: true }}
upstreams:
  nginx: {{ servers: ["http://127.0.0.1:{ports['nginx']}"] }}
  sink: {{ servers: ["http://127.0.0.1:{ports['sink']}"] }}
fragments:
  callers:
    - ip-filter: {{ action: allow, addresses: [127.0.0.1] }}
    - validate-azure-ad-token: {{ tenant: contoso, audiences: ["{ORDERS}"], roles: [Orders.Read], scopes: [Orders.Read] }}
routes:
  - {{ name: orders, match: {{ path: /orders }}, inbound: [ {{ include-fragment: callers }} ], authorization: keep, upstream: nginx }}
  - name: as-the-gateway
    match: {{ path: /internal }}
    inbound: [ {{ include-fragment: callers }}, {{ rewrite-uri: {{ template: "/orders{{rest}}" }} }} ]
    authorization: {{ credential: gateway, scope: api://orders-internal/.default }}
    upstream: nginx
  - {{ name: large, match: {{ path: /large }}, inbound: [ {{ include-fragment: callers }} ], upstream: nginx }}
  - {{ name: upload, match: {{ path: /upload }}, inbound: [ {{ include-fragment: callers }} ], upstream: sink }}
audit: {{ sinks: [ {{ file: {{ path: audit.jsonl }} }} ] }}
"""


def walk(arguments, processes):
    entrada, work = arguments.entrada, arguments.work
    tenant_process = processes.start("dev-tenant", entrada, "dev-tenant", "--address", "127.0.0.1:0", "--tls", "--format", "json", stdout=subprocess.PIPE)
    facts = json.loads(tenant_process.stdout.readline())
    base, tenant = facts["base_url"], facts["tenant_id"]
    ca = work / "ca.pem"
    ca.write_text(facts["ca_pem"])
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = str(ca)
    desk = requests.Session()
    desk.verify = str(ca)

    def post(path, body):
        answer = desk.post(f"{base}/dev/{path}", json=body, timeout=30)
        answer.raise_for_status()
        return answer

    def minted(**wanted):
        return post("token?format=text", wanted).text

    made = {name: certificate(entrada, work, name) for name in ("gateway", "partner", "stranger")}
    pem = {name: (work / f"{name}.pem").read_text() for name in made}
    password = {name: Path(made[name]["pfx_password_file"]).read_text() for name in made}
    federated = [{"issuer": f"{base}/{tenant}/v2.0", "subject": "system:serviceaccount:shop:partner"}]
    roles = {"api://orders": ["Orders.Read"], "https://vault.azure.net": ["user_impersonation"]}
    post("apps", {"client_id": PARTNER, "name": "partner", "certificates": [made["partner"]["key_credential"]["key"]], "roles": roles, "federated": federated,
                  "identifier_uris": ["api://partner"], "delegated": {"api://orders": ["Orders.Read"]}})
    post("apps", {"client_id": GATEWAY, "name": "gateway", "certificates": [made["gateway"]["key_credential"]["key"]],
                  "roles": {"api://orders-internal": ["Orders.Forward"]}})

    sink = Sink()
    sink.start()
    ports = {"plain": free_port(), "tls": free_port(), "admin": free_port(), "nginx": free_port(), "sink": sink.port}
    (work / "files" / "large").mkdir(parents=True)
    with (work / "files" / "large" / "zeros").open("wb") as large:
        large.truncate(GIBIBYTE)
    (work / "nginx.conf").write_text(nginx_config(work, ports["nginx"]))
    processes.start("nginx", arguments.nginx, "-p", work, "-c", work / "nginx.conf", "-e", work / "nginx-error.log")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
                    "-keyout", work / "server.key", "-out", work / "server.pem"], check=True, capture_output=True, timeout=60)
    (work / "entrada.yaml").write_text(gateway_config(base, tenant, ports))
    gateway = processes.start("gateway", entrada, "run", "--config", work / "entrada.yaml", stdout=subprocess.DEVNULL)
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['nginx']}/orders", timeout=5).ok, "nginx")
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['admin']}/readyz", timeout=5).ok, "the gateway")
    plain, tls = f"http://127.0.0.1:{ports['plain']}", f"https://localhost:{ports['tls']}"

    def through(token, path="/orders/17"):
        return requests.get(plain + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    def allowed(token):
        answer = through(token)
        expect(answer.status_code, 200, "status")
        expect(answer.json()["authorization"], f"Bearer {token}", "what nginx saw")
        expect(claims(token)["aud"], ORDERS, "audience")

    authority = f"{base}/{tenant}"
    scope = "api://orders/.default"

    def msal_token(credential, **options):
        app = msal.ConfidentialClientApplication(PARTNER, client_credential=credential, authority=authority, instance_discovery=False, **options)
        return app.acquire_token_for_client([scope])

    @check("msal, certificate as PEM (PS256): token, allowed through the gateway")
    def _():
        allowed(msal_token({"private_key": pem["partner"], "public_certificate": pem["partner"]})["access_token"])

    @check("msal, certificate by thumbprint (RS256): allowed")
    def _():
        key = pem["partner"][pem["partner"].index("-----BEGIN PRIVATE KEY"):]
        allowed(msal_token({"private_key": key, "thumbprint": made["partner"]["thumbprint"]})["access_token"])

    @check("msal, PFX of `entrada certificate new`: allowed")
    def _():
        allowed(msal_token({"private_key_pfx_path": str(work / "partner.pfx"), "passphrase": password["partner"]})["access_token"])

    @check("msal, client capability cp1: allowed")
    def _():
        credential = {"private_key": pem["partner"], "public_certificate": pem["partner"]}
        allowed(msal_token(credential, client_capabilities=["CP1"])["access_token"])

    @check("msal, certificate of somebody else: invalid_client, AADSTS700027")
    def _():
        answer = msal_token({"private_key": pem["stranger"], "public_certificate": pem["stranger"]})
        expect((answer["error"], answer["error_codes"]), ("invalid_client", [700027]))

    @check("msal, on behalf of a user: a token for the API in her name, allowed")
    def _():
        app = msal.ConfidentialClientApplication(
            PARTNER, client_credential={"private_key": pem["partner"], "public_certificate": pem["partner"]}, authority=authority, instance_discovery=False)
        answer = app.acquire_token_on_behalf_of(minted(user="nia", audience=PARTNER, scopes=["access_as_user"]), ["api://orders/Orders.Read"])
        expect(answer.get("error"), None, "error")
        expect(claims(answer["access_token"])["name"], "Nia Okafor", "name")
        allowed(answer["access_token"])

    common = {"authority": base, "disable_instance_discovery": True}

    @check("azure-identity, CertificateCredential with PEM: allowed")
    def _():
        allowed(CertificateCredential(tenant, PARTNER, str(work / "partner.pem"), **common).get_token(scope).token)

    @check("azure-identity, CertificateCredential with PFX and chain: allowed")
    def _():
        credential = CertificateCredential(tenant, PARTNER, str(work / "partner.pfx"), password=password["partner"], send_certificate_chain=True, **common)
        allowed(credential.get_token(scope).token)

    @check("azure-identity, asynchronous CertificateCredential (padded JWT): allowed")
    def _():
        async def acquire():
            async with AsyncCertificateCredential(tenant, PARTNER, str(work / "partner.pem"), **common) as credential:
                return (await credential.get_token(scope)).token

        allowed(asyncio.run(acquire()))

    @check("azure-identity, WorkloadIdentityCredential: allowed")
    def _():
        file = work / "federated.jwt"
        file.write_text(minted(app=PARTNER, audience="api://AzureADTokenExchange", claims={"sub": "system:serviceaccount:shop:partner"}))
        allowed(WorkloadIdentityCredential(tenant_id=tenant, client_id=PARTNER, token_file_path=str(file), **common).get_token(scope).token)

    @check("azure-identity, OnBehalfOfCredential: allowed")
    def _():
        assertion = minted(user="nia", audience=PARTNER, scopes=["access_as_user"])
        credential = OnBehalfOfCredential(tenant, PARTNER, client_certificate=(work / "partner.pem").read_bytes(), user_assertion=assertion, **common)
        allowed(credential.get_token("api://orders/Orders.Read").token)

    machine = desk.get(f"{base}/dev/machine", timeout=30).json()

    def with_environment(kind):
        os.environ.update(machine[kind])
        try:
            token = ManagedIdentityCredential().get_token("https://vault.azure.net/.default").token
            expect(claims(token)["aud"], "https://vault.azure.net", "audience")
        finally:
            for name in machine[kind]:
                del os.environ[name]

    for kind in ("app-service", "azure-ml", "imds"):
        check(f"azure-identity, ManagedIdentityCredential on {kind}")(lambda kind=kind: with_environment(kind))

    vault_credential = CertificateCredential(tenant, PARTNER, str(work / "partner.pem"), **common)
    vault = {"vault_url": base, "credential": vault_credential, "verify_challenge_resource": False}

    @check("azure-keyvault-certificates: the certificate and its versions")
    def _():
        first = post("vault/certificates", {"name": "signer"}).json()
        client = CertificateClient(**vault)
        found = client.get_certificate("signer")
        expect(found.properties.version, first["version"], "version")
        expect(bytes(found.cer), b64decode(first["cer"]), "certificate")
        expect(found.properties.x509_thumbprint, hashlib.sha1(bytes(found.cer)).digest(), "x5t")
        post("vault/certificates", {"name": "signer"})
        expect(len(list(client.list_properties_of_certificate_versions("signer"))), 2, "versions")

    @check("azure-keyvault-keys: PS256 and RS256 signatures that hold")
    def _():
        cer = load_der_x509_certificate(bytes(CertificateClient(**vault).get_certificate("signer").cer))
        key = KeyClient(**vault).get_key("signer")
        client = CryptographyClient(key, vault_credential, verify_challenge_resource=False)
        digest = hashlib.sha256(b"header.payload").digest()
        for algorithm, scheme in ((SignatureAlgorithm.ps256, padding.PSS(padding.MGF1(hashes.SHA256()), 32)), (SignatureAlgorithm.rs256, padding.PKCS1v15())):
            signed = client.sign(algorithm, digest)
            cer.public_key().verify(signed.signature, b"header.payload", scheme, hashes.SHA256())
            expect(signed.key_id, key.id, "key id")

    @check("azure-keyvault-secrets: set, get, and a certificate as PFX")
    def _():
        client = SecretClient(**vault)
        client.set_secret("partner-key", "a value of the tests")
        expect(client.get_secret("partner-key").value, "a value of the tests")
        post("vault/certificates", {"name": "portable", "exportable": True})
        secret = client.get_secret("portable")
        expect(secret.properties.content_type, "application/x-pkcs12", "content type")
        key, cer, _ = pkcs12.load_key_and_certificates(b64decode(secret.value), b"")
        expect(key.public_key().public_numbers(), cer.public_key().public_numbers(), "key")

    @check("azure-keyvault-keys rides out throttling")
    def _():
        post("fail", {"path": "/keys/", "status": 429, "times": 2, "headers": [["Retry-After", "1"]], "body": '{"error":{"code":"Throttled","message":"wait"}}'})
        KeyClient(**vault).get_key("signer")

    @check("what `certificate new` writes is what cryptography reads")
    def _():
        cer = load_pem_x509_certificate(pem["gateway"].encode())
        expect(cer.fingerprint(hashes.SHA1()).hex().upper(), made["gateway"]["thumbprint"], "thumbprint")
        key = serialization.load_pem_private_key(pem["gateway"].encode(), None)
        expect(key.public_key().public_numbers(), cer.public_key().public_numbers(), "key")

    @check("the gateway gets its own token and attaches it")
    def _():
        answer = through(minted(user="nia", audience=ORDERS, scopes=["Orders.Read"]), "/internal/17")
        expect(answer.status_code, 200, "status")
        sent = claims(answer.json()["authorization"].removeprefix("Bearer "))
        expect((sent["aud"], sent["azp"], sent["azpacr"], sent["roles"]), (INTERNAL, GATEWAY, "2", ["Orders.Forward"]), "what nginx saw")
        expect(answer.json()["path"], "/orders/17", "path")

    token = msal_token({"private_key": pem["partner"], "public_certificate": pem["partner"]})["access_token"]
    bearer = ("--header", f"Authorization: Bearer {token}")

    def refused(status, code, *line):
        found, _, body = curl(*line)
        expect((found, json.loads(body)["code"]), (status, code))

    @check("a token for another audience: 401 token-audience-not-allowed")
    def _():
        other = CertificateCredential(tenant, PARTNER, str(work / "partner.pem"), **common).get_token("api://orders-internal/.default").token
        refused(401, "token-audience-not-allowed", plain + "/orders", "--header", f"Authorization: Bearer {other}")

    @check("from an address outside the list: 403 caller-address-not-allowed")
    def _():
        refused(403, "caller-address-not-allowed", plain + "/orders", *bearer, "--interface", "127.0.0.2")

    @check("a forwarding header from an untrusted peer changes nothing")
    def _():
        refused(403, "caller-address-not-allowed", plain + "/orders", *bearer, "--interface", "127.0.0.2", "--header", "X-Forwarded-For: 127.0.0.1")
        status, _, body = curl(plain + "/orders", *bearer, "--header", "X-Forwarded-For: 198.51.100.77")
        expect((status, json.loads(body)["forwarded_for"]), (200, "127.0.0.1"))

    for name, version, line in (
        ("HTTP/1.1", "1.1", [plain + "/orders", "--http1.1"]),
        ("HTTP/2 over TLS", "2", [tls + "/orders", "--http2", "--cacert", str(work / "server.pem")]),
        ("HTTP/1.1 over TLS", "1.1", [tls + "/orders", "--http1.1", "--cacert", str(work / "server.pem")]),
        ("HTTP/2 in the clear", "2", [plain + "/orders", "--http2-prior-knowledge"]),
    ):

        @check(f"curl, {name}: allowed")
        def _(version=version, line=line):
            status, spoken, _ = curl(*line, *bearer)
            expect((status, spoken), (200, version))

    def streams(direction, line, count):
        for _ in range(20):
            through(token)
        with Watch(gateway.pid) as watch:
            started = time.monotonic()
            expect(count(line), GIBIBYTE, "bytes")
            seconds = time.monotonic() - started
        if watch.growth() >= GROWTH:
            raise AssertionError(f"the gateway grew by {watch.growth() >> 20} MiB")
        return f"{GIBIBYTE / seconds / 1e6:.0f} MB/s, the gateway grew by {watch.growth() / (1 << 20):.1f} MiB"

    def downloaded(line):
        line = ["curl", "--silent", "--show-error", "--fail", "--max-time", "300", "--noproxy", "*", "--output", "/dev/null", "--write-out", "%{size_download}", *line, *bearer]
        done = subprocess.run(line, capture_output=True, check=False, timeout=310)
        if done.returncode:
            raise RuntimeError(done.stderr.decode(errors="replace").strip())
        return int(done.stdout)

    def uploaded(line):
        status, _, body = curl(*line, "--upload-file", str(work / "files" / "large" / "zeros"), *bearer, seconds=300)
        expect(status, 200, "status")
        return json.loads(body)["bytes"]

    for name, line, count in (
        ("1 GiB to the caller", [plain + "/large/zeros"], downloaded),
        ("1 GiB to the backend", [plain + "/upload/zeros", "--request", "POST", "--header", "Expect:"], uploaded),
    ):
        check(f"{name}, streamed")(lambda name=name, line=line, count=count: streams(name, line, count))

    @check("the gateway ends when told to")
    def _():
        gateway.terminate()
        expect(gateway.wait(15), 0, "exit code")


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "nginx", "work"))

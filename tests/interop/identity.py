"""The gateway's own identity: certificate files that OpenSSL makes, and assertions that a provider judges that nobody here wrote."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import requests
from interop import check, claims, conduct, expect, free_port, wait_until

GATEWAY = "00001111-aaaa-2222-bbbb-3333cccc4444"
TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
SCOPE = "api://orders-internal/.default"
BACKEND = "urn:entrada:orders"
PASSWORD = "Grüße 1"


class Files:
    """Certificate files in the forms that people have them in."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        password = folder / "password"
        password.write_text(PASSWORD + "\n")
        # OpenSSL takes the second line where one file has both passwords.
        (folder / "again").write_text(PASSWORD + "\n")
        subject = ["-x509", "-days", "90", "-subj", "/CN=gateway"]
        self.openssl("req", *subject, "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "certificate.pem")
        self.openssl("req", *subject, "-newkey", "rsa:2048", "-nodes", "-keyout", "other.pem", "-out", "other-certificate.pem")
        self.openssl("req", *subject, "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ec-key.pem", "-out", "ec-certificate.pem")
        self.openssl("req", *subject, "-newkey", "rsa:1024", "-nodes", "-keyout", "short-key.pem", "-out", "short-certificate.pem")
        self.openssl("rsa", "-in", "key.pem", "-traditional", "-out", "pkcs1.pem")
        for name, options in {
            "aes": ["-v2", "aes-256-cbc"],
            "aes-sha512": ["-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA512"],
            "3des": ["-v2", "des3"],
            "scrypt": ["-scrypt"],
        }.items():
            self.openssl("pkcs8", "-topk8", "-in", "key.pem", *options, "-passout", "file:password", "-out", f"{name}.pem")
        # RFC 1421's form, which OpenSSL still writes when asked to.
        self.openssl("rsa", "-in", "key.pem", "-traditional", "-aes128", "-passout", "file:password", "-out", "old.pem")
        export = ["pkcs12", "-export", "-in", "certificate.pem", "-inkey", "key.pem", "-passout", "file:password"]
        self.openssl(*export, "-out", "modern.pfx")
        # The MAC of every form is told by its digest; these two are what Windows and OpenSSL 1 wrote.
        self.openssl(*export, "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1", "-out", "3des.pfx")
        self.legacy = self.openssl(*export, "-legacy", "-out", "rc2.pfx", check=False).returncode == 0
        self.openssl(*export, "-nomac", "-out", "no-mac.pfx")
        self.openssl(*export[:-1], "pass:", "-out", "empty.pfx")
        self.openssl("pkcs12", "-export", "-in", "ec-certificate.pem", "-inkey", "ec-key.pem", "-passout", "file:password", "-out", "ec.pfx")
        self.openssl("pkcs12", "-export", "-nokeys", "-in", "certificate.pem", "-passout", "file:password", "-out", "no-key.pfx")
        self.openssl(*export, "-certfile", "other-certificate.pem", "-name", "gateway", "-out", "chain.pfx")
        self.openssl("pkcs12", "-in", "modern.pfx", "-passin", "file:password", "-nodes", "-out", "bags.pem")
        pem, key = self.read("certificate.pem"), self.read("key.pem")
        self.write("both.pem", pem + key)
        self.write("both-pkcs1.pem", self.read("pkcs1.pem") + pem)
        self.write("windows.pem", b"\xef\xbb\xbf" + (pem + key).replace(b"\n", b"\r\n"))
        self.write("chain.pem", self.read("other-certificate.pem") + pem + key)
        self.write("mixed.pem", pem + self.read("other.pem"))
        self.write("ec.pem", self.read("ec-certificate.pem") + self.read("ec-key.pem"))
        self.write("short.pem", self.read("short-certificate.pem") + self.read("short-key.pem"))
        self.write("old-both.pem", pem + self.read("old.pem"))
        self.write("cut.pem", (pem + key)[:-40])
        self.write("cut.pfx", self.read("modern.pfx")[:-100])
        self.write("text.pfx", b"not a certificate\n")
        for name in ("aes", "aes-sha512", "3des", "scrypt"):
            self.write(f"{name}-both.pem", pem + self.read(f"{name}.pem"))
        self.write("wrong", b"wrong\n")
        for file in folder.iterdir():
            file.chmod(0o600)

    def openssl(self, *line, check=True):
        return subprocess.run(["openssl", *line], cwd=self.folder, capture_output=True, check=check, timeout=120)

    def read(self, name):
        return (self.folder / name).read_bytes()

    def write(self, name, content):
        (self.folder / name).write_bytes(content)


def run(entrada, *line, environment=None):
    done = subprocess.run([str(part) for part in (entrada, *line)], capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **(environment or {})})
    return done.returncode, done.stdout, done.stderr


def certificates(entrada, files):
    """What the config and `certificate show` make of each file."""
    folder = files.folder
    thumbprint = files.openssl("x509", "-in", "certificate.pem", "-noout", "-fingerprint", "-sha1").stdout.decode().strip().split("=")[1].replace(":", "")
    good = [
        ("both.pem", None), ("both-pkcs1.pem", None), ("windows.pem", None), ("chain.pem", None), ("bags.pem", None),
        ("aes-both.pem", "password"), ("aes-sha512-both.pem", "password"), ("3des-both.pem", "password"), ("scrypt-both.pem", "password"),
        ("modern.pfx", "password"), ("3des.pfx", "password"), ("no-mac.pfx", "password"), ("chain.pfx", "password"), ("empty.pfx", None),
    ]  # fmt: skip
    if files.legacy:
        good.append(("rc2.pfx", "password"))
    bad = [
        ("aes-both.pem", None, "the private key is encrypted"),
        ("aes-both.pem", "wrong", "the password is wrong"),
        ("3des-both.pem", "wrong", "the password is wrong"),
        ("modern.pfx", None, "the private key is encrypted"),
        ("modern.pfx", "wrong", "the password is wrong"),
        ("3des.pfx", "wrong", "the password is wrong"),
        ("no-mac.pfx", "wrong", "the password is wrong"),
        ("old-both.pem", "password", "openssl pkcs8 -topk8"),
        ("mixed.pem", None, "does not belong to the certificate"),
        ("ec.pem", None, "Entra accepts only RSA keys"),
        ("ec.pfx", "password", "Entra accepts only RSA keys"),
        ("short.pem", None, "1024 bits"),
        ("certificate.pem", None, "there is no private key in it"),
        ("key.pem", None, "there is no certificate in it"),
        ("no-key.pfx", "password", "there is no private key in it"),
        ("cut.pem", None, "a PEM block is damaged"),
        ("cut.pfx", "password", "is cut off"),
        ("text.pfx", "password", "it is not a PKCS#12 file"),
    ]

    def checked(name, password):
        word = f"named-values: {{ word: {{ file: {folder / password} }} }}\n" if password else ""
        form = "pfx" if name.endswith(".pfx") else "pem"
        means = f'{form}: {folder / name}' + (', password: "{{word}}"' if password else "")
        config = folder / "entrada.yaml"
        config.write_text(
            f"{word}listeners: [ {{ name: a, address: \"127.0.0.1:0\" }} ]\ntenants: {{ contoso: {{ id: {TENANT} }} }}\n"
            f"credentials: {{ gateway: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ {means} }} }} }}\n"
            "routes: [ { name: ping, match: { exact-path: /ping }, anonymous: true, respond: { status: 204 } } ]\n"
        )
        code, out, _ = run(entrada, "check", config, "--format", "json")
        return code, [finding for finding in json.loads(out)["findings"] if finding["severity"] == "error"]

    @check(f"OpenSSL's files, {len(good)} forms: taken, and shown with the thumbprint that OpenSSL computes")
    def _():
        for name, password in good:
            code, found = checked(name, password)
            expect((code, found), (0, []), name)
            options = ["--password-file", folder / password] if password else []
            code, out, err = run(entrada, "certificate", "show", folder / name, "--format", "json", *options)
            expect((code, err), (0, ""), name)
            shown = json.loads(out)
            expect((shown["thumbprint"], shown["private_key"], shown["key_bits"]), (thumbprint, "matches", 2048), name)
        return "" if files.legacy else "(this OpenSSL writes no RC2)"

    @check(f"OpenSSL's files, {len(bad)} that cannot serve: refused, with the reason and the cure")
    def _():
        for name, password, reason in bad:
            code, found = checked(name, password)
            expect((code, len(found)), (1, 1), f"{name} with {password}")
            text = json.dumps(found[0], ensure_ascii=False)
            if reason not in text:
                raise AssertionError(f"{name} with {password}: {text}")
            if PASSWORD in text or "PRIVATE KEY" in text:
                raise AssertionError(f"{name}: a secret is told")

    @check("OpenSSL reads what `certificate new` writes, PEM and PFX, and converts what is refused")
    def _():
        made = json.loads(run(entrada, "certificate", "new", "--subject", "CN=made", "--bits", "3072", "--days", "180", "--out", folder / "made.pem", "--pfx", folder / "made.pfx", "--format", "json")[1])
        text = files.openssl("x509", "-in", "made.pem", "-noout", "-text").stdout.decode()
        for part in ("3072 bit", "sha256WithRSAEncryption", "Digital Signature", "TLS Web Client Authentication"):
            if part not in text:
                raise AssertionError(f"no {part} in {text}")
        files.openssl("pkcs12", "-in", "made.pfx", "-passin", f"file:{made['pfx_password_file']}", "-nodes", "-noout")
        files.openssl("pkcs8", "-topk8", "-in", "old.pem", "-passin", "file:password", "-passout", "file:again", "-out", "converted.pem")
        files.write("converted-both.pem", files.read("certificate.pem") + files.read("converted.pem"))
        (folder / "converted-both.pem").chmod(0o600)
        expect(checked("converted-both.pem", "password"), (0, []), "the converted key")


class Backend(BaseHTTPRequestHandler):
    """Validates the gateway's own token by the provider's published keys, and says whose it is."""

    protocol_version = "HTTP/1.1"
    issuer = ""

    def do_GET(self):  # noqa: N802 - the name is the library's
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        try:
            status, told = 200, validated(token, self.issuer)
        except Exception as error:  # noqa: BLE001 - what cannot be validated is refused
            status, told = 401, {"error": repr(error)}
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def validated(token, issuer):
    """The claims of a token, by PyJWT, which comes with msal."""
    import jwt

    discovered = requests.get(f"{issuer}/.well-known/openid-configuration", timeout=10).json()
    key = jwt.PyJWKClient(discovered["jwks_uri"]).get_signing_key_from_jwt(token)
    return jwt.decode(token, key.key, algorithms=["RS256"], audience=BACKEND, issuer=discovered["issuer"])


def provider(entrada, work, files, processes):
    """The gateway's assertion before npm's oidc-provider, which certified for strictness where Entra forgives."""
    settings = work / "provider.json"
    pem = files.read("certificate.pem").decode()
    settings.write_text(json.dumps({
        "token_path": f"/{TENANT}/oauth2/v2.0/token",
        "scopes": SCOPE,
        "clients": [{"client_id": GATEWAY, "certificate": pem}],
        "claims": {"roles": ["Orders.Forward"]},
    }))
    process = processes.start("provider", "node", Path(__file__).parent / "oidc-provider" / "provider.mjs", settings, stdout=subprocess.PIPE)
    facts = json.loads(process.stdout.readline())
    Backend.issuer = facts["issuer"]
    backend = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    Thread(target=backend.serve_forever, daemon=True).start()
    ports = {"plain": free_port(), "admin": free_port()}
    folder = files.folder

    def credential(name, pem, algorithm):
        return f"  {name}: {{ tenant: contoso, client-id: {GATEWAY}, certificate: {{ pem: {folder / pem} }}, assertion: {{ algorithm: {algorithm} }} }}"

    names = ("ps256", "rs256", "stranger")
    files.write("stranger.pem", files.read("other-certificate.pem") + files.read("other.pem"))
    (folder / "stranger.pem").chmod(0o600)
    credentials = "\n".join([credential("ps256", "both.pem", "PS256"), credential("rs256", "both.pem", "RS256"), credential("stranger", "stranger.pem", "PS256")])
    routes = "\n".join(
        f"  - {{ name: {name}, match: {{ path: /{name} }}, inbound: [ {{ validate-jwt: {{ issuer: callers, audiences: [\"{BACKEND}\"] }} }} ],"
        f" authorization: {{ credential: {name}, scope: {SCOPE} }}, upstream: backend }}"
        for name in names
    )
    config = work / "identity.yaml"
    config.write_text(f"""
listeners: [ {{ name: plain, address: "127.0.0.1:{ports['plain']}" }} ]
admin: {{ address: "127.0.0.1:{ports['admin']}" }}
tenants: {{ contoso: {{ id: {TENANT}, authority: "{facts['issuer']}" }} }}
issuers: {{ callers: {{ openid-config: "{facts['issuer']}/.well-known/openid-configuration" }} }}
credentials:
{credentials}
upstreams: {{ backend: {{ servers: ["http://127.0.0.1:{backend.server_port}"] }} }}
routes:
{routes}
audit: {{ sinks: [ {{ file: {{ path: identity-audit.jsonl }} }} ] }}
""")
    processes.start("identity-gateway", entrada, "run", "--config", config, stdout=subprocess.DEVNULL)
    wait_until(lambda: requests.get(f"http://127.0.0.1:{ports['admin']}/readyz", timeout=5).ok, "the gateway")

    def acquire(name, *more):
        code, out, err = run(entrada, "token", "acquire", "--config", config, "--credential", name, "--scope", SCOPE, "--format", "json", *more)
        return code, json.loads(out) if out else err

    # The callers' token is the gateway's own here: one provider plays both parts.
    code, caller = acquire("ps256", "--show-token")
    expect(code, 0, str(caller))
    token = caller["token"]["access_token"]

    for name in ("ps256", "rs256"):

        @check(f"oidc-provider takes our private_key_jwt assertion ({name.upper()}), and a backend takes the token")
        def _(name=name):
            answer = requests.get(f"http://127.0.0.1:{ports['plain']}/{name}", headers={"Authorization": f"Bearer {token}"}, timeout=30)
            expect(answer.status_code, 200, answer.text)
            seen = answer.json()
            expect((seen["client_id"], seen["aud"], seen["roles"]), (GATEWAY, BACKEND, ["Orders.Forward"]), "what the backend validated")
            if seen["jti"] == claims(token)["jti"]:
                raise AssertionError("the backend saw the caller's token")

    @check("oidc-provider refuses an assertion of another key: 503 credential-unavailable, and no more to the caller")
    def _():
        answer = requests.get(f"http://127.0.0.1:{ports['plain']}/stranger", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        expect((answer.status_code, answer.json()["code"]), (503, "credential-unavailable"))
        if "invalid_client" in answer.text or "detail" in answer.json():
            raise AssertionError(answer.text)
        code, told = acquire("stranger")
        expect((code, "invalid_client" in told["error"]["message"]), (1, True), str(told))

    @check("`entrada doctor` before a provider that is not Entra")
    def _():
        code, out, err = run(entrada, "doctor", "--config", config, "--format", "json")
        found = {entry["credential"]: entry for entry in json.loads(out)["credentials"]}
        outcomes = {name: [(step["step"], step["outcome"]) for step in found[name]["steps"] if step["outcome"] == "failed"] for name in names}
        expect((code, outcomes), (1, {"ps256": [], "rs256": [], "stranger": [("token", "failed")]}), err)

    @check("no assertion, token or key is told by log, audit or admin")
    def _():
        status = requests.get(f"http://127.0.0.1:{ports['admin']}/api/status", timeout=10).text
        told = status + (work / "identity-gateway.log").read_text() + (work / "identity-audit.jsonl").read_text()
        if "eyJ" in told or "PRIVATE KEY" in told:
            raise AssertionError("a secret is told")
        expect(any(entry["name"] == "stranger" and entry["tokens"][0]["last_error"] for entry in json.loads(status)["credentials"]), True, "the failure in the status")


def walk(arguments, processes):
    files = Files(arguments.work / "files")
    certificates(arguments.entrada, files)
    provider(arguments.entrada, arguments.work, files, processes)


if __name__ == "__main__":
    sys.exit(conduct(walk, "entrada", "work"))

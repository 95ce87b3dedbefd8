"""Throw-away keys, tokens and certificates for one run of the comparison."""

import base64
import datetime
import ipaddress
import json
import time
import uuid
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

TENANT = "aaaabbbb-0000-cccc-1111-dddd2222eeee"
AUDIENCE = "33334444-dddd-5555-eeee-6666ffff7777"
CLIENT = "11112222-bbbb-3333-cccc-4444dddd5555"
KEY_ID = "bench-key"
MANY = 10_000

_key = None


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(number: int, issuer: str, now: int) -> str:
    """A user's access token in the shape of Entra's, RS256."""
    head = {"typ": "JWT", "alg": "RS256", "kid": KEY_ID}
    claims = {
        "aud": AUDIENCE, "iss": issuer, "iat": now - 60, "nbf": now - 60, "exp": now + 86_400,
        "azp": CLIENT, "azpacr": "1", "name": f"User {number}", "oid": str(uuid.UUID(int=number)),
        "preferred_username": f"user{number}@contoso.example", "rh": "0.AX0A", "scp": "Orders.Read",
        "sub": f"user-{number:07}", "tid": TENANT, "uti": f"{number:022}", "ver": "2.0",
    }
    signed = ".".join(b64(json.dumps(part, separators=(",", ":")).encode()) for part in (head, claims))
    return signed + "." + b64(_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))


def _sign_range(job) -> list[str]:
    start, stop, issuer, now = job
    return [_sign(number, issuer, now) for number in range(start, stop)]


def _load_key(pem: bytes) -> None:
    global _key
    _key = serialization.load_pem_private_key(pem, None)


def make(folder: Path, authority: str, unique: int, processes: int) -> None:
    """Writes one.txt, many.txt (10,000) and unique.txt (others than those), the key set with its discovery documents, and a TLS certificate."""
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    issuer, now = f"{authority}/{TENANT}/v2.0", int(time.time())
    step = 1_000
    total = MANY + unique
    jobs = [(start, min(start + step, total), issuer, now) for start in range(0, total, step)]
    with ProcessPoolExecutor(processes, initializer=_load_key, initargs=(pem,)) as pool:
        tokens = [token for part in pool.map(_sign_range, jobs) for token in part]
    for name, some in (("one", tokens[:1]), ("many", tokens[:MANY]), ("unique", tokens[MANY:])):
        (folder / f"{name}.txt").write_text("\n".join(some) + "\n")
    (folder / "none.txt").write_text("\n")

    numbers = key.public_key().public_numbers()
    part = lambda number: b64(number.to_bytes((number.bit_length() + 7) // 8, "big"))
    jwk = {"kty": "RSA", "use": "sig", "kid": KEY_ID, "n": part(numbers.n), "e": part(numbers.e)}
    (folder / "keys.json").write_text(json.dumps({"keys": [jwk | {"issuer": issuer}]}))
    (folder / "keys-plain.json").write_text(json.dumps({"keys": [jwk | {"alg": "RS256"}]}))
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pub.pem").write_bytes(public)
    for name, own in (("v2", issuer), ("v1", f"{authority}/{TENANT}/")):
        document = {"issuer": own, "jwks_uri": f"{authority}/keys", "token_endpoint": f"{authority}/{TENANT}/oauth2/v2.0/token"}
        (folder / f"{name}.json").write_text(json.dumps(document))

    tls = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(tls.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(today - datetime.timedelta(days=1))
        .not_valid_after(today + datetime.timedelta(days=2)).add_extension(x509.SubjectAlternativeName(names), False)
        .sign(tls, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    tls_pem = tls.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "tls.key").write_bytes(tls_pem)
    (folder / "tls.both").write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + tls_pem)
